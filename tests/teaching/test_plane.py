"""Points in the plane: changes are what they are called, and odd input is told."""

from __future__ import annotations

import math

import pytest
import torch

from qrkd_lab.relations import pairwise_distances
from qrkd_lab.teaching.experiments import (
    CHANGES,
    as_points,
    changed,
    coincidences,
    size_of,
    teacher_points,
)

POINTS = torch.tensor([[10.0, 20.0], [14.0, 20.0], [14.0, 24.0], [10.0, 26.0]], dtype=torch.float64)
close = torch.testing.assert_close


@pytest.mark.parametrize("n", range(3, 9))
@pytest.mark.parametrize("seed", range(5))
def test_teachers_are_seeded_centred_of_size_one_and_well_apart(n, seed):
    points = teacher_points(n, seed)
    assert points.equal(teacher_points(n, seed)) and not points.equal(teacher_points(n, seed + 1))
    assert points.mean(0).abs().max() < 0.006 and size_of(points) == pytest.approx(1, abs=0.012)
    apart = pairwise_distances(points) + 9 * torch.eye(n)
    assert apart.min() > 0.1


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_begins_at_nothing_goes_on_steadily_and_says_how_far(name):
    close(changed(POINTS, name, 0.0), POINTS)
    near, far = changed(POINTS, name, 0.5), changed(POINTS, name, 1.0)
    assert (name == "same") == far.equal(POINTS)
    assert (changed(POINTS, name, 0.501) - near).abs().max() < 0.1
    said = {CHANGES[name].words(strength) for strength in (0.0, 0.5, 1.0)}
    assert len(said) == (1 if name in ("same", "shift") else 3)


def test_changes_are_what_they_are_called():
    centre = POINTS.mean(0)
    x = POINTS - centre
    close(changed(POINTS, "rotation") - centre, torch.stack([-x[:, 1], x[:, 0]], 1))
    close(changed(POINTS, "reflection") - centre, x * torch.tensor([-1, 1]))
    close(changed(POINTS, "scaling") - centre, 1.8 * x)
    close(changed(POINTS, "shear") - centre, x + 0.8 * x[:, 1:] * torch.tensor([1, 0]))
    close(
        changed(POINTS, "shift") - POINTS,
        (size_of(POINTS) * centre.new_tensor([0.7, 0.5])).expand(4, 2),
    )
    close(changed(POINTS, "line")[:, 1], centre[1].expand(4))
    close(changed(POINTS, "point"), centre.expand(4, 2))
    close(changed(POINTS, "coincident"), POINTS[[0, 0, 2, 3]])
    close(changed(POINTS, "swap"), POINTS[[1, 0, 2, 3]])
    close(changed(POINTS, "swap", 0.5)[0], POINTS[:2].mean(0))


def test_random_places_follow_the_seed():
    assert changed(POINTS, "random", seed=1).equal(changed(POINTS, "random", seed=1))
    assert not changed(POINTS, "random", seed=1).equal(changed(POINTS, "random", seed=2))


def test_the_points_given_stay_as_they_are():
    before = POINTS.clone()
    for name in CHANGES:
        changed(POINTS, name)
    assert POINTS.equal(before)


def test_coincident_points_are_found():
    assert coincidences(POINTS) == []
    assert coincidences(POINTS[[0, 1, 0, 3]]) == [(0, 2)]
    assert size_of(torch.zeros(3, 2)) == 1


@pytest.mark.parametrize(
    "values, said",
    [
        ([[0, 0], [1, 1]], "3 to 20 points .* got 2"),
        ([[0.0]] * 3, r"expected shape \(n, 2\), .* got \(3, 1\)"),
        ([0, 1, 2], r"got \(3,\)"),
        ([[0, 0], [1, 1], [math.nan, 2]], "NaN or infinity in row 2"),
        ([[0, 0], [1, math.inf], [2, 2]], "NaN or infinity in row 1"),
        ([[0, 0]] * 21, "got 21"),
        ("many", "expected n points in the plane"),
        ([[0, 0], [1]], "expected n points in the plane"),
    ],
)
def test_what_are_no_points_is_told(values, said):
    with pytest.raises(ValueError, match=f"student: .*{said}"):
        as_points(values, "student")


def test_wrong_numbers_and_names_are_told():
    with pytest.raises(ValueError, match="expected 5 points, as the teacher has, got 4"):
        as_points(POINTS, "student", 5)
    with pytest.raises(ValueError, match="unknown change 'turn'; choose one of same, shift"):
        changed(POINTS, "turn")
    with pytest.raises(ValueError, match="strength: expected a number from 0 to 1, got 1.5"):
        changed(POINTS, "line", 1.5)
    with pytest.raises(ValueError, match="n: expected a whole number from 3"):
        teacher_points(2)
