"""Matrices from shots and noise: drawn as a device would draw them, repaired, fitted, undone."""

from __future__ import annotations

import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import Encoder, FidelityKernel, KernelRelation
from qrkd_lab.kernels.shots import (
    ShotRelation,
    clip_spectrum,
    fit_depolarised,
    sampled,
    spread_of_shots,
    undo_depolarised,
)
from qrkd_lab.losses import relation_loss

X = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
KERNEL = FidelityKernel("iqp", 2)
K = KERNEL(X)


def draws(shots, count=400):
    source = torch.Generator().manual_seed(0)
    return torch.stack([sampled(K, shots, source) for _ in range(count)])


def test_shots_have_no_bias_and_the_spread_of_a_binomial():
    many = draws(20)
    torch.testing.assert_close(many.mean(0), K, atol=0.03, rtol=0)
    torch.testing.assert_close(many.std(0), (K * (1 - K) / 20).sqrt(), atol=0.02, rtol=0)
    pairs = torch.triu_indices(6, 6, 1)
    error = (many - K)[:, *pairs].square().mean().sqrt().item()
    assert error == pytest.approx(spread_of_shots(K, 20), rel=0.03)


def test_drawn_matrices_are_shares_symmetric_with_the_diagonal_of_the_exact_one():
    one = draws(8, 1)[0]
    assert torch.equal(one, one.T) and torch.equal(one.diagonal(), K.diagonal())
    assert torch.allclose((8 * one).round(), 8 * one)
    assert torch.equal(draws(8, 1)[0], one) and not torch.equal(draws(8, 2)[1], one)
    assert sampled(K.float(), 5).dtype == torch.float32


Y = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
MATRICES = {
    "two sets of one size": KERNEL(X, Y[:6]),
    "wide": KERNEL(X, Y),
    "tall": KERNEL(Y, X),
    "one row": KERNEL(X[:1], Y),
    "one column": KERNEL(Y, X[:1]),
    "one value": KERNEL(X[:1], Y[:1]),
    "the rows in another order": KERNEL(X, X.flip(0)),
    "one set, noisy": 0.8 * K + 0.05,
    "one set": K,
    "one set by value": KERNEL(X, X.clone()),
    "one sample": KERNEL(X[:1]),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
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
    entries = k[*torch.triu_indices(6, 6, 1)] if name.startswith("one set") else k
    if k.numel() > 1:
        expected = (entries * (1 - entries) / 20).mean().sqrt().item()
        assert spread_of_shots(exact, 20) == pytest.approx(expected, rel=1e-3)


def test_the_device_draws_the_same_distribution():
    pair = KERNEL.on("default.qubit", shots=20, seed=0)(X[:1].expand(200, 2), X[1:2]).flatten()
    k = K[0, 1].item()
    assert pair.mean().item() == pytest.approx(k, abs=5 * (k * (1 - k) / 4000) ** 0.5)
    assert pair.std().item() == pytest.approx((k * (1 - k) / 20) ** 0.5, rel=0.2)


@pytest.mark.parametrize("bad", [0, -1, 2.5, "10", True])
def test_shots_are_a_whole_number(bad):
    with pytest.raises(ValueError, match="shots: expected a whole number >= 1"):
        sampled(K, bad)


def test_only_probabilities_are_drawn():
    with pytest.raises(ValueError, match="probabilities from 0 to 1, got .* to 2"):
        sampled(2 * K, 10)
    for bad in (K[0], K.expand(2, 6, 6), K[:0], K * torch.nan):
        with pytest.raises(ValueError, match="^kernel: "):
            sampled(bad, 10)


def test_the_noise_model_is_fitted_to_matrices_of_one_set_only():
    with pytest.raises(ValueError, match="expected one size, got \\(6, 6\\) and \\(5, 5\\)"):
        fit_depolarised(K, K[:5, :5], 2)
    for name in ("two sets of one size", "wide"):
        with pytest.raises(ValueError, match="noisy: expected a (square|symmetric) matrix"):
            undo_depolarised(MATRICES[name], 2)


def test_clipping_is_the_nearest_kernel_matrix():
    broken = sampled(K, 3, torch.Generator().manual_seed(1))
    assert torch.linalg.eigvalsh(broken)[0] < -0.01
    fixed = clip_spectrum(broken)
    assert torch.linalg.eigvalsh(fixed)[0] > -1e-12
    theirs = torch.as_tensor(qp.kernels.threshold_matrix(broken.numpy()))
    torch.testing.assert_close(fixed, theirs)
    torch.testing.assert_close(clip_spectrum(K), K)


def test_a_depolarised_matrix_gives_its_strength_and_is_undone():
    noisy = 0.7 * K + 0.3 / 4
    fit = fit_depolarised(noisy, K, qubits=2)
    assert fit.strength == pytest.approx(0.3) and fit.diagonal == pytest.approx(0.3)
    assert fit.r_squared == pytest.approx(1)
    torch.testing.assert_close(undo_depolarised(noisy, 2), K)
    theirs = qp.kernels.mitigate_depolarizing_noise(noisy.numpy(), 2, method="average")
    torch.testing.assert_close(undo_depolarised(noisy, 2), torch.as_tensor(theirs))
    worse = fit_depolarised(noisy + 0.1 * (K - K.mean()) ** 2, K, 2)
    assert worse.r_squared < 1
    with pytest.raises(ValueError, match="at most 2\\^-2"):
        undo_depolarised(torch.full((3, 3), 0.25, dtype=torch.float64), 2)


def relation(kind=ShotRelation, *rest, **options):
    encoder = Encoder(4, 3, 2, seed=0).double()
    return kind(KERNEL, encoder, *rest, **options), encoder


FEATURES = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def test_only_the_sides_asked_for_are_noisy():
    exact, _ = relation(KernelRelation)
    student = FEATURES[:, :3]
    for sides, same in (("teacher", True), ("both", False)):
        mine, _ = relation(ShotRelation, 10, sides)
        assert not torch.equal(mine.teacher(FEATURES), exact.teacher(FEATURES))
        assert torch.equal(mine.student(student), exact.student(student)) == same
    with pytest.raises(ValueError, match="unknown sides 'student'; choose one of teacher, both"):
        relation(ShotRelation, 10, "student")


def test_the_slope_is_that_of_the_exact_kernel():
    weights = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    slopes = []
    for kind, rest in ((KernelRelation, ()), (ShotRelation, (5, "both"))):
        x = FEATURES[:, :3].clone().requires_grad_()
        made, _ = relation(kind, *rest)
        (made.student(x) * weights).sum().backward()
        slopes.append(x.grad)
    torch.testing.assert_close(*slopes)
    assert slopes[0].abs().max() > 0.01


def test_shots_on_the_target_leave_the_mean_gradient():
    x = (X + 0.3).requires_grad_()
    slopes = [torch.autograd.grad(relation_loss(KERNEL(x), t), x)[0] for t in (K, *draws(5, 300))]
    torch.testing.assert_close(torch.stack(slopes[1:]).mean(0), slopes[0], atol=0.002, rtol=0)
    assert (slopes[1] - slopes[0]).abs().max() > 0.005


def test_two_relations_share_no_draw():
    one, other = relation(ShotRelation, 10)[0], relation(ShotRelation, 10)[0]
    assert one.teacher_key != other.teacher_key and one.teacher_key == one.teacher_key
