"""Points and relations: what is drawn is what was computed; images stand in their class."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.losses import normalised_distances
from qrkd_lab.teaching.plane import changed, downhill, pull, teacher_points
from qrkd_lab.teaching.plots.relations import (
    NumberedPoints,
    RelationPanel,
    arrows,
    trails,
)
from qrkd_lab.teaching.plots.style import Chart

pytestmark = pytest.mark.filterwarnings("error")

TEACHER, USUAL = teacher_points(5, 0), {"distance": 1.0, "angle": 2.0}


def relation_panel(student, teacher, weights=USUAL, **way):
    return RelationPanel().draw_points(student, teacher, pull(student, teacher, weights), **way)


def test_a_figure_says_what_sees_the_change():
    chart = relation_panel(changed(TEACHER, "rotation"), TEACHER)
    said = "Every point moved; distances and angles are blind to it, the kernel sees it"
    assert chart.alt.startswith(f"{said}. 5 numbered points")
    data, _ = chart._repr_mimebundle_()
    assert 'alt="Every point moved' in data["text/html"]


def test_dots_are_pairs_and_triples():
    student = changed(TEACHER, "shear")
    panel = relation_panel(student, TEACHER)
    i, j = np.triu_indices(5, 1)
    x, y = panel._dots["distance"].get_data()
    assert x == pytest.approx(normalised_distances(TEACHER).numpy()[i, j])
    assert y == pytest.approx(normalised_distances(student).numpy()[i, j])
    _, cosines = panel._dots["angle"].get_data()
    assert len(cosines) == 5 * 6 and cosines[0] == pytest.approx(
        ql.triplet_angles(student)[0, 1, 2].item()
    )
    assert len(panel._dots["kernel"].get_data()[0]) == 10


def test_arrows_point_downhill_and_a_weight_of_0_takes_them_away():
    student = changed(TEACHER, "shear")
    panel = relation_panel(student, TEACHER, {"angle": 1.0})
    gradient = pull(student, TEACHER, {"angle": 1.0}).gradient.numpy()
    for path, place, slope in zip(panel._arrows.get_paths(), student.numpy(), gradient):
        towards = path.vertices.mean(0) - place
        assert (towards * -slope).sum() > 0.9 * np.hypot(*towards) * np.hypot(*slope)
    assert relation_panel(student, TEACHER, {})._arrows.get_paths() == []


def test_the_way_and_the_fall_of_the_loss_are_drawn():
    path, losses = downhill(changed(TEACHER, "shear"), TEACHER, USUAL, 0.5, 15)
    panel = relation_panel(path[-1], TEACHER, path=path[:-1], losses=losses)
    steps, share = panel._fall.get_data()
    assert list(steps) == list(range(16)) and share[-1] == pytest.approx(losses[-1] / losses[0])
    assert panel._history.get_xlim()[1] > 15
    assert "15 steps downhill" in panel._titles[-1].get_text()
    assert panel._trail.get_xdata().shape == (5 * 17,)


def test_a_loss_that_rises_stays_in_the_picture():
    panel = relation_panel(TEACHER, TEACHER, losses=[0.1, 0.31, 0.2])
    assert panel._history.get_ylim()[1] > 3.1 and panel._fall.get_ydata().max() == pytest.approx(
        3.1
    )
    panel = relation_panel(TEACHER, TEACHER, losses=[0.0, 0.0])
    assert panel._fall.get_ydata().tolist() == [0, 0]


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (1e-3, 0.0), (500.0, 1e4)])
def test_points_of_any_unit_have_room(scale, shift):
    teacher = shift + scale * TEACHER
    student = shift + 5 * scale * TEACHER
    panel = relation_panel(student, teacher)
    low, high = panel._maps[1].get_xlim()
    assert low < student.min() and student.max() < high < shift + 12 * scale


def test_a_panel_drawn_again_is_that_of_a_fresh_one():
    first, second = changed(TEACHER, "swap"), changed(TEACHER, "shear")
    used, fresh = RelationPanel(), RelationPanel()
    used.draw_points(first, TEACHER, pull(first, TEACHER, USUAL), chosen=1).png()
    pictures = [
        panel.draw_points(second, TEACHER, pull(second, TEACHER, USUAL), chosen=2).png()
        for panel in (used, fresh)
    ]
    drawn, expected = (
        np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int) for png in pictures
    )
    assert drawn.shape == (384, 1018, 3) or drawn.shape == (384, 1017, 3)
    assert np.abs(drawn - expected).max() == 0


def test_the_layout_stays_while_much_the_same_is_drawn():
    panel, student = RelationPanel(), changed(TEACHER, "shear")
    panel.draw_points(student, TEACHER, pull(student, TEACHER, USUAL)).png()
    ground = panel._ground
    teacher = teacher_points(7, 3)
    student = changed(teacher, "rotation")
    panel.draw_points(student, teacher, pull(student, teacher, USUAL)).png()
    assert panel._ground is ground, "a new seed must not cost a new layout"
    panel.draw_points(9 * student, teacher, pull(student, teacher, USUAL)).png()
    assert panel._ground is not ground


SQUARE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]], dtype=torch.float64)


def shown(points):
    drawn = NumberedPoints(Chart(3, 3).subplots(), "red")
    drawn.draw(SQUARE)
    drawn.draw(points)
    return {text.get_text(): text for text in drawn._texts if text.get_visible()}


def test_each_number_stands_at_its_point():
    texts = shown(SQUARE[:3])
    assert {name: text.xy for name, text in texts.items()} == {
        "0": [0, 0],
        "1": [2, 0],
        "2": [2, 2],
    }


def test_points_in_one_place_share_a_label():
    texts = shown(SQUARE[[0, 1, 2, 0]])
    assert texts.keys() == {"0,3", "1", "2"} and texts["0,3"].get_position() == (0, 0)
    texts = shown(torch.ones(4, 2))
    assert texts.keys() == {"0,1,2,3"} and texts["0,1,2,3"].get_position() == (0, 12)


def test_arrows_begin_at_the_edge_and_point_along_the_pull():
    (shape,) = arrows(np.array([[1.0, 1.0]]), np.array([[0.0, 0.1]]), 1.0)
    tip = shape[np.abs(shape - [1, 1]).sum(1).argmax()]
    assert tip == pytest.approx([1, 1.4]) and shape[:, 1].min() == pytest.approx(1.1)


def test_arrows_keep_their_proportions_and_a_largest_length():
    points, pulls = np.zeros((3, 2)), np.array([[100.0, 0.0], [50.0, 0.0], [0.0, 0.0]])
    long, short = arrows(points, pulls, 2.0)
    assert long[:, 0].max() - 0.2 == pytest.approx(1.8)
    assert short[:, 0].max() - 0.2 == pytest.approx(0.9)
    assert arrows(points, 0 * pulls, 2.0) == []


def test_trails_have_a_gap_between_points():
    ways = trails([SQUARE, SQUARE + 1])
    assert ways.shape == (2, 12) and np.isnan(ways[:, 2::3]).all()
    assert ways[:, :2].T.tolist() == [[0, 0], [1, 1]]
