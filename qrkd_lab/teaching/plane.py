"""Points in the plane: how they can be moved, what the losses say of it, and where they pull."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from qrkd_lab.checks import whole
from qrkd_lab.kernels.classical import Kernel
from qrkd_lab.kernels.encoders import standardise
from qrkd_lab.kernels.quantum import FidelityKernel
from qrkd_lab.losses import angle_loss, distance_loss, kernel_loss
from qrkd_lab.relations import pairwise_distances
from qrkd_lab.seeds import generator

__all__ = [
    "CHANGES",
    "Change",
    "FLAT",
    "MOVED",
    "Pull",
    "RELATIONS",
    "SEEN",
    "as_points",
    "changed",
    "coincidences",
    "downhill",
    "encoded",
    "fall_in_words",
    "force_in_words",
    "loss_in_words",
    "plane_kernel",
    "pull",
    "remark",
    "size_of",
    "teacher_points",
    "verdict",
]


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
    "shift": Change("shift", lambda x, s, _: x + s * x.new_tensor([0.7, 0.5]),
                    lambda s: "all points shifted"),
    "rotation": Change("rotation", _turned, lambda s: f"turned by {90 * s:.0f} degrees"),
    "reflection": Change("reflection", lambda x, s, _: x * x.new_tensor([1 - 2 * s, 1]),
                         lambda s: f"left and right multiplied by {1 - 2 * s:.2g}"),
    "scaling": Change("scaling", lambda x, s, _: (1 + 0.8 * s) * x,
                      lambda s: f"{1 + 0.8 * s:.2f} times as large"),
    "shear": Change("shear", lambda x, s, _: x + 0.8 * s * x[:, 1:] * x.new_tensor([1, 0]),
                    lambda s: f"sheared by {0.8 * s:.2f}"),
    "line": Change("collapse to a line", lambda x, s, _: x * x.new_tensor([1, 1 - s]),
                   lambda s: f"height reduced to {100 * (1 - s):.0f} %"),
    "point": Change("collapse to a point", lambda x, s, _: (1 - s) * x,
                    lambda s: f"all sizes reduced to {100 * (1 - s):.0f} %"),
    "coincident": Change("two points coincide", lambda x, s, _: _towards(x, [1], [0], s),
                         lambda s: f"point 1 went {100 * s:.0f} % of its way to point 0"),
    "swap": Change("two points swap places", lambda x, s, _: _towards(x, [0, 1], [1, 0], s),
                   lambda s: f"points 0 and 1 went {100 * s:.0f} % of the way to each other's "
                   "place"),
    "random": Change("random places", _scattered,
                     lambda s: f"{100 * s:.0f} % of the way to random places"),
}  # fmt: skip


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


RELATIONS = {"distance": "distances", "angle": "angles", "kernel": "the kernel"}
SEEN = 1e-6  # a loss below it is blind: relations that differ by 0.0014 at most, root mean square
FLAT = 1e-3  # a gradient shorter than this, in units of 1 / size, leads nowhere soon
STUCK = 1e-3  # a loss that stays above this has not found the teacher's shape


@lru_cache(maxsize=1)
def plane_kernel() -> Kernel:
    """The kernel that points in the plane are shown with: fidelity of a zz circuit, two qubits."""
    return FidelityKernel("zz", qubits=2, bandwidth=0.125)


def encoded(points: Tensor, size: float = 1.0) -> Tensor:
    """Points as angles ``(n, 2)``: each coordinate standardised over the points, as encoders do."""
    return standardise((points - points.detach().mean(0)) / size)


@dataclass(frozen=True)
class Pull:
    """What the losses say of a student's points, and where they pull each.

    Attributes:
        losses: relation to loss, without its weight.
        weights: relation to weight.
        gradient: ``(n, 2)`` of the weighted sum; downhill is against it.
    """

    losses: Mapping[str, float]
    weights: Mapping[str, float]
    gradient: Tensor

    @property
    def total(self) -> float:
        """The weighted sum."""
        return sum(self.weights[name] * loss for name, loss in self.losses.items())

    @property
    def lengths(self) -> Tensor:
        """Length of each point's gradient ``(n,)``."""
        return self.gradient.norm(dim=1)


