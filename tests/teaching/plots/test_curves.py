"""Curves draw what the histories hold, seed by seed, as far as it is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from qrkd_lab.teaching.plots.curves import (
    arms_so_far,
    differences_over_epochs,
    learning_curves,
    live_curves,
)
from qrkd_lab.teaching.plots.style import ARM_COLOURS
from tests.teaching.plots.test_scores import make_run

pytestmark = pytest.mark.filterwarnings("error")


def test_curves_draw_the_mean_only_where_every_seed_has_one():
    runs = [make_run("kd", 0, epochs=4), make_run("kd", 1, epochs=2)]
    lines = learning_curves(runs).axes[0].lines
    first, second = ([100 * e["validation_accuracy"] for e in run.history] for run in runs)
    (mean,) = (line.get_ydata() for line in lines if line.get_linewidth() > 1)
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=False)])
    thin = [line.get_ydata() for line in lines if line.get_linewidth() < 1]
    assert thin == [pytest.approx(first), pytest.approx(second)]


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


def test_other_seeds_are_a_band_and_pulls_are_bars_with_the_dose():
    seeds = [[{"epoch": 1, "validation_accuracy": value}] for value in (0.5, 0.6, 0.7)]
    pulls = {"kd": {"task": 3.0, "kd": 1.0}, "qrkd": {"task": 1.0, "kernel": 1.0, "dose": 0.25}}
    chart = arms_so_far({"kd": HISTORY, "qrkd": []}, 5, others={"kd": seeds}, pulls=pulls)
    (band,) = chart.axes[0].collections
    half = 0.1 / 3**0.5 * 4.302653  # t of 2 degrees of freedom
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert (low, high) == pytest.approx((100 * (0.6 - half), 100 * (0.6 + half)))
    assert "the mean of 3 other seeds" in chart.alt and "dose: qrkd 0.25" in chart.alt
    bars = chart.axes[-1]
    assert [t.get_text() for t in bars.get_xticklabels()] == ["task", "kd", "kernel"]
    assert sorted(bar.get_height() for bar in bars.patches if bar.get_height()) == [25, 50, 50, 75]
    weak = {"kd": {"task": 995.6, "kd": 4.4}}
    few = arms_so_far({"kd": HISTORY}, 5, others={"kd": seeds[:2]}, pulls=weak)
    assert "kd of kd 0.4 %" in few.alt, "one digit, or labels of neighbours touch"
    assert not few.axes[0].collections, "two seeds give no interval"


def test_live_curves_have_a_panel_per_number_and_end_at_the_last_step():
    rows = [{"step": s, "arm": a, "error": 9 - s, "far": k / (1 + s)}
            for s in (0, 4) for k, a in enumerate(("kd", "qrkd"), 1)]  # fmt: skip
    figure = live_curves(rows, 8, {"error": "Error, %", "far": "Distance"}, log=["far"])
    left, right = figure.axes
    assert left.get_title() == "Error, %"
    assert (left.get_yscale(), right.get_yscale()) == ("linear", "log")
    assert left.get_xlim()[1] == pytest.approx(8.16)
    assert [line.get_ydata().tolist() for line in right.lines[:2]] == [[1, 0.2], [2, 0.4]]
    assert to_hex(right.lines[1].get_color()).upper() == ARM_COLOURS["qrkd"]
    assert figure.get_suptitle() == "Distance: kd 0.2, qrkd 0.4 after 4 of 8 steps"


def test_differences_over_epochs_are_paired_and_perplexities_are_ratios():
    runs = [make_run(arm, seed, epochs=2) for arm in ("rkd", "qrkd", "teacher") for seed in (0, 1)]
    ends = {run.name: run.history[-1]["validation_accuracy"] for run in runs}
    apart = np.mean([100 * (ends[f"qrkd seed {s}"] - ends[f"rkd seed {s}"]) for s in (0, 1)])
    figure = differences_over_epochs(runs)
    assert figure.axes[0].lines[0].get_ydata()[-1] == pytest.approx(apart)
    assert [t.get_text() for t in figure.legends[0].get_texts()] == [f"qrkd  {apart:+.2f}"]
    metric = {"name": "test_perplexity", "higher_is_better": False}
    texts = [
        replace(run, metric=metric, history=[{"epoch": 1, "validation_perplexity": value}])
        for run, value in ((runs[0], 50.0), (runs[2], 49.0))
    ]
    assert "further than 2.00 % from rkd" in differences_over_epochs(texts).get_suptitle()
