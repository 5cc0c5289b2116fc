"""Curves draw what the histories hold, seed by seed, as far as it is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from qrkd_lab.teaching.plots.curves import (
    arms_so_far,
    differences_over_epochs,
    learning_curves,
    live_curves,
    loss_terms,
    matrices_so_far,
)
from qrkd_lab.teaching.plots.style import ARM_COLOURS
from tests.teaching.plots.test_scores import STUDY, TERMS, make_run

pytestmark = pytest.mark.filterwarnings("error")


def test_curves_draw_the_mean_only_where_every_seed_has_one():
    runs = [make_run("kd", 0, epochs=4), make_run("kd", 1, epochs=2)]
    lines = learning_curves(runs).axes[0].lines
    first, second = ([100 * e["validation_accuracy"] for e in run.history] for run in runs)
    (mean,) = (line.get_ydata() for line in lines if line.get_linewidth() > 1)
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=False)])
    thin = [line.get_ydata() for line in lines if line.get_linewidth() < 1]
    assert thin == [pytest.approx(first), pytest.approx(second)]


def test_a_loss_term_is_called_a_loss_and_small_numbers_are_told_apart():
    figure = learning_curves(STUDY, "kernel")
    ends = [np.mean([r.history[-1]["kernel"] for r in STUDY if r.settings["arm"] == arm])
            for arm in ("qrkd", "shuffled")]  # fmt: skip
    assert figure.get_suptitle() == "Kernel loss over epochs"
    assert figure.axes[0].get_ylabel() == "Kernel loss"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [
        f"{arm}  {end:.3g}" for arm, end in zip(("qrkd", "shuffled"), ends, strict=True)
    ]


def test_curves_without_a_shared_epoch_are_still_drawn(tmp_path: Path):
    late = replace(make_run("kd", 1), history=[{"epoch": 9, "validation_accuracy": 0.5}])
    figure = learning_curves([make_run("kd", 0), late])
    assert figure.get_suptitle() == "Validation accuracy over epochs"
    figure.savefig(tmp_path / "drawn.png")
    assert np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB")).std() > 5


def test_loss_terms_have_a_panel_each():
    figure = loss_terms(STUDY)
    assert [axes.get_title() for axes in figure.axes] == [*TERMS, "total"]
    kernel = figure.axes[4]
    colours = {to_hex(line.get_color()).upper() for line in kernel.lines}
    assert colours == {ARM_COLOURS["qrkd"], ARM_COLOURS["shuffled"]}
    assert "kernel of qrkd from 0.0" in figure.alt


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: learning_curves([]), "expected runs"),
        (lambda: learning_curves(STUDY, "f1"), "'f1'; choose from task"),
        (
            lambda: learning_curves([*STUDY, make_run("kd", 0, scale="paper")]),
            "one benchmark",
        ),
        (lambda: loss_terms([]), "expected runs"),
        (lambda: loss_terms([replace(STUDY[0], history=[])]), "expected a loss term"),
    ],
)
def test_wrong_input_is_told(draw: Any, says: str):  # noqa: ANN401
    with pytest.raises(ValueError, match=says):
        draw()


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
    few = arms_so_far({"kd": HISTORY}, 5, others={"kd": seeds[:2]})
    assert not few.axes[0].collections, "two seeds give no interval"


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
    with pytest.raises(ValueError, match="expected runs of kd"):
        differences_over_epochs(runs, "kd")
