"""Panels draw each arm's differences on its benchmark's own scale, and say them."""

from __future__ import annotations

import pandas as pd
import pytest

from qrkd_lab.teaching.plots.style import ARM_COLOURS, differences_by_arm

pytestmark = pytest.mark.filterwarnings("error")
FOUND = {
    "mnist": {"qrkd": pd.Series([1.0, 2, 3]), "rbf": pd.Series([-1.0, 1, 0])},
    "ptb": {"qrkd": pd.Series([0.5, 0.5])},
}


def test_a_panel_a_benchmark_a_line_an_arm() -> None:
    chart = differences_by_arm(FOUND, "Better by", "All is well")
    names = [axes.get_title(loc="left") for axes in chart.axes]
    assert names == ["mnist", "ptb"]
    labels = [[tick.get_text() for tick in axes.get_yticklabels()] for axes in chart.axes]
    assert labels == [["qrkd", "rbf"], ["qrkd"]]
    means = [bar.lines[0].get_xdata()[0] for bar in chart.axes[0].containers]
    assert means == [2.0, 0.0]
    assert chart.axes[0].containers[0].lines[0].get_color() == ARM_COLOURS["qrkd"]


def test_the_description_has_the_ends_and_counts_intervals_but_none_of_two_seeds() -> None:
    found = FOUND | {"imdb": {"kd": pd.Series([2.0, 2.1, 2.2]), "rbf": pd.Series([-1.0, 1, 3])}}
    assert differences_by_arm(found, "Better by", "All is well").alt == (
        "All is well. Better by, an arm per line, each interval for itself. "
        "mnist: +0 (rbf) to +2 (qrkd); 0 of 2 intervals exclude 0. "
        "ptb: +0.5 (qrkd) to +0.5 (qrkd); 0 of 1 intervals exclude 0. "
        "imdb: +1 (rbf) to +2.1 (kd); 1 of 2 intervals exclude 0."
    )


def test_there_must_be_something_to_draw() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        differences_by_arm({}, "Better by", "None")
