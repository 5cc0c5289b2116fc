"""Losses: how far the student is from the teacher, relation by relation, and all terms together.

.. math:: L = L_{task} + w_{kd} L_{kd} + w_d L_{distance} + w_a L_{angle} + w_k L_{kernel}

A *relation* says something about every two (or three) samples of a batch. A relational term
compares the student's with the teacher's: QRKD is RKD with one more relation, a kernel matrix. What
the outputs are for, and the terms of the outputs, is in :mod:`qrkd_lab.tasks`.

Every loss is ``f(student, teacher) -> scalar >= 0``; weights are in :class:`DistillationLoss`. No
gradient reaches the teacher. All compute in float32 at least and come back in the student's type
(:func:`~qrkd_lab.checks.in_float32`). All raise a TypeError or ValueError unless they get finite
floating-point tensors of the shapes given.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrkd_lab.checks import at_least_float32, in_float32, no_second_derivative, positive
from qrkd_lab.kernels.classical import Kernel
from qrkd_lab.kernels.encoders import KernelRelation
from qrkd_lab.relations import CLASSICAL, normalised_distances, own_relations, triplet_angles
from qrkd_lab.tasks import CLASSIFICATION, Task, kd_loss, same_shape

__all__ = [
    "DistillationLoss", "Losses", "Outputs", "TeacherBatch", "angle_loss", "check_batch",
    "distance_loss", "kd_loss", "kernel_loss", "normalised_distances", "relation_loss",
    "term_gradients",
]  # fmt: skip

# ---- relation by relation


@in_float32
def relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Mean Huber distance of two relations over *distinct* samples.

    .. math:: L = \frac{1}{|P|} \sum_{p \in P} h(R^s_p - R^t_p), \qquad
              h(u) = \tfrac12 u^2 \text{ if } |u| < 1 \text{ else } |u| - \tfrac12

    P holds the pairs i != j of an ``(n, n)`` relation, or the triples with i, j, k all different of
    an ``(n, n, n)`` one. (Averages over all n^2 or n^3 entries, as in Park et al.'s code, are
    smaller by (n-1)/n or (n-1)(n-2)/n^2.)

    Args:
        student, teacher: both ``(n, n)`` or both ``(n, n, n)``.

    Returns:
        A scalar; 0 for a batch too small to have such pairs or triples.
    """
    same_shape(student, teacher, "relations")
    teacher = teacher.detach().to(student.dtype)
    n = student.shape[-1]
    distinct = n * (n - 1) * (n - 2 if student.ndim == 3 else 1)
    if student.ndim == 2:
        # A sample with itself is made equal on both sides, so that it neither counts nor pulls.
        target = teacher.clone()
        target.diagonal().copy_(student.detach().diagonal())
        return F.smooth_l1_loss(student, target, reduction="sum") / max(distinct, 1)
    # Of a cube, i = j and j = k are 0 on both sides. What is left, i = k, is the angle of a
    # direction with itself: it has no slope, so taking its value off is enough, and needs no copy.
    itself = F.smooth_l1_loss(
        student.detach().diagonal(dim1=1, dim2=2), teacher.diagonal(dim1=1, dim2=2), reduction="sum"
    )
    return (F.smooth_l1_loss(student, teacher, reduction="sum") - itself) / max(distinct, 1)


@in_float32
def distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""RKD-D: the student's distances follow the teacher's, up to scale.

    .. math:: L_{distance} = \frac{1}{n(n-1)} \sum_{i \ne j}
              h\!\left(\frac{D^s_{ij}}{\mu^s} - \frac{D^t_{ij}}{\mu^t}\right), \qquad
              \mu = \frac{1}{n(n-1)} \sum_{i \ne j} D_{ij}

    with h of :func:`relation_loss`.

    Args:
        student, teacher: features ``(n, d_s)`` and ``(n, d_t)``, any unit.

    Returns:
        A scalar without unit, blind to rotation, shift and scale (of any size) of either side.

    Source: Park et al., CVPR 2019, eq. 5-7.
    """
    with torch.no_grad():
        target = normalised_distances(teacher)
    return relation_loss(normalised_distances(student), target)


@in_float32
def angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""RKD-A: the student's angles follow the teacher's.

    .. math:: L_{angle} = \frac{1}{n(n-1)(n-2)} \sum_{i,j,k\ distinct}
              h(A^s_{jik} - A^t_{jik})

    with A of :func:`~qrkd_lab.relations.triplet_angles` and h of :func:`relation_loss`.

    Args:
        student, teacher: features ``(n, d_s)`` and ``(n, d_t)``, any unit.

    Returns:
        A scalar without unit, blind to rotation, shift and scale (of any size) of either side.

    Source: Park et al., CVPR 2019, eq. 8-10.
    """
    with torch.no_grad():
        target = triplet_angles(teacher)
    return relation_loss(triplet_angles(student), target)


