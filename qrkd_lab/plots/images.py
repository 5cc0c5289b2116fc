"""Pictures of the images themselves: a few of each class, and the ones that students get wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from qrkd_lab.plots.style import INK, Chart, need

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qrkd_lab.data import Images

__all__ = ["class_samples", "gallery"]

MOST = 10  # classes in one figure


def class_samples(
    images: Images, classes: Sequence[str], each: int = 5, title: str | None = None
) -> Chart:
    """What do the classes look like? A column a class, with its first images.

    Args:
        images: a part of a data set.
        classes: names, in the order of the labels; the first ten of them are shown.
        each: images of a class.
        title: the message; without it, how many images and classes there are.

    Raises:
        ValueError: no images.
    """
    need(len(images), "at least one image")
    shown = list(classes)[:MOST]
    chart = Chart(max(5.0, 0.95 * len(shown)), 0.9 + 0.85 * each)
    grid = chart.subplots(each, len(shown), squeeze=False)
    for label, (name, column) in enumerate(zip(shown, grid.T, strict=True)):
        members = (images.labels == label).nonzero()[:each, 0]
        column[0].set_title(name, fontsize=10, color=INK)
        for axes in column:
            axes.set_axis_off()
        for axes, index in zip(column, members.tolist(), strict=False):
            _draw(axes, images.pixels[index])
    size = " x ".join(str(side) for side in images.pixels.shape[2:])
    kind = "grey" if images.pixels.shape[1] == 1 else "colour"
    message = f"{len(images):,} {kind} images of {size} pixels in {len(classes)} classes"
    return chart.finish(
        title or message, f"{each} images of each of the classes {', '.join(shown)}."
    )


def gallery(
    pixels: Tensor, captions: Sequence[str], title: str, columns: int = 10, most: int = 20
) -> Chart:
    """A few images with a line below each, such as "4, seen as 9".

    Args:
        pixels: uint8 ``(n, C, H, W)``; at most ``most`` are shown.
        captions: a line an image.
        title: the message.
        columns: images a row.
        most: images at most.

    Raises:
        ValueError: no images, or another number of captions.
    """
    need(len(pixels), "at least one image")
    if len(captions) != len(pixels):
        raise ValueError(f"expected {len(pixels)} captions, one an image, got {len(captions)}.")
    count = min(len(pixels), most)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    chart = Chart(max(5.0, 1.0 * columns), 0.7 + 1.15 * rows)
    places = list(chart.subplots(rows, columns, squeeze=False).flat)
    for axes in places:
        axes.set_axis_off()
    for axes, image, caption in zip(places, pixels[:count], captions, strict=False):
        _draw(axes, image)
        axes.set_title(caption, fontsize=9, color=INK, y=-0.06, va="top")
    return chart.finish(title, f"{count} images: {'; '.join(captions[:count])}.")


def _draw(axes: Axes, image: Tensor) -> None:
    """One image uint8 ``(C, H, W)``, grey ones dark on white as on paper."""
    pixels = np.asarray(image.cpu()).transpose(1, 2, 0)  # (H, W, C)
    if pixels.shape[2] == 1:
        axes.imshow(pixels[:, :, 0], cmap="gray_r", vmin=0, vmax=255)
    else:
        axes.imshow(pixels)
