"""A figure that is drawn again shows what a fresh one would, in less time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from qrkd_lab.teaching.plots.matrices import RedrawnChart

pytestmark = pytest.mark.filterwarnings("error")


class Line(RedrawnChart):
    def __init__(self):
        super().__init__(3, 2)
        self.place = self.subplots()
        (self.line,) = self.place.plot([0, 1], [0, 1])
        self.moves(self.line)


def pixels(chart):
    return np.asarray(Image.open(io.BytesIO(chart.png())).convert("RGB")).astype(int)


def test_a_second_picture_is_that_of_a_fresh_figure():
    chart, fresh = Line(), Line()
    first = pixels(chart)
    for one in (chart, fresh):
        one.line.set_data([0, 1], [1, 0])
    assert first.shape == (192, 288, 3)
    assert (pixels(chart) == pixels(fresh)).all() and not (pixels(chart) == first).all()


def test_a_change_of_layout_is_asked_for():
    chart = Line()
    before = pixels(chart)
    chart.place.set_xlim(0, 5)
    assert not chart.line.axes.get_xlim() == (0, 1)
    chart.lay_out_again()
    fresh = Line()
    fresh.place.set_xlim(0, 5)
    assert (pixels(chart) == pixels(fresh)).all() and not (pixels(chart) == before).all()