@in_float32
def kernel_loss(student: Tensor, teacher: Tensor, kernel: Kernel) -> Tensor:
    r"""The quantum term of QRKD: the student's kernel matrix follows the teacher's.

    .. math:: L_{kernel} = \frac{1}{n(n-1)} \sum_{i \ne j} h(K^s_{ij} - K^t_{ij})

    with h of :func:`relation_loss`: half the squared difference, as kernel values lie in [0, 1].

    Args:
        student, teacher: angles ``(n, q)``, radians before the kernel's bandwidth.
        kernel: any :class:`~qrkd_lab.kernels.classical.Kernel`, quantum or classical.

    Returns:
        A scalar without unit, in [0, 1/2].
    """
    with torch.no_grad():
        target = kernel(teacher)
    return relation_loss(kernel(student), target)


# ---- a batch


class Outputs(NamedTuple):
    """What a model says about a batch: logits ``(m, c)`` and tapped features ``(n, d)``.

    Of images m = n; of a text there is a prediction per token (c is v, or logits ``(n, t, v)``).
    """

    logits: Tensor
    features: Tensor


@dataclass
class TeacherBatch:
    """The teacher's outputs on one batch; all arms share one, so each relation is computed once."""

    outputs: Outputs
    untrained: Callable[[], Tensor] | None = None  # features (n, d_t), for "random_teacher"
    _made: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def taught(self, task: Task, temperature: float) -> Any:  # noqa: ANN401
        """What the KD term of a task needs of the logits, computed when first asked for."""
        if (key := (id(task), temperature)) not in self._made:
            self._made[key] = task.taught(self.outputs.logits, temperature)
        return self._made[key]

    def relation(
        self, key: Hashable, of_features: Callable[[Tensor], Tensor], untrained: bool = False
    ) -> Tensor:
        """The relation under ``key``, computed by ``of_features`` when first asked for."""
        if (key, untrained) not in self._made:
            if untrained and self.untrained is None:
                raise ValueError("the control random_teacher needs TeacherBatch(untrained=...)")
            with torch.no_grad():
                features = self.untrained() if untrained else self.outputs.features
                self._made[key, untrained] = of_features(at_least_float32(features))
        return self._made[key, untrained]

    def only(self, samples: Tensor) -> TeacherBatch:
        """The same without the features of some samples; ``(n,)``, True for those that stay."""
        untrained = None if self.untrained is None else lambda: self.untrained()[samples]
        features = self.outputs.features[samples]
        return TeacherBatch(self.outputs._replace(features=features), untrained)


class Losses(NamedTuple):
    """The weighted ``total`` and every term by name, unweighted scalars."""

    total: Tensor
    terms: dict[str, Tensor]


# ---- the whole loss


