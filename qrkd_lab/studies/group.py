"""One seed of a study: its teacher and its arms, found or trained, tested and recorded."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.devices import memory_advice, one_thread
from qrkd_lab.kernels.analysis import (
    alignment_or,
    effective_rank,
    off_diagonal,
)
from qrkd_lab.kernels.classical import StretchedRBFKernel
from qrkd_lab.kernels.encoders import Encoder, KernelRelation, calibrated, standardise
from qrkd_lab.losses import DistillationLoss, TeacherBatch, check_batch
from qrkd_lab.seeds import derived_seed
from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.benchmarks import Benchmark, ImageBenchmark, given_settings
from qrkd_lab.studies.callbacks import Checkpoint
from qrkd_lab.studies.records import Run, find_run, run_key, save_run, versions
from qrkd_lab.studies.scores import outcomes
from qrkd_lab.studies.settings import Settings, build_kernel
from qrkd_lab.train import Callback, Diverged, Learner, Stopped, Training, train

__all__ = [
    "CALIBRATE",
    "find",
    "kernel_numbers",
    "least_squares_view",
    "lockstep",
    "make_learner",
    "train_group",
]


def train_group(
    benchmark: Benchmark,
    missing: Sequence[Settings],
    runs_dir: Path,
    callbacks: Sequence[Callback] = (),
) -> Iterator[Run | Diverged]:
    """Train what is missing of one seed, teacher first, then all arms in lockstep; record it.

    Each run comes as soon as it is recorded, and the failure of an arm that diverged. What another
    process has recorded in the meantime is taken, not trained again. When a callback stops the
    arms, each gets the record of its last whole epoch (``stop_after``), then ``Stopped`` is raised;
    the same settings go on from the very step the next time.
    """
    given = missing[0]
    with one_thread(benchmark.device), memory_advice(given.batch_size, given.sequence_length):
        asked = benchmark.settings.replace(arm=TEACHER, seed=given.seed)
        run = find(benchmark, asked, runs_dir)
        if run is None and not asked.teacher_epochs:  # it is used as it was made
            model = benchmark.teacher(given.seed).eval()
            of = (TEACHER, model, DistillationLoss(), None, benchmark.outputs)
            learner = Learner(*of, settings=asked)
            (run,) = _record(benchmark, [learner], None, runs_dir)
        elif run is None:
            learner = make_learner(benchmark, asked)
            (run,) = _trained(benchmark, [learner], None, runs_dir, callbacks)
        if isinstance(run, Diverged):
            yield run
            return
        if any(settings.arm == TEACHER for settings in missing):
            yield run
        teacher, learners = benchmark.model(run), []
        benchmark = benchmark.of_students(given.seed)
        for settings in missing:
            if settings.arm == TEACHER:
                continue
            if (found := find(benchmark, settings, runs_dir)) is not None:
                yield found
            else:
                learners.append(make_learner(benchmark, settings, teacher))
        if learners:
            yield from _trained(benchmark, learners, teacher, runs_dir, callbacks)


def _trained(
    benchmark: Benchmark,
    learners: list[Learner],
    teacher: nn.Module | None,
    runs_dir: Path,
    callbacks: Sequence[Callback],
) -> Iterator[Run | Diverged]:
    """Train learners to the end, from their checkpoint if there is one, and record their runs."""
    checkpoint = Checkpoint.of(learners, benchmark.data.sha256, runs_dir)
    last: tuple[int, list[dict[str, Any]]] | None = None  # whole epoch, and the state then
    try:
        for epoch in lockstep(benchmark, learners, teacher, [checkpoint, *callbacks]):
            if teacher is not None and any(callback.stops for callback in callbacks):
                last = epoch, [copy.deepcopy(learner.state()) for learner in learners]
    except Stopped:
        if last is not None:
            for learner, state in zip(learners, last[1], strict=True):
                learner.restore(state)
                learner.settings = learner.settings.replace(stop_after=last[0])
            yield from _record(benchmark, learners, teacher, runs_dir)
        raise
    yield from _record(benchmark, learners, teacher, runs_dir)
    checkpoint.path.unlink(missing_ok=True)


def lockstep(
    benchmark: Benchmark,
    learners: Sequence[Learner],
    teacher: nn.Module | None = None,
    callbacks: Sequence[Callback] = (),
    epochs: int | None = None,
) -> Iterator[int]:
    """:func:`~qrkd_lab.train.train` on a benchmark's batches, validated after each epoch.

    Args:
        benchmark: gives the batches, and what teacher and students say about them.
        learners: of one seed and one batch size.
        teacher: trained; None where no learner has a distillation term.
        callbacks: see :class:`~qrkd_lab.train.Callback`.
        epochs: how many; None: as many as the settings of the first learner say.
    """
    first = learners[0].settings
    if epochs is None:
        epochs = first.teacher_epochs if first.arm == TEACHER else first.epochs_to_train
    untrained = None
    relations = [learner.loss.relation for learner in learners]
    if any(one is not None and one.control == "random_teacher" for one in relations):
        untrained = benchmark.untrained_teacher(first.seed).eval()

    @torch.no_grad()
    def ask(inputs: Any) -> TeacherBatch:  # noqa: ANN401
        other = None if untrained is None else lambda: benchmark.outputs(untrained, inputs).features
        return TeacherBatch(benchmark.outputs(teacher, inputs), other)

    return train(
        learners,
        lambda epoch: benchmark.batches(first.seed, epoch, first.batch_size),
        benchmark.steps(first.batch_size),
        epochs,
        None if teacher is None else ask,
        [_Validation(benchmark, teacher), *callbacks],
    )


class _Validation(Callback):
    """Adds the validation part's numbers to each learner's history, all in one pass."""

    def __init__(self, benchmark: Benchmark, teacher: nn.Module | None) -> None:
        self.benchmark, self.teacher = benchmark, teacher

    def epoch(self, training: Training) -> None:
        active = training.active
        models = [learner.model for learner in active]
        found = self.benchmark.score(models, self.benchmark.validation, self.teacher)
        for learner, numbers in zip(active, found, strict=True):
            named = {f"validation_{name}": value for name, value in numbers.items()}
            with learner.watched():
                learner.add_to_history(named)


FIT, CALIBRATE = 2000, 256  # training samples for the components of pca, and for the bandwidth


def make_learner(
    benchmark: Benchmark, settings: Settings, teacher: nn.Module | None = None
) -> Learner:
    """The student of an arm beside its teacher, with the loss that its settings describe.

    Of the arm ``teacher`` the untrained teacher, which learns the task alone.
    """
    rate, epochs, task = settings.learning_rate, settings.epochs, benchmark.task
    if settings.arm == TEACHER:
        rate, epochs = settings.teacher_learning_rate or rate, settings.teacher_epochs
        model, loss = benchmark.teacher(settings.seed), DistillationLoss(task=task)
    else:
        arm = settings.variant
        if settings.tap != "tokens":
            drawn = min(benchmark.samples, settings.epoch_size or benchmark.samples)
            check_batch(arm.compared, min(settings.batch_size, drawn))
        model = benchmark.student(settings.seed)
        weights = {term: settings.weight(term) for term in arm.terms}
        if "kernel" in weights:
            relation = _kernel_relation(benchmark, settings, teacher, model)
            weights["kernel"] = relation, weights["kernel"]
        loss = DistillationLoss(
            **weights,
            temperature=settings.temperature,
            **settings.by_pull,
            task=task,
            relations={name: (of, weight) for name, of, weight in arm.relations},
        )
    updates = epochs * math.ceil(benchmark.steps(settings.batch_size) / settings.accumulation)
    constant = settings.schedule == "constant"
    parts = [[*model.parameters()], [*loss.parameters()]]
    if settings.clip_norm is None:
        parts = [sum(parts, [])]  # one is faster; clipped, an adapter must not scale the student
    return Learner(
        settings.arm,
        model,
        loss,
        # One fused kernel for all parameters: for models so small, launching kernels dominates.
        torch.optim.Adam([{"params": part} for part in parts if part], lr=rate, fused=True),
        benchmark.outputs,
        settings.seed,
        None if constant else partial(cosine_rate, rate, updates),
        settings.accumulation,
        settings.clip_norm,
        benchmark.random,
        benchmark.seen is not None,
        settings,
    )


def _kernel_relation(
    benchmark: Benchmark, settings: Settings, teacher: nn.Module, student: nn.Module
) -> KernelRelation:
    """Kernel and encoder of a run; what is fitted is fitted on the teacher's features alone."""
    kernel = build_kernel(settings)
    encoder = Encoder(
        benchmark.feature_dim(teacher),
        benchmark.feature_dim(student),
        kernel.features or settings.qubits,
        settings.encoder,
        derived_seed(settings.seed, "encoder"),
    )
    arm, fitted = settings.variant, encoder.teacher_side == "pca"
    if fitted or arm.stretched or settings.bandwidth is None:
        features = benchmark.features(teacher, FIT if fitted else CALIBRATE).cpu()
        encoder.fit(features)
        angles = encoder.teacher(features[:CALIBRATE])
        if settings.bandwidth is None:
            kernel = calibrated(kernel, angles)
        if arm.stretched:
            kernel = StretchedRBFKernel.fitted(kernel, angles)
    shuffle = derived_seed(settings.seed, "shuffle")
    return KernelRelation(kernel, encoder, arm.control, shuffle).to(benchmark.device)


