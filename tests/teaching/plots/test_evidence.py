"""Figures about evidence: false alarms, what goes with what, differences over epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from qrkd_lab.studies.records import Run, run_key
from qrkd_lab.teaching.plots.scores import against, difference_over_epochs, false_alarms
from qrkd_lab.teaching.plots.style import ARM_COLOURS

pytestmark = pytest.mark.filterwarnings("error")


def make_run(arm: str, seed: int, curve: list[float], **more: Any) -> Run:  # noqa: ANN401
    chosen = {"benchmark": "mnist", "scale": "smoke", "arm": arm, "seed": seed} | more
    history = [
        {"epoch": epoch, "total": 1.0, "validation_accuracy": value}
        for epoch, value in enumerate(curve, 1)
    ]
    return Run(
        settings=chosen, key=run_key(chosen, "ab"), versions={}, device="cpu", data={},
        metric={"name": "test_accuracy"}, parameters=8, history=history, metrics={}, seconds={},
        finished="",
    )  # fmt: skip


def test_false_alarms_are_drawn_in_per_cent() -> None:
    rates = {"uncorrected": {1: 0.05, 4: 0.18}, "Holm": {1: 0.05, 4: 0.05}}
    chart = false_alarms(rates)
    assert chart.axes[0].lines[0].get_ydata() == pytest.approx([5, 18])
    assert "4 equal arms with a false alarm: 18 % (uncorrected), 5 % (Holm)" in chart.alt


def test_against_draws_each_run_and_ranks_them() -> None:
    table = pd.DataFrame(
        {"arm": ["rkd", "rkd", "qrkd", "qrkd"], "dead": [0, 1, 2, 3],
         "test_accuracy": [0.9, 0.8, 0.7, 0.1]}
    )  # fmt: skip
    chart = against(table, "dead")
    first = chart.axes[0].collections[0]
    assert first.get_offsets().tolist() == [[0, 90], [1, 80]]
    assert "rank correlation -1.00" in chart.alt
    constant = against(table.assign(dead=1), "dead")
    assert "correlation" not in constant.alt
    with pytest.raises(ValueError, match="no column size; choose from arm, dead"):
        against(table, "size")


def test_differences_over_epochs_are_paired_by_seed() -> None:
    qrkd = [[0.5, 0.6, 0.9], [0.4, 0.6, 0.7], [0.6, 0.8, 0.8]]
    rkd = [[0.6, 0.6, 0.8], [0.5, 0.7, 0.6], [0.7, 0.6, 0.7]]
    runs = [make_run("qrkd", s, curve) for s, curve in enumerate(qrkd)]
    runs += [make_run("rkd", s, curve) for s, curve in reversed(list(enumerate(rkd)))]
    chart = difference_over_epochs(runs)
    axes = chart.axes[0]
    mean = next(line for line in axes.lines if line.get_linewidth() == 1.8)
    assert mean.get_ydata() == pytest.approx(100 * (np.array(qrkd) - np.array(rkd)).mean(0))
    assert mean.get_color() == ARM_COLOURS["qrkd"]
    thin = [line.get_ydata() for line in axes.lines if line.get_linewidth() == 0.8]
    assert np.array(thin) == pytest.approx(100 * (np.array(qrkd) - np.array(rkd)))
    assert "the mean's sign changes once over the epochs" in chart.alt
    with pytest.raises(ValueError, match="no validation_accuracy of rbf; arms here: rkd, qrkd"):
        difference_over_epochs(runs, "rbf")
