r"""Where a relational loss pulls points of the plane, and what it is blind to, in words.

What is said here goes by the numbers alone: a loss is compared with zero by :data:`SEEN`, a place
by :data:`~qrkd_lab.plane.MOVED`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from qrkd_lab.kernels.base import Kernel
from qrkd_lab.kernels.encoders import standardise
from qrkd_lab.losses import angle_loss, distance_loss, kernel_loss
from qrkd_lab.plane import MOVED, coincidences, size_of

__all__ = [
    "FLAT", "RELATIONS", "SEEN", "Pull", "downhill", "encoded", "fall_in_words", "force_in_words",
    "loss_in_words", "plane_kernel", "pull", "remark", "verdict",
]  # fmt: skip

RELATIONS = {"distance": "distances", "angle": "angles", "kernel": "the kernel"}
SEEN = 1e-6  # a loss below it is blind: relations that differ by 0.0014 at most, root mean square
FLAT = 1e-3  # a gradient shorter than this, in units of 1 / size, leads nowhere soon
STUCK = 1e-3  # a loss that stays above this has not found the teacher's shape


@lru_cache(maxsize=1)
def plane_kernel() -> Kernel:
    """The kernel that points in the plane are shown with: fidelity of a zz circuit, two qubits."""
    from qrkd_lab.kernels import FidelityKernel

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


def pull(
    student: Tensor, teacher: Tensor, weights: Mapping[str, float], kernel: Kernel | None = None
) -> Pull:
    """Losses of distances, angles and kernel, and the gradient of their weighted sum.

    Args:
        student, teacher: points ``(n, 2)``.
        weights: of ``distance``, ``angle`` and ``kernel``, each >= 0; one left out is 0.
        kernel: on two angles; None: :func:`plane_kernel`.

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
    kernel = kernel or plane_kernel()
    losses = {
        "distance": distance_loss(x, teacher),
        "angle": angle_loss(x, teacher),
        "kernel": kernel_loss(encoded(x, size), encoded(teacher, size), kernel),
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
    kernel: Kernel | None = None,
) -> tuple[list[Tensor], list[float]]:
    """Follow the gradient downhill: the places after each step, and the loss at each.

    A step is ``step`` times the squared size of the teacher's points times the gradient, so that
    its effect does not depend on their unit.

    Returns:
        ``steps + 1`` point sets ``(n, 2)``, the first is ``student``; and as many losses.
    """
    rate, path, losses = step * size_of(teacher) ** 2, [student.detach()], []
    for _ in range(steps):
        now = pull(path[-1], teacher, weights, kernel)
        losses.append(now.total)
        path.append(path[-1] - rate * now.gradient)
    return path, [*losses, pull(path[-1], teacher, weights, kernel).total]


def verdict(student: Tensor, teacher: Tensor, losses: Mapping[str, float]) -> str:
    """Which relations see that the points moved, in a sentence, from the numbers alone."""
    far = (student - teacher).norm(dim=1) > MOVED * size_of(teacher)
    moved, n = int(far.sum()), len(far)
    if not moved:
        return "No point moved: every relation is the teacher's"
    who = "every point" if moved == n else f"{moved} of {n} points"
    blind = [RELATIONS[name] for name, loss in losses.items() if loss < SEEN]
    seeing = [RELATIONS[name] for name, loss in losses.items() if loss >= SEEN]
    if not blind:
        return f"{who} moved; {_listed(seeing)} see it".capitalize()
    said = f"{who} moved; {_listed(blind)} {_verb(blind, 'is', 'are')} blind to it"
    if seeing:
        said += f", {_listed(seeing)} {_verb(seeing, 'sees', 'see')} it"
    return said[0].upper() + said[1:]


def remark(student: Tensor, teacher: Tensor, found: Pull) -> str:
    """What is odd about these points, in a sentence; empty where nothing is."""
    size = size_of(teacher)
    longest = size * found.lengths.max().item()
    pairs = coincidences(student, size)
    if not any(found.weights.values()):
        return "All weights are 0: there is no loss, and nothing pulls."
    if len(pairs) == len(student) * (len(student) - 1) // 2:
        return "All points are in one place: no direction is better than another."
    if pairs:
        i, j = pairs[0]
        more = f" (and {len(pairs) - 1} more)" if len(pairs) > 1 else ""
        return (
            f"Points {i} and {j} coincide{more}: between them there is no direction and no pull; "
            f"the longest gradient stays at {found.lengths.max():.2g}."
        )
    if longest < FLAT and found.total > STUCK:
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
    whole, lengths = found.gradient.norm().item(), found.lengths
    if not any(found.weights.values()):
        return ""
    if size * whole < FLAT:
        return f"The gradient is shorter than {FLAT / size:.2g}: next to nothing pulls."
    point = int(lengths.argmax())
    return f"The gradient is {whole:.2g} long, at point {point} alone {lengths[point]:.2g}."


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


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _verb(names: Sequence[str], one: str, many: str) -> str:
    return one if list(names) == [RELATIONS["kernel"]] else many
