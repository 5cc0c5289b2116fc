"""What a model's outputs are for: the task's loss and score, and how a student follows its teacher.

Classes, real numbers, or labels that are each there or not; a user's own is a :class:`Task`. All
losses are ``f(student, teacher)`` or ``f(outputs, targets)``, scalars >= 0; no gradient reaches the
teacher.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qrkd_lab.checks import at_least_float32, floating, in_float32, no_second_derivative

__all__ = [
    "CLASSIFICATION", "Classification", "IGNORED", "TASKS", "Task", "UNLABELLED", "kd_loss",
    "label_kd", "same_shape",
]  # fmt: skip

IGNORED = -100  # a target that does not count, as in torch.nn.functional.cross_entropy
UNLABELLED = -101  # of a sample without label (NaN in real targets): the task alone leaves it out


# ---- knowledge distillation


@in_float32
def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Hinton's knowledge distillation: the student's softened outputs follow the teacher's.

    .. math:: L_{kd} = \frac{T^2}{n} \sum_i \sum_c p^t_{ic} \log \frac{p^t_{ic}}{p^s_{ic}},
              \qquad p = \operatorname{softmax}(z / T)

    The factor :math:`T^2` keeps the size of the gradient comparable over temperatures. A class that
    the teacher excludes (a logit of -inf) adds nothing.

    Args:
        student_logits: ``(n, c)``, or ``(n, t, v)`` for sequences (then averaged over tokens too).
        teacher_logits: the same shape.
        temperature: T > 0, without unit.

    Returns:
        A scalar in nats, 0 where both distributions agree.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, sec. 2.

    Example:
        >>> kd_loss(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0]]))
        tensor(0.)
    """
    _check_logits(student_logits)
    same_shape(student_logits, teacher_logits, "logits")
    if not temperature > 0:
        raise ValueError(f"temperature: expected a number > 0, got {temperature}")
    teacher = softened(teacher_logits.flatten(0, -2), temperature)
    return softened_kl(student_logits.flatten(0, -2), teacher, temperature)


def _check_logits(logits: Tensor) -> None:
    floating("logits", logits, "(n, c)")
    if logits.ndim < 2 or logits.shape[-1] < 2:
        raise ValueError(
            "logits: expected shape (n, c) or (n, t, v), with two classes or more along the last "
            f"axis, got {tuple(logits.shape)}; for a model with a single logit z (n, 1) use "
            "torch.cat([torch.zeros_like(z), z], 1), whose softmax is (1 - sigmoid(z), sigmoid(z))"
        )