class DistillationLoss(nn.Module):
    r"""Task loss plus any of the distillation terms, each logged by its name.

    .. math:: L = L_{task} + w_{kd} L_{kd} + w_d L_{distance} + w_a L_{angle} + w_k L_{kernel}

    A prediction whose target is -100 counts in no term; a sample whose predictions are all ignored
    is left out of the relations, where it is known which sample a target belongs to (as many rows
    of features as targets, or as rows of targets). Without any target all terms are 0. A sample
    without label, its target -101 (NaN where targets are real), counts in all terms but the task's.

    With ``kernel_dose`` the kernel's weight is chosen anew in each batch, such that its term pulls
    at the student's features f with that multiple of the pull of distance and angle,

    .. math:: w_k = \text{dose} \cdot
              \frac{\lVert \nabla_f (w_d L_{distance} + w_a L_{angle}) \rVert}
                   {\lVert \nabla_f L_{kernel} \rVert}

    with norms over the whole batch, and no gradient through w_k. So kernels of any size and slope
    are compared at the same strength. The control ``detached`` has no pull and keeps its weight.
    With ``kernel_share`` s in its place the dose is s, and distance and angle keep 1 - s of their
    weights: the kernel is trained on in place of them, not on top of them. With a share of 1 they
    only measure how hard the kernel has to pull. Relations of your own count there as distance and
    angle do.

    A term with weight 0 is not computed. The encoder of the kernel relation may hold parameters (an
    adapter): train ``loss.parameters()`` along with the student's, and throw them away after.

    Args:
        kd, distance, angle: weights >= 0.
        kernel: ``(relation, weight)``, the relation a
            :class:`~qrkd_lab.kernels.encoders.KernelRelation`.
        temperature: of the KD term.
        kernel_dose: a multiple > 0, without unit; None: the kernel keeps its weight.
        kernel_share: a fraction above 0, at most 1, in place of the dose.
        task: of :data:`~qrkd_lab.tasks.TASKS`, or one of your own; what targets are depends on it.
        relations: of your own, ``{name: (function, weight)}``: a term more for each, by
            :func:`relation_loss`; see :func:`~qrkd_lab.relations.own_relations`.

    Attributes:
        pulls: of the last batch, with a dose: the norm of each relation's weighted gradient at the
            features (``distance_pull``, ...), ``kernel_weight``, and ``kernel_dose`` as reached.

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
        kernel_dose: float | None = None,
        kernel_share: float | None = None,
        task: Task = CLASSIFICATION,
        relations: Mapping[str, tuple[Callable[[Tensor], Tensor], float]] | None = None,
    ) -> None:
        super().__init__()
        self.task = task
        pair = kernel if kernel is not None else (None, 0.0)
        if not isinstance(pair, tuple) or not isinstance(pair[0], KernelRelation | None):
            raise TypeError(
                "kernel: expected (KernelRelation(kernel, encoder), weight), "
                f"got {type(kernel).__name__}"
            )
        self.relation, kernel_weight = pair
        own = own_relations({} if relations is None else relations)
        self.relations = CLASSICAL | {name: relation for name, (relation, _) in own.items()}
        self.temperature = positive("temperature", temperature)
        self.weights = {"kd": kd, "distance": distance, "angle": angle, "kernel": kernel_weight}
        self.weights |= {name: weight for name, (_, weight) in own.items()}
        for name, weight in self.weights.items():
            number = isinstance(weight, Real) and not isinstance(weight, bool)
            if not number or not 0 <= weight < float("inf"):
                raise ValueError(f"weight of {name}: expected a finite number >= 0, got {weight!r}")
        if kernel_dose is not None and kernel_share is not None:
            raise ValueError("kernel_share takes the place of kernel_dose: give one of the two")
        dose = kernel_dose if kernel_share is None else kernel_share
        self.kernel_dose = None if dose is None else positive("kernel_dose or kernel_share", dose)
        self._kept = 1.0 if kernel_share is None else 1 - self.kernel_dose  # of distance and angle
        if self._kept < 0:
            raise ValueError(f"kernel_share: expected at most 1, got {kernel_share}")
        self.pulls = dict[str, Tensor]()
        others = any(self.weights[name] > 0 for name in self.relations)
        if self.kernel_dose is not None and not (kernel_weight > 0 and others):
            raise ValueError(
                "kernel_dose and kernel_share are multiples of the pull of distance and angle: "
                "give one of them a weight, and kernel=(relation, 1.0)"
            )

    @property
    def active(self) -> list[str]:
        """The distillation terms that have a weight."""
        return [name for name, weight in self.weights.items() if weight > 0]

    def forward(
        self, student: Outputs, teacher: Outputs | TeacherBatch | None, targets: Tensor
    ) -> Losses:
        """The losses of one batch.

        Args:
            student: logits ``(m, c)`` or ``(n, t, v)``, and features ``(n, d_s)``.
            teacher: the same of the teacher; a :class:`TeacherBatch` where several arms share it,
                None where only the task counts.
            targets: classes ``(m,)`` or ``(n, t)``, whole numbers; -100: does not count, -101: has
                no label. Of another task what its loss takes.

        Raises:
            TypeError: ``student`` is no Outputs, or targets are no whole numbers.
            ValueError: a single class, targets of another shape or beyond the classes, no teacher.
        """
        if not isinstance(student, Outputs):
            raise TypeError(f"student: expected Outputs(logits, features), got {type(student)}")
        if isinstance(teacher, Outputs):
            teacher = TeacherBatch(teacher)
        active, student = self.active, Outputs(*map(at_least_float32, student))
        terms = {"task": self.task.term(student.logits, targets)}
        if active and teacher is None:
            raise ValueError(f"the terms {', '.join(active)} need a teacher, got None")
        counted = self.task.counted(targets)
        if "kd" in active:
            taught = teacher.taught(self.task, self.temperature)
            terms["kd"] = self.task.follow(student.logits, taught, self.temperature, counted)
        kept = {name: self._kept * self.weights[name] for name in self.relations}
        weights: dict[str, Any] = self.weights | kept
        if relational := [name for name in active if name != "kd"]:
            relations = partial(
                self._relational, relational, teacher=teacher, targets=targets, counted=counted
            )
            if self.kernel_dose is None or self.relation.control == "detached":
                terms |= relations(student.features)
            else:
                found, weight = self._dosed(relations, student.features)
                terms, weights = terms | found, weights | {"kernel": weight}
        # A plain sum in a fixed order: the same arm gives the same bits, alone or beside others.
        total = terms["task"]
        for name in active:
            total = total + weights[name] * terms[name]
        return Losses(total, terms)

    def _relational(
        self,
        names: list[str],
        features: Tensor,
        teacher: TeacherBatch,
        targets: Tensor,
        counted: Tensor,
    ) -> dict[str, Tensor]:
        """The terms that compare samples, of those samples that count."""
        if not counted.any():
            return dict.fromkeys(names, (0 * features).sum())
        if len(features) in (len(counted), len(targets)):
            samples = counted.reshape(len(features), -1).any(1)
            if not samples.all():
                features, teacher = features[samples], teacher.only(samples)
        terms = {}
        for name in names:
            relation = self.relation if name == "kernel" else self.relations[name]
            untrained = relation.control == "random_teacher"
            target = teacher.relation(relation.teacher_key, relation.teacher, untrained)
            terms[name] = relation_loss(*relation.compared(features, target))
        return terms

    def _dosed(
        self, relations: Callable[[Tensor], dict[str, Tensor]], features: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The relational terms and the kernel's weight; each gradient is computed once."""
        inputs = [features.detach().requires_grad_(), *self.parameters()]
        with torch.enable_grad():
            terms = relations(inputs[0])
            gradients = {
                name: torch.autograd.grad(term, inputs, retain_graph=True, materialize_grads=True)
                for name, term in terms.items()
            }
        found = {
            name: _WithGradient.apply(term.detach(), gradients[name], features, *inputs[1:])
            for name, term in terms.items()
        }
        own = {name: self.weights[name] * pull for name, (pull, *_) in gradients.items()}
        kernel = gradients["kernel"][0].norm()
        classical = sum(pull for name, pull in own.items() if name != "kernel").norm()
        weight = torch.where(kernel > 0, self.kernel_dose * classical / kernel, 0)
        self.pulls = {f"{name}_pull": self._kept * pull.norm() for name, pull in own.items()}
        reached = weight * kernel
        self.pulls |= {
            "kernel_pull": reached,
            "kernel_weight": weight,
            "kernel_dose": reached / classical.clamp(min=torch.finfo(classical.dtype).tiny),
        }
        return found, weight

    def __repr__(self) -> str:
        names = {"kd": f"kd(T={self.temperature:g})", "kernel": f"{self.relation}"}
        parts = [f"{self.weights[name]:g} {names.get(name, name)}" for name in self.active]
        if self.kernel_dose is not None:
            how = "at dose" if self._kept == 1 else "in place of distance and angle, share"
            parts[self.active.index("kernel")] = f"{self.relation} {how} {self.kernel_dose:g}"
        return f"DistillationLoss({' + '.join(['task', *parts])})"


