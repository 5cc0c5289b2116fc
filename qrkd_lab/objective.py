r"""The objective of a student: the task loss and any of the distillation terms, each by name.

.. math:: L = L_{task} + w_{kd} L_{kd} + w_d L_{distance} + w_a L_{angle} + w_k L_{kernel}

Weights live here and nowhere else; what is reported of a term is its unweighted value.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from numbers import Real
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrkd_lab.kernels.base import positive
from qrkd_lab.kernels.relation import KernelRelation
from qrkd_lab.losses import (
    check_logits,
    normalised_distances,
    relation_loss,
    softened,
    softened_kl,
)
from qrkd_lab.relations import at_least_float32, triplet_angles

__all__ = ["IGNORED", "DistillationLoss", "Losses", "Outputs", "TeacherBatch"]

IGNORED = -100  # a target that does not count, as in torch.nn.functional.cross_entropy


class Outputs(NamedTuple):
    """What a model says about a batch: logits ``(m, c)`` and tapped features ``(n, d)``.

    A row of logits per prediction, a row of features per sample. Images have m = n; a text has a
    prediction per token (c is v), and as many samples as its tap takes. Logits may also be
    ``(n, t, v)``; the last axis is always that of the classes.
    """

    logits: Tensor
    features: Tensor


@dataclass
class TeacherBatch:
    """The teacher's outputs on one batch; each relation is computed once, whoever asks.

    All arms of a study share one of these a batch, so the teacher's side is paid for once.

    Attributes:
        outputs: logits and features of the teacher.
        untrained: gives the features ``(n, d_t)`` of an untrained teacher, for the control
            ``random_teacher``; called at most once, and only if asked for.
    """

    outputs: Outputs
    untrained: Callable[[], Tensor] | None = None
    _relations: dict[Hashable, Tensor] = field(default_factory=dict, repr=False)
    _softened: dict[float, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def softened(self, temperature: float) -> tuple[Tensor, Tensor]:
        """log p and p at a temperature, computed when first asked for."""
        if temperature not in self._softened:
            self._softened[temperature] = softened(self.outputs.logits.flatten(0, -2), temperature)
        return self._softened[temperature]

    def relation(
        self, key: Hashable, of_features: Callable[[Tensor], Tensor], untrained: bool = False
    ) -> Tensor:
        """The relation under ``key``, computed by ``of_features`` when first asked for."""
        if (key, untrained) not in self._relations:
            if untrained and self.untrained is None:
                raise ValueError("the control random_teacher needs TeacherBatch(untrained=...)")
            with torch.no_grad():
                features = self.untrained() if untrained else self.outputs.features
                self._relations[key, untrained] = of_features(at_least_float32(features))
        return self._relations[key, untrained]

    def only(self, samples: Tensor) -> TeacherBatch:
        """The same without the features of some samples; ``(n,)``, True for those that stay."""
        untrained = None if self.untrained is None else lambda: self.untrained()[samples]
        features = self.outputs.features[samples]
        return TeacherBatch(self.outputs._replace(features=features), untrained)


class Losses(NamedTuple):
    """The weighted ``total`` and every term by name, unweighted scalars."""

    total: Tensor
    terms: dict[str, Tensor]


class DistillationLoss(nn.Module):
    r"""Task loss plus any of the four distillation terms, each logged by its name.

    .. math:: L = L_{task} + w_{kd} L_{kd} + w_d L_{distance} + w_a L_{angle} + w_k L_{kernel}

    A prediction whose target is -100 counts in no term. A sample whose predictions are all ignored
    is left out of the relations, where there are as many rows of features as targets (images,
    reviews), or one per row of targets ``(n, t)``. Where neither holds, nothing says which sample a
    target belongs to, and all samples count. A batch of nothing but ignored targets has terms of 0.

    All is computed in float32 at least, also under autocast, and so are total and terms: a weighted
    sum in float16 could overflow. Each gradient has the type of what it belongs to.

    A term with weight 0 is not computed. The encoder of the kernel relation may hold parameters
    (an adapter): train ``loss.parameters()`` along with the student's, and throw them away after.

    Args:
        kd, distance, angle: weights >= 0.
        kernel: ``(relation, weight)``, the relation a
            :class:`~qrkd_lab.kernels.relation.KernelRelation`.
        temperature: of the KD term.

    Raises:
        ValueError: a weight is negative or not finite.

    Example:
        >>> loss = DistillationLoss(kd=1.0, distance=1.0, angle=2.0)
        >>> loss
        DistillationLoss(task + 1 kd(T=4) + 1 distance + 2 angle)
    """

    def __init__(
        self,
        kd: float = 0.0,
        distance: float = 0.0,
        angle: float = 0.0,
        kernel: tuple[KernelRelation, float] | None = None,
        temperature: float = 4.0,
    ) -> None:
        super().__init__()
        pair = kernel if kernel is not None else (None, 0.0)
        if not isinstance(pair, tuple) or not isinstance(pair[0], KernelRelation | None):
            raise TypeError(
                "kernel: expected (KernelRelation(kernel, encoder), weight), "
                f"got {type(kernel).__name__}"
            )
        self.relation, kernel_weight = pair
        temperature = positive("temperature", temperature)
        self.weights = {"kd": kd, "distance": distance, "angle": angle, "kernel": kernel_weight}
        self.temperature = temperature
        for name, weight in self.weights.items():
            number = isinstance(weight, Real) and not isinstance(weight, bool)
            if not number or not 0 <= weight < float("inf"):
                raise ValueError(f"weight of {name}: expected a finite number >= 0, got {weight!r}")

    def forward(
        self, student: Outputs, teacher: Outputs | TeacherBatch | None, targets: Tensor
    ) -> Losses:
        """The losses of one batch.

        Args:
            student: logits ``(m, c)`` or ``(n, t, v)``, and features ``(n, d_s)``.
            teacher: the same of the teacher; a :class:`TeacherBatch` where several arms share it,
                None where only the task counts.
            targets: classes ``(m,)`` or ``(n, t)``, whole numbers; -100: does not count.

        Raises:
            TypeError: ``student`` is no Outputs, or targets are no whole numbers (soft targets are
                a teacher's part: kd takes them as logits).
            ValueError: logits of a single class; targets of another shape, or beyond the classes
                (on a GPU torch itself stops there); no teacher; see also the terms.
        """
        if not isinstance(student, Outputs):
            raise TypeError(f"student: expected Outputs(logits, features), got {type(student)}")
        if isinstance(teacher, Outputs):
            teacher = TeacherBatch(teacher)
        _check_targets(student.logits, targets)
        student = Outputs(*map(at_least_float32, student))
        counted = targets.flatten() != IGNORED
        terms = {"task": _task(student.logits.flatten(0, -2), targets.flatten(), counted)}
        active = [name for name, weight in self.weights.items() if weight > 0]
        if active and teacher is None:
            raise ValueError(f"the terms {', '.join(active)} need a teacher, got None")
        if "kd" in active:
            terms["kd"] = self._kd(student, teacher, counted)
        if relational := [name for name in active if name != "kd"]:
            terms |= self._relational(relational, student, teacher, targets, counted)
        # A plain sum in a fixed order: the same arm gives the same bits, alone or beside others.
        total = terms["task"]
        for name in active:
            total = total + self.weights[name] * terms[name]
        return Losses(total, terms)

    def _kd(self, student: Outputs, teacher: TeacherBatch, counted: Tensor) -> Tensor:
        logits, softened = student.logits.flatten(0, -2), teacher.softened(self.temperature)
        return softened_kl(logits, softened, self.temperature, counted)

    def _relational(
        self,
        names: list[str],
        student: Outputs,
        teacher: TeacherBatch,
        targets: Tensor,
        counted: Tensor,
    ) -> dict[str, Tensor]:
        """The terms that compare samples, without those samples that do not count."""
        features, rows = student.features, len(student.features)
        if rows in (len(counted), len(targets)):
            samples = counted.reshape(rows, -1).any(1)
            if not samples.all():
                if not samples.any():
                    return dict.fromkeys(names, 0 * features.sum())
                student = student._replace(features=features[samples])
                teacher = teacher.only(samples)
            return {name: getattr(self, f"_{name}")(student, teacher) for name in names}
        terms = {name: getattr(self, f"_{name}")(student, teacher) for name in names}
        return {name: torch.where(counted.any(), term, 0) for name, term in terms.items()}

    def _distance(self, student: Outputs, teacher: TeacherBatch) -> Tensor:
        target = teacher.relation("distance", normalised_distances)
        return relation_loss(normalised_distances(student.features), target)

    def _angle(self, student: Outputs, teacher: TeacherBatch) -> Tensor:
        target = teacher.relation("angle", triplet_angles)
        return relation_loss(triplet_angles(student.features), target)

    def _kernel(self, student: Outputs, teacher: TeacherBatch) -> Tensor:
        relation, untrained = self.relation, self.relation.control == "random_teacher"
        target = teacher.relation(relation.teacher_key, relation.teacher, untrained)
        return relation_loss(*relation.compared(student.features, target))

    def __repr__(self) -> str:
        names = {"kd": f"kd(T={self.temperature:g})", "kernel": f"{self.relation}"}
        parts = [
            f"{weight:g} {names.get(name, name)}"
            for name, weight in self.weights.items()
            if weight > 0
        ]
        return f"DistillationLoss({' + '.join(['task', *parts])})"


def _task(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """Mean cross-entropy over the predictions that count; 0 where none does."""
    try:
        total = F.cross_entropy(logits, targets.long(), ignore_index=IGNORED, reduction="sum")
    except IndexError:
        known = targets[counted]
        raise ValueError(
            f"targets: expected classes 0 to {logits.shape[1] - 1} ({logits.shape[1]} logits), or "
            f"{IGNORED} for one that does not count, got {known.min()} to {known.max()}"
        ) from None
    return total / counted.sum().clamp(min=1)


def _check_targets(logits: Tensor, targets: Tensor) -> None:
    check_logits(logits)
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
        got = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
        raise TypeError(
            f"targets: expected classes as whole numbers, got {got}; of soft targets p (n, c) the "
            "task takes p.argmax(1), and kd takes p.log() as the teacher's logits"
        )
    if targets.shape != logits.shape[:-1]:
        raise ValueError(
            f"targets: expected shape {tuple(logits.shape[:-1])} for logits {tuple(logits.shape)}, "
            f"whose last axis is that of the classes, got {tuple(targets.shape)}"
        )
