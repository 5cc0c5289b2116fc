"""Points that move in a figure: numbers stand at them, arrows point where they are pulled."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qrkd_lab.teaching.plots.relations import NumberedPoints, arrows, trails
from qrkd_lab.teaching.plots.style import Chart

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
