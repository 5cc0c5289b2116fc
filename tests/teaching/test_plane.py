"""Points in the plane: changes are what they are called, and words follow the numbers."""

from __future__ import annotations

import math

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.relations import pairwise_distances
from qrkd_lab.teaching.plane import (
    CHANGES,
    as_points,
    changed,
    downhill,
    encoded,
    loss_in_words,
    plane_kernel,
    pull,
    remark,
    size_of,
    teacher_points,
    verdict,
)

POINTS = torch.tensor([[10.0, 20.0], [14.0, 20.0], [14.0, 24.0], [10.0, 26.0]], dtype=torch.float64)
close = torch.testing.assert_close


@pytest.mark.parametrize(("n", "seed"), [(3, 0), (5, 3), (8, 20)])
def test_teachers_are_seeded_centred_of_size_one_and_well_apart(n, seed):
    points = teacher_points(n, seed)
    assert points.equal(teacher_points(n, seed)) and not points.equal(teacher_points(n, seed + 1))
    assert points.mean(0).abs().max() < 0.006 and size_of(points) == pytest.approx(1, abs=0.012)
    apart = pairwise_distances(points) + 9 * torch.eye(n)
    assert apart.min() > 0.1


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_begins_at_nothing_goes_on_steadily_and_follows_the_seed(name):
    before = POINTS.clone()
    close(changed(POINTS, name, 0.0), POINTS)
    near, far = changed(POINTS, name, 0.5), changed(POINTS, name, 1.0)
    assert POINTS.equal(before), "the points given stay as they are"
    assert (name == "same") == far.equal(POINTS)
    assert (changed(POINTS, name, 0.501) - near).abs().max() < 0.1
    assert changed(POINTS, name).equal(far)
    assert changed(POINTS, name, seed=1).equal(far) == (name != "random")


def test_changes_are_what_they_are_called():
    centre = POINTS.mean(0)
    x, centre_4 = POINTS - centre, centre.expand(4, 2)
    moved = size_of(POINTS) * centre.new_tensor([0.7, 0.5])
    for name, expected in {
        "rotation": centre + torch.stack([-x[:, 1], x[:, 0]], 1),
        "reflection": centre + x * torch.tensor([-1, 1]),
        "scaling": centre + 1.8 * x,
        "shear": POINTS + 0.8 * x[:, 1:] * torch.tensor([1, 0]),
        "shift": POINTS + moved,
        "line": torch.stack([changed(POINTS, "line")[:, 0], centre_4[:, 1]], 1),
        "point": centre_4,
        "coincident": POINTS[[0, 0, 2, 3]],
        "swap": POINTS[[1, 0, 2, 3]],
    }.items():
        close(changed(POINTS, name), expected)


@pytest.mark.parametrize(
    "values, said",
    [
        ([[0, 0], [1, 1]], r"n 3 to 20 .* got \(2, 2\)"),
        ([[0.0]] * 3, r"points \(n, 2\), .* got \(3, 1\)"),
        ([[0, 0], [1, 1], [math.nan, 2]], "finite points"),
        ("many", r"expected \[\[x, y\], ...\], got 'many'"),
    ],
)
def test_what_are_no_points_is_told(values, said):
    with pytest.raises(ValueError, match=f"student: .*{said}"):
        as_points(values, "student")


def test_wrong_numbers_and_names_are_told():
    with pytest.raises(ValueError, match="n 5, as the teacher has; got .4, 2"):
        as_points(POINTS, "student", 5)
    with pytest.raises(ValueError, match="unknown change 'turn'; choose one of same, shift"):
        changed(POINTS, "turn")
    with pytest.raises(ValueError, match="strength: expected a number from 0 to 1, got 1.5"):
        changed(POINTS, "line", 1.5)
    with pytest.raises(ValueError, match="n: expected a whole number from 3"):
        teacher_points(2)


TEACHER = teacher_points(5, 0)
USUAL = {"distance": 1.0, "angle": 2.0}


def test_losses_are_those_of_the_package():
    student = changed(TEACHER, "shear")
    found = pull(student, TEACHER, {"distance": 1.0, "angle": 2.0, "kernel": 3.0})
    kernel = ql.kernel_loss(encoded(student), encoded(TEACHER), plane_kernel()).item()
    distance, angle = ql.distance_loss(student, TEACHER), ql.angle_loss(student, TEACHER)
    assert found.losses["distance"] == distance.item() and found.losses["angle"] == angle.item()
    assert found.losses["kernel"] == pytest.approx(kernel, abs=1e-5)
    assert found.total == pytest.approx(distance.item() + 2 * angle.item() + 3 * kernel, abs=1e-4)
    said = loss_in_words(found)
    assert said.startswith(f"Loss {found.total:.4f} = 1 · {distance.item():.4f} (distance) + 2 · ")


@pytest.mark.parametrize("name", ["distance", "angle", "kernel"])
def test_the_gradient_is_that_of_the_weighted_sum(name):
    student, weights = changed(TEACHER, "random"), {name: 1.5}
    found = pull(student, TEACHER, weights)
    for i, k in ((0, 0), (3, 1)):
        moved = [student.clone(), student.clone()]
        for x, h in zip(moved, (1e-5, -1e-5)):
            x[i, k] += h
        up, down = (pull(x, TEACHER, weights).total for x in moved)
        assert found.gradient[i, k].item() == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-6)


def test_the_verdict_names_who_sees_what():
    for name, blind in (
        ("same", "No point moved: every relation is the teacher's"),
        ("rotation", "distances and angles are blind to it, the kernel sees it"),
        ("scaling", "Every point moved; distances, angles and the kernel are blind to it"),
        ("coincident", "1 of 5 points moved; distances, angles and the kernel see it"),
    ):
        student = changed(TEACHER, name)
        said = verdict(student, TEACHER, pull(student, TEACHER, {}).losses)
        assert said.endswith(blind)


@pytest.mark.parametrize("name", CHANGES)
def test_every_gradient_is_finite_and_bounded(name):
    student = changed(TEACHER, name)
    found = pull(student, TEACHER, USUAL)
    assert torch.isfinite(found.gradient).all() and found.lengths.max() < 2
    found = pull(student, TEACHER, {"kernel": 1.0})  # a spread of 0 is divided by sqrt(1e-5)
    assert torch.isfinite(found.gradient).all() and found.lengths.max() < 1e5**0.5


def test_downhill_goes_down_and_remembers_the_way():
    student = changed(TEACHER, "shear")
    path, losses = downhill(student, TEACHER, USUAL, 0.2, 30)
    assert len(path) == len(losses) == 31 and path[0].equal(student)
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.05 * losses[0]
    assert losses[5] == pull(path[5], TEACHER, USUAL).total
    close(path[1], student - 0.2 * pull(student, TEACHER, USUAL).gradient, rtol=0, atol=1e-3)
    _, large = downhill(100 * student, 100 * TEACHER, USUAL, 0.2, 5)
    assert large == pytest.approx(losses[:6])  # whatever the unit


def test_what_is_odd_is_said():
    for student, weights, said in (
        (TEACHER, {}, "All weights are 0"),
        (changed(TEACHER, "coincident"), USUAL, "Points 0 and 1 coincide: "),
        (downhill(changed(TEACHER, "line"), TEACHER, USUAL, 0.5, 60)[0][-1], USUAL, "a local min"),
    ):
        assert said in remark(student, TEACHER, pull(student, TEACHER, weights))
    student = changed(TEACHER, "shear")
    assert remark(student, TEACHER, pull(student, TEACHER, USUAL)) == ""
