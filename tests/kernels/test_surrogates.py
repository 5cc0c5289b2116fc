"""Random Fourier surrogates: known spectra, exact where a short series is covered, never worse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, RBFKernel
from qrkd_lab.kernels.analysis import r_squared
from qrkd_lab.kernels.diagnosis import frequency_distribution, random_feature_surrogate

X = torch.randn(60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("layers", "bandwidth"), [(1, 1.0), (3, 0.4)])
def test_the_spectrum_of_a_product_of_rotations_is_binomial(layers, bandwidth):
    # cos^2(L d / 2) = 1/2 + cos(L d) / 2: frequency 0 has weight 1/2 and +-L 1/4 each
    kernel = FidelityKernel("angle", 2, layers, bandwidth, entangle=False)
    found = frequency_distribution(kernel, X)
    wanted = np.zeros((2, 64))
    wanted[:, 0], wanted[:, layers], wanted[:, -layers] = 0.5, 0.25, 0.25
    assert found.numpy() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("name", ["angle", "reuploading", "zz", "iqp"])
def test_a_spectrum_is_a_distribution_or_the_kernel_is_not_periodic(name):
    found = frequency_distribution(FidelityKernel(name, 2), X)
    if name in ("zz", "iqp"):
        assert found is None
    else:
        assert found.min() >= 0 and found.sum(1).numpy() == pytest.approx(1)
        assert found[:, 3:-2].max() < 1e-12  # no frequency above the number of rotations, 2


def explained(kernel, features, seed=0):
    """R^2 on the samples that the surrogate was not fitted on."""
    surrogate = random_feature_surrogate(kernel, X[::2], features, seed)
    return r_squared(kernel(X[1::2]), surrogate(X[1::2]))


@pytest.mark.parametrize("bandwidth", [1.0, 0.7])
def test_enough_features_of_a_short_series_are_exact_on_new_samples(bandwidth):
    kernel = FidelityKernel("angle", 2, bandwidth=bandwidth)  # nine frequencies
    assert explained(kernel, 60) > 1 - 1e-9 and explained(kernel, 1) < 0.9


def test_a_near_identity_cannot_be_learnt():
    kernel = FidelityKernel("zz", 2, bandwidth=40.0)
    assert max(explained(kernel, features) for features in (8, 32, 128)) < 0.5


def test_r_squared_is_1_for_itself_and_0_for_the_mean():
    wanted = RBFKernel()(X)
    mean = wanted[~torch.eye(len(X), dtype=torch.bool)].mean()
    assert r_squared(wanted, wanted) == 1
    assert r_squared(wanted, torch.full_like(wanted, mean)) == pytest.approx(0, abs=1e-9)


def test_a_surrogate_is_a_kernel_like_any_other():
    surrogate = random_feature_surrogate(RBFKernel(0.5), X, 128)
    x = X[:7].float().requires_grad_()
    k = surrogate(x)
    assert k.shape == (7, 7) and k.dtype == torch.float32 and surrogate(x, x[:3]).shape == (7, 3)
    assert torch.linalg.eigvalsh(k).min() > -1e-5
    k.sum().backward()
    assert x.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="takes 2 angles"):
        surrogate(torch.zeros(3, 5))
    assert {surrogate: "hashable"} and "source='rbf'" in repr(surrogate)


def test_the_seed_decides():
    make = [random_feature_surrogate(RBFKernel(), X, 8, seed).frequencies for seed in (0, 0, 1)]
    assert make[0].equal(make[1]) and not make[0].equal(make[2])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: random_feature_surrogate(RBFKernel(), X, 0), "features"),
        (lambda: random_feature_surrogate(RBFKernel(), X[:3]), "at least 4"),
        (lambda: random_feature_surrogate(FidelityKernel("zz", 3), X), "takes 3 angles"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()
