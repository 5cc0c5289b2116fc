"""Curves over epochs: how the arms learned, and which terms of the loss fell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.ticker import MaxNLocator

from qrkd_lab.plots.style import Chart, arm_style, draw_legend, marker, need, panels, quiet, words
from qrkd_lab.report import order_arms
from qrkd_lab.summary import units

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qrkd_lab.runs import Run

__all__ = ["curves_of", "learning_curves", "loss_terms"]

TERMS = ("total", "task", "kd", "distance", "angle", "kernel")
NOT_TERMS = ("epoch", "seconds", "learning_rate")


def learning_curves(
    runs: Sequence[Run], value: str | None = None, title: str | None = None
) -> Chart:
    """How did the arms learn? One line an arm (the mean over seeds), its seeds as thin lines.

    Args:
        runs: of one benchmark and scale.
        value: a column of their histories; None: the runs' own metric on the validation part.
        title: the message; without it, where the arms end.

    Raises:
        ValueError: no runs, several benchmarks, or no run whose history holds ``value``.
    """
    found, value = curves_of(runs, value)
    curves = {arm: curve * units(value)[0] for arm, curve in found.items()}
    unit = units(value)[1]
    name = words(value) + (" loss" if value in TERMS else "")
    digits = ".3g" if value in TERMS else ".2f"
    chart = Chart(8.0, 4.4)
    axes = quiet(chart.subplots(), "Epoch", name + unit.replace(" ", ", "))
    _draw_curves(axes, curves)
    last = {arm: curve.mean(axis=1, skipna=False).dropna() for arm, curve in curves.items()}
    ends = {arm: f"{mean.iloc[-1]:{digits}}{unit}" for arm, mean in last.items() if len(mean)}
    draw_legend(chart, {arm: f"{arm}  {ends.get(arm, '')}" for arm in curves})
    values = [last[arm].iloc[-1] for arm in ends if arm != "teacher" or len(ends) == 1]
    message = f"{name} over epochs"
    if values:
        low, high = min(values), max(values)
        message = f"{name} of the arms ends between {low:{digits}} and {high:{digits}}{unit}"
    said = "; ".join(f"{arm} {end} after epoch {last[arm].index[-1]}" for arm, end in ends.items())
    return chart.finish(
        title or message,
        f"{name} over epochs, a thick line for each arm's mean over seeds and a thin line "
        f"for each seed. Means at the end: {said}.",
    )


def curves_of(runs: Sequence[Run], value: str | None = None) -> tuple[dict[str, pd.DataFrame], str]:
    """The curves that are drawn, as tables: arm to a row an epoch and a column a seed.

    Args:
        runs: of one benchmark and scale.
        value: a column of their histories; None: the runs' own metric on the validation part.

    Returns:
        The tables, fractions rather than per cent, and the name of the column.

    Raises:
        ValueError: no runs, several benchmarks, or no run whose history holds ``value``.
    """
    runs = _one_study(runs)
    value = value or f"validation_{runs[0].metric['name'].removeprefix('test_')}"
    return _curves(runs, value), value


def loss_terms(runs: Sequence[Run], title: str | None = None) -> Chart:
    """Which terms of the loss fall? One panel a term, each with its own scale.

    Raises:
        ValueError: no runs, several benchmarks, or no loss term in any history.
    """
    runs = _one_study(runs)
    names = dict.fromkeys(name for run in runs for epoch in run.history for name in epoch)
    skip = ("train_", "validation_", "test_", *NOT_TERMS)
    terms = [name for name in names if not name.startswith(skip)]
    terms = sorted(terms, key=lambda name: name == "total")
    need(len(terms), "a loss term (task, kd, distance, ...) in the runs' histories")
    chart, places = panels(len(terms), height=2.4, rest=0.8)
    arms, said, rising = [], [], []
    for axes, term in zip(places, terms, strict=True):
        curves = _curves(runs, term)
        _draw_curves(quiet(axes, "Epoch", "Loss"), curves)
        axes.set_title(term, fontsize=11)
        axes.set_ylim(bottom=min(0.0, *(curve.min().min() for curve in curves.values())))
        arms += curves
        for arm, curve in curves.items():
            mean = curve.mean(axis=1)
            said.append(f"{term} of {arm} from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}")
            rising += [f"{term} of {arm}"] if mean.iloc[-1] > mean.iloc[0] else []
    draw_legend(chart, {arm: arm for arm in order_arms(arms)})
    message = "Every loss term ends below where it began"
    if rising:
        message = f"Not every loss term falls: {', '.join(rising[:3])} ended higher than it began"
    return chart.finish(title or message, f"Loss terms over epochs: {'; '.join(said)}.")


def _one_study(runs: Sequence[Run]) -> list[Run]:
    runs = list(runs)
    need(len(runs), "runs, e.g. those of runs.read_runs(folder)")
    homes = sorted({f"{run.settings['benchmark']} {run.settings['scale']}" for run in runs})
    if len(homes) > 1:
        raise ValueError(f"expected the runs of one benchmark and scale, got {', '.join(homes)}.")
    return runs


def _curves(runs: Sequence[Run], value: str) -> dict[str, pd.DataFrame]:
    """For each arm that has the value: a row an epoch, a column a run."""
    runs = _one_study(runs)
    found: dict[str, list[pd.Series]] = {}
    for run in runs:
        points = {e["epoch"]: e[value] for e in run.history if e.get(value) is not None}
        if points:
            series = pd.Series(points, name=run.settings["seed"], dtype=float)
            found.setdefault(run.settings["arm"], []).append(series)
    if not found:
        names = dict.fromkeys(n for run in runs for e in run.history for n in e if n != "epoch")
        raise ValueError(f"no run's history holds {value!r}; choose from {', '.join(names)}.")
    return {arm: pd.concat(found[arm], axis=1).sort_index() for arm in order_arms(found)}


def _draw_curves(axes: Axes, curves: Mapping[str, pd.DataFrame]) -> None:
    for i, (arm, curve) in enumerate(curves.items()):
        style, mean = arm_style(arm), curve.mean(axis=1, skipna=False)  # where every seed has one
        axes.plot(curve.index, curve, color=style["color"], lw=0.7, alpha=0.3, zorder=1)
        axes.plot(mean.index, mean, color=style["color"], lw=1.8, zorder=2)
        step = max(3, len(mean) // 5)  # arms that lie on each other show their markers in turn
        shown = mean.iloc[i % step :: step]
        axes.plot(shown.index, shown, ls="", zorder=3, **marker(style))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
