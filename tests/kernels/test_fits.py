"""The best classical kernel: it finds its own kind, and says when a likeness means nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import laplacian_kernel, polynomial_kernel, rbf_kernel

from qrkd_lab.kernels import CosineKernel, FidelityKernel, RBFKernel
from qrkd_lab.kernels.diagnosis import best_fit

X = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("gamma", [0.02, 0.5, 3.0])
def test_an_rbf_or_laplacian_of_sklearn_is_found_again(gamma):
    for family, make in (("rbf", rbf_kernel), ("laplacian", laplacian_kernel)):
        fit = best_fit(torch.from_numpy(make(X.numpy(), gamma=gamma)), X, family)
        assert fit.gamma == pytest.approx(gamma, rel=1e-4)
        assert fit.r_squared == pytest.approx(1) and fit.alignment == pytest.approx(1)
        assert fit.residual < 1e-6


@pytest.mark.parametrize("degree", [1, 3, 4])
def test_a_polynomial_is_found_again_with_its_degree(degree):
    k = polynomial_kernel(X.numpy(), degree=degree, gamma=0.7, coef0=1)
    k /= np.sqrt(np.outer(k.diagonal(), k.diagonal()))
    fit = best_fit(torch.from_numpy(k), X, "polynomial")
    assert fit.kernel.degree == degree and fit.gamma == pytest.approx(0.7, rel=1e-4)


def test_no_other_bandwidth_comes_nearer():
    k = FidelityKernel("zz", 3, bandwidth=0.2)(X)
    fit = best_fit(k, X)
    row, column = np.triu_indices(20, 1)
    wanted = k.numpy()[row, column]
    gammas = np.logspace(-5, 5, 4001)
    errors = [np.mean((rbf_kernel(X.numpy(), gamma=g)[row, column] - wanted) ** 2) for g in gammas]
    assert fit.residual**2 <= min(errors) * (1 + 1e-9)
    assert fit.residual**2 == pytest.approx(min(errors), rel=1e-3)
    assert fit.r_squared == pytest.approx(1 - min(errors) / wanted.var(), rel=1e-3)


def test_the_cosine_has_nothing_to_choose():
    fit = best_fit(CosineKernel()(X), X, "cosine")
    assert fit.residual == pytest.approx(0, abs=1e-12) and np.isnan(fit.gamma)


def test_near_identities_agree_for_nothing_and_it_says_so():
    k = FidelityKernel("zz", 3, bandwidth=7.0)(200 * X)
    k = torch.eye(20, dtype=k.dtype) + 0.02 * (k - torch.eye(20, dtype=k.dtype))
    fit = best_fit(k, X)
    assert fit.alignment > 0.99 and fit.r_squared < 0.1
    assert fit.near_identity and "says nothing" in str(fit)


def test_a_constant_matrix_has_nothing_to_fit():
    fit = best_fit(torch.ones(20, 20), X)
    assert np.isnan(fit.r_squared) and "equally alike" in str(fit)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: best_fit(torch.eye(20), X, "rfb"), "choose one of rbf, laplacian"),
        (lambda: best_fit(torch.eye(20), X[:5]), "n = 20 and 5"),
        (lambda: best_fit(torch.eye(2), X[:2]), "n >= 3"),
        (lambda: best_fit(torch.eye(20), 0 * X), "same angles"),
        (lambda: best_fit(torch.eye(20), torch.nan * X), "NaN"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()


@pytest.mark.parametrize("family", ["rbf", "polynomial", "laplacian"])
def test_many_more_angles_than_samples_give_the_same_fit(family):
    x = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    wide = torch.cat([x, torch.zeros(12, 60, dtype=torch.float64)], 1)
    matrix = RBFKernel(0.7)(x)
    narrow, found = best_fit(matrix, x, family), best_fit(matrix, wide, family)
    assert math.isclose(found.gamma, narrow.gamma, rel_tol=1e-5)
    torch.testing.assert_close(found.matrix, narrow.matrix, atol=1e-5, rtol=0)
