"""Figures of kernels on devices: errors against shots, repairs, noise, and students."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qrkd_lab.plots.diagnostics import COLOURS, MARKERS, legend_below, log_axis
from qrkd_lab.plots.style import (
    INK,
    Chart,
    arm_style,
    draw_interval,
    draw_seeds,
    marker,
    need,
    quiet,
)  # fmt: skip
from qrkd_lab.statistics import interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from pandas import DataFrame

__all__ = ["noise_and_contrast", "psd_repairs", "shot_errors", "students_by_shots"]


def shot_errors(table: DataFrame, spread: float, title: str | None = None) -> Chart:
    """How fast does the error fall? Measured errors against shots, and the binomial line.

    Args:
        table: columns ``shots``, ``source`` (who measured), ``error`` (root mean square over
            pairs), ``expected`` (by the formula).
        spread: standard deviation of the exact values over pairs, drawn as a horizontal line.
        title: the message; without it, the shots at which error and spread are equal.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    chart = Chart(7.6, 4.6)
    axes = quiet(chart.subplots(), "Shots an entry", "Error over pairs (root mean square)", "both")
    log_axis(axes, "x")
    log_axis(axes, "y")
    low, high = table["error"].min() / 1.3, max(spread, table["error"].max()) * 1.3
    ticks = [b * 10.0**e for e in range(-6, 1) for b in (1, 2, 5) if low < b * 10.0**e < high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(low, high)
    line = table.drop_duplicates("shots").sort_values("shots")
    axes.plot(line["shots"], line["expected"], color=INK, lw=1.4, ls="--", label="binomial formula")
    for (source, part), colour, mark, hollow in zip(
        table.groupby("source", sort=False), COLOURS, MARKERS, (True, *[False] * 9), strict=False
    ):
        style = {"color": colour, "marker": mark, "ms": 9, "mew": 1.8}
        style |= {"ms": 14, "mfc": "none"} if hollow else {"mec": "white", "mew": 0.6}
        axes.plot(part["shots"], part["error"], ls="", label=source, **style)
    axes.axhline(spread, color=COLOURS[4], lw=1.4, label=f"spread of the entries, {spread:.2g}")
    legend_below(chart, axes)
    equal = float((line["expected"] * np.sqrt(line["shots"])).iloc[0] / spread) ** 2
    said = "; ".join(
        f"{row.source}, {row.shots:,} shots: {row.error:.2g}, formula {row.expected:.2g}"
        for row in table.itertuples()
    )
    return chart.finish(
        title
        or f"The error is as large as the spread of the entries at about {equal:.2g} shots; "
        "ten times smaller takes a hundred times as many",
        f"Errors of estimated kernel matrices against shots, both axes logarithmic. {said}.",
    )


def psd_repairs(table: DataFrame, title: str | None = None) -> Chart:
    """How often is a matrix from shots no kernel matrix, and what does a repair do to it?

    Args:
        table: a row a drawn matrix and repair: ``samples``, ``shots``, ``repair``, ``negative``
            (had a negative eigenvalue before), ``error`` (root mean square over pairs to the exact
            matrix). Errors are shown for the most samples; the repair named first is the
            yardstick.
        title: the message; without it, share and best repair at the fewest shots.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    chart = Chart(9.6, 4.4)
    left, right = chart.subplots(1, 2)
    shots = sorted(table["shots"].unique())
    at = np.arange(len(shots))
    quiet(left, "Shots an entry", "Matrices with a negative eigenvalue, %")
    share = 100 * table.groupby(["samples", "shots"])["negative"].mean().unstack()[shots]
    shades = [str(level) for level in np.linspace(0.75, 0.1, len(share))]
    for (samples, row), colour, mark in zip(share.iterrows(), shades, MARKERS, strict=False):
        style = marker({"color": colour, "marker": mark}, 7)
        left.plot(at, row, lw=1.5, label=f"{samples} samples", **style)
    left.set_ylim(-4, 105)
    left.legend(fontsize=9.5, loc="upper left", bbox_to_anchor=(0, 1.18), ncols=2, frameon=False)
    quiet(right, "Shots an entry", "Error over pairs, relative to unrepaired")
    most = table[table["samples"] == share.index[-1]]
    means = most.groupby(["repair", "shots"], sort=False)["error"].mean().unstack()[shots]
    relative = means / means.iloc[0]
    for (name, row), colour, mark in zip(relative.iterrows(), COLOURS, MARKERS, strict=False):
        right.plot(at, row, label=name, lw=1.5, **marker({"color": colour, "marker": mark}, 8))
    right.set_ylim(0, 1.1 * float(relative.max().max()))
    for axes in (left, right):
        axes.set_xticks(at, [f"{count:,.0f}" for count in shots])
    legend_below(chart, right)
    first, many = relative[shots[0]], share.iloc[-1]
    best = first.idxmin()
    said = "; ".join(
        f"{samples} samples: " + ", ".join(f"{v:.0f} % at {c:g} shots" for c, v in row.items())
        for samples, row in share.iterrows()
    )
    listed = "; ".join(f"{name} {value:.2f}" for name, value in first.items())
    return chart.finish(
        title
        or f"At {shots[0]:g} shots {many.iloc[0]:.0f} % of the matrices of {share.index[-1]} "
        f"samples have a negative eigenvalue; the best repair there, {best}, leaves "
        f"{100 * first[best]:.0f} % of the error",
        f"Left: share with a negative eigenvalue: {said}. Right: mean error relative to no repair, "
        f"at {shots[0]:g} shots: {listed}.",
    )


def noise_and_contrast(table: DataFrame, title: str | None = None) -> Chart:
    """What does noise do? Diagonal, contrast and the strength of one-number fit, by gate error.

    Args:
        table: a row a noise level: ``noise``, ``diagonal`` (mean), ``contrast`` (standard deviation
            over pairs, relative to exact), ``strength`` (fitted lambda), ``any_reset`` (chance
            that any error happens), ``r_squared`` of the fit.
        title: the message; without it, what is left at the largest noise.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    chart = Chart(9.6, 4.2)
    left, right = chart.subplots(1, 2)
    quiet(left, "Probability of an error after a gate, on each of its qubits", "What is left")
    for column, label, colour, mark in (
        ("diagonal", "mean diagonal", COLOURS[0], "o"),
        ("contrast", "spread over pairs, relative to exact", COLOURS[1], "s"),
    ):
        style = marker({"color": colour, "marker": mark}, 8)
        left.plot(table["noise"], table[column], lw=1.5, label=label, **style)
    left.set_ylim(0, 1.08)
    left.legend(frameon=False, fontsize=9.5)
    quiet(right, "Probability of an error after a gate, on each of its qubits", "Strength λ")
    style = marker({"color": COLOURS[2], "marker": "D"}, 8)
    right.plot(table["noise"], table["strength"], lw=1.5, label="fitted λ", **style)
    right.plot(table["noise"], table["any_reset"], lw=1.4, ls="--", color=INK,
               label="probability that any qubit was reset")  # fmt: skip
    right.set_ylim(0, 1.08)
    right.legend(frameon=False, fontsize=9.5, loc="lower right")
    last = table.iloc[-1]
    said = "; ".join(
        f"noise {r.noise:g}: diagonal {r.diagonal:.2f}, contrast {r.contrast:.2f}, lambda "
        f"{r.strength:.2f} (R^2 {r.r_squared:.3f})"
        for r in table.itertuples()
    )
    return chart.finish(
        title
        or f"At {100 * last['noise']:g} % errors a gate, {100 * last['contrast']:.0f} % of "
        f"the contrast is left; one number λ describes the matrix with R² of at least "
        f"{table['r_squared'].min():.2f}",
        f"Left: what noise leaves. Right: the fitted strength. {said}.",
    )


def students_by_shots(table: DataFrame, title: str | None = None) -> Chart:
    """Does training survive shots? Likeness to the teacher's kernel, and accuracy, against shots.

    Args:
        table: of :func:`~qrkd_lab.shot_study.shot_students`.
        title: the message; without it, exact and fewest shots side by side.

    Raises:
        ValueError: no rows.
    """
    need(len(table), "a table with rows")
    counts = [None, *sorted(table["shots"].dropna().unique(), reverse=True)]
    chart = Chart(9.6, 4.6)
    places = chart.subplots(1, 2)
    sides = [side for side in table["sides"].unique() if side != "detached"]
    for axes, column, label in zip(
        places,
        ("alignment", "accuracy"),
        ("Alignment with the teacher's kernel", "Accuracy on the validation part, %"),
        strict=True,
    ):
        quiet(axes, "Shots an entry", label)
        factor = 100 if column == "accuracy" else 1
        _by_shots(axes, table, column, counts, sides, factor)
        _detached(axes, table, column, len(counts), factor)
    legend_below(chart, places[0])
    exact = table[table["shots"].isna() & (table["sides"] == "teacher")]["alignment"].mean()
    without = table[table["sides"] == "detached"]["alignment"].mean()
    fewest = table[table["shots"] == counts[-1]].groupby("sides", sort=False)["alignment"].mean()
    listed = ", ".join(f"{value:.2f} (shots on {side})" for side, value in fewest.items())
    means = table.groupby(["sides", "shots"], sort=False, dropna=False)[["alignment", "accuracy"]]
    said = "; ".join(
        f"{side}, {_counted(shots)}: alignment {row['alignment']:.3f}, accuracy "
        f"{100 * row['accuracy']:.1f} %"
        for (side, shots), row in means.mean().iterrows()
    )
    return chart.finish(
        title
        or f"Alignment with the teacher's kernel: exact {exact:.2f}; at {_counted(counts[-1])} "
        f"{listed}; detached {without:.2f}",
        f"Students trained on matrices from shots, seeds as points, means with 95 % intervals. "
        f"{said}.",
    )


def _detached(axes: Axes, table: DataFrame, column: str, at: int, factor: float) -> None:
    values = factor * table[table["sides"] == "detached"][column].to_numpy(dtype=float)
    style = arm_style("detached")
    draw_seeds(axes, np.full(len(values), at - 0.07), values, style)
    draw_interval(axes, at + 0.05, (values.mean(), *interval(values, 0.95)), style)
    axes.axhline(values.mean(), color=style["color"], lw=1.3, ls="--", zorder=1)
    axes.plot([], [], ls="--", label="detached: only the adapter learns", **marker(style, 8))


def _by_shots(
    axes: Axes, table: DataFrame, column: str, counts: Sequence[float | None],
    sides: Sequence[str], factor: float,
) -> None:  # fmt: skip
    for place, (side, colour, mark) in enumerate(zip(sides, COLOURS, MARKERS, strict=False)):
        style = {"color": colour, "marker": mark}
        for at, count in enumerate(counts):
            rows = table["shots"].isna() if count is None else table["shots"] == count
            values = factor * table[rows & (table["sides"] == side)][column].to_numpy(dtype=float)
            if not len(values):
                continue
            x = at + 0.28 * (place - (len(sides) - 1) / 2)
            draw_seeds(axes, np.full(len(values), x - 0.07), values, style)
            draw_interval(axes, x + 0.05, (values.mean(), *interval(values, 0.95)), style)
        names = {"teacher": "shots on the teacher's matrix", "both": "shots on both matrices"}
        axes.plot([], [], lw=2, label=names.get(side, side), **marker(style, 8))
    names = [*("exact" if c is None else f"{c:g}" for c in counts), "detached"]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.5, len(counts) + 0.5)


def _counted(shots: float) -> str:
    return "exact" if np.isnan(shots) else f"{shots:g} shot{'' if shots == 1 else 's'}"
