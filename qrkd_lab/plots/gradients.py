"""Figures of a loss from inside: which term pulls how hard, what an adapter can do alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from qrkd_lab.plots.diagnostics import log_axis
from qrkd_lab.plots.style import INK, Chart, arm_style, draw_seeds, need, panels, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

__all__ = ["TERM_STYLES", "adapter_alone", "term_gradients", "unit_gradients"]

# A term takes the colour of the arm that it makes a difference to: kernel is qrkd's.
TERM_STYLES = {
    "task": {"color": "#8C8C8C", "marker": "X"}, "kd": {"color": "#E69F00", "marker": "s"},
    "distance": {"color": "#56B4E9", "marker": "v"}, "angle": {"color": "#0072B2", "marker": "^"},
    "kernel": {"color": "#D55E00", "marker": "o"},
}  # fmt: skip
PANELS = {
    "norm": ("As computed", "Gradient norm"),
    "weighted": ("Times its weight", "Gradient norm"),
    "cosine": ("Direction", "Cosine with the task's gradient"),
}
FITTED = {"color": "#D55E00", "marker": "o"}
FRESH = {"color": "#8C8C8C", "marker": "s"}


def term_gradients(table: pd.DataFrame, title: str | None = None) -> Chart:
    """How hard does each term pull at the student's weights, and where to?

    Args:
        table: rows of :func:`~qrkd_lab.gradients.gradient_rows`.
        title: the message; without it, the strongest and the weakest weighted term at the end.

    Raises:
        ValueError: no row.
    """
    need(len(table), "rows of gradients.gradient_rows")
    chart = Chart(10.4, 4.2)
    places = chart.subplots(1, 3)
    for axes, (column, (head, label)) in zip(places, PANELS.items(), strict=True):
        quiet(axes, "Epoch", label, grid="both").set_title(head, fontsize=11, color=INK)
        _draw_terms(axes, table if column != "cosine" else table[table["term"] != "task"], column)
    for axes in places[:2]:
        log_axis(axes, "y")
    ends = [*places[0].get_ylim(), *places[1].get_ylim()]
    for axes in places[:2]:  # one scale, so that the weights' effect can be seen
        axes.set_ylim(min(ends), max(ends))
    places[2].axhline(0, color=INK, lw=1)
    lines, names = places[0].get_legend_handles_labels()
    chart.legend(lines, names, loc="outside lower left", ncols=5, frameon=False, fontsize=10)
    last = table[table["epoch"] == table["epoch"].max()].groupby("term")["weighted"].mean()
    strong, weak = last.idxmax(), last.idxmin()
    times = last[strong] / last[weak] if last[weak] > 0 else np.inf
    message = f"At the end {strong} pulls hardest, {times:.0f} times as hard as {weak}"
    said = ", ".join(f"{term} {value:.2g}" for term, value in last.items())
    return chart.finish(
        title or message,
        "Three panels over epochs, a line a term: norm of its gradient at the student's weights, "
        f"the same times the weight, cosine with the task's. Weighted norms at the end: {said}.",
    )


def _draw_terms(axes: Axes, table: pd.DataFrame, column: str) -> None:
    """Mean over batches as a line, smallest to largest as a band."""
    for term, rows in table.groupby("term", sort=False):
        style = TERM_STYLES.get(term) or arm_style(term)
        found = rows.groupby("epoch")[column].agg(["min", "mean", "max"])
        axes.fill_between(found.index, found["min"], found["max"], color=style["color"], alpha=0.15)
        every = max(1, len(found) // 5)
        axes.plot(found.index, found["mean"], lw=1.8, ms=6, markevery=every, label=term, **style)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def adapter_alone(table: pd.DataFrame, reference: float, title: str | None = None) -> Chart:
    """What does an adapter reach alone, on a student that stands still?

    Args:
        table: columns ``student``, ``seed``, ``fresh`` and ``fitted``: the kernel loss with an
            untrained adapter and with one that was trained alone.
        reference: the loss of a matrix that is the same number for all pairs.
        title: the message; without it, the share that the adapter takes off.

    Raises:
        ValueError: no row.
    """
    need(len(table), "a row a student and seed")
    chart = Chart(8.0, 4.0)
    students = list(dict.fromkeys(table["student"]))
    axes = quiet(chart.subplots(), "Kernel loss on validation images", "", grid="x")
    for y, student in enumerate(students):
        rows = table[table["student"] == student]
        for column, style, shift in (("fresh", FRESH, -0.12), ("fitted", FITTED, 0.12)):
            draw_seeds(axes, rows[column], [y + shift] * len(rows), style)
        for _, row in rows.iterrows():
            ends = ([row["fresh"], row["fitted"]], [y - 0.12, y + 0.12])
            axes.plot(*ends, color="#BBBBBB", lw=1, zorder=1)
    axes.axvline(reference, color=INK, lw=1.2, ls="--")
    axes.set_yticks(range(len(students)), students)
    axes.set_ylim(len(students) - 0.5, -0.6)
    axes.set_xlim(left=0)
    for style, text in ((FRESH, "fresh adapter"), (FITTED, "adapter trained alone")):
        axes.scatter([], [], s=30, label=text, **style)
    axes.plot([], [], color=INK, ls="--", label="one number for all pairs")
    chart.legend(loc="outside lower left", ncols=3, frameon=False, fontsize=10)
    share = 1 - table["fitted"] / table["fresh"]
    message = (
        f"An adapter alone takes off {100 * share.min():.0f} to {100 * share.max():.0f} % of the "
        "kernel loss, and no student moves"
    )
    means = table.groupby("student", sort=False)[["fresh", "fitted"]].mean()
    said = "; ".join(f"{s} {r['fresh']:.4f} to {r['fitted']:.4f}" for s, r in means.iterrows())
    return chart.finish(title or message, f"Kernel loss before and after, means: {said}.")


def unit_gradients(gradients: Mapping[str, Tensor], title: str | None = None) -> Chart:
    """Which of a layer's units does a kernel term move?

    Args:
        gradients: encoder's name to the term's gradient at the layer's weights ``(units, inputs)``.
        title: the message; without it, how many units each moves.

    Raises:
        ValueError: no gradient.
    """
    need(len(gradients), 'a mapping from encoders to gradients, e.g. {"adapter": g}')
    chart, places = panels(len(gradients), height=2.6, rest=0.9)
    said = []
    for axes, (name, gradient) in zip(places, gradients.items(), strict=True):
        size = gradient.detach().cpu().norm(dim=1)  # (units,)
        reached = int((size > 0).sum())
        quiet(axes, "Unit number", "Gradient norm")
        axes.bar(range(len(size)), size.tolist(), color=TERM_STYLES["kernel"]["color"])
        axes.set_title(f"{name}: {reached} of {len(size)} units", fontsize=10)
        said.append(f"{name} {reached} of {len(size)}")
    message = f"The kernel term moves, by encoder: {', '.join(said)} units"
    return chart.finish(title or message, f"Bars, one a unit: {', '.join(said)} above zero.")