def cosine_rate(rate: float, updates: int, done: int) -> float:
    r"""The learning rate :math:`\frac{\eta}{2} (1 + \cos \pi u)` after a warm-up.

    u goes from 0 to 1 over the steps that follow the warm-up, a linear rise over 3 % of all.
    ``done`` counts the optimiser steps, of ``updates`` of the whole training.
    """
    warm = max(1, round(0.03 * updates))
    if done < warm:
        return rate * (done + 1) / warm
    return rate * (1 + math.cos(math.pi * (done - warm) / max(1, updates - warm))) / 2


def find(benchmark: Benchmark, settings: Settings, runs_dir: str | Path) -> Run | None:
    """The recorded run of exactly these settings and data, or None."""
    return find_run(runs_dir, settings.effective(), benchmark.data.sha256)


def _record(
    benchmark: Benchmark, learners: Sequence[Learner], teacher: nn.Module | None, runs_dir: Path
) -> Iterator[Run | Diverged]:
    """Score trained learners, the test set for the first and only time, and write their runs."""
    before = time.perf_counter()
    done = [learner for learner in learners if learner.failure is None]
    models = [learner.model for learner in done]
    own, data = benchmark.metric.removeprefix("test_"), benchmark.data
    asked = models if teacher is None else [*models, teacher]
    tested = benchmark.score(asked, benchmark.test, teacher)
    fitted = benchmark.score(models, benchmark.probe)
    seconds = (time.perf_counter() - before) / max(1, len(models))
    kernels = kernel_numbers(benchmark, done, teacher)
    if isinstance(benchmark, ImageBenchmark):
        for numbers, more in zip(kernels, outcomes(benchmark, models), strict=True):
            numbers |= more
    yield from (learner.failure for learner in learners if learner.failure is not None)
    rows = zip(done, tested[: len(done)], fitted, kernels, strict=True)
    for learner, at_test, at_training, at_kernels in rows:
        metrics = {f"test_{name}": value for name, value in at_test.items()}
        if teacher is not None:
            metrics[f"teacher_{benchmark.metric}"] = tested[-1][own]
        metrics[f"train_{own}"] = at_training[own]
        if learner.history:
            metrics[f"validation_{own}"] = learner.history[-1][f"validation_{own}"]
        metrics |= at_kernels
        settings, relation = learner.settings.effective(), learner.loss.relation
        if relation is not None and settings["kernel"] != "cosine":
            metrics["bandwidth"] = relation.kernel.bandwidth  # as set, or as calibrated
        run = Run(
            settings=settings,
            key=run_key(settings, data.sha256),
            versions=versions(),
            device=str(benchmark.device),
            data={n: getattr(data, n) for n in ("name", "source", "sha256")} | benchmark.sizes,
            metric={"name": benchmark.metric, "higher_is_better": benchmark.higher_is_better},
            parameters=sum(weight.numel() for weight in learner.model.parameters()),
            history=learner.history,
            metrics=metrics,
            seconds={"train": learner.seconds, "evaluate": seconds},
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            given=given_settings(learner.settings),
        )
        yield replace(run, path=save_run(run, learner.model.state_dict(), runs_dir))


