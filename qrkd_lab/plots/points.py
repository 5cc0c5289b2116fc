"""Points of the plane that move in a figure: numbers, ways, and arrows that pull them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.plots.relations import LINE
from qrkd_lab.plots.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

__all__ = ["NumberedPoints", "arrows", "trails"]

REACH, LONGEST = 3.0, 0.9  # an arrow's length: of a gradient 1 / size, and at most, in sizes


class NumberedPoints:
    """Numbered points, in their order joined to a closed line, that can be moved."""

    def __init__(self, axes: Axes, colour: str) -> None:
        (self._line,) = axes.plot([], [], color=LINE, lw=1, zorder=1)
        (self._dots,) = axes.plot([], [], "o", ms=12, mew=0, color=colour, zorder=2)
        style = {"ha": "center", "va": "center", "fontsize": 8, "zorder": 4}
        self._texts: list[Text] = [
            axes.annotate("", (0, 0), (0, 0), textcoords="offset points", **style)
            for _ in range(20)
        ]
        self.artists = [self._line, self._dots, *self._texts]

    def draw(self, points: Tensor) -> None:
        """At these places; three points or more in one place have their numbers above it."""
        self._line.set_data(*torch.cat([points, points[:1]]).T.numpy())
        self._dots.set_data(*points.T.numpy())
        near = 1e-3 * max(1e-9, (points.max() - points.min()).item())
        places: dict[tuple[int, ...], list[int]] = {}
        for i, place in enumerate(points.tolist()):
            places.setdefault(tuple(round(v / near) for v in place), []).append(i)
        groups = list(places.values())
        for text, group in zip(self._texts, groups, strict=False):
            inside, text.xy = len(group) <= 2, points[group[0]].tolist()
            text.set_position((0, 0 if inside else 12))
            text.set(text=",".join(map(str, group)), color="white" if inside else INK, visible=True)
            text.set_fontsize(6.5 if len(group) == 2 else 8)
        for text in self._texts[len(groups) :]:
            text.set_visible(False)


def trails(path: Sequence[Tensor]) -> np.ndarray:
    """The way of each point, ``(2, n * (steps + 1))``, with gaps between the points."""
    ways = torch.stack(list(path)).permute(1, 0, 2)  # (n, steps, 2)
    gaps = torch.full_like(ways[:, :1], math.nan)
    return torch.cat([ways, gaps], 1).flatten(0, 1).T.numpy()


def arrows(points: np.ndarray, pulls: np.ndarray, size: float) -> list[np.ndarray]:
    """Polygons ``(7, 2)`` of arrows from each point's edge; all are shorter if one is too long.

    Args:
        points, pulls: ``(n, 2)``; a pull of 1 / size is an arrow of three sizes.
        size: of the point set.
    """
    lengths = REACH * size**2 * np.hypot(*pulls.T)
    if lengths.max() < 0.01 * size:
        return []
    lengths = lengths * min(1.0, LONGEST * size / lengths.max())
    shapes = []
    for point, towards, length in zip(points, pulls, lengths, strict=True):
        if length < 0.01 * size:
            continue
        e = towards / np.hypot(*towards)
        side, head = np.array([-e[1], e[0]]) * size, min(0.16 * size, length)
        tail = point + 0.1 * size * e
        neck, tip = tail + (length - head) * e, tail + length * e
        thin, wide = 0.025 * side, min(0.09, 0.6 * head / size) * side
        half = [tail + thin, neck + thin, neck + wide]
        shapes.append(np.array([*half, tip, neck - wide, neck - thin, tail - thin]))
    return shapes
