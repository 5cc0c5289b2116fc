"""Figures of a training: they show what is known so far, and say it."""

from __future__ import annotations

import numpy as np
import pytest

from qrkd_lab.teaching.plots.curves import arms_so_far, matrices_so_far

pytestmark = pytest.mark.filterwarnings("error")
HISTORY = [
    {"epoch": 1, "total": 3.0, "task": 2.0, "kd": 1.0, "validation_accuracy": 0.5},
    {"epoch": 2, "total": 2.0, "task": 1.5, "kd": 0.5, "validation_accuracy": 0.75},
]


def lines(chart, title):
    (axes,) = (axes for axes in chart.axes if axes.get_title() == title)
    return [line.get_xydata().tolist() for line in axes.lines]


def test_scores_and_terms_are_drawn_as_far_as_they_are_known():
    pulses = {"kd": [(2.5, {"total": 1.8, "task": 1.2, "kd": 0.3})], "scratch": []}
    chart = arms_so_far({"kd": HISTORY, "scratch": []}, 5, pulses=pulses)
    assert "Epoch 2 of 5" in chart.alt and "kd  75.00 %" in chart.alt
    assert "loss terms total, task, kd" in chart.alt
    assert lines(chart, "")[0] == [[1, 50.0], [2, 75.0]]
    assert lines(chart, "kd loss")[0] == [[1, 1.0], [2, 0.5], [2.5, 0.3]]
    assert chart.axes[0].get_xlim() == (0, 5.2)


def test_before_the_first_epoch_it_shows_what_there_is():
    chart = arms_so_far({"qrkd": []}, 3, pulses={"qrkd": [(0.2, {"total": 2.0})]})
    assert not list(chart.axes[0].get_yticks()), "no score yet, so no scale"
    assert "Epoch 0 of 3" in chart.alt and lines(chart, "total loss")[0] == [[0.2, 2.0]]
    arms_so_far({"teacher": []}, 3).canvas.draw()
    with pytest.raises(ValueError, match="at least one arm"):
        arms_so_far({}, 3)


def test_a_long_training_is_shown_up_to_where_it_is():
    assert arms_so_far({"kd": HISTORY}, 1000).axes[0].get_xlim() == (0, 10)
    long = [{**HISTORY[0], "epoch": epoch} for epoch in range(1, 101)]
    assert arms_so_far({"kd": long}, 1000).axes[0].get_xlim() == (0, 130)


def test_perplexities_are_no_percentages():
    chart = arms_so_far({"kd": [{"epoch": 1, "validation_perplexity": 55.5}]}, 2,
                        "validation_perplexity")  # fmt: skip
    assert "kd  55.50." in chart.alt


def test_matrices_are_sorted_by_class_and_their_alignment_is_said():
    labels = np.array([1, 0, 1, 0])
    teacher = np.eye(4) + 0.1 * np.arange(16).reshape(4, 4) / 16
    chart = matrices_so_far(teacher, np.eye(4), "qrkd", labels, {"qrkd": [(0, 0.2), (1, 0.7)]}, 3)
    order = [1, 3, 0, 2]
    np.testing.assert_array_equal(
        chart.axes[0].images[0].get_array(), teacher[np.ix_(order, order)]
    )
    assert "qrkd with its teacher's: 0.70" in chart.alt and "sorted by class" in chart.alt
    text = matrices_so_far(teacher, np.eye(4), "qrkd", None, {}, 3)
    assert "nothing to align" in text.alt and "as they come" in text.alt
    np.testing.assert_array_equal(text.axes[0].images[0].get_array(), teacher)
