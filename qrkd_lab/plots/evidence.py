"""Figures about evidence itself: false alarms, and do two quantities go together?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy import stats

from qrkd_lab.plots.curves import curves_of
from qrkd_lab.plots.diagnostics import COLOURS, MARKERS
from qrkd_lab.plots.style import (
    INK,
    Chart,
    arm_style,
    marker,
    need,
    quiet,
    words,
)
from qrkd_lab.report import order_arms
from qrkd_lab.statistics import FEWEST, interval
from qrkd_lab.summary import in_logs, own_unit, units

if TYPE_CHECKING:
    from qrkd_lab.runs import Run

__all__ = ["against", "difference_over_epochs", "false_alarms"]


def false_alarms(
    rates: Mapping[str, Mapping[int, float]], level: float = 0.05, title: str | None = None
) -> Chart:
    """How often does at least one of k equal arms look different? A line a way of testing.

    Args:
        rates: name of the way to test, to number of arms k, to share of studies with an alarm.
        level: that each single test was made at; drawn as a dashed line.
        title: the message; without it, the rates at the most arms.

    Raises:
        ValueError: nothing to draw.
    """
    need(len(rates), 'a mapping such as {"uncorrected": {1: 0.05, 2: 0.09}}')
    chart = Chart(7.6, 4.2)
    what = "Studies with a false alarm, %"
    axes = quiet(chart.subplots(), "Arms compared with the reference", what)
    ends = []
    for i, (name, by_count) in enumerate(rates.items()):
        style = {"color": COLOURS[(1, 0, 2)[i % 3]], "marker": MARKERS[i % len(MARKERS)]}
        values = [100 * rate for rate in by_count.values()]
        axes.plot(list(by_count), values, lw=1.8, label=name, **marker(style, 7))
        ends.append(f"{values[-1]:.0f} % ({name})")
    axes.axhline(100 * level, color=INK, lw=1, ls="--", label=f"{100 * level:g} %, as promised")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    chart.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    most = max(max(by_count) for by_count in rates.values())
    message = f"Studies of {most} equal arms with a false alarm: {', '.join(ends)}"
    said = "; ".join(
        f"{name}: " + ", ".join(f"{100 * rate:.1f} % with {k}" for k, rate in by_count.items())
        for name, by_count in rates.items()
    )
    return chart.finish(title or message, f"Share of studies with a false alarm. {said}.")


def against(
    results: pd.DataFrame, x: str, y: str = "test_accuracy", title: str | None = None
) -> Chart:
    """Do two quantities of the runs go together? One point a run, in its arm's style.

    Args:
        results: the table of :func:`qrkd_lab.report.results`, with columns of your own if you like.
        x, y: two of its columns of numbers.
        title: the message; without it, Spearman's rank correlation over all points.

    Raises:
        ValueError: a column that is not there, or no row with both.
    """
    if absent := [name for name in (x, y) if name not in results]:
        raise ValueError(f"no column {', '.join(absent)}; choose from {', '.join(results)}.")
    known = results.dropna(subset=[x, y])
    need(len(known), f"rows that have both {x} and {y}")
    arms = order_arms(known["arm"])
    chart = Chart(7.8, 4.2)
    labels = [words(name) + units(name)[1].replace(" ", ", ") for name in (x, y)]
    axes = quiet(chart.subplots(), *labels, grid="both")
    for arm in arms:
        rows = known[known["arm"] == arm]
        across, up = (rows[name].astype(float) * units(name)[0] for name in (x, y))
        axes.scatter(across, up, s=34, alpha=0.75, lw=0, label=arm, **arm_style(arm))
    chart.legend(loc="outside right center", frameon=False, fontsize=10)
    fixed = min(known[x].nunique(), known[y].nunique()) < 2 or len(known) < FEWEST
    rank = math.nan if fixed else stats.spearmanr(known[x], known[y]).statistic
    message = f"{words(y)} against {words(x).lower()}, {len(known)} runs"
    if not fixed:
        message += f": rank correlation {rank:+.2f}"
    return chart.finish(
        title or message,
        f"One point a run of {', '.join(arms)}. {labels[0]} from {known[x].min():.3g} to "
        f"{known[x].max():.3g}, {labels[1]} from {known[y].min():.4g} to {known[y].max():.4g} "
        "(as fractions where in %).",
    )


def difference_over_epochs(
    runs: Sequence[Run],
    arm: str = "qrkd",
    reference: str = "rkd",
    value: str | None = None,
    title: str | None = None,
) -> Chart:
    """Would another number of epochs have told another story? Paired differences, epoch by epoch.

    Args:
        runs: of one benchmark and scale, with both arms.
        arm, reference: names of arms.
        value: a column of their histories; None: the runs' own metric on the validation part.
        title: the message; without it, how often the mean changes its sign.

    Raises:
        ValueError: no runs, an arm that is not there, or no history that holds ``value``.
    """
    curves, value = curves_of(runs, value)
    if absent := [name for name in (arm, reference) if name not in curves]:
        raise ValueError(f"no {value} of {', '.join(absent)}; arms here: {', '.join(curves)}.")
    logs, factor, unit = in_logs(value), units(value)[0], own_unit(value)
    first, second = (np.log(curves[of]) if logs else curves[of] for of in (arm, reference))
    table = (first - second).dropna(how="all").dropna(axis=1)
    need(table.size, f"seeds that both {arm} and {reference} have")
    rows = np.array([[row.mean(), *interval(row.to_numpy(), 0.95)] for _, row in table.iterrows()])
    if logs:  # ratios, in per cent
        table, rows, factor, unit = np.expm1(table), np.expm1(rows), 100, "% of its perplexity"
    table, rows = factor * table, factor * rows
    style = arm_style(arm)
    chart = Chart(8.0, 4.2)
    axes = quiet(chart.subplots(), "Epoch", f"{arm} minus {reference}, {unit}")
    axes.plot(table.index, table, color=style["color"], lw=0.8, alpha=0.35, zorder=1)
    axes.plot(table.index, rows[:, 0], lw=1.8, zorder=3, **marker(style, 8))
    axes.fill_between(table.index, rows[:, 1], rows[:, 2], color=style["color"], alpha=0.13, lw=0)
    axes.axhline(0, color=INK, lw=1.2, zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    signs = np.sign(rows[:, 0][rows[:, 0] != 0])
    flips = int((signs[1:] != signs[:-1]).sum())
    changes = {0: "never changes", 1: "changes once"}.get(flips, f"changes {flips} times")
    name = words(value).lower()
    ends = f"{rows[0, 0]:+.2f} after epoch {table.index[0]}, {rows[-1, 0]:+.2f} after the last"
    return chart.finish(
        title or f"{arm} minus {reference} in {name}: the mean's sign {changes} over the epochs",
        f"Paired difference in {name} over epochs, a thin line a seed, the mean with a band of its "
        f"95 % interval: {ends}.",
    )
