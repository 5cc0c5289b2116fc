"""Numbers of two matrices: PennyLane's and numpy's values, invariances, the meaning of g."""

from __future__ import annotations

import numpy as np
import pennylane as qp
import pytest
import scipy.linalg
import torch

from qrkd_lab.kernels import FidelityKernel, RBFKernel
from qrkd_lab.kernels.analysis import (
    NothingToAlign,
    centred_alignment,
    class_matrix,
    geometric_difference,
    kernel_target_alignment,
)

X = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
K = RBFKernel(1.0)(X)
L = FidelityKernel("zz", 3)(X)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 1, 1])
SIGNS = torch.tensor([-1, 1, 1, -1, 1, -1, 1, 1, -1, 1])


def test_signed_alignment_is_pennylanes():
    def rbf(a, b):
        return np.exp(-0.5 * np.sum((a - b) ** 2))

    theirs = qp.kernels.target_alignment(
        X.numpy(), SIGNS.numpy(), rbf, assume_normalized_kernel=True, rescale_class_labels=False
    )
    assert kernel_target_alignment(K, SIGNS, signed=True) == pytest.approx(float(theirs))


def test_alignment_with_classes_is_its_formula():
    k, y = K.numpy(), LABELS.numpy()
    target = (y[:, None] == y[None, :]).astype(float)
    assert class_matrix(LABELS).numpy() == pytest.approx(target)
    cosine = np.vdot(k, target) / np.linalg.norm(k) / np.linalg.norm(target)
    assert kernel_target_alignment(K, LABELS) == pytest.approx(cosine)
    assert kernel_target_alignment(class_matrix(LABELS), LABELS) == pytest.approx(1)
    balanced = torch.arange(12) % 4
    assert kernel_target_alignment(torch.ones(12, 12), balanced) == pytest.approx(4**-0.5)


def test_centred_alignment_is_its_formula_and_its_invariances():
    h = np.eye(10) - 1 / 10
    a, b = h @ K.numpy() @ h, h @ L.numpy() @ h
    wanted = np.trace(a @ b) / np.sqrt(np.trace(a @ a) * np.trace(b @ b))
    assert centred_alignment(K, L) == pytest.approx(wanted)
    assert centred_alignment(L, K) == pytest.approx(wanted)
    assert centred_alignment(3 * K + 5, L) == pytest.approx(wanted)
    assert centred_alignment(K, K) == pytest.approx(1)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    shuffled = (m[order][:, order] for m in (K, L))
    assert centred_alignment(*shuffled) == pytest.approx(wanted)


@pytest.mark.parametrize("matrix", [torch.ones(10, 10), torch.full((10, 10), 0.3)])
def test_a_constant_matrix_has_nothing_to_align(matrix):
    with pytest.raises(NothingToAlign, match="all samples look alike"):
        centred_alignment(K, matrix)


def unbiased_hsic(k, m):
    """Song et al. 2012, eq. 5, as printed."""
    n, one = len(k), np.ones(len(k))
    k, m = (a - np.diag(np.diag(a)) for a in (k, m))
    total = np.trace(k @ m) + (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2))
    return (total - 2 / (n - 2) * (one @ k @ m @ one)) / (n * (n - 3))


def test_debiased_alignment_is_the_ratio_of_unbiased_estimates():
    k, m = K.numpy(), L.numpy()
    wanted = unbiased_hsic(k, m) / np.sqrt(unbiased_hsic(k, k) * unbiased_hsic(m, m))
    for pair in ((K, L), (L, K), (3 * K + 5, L), (K + torch.eye(10), L), (K.float(), L)):
        assert centred_alignment(*pair, debiased=True) == pytest.approx(wanted, rel=1e-5)
    assert centred_alignment(K, K, debiased=True) == pytest.approx(1)


@pytest.mark.parametrize(("n", "d"), [(16, 200), (64, 768), (40, 5)])
def test_only_the_debiased_alignment_of_independent_features_is_zero_on_average(n, d):
    found = {True: [], False: []}
    for seed in range(20):
        x, y = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed)).double()
        for debiased, values in found.items():
            values.append(centred_alignment(x @ x.T, y @ y.T, debiased))
    assert abs(np.mean(found[True])) < 0.05 < 0.1 < np.mean(found[False])


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_debiased_alignment_needs_four_samples_and_a_direction(n):
    x = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    if n < 4:
        with pytest.raises(NothingToAlign, match=f"n >= 4 samples, got {n}"):
            centred_alignment(x @ x.T, x @ x.T, debiased=True)
    else:
        assert centred_alignment(x @ x.T, x @ x.T, debiased=True) == pytest.approx(1)
    with pytest.raises(NothingToAlign):
        centred_alignment(torch.eye(n), torch.eye(n), debiased=True)


def test_geometric_difference_is_the_printed_formula():
    lam, c, q = 0.01, K.numpy(), L.numpy()  # both of trace 10
    root_c, root_q = scipy.linalg.sqrtm(c).real, scipy.linalg.sqrtm(q).real
    inverse = np.linalg.inv(c + lam * np.eye(10))
    body = root_q @ root_c @ inverse @ inverse @ root_c @ root_q
    train = root_q @ inverse @ inverse @ root_q
    found = geometric_difference(7 * K, L, regularisation=lam)
    assert found.value == pytest.approx(np.linalg.norm(body, 2) ** 0.5, rel=1e-6)
    assert found.training_error == pytest.approx(lam * np.linalg.norm(train, 2) ** 0.5, rel=1e-6)
    assert found.bound == pytest.approx(10**0.5)


def test_geometric_difference_bounds_ridge_regression_on_any_labels():
    lam, found = 0.05, geometric_difference(K, L, regularisation=0.05)
    rng = np.random.default_rng(0)
    for y in rng.normal(size=(200, 10)):
        scale = np.sqrt(y @ np.linalg.solve(L.numpy(), y))
        alpha = np.linalg.solve(K.numpy() + lam * np.eye(10), y / scale)
        assert np.sqrt(alpha @ K.numpy() @ alpha) <= found.value * (1 + 1e-9)
        residual = np.linalg.norm(y / scale - K.numpy() @ alpha)
        assert residual <= found.training_error * (1 + 1e-9)


def test_geometric_difference_of_equals_tends_to_one():
    values = [geometric_difference(K, K, lam).value for lam in (1e-1, 1e-3, 1e-6)]
    assert values == sorted(values) and values[-1] == pytest.approx(1, abs=1e-5)
    eye = torch.eye(10)
    assert geometric_difference(eye, eye, 0.25).value == pytest.approx(1 / 1.25)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: kernel_target_alignment(K, LABELS[:5]), "expected 10 samples, as K has, got 5"),
        (lambda: kernel_target_alignment(K, LABELS, signed=True), "two classes, got 3"),
        (lambda: class_matrix(LABELS[:, None]), r"\(10, 1\)"),
        (lambda: kernel_target_alignment(torch.zeros(10, 10), LABELS), "zeros"),
        (lambda: centred_alignment(K, L[:5, :5]), "expected 10 samples"),
        (lambda: centred_alignment(torch.ones(1, 1), torch.ones(1, 1)), "n = 1"),
        (lambda: centred_alignment(K, L * torch.nan), "L: 100 of 100"),
        (lambda: geometric_difference(K, L, 0.0), "regularisation"),
        (lambda: geometric_difference(K, -L), "trace > 0"),
        (lambda: geometric_difference(K, 2 * torch.ones(10, 10) - torch.eye(10)), "semi-definite"),
        (lambda: geometric_difference(K, L[:5, :5]), "expected 10 samples"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()
