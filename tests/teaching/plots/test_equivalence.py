"""Figures of null results: what they draw is what was found."""

from __future__ import annotations

import numpy as np
import pytest

from qrkd_lab.studies.statistics import equivalence, together
from qrkd_lab.teaching.plots.scores import equivalence_bars

pytestmark = pytest.mark.filterwarnings("error")
WAVE = np.array([-1.0, 0.5, 1.0, -0.5, 0.2])
FOUND = {
    "mnist": equivalence(0.1 * WAVE, 0.5),
    "ptb": equivalence(3 * WAVE, 0.5),
    "imdb": equivalence(1 + 0.1 * WAVE, 0.5),
}


def test_bars_are_the_two_intervals_and_the_band_is_the_margin():
    figure = equivalence_bars(FOUND)
    axes = figure.axes[0]
    zero, thin, thick, mean = axes.lines[:4]
    one = FOUND["mnist"]
    assert list(thin.get_xdata()) == [one.low, one.high]
    assert list(thick.get_xdata()) == [one.inner_low, one.inner_high]
    assert mean.get_xdata()[0] == pytest.approx(one.mean) and list(zero.get_xdata()) == [0, 0]
    band = axes.patches[0]
    assert band.get_x() == -0.5 and band.get_width() == 1.0
    assert [text.get_text() for text in axes.texts] == ["equivalent", "undecided", "different"]
    assert "Equivalent on 1; different on 1; undecided on 1 of 3 lines" in figure.alt
    assert "imdb +1.0" in figure.alt
    assert "verdicts corrected for 3 lines, Holm" in axes.get_xlabel()
    assert equivalence_bars(together(FOUND)).alt == figure.alt, "corrected once"


def test_lines_that_only_hold_alone_are_undecided_together():
    near = equivalence(0.5 * WAVE, 0.5)
    assert near.verdict == "equivalent"
    assert "Undecided on 6 of 6 lines" in equivalence_bars({str(i): near for i in range(6)}).alt


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: equivalence_bars({}), "nothing to draw"),
        (lambda: equivalence_bars(FOUND | {"x": equivalence(WAVE, 1.0)}), "one margin"),
    ],
)
def test_wrong_input_is_told(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()
