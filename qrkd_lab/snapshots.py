"""Snapshots: the same samples seen by student and teacher, before training and after each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain

import joblib
import torch
from torch import Tensor, nn

from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.distill import one_thread, train
from qrkd_lab.kernels import KernelRelation
from qrkd_lab.kernels.alignment import NothingToAlign, centred_alignment
from qrkd_lab.kernels.encoders import standardise
from qrkd_lab.learner import Learner, make_learner

__all__ = ["Snapshots", "record_seeds", "record_snapshots"]


@dataclass(frozen=True, repr=False)
class Snapshots:
    """What an arm's student made of a fixed batch, epoch by epoch; all tensors on the CPU.

    Attributes:
        arm, seed: which student.
        epochs: 0 (before training), 1, 2, ...
        labels: ``(n,)``.
        teacher_features: ``(n, d_t)``.
        features: of the student ``(E, n, d_s)``, one block an epoch.
        adapters: of its own kernel term ``(E, d_s, q)``; None where it has no adapter.
        relation: kernel and encoder at the end of training; None for an arm without kernel term.
        model: the trained student.
    """

    arm: str
    seed: int
    epochs: tuple[int, ...]
    labels: Tensor
    teacher_features: Tensor
    features: Tensor
    adapters: Tensor | None
    relation: KernelRelation | None
    model: nn.Module = field(repr=False)

    def teacher_matrix(self, relation: KernelRelation | None = None) -> Tensor:
        """The teacher's kernel matrix ``(n, n)``, through the arm's own relation or a given one."""
        return self._relation(relation).teacher(self.teacher_features)

    @torch.no_grad()
    def matrices(self, relation: KernelRelation | None = None) -> Tensor:
        """The student's kernel matrices ``(E, n, n)``.

        Args:
            relation: whose encoder and kernel all epochs are seen through; None: the arm's own,
                with the adapter as it was at each epoch.

        Raises:
            ValueError: None, for an arm without a kernel term.
        """
        chosen = self._relation(relation)
        if relation is not None or self.adapters is None:
            return torch.stack([chosen.kernel(chosen.encoder.student(x)) for x in self.features])
        angles = [standardise(x @ w) for x, w in zip(self.features, self.adapters, strict=True)]
        return torch.stack([chosen.kernel(a) for a in angles])

    def alignments(self, relation: KernelRelation | None = None) -> list[float]:
        """Centred alignment of student and teacher at each epoch; see :meth:`matrices`.

        0 for a student that sees no difference between samples (all its features are dead).
        """
        target = self.teacher_matrix(relation)
        return [_alignment(matrix, target) for matrix in self.matrices(relation)]

    def feature_alignments(self) -> list[float]:
        r"""The same without encoder and kernel: of the features' Gram matrices, linear CKA.

        .. math:: \mathrm{CKA}(F_s F_s^T, F_t F_t^T)

        It is blind to rotation and scale of either side.
        """
        taught = self.teacher_features.double()
        return [_alignment(x @ x.T, taught @ taught.T) for x in self.features.double()]

    def _relation(self, given: KernelRelation | None) -> KernelRelation:
        if given is None and self.relation is None:
            raise ValueError(
                f"arm {self.arm!r} has no kernel term, so no kernel of its own: give a relation, "
                "e.g. that of adapters.fit_adapter"
            )
        return self.relation if given is None else given

    def __repr__(self) -> str:
        samples = self.features.shape[1]
        return f"Snapshots({self.arm} seed {self.seed}, {len(self.epochs)} of {samples} samples)"


def record_snapshots(
    benchmark: Benchmark,
    arms: Sequence[str],
    seed: int,
    teacher: nn.Module,
    count: int = 100,
    show: bool = False,
) -> dict[str, Snapshots]:
    """Train arms of one seed in lockstep, as a study does, and keep what it makes no record of.

    Args:
        benchmark: images; its settings decide how long to train.
        arms: names.
        seed: of the run.
        teacher: trained.
        count: validation samples to look at, the first ones, as one batch.
        show: progress on standard error.

    Returns:
        Arm to its snapshots. The students' weights are those of a study, bit for bit.

    Raises:
        Diverged: an arm's loss is not finite any more.
    """
    with one_thread(benchmark.device):
        chosen = [benchmark.settings.replace(arm=arm, seed=seed) for arm in arms]
        learners = [make_learner(benchmark, settings, teacher.eval()) for settings in chosen]
        part = benchmark.validation[:count]
        features: dict[str, list[Tensor]] = {arm: [] for arm in arms}
        adapters: dict[str, list[Tensor]] = {arm: [] for arm in arms}
        training = train(benchmark, learners, chosen[0].epochs, teacher, show)
        epochs = []
        for epoch in chain([0], training):  # 0: before the first step
            epochs.append(epoch)
            for learner in learners:
                if learner.failure is not None:
                    raise learner.failure
                arm = learner.settings.arm
                features[arm].append(benchmark.predict(learner.model, part).features.cpu())
                adapters[arm] += _adapter(learner)
        taught = benchmark.predict(teacher, part).features.cpu()
    return {
        learner.settings.arm: Snapshots(
            learner.settings.arm, seed, tuple(epochs), part.labels.cpu(), taught,
            torch.stack(features[learner.settings.arm]),
            torch.stack(kept) if (kept := adapters[learner.settings.arm]) else None,
            None if learner.loss.relation is None else learner.loss.relation.cpu(),
            learner.model.eval(),
        )
        for learner in learners
    }  # fmt: skip


def record_seeds(
    benchmark: Benchmark,
    arms: Sequence[str],
    teachers: Sequence[nn.Module],
    count: int = 100,
    jobs: int = 1,
) -> list[dict[str, Snapshots]]:
    """:func:`record_snapshots` for the seeds 0, 1, ..., a teacher each, in ``jobs`` processes."""
    tasks = (
        joblib.delayed(record_snapshots)(benchmark, arms, seed, teacher, count)
        for seed, teacher in enumerate(teachers)
    )
    workers = min(joblib.effective_n_jobs(jobs), len(teachers))
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        return joblib.Parallel(n_jobs=workers)(tasks)


def _alignment(matrix: Tensor, target: Tensor) -> float:
    try:
        return centred_alignment(matrix, target)
    except NothingToAlign:
        return 0.0


def _adapter(learner: Learner) -> list[Tensor]:
    """A copy of the adapter's matrix now, or nothing."""
    relation = learner.loss.relation
    if relation is None or relation.encoder.student_side != "trained":
        return []
    return [relation.encoder.student_map.detach().cpu().clone()]
