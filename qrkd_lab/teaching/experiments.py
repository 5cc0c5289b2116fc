"""Experiments of the notebooks: students watched epoch by epoch, an adapter trained alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qrkd_lab.checks import at_least_float32
from qrkd_lab.devices import one_thread
from qrkd_lab.kernels.analysis import alignment_or
from qrkd_lab.kernels.encoders import Encoder, KernelRelation
from qrkd_lab.losses import relation_loss
from qrkd_lab.seeds import generator
from qrkd_lab.studies.group import lockstep, make_learner

if TYPE_CHECKING:
    from qrkd_lab.studies.benchmarks import Benchmark

__all__ = ["Snapshots", "fit_adapter", "record_snapshots", "relation_value"]


@dataclass(frozen=True, repr=False)
class Snapshots:
    """What an arm's student made of a fixed batch, epoch by epoch; all tensors on the CPU."""

    arm: str
    seed: int
    epochs: tuple[int, ...]  # 0 (before training), 1, 2, ...
    labels: Tensor  # (n,)
    teacher_features: Tensor  # (n, d_t)
    features: Tensor  # of the student (E, n, d_s), one block an epoch
    own: Tensor | None  # its kernel matrices (E, n, n), by its own kernel term as it was then
    relation: KernelRelation | None  # kernel and encoder at the end; None without a kernel term
    model: nn.Module  # the trained student

    def teacher_matrix(self, relation: KernelRelation | None = None) -> Tensor:
        """The teacher's kernel matrix ``(n, n)``, through the arm's own relation or a given one."""
        return (relation or self.relation).teacher(self.teacher_features)

    @torch.no_grad()
    def matrices(self, relation: KernelRelation | None = None) -> Tensor:
        """The student's kernel matrices ``(E, n, n)``.

        Args:
            relation: whose encoder and kernel all epochs are seen through; None: the arm's own,
                as it was at each epoch.

        Raises:
            ValueError: None, for an arm without a kernel term.
        """
        if relation is not None:
            return torch.stack([relation.student(x) for x in self.features])
        if self.own is None:
            raise ValueError(
                f"arm {self.arm!r} has no kernel term, so no kernel of its own: give a relation, "
                "e.g. that of fit_adapter"
            )
        return self.own

    def alignments(self, relation: KernelRelation | None = None) -> list[float]:
        """Centred alignment of student and teacher at each epoch; see :meth:`matrices`.

        0 for a student that sees no difference between samples (all its features are dead).
        """
        matrices, target = self.matrices(relation), self.teacher_matrix(relation)
        return [alignment_or(0.0, matrix, target) for matrix in matrices]

    def feature_alignments(self) -> list[float]:
        r"""The same without encoder and kernel: of the features' Gram matrices, linear CKA.

        .. math:: \mathrm{CKA}(F_s F_s^T, F_t F_t^T)

        It is blind to rotation and scale of either side.
        """
        taught = self.teacher_features.double()
        return [alignment_or(0.0, x @ x.T, taught @ taught.T) for x in self.features.double()]

    def __repr__(self) -> str:
        samples = self.features.shape[1]
        return f"Snapshots({self.arm} seed {self.seed}, {len(self.epochs)} of {samples} samples)"


def record_snapshots(
    benchmark: Benchmark,
    arms: Sequence[str],
    seed: int,
    teacher: nn.Module,
    count: int = 100,
) -> dict[str, Snapshots]:
    """Train arms of one seed in lockstep, as a study does, and keep what it makes no record of.

    Args:
        benchmark: images; its settings decide how long to train.
        arms: names.
        seed: of the run.
        teacher: trained.
        count: validation samples to look at, the first ones, as one batch.

    Returns:
        Arm to its snapshots. The students' weights are those of a study, bit for bit.

    Raises:
        Diverged: an arm's loss is not finite any more.
    """
    benchmark = benchmark.of_students(seed)
    part, epochs = benchmark.validation[:count], []
    features, own = ({arm: [] for arm in arms} for _ in range(2))
    with one_thread(benchmark.device):
        chosen = [benchmark.settings.replace(arm=arm, seed=seed) for arm in arms]
        learners = [make_learner(benchmark, settings, teacher.eval()) for settings in chosen]
        for epoch in chain([0], lockstep(benchmark, learners, teacher)):  # 0: before the first step
            epochs.append(epoch)
            for arm, learner in zip(arms, learners, strict=True):
                if learner.failure is not None:
                    raise learner.failure
                seen = benchmark.predict(learner.model, part).features
                features[arm].append(seen.cpu())
                if learner.loss.relation is not None:
                    with torch.no_grad():
                        own[arm].append(learner.loss.relation.student(seen).cpu())
        taught = benchmark.predict(teacher, part).features.cpu()
    return {
        arm: Snapshots(
            arm, seed, tuple(epochs), part.labels.cpu(), taught, torch.stack(features[arm]),
            torch.stack(own[arm]) if own[arm] else None,
            learner.loss.relation.cpu() if own[arm] else None, learner.model.eval(),
        )
        for arm, learner in zip(arms, learners, strict=True)
    }  # fmt: skip


def fit_adapter(
    relation: KernelRelation,
    student: Tensor,
    teacher: Tensor,
    steps: int = 400,
    seed: int = 0,
) -> KernelRelation:
    """A copy of a relation whose adapter starts anew and is trained alone, on frozen features.

    Args:
        relation: gives kernel and teacher's side; not changed.
        student: frozen features ``(n, d_s)``.
        teacher: features ``(n, d_t)`` of the same samples.
        steps: of Adam at a learning rate of 0.01, on batches of 64 drawn with replacement.
        seed: of the adapter's start and of the batches.

    Raises:
        ValueError: an encoder without an adapter, or features of different numbers of samples.
    """
    if len(student) != len(teacher):
        raise ValueError(
            f"expected features of the same samples, got {len(student)} of the student and "
            f"{len(teacher)} of the teacher"
        )
    encoder = copy.deepcopy(relation.encoder)
    if encoder.student_side != "trained":
        raise ValueError(
            f"encoder {encoder.kind!r} has no adapter to train: its student side is "
            f"{encoder.student_side!r}; use kind='adapter' or 'pca'"
        )
    start = Encoder(len(encoder.teacher_map), student.shape[1], encoder.qubits, "adapter", seed)
    weights = start.student_map.detach().to(at_least_float32(student))
    encoder.student_map = torch.nn.Parameter(weights)
    fitted = KernelRelation(relation.kernel, encoder).to(student.device)
    optimizer = torch.optim.Adam(fitted.parameters(), lr=1e-2)
    order = generator(seed, "adapter")
    for _ in range(steps):
        index = torch.randint(len(student), (min(64, len(student)),), generator=order)
        optimizer.zero_grad()
        relation_value(fitted, student[index], teacher[index]).backward()
        optimizer.step()
    return fitted


def relation_value(relation: KernelRelation, student: Tensor, teacher: Tensor) -> Tensor:
    """The kernel loss of a relation on features ``(n, d_s)`` and ``(n, d_t)``, as one batch.

    The student's features get no gradient here; the adapter does.
    """
    return relation_loss(relation.student(student.detach()), relation.teacher(teacher))
