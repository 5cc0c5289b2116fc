"""Figures of budgets: what a training run would cost on a quantum device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from qrkd_lab.plots.diagnostics import COLOURS, legend_below
from qrkd_lab.plots.style import INK, Chart, need, quiet

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["cost_bars"]

MARKS = {"an hour": 1 / 8766, "a day": 1 / 365.25, "a year": 1.0, "a century": 100.0}  # in years


def cost_bars(tables: Mapping[str, DataFrame], rate: float, title: str | None = None) -> Chart:
    """How long would one student take on a device? Bars on a log scale, a colour a kernel.

    Args:
        tables: name to table of :func:`~qrkd_lab.budget.budget_table`, with the same rows.
        rate: shots a second that was assumed, for the label.
        title: the message; without it, the cheapest and the dearest.

    Raises:
        ValueError: no table.
    """
    need(len(tables), "a mapping from names to tables")
    rows = list(next(iter(tables.values())).index)
    chart = Chart(8.6, 0.42 * len(rows) * len(tables) + 2.2)
    axes = quiet(chart.subplots(), f"Years on one device at {rate:,.0f} shots a second", "", "x")
    axes.set_xscale("log")
    height = 0.8 / len(tables)
    at = np.arange(len(rows))[::-1].astype(float)
    for place, ((name, table), colour) in enumerate(zip(tables.items(), COLOURS, strict=False)):
        y = at + 0.4 - height * (place + 0.5)
        axes.barh(y, table["years"], height=0.9 * height, color=colour, label=name)
        for where, years in zip(y, table["years"], strict=True):
            axes.annotate(f"{years:.2g}", (years, where), (4, 0), va="center", fontsize=9,
                          textcoords="offset points", color=INK)  # fmt: skip
    years = np.concatenate([table["years"].to_numpy(dtype=float) for table in tables.values()])
    low, high = years.min() / 10, years.max() * 6
    axes.set_xlim(low, high)
    for name, value in MARKS.items():
        if low < value < high:
            axes.axvline(value, color=INK, lw=0.9, ls=":")
            axes.annotate(name, (value, 1.01), xycoords=("data", "axes fraction"), fontsize=9,
                          ha="center", color=INK)  # fmt: skip
    axes.set_yticks(at, rows)
    legend_below(chart, axes)
    said = "; ".join(
        f"{name}, {row}: {table.loc[row, 'years']:.2g} years"
        for name, table in tables.items() for row in rows
    )  # fmt: skip
    first, table = next(iter(tables.items()))
    top = table["years"].idxmax()
    return chart.finish(
        title
        or f"One student takes from {table['years'].min():.2g} ({table['years'].idxmin()}) "
        f"to {table['years'].max():.2g} ({top}) years with the {first} kernel",
        f"Horizontal bars on a logarithmic axis, under the assumed rate: {said}.",
    )
