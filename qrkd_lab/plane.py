"""Points in the plane, and ways to move them.

Two features a sample are too few for a network and just right for the eye. What the relations make
of such points is in :mod:`qrkd_lab.pulls`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qrkd_lab.kernels.base import whole
from qrkd_lab.relations import pairwise_distances
from qrkd_lab.seeds import generator

__all__ = [
    "CHANGES", "MOVED", "Change", "as_points", "changed", "coincidences", "size_of",
    "teacher_points",
]  # fmt: skip

MOVED = 1e-3  # of the teacher's size; a point that is nearer to its old place has not moved
MOST = 20  # points; more cannot be told apart in a picture


@dataclass(frozen=True)
class Change:
    """A way to move points: ``move(points, strength, seed)`` on centred points of size 1."""

    label: str
    move: Callable[[Tensor, float, int], Tensor]
    words: Callable[[float], str]


def _turned(x: Tensor, strength: float, seed: int) -> Tensor:
    a = math.radians(90 * strength)
    return x @ x.new_tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])


def _towards(x: Tensor, rows: Sequence[int], ends: Sequence[int], strength: float) -> Tensor:
    """Rows on their way to the places of others."""
    x, start = x.clone(), x
    x[rows] += strength * (start[ends] - start[rows])
    return x


def _scattered(x: Tensor, strength: float, seed: int) -> Tensor:
    random = generator(seed, "scattered points")
    ends = 2 * torch.rand(*x.shape, dtype=x.dtype, generator=random) - 1
    return x + strength * (ends - x)


CHANGES: dict[str, Change] = {
    "same": Change("none", lambda x, s, _: x, lambda s: "every point in its place"),
    "shift": Change(
        "shift", lambda x, s, _: x + s * x.new_tensor([0.7, 0.5]), lambda s: "all points shifted"
    ),
    "rotation": Change("rotation", _turned, lambda s: f"turned by {90 * s:.0f} degrees"),
    "reflection": Change(
        "reflection",
        lambda x, s, _: x * x.new_tensor([1 - 2 * s, 1]),
        lambda s: f"left and right multiplied by {1 - 2 * s:.2g}",
    ),
    "scaling": Change(
        "scaling", lambda x, s, _: (1 + 0.8 * s) * x, lambda s: f"{1 + 0.8 * s:.2f} times as large"
    ),
    "shear": Change(
        "shear",
        lambda x, s, _: x + 0.8 * s * x[:, 1:] * x.new_tensor([1, 0]),
        lambda s: f"sheared by {0.8 * s:.2f}",
    ),
    "line": Change(
        "collapse to a line",
        lambda x, s, _: x * x.new_tensor([1, 1 - s]),
        lambda s: f"height reduced to {100 * (1 - s):.0f} %",
    ),
    "point": Change(
        "collapse to a point",
        lambda x, s, _: (1 - s) * x,
        lambda s: f"all sizes reduced to {100 * (1 - s):.0f} %",
    ),
    "coincident": Change(
        "two points coincide",
        lambda x, s, _: _towards(x, [1], [0], s),
        lambda s: f"point 1 went {100 * s:.0f} % of its way to point 0",
    ),
    "swap": Change(
        "two points swap places",
        lambda x, s, _: _towards(x, [0, 1], [1, 0], s),
        lambda s: f"points 0 and 1 went {100 * s:.0f} % of the way to each other's place",
    ),
    "random": Change(
        "random places", _scattered, lambda s: f"{100 * s:.0f} % of the way to random places"
    ),
}


def as_points(values: object, name: str = "points", n: int | None = None) -> Tensor:
    """Anything like an array as points ``(n, 2)`` in double precision.

    Raises:
        ValueError: not numbers, another shape, fewer than 3 or more than 20 points, NaN or
            infinity; or not ``n`` points where that is given.
    """
    try:
        x = torch.as_tensor(values, dtype=torch.float64).detach().cpu().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name}: expected n points in the plane, [[x, y], ...], got {values!r}"
        ) from error
    if x.ndim != 2 or x.shape[1] != 2:
        raise ValueError(
            f"{name}: expected shape (n, 2), a row [x, y] for each point, got {tuple(x.shape)}"
        )
    if not 3 <= len(x) <= MOST:
        raise ValueError(
            f"{name}: expected 3 to {MOST} points (an angle needs three), got {len(x)}"
        )
    if n is not None and len(x) != n:
        raise ValueError(f"{name}: expected {n} points, as the teacher has, got {len(x)}")
    if not torch.isfinite(x).all():
        rows = (~torch.isfinite(x)).any(1).nonzero().flatten().tolist()
        raise ValueError(f"{name}: NaN or infinity in row {', '.join(map(str, rows))}")
    return x


def teacher_points(n: int = 5, seed: int = 0) -> Tensor:
    """Points ``(n, 2)`` around the origin, no two too close, the farthest at 1.

    Raises:
        ValueError: n is not a whole number from 3 to 20.
    """
    n, random = whole("n", n, 3, MOST), generator(seed, "teacher points")
    jitter, far = torch.rand(2, n, dtype=torch.float64, generator=random)
    turns = 2 * math.pi * (torch.arange(n) + 0.6 * (jitter - 0.5)) / n
    x = (0.5 + 0.5 * far)[:, None] * torch.stack([turns.cos(), turns.sin()], 1)
    x = x - x.mean(0)
    return (x / size_of(x)).round(decimals=2)


def size_of(points: Tensor) -> float:
    """The largest distance to the centre; 1 for points that are all in one place."""
    return (points - points.mean(0)).norm(dim=1).max().item() or 1.0


def changed(points: Tensor, name: str, strength: float = 1.0, seed: int = 0) -> Tensor:
    """The points after a change: one of :data:`CHANGES`, from 0 (not at all) to 1 (all the way).

    Args:
        points: ``(n, 2)``.
        name: of the change.
        strength: from 0 to 1.
        seed: of ``random``.

    Raises:
        ValueError: an unknown name (lists the changes), or a strength outside [0, 1].
    """
    if name not in CHANGES:
        raise ValueError(f"unknown change {name!r}; choose one of {', '.join(CHANGES)}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength: expected a number from 0 to 1, got {strength!r}")
    centre, size = points.mean(0), size_of(points)
    return centre + size * CHANGES[name].move((points - centre) / size, strength, seed)


def coincidences(points: Tensor, size: float = 1.0) -> list[tuple[int, int]]:
    """Pairs of points in one place."""
    near = (pairwise_distances(points) <= MOVED * size).triu(1)
    return [(int(i), int(j)) for i, j in near.nonzero()]
