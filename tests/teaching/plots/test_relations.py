"""Points and relations: what is drawn is what was computed; images stand in their class."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.losses import normalised_distances
from qrkd_lab.teaching.plane import changed, downhill, pull, teacher_points
from qrkd_lab.teaching.plots.relations import RelationPanel

pytestmark = pytest.mark.filterwarnings("error")

TEACHER, USUAL = teacher_points(5, 0), {"distance": 1.0, "angle": 2.0}


def relation_panel(student, teacher, weights=USUAL, **way):
    return RelationPanel().draw_points(student, teacher, pull(student, teacher, weights), **way)


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
    for u, v, slope in zip(panel._arrows.U, panel._arrows.V, gradient, strict=False):
        assert (u * slope[0] + v * slope[1]) < -0.99 * np.hypot(u, v) * np.hypot(*slope)
    assert not relation_panel(student, TEACHER, {})._arrows.U.any()


def test_the_way_and_the_fall_of_the_loss_are_drawn():
    path, losses = downhill(changed(TEACHER, "shear"), TEACHER, USUAL, 0.5, 15)
    panel = relation_panel(path[-1], TEACHER, path=path[:-1], losses=losses)
    steps, share = panel._fall.get_data()
    assert list(steps) == list(range(16)) and share[-1] == pytest.approx(losses[-1] / losses[0])
    assert panel._history.get_xlim()[1] > 15
    assert "15 steps downhill" in panel._titles[-1].get_text()
    assert [len(way) for way in panel._trail.get_segments()] == [16] * 5


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
