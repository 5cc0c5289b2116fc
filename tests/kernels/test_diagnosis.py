"""The diagnosis in words and tables, the best classical kernel, and random Fourier surrogates."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from qrkd_lab.kernels import FidelityKernel, RBFKernel
from qrkd_lab.kernels.analysis import (
    centred_alignment,
    class_matrix,
    effective_rank,
    off_diagonal,
    r_squared,
)
from qrkd_lab.kernels.diagnosis import (
    best_fit,
    concentration_table,
    diagnose,
    random_feature_surrogate,
)

X = torch.randn(24, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = (X[:, 0] > 0).long()


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (torch.eye(24), "nearly the identity: each sample only resembles itself; an RBF resembles"),
        (torch.ones(24, 24), "nearly all ones: all samples look alike; all pairs are equally"),
        (RBFKernel(0.8)(X), r"neither .*; fitted by an RBF \(R\^2 = 1.00\)"),
        (FidelityKernel("zz", 3, bandwidth=0.3)(X), r"neither .*; not fitted by an RBF"),
    ],
)
def test_it_says_what_it_sees(matrix, says):
    found = diagnose(matrix, LABELS, X)
    assert re.search(says, found.verdict)
    for shown in (repr(found), found._repr_html_()):
        assert "effective rank" in shown and "best RBF" in shown and "Kernel matrix: " in shown


def test_its_numbers_are_those_of_the_functions():
    k = RBFKernel()(X)
    found = diagnose(k, LABELS)
    assert found.off_diagonal == off_diagonal(k) and found.effective_rank == effective_rank(k)
    assert found.centred_alignment == centred_alignment(k, class_matrix(LABELS))
    assert found.fit is None and "RBF" not in repr(found)
    pairs = found.off_diagonal
    # With that many shots the noise of an entry at the mean has the variance over pairs.
    assert pairs.mean * (1 - pairs.mean) / found.shots == pytest.approx(pairs.variance)
    assert diagnose(torch.ones(3, 3)).shots == math.inf
    assert math.isnan(diagnose(torch.ones(24, 24), LABELS).centred_alignment)


def test_concentration_is_measured_on_the_first_angles():
    table = concentration_table(["angle", "zz"], [1, 2, 3], [0.5, 1.0], samples=24)
    assert len(table) == 12
    row = table.query("feature_map == 'zz' and bandwidth == 0.5 and qubits == 2").iloc[0]
    k = FidelityKernel("zz", 2, bandwidth=0.5)(X[:, :2])
    assert row["variance"] == off_diagonal(k).variance and row["mean"] == off_diagonal(k).mean
    assert row["effective_rank"] == effective_rank(k) and row["samples"] == 24


@pytest.mark.parametrize("gamma", [0.02, 3.0])
def test_an_rbf_of_sklearn_is_found_again(gamma):
    fit = best_fit(torch.from_numpy(rbf_kernel(X.numpy(), gamma=gamma)), X)
    assert fit.gamma == pytest.approx(gamma, rel=1e-4)
    assert fit.r_squared == pytest.approx(1) and fit.alignment == pytest.approx(1)
    assert fit.residual < 1e-6


def test_a_polynomial_is_found_again_with_its_degree(degree=3):
    k = polynomial_kernel(X.numpy(), degree=degree, gamma=0.7, coef0=1)
    k /= np.sqrt(np.outer(k.diagonal(), k.diagonal()))
    fit = best_fit(torch.from_numpy(k), X, "polynomial")
    assert fit.kernel.degree == degree and fit.gamma == pytest.approx(0.7, rel=1e-4)


def test_no_other_bandwidth_comes_nearer():
    k = FidelityKernel("zz", 3, bandwidth=0.2)(X)
    fit = best_fit(k, X)
    row, column = np.triu_indices(24, 1)
    wanted = k.numpy()[row, column]
    gammas = np.logspace(-3, 3, 1001)
    errors = [np.mean((rbf_kernel(X.numpy(), gamma=g)[row, column] - wanted) ** 2) for g in gammas]
    assert fit.residual**2 <= min(errors) * (1 + 1e-9)
    assert fit.residual**2 == pytest.approx(min(errors), rel=1e-3)
    assert fit.r_squared == pytest.approx(1 - min(errors) / wanted.var(), rel=1e-3)


def test_a_constant_matrix_has_nothing_to_fit():
    fit = best_fit(torch.ones(24, 24), X)
    assert np.isnan(fit.r_squared) and "equally alike" in str(fit)


Y = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def explained(kernel, features, seed=0):
    """R^2 on the samples that the surrogate was not fitted on."""
    surrogate = random_feature_surrogate(kernel, Y[::2], features, seed)
    return r_squared(kernel(Y[1::2]), surrogate(Y[1::2]))


def test_a_smooth_kernel_is_learnt_with_enough_features_and_an_identity_is_not():
    kernel = FidelityKernel("angle", 2, bandwidth=0.7)
    assert explained(kernel, 256) > 0.999 and explained(kernel, 1) < 0.9
    assert explained(FidelityKernel("zz", 2, bandwidth=40.0), 128) < 0.5


def test_a_surrogate_is_a_kernel_like_any_other():
    surrogate = random_feature_surrogate(RBFKernel(0.5), Y, 128)
    x = Y[:7].float().requires_grad_()
    k = surrogate(x)
    assert k.shape == (7, 7) and k.dtype == torch.float32 and surrogate(x, x[:3]).shape == (7, 3)
    assert torch.linalg.eigvalsh(k).min() > -1e-5
    k.sum().backward()
    assert x.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="takes 2 angles"):
        surrogate(torch.zeros(3, 5))
    again, other = (random_feature_surrogate(RBFKernel(0.5), Y, 128, seed) for seed in (0, 1))
    assert surrogate.frequencies.equal(again.frequencies)
    assert not surrogate.frequencies.equal(other.frequencies)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: diagnose(torch.ones(1, 1)), "no pairs"),
        (lambda: best_fit(torch.eye(24), X, "rfb"), "choose one of rbf, polynomial"),
        (lambda: best_fit(torch.eye(24), X[:5]), "n = 24 and 5"),
        (lambda: best_fit(torch.eye(2), X[:2]), "n >= 3"),
        (lambda: best_fit(torch.eye(24), 0 * X), "same angles"),
        (lambda: random_feature_surrogate(RBFKernel(), Y, 0), "features"),
        (lambda: random_feature_surrogate(RBFKernel(), Y[:3]), "at least 4"),
        (lambda: random_feature_surrogate(FidelityKernel("zz", 3), Y), "takes 3 angles"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()
