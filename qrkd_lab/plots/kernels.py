"""Heat maps of kernel matrices: does a kernel see the classes?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qrkd_lab.plots.style import Chart, need, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import ArrayLike

__all__ = ["kernel_matrices"]


def kernel_matrices(
    matrices: Mapping[str, ArrayLike],
    labels: ArrayLike,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Chart:
    """Does a kernel see the classes? Heat maps sorted by class, all on one colour scale.

    Args:
        matrices: name to kernel matrix (n, n), torch or numpy.
        labels: class of each sample (n,).
        title: the message; without it, how far within and between classes are apart.
        class_names: names to write at the axes, one a class number; else the numbers.

    Raises:
        ValueError: no matrix, a matrix that is not (n, n) or not finite, or labels not (n,).
    """
    classes = _array(labels)
    need(len(matrices), 'a mapping from names to matrices, e.g. {"teacher": K}')
    kernels = {name: _square(name, matrix, classes) for name, matrix in matrices.items()}
    found = np.unique(classes)
    ticks = [str(class_names[int(c)]) if class_names is not None else str(c) for c in found]
    low = min(0.0, *(k.min() for k in kernels.values()))
    high = max(1.0, *(k.max() for k in kernels.values()))
    chart, places = panels(len(kernels), height=3.4, rest=0.8)
    said = []
    for axes, (name, kernel) in zip(places, kernels.items(), strict=True):
        image = _draw_kernel(axes, kernel, classes, ticks)
        image.set_clim(low, high)
        within, between = _contrast(kernel, classes)
        numbers = f"within {within:.2f}, between {between:.2f}".replace("nan", "–")
        axes.set_title(f"{name}\n{numbers}", fontsize=10)
        said += [f"{name} {within - between:+.2f}"] if math.isfinite(within - between) else []
    places[0].set_ylabel("Class of sample", fontsize=10)
    for axes in places[-3:]:  # those with no panel beneath them
        axes.set_xlabel("Class of sample", fontsize=10)
    chart.colorbar(image, ax=places, label="Kernel value", shrink=0.85)
    message = f"Likeness within a class minus between classes: {', '.join(said)}"
    if not said:
        message = "Too few samples or classes to compare likeness within and between"
    count = f"{len(kernels)} kernel matrices of {len(classes)} samples in {len(found)} classes"
    return chart.finish(title or message, f"{count}; {message}." if title else f"{count}.")


def _draw_kernel(
    axes: Axes, kernel: np.ndarray, classes: np.ndarray, ticks: Sequence[str]
) -> AxesImage:
    """A heat map sorted by class, with a line between classes and a tick at the middle of each."""
    order = np.argsort(classes, kind="stable")
    starts = np.unique(classes[order], return_index=True)[1]
    ends = np.append(starts[1:], len(classes))
    image = axes.imshow(kernel[np.ix_(order, order)], interpolation="nearest", cmap="cividis")
    for edge in starts[1:] - 0.5:
        axes.axhline(edge, color="white", lw=0.7)
        axes.axvline(edge, color="white", lw=0.7)
    upright = max(map(len, ticks)) * len(ticks) > 30  # else words run into each other
    axes.set_xticks((starts + ends - 1) / 2, ticks, fontsize=9, rotation=90 * upright)
    axes.set_yticks((starts + ends - 1) / 2, ticks, fontsize=9)
    axes.tick_params(length=0)
    return image


def _array(values: ArrayLike) -> np.ndarray:
    """Torch (on any device, with or without gradient) or array-like to numpy."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _square(name: str, matrix: ArrayLike, classes: np.ndarray) -> np.ndarray:
    kernel = _array(matrix)
    n = len(classes) if classes.ndim == 1 else 0
    if not n or kernel.shape != (n, n):
        raise ValueError(
            f"expected labels (n,) and matrices (n, n) with one n > 0; got labels "
            f"{classes.shape} and {name} {kernel.shape}."
        )
    if not np.isfinite(kernel).all():
        raise ValueError(f"{name} holds values that are not finite: look for NaN in its features.")
    return kernel.astype(float)


def _contrast(kernel: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Mean kernel value within a class (without the diagonal) and between classes."""
    same = classes[:, None] == classes[None, :]
    others = ~np.eye(len(classes), dtype=bool)
    parts = (kernel[same & others], kernel[~same])
    within, between = (part.mean() if part.size else math.nan for part in parts)
    return float(within), float(between)
