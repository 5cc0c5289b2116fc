"""Figures of knobs: what each does to the kernel matrix, and what it does to the student."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrkd_lab.kernels.knobs import MEASURES
from qrkd_lab.knob_study import knob_summary
from qrkd_lab.plots.diagnostics import COLOURS, MARKERS, legend_below
from qrkd_lab.plots.style import (
    INK,
    Chart,
    arm_style,
    draw_interval,
    draw_seeds,
    marker,
    need,
    panels,
    quiet,
    words,
)  # fmt: skip
from qrkd_lab.summary import units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["design_importances", "knob_effect", "knob_ranges", "knob_sweeps"]

YARDSTICK = "seed"  # redrawing the encoder's projection: no knob, but what chance does


def knob_sweeps(table: DataFrame, title: str | None = None) -> Chart:
    """What does each knob do to the matrix? A panel a knob, a line a measure, one scale.

    Args:
        table: of :func:`~qrkd_lab.kernels.knobs.one_at_a_time`.
        title: the message; without it, the knob that moves the alignment most.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    groups = list(table.groupby("knob", sort=False))
    chart, places = panels(len(groups), height=2.35, rest=1.0)
    for axes, (knob, part) in zip(places, groups, strict=True):
        quiet(axes, _named(knob), "", grid="y")
        at = np.arange(len(part))
        for measure, colour, mark in zip(MEASURES, COLOURS, MARKERS, strict=False):
            style = marker({"color": colour, "marker": mark}, 6)
            axes.plot(at, part[measure], lw=1.5, label=MEASURES[measure], **style)
        axes.set_xticks(at, [_short(value) for value in part["value"]])
        axes.set_xlim(-0.3, len(part) - 0.7)
        axes.set_ylim(-0.03, 1.05)
    legend_below(chart, places[0])
    moved = table.groupby("knob", sort=False)["alignment"].agg(np.ptp).sort_values()
    message = (
        f"Alignment with the classes: largest range over {_named(moved.index[-1]).lower()} "
        f"({moved.iloc[-1]:.2f}), smallest over {_named(moved.index[0]).lower()} "
        f"({moved.iloc[0]:.2f})"
    )
    said = "; ".join(f"{knob} {gap:.2f}" for knob, gap in moved.items())
    return chart.finish(
        title or message,
        f"{len(groups)} panels, a knob each, values from left to right; lines for "
        f"{', '.join(MEASURES.values())}, all from 0 to 1. Range of the alignment: {said}.",
    )


def knob_ranges(table: DataFrame, title: str | None = None) -> Chart:
    """How much does a knob move each measure? Bars, and the yardstick of a redrawn projection.

    Args:
        table: of :func:`~qrkd_lab.kernels.knobs.ranges`; a row ``seed``, if there is one, is drawn
            as a dashed line: what changes when nothing but the random projection does.
        title: the message; without it, how many knobs move the alignment more than the yardstick.

    Raises:
        ValueError: no knob.
    """
    knobs = table.drop(index=YARDSTICK, errors="ignore")
    need(len(knobs), "a table with knobs")
    chart = Chart(10.0, 0.32 * len(knobs) + 2.1)
    places = chart.subplots(1, len(MEASURES), sharey=True)
    at = np.arange(len(knobs))[::-1]
    for axes, (measure, label), colour in zip(places, MEASURES.items(), COLOURS, strict=False):
        quiet(axes, "Range", "", grid="x").set_title(label, fontsize=9.5, loc="left")
        axes.barh(at, knobs[measure], color=colour, height=0.65)
        if YARDSTICK in table.index:
            axes.axvline(table.loc[YARDSTICK, measure], color=INK, lw=1.2, ls="--")
        axes.set_xlim(0, max(1.0, 1.05 * table[measure].max()))
    places[0].set_yticks(at, [words(knob) for knob in knobs.index])
    said = "; ".join(f"{knob} {gap:.2f}" for knob, gap in knobs["alignment"].items())
    message = "How far each knob moves each measure"
    if YARDSTICK in table.index:
        chance = table.loc[YARDSTICK, "alignment"]
        more = [words(knob).lower() for knob, gap in knobs["alignment"].items() if gap > chance]
        named = f" ({', '.join(more)})" if more else ""
        message = (
            f"Knobs that move the alignment more than a redrawn projection does: {len(more)} of "
            f"{len(knobs)}{named}"
        )
        said += f"; a redrawn projection {chance:.2f}"
    return chart.finish(
        title or message,
        "Bars: largest minus smallest value of each measure over a knob's values; dashed: the same "
        f"over random projections. Of the alignment: {said}.",
    )