class _WithGradient(torch.autograd.Function):
    """A value whose gradients with respect to its inputs are at hand."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: Sequence[Tensor], *inputs: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        no_second_derivative()
        return None, None, *(gradient * one for one in ctx.saved_tensors)


def term_gradients(losses: Losses, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
    r"""The gradient of each unweighted term alone, all leaves in one vector.

    .. math:: g_{term} = \nabla_\theta L_{term}

    Args:
        losses: of one batch; its graph is kept.
        leaves: what to differentiate by, e.g. ``list(student.parameters())``.

    Returns:
        Name to a vector of all leaves' numbers; zeros where no path leads from a term to a leaf.

    Example:
        >>> w = torch.tensor([3.0], requires_grad=True)
        >>> losses = Losses(w.sum(), {"task": (w**2).sum(), "kernel": (w.detach() ** 2).sum()})
        >>> term_gradients(losses, [w])
        {'task': tensor([6.]), 'kernel': tensor([0.])}
    """
    leaves = list(leaves)
    if not leaves or not all(leaf.requires_grad for leaf in leaves):
        raise ValueError(
            "leaves: expected tensors that ask for a gradient, e.g. list(student.parameters())"
        )
    found = {}
    for name, term in losses.terms.items():
        parts = [torch.zeros_like(leaf) for leaf in leaves]
        if term.requires_grad:  # else autograd refuses, although the answer is simply: none
            parts = torch.autograd.grad(term, leaves, retain_graph=True, materialize_grads=True)
        found[name] = torch.cat([part.flatten() for part in parts])
    return found


def check_batch(terms: Iterable[str], size: int) -> None:
    """Raise where a batch is too small for a term, which would then silently be 0."""
    needs = {term: 3 if term == "angle" else 2 for term in terms if term not in ("task", "kd")}
    term = max(needs, key=needs.__getitem__, default="")
    if term and size < (least := needs[term]):
        raise ValueError(
            f"the {term} term compares {least} samples of a batch, but batches have {size}; it "
            f"would be 0: use batch_size, epoch_size and train_size >= {least} (tap_tokens for the "
            "tap 'tokens'), or another arm"
        )
