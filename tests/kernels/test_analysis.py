"""Numbers of kernel matrices against numpy, scipy, scikit-learn and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from sklearn.decomposition import KernelPCA

from qrkd_lab.kernels import FidelityKernel, RBFKernel
from qrkd_lab.kernels.analysis import (
    NothingToAlign,
    centred,
    centred_alignment,
    class_blocks,
    class_matrix,
    effective_rank,
    eigenvalues,
    geometric_difference,
    kernel_pca,
    kernel_target_alignment,
    off_diagonal,
    off_diagonal_values,
    spectral_entropy,
)

X = torch.randn(10, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
K = RBFKernel(1.0)(X)
L = FidelityKernel("zz", 3)(X)
LABELS = torch.tensor([7, 2, 5, 7, 2, 5, 7, 2, 2, 2])


def test_off_diagonal_of_the_angle_map_is_its_closed_form():
    matrix, x = FidelityKernel("angle", 3)(X), X.numpy()
    pairs = [np.prod(np.cos((x[i] - x[j]) / 2) ** 2) for i in range(10) for j in range(i + 1, 10)]
    wanted = (np.mean(pairs), np.var(pairs), np.min(pairs), np.max(pairs))
    assert off_diagonal(matrix) == pytest.approx(wanted, rel=1e-10)
    assert off_diagonal_values(matrix).numpy() == pytest.approx(np.array(pairs))


def test_the_entropy_is_scipys_and_its_exponential_the_effective_rank():
    spectrum = np.linalg.svd(K.numpy(), compute_uv=False)
    assert spectral_entropy(K) == pytest.approx(scipy.stats.entropy(spectrum))
    assert effective_rank(K) == pytest.approx(math.exp(scipy.stats.entropy(spectrum)))
    assert eigenvalues(K).numpy() == pytest.approx(spectrum)
    assert effective_rank(5 * torch.tensor([[0.0, 1.0], [1.0, 0.0]])) == pytest.approx(2)  # 1, -1
    assert effective_rank(torch.ones(7, 7)) == pytest.approx(1)


def test_centring_is_hkh_and_kernel_pca_scikit_learns():
    h = torch.eye(10, dtype=torch.float64) - 1 / 10
    torch.testing.assert_close(centred(K), h @ K @ h)
    scores = kernel_pca(K, 3)
    expected = torch.from_numpy(KernelPCA(3, kernel="precomputed").fit_transform(K.numpy()))
    torch.testing.assert_close(scores.abs(), expected.abs())
    assert (scores.gather(0, scores.abs().argmax(0, keepdim=True)) > 0).all()
    torch.testing.assert_close(kernel_pca(K, 10) @ kernel_pca(K, 10).T, centred(K))


def test_class_blocks_are_means_over_pairs_of_different_samples():
    blocks, different = class_blocks(K, LABELS), ~torch.eye(10, dtype=torch.bool)
    for a, one in enumerate((2, 5, 7)):
        for b, other in enumerate((2, 5, 7)):
            pairs = (LABELS[:, None] == one) & (LABELS == other) & different
            assert blocks[a, b].item() == pytest.approx(K[pairs].mean().item())
    alone = class_blocks(K[:3, :3], torch.tensor([0, 0, 1]))
    assert math.isnan(alone[1, 1]) and alone[0, 0] == K[0, 1]


def test_alignment_with_classes_is_its_formula():
    k, y = K.numpy(), LABELS.numpy()
    target = (y[:, None] == y[None, :]).astype(float)
    assert class_matrix(LABELS).numpy() == pytest.approx(target)
    cosine = np.vdot(k, target) / np.linalg.norm(k) / np.linalg.norm(target)
    assert kernel_target_alignment(K, LABELS) == pytest.approx(cosine)
    balanced = torch.arange(12) % 4
    assert kernel_target_alignment(torch.ones(12, 12), balanced) == pytest.approx(4**-0.5)


def test_centred_alignment_is_its_formula_and_its_invariances():
    h = np.eye(10) - 1 / 10
    a, b = h @ K.numpy() @ h, h @ L.numpy() @ h
    wanted = np.trace(a @ b) / np.sqrt(np.trace(a @ a) * np.trace(b @ b))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    shuffled = [m[order][:, order] for m in (K, L)]
    for pair in ((K, L), (L, K), (3 * K + 5, L), shuffled):
        assert centred_alignment(*pair) == pytest.approx(wanted)
    assert centred_alignment(K, K) == pytest.approx(1)


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
    assert centred_alignment(K[:4, :4], K[:4, :4], debiased=True) == pytest.approx(1)


@pytest.mark.parametrize(
    ("matrix", "debiased", "says"),
    [
        (torch.full((10, 10), 0.3), False, "all samples look alike"),
        (torch.ones(1, 1), False, "n = 1"),
        (torch.eye(10), True, "nothing is left"),
        (torch.eye(3), True, "n >= 4 samples, got 3"),
    ],
)
def test_a_matrix_without_a_direction_has_nothing_to_align(matrix, debiased, says):
    with pytest.raises(NothingToAlign, match=says):
        centred_alignment(matrix, K[: len(matrix), : len(matrix)], debiased)


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


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: effective_rank(K[:5]), r"square matrix.*\(5, 10\)"),
        (lambda: effective_rank(torch.zeros(0, 0)), "n >= 1"),
        (lambda: effective_rank(K * torch.nan), "100 of 100 entries are NaN"),
        (lambda: effective_rank(K + torch.triu(K)), "symmetric"),
        (lambda: effective_rank(torch.zeros(3, 3)), "zeros has no spectrum"),
        (lambda: off_diagonal(torch.ones(1, 1)), "no pairs"),
        (lambda: kernel_pca(K, 11), "1 to n = 10"),
        (lambda: class_blocks(K, LABELS[:3]), r"expected \(10,\), got \(3,\)"),
        (lambda: class_matrix(LABELS[:, None]), r"\(10, 1\)"),
        (lambda: kernel_target_alignment(torch.zeros(10, 10), LABELS), "zeros"),
        (lambda: centred_alignment(K, L[:5, :5]), "expected 10 samples"),
        (lambda: geometric_difference(K, L, 0.0), "regularisation"),
        (lambda: geometric_difference(K, -L), "trace > 0"),
        (lambda: geometric_difference(K, 2 * torch.ones(10, 10) - torch.eye(10)), "semi-definite"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()
    with pytest.raises(TypeError, match="floating-point torch tensor"):
        off_diagonal(K.numpy())