def design_importances(found: Mapping[str, DataFrame], title: str | None = None) -> Chart:
    """Which knobs predict each measure? Permutation importances, a panel a measure.

    Args:
        found: measure to table of :func:`~qrkd_lab.kernels.knobs.importances`.
        title: the message; without it, the first knob of each measure.

    Raises:
        ValueError: nothing found.
    """
    need(len(found), "a mapping from measures to importances")
    knobs = next(iter(found.values())).index
    chart = Chart(2.6 * len(found) + 1.4, 0.32 * len(knobs) + 2.2)
    places = np.atleast_1d(chart.subplots(1, len(found), sharey=True))
    at = np.arange(len(knobs))[::-1]
    first = {}
    for axes, (measure, table), colour in zip(places, found.items(), COLOURS, strict=False):
        quiet(axes, "Fall of R² when shuffled", "", grid="x")
        said = f"{MEASURES[measure]}\n(forest: R² = {table.attrs['r_squared']:.2f})"
        axes.set_title(said, fontsize=9.5, loc="left")
        bars = table["importance"], table["spread"]
        axes.barh(at, bars[0], xerr=bars[1], color=colour, height=0.65, error_kw={"lw": 1})
        axes.set_xlim(left=min(0.0, 1.1 * bars[0].min()))
        first[measure] = table["importance"].idxmax()
    places[0].set_yticks(at, [words(knob) for knob in knobs])
    listed = ", ".join(f"{measure} by {words(knob).lower()}" for measure, knob in first.items())
    rows = "; ".join(
        f"{measure}: " + ", ".join(f"{k} {v:.2f}" for k, v in table["importance"].items())
        for measure, table in found.items()
    )
    return chart.finish(
        title or f"With all knobs drawn at random, the forest tells {listed}",
        f"Permutation importances, bars with their standard deviation over shuffles. {rows}.",
    )


def knob_effect(
    table: DataFrame,
    metrics: Sequence[str] = ("test_accuracy", "test_agreement"),
    reference: str = "rkd",
    arm: str = "qrkd",
    title: str | None = None,
) -> Chart:
    """What does a knob do to the student? Paired differences to a reference at each value.

    Args:
        table: of :func:`~qrkd_lab.knob_study.sweep_students`, of one knob.
        metrics: a panel each.
        reference, arm: names, for the labels and the colour.
        title: the message; without it, in how many values the interval excludes 0.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    chart = Chart(4.6 * len(metrics) + 0.4, 4.2)
    said, told = [], []
    for axes, metric in zip(np.atleast_1d(chart.subplots(1, len(metrics))), metrics, strict=True):
        found = knob_summary(table, metric)
        factor, unit = units(metric)
        _draw_effect(axes, table, metric, found, arm, factor)
        name, points = words(metric), " points" if unit else ""
        quiet(
            axes,
            words(table["knob"].iloc[0]),
            f"{name} minus {reference}{',' + points if points else ''}",
        )
        clear = int(((found["low"] > 0) | (found["high"] < 0)).sum())
        told.append(f"{clear} of {len(found)} values for {name.lower()}")
        said += [
            f"{name} at {_short(value)}: {factor * row['mean']:+.2f}{points}"
            + (
                ""
                if math.isnan(row["low"])
                else f" [{factor * row['low']:+.2f}, {factor * row['high']:+.2f}]"
            )
            for value, row in found.iterrows()
        ]
    knob = words(table["knob"].iloc[0])
    message = f"{knob}: intervals of the difference to {reference} exclude 0 at {', '.join(told)}"
    return chart.finish(
        title or message,
        f"Against {words(table['knob'].iloc[0]).lower()}, seeds as points, means with 95 % "
        f"intervals, no correction for several values. {'; '.join(said)}.",
    )


def _draw_effect(
    axes: Axes, table: DataFrame, metric: str, found: DataFrame, arm: str, factor: float
) -> None:
    """Seeds, mean and interval at each value, and the line of no difference."""
    style = arm_style(arm)
    axes.axhline(0, color=INK, lw=1)
    names = [repr(value) for value in found.index]
    for at, (name, row) in enumerate(zip(names, found.itertuples(), strict=True)):
        own = [repr(value) == name for value in table["value"]]
        d = factor * table[own].sort_values("seed")[f"{metric}_difference"].to_numpy(dtype=float)
        aside = np.linspace(-0.18, 0.02, len(d)) if len(d) > 1 else np.zeros(1)
        draw_seeds(axes, at + aside, d, style)
        draw_interval(
            axes, at + 0.2, (factor * row.mean, factor * row.low, factor * row.high), style
        )
    axes.set_xticks(range(len(names)), [_short(value) for value in found.index])
    axes.set_xlim(-0.5, len(names) - 0.4)


def _named(knob: str) -> str:
    return "Random projection (seed)" if knob == YARDSTICK else words(knob)


def _short(value: Any) -> str:  # noqa: ANN401
    """A value as a tick: few digits, "rule" for None."""
    if value is None:
        return "rule"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)
