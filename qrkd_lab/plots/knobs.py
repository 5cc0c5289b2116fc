"""Figures of knobs: what each does to the kernel matrix, and what it does to the student."""

from __future__ import annotations

import math
import textwrap
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

__all__ = ["design_importances", "knob_changes", "knob_effect", "knob_sweeps"]

PROJECTION = "seed"  # redrawing the encoder's projection: no knob, but what chance does


def knob_sweeps(table: DataFrame, title: str | None = None) -> Chart:
    """What does each knob do to the matrix? A panel a knob, a line a measure, one scale.

    Args:
        table: of :func:`~qrkd_lab.kernels.knobs.one_at_a_time`.
        title: the message; without it, the lowest and the highest alignment.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    groups = list(table.groupby("knob", sort=False))
    chart, places = panels(len(groups), height=2.35, rest=1.0)
    for axes, (knob, part) in zip(places, groups, strict=True):
        quiet(axes, _named(knob, table), "", grid="y")
        at = np.arange(len(part))
        for measure, colour, mark in zip(MEASURES, COLOURS, MARKERS, strict=False):
            style = marker({"color": colour, "marker": mark}, 6)
            axes.plot(at, part[measure], lw=1.5, label=MEASURES[measure], **style)
        axes.set_xticks(at, [_short(value) for value in part["value"]])
        axes.set_xlim(-0.3, len(part) - 0.7)
        axes.set_ylim(-0.03, 1.05)
    legend_below(chart, places[0])
    order = table.sort_values("alignment", kind="stable")
    ends = [
        f"{row['alignment']:.2f} ({_named(row['knob'], table).lower()}: {_short(row['value'])})"
        for _, row in order.iloc[[0, -1]].iterrows()
    ]
    message = f"Alignment with the classes, one knob turned: from {ends[0]} to {ends[1]}"
    said = ", ".join(
        f"{row.alignment:.2f} at {_named(row.knob, table).lower()} {_short(row.value)}"
        for row in table.itertuples()
    )
    return chart.finish(
        title or message,
        f"{len(groups)} panels, a knob each, values from left to right; lines for "
        f"{', '.join(MEASURES.values())}, all from 0 to 1. Alignment: {said}.",
    )


def knob_changes(table: DataFrame, title: str | None = None) -> Chart:
    """What does turning a knob change, on several random projections? A row a turn, paired.

    Args:
        table: of :func:`~qrkd_lab.kernels.knob_changes.paired_changes`.
        title: the message; without it, at how many turns the alignment's interval excludes 0.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    turns = list(dict.fromkeys((row.knob, _short(row.value)) for row in table.itertuples()))
    knobs = list(dict.fromkeys(knob for knob, _ in turns))
    at = {turn: -i - 0.6 * knobs.index(turn[0]) for i, turn in enumerate(turns)}
    chart = Chart(9.4, 0.25 * len(turns) + 2.6)
    places = chart.subplots(1, len(MEASURES), sharey=True)
    styles = zip(COLOURS, MARKERS, strict=False)
    for axes, (measure, label), (colour, mark) in zip(
        places, MEASURES.items(), styles, strict=False
    ):
        axes.set_title(textwrap.fill(label, 18), fontsize=9.5, loc="left")
        quiet(axes, "Change, paired", "", grid="x").tick_params(axis="y", length=0)
        axes.axvline(0, color=INK, lw=1)
        for row in table[table["measure"] == measure].itertuples():
            place = at[row.knob, _short(row.value)]
            style = {"color": colour, "marker": mark}
            draw_interval(axes, place, (row.mean, row.low, row.high), style, across=True)
    places[0].set_yticks(list(at.values()), [f"{_named(k, table)}: {v}" for k, v in at])
    own = table[table["measure"] == "alignment"]
    clear = own[(own["low"] > 0) | (own["high"] < 0)]
    most = own.loc[own["mean"].abs().idxmax()]
    message = (
        f"Turned within a projection: the change of the alignment is clear of 0 at {len(clear)} of "
        f"{len(own)} turns; the largest, {most['mean']:+.2f}, by "
        f"{_named(most['knob'], table).lower()}: {_short(most['value'])}"
    )
    said = "; ".join(
        f"{_named(row.knob, table).lower()} {_short(row.value)} {row.mean:+.2f} [{row.low:+.2f}, "
        f"{row.high:+.2f}]"
        for row in own.itertuples()
    )
    return chart.finish(
        title or message,
        f"Mean changes from the base setting with 95 % intervals over random projections, a panel "
        f"a measure. Alignment: {said}.",
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
    setting: str = "",
    title: str | None = None,
) -> Chart:
    """What does a knob do to the student? Paired differences to a reference at each value.

    Args:
        table: of :func:`~qrkd_lab.knob_study.sweep_students`, of one knob.
        metrics: a panel each.
        reference, arm: names, for the labels and the colour.
        setting: what stands still, said before the message.
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
    message = f"intervals of the difference to {reference} exclude 0 at {', '.join(told)}"
    message = f"{f'{setting}, {knob.lower()}' if setting else knob}: {message}"
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


def _named(knob: str, table: DataFrame) -> str:
    """A knob as a label; a bandwidth that is a multiple of the rule's is named so."""
    if knob == "bandwidth" and table.attrs.get("rule", False):
        return "Bandwidth / the rule's"
    return "Random projection (seed)" if knob == PROJECTION else words(knob)


def _short(value: Any) -> str:  # noqa: ANN401
    """A value as a tick: few digits, "rule" for None."""
    if value is None:
        return "rule"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)
