"""The relation explorer: controls move points, words follow, and its call makes it again."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.teaching.plane import changed, loss_in_words, pull, teacher_points, verdict
from qrkd_lab.teaching.widgets.relations import RelationExplorer

pytestmark = pytest.mark.filterwarnings("error")
TEACHER = teacher_points(5, 0)


@pytest.fixture(scope="module")
def made_once():
    return RelationExplorer()


@pytest.fixture
def explorer(made_once):
    made_once.set_to(points=5, seed=0, preset="shear", strength=1.0, point=0, distance=1.0,
                     angle=2.0, kernel=0.0, step=0.5)  # fmt: skip
    return made_once


def set_to(explorer, **values):
    for name, value in values.items():
        explorer.controls[name].value = value


@pytest.mark.parametrize(
    "name, value",
    [
        ("preset", "rotation"), ("strength", 0.5), ("point", 2), ("x", 0.5), ("y", -1.0),
        ("distance", 0.0), ("angle", 5.0), ("kernel", 2.0), ("points", 7), ("seed", 1),
    ],
)  # fmt: skip
def test_every_control_changes_the_picture(explorer, name, value):
    before = explorer._shown["picture"].png
    set_to(explorer, **{name: value})
    assert "alert" not in explorer._words.value
    assert explorer._shown["picture"].png != before


def test_the_words_hold_the_losses_and_who_is_blind(explorer):
    set_to(explorer, kernel=1.0)
    torch.testing.assert_close(explorer.student, changed(TEACHER, "shear"), rtol=0, atol=6e-5)
    found = pull(explorer.student, TEACHER, {"distance": 1, "angle": 2, "kernel": 1})
    assert loss_in_words(found) in explorer._said
    assert f"<b>{verdict(explorer.student, TEACHER, found.losses)}.</b>" in explorer._said


def test_sliders_move_the_chosen_point_alone_and_show_where_it_is(explorer):
    set_to(explorer, preset="same", point=3)
    assert [explorer.controls[name].value for name in "xy"] == TEACHER[3].tolist()
    set_to(explorer, x=0.25)
    expected = TEACHER.clone()
    expected[3, 0] = 0.25
    assert explorer.student.equal(expected)
    assert explorer.controls["preset"].value == "own" and explorer.controls["strength"].disabled
    assert "1 of 5 points moved" in explorer._said
    before = explorer.student
    for point in range(5):  # to show a point does not move it
        set_to(explorer, point=point)
    assert explorer.student.equal(before)


def test_steps_downhill_lower_the_loss_and_are_drawn(explorer):
    explorer.downhill()
    assert explorer.controls["preset"].value == "own"
    explorer.downhill(10)
    assert explorer._losses[-1] < 0.1 * explorer._losses[0]
    assert "11 steps downhill" in explorer._panel._titles[-1].get_text()
    assert len(explorer._path) == 11
    set_to(explorer, angle=1.0)  # of another loss
    assert explorer._path == [] and "none yet" in explorer._panel._titles[-1].get_text()
    set_to(explorer, distance=0.0, angle=0.0)
    assert "All weights are 0: there is no loss, and nothing pulls." in explorer._said
    before = explorer.student
    explorer.downhill(10)
    assert explorer.student.equal(before) and "alert" not in explorer._words.value


def test_the_call_makes_it_again(explorer):
    assert repr(RelationExplorer()) == "RelationExplorer()"
    assert repr(explorer) == "RelationExplorer(preset='shear')"
    set_to(
        explorer, preset="random", strength=0.35, kernel=0.5, points=6, seed=4, point=1, step=0.7
    )
    for change in (lambda: set_to(explorer, y=-0.5), explorer.downhill, explorer.back):
        change()
        made = eval(repr(explorer))
        assert repr(made) == repr(explorer) and made.student.equal(explorer.student)


def test_points_of_your_own_have_any_unit():
    points = 250 * TEACHER + 750
    explorer = RelationExplorer(points.numpy(), preset="shear")
    explorer.refresh()
    torch.testing.assert_close(explorer.student, changed(points, "shear"), rtol=0, atol=0.025)
    explorer.downhill(20)
    assert explorer._losses[-1] < 0.05 * explorer._losses[0]


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"points": [[0, 0], [1, 1]]}, r"points: expected finite points \(n, 2\)"),
        ({"points": 2}, "points: expected a whole number from 3 to 8, got 2"),
        ({"seed": -1}, "seed: expected a whole number from 0 to 20"),
        ({"student": [[0, 0]] * 4}, "student: .* 5, as the teacher has; got .4, 2"),
        ({"preset": "own"}, "unknown change 'own'; choose one of same"),
        ({"point": 5}, "point: expected a whole number from 0 to 4, got 5"),
        ({"distance": -1.0}, "distance weight: expected 0 to 5, got -1"),
    ],
)
def test_wrong_arguments_are_told(arguments, said):
    with pytest.raises(ValueError, match=said):
        RelationExplorer(**arguments)


def shares(explorer, place):
    """Where a place of the student's map is on the picture, as shares of its width and height."""
    panel = explorer._panel
    pixels = panel._maps[1].transData.transform(place)
    across, up = panel.transFigure.inverted().transform(pixels)
    return across, 1 - up


def test_a_point_is_dragged_with_the_mouse_and_nothing_where_there_is_none():
    explorer = RelationExplorer()
    explorer.refresh()
    before = explorer.student
    start, end = shares(explorer, before[2].tolist()), shares(explorer, (0.5, 0.25))
    for goal in (shares(explorer, (0.1, 0.1)), end):  # two moves of one drag
        explorer._drag.value = " ".join(map(str, (1.5, *start, *goal)))
    assert explorer.student[2].tolist() == pytest.approx([0.5, 0.25], abs=1e-3)
    others = [0, 1, 3, 4]
    assert torch.equal(explorer.student[others], before[others])
    assert explorer.state["point"] == 2 and explorer.controls["preset"].value == "own"
    assert explorer.controls["x"].value == pytest.approx(0.5, abs=0.01)
    moved = explorer.student
    explorer._drag.value = " ".join(map(str, (2.5, *start, *end)))  # it is not there any more
    assert torch.equal(explorer.student, moved)


@pytest.mark.parametrize("scale", [None, 0.031, 1.0, 4.7])
def test_the_sliders_of_a_point_reach_their_ends_and_keep_their_length(scale):
    explorer = RelationExplorer(points=5 if scale is None else (scale * TEACHER).tolist())
    x, y = explorer.controls["x"], explorer.controls["y"]
    length = len(x.options)  # the page goes on with the one that it was shown first
    for _ in range(2):
        for index in (length - 1, 0):
            ends = x.options[index], y.options[index]
            x.index, y.index = index, index
            assert explorer.student[0].tolist() == pytest.approx(ends)
            assert (x.value, y.value) == pytest.approx(ends) and x.index == y.index == index
        seeds = {"seed": 5, "points": 4} if scale is None else {}
        explorer.set_to(preset="random", **seeds)
    x.index = length - 1
    assert len(x.options) == len(y.options) == length
    far = [[30.0 * scale if scale else 30.0, 0.0], *explorer.student[1:].tolist()]
    explorer = RelationExplorer(explorer._teacher.tolist(), student=far)
    assert explorer.controls["x"].value == pytest.approx(far[0][0], rel=0.02)
    assert len(explorer.controls["x"].options) == length
