"""Figures of kernels as something is turned: qubits, the bandwidth, the size of a surrogate."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from qrkd_lab.kernels.base import Kernel
from qrkd_lab.kernels.diagnosis import bandwidth_table
from qrkd_lab.plots.diagnostics import COLOURS, MARKERS, legend_below, log_axis
from qrkd_lab.plots.style import INK, Chart, marker, need, quiet

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

__all__ = ["bandwidth_curve", "concentration", "surrogate_curve"]


def concentration(table: DataFrame, title: str | None = None) -> Chart:
    r"""Does a kernel concentrate? Variance over pairs against qubits, with the fitted base.

    A line in the log plot is :math:`\mathrm{Var} \propto \beta^q`; :math:`\beta` is fitted by least
    squares of log Var on q.

    Args:
        table: of :func:`~qrkd_lab.kernels.diagnosis.concentration_table` (a colour a map, a marker
            a bandwidth) or :func:`~qrkd_lab.kernels.concentration.global_and_projected` (a marker
            a kernel).
        title: the message; without it, the fastest and the slowest fall.

    Raises:
        ValueError: an empty table, or one without the columns.
    """
    _columns(table, ("feature_map", "bandwidth", "qubits", "variance"))
    chart = Chart(8.0, 4.6)
    axes = quiet(chart.subplots(), "Qubits q", "Variance over pairs", grid="both")
    log_axis(axes, "y")
    groups, bases = {}, {}
    second = "kernel" if "kernel" in table else "bandwidth"
    maps, kinds = (list(table[column].unique()) for column in ("feature_map", second))
    for (feature_map, kind), part in table.groupby(["feature_map", second], sort=False):
        said = kind if second == "kernel" else f"b\u00a0=\u00a0{kind:g}"
        name = feature_map if len(kinds) == 1 else f"{feature_map} ({said})"
        groups[name] = part = part[part["variance"] > 0].sort_values("qubits")
        colour = COLOURS[maps.index(feature_map) % len(COLOURS)]
        style = {"color": colour, "marker": MARKERS[kinds.index(kind) % len(MARKERS)]}
        label = name
        if part["qubits"].nunique() > 1:
            slope, start = np.polyfit(part["qubits"], np.log(part["variance"]), 1)
            bases[name] = math.exp(slope)
            label = f"{name}: × {bases[name]:.2f} a qubit"
            ends = np.array([part["qubits"].min(), part["qubits"].max()])
            axes.plot(ends, np.exp(start + slope * ends), lw=1.2, ls="--", color=colour)
        aside = 0.08 * (maps.index(feature_map) - (len(maps) - 1) / 2)  # equal points stay visible
        shown = part["qubits"] + aside
        axes.plot(shown, part["variance"], ls="", label=label, **marker(style, 8))
    axes.set_xticks(sorted(table["qubits"].unique()))
    legend_below(chart, axes)
    message = "Variance of kernel values over pairs"
    if bases:
        fast, slow = min(bases, key=bases.__getitem__), max(bases, key=bases.__getitem__)
        message = f"Each further qubit multiplies the variance of {fast} by {bases[fast]:.2f}"
        message += f", of {slow} by {bases[slow]:.2f}" if fast != slow else ""
    said = "; ".join(
        f"{name} from {part['variance'].iloc[0]:.2g} at {part['qubits'].iloc[0]} qubits to "
        f"{part['variance'].iloc[-1]:.2g} at {part['qubits'].iloc[-1]}"
        for name, part in groups.items() if len(part)
    )  # fmt: skip
    return chart.finish(
        title or message,
        f"Variance of kernel values over pairs of samples, log scale, against qubits: {said}. "
        "Dashed lines are exponential fits.",
    )


def bandwidth_curve(
    kernel: Kernel, x: Tensor, labels: Tensor | None = None, title: str | None = None
) -> Chart:
    """Which bandwidth? Spread, effective rank, alignment; the largest spread is marked.

    The marked one is what :func:`~qrkd_lab.kernels.calibration.calibrated` chooses on these angles.

    Args:
        kernel: any kernel with a bandwidth.
        x: angles ``(n, q)``.
        labels: classes ``(n,)``, for the alignment: CKA by its biased estimator.
        title: the message; without it, the bandwidth of largest spread.

    Raises:
        ValueError: see :func:`~qrkd_lab.kernels.diagnosis.bandwidth_table`.
    """
    table = bandwidth_table(kernel, x, labels)
    shown = {"spread": "Spread over pairs", "effective_rank": f"Effective rank, of {len(x)}"}
    if labels is not None:
        shown["alignment"] = "Alignment with classes (biased CKA)"
    chart = Chart(3.2 * len(shown) + 0.6, 3.9)
    chosen = table.loc[table["spread"].idxmax()]
    said = []
    places = np.atleast_1d(chart.subplots(1, len(shown)))
    for axes, (column, label), colour in zip(places, shown.items(), COLOURS, strict=False):
        log_axis(quiet(axes, "Bandwidth b", "", grid="both"), "x")
        axes.set_title(label, fontsize=10.5, loc="left")
        axes.plot(table["bandwidth"], table[column], lw=1.8, color=colour)
        axes.axvline(chosen["bandwidth"], color=INK, lw=1, ls="--")
        axes.plot(chosen["bandwidth"], chosen[column], **marker({"color": INK, "marker": "o"}, 9))
        axes.annotate(f"{chosen[column]:.3g}", (chosen["bandwidth"], chosen[column]), (9, -4),
                      textcoords="offset points", fontsize=10, color=INK,
                      bbox={"fc": "white", "ec": "none", "alpha": 0.85, "pad": 1})  # fmt: skip
        axes.set_ylim(0, 1.08 * table[column].max())
        said.append(f"{label} {chosen[column]:.3g}")
    message = f"Values spread most at bandwidth {chosen['bandwidth']:.2g}"
    if labels is not None and table["alignment"].notna().any():
        best = table.loc[table["alignment"].idxmax()]
        message += (
            f"; alignment there is {chosen['alignment']:.2f}, at best {best['alignment']:.2f} "
            f"(b = {best['bandwidth']:.2g})"
        )
    return chart.finish(
        title or message,
        f"Against the bandwidth of {kernel}, log scale; a dashed line marks the largest spread. "
        f"There: {', '.join(said)}.",
    )


def surrogate_curve(table: DataFrame, title: str | None = None) -> Chart:
    """How many cosines replace the circuit? Gap on held-out pairs against number of features.

    Args:
        table: of :func:`~qrkd_lab.kernels.surrogates.surrogate_gaps`.
        title: the message; without it, what the largest surrogate explains.

    Raises:
        ValueError: an empty table, or one without the columns.
    """
    _columns(table, ("features", "gap", "spread"))
    chart = Chart(7.2, 4.2)
    axes = quiet(chart.subplots(), "Random frequencies D", "Gap on held-out pairs", grid="both")
    log_axis(axes, "x")
    mean = table.groupby("features")["gap"].mean()
    style = {"color": COLOURS[0], "marker": "o"}
    axes.scatter(table["features"], table["gap"], s=24, alpha=0.5, lw=0, **style, label="a draw")
    axes.plot(mean.index, mean, lw=1.8, color=style["color"], label="mean")
    axes.set_xticks(mean.index, [f"{count}" for count in mean.index])
    spread = float(table["spread"].iloc[0])
    axes.set_ylim(0, 1.1 * max(spread, table["gap"].max()))
    axes.axhline(spread, color=INK, lw=1, ls="--", label=f"only the mean known: {spread:.2g}")
    legend_below(chart, axes)
    explained = 1 - (mean.iloc[-1] / spread) ** 2 if spread > 0 else math.nan
    message = (
        f"{mean.index[-1]} random frequencies explain {100 * max(explained, 0):.1f} % of the "
        "kernel's variance on new pairs"
    )
    said = "; ".join(f"{count} frequencies {gap:.2g}" for count, gap in mean.items())
    return chart.finish(title or message, f"Root-mean-square gap on held-out pairs: {said}.")


def _columns(table: DataFrame, wanted: Iterable[str]) -> None:
    need(len(table), "a table with rows")
    missing = [name for name in wanted if name not in table]
    if missing:
        raise ValueError(f"expected columns {', '.join(wanted)}; missing: {', '.join(missing)}")
