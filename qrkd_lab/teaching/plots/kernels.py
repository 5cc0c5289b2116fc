"""Figures of kernel matrices: how many directions, where the values lie, and is it just an RBF?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.ticker import NullLocator

from qrkd_lab.kernels.analysis import effective_rank, eigenvalues
from qrkd_lab.teaching.plots.style import (
    ARM_COLOURS,
    SPARE,
    Chart,
    marker,
    need,
    quiet,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame
    from torch import Tensor

    from qrkd_lab.kernels.classical import Kernel

__all__ = [
    "COLOURS",
    "MARKERS",
    "concentration",
    "kernel_views",
    "legend_below",
    "log_axis",
    "spectra",
]


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", *SPARE)
MARKERS = "oDs^vPX*"
TINY = 1e-12  # of the trace: eigenvalues below are rounding


def spectra(matrices: Mapping[str, Tensor]) -> Chart:
    """How many directions does a kernel have? Its eigenvalues, largest first, on a log scale.

    Args:
        matrices: name to kernel matrix ``(n, n)``.

    Raises:
        ValueError: no matrix, or not a kernel matrix.
    """
    need(len(matrices), 'a mapping from names to matrices, e.g. {"zz": K}')
    chart = Chart(8.0, 4.4)
    axes = quiet(chart.subplots(), "Eigenvalue number", "Eigenvalue / trace", grid="both")
    log_axis(axes, "y")
    ranks = {name: effective_rank(matrix) for name, matrix in matrices.items()}
    said = [f"{name}: effective rank {ranks[name]:.1f} of {len(K)}" for name, K in matrices.items()]
    spare = iter(COLOURS * 9)
    for i, (name, matrix) in enumerate(matrices.items()):
        share = eigenvalues(matrix).abs().sort(descending=True).values.numpy()
        share = share[share > TINY * share.sum()] / share.sum()
        style = {"color": ARM_COLOURS.get(name) or next(spare), "marker": MARKERS[i % 8]}
        number, every = np.arange(1, len(share) + 1), max(1, len(share) // 12)
        axes.plot(number, share, lw=1.6, markevery=every, label=said[i], **marker(style, 6))
    legend_below(chart, axes)
    message = f"Effective ranks from {min(ranks.values()):.1f} to {max(ranks.values()):.1f}"
    return chart.finish(
        message,
        f"Eigenvalues of each kernel matrix as a share of its trace, log scale. {'; '.join(said)}.",
    )


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


def concentration(table: DataFrame) -> Chart:
    r"""Does a kernel concentrate? Variance over pairs against qubits, with the fitted base.

    A dashed line is :math:`\mathrm{Var} \propto \beta^q`; :math:`\beta` is fitted by least
    squares of log Var on q.

    Args:
        table: of :func:`~qrkd_lab.kernels.diagnosis.concentration_table` (a colour a map, a marker
            a bandwidth), or one with a column ``kernel`` (a marker a kernel); two sizes or more.

    Raises:
        ValueError: an empty table.
    """
    need(len(table), "a table with rows")
    chart = Chart(8.0, 4.6)
    axes = quiet(chart.subplots(), "Qubits q", "Variance over pairs", grid="both")
    log_axis(axes, "y")
    by = ["feature_map", "kernel" if "kernel" in table else "bandwidth"]
    maps, kinds = (list(table[column].unique()) for column in by)
    bases, said = {}, []
    for (name, kind), part in table[table["variance"] > 0].groupby(by, sort=False):
        q, variance = part["qubits"].to_numpy(), part["variance"].to_numpy()
        slope, start = np.polyfit(q, np.log(variance), 1)
        said_kind = kind if "kernel" in table else f"b = {kind:g}".replace(" ", "\u00a0")
        which = f"{name} ({said_kind})"
        bases[which] = math.exp(slope)
        said.append(f"{which} from {variance[0]:.2g} to {variance[-1]:.2g}")
        at = maps.index(name)
        style = {"color": COLOURS[at % 7], "marker": MARKERS[kinds.index(kind) % 8]}
        axes.plot(q, np.exp(start + slope * q), lw=1.2, ls="--", color=style["color"])
        aside = q + 0.08 * (at - (len(maps) - 1) / 2)  # equal points stay visible
        label = f"{which}: × {bases[which]:.2f} a qubit"
        axes.plot(aside, variance, ls="", label=label, **marker(style, 8))
    axes.set_xticks(sorted(table["qubits"].unique()))
    legend_below(chart, axes)
    fast, slow = min(bases, key=bases.__getitem__), max(bases, key=bases.__getitem__)
    return chart.finish(
        f"Each further qubit multiplies the variance of {fast} by {bases[fast]:.2f}, "
        f"of {slow} by {bases[slow]:.2f}",
        f"Variance over pairs on a log scale against qubits, with exponential fits: "
        f"{'; '.join(said)}.",
    )


@torch.no_grad()
def kernel_views(kernel: Kernel, other: Kernel, point: Tensor, name: str = "best RBF") -> Chart:
    """What does a kernel see? Its values to one sample, along a line and over the plane.

    Args:
        kernel: on angles ``(n, q)``, q >= 2.
        other: the kernel that is drawn beside it.
        point: the sample ``(q,)`` that all others are compared with; the line varies its first
            number, the plane its first two, from -pi to pi.
        name: of the other.
    """
    at = torch.linspace(-math.pi, math.pi, 61, dtype=point.dtype)
    line = point.repeat(len(at), 1)
    line[:, 0] = at
    plane = point.repeat(len(at), len(at), 1)  # rows: the second number, columns: the first
    plane[..., 0], plane[..., 1] = at, at[:, None]
    chart = Chart(10.6, 4.2)
    along, *over = chart.subplots(1, 3, width_ratios=(1.25, 1, 1))
    quiet(along, "First number x0", "Kernel value", grid="both").set_ylim(-0.02, 1.17)
    lines = {"circuit": (kernel, COLOURS[0], "-"), name: (other, ARM_COLOURS["rbf"], "--")}
    apart = []
    for axes, (label, (one, colour, style)) in zip(over, lines.items(), strict=True):
        values = one(line, point[None])[:, 0].numpy()
        along.plot(line[:, 0].numpy(), values, color=colour, ls=style, lw=1.8, label=label)
        seen = one(plane.flatten(0, 1), point[None]).reshape(len(at), len(at)).numpy()
        apart.append(seen)
        ends = (-math.pi, math.pi)
        image = axes.imshow(
            seen, origin="lower", extent=(*ends, *ends), vmin=0, vmax=1, cmap="cividis"
        )
        axes.plot(*point[:2].tolist(), marker="+", ms=11, mew=2, color="white", ls="")
        quiet(axes, "First number x0", "Second number x1", grid="x").grid(False)
        axes.set_title(label, fontsize=10)
    along.legend(frameon=False, fontsize=9.5, loc="upper center", ncols=2)
    along.set_title("along a line", fontsize=10)
    chart.colorbar(image, ax=over, label="Kernel value", shrink=0.75)
    most = np.abs(apart[0] - apart[1]).max()
    x0, x1 = point[:2].tolist()
    return chart.finish(
        f"Seen from ({x0:.1f}, {x1:.1f}), the kernel and its {name} differ by up to {most:.2f}",
        f"Kernel values to that sample, from -pi to pi: along x0, then over the plane of x0 and x1 "
        f"for the circuit and for the {name}. Over the plane the circuit's values reach from "
        f"{apart[0].min():.2f} to {apart[0].max():.2f}, those of the {name} from "
        f"{apart[1].min():.2f} to {apart[1].max():.2f}.",
    )
