"""Forest plots draw what the studies say: a line each, right is better, p at the edge."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from qrkd_lab.studies.statistics import detectable_difference, seeds_needed
from qrkd_lab.studies.summary import improvement_table
from qrkd_lab.teaching.plots.scores import detectable_curve, effect_sizes, improvements
from qrkd_lab.teaching.plots.style import ARM_COLOURS, Chart

pytestmark = pytest.mark.filterwarnings("error")
_SPEC = importlib.util.spec_from_file_location(
    "made", Path(__file__).parents[1] / "test_evidence.py"
)
made = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(made)
STUDIES = {"mnist": made.IMAGES, "ptb": made.TEXT}


def drawn_means(chart: Chart) -> list[float]:
    return [container.lines[0].get_xdata()[0] for container in chart.axes[0].containers]


def test_a_line_a_benchmark_with_the_numbers_of_the_table() -> None:
    chart, table = improvements(STUDIES), improvement_table(STUDIES)
    axes = chart.axes[0]
    assert drawn_means(chart) == pytest.approx(list(table["improvement"]))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [
        "mnist\naccuracy, 4 seeds",
        "ptb\nperplexity (less is better), 3 seeds",
    ]
    said = " ".join(text.get_text() for text in axes.texts)
    assert "+1.25 points" in said and "-5.00 ppl" in said and "better →" in said
    assert f"chance to win a new seed {table.loc['ptb', 'p_win']:.2f}" in said
    assert axes.containers[0].lines[0].get_color() == ARM_COLOURS["qrkd"]
    assert "mnist +1.36 %" in chart.alt


def test_it_says_that_p_is_corrected_and_the_intervals_are_not() -> None:
    chart = improvements(STUDIES)
    assert "95 % intervals, each for its line alone" in chart.axes[0].get_xlabel()
    assert "p (Holm, 2)" in {text.get_text().split(", ", 1)[-1] for text in chart.axes[0].texts}
    assert "each for its line alone; p corrected for 2 (Holm)" in chart.alt


def test_digits_are_drawn_and_do_not_count() -> None:
    chart = improvements({"digits": made.IMAGES, **STUDIES})
    assert chart.alt.split(". One")[0] == improvements(STUDIES).alt.split(". One")[0]
    assert len(chart.axes[0].containers) == 3
    assert "(does not count)" in chart.axes[0].texts[3].get_text()


def test_the_title_says_where_it_is_better_or_that_none_is_sure() -> None:
    assert improvements({"ptb": made.TEXT}).alt.startswith("qrkd is better than rkd on 1 of 1 ")
    assert improvements({"mnist": made.IMAGES}).alt.startswith(
        "qrkd is ahead of rkd on 1 of 1 benchmark, on none by more than these seeds could show"
    )
    back = improvements({"ptb": made.TEXT}, "rkd", "qrkd")
    assert back.alt.startswith("rkd is worse than qrkd on 1 of 1 benchmark.")
    both = improvements(STUDIES).alt
    assert "1 of 2 benchmarks; on the others these seeds cannot tell" in both


def test_two_seeds_are_drawn_without_an_interval() -> None:
    short = made.make_study(
        "imdb", "test_accuracy", True, {"rkd": made.RKD[:2], "qrkd": made.QRKD[:2]}
    )
    chart = improvements({"imdb": short})
    assert "no interval" in chart.alt and "nan" not in chart.alt and "chance" not in chart.alt
    assert chart.alt.startswith("qrkd is ahead of rkd on 1 of 1 benchmark, with too few seeds")


# Sizes and seeds


def test_sizes_are_those_of_the_table_and_keep_their_signs() -> None:
    chart = effect_sizes(made.TEXT, [("qrkd", "rkd"), ("rkd", "qrkd")])
    drawn = [line.get_xdata()[0] for line in chart.axes[0].lines[:2]]
    assert drawn[0] == improvement_table(STUDIES).loc["ptb", "improvement"] > 0 > drawn[1]
    assert f"qrkd \u2212 rkd is {drawn[0]:+.1f} %" in chart.alt
    with pytest.raises(ValueError, match="rbf"):
        effect_sizes(made.TEXT, [("qrkd", "rbf")])


def test_the_curve_falls_with_seeds_and_names_the_noisiest() -> None:
    figure = detectable_curve({"mnist": 0.1, "ptb": 2.0}, 0.5)
    line = figure.axes[0].lines[1]
    wanted = [detectable_difference(2.0, int(seeds)) for seeds in line.get_xdata()]
    assert line.get_ydata() == pytest.approx(wanted)
    assert f"on ptb, the noisiest here, takes {seeds_needed(0.5, 2.0)} seeds" in figure.alt
    with pytest.raises(ValueError, match="nothing to draw"):
        detectable_curve({}, 0.5)
