"""Figures about language models."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.records import Run
from qrkd_lab.teaching.plots.curves import effect_sizes, next_word_bars, window_map


def study(scores):
    """Arm -> perplexity, a seed each."""
    base = Run(
        settings={"benchmark": "ptb", "scale": "laptop"}, key="0", versions={}, device="cpu",
        data={}, metric={"name": "test_perplexity", "higher_is_better": False}, parameters=1,
        history=[], metrics={}, seconds={}, finished="",
    )  # fmt: skip
    return Study(tuple(
        replace(base, settings={**base.settings, "arm": arm, "seed": seed},
                metrics={"test_perplexity": value})
        for arm, values in scores.items() for seed, value in enumerate(values)
    ))  # fmt: skip


def test_windows_are_drawn_as_they_score():
    chart = window_map(10, 4, 2)
    (axes,) = chart.axes
    scored = [bar for bar in axes.patches if bar.get_facecolor()[2] > 0.5 and bar.get_width()]
    blue = [bar for bar in scored if bar.get_facecolor()[0] < 0.1]
    assert sum(bar.get_width() for bar in blue) == 10
    assert [bar.get_x() for bar in blue] == [0, 4, 6, 8]
    assert "4 windows of 4 tokens score each of 10 tokens once" in chart.alt
    assert "window 2 sees tokens 2 to 5 and scores the last 2" in chart.alt


@pytest.mark.parametrize(("count", "length", "stride"), [(10, 4, 5), (3, 4, 2), (10, 4, 0)])
def test_windows_with_gaps_are_refused(count, length, stride):
    with pytest.raises(ValueError, match="1 <= stride <= length <= count"):
        window_map(count, length, stride)


def test_next_words_go_by_the_first_model():
    truth = {"fish": 0.5, "\n": 0.3, "bread": 0.2}
    chart = next_word_bars({"truth": truth, "teacher": {"bread": 0.9, " fish": 0.1}}, words=2)
    first, second = chart.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["fish", "(end)"]
    assert [bar.get_width() for bar in second.patches] == [0, 0]
    assert "all others 0.20" in first.get_title() and "all others 1.00" in second.get_title()
    assert chart.alt.startswith("Probability of “fish”: truth 0.50, teacher 0.00")


def test_next_words_of_nobody_are_refused():
    for beliefs in ({}, {"teacher": {}}):
        with pytest.raises(ValueError, match="nothing to draw"):
            next_word_bars(beliefs)


def test_effects_have_sizes_and_signs():
    scores = {"scratch": (100, 100), "kd": (60, 58), "rkd": (59, 57), "qrkd": (59.1, 57.1)}
    chart = effect_sizes(study(scores))
    (axes,) = chart.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "kd − scratch", "rkd − kd", "qrkd − rkd",
    ]  # fmt: skip
    assert "kd - scratch +41.01 %, seeds +40.00, +42.00" in chart.alt
    assert "qrkd - rkd -0.17 %" in chart.alt
    assert chart.alt.startswith("kd − scratch is +41.0 %, qrkd − rkd is -0.17 %")
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata()[0] for line in hollow] == [2.2, 2.2, 2], "both seeds and their mean"


def test_an_effect_of_nothing_is_drawn_too():
    chart = effect_sizes(study({"rkd": (50.0,), "qrkd": (50.0,)}), [("qrkd", "rkd")])
    assert "qrkd - rkd +0.00 %" in chart.alt


def test_steps_without_their_arms_are_refused():
    with pytest.raises(ValueError, match="it"):
        effect_sizes(study({"rkd": (50.0,), "kd": (51.0,)}), [("qrkd", "rkd")])
    with pytest.raises(ValueError, match="nothing to draw"):
        effect_sizes(study({"rkd": (50.0,)}), [])
