"""An adapter alone: how well can it match the teacher's kernel while the student stands still?

A kernel term with a trained encoder has two who can lower it, the student and the adapter. What the
adapter reaches on frozen features says nothing good of the student's training; and it is the view
through which students that had no adapter of their own can be compared fairly.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from qrkd_lab.kernels import Encoder, KernelRelation
from qrkd_lab.losses import relation_loss
from qrkd_lab.relations import at_least_float32, check_features
from qrkd_lab.seeds import generator

__all__ = ["fit_adapter", "relation_value"]


def fit_adapter(
    relation: KernelRelation,
    student: Tensor,
    teacher: Tensor,
    steps: int = 400,
    batch_size: int = 64,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> KernelRelation:
    """A copy of a relation whose adapter starts anew and is trained alone, on frozen features.

    Args:
        relation: gives kernel and teacher's side; not changed.
        student: frozen features ``(n, d_s)`` of the training part.
        teacher: features ``(n, d_t)`` of the same samples.
        steps, batch_size, learning_rate: of Adam, on batches drawn with replacement; 400 steps are
            more than 20 epochs of the digits.
        seed: of the adapter's start and of the batches.

    Returns:
        A relation without control; ``relation_value`` measures it.

    Raises:
        ValueError: an encoder without an adapter, or features of different numbers of samples.
    """
    for x, name in ((student, "student features"), (teacher, "teacher features")):
        check_features(x, name)
    if len(student) != len(teacher):
        raise ValueError(
            f"expected features of the same samples, got {len(student)} of the student and "
            f"{len(teacher)} of the teacher"
        )
    old = relation.encoder
    if old.student_side != "trained":
        raise ValueError(
            f"encoder {old.kind!r} has no adapter to train: its student side is "
            f"{old.student_side!r}; use kind='adapter' or 'pca'"
        )
    encoder = copy.deepcopy(old)
    start = Encoder(len(old.teacher_map), student.shape[1], old.qubits, "adapter", seed)
    encoder.student_map = torch.nn.Parameter(
        start.student_map.detach().to(at_least_float32(student))
    )
    fitted = KernelRelation(relation.kernel, encoder).to(student.device)
    optimizer = torch.optim.Adam(fitted.parameters(), lr=learning_rate)
    order = generator(seed, "adapter")
    for _ in range(steps):
        index = torch.randint(len(student), (min(batch_size, len(student)),), generator=order)
        loss = relation_value(fitted, student[index], teacher[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return fitted


def relation_value(relation: KernelRelation, student: Tensor, teacher: Tensor) -> Tensor:
    """The kernel loss of a relation on features ``(n, d_s)`` and ``(n, d_t)``, as one batch.

    The student's features get no gradient here; the adapter does.
    """
    return relation_loss(relation.student(student.detach()), relation.teacher(teacher))
