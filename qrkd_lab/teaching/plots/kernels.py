"""Figures of kernel matrices: how many directions, where the values lie, and is it just an RBF?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, NullLocator

from qrkd_lab.kernels.analysis import effective_rank, eigenvalues, off_diagonal_values
from qrkd_lab.kernels.classical import Kernel
from qrkd_lab.kernels.diagnosis import Fit, bandwidth_table
from qrkd_lab.teaching.plots.style import (
    ARM_COLOURS,
    INK,
    SPARE,
    Chart,
    arm_style,
    draw_seeds,
    marker,
    need,
    panels,
    quiet,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame
    from torch import Tensor

__all__ = [
    "COLOURS",
    "MARKERS",
    "TERM_STYLES",
    "adapter_alone",
    "bandwidth_curve",
    "concentration",
    "just_an_rbf",
    "legend_below",
    "log_axis",
    "off_diagonal_histogram",
    "spectra",
    "surrogate_curve",
    "term_gradients",
    "unit_gradients",
]


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", *SPARE)
MARKERS = "oDs^vPX*"
TINY = 1e-12  # of the trace: eigenvalues below are rounding


def spectra(matrices: Mapping[str, Tensor], title: str | None = None) -> Chart:
    """How many directions does a kernel have? Its eigenvalues, largest first, on a log scale.

    Args:
        matrices: name to kernel matrix ``(n, n)``.
        title: the message; without it, the smallest and the largest effective rank.

    Raises:
        ValueError: no matrix, or not a kernel matrix.
    """
    need(len(matrices), 'a mapping from names to matrices, e.g. {"zz": K}')
    chart = Chart(8.0, 4.4)
    axes = quiet(chart.subplots(), "Eigenvalue number", "Eigenvalue / trace", grid="both")
    log_axis(axes, "y")
    ranks = {name: effective_rank(matrix) for name, matrix in matrices.items()}
    for (name, matrix), style in zip(matrices.items(), _styles(matrices), strict=True):
        sizes = eigenvalues(matrix).abs().sort(descending=True).values.numpy()
        share = sizes / sizes.sum()
        share = share[share > TINY]
        label = f"{name}: effective rank {ranks[name]:.1f} of {len(matrix)}"
        number = np.arange(1, len(share) + 1)
        every = max(1, len(share) // 12)
        axes.plot(number, share, lw=1.6, markevery=every, label=label, **marker(style, 6))
    legend_below(chart, axes)
    low, high = min(ranks, key=ranks.__getitem__), max(ranks, key=ranks.__getitem__)
    message = f"{low} has {ranks[low]:.1f} effective directions"
    if low != high:
        message += f", {high} has {ranks[high]:.1f}"
    listed = "; ".join(
        f"{name} {rank:.1f} of {len(matrices[name])}" for name, rank in ranks.items()
    )
    return chart.finish(
        title or message,
        "Eigenvalues of each kernel matrix as a share of its trace, largest first, on a log scale. "
        f"Effective ranks: {listed}.",
    )


def off_diagonal_histogram(matrices: Mapping[str, Tensor], title: str | None = None) -> Chart:
    """Where do the kernel values lie? A histogram over pairs for each kernel, on one scale.

    Args:
        matrices: name to kernel matrix ``(n, n)``, n >= 2.
        title: the message; without it, the narrowest and the widest.

    Raises:
        ValueError: no matrix, or not a kernel matrix.
    """
    need(len(matrices), 'a mapping from names to matrices, e.g. {"zz": K}')
    values = {name: off_diagonal_values(m, name).numpy() for name, m in matrices.items()}
    low = min(0.0, *(v.min() for v in values.values()))
    high = max(1.0, *(v.max() for v in values.values()))
    bins = np.linspace(low, high, 51)
    spreads = {name: float(v.std()) for name, v in values.items()}
    chart = Chart(7.0, 1.3 * len(values) + 1.0)
    places = np.atleast_1d(chart.subplots(len(values), 1, sharex=True))
    for axes, (name, value), style in zip(places, values.items(), _styles(values), strict=True):
        quiet(axes, "", "", grid="x").set_yticks([])  # heights count within a panel only
        share = np.histogram(value, bins)[0] / len(value)
        axes.stairs(share, bins, fill=True, alpha=0.8, color=style["color"])
        axes.axvline(value.mean(), color=INK, lw=1, ls="--")
        numbers = f"{name}: mean {value.mean():.2f}, standard deviation {spreads[name]:.2f}"
        axes.set_title(numbers, fontsize=10, loc="left", color=INK)
    places[-1].set_xlabel("Kernel value of a pair", fontsize=10, color=INK)
    least, most = min(spreads, key=spreads.__getitem__), max(spreads, key=spreads.__getitem__)
    message = f"Values of {most} spread by {spreads[most]:.2f} over pairs"
    message += f", of {least} by {spreads[least]:.2f}" if least != most else ""
    said = "; ".join(
        f"{name} mean {v.mean():.2g}, standard deviation {v.std():.2g}"
        for name, v in values.items()
    )
    return chart.finish(
        title or message, f"Histograms of kernel values over pairs, dashed at the mean: {said}."
    )


def just_an_rbf(kernel: Tensor, fit: Fit, title: str | None = None) -> Chart:
    """Is a kernel just an RBF? Each pair's value against the best fit's; on the line: equal.

    Args:
        kernel: ``(n, n)``.
        fit: of :func:`~qrkd_lab.kernels.diagnosis.best_fit` on the same samples, of any family.
        title: the message; without it, R^2 and what it means.

    Raises:
        ValueError: sizes differ, or not a kernel matrix.
    """
    if len(kernel) != len(fit.matrix):
        raise ValueError(f"expected a fit of {len(kernel)} samples, got {len(fit.matrix)}")
    given, fitted = off_diagonal_values(kernel).numpy(), off_diagonal_values(fit.matrix).numpy()
    name = "RBF" if fit.family == "rbf" else fit.family
    chart = Chart(6.4, 5.2)
    axes = quiet(chart.subplots(), f"Value of the best {name}", "Kernel value", grid="both")
    low, high = min(0.0, given.min(), fitted.min()), max(1.0, given.max(), fitted.max())
    axes.plot([low, high], [low, high], color=INK, lw=1, ls="--", label="equal", zorder=3)
    axes.scatter(fitted, given, s=9, alpha=0.25, lw=0, color=COLOURS[0], label="a pair", zorder=2)
    axes.set_aspect("equal")
    for handle in axes.legend(frameon=False, fontsize=10, loc="upper left").legend_handles:
        handle.set_alpha(1)
    message = f"The best {name} explains {100 * fit.r_squared:.0f} % of the variance over pairs"
    if fit.near_identity:
        message = f"Kernel and best {name} are both nearly the identity: likeness means little"
    elif math.isnan(fit.r_squared):
        message = f"All pairs are equally alike: there is nothing for the {name} to explain"
    elif fit.r_squared <= 0:
        message = f"The best {name} explains nothing of the variance over pairs"
    return chart.finish(
        title or message,
        f"Scatter of {len(given)} pairs of samples, kernel value against the fit's, and the line "
        f"of equality. {fit}.",
    )


def _styles(names: Iterable[str]) -> list[dict[str, str]]:
    """A colour and a marker each, an arm's own where the name is an arm's."""
    spare = iter(COLOURS * 9)
    return [
        {"color": ARM_COLOURS.get(name) or next(spare), "marker": MARKERS[i % len(MARKERS)]}
        for i, name in enumerate(names)
    ]


def log_axis(axes: Axes, axis: str) -> None:
    """A logarithmic axis with plain numbers, and no minor ticks."""
    getattr(axes, f"set_{axis}scale")("log")
    which = getattr(axes, f"{axis}axis")
    which.set_major_formatter(lambda value, _: f"{value:.0e}" if value < 1e-3 else f"{value:g}")
    which.set_minor_locator(NullLocator())


def legend_below(chart: Chart, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) > 24 else 3
    chart.legend(
        handles, labels, frameon=False, fontsize=10, loc="outside lower left", ncols=columns
    )


# ---- sweeps


def concentration(table: DataFrame, title: str | None = None) -> Chart:
    r"""Does a kernel concentrate? Variance over pairs against qubits, with the fitted base.

    A line in the log plot is :math:`\mathrm{Var} \propto \beta^q`; :math:`\beta` is fitted by least
    squares of log Var on q.

    Args:
        table: of :func:`~qrkd_lab.kernels.diagnosis.concentration_table` (a colour a map, a marker
            a bandwidth), or one with a column ``kernel`` (a marker a kernel).
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

    The marked one is what :func:`~qrkd_lab.kernels.encoders.calibrated` chooses on these angles.

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
        table: of :func:`~qrkd_lab.kernels.diagnosis.surrogate_gaps`.
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


# ---- gradients


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
        table: rows of :func:`~qrkd_lab.teaching.experiments.gradient_rows`.
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
