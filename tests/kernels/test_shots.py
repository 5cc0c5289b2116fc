"""Matrices from shots: drawn as a device would draw them."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.kernels import FidelityKernel
from qrkd_lab.kernels.shots import sampled

X = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
KERNEL = FidelityKernel("iqp", 2)
K = KERNEL(X)


def test_drawn_matrices_are_shares_with_the_diagonal_of_the_exact_one():
    first, again = (sampled(K, 8, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(sampled(K, 8), first)
    assert torch.equal(first.diagonal(), K.diagonal())
    assert torch.allclose((8 * first).round(), 8 * first)


Y = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
MATRICES = {
    "wide": KERNEL(X, Y),
    "tall": KERNEL(Y, X),
    "one column": KERNEL(Y, X[:1]),
    "the rows in another order": KERNEL(X, X.flip(0)),
    "one set, noisy": 0.8 * K + 0.05,
    "one set": K,
    "one sample": KERNEL(X[:1]),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", MATRICES)
def test_every_entry_of_any_matrix_is_a_draw_of_its_own_chance(name, dtype):
    exact = MATRICES[name].to(dtype)
    source = torch.Generator().manual_seed(0)
    many = torch.stack([sampled(exact, 20, source) for _ in range(400)]).double()
    k = exact.double().clamp(0, 1)
    assert sampled(exact, 20).dtype == dtype and many.shape[1:] == exact.shape
    torch.testing.assert_close(many.mean(0), k, atol=0.04, rtol=0)
    torch.testing.assert_close(many.std(0), (k * (1 - k) / 20).sqrt(), atol=0.02, rtol=0)
    if name.startswith("one set"):
        assert torch.equal(many, many.mT)
    elif exact.shape == (6, 6):
        assert not torch.equal(many, many.mT)


def test_the_device_draws_the_same_distribution():
    pair = KERNEL.on("default.qubit", shots=20, seed=0)(X[:1].expand(100, 2), X[1:2]).flatten()
    k = K[0, 1].item()
    assert pair.mean().item() == pytest.approx(k, abs=5 * (k * (1 - k) / 2000) ** 0.5)
    assert pair.std().item() == pytest.approx((k * (1 - k) / 20) ** 0.5, rel=0.2)


def test_shots_are_a_whole_number_and_only_probabilities_are_drawn():
    for bad in (0, 2.5, True):
        with pytest.raises(ValueError, match="shots: expected a whole number >= 1"):
            sampled(K, bad)
    with pytest.raises(ValueError, match="probabilities from 0 to 1, got .* to 2"):
        sampled(2 * K, 10)
    for bad in (K[0], K.expand(2, 6, 6), K[:0], K * torch.nan):
        with pytest.raises(ValueError, match="^kernel: "):
            sampled(bad, 10)
