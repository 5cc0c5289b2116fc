"""The figure of the geometric difference: its value and its fine print, against regularisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator

from qrkd_lab.kernels.alignment import geometric_difference
from qrkd_lab.plots.diagnostics import COLOURS, MARKERS, log_axis
from qrkd_lab.plots.style import INK, Chart, marker, need, quiet

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["regularisation_curve"]

LAMBDAS = tuple(10.0**power for power in range(-8, 1))


def regularisation_curve(
    classical: Tensor,
    quantum: Mapping[str, Tensor],
    regularisations: Sequence[float] = LAMBDAS,
    title: str | None = None,
) -> Chart:
    r"""Is g large, or only the regularisation small? Geometric difference and its training side.

    Left g, with :math:`\sqrt n` dashed; right the error that regularisation leaves on the training
    samples. A small g counts only where the right panel is near 0 as well.

    Args:
        classical: :math:`K_C`, ``(n, n)``.
        quantum: a name to its :math:`K_Q`, ``(n, n)``.
        regularisations: values of lambda, in units of the mean eigenvalue.
        title: the message; without it, over what range the largest g moves.

    Raises:
        ValueError: nothing to draw; see also
            :func:`~qrkd_lab.kernels.alignment.geometric_difference`.
    """
    need(len(quantum), "a mapping from names to quantum kernel matrices")
    chart = Chart(9.2, 4.4)
    left, right = chart.subplots(1, 2)
    quiet(left, "Regularisation λ", "Geometric difference g", grid="both")
    quiet(right, "Regularisation λ", "Training side (0: nothing lost)", grid="both")
    log_axis(left, "x"), log_axis(right, "x"), log_axis(left, "y")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    values = {}
    for i, (name, matrix) in enumerate(quantum.items()):
        found = [geometric_difference(classical, matrix, level) for level in regularisations]
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        values[name] = np.array([one.value for one in found])
        left.plot(regularisations, values[name], lw=1.8, label=name, **marker(style, 6))
        errors = [one.training_error for one in found]
        right.plot(regularisations, errors, lw=1.8, **marker(style, 6))
    root = math.sqrt(len(classical))
    left.axhline(root, color=INK, lw=1, ls="--", label=f"√n = {root:.3g}")
    right.set_ylim(bottom=-0.03)
    for axes in (left, right):
        axes.set_xticks(regularisations[::2], [f"{level:.0e}" for level in regularisations[::2]])
    handles, labels = left.get_legend_handles_labels()
    chart.legend(handles, labels, frameon=False, fontsize=10, loc="outside right center")
    widest = max(values, key=lambda name: values[name].max() / values[name].min())
    low, high = values[widest].min(), values[widest].max()
    message = (
        f"One pair of matrices, g from {low:.2g} to {high:.3g}: {widest}'s geometric difference is "
        "decided by the regularisation"
        if high > 3 * low
        else f"Geometric differences hardly depend on the regularisation: {low:.2g} to {high:.2g}"
    )
    said = "; ".join(f"{n} from {v[0]:.3g} to {v[-1]:.3g}" for n, v in values.items())
    return chart.finish(
        title or message,
        f"Geometric difference against regularisation from {regularisations[0]:g} to "
        f"{regularisations[-1]:g}, log scales, and the training side beside it: {said}; the square "
        f"root of n is {root:.3g}.",
    )
