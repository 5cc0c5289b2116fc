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
    "CHANGES", "MOVED", "Pull", "RELATIONS", "SEEN", "as_points", "changed", "downhill",
    "encoded", "loss_in_words", "plane_kernel", "pull", "remark", "size_of", "teacher_points",
    "verdict",
]  # fmt: skip


MOVED = 1e-3  # of the teacher's size; a point that is nearer to its old place has not moved
MOST = 20  # points; more cannot be told apart in a picture
RELATIONS = {"distance": "distances", "angle": "angles", "kernel": "the kernel"}
SEEN = 1e-6  # a loss below it is blind: relations that differ by 0.0014 at most, root mean square
FLAT = 1e-3  # a gradient shorter than this, in units of 1 / size, leads nowhere soon
STUCK = 1e-3  # a loss that stays above this has not found the teacher's shape


def _turned(x: Tensor, strength: float, seed: int) -> Tensor:
    a = math.radians(90 * strength)
    return x @ x.new_tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]])


def _towards(x: Tensor, rows: Sequence[int], ends: Sequence[int], strength: float) -> Tensor:
    """Rows on their way to the places of others."""
    return x.index_copy(0, torch.tensor(rows), torch.lerp(x[rows], x[ends], strength))


def _scattered(x: Tensor, strength: float, seed: int) -> Tensor:
    random = generator(seed, "scattered points")
    ends = 2 * torch.rand(*x.shape, dtype=x.dtype, generator=random) - 1
    return x + strength * (ends - x)


# Ways to move points: by name, on centred points of size 1, by a strength from 0 to 1, and a seed.
CHANGES: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "same": lambda x, s, _: x,
    "shift": lambda x, s, _: x + s * x.new_tensor([0.7, 0.5]),
    "rotation": _turned,
    "reflection": lambda x, s, _: x * x.new_tensor([1 - 2 * s, 1]),
    "scaling": lambda x, s, _: (1 + 0.8 * s) * x,
    "shear": lambda x, s, _: x + 0.8 * s * x[:, 1:] * x.new_tensor([1, 0]),
    "line": lambda x, s, _: x * x.new_tensor([1, 1 - s]),
    "point": lambda x, s, _: (1 - s) * x,
    "coincident": lambda x, s, _: _towards(x, [1], [0], s),
    "swap": lambda x, s, _: _towards(x, [0, 1], [1, 0], s),
    "random": _scattered,
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
        raise ValueError(f"{name}: expected [[x, y], ...], got {values!r}") from error
    low, high = (3, MOST) if n is None else (n, n)
    if x.ndim != 2 or x.shape[1] != 2 or not low <= len(x) <= high or not x.isfinite().all():
        count = f"3 to {MOST} (an angle needs three)" if n is None else f"{n}, as the teacher has"
        raise ValueError(
            f"{name}: expected finite points (n, 2), a row [x, y] for each, n {count}; got "
            f"{tuple(x.shape)}: {values!r:.80}"
        )
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
    return centre + size * CHANGES[name]((points - centre) / size, strength, seed)


@lru_cache(maxsize=1)
def plane_kernel() -> Kernel:
    """The kernel that points in the plane are shown with: fidelity of a zz circuit, two qubits."""
    return FidelityKernel("zz", qubits=2, bandwidth=0.125)


def encoded(points: Tensor, size: float = 1.0) -> Tensor:
    """Points as angles ``(n, 2)``: each coordinate standardised over the points, as encoders do."""
    return standardise((points - points.detach().mean(0)) / size)


@dataclass(frozen=True)
class Pull:
    """What the losses say of a student's points, and where they pull each."""

    losses: Mapping[str, float]  # by relation, without its weight
    weights: Mapping[str, float]  # by relation
    gradient: Tensor  # (n, 2) of the weighted sum; downhill is against it

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
        weights: of ``distance``, ``angle`` and ``kernel``; one left out is 0.

    Raises:
        ValueError: an unknown relation.
    """
    weights = {**dict.fromkeys(RELATIONS, 0.0), **weights}
    if unknown := weights.keys() - RELATIONS.keys():
        raise ValueError(f"unknown relation {min(unknown)!r}; choose from {', '.join(RELATIONS)}")
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
    size, longest = size_of(teacher), found.lengths.max().item()
    pairs = (pairwise_distances(student) <= MOVED * size).triu(1).nonzero().tolist()
    if not any(found.weights.values()):
        return "All weights are 0: there is no loss, and nothing pulls."
    if pairs:
        return (
            f"Points {pairs[0][0]} and {pairs[0][1]} coincide: between them there is no direction "
            f"and no pull; the longest gradient stays at {longest:.2g}."
        )
    if size * longest < FLAT and found.total > STUCK:
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