@torch.no_grad()
def softened(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """log p and p at a temperature, each ``(m, c)``: what all students of a batch share."""
    log_p = F.log_softmax(at_least_float32(logits) / temperature, dim=-1)
    return log_p, log_p.exp()


@in_float32
def softened_kl(
    student_logits: Tensor,
    teacher: tuple[Tensor, Tensor],
    temperature: float,
    counted: Tensor | None = None,
) -> Tensor:
    """:func:`kd_loss` of the ``counted`` rows (None: all) of ``(m, c)`` with :func:`softened`."""
    same_shape(student_logits, teacher[0], "logits")
    if counted is None:
        counted = torch.ones(len(student_logits), dtype=torch.bool, device=student_logits.device)
    return _SoftenedKL.apply(student_logits, *teacher, temperature, counted)


class _SoftenedKL(torch.autograd.Function):
    r"""The value, and its gradient :math:`T (p^s - p^t) / n`: twice as fast as autograd's own."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        logits: Tensor,
        log_p: Tensor,
        p: Tensor,
        temperature: float,
        counted: Tensor,
    ) -> Tensor:
        log_q = F.log_softmax(logits / temperature, dim=-1)
        n = counted.sum().clamp(min=1)
        ctx.save_for_backward(log_q, p, counted, n)
        ctx.temperature = temperature
        parts = (log_p - log_q).masked_fill_(p == 0, 0).mul_(p)  # 0 log 0 = 0
        parts = parts.mul_(counted[:, None])
        return (temperature**2 * parts.sum() / n).to(logits.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        no_second_derivative()
        log_q, p, counted, n = ctx.saved_tensors
        pull = log_q.exp().sub_(p).mul_((gradient * ctx.temperature / n) * counted[:, None])
        return pull, None, None, None, None


def same_shape(student: Tensor, teacher: Tensor, what: str) -> None:
    if student.shape != teacher.shape:
        raise ValueError(
            f"{what} of student and teacher must have one shape, got {tuple(student.shape)} "
            f"and {tuple(teacher.shape)}"
        )


def squared_error(student: Tensor, teacher: Tensor, temperature: float | None = None) -> Tensor:
    """Mean squared difference of two outputs of one shape; there is no temperature in it."""
    same_shape(student, teacher, "outputs")
    return F.mse_loss(student, teacher)


def label_kd(student: Tensor, teacher: Tensor, temperature: float = 4.0) -> Tensor:
    r"""Knowledge distillation of labels that are each there or not: as :func:`kd_loss`, per label.

    .. math:: L = \frac{T^2}{n c} \sum_i \sum_c \mathrm{KL}(p^t_{ic} \,\|\, p^s_{ic}),
              \qquad p = \operatorname{sigmoid}(z / T)

    Args:
        student, teacher: logits ``(n, c)``.
        temperature: T > 0, without unit.

    Returns:
        A scalar in nats, 0 where both give the same probabilities.
    """
    same_shape(student, teacher, "logits")
    z, own = student / temperature, (teacher.detach() / temperature)
    p = own.sigmoid()
    cross, entropy = (F.binary_cross_entropy_with_logits(one, p) for one in (z, own))
    return temperature**2 * (cross - entropy)


# ---- tasks


@dataclass(frozen=True)
class Task:
    """What outputs are for: a loss, a score, and a way to follow the teacher's outputs.

    Args:
        loss: ``f(outputs, targets)``, a scalar to be made small: the task's term.
        score: ``f(outputs, targets)``, a number for all outputs and targets of a part.
        metric: what the score is called, e.g. ``"rmse"``.
        higher_is_better: of the score.
        kd: ``f(student, teacher, temperature)``, a scalar: the term by which the student's outputs
            follow the teacher's.

    Example:
        >>> Task(F.l1_loss, lambda z, y: float((z - y).abs().mean()), "mae").metric
        'mae'
    """

    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float | Tensor]
    metric: str
    higher_is_better: bool = False
    kd: Callable[[Tensor, Tensor, float], Tensor] = squared_error

    def term(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of the samples that have a label; 0 where none has."""
        absent = targets.isnan() if targets.is_floating_point() else targets == UNLABELLED
        known = ~absent.reshape(len(targets), -1).all(1)
        if known.all():
            return self.loss(outputs, targets)
        return self.loss(outputs[known], targets[known]) if known.any() else (0 * outputs).sum()

    def counted(self, targets: Tensor) -> Tensor:
        """Which predictions count, ``(m,)`` of bool: all of them."""
        return torch.ones(len(targets), dtype=torch.bool, device=targets.device)

    def taught(self, outputs: Tensor, temperature: float) -> Any:  # noqa: ANN401
        """What :meth:`follow` needs of the teacher's outputs: the same for all arms of a batch."""
        return at_least_float32(outputs.detach())

    def follow(
        self,
        outputs: Tensor,
        taught: Any,  # noqa: ANN401
        temperature: float,
        counted: Tensor,
    ) -> Tensor:
        """The term ``kd`` of the student's outputs, over the predictions that count."""
        return self.kd(outputs, taught, temperature)


class Classification(Task):
    """Logits ``(m, c)`` or ``(n, t, v)`` of classes, targets ``(m,)`` or ``(n, t)``.

    A prediction whose target is -100 counts nowhere, and with -101 not in the task's loss.
    """

    def term(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self.loss(outputs, targets)

    def counted(self, targets: Tensor) -> Tensor:
        return targets.flatten() != IGNORED

    def taught(self, outputs: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        return softened(outputs.flatten(0, -2), temperature)

    def follow(
        self, outputs: Tensor, taught: tuple[Tensor, Tensor], temperature: float, counted: Tensor
    ) -> Tensor:
        return softened_kl(outputs.flatten(0, -2), taught, temperature, counted)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy over the predictions with a class, in nats; 0 where none has one."""
    _check_logits(logits)
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
    logits, targets = logits.flatten(0, -2), targets.flatten()
    counted = (targets != IGNORED) & (targets != UNLABELLED)
    targets = targets.long().masked_fill(~counted, IGNORED)
    try:
        total = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    except IndexError:
        known = targets[counted]
        raise ValueError(
            f"targets: expected classes 0 to {logits.shape[1] - 1} ({logits.shape[1]} logits), or "
            f"{IGNORED} for one that does not count, got {known.min()} to {known.max()}"
        ) from None
    return total / counted.sum().clamp(min=1)


def accuracy(logits: Tensor, targets: Tensor) -> Tensor:
    """Fraction of the predictions that count whose largest logit is the target's."""
    right = (logits.argmax(-1) == targets).sum()  # no class is -100
    return right / (targets != IGNORED).sum().clamp(min=1)


def rmse(outputs: Tensor, targets: Tensor) -> float:
    """Root of the mean squared error, in the targets' unit."""
    return F.mse_loss(outputs, targets).sqrt().item()


def f1(logits: Tensor, targets: Tensor) -> float:
    """F1 over all labels of all samples, 2 hits / (labels said + labels there); said: z > 0."""
    said, there = logits > 0, targets > 0.5
    return (2 * (said & there).sum() / (said.sum() + there.sum()).clamp(min=1)).item()


CLASSIFICATION = Classification(cross_entropy, accuracy, "accuracy", True, kd_loss)
TASKS: dict[str, Task] = {
    "classification": CLASSIFICATION,
    "regression": Task(F.mse_loss, rmse, "rmse"),
    "multi-label": Task(F.binary_cross_entropy_with_logits, f1, "f1", True, label_kd),
}