# ---- what the students' kernels are like


SAMPLES = 512  # half for the views, half for the numbers
FEWEST = 8  # with fewer samples none of the numbers means anything
RIDGE = 1e-3  # keeps dead and nearly dead features out of the view


@torch.no_grad()
def kernel_numbers(
    benchmark: Benchmark, learners: Sequence[Learner], teacher: nn.Module | None
) -> list[dict[str, float]]:
    """What each student's kernel matrix is like, and how like the teacher's.

    ``feature_alignment``
        CKA of the features' Gram matrices: no kernel, no view. As all CKA here it is by the biased
        estimator, so too high for few samples with many features: compare it between arms.
    ``kernel_alignment``
        CKA of student and teacher through the study's kernel and a least-squares view.
    ``kernel_spread``, ``kernel_rank``
        Standard deviation over pairs, and effective rank, of that matrix of the student.
    ``teacher_kernel_spread``, ``teacher_kernel_rank``
        The same of the teacher's.
    ``own_kernel_alignment``
        CKA through the arm's own kernel and adapter, where it has them; to the trained teacher,
        whatever its control did to the pairing.

    Args:
        benchmark: gives the samples, the first of its validation part.
        learners: trained, of one seed.
        teacher: trained; None, where the teacher itself was trained.

    Returns:
        One dictionary per learner. Empty without a teacher or with fewer than 8 samples; without
        the study's kernel where it takes more angles than the teacher has features, or than half
        the samples. A student that sees no difference between samples has alignment 0.
    """
    if teacher is None or not learners:
        return [{} for _ in learners]
    taught, *seen = (
        benchmark.features(model, SAMPLES, benchmark.validation).cpu().double()
        for model in (teacher, *(learner.model for learner in learners))
    )
    if len(taught) < FEWEST:
        return [{} for _ in learners]
    settings = replace(benchmark.settings, arm="qrkd", seed=learners[0].settings.seed)
    kernel, angles, half = build_kernel(settings), None, len(taught) // 2
    qubits, width = kernel.features or settings.qubits, taught.shape[1]
    if qubits <= width and 2 * qubits < len(taught):
        # The teacher's side alone is used, so the student's may be as wide as it is.
        seed = derived_seed(settings.seed, "encoder")
        encoder = Encoder(width, width, qubits, settings.encoder, seed).fit(taught)
        angles = encoder.teacher(taught[:half]), encoder.teacher(taught[half:])
        if settings.bandwidth is None:
            kernel = calibrated(kernel, angles[0])
    found = []
    for learner, features in zip(learners, seen, strict=True):
        numbers = {"feature_alignment": alignment_or(0.0, features @ features.T, taught @ taught.T)}
        if angles is not None:
            view = least_squares_view(features[:half], angles[0])
            student = kernel(standardise(features[half:] @ view))
            target = kernel(angles[1])
            numbers["kernel_alignment"] = alignment_or(0.0, student, target)
            for name, matrix in (("kernel", student), ("teacher_kernel", target)):
                numbers[f"{name}_spread"] = math.sqrt(off_diagonal(matrix).variance)
                numbers[f"{name}_rank"] = effective_rank(matrix)
        if (relation := learner.loss.relation) is not None:
            device = relation.encoder.teacher_map.device
            student = relation.student(features[half:].to(device))
            target = relation.teacher(taught[half:].to(device))
            numbers["own_kernel_alignment"] = alignment_or(0.0, student, target)
        found.append(numbers)
    return found


def least_squares_view(features: Tensor, angles: Tensor) -> Tensor:
    r"""The linear map ``(d, q)`` that takes centred features ``(n, d)`` nearest to ``(n, q)``.

    Ridge regression: :math:`(X^T X + \lambda \frac{\mathrm{tr}(X^T X)}{d} I)^{-1} X^T A` with
    the centred features X, the angles A and :math:`\lambda` = :data:`RIDGE`.
    """
    centred = features - features.mean(0)
    gram = centred.T @ centred
    size = gram.trace() / len(gram)
    if not size > 0:
        return features.new_zeros(len(gram), angles.shape[1])
    ridge = RIDGE * size * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, centred.T @ angles)
