"""Figures of kernel matrices: how many directions, where the values lie, and is it just an RBF?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import NullLocator

from qrkd_lab.kernels.diagnostics import effective_rank, eigenvalues, off_diagonal_values
from qrkd_lab.kernels.fits import Fit
from qrkd_lab.plots.style import ARM_COLOURS, INK, SPARE, Chart, marker, need, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

__all__ = [
    "COLOURS", "MARKERS", "just_an_rbf", "legend_below", "log_axis", "off_diagonal_histogram",
    "spectra",
]  # fmt: skip

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
        fit: of :func:`~qrkd_lab.kernels.fits.best_fit` on the same samples, of any family.
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