def pull(student: Tensor, teacher: Tensor, weights: Mapping[str, float]) -> Pull:
    """Losses of distances, angles and kernel, and the gradient of their weighted sum.

    Args:
        student, teacher: points ``(n, 2)``.
        weights: of ``distance``, ``angle`` and ``kernel``, each >= 0; one left out is 0.

    Raises:
        ValueError: an unknown relation, or a weight that is no finite number >= 0.
    """
    weights = {**dict.fromkeys(RELATIONS, 0.0), **weights}
    for name, weight in weights.items():
        if name not in RELATIONS:
            raise ValueError(f"unknown relation {name!r}; choose from {', '.join(RELATIONS)}")
        if not 0 <= weight < math.inf:
            raise ValueError(f"{name}: expected a weight >= 0, got {weight!r}")
    x, size = student.detach().requires_grad_(), size_of(teacher)
    losses = {
        "distance": distance_loss(x, teacher),
        "angle": angle_loss(x, teacher),
        "kernel": kernel_loss(encoded(x, size), encoded(teacher, size), plane_kernel()),
    }
    total = sum(weights[name] * loss for name, loss in losses.items())
    (gradient,) = torch.autograd.grad(total, x)
    return Pull({name: loss.item() for name, loss in losses.items()}, weights, gradient)


def downhill(
    student: Tensor,
    teacher: Tensor,
    weights: Mapping[str, float],
    step: float = 0.2,
    steps: int = 1,
) -> tuple[list[Tensor], list[float]]:
    """Follow the gradient downhill: the places after each step, and the loss at each.

    A step is ``step`` times the squared size of the teacher's points times the gradient, so that
    its effect does not depend on their unit.

    Returns:
        ``steps + 1`` point sets ``(n, 2)``, the first is ``student``; and as many losses.
    """
    rate, path, losses = step * size_of(teacher) ** 2, [student.detach()], []
    for _ in range(steps):
        now = pull(path[-1], teacher, weights)
        losses.append(now.total)
        path.append(path[-1] - rate * now.gradient)
    return path, [*losses, pull(path[-1], teacher, weights).total]


def verdict(student: Tensor, teacher: Tensor, losses: Mapping[str, float]) -> str:
    """Which relations see that the points moved, in a sentence, from the numbers alone."""
    far = (student - teacher).norm(dim=1) > MOVED * size_of(teacher)
    moved, n = int(far.sum()), len(far)
    if not moved:
        return "No point moved: every relation is the teacher's"
    blind = [RELATIONS[name] for name, loss in losses.items() if loss < SEEN]
    seeing = [RELATIONS[name] for name, loss in losses.items() if loss >= SEEN]
    said = []
    for names, one, many in ((blind, "is blind to", "are blind to"), (seeing, "sees", "see")):
        listed = " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
        verb = one if names == [RELATIONS["kernel"]] else many
        said += [f"{listed} {verb} it"] if names else []
    who = "Every point" if moved == n else f"{moved} of {n} points"
    return f"{who} moved; {', '.join(said)}"


def remark(student: Tensor, teacher: Tensor, found: Pull) -> str:
    """What is odd about these points, in a sentence; empty where nothing is."""
    pairs, longest = coincidences(student, size_of(teacher)), found.lengths.max().item()
    if not any(found.weights.values()):
        return "All weights are 0: there is no loss, and nothing pulls."
    if len(pairs) == math.comb(len(student), 2):
        return "All points are in one place: no direction is better than another."
    if pairs:
        i, j = pairs[0]
        more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
        return (
            f"Points {i} and {j} coincide{more}: between them there is no direction and no pull; "
            f"the longest gradient stays at {longest:.2g}."
        )
    if size_of(teacher) * longest < FLAT and found.total > STUCK:
        return (
            "The loss is not 0, yet nearly nothing pulls: a local minimum or a saddle; a push by "
            "hand may lead out of it."
        )
    return ""


def loss_in_words(found: Pull) -> str:
    """The weighted sum and its terms."""
    losses = found.losses.items()
    terms = [f"{found.weights[name]:g} · {loss:.4f} ({name})" for name, loss in losses]
    return f"Loss {found.total:.4f} = {' + '.join(terms)}."


def force_in_words(found: Pull, size: float = 1.0) -> str:
    """How long the gradient is, and at which point it is longest; empty without a weight."""
    length, point = found.gradient.norm().item(), int(found.lengths.argmax())
    if not any(found.weights.values()):
        return ""
    if size * length < FLAT:
        return f"The gradient is shorter than {FLAT / size:.2g}: next to nothing pulls."
    return f"The gradient is {length:.2g} long, at point {point} alone {found.lengths[point]:.2g}."


def fall_in_words(losses: Sequence[float]) -> str:
    """What the last step downhill did to the loss; empty without a step."""
    if len(losses) < 2:
        return ""
    before, after = losses[-2:]
    if len(losses) > 10 and after > STUCK and abs(losses[-11] - after) < 0.02 * after:
        return (
            "Ten steps changed the loss by less than 2 %: a local minimum, a saddle, or a step "
            "that is too long."
        )
    if after > 1.001 * before and after > SEEN:
        return f"The last step raised the loss by {after - before:.2g}: the step is too long."
    if before - after < SEEN / 1000:
        return "The last step left the loss as it was."
    return f"The last step lowered the loss by {before - after:.2g}."
