"""Encoders: from any width to angles, and what becomes of dead features; the bandwidth rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qrkd_lab.kernels import CosineKernel, FidelityKernel, RBFKernel
from qrkd_lab.kernels.encoders import (
    BANDWIDTHS,
    ENCODERS,
    Encoder,
    calibrated,
    spread,
    standardise,
)


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


ANGLES = rows(40, 3)


def fitted(kind: str, teacher: int = 7, student: int = 5, qubits: int = 3) -> Encoder:
    return Encoder(teacher, student, qubits, kind).fit(rows(50, teacher, 9))


@pytest.mark.parametrize("kind", ENCODERS)
def test_both_sides_give_standardised_angles(kind):
    encoder = fitted(kind)
    for angles in (encoder.teacher(rows(40, 7) * 3 + 1), encoder.student(rows(40, 5) * 3 + 1)):
        assert angles.shape == (40, 3)
        torch.testing.assert_close(angles.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
        torch.testing.assert_close(angles.std(0, correction=0), torch.ones(3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ENCODERS)
def test_the_student_gets_a_gradient_and_the_teacher_none(kind):
    encoder = fitted(kind)
    student, teacher = rows(8, 5).requires_grad_(), rows(8, 7).requires_grad_()
    encoder.student(student).square().mul(rows(8, 3)).sum().backward()
    assert student.grad.abs().max() > 0
    assert not encoder.teacher(teacher).requires_grad


@pytest.mark.parametrize("kind", ENCODERS)
def test_constant_and_dead_features_become_zero_angles(kind):
    encoder = fitted(kind)
    for features in (torch.zeros(6, 5), torch.full((6, 5), 2.5)):
        x = features.clone().requires_grad_()
        angles = encoder.student(x)
        assert angles.abs().max() < 1e-3
        angles.square().sum().backward()
        assert torch.isfinite(x.grad).all()
    dead = rows(20, 5)
    dead[:, 2] = 0
    assert torch.isfinite(encoder.student(dead)).all()


def test_standardise_is_the_formula_and_bounds_its_gradient():
    z = rows(9, 2).double()
    mean = z.sum(0) / 9
    variance = ((z - mean) ** 2).sum(0) / 9
    torch.testing.assert_close(standardise(z), (z - mean) / (variance + 1e-5) ** 0.5)
    flat = (1e-9 * rows(9, 2)).requires_grad_()
    (standardise(flat) * rows(9, 2, 1)).sum().backward()
    assert flat.grad.abs().max() < 1e3


def test_one_sample_has_no_spread_an_adapter_may_widen_and_is_trained():
    assert torch.equal(fitted("adapter").student(rows(1, 5)), torch.zeros(1, 3))
    assert Encoder(8, 2, 5, "adapter").student(rows(4, 2)).shape == (4, 5)
    adapted = [kind for kind in ENCODERS if list(fitted(kind).parameters())]
    assert adapted == ["adapter", "pca"]
    x = rows(6, 5)
    torch.testing.assert_close(fitted("truncate").student(x), standardise(x[:, :3]))
    with pytest.raises(ValueError, match="seed: expected a whole number"):
        Encoder(7, 5, 3, seed=1.0)


def test_projections_are_orthonormal_and_follow_the_seed():
    first, again, other = (Encoder(7, 7, 3, "projection", seed) for seed in (1, 1, 2))
    torch.testing.assert_close(first.teacher_map.T @ first.teacher_map, torch.eye(3))
    assert torch.equal(first.teacher_map, again.teacher_map)
    assert not torch.allclose(first.teacher_map, other.teacher_map)
    assert torch.equal(first.teacher_map, first.student_map)  # one matrix where the widths agree


def test_pca_finds_the_leading_direction():
    direction = torch.tensor([3.0, 0.0, 4.0]) / 5
    cloud = rows(200, 1) * 10 * direction + 0.1 * rows(200, 3, 1) + 7
    encoder = Encoder(3, 3, 1, "pca").fit(cloud)
    torch.testing.assert_close(encoder.teacher_map[:, 0], direction, atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Encoder(7, 5, 3, "adaptor"), "choose one of adapter"),
        (lambda: Encoder(7, 2, 3, "truncate"), "student has 2 features"),
        (lambda: Encoder(2, 7, 3, "adapter"), "teacher has 2 features"),
        (lambda: Encoder(7, 5, 3, "pca").teacher(rows(4, 7)), "fit"),
        (lambda: Encoder(7, 5, 3, "pca").fit(rows(3, 7)), "more than 3 samples"),
        (lambda: fitted("adapter").student(rows(4, 6)), "made for d = 5, got 6"),
        (lambda: fitted("adapter").student(rows(4, 5) / 0), "NaN or infinity"),
        (lambda: calibrated(RBFKernel(), ANGLES[:2]), "at least 3"),
    ],
)
def test_misuse_is_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.parametrize("kind", ENCODERS)
def test_equal_teacher_sides_have_equal_keys_and_pca_follows_the_data(kind):
    key = fitted(kind).teacher_key
    assert key == fitted(kind, student=6).teacher_key != fitted(kind, teacher=8).teacher_key
    copy = Encoder(7, 5, 3, kind)
    copy.load_state_dict(fitted(kind).state_dict())
    assert copy.teacher_key == key
    assert (copy.fit(rows(50, 7, 1)).teacher_key == key) == (kind != "pca")


@pytest.mark.parametrize("kernel", [RBFKernel(), FidelityKernel("zz", 3)], ids=str)
def test_no_other_bandwidth_spreads_more(kernel):
    values = kernel(ANGLES).numpy()[~np.eye(40, dtype=bool)]
    assert spread(kernel, ANGLES) == pytest.approx(np.std(values, ddof=1), rel=1e-4)
    chosen = calibrated(kernel, ANGLES)
    best = max(spread(replace(kernel, bandwidth=b), ANGLES) for b in BANDWIDTHS)
    assert spread(chosen, ANGLES) == best > spread(kernel, ANGLES) * 0.999
    assert BANDWIDTHS[0] < chosen.bandwidth < BANDWIDTHS[-1]  # not at the grid's edge


def test_scaled_angles_get_the_inverse_bandwidth_if_there_is_one():
    doubled, usual = (calibrated(RBFKernel(), angles) for angles in (2 * ANGLES, ANGLES))
    assert doubled.bandwidth * 2 == usual.bandwidth
    assert calibrated(CosineKernel(), ANGLES) == CosineKernel()
