"""A job: one seed of a study, its teacher and its arms, found or trained, tested and recorded."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.kernels.analysis import (
    NothingToAlign,
    centred_alignment,
    effective_rank,
    off_diagonal,
)
from qrkd_lab.kernels.classical import Kernel
from qrkd_lab.kernels.encoders import Encoder, calibrated, standardise
from qrkd_lab.seeds import derived_seed
from qrkd_lab.studies.benchmarks import Benchmark
from qrkd_lab.studies.checkpoint import Checkpoint
from qrkd_lab.studies.parallel import turn
from qrkd_lab.studies.records import Run, find_run, run_key, save_run, versions
from qrkd_lab.studies.settings import TEACHER, Settings, build_kernel
from qrkd_lab.train import (
    Diverged,
    Learner,
    Stopped,
    Watch,
    make_learner,
    one_thread,
    teacher_learner,
    train,
)

__all__ = [
    "find",
    "kernel_numbers",
    "least_squares_view",
    "run_seed",
    "teacher_run",
]


def run_seed(
    benchmark: Benchmark,
    missing: Sequence[Settings],
    runs_dir: Path,
    show: bool = True,
    position: int = 0,
    watch: Watch | None = None,
) -> Iterator[Run | Diverged]:
    """Train what is missing of one seed, teacher first, then all arms in lockstep; record it.

    What another process has recorded in the meantime is taken, not trained again.

    Args:
        benchmark: of the study.
        missing: settings of the runs, all of one seed.
        runs_dir: folder of the records.
        show: progress on standard error.
        position: of the bar, where several processes show one each.
        watch: looks on; when it stops the arms, each gets the record of its last whole epoch
            (``stop_after``), and the same settings go on from the very step the next time.

    Yields:
        Each run as soon as it is recorded; the failure of an arm that diverged.

    Raises:
        Stopped: the watch said so; what could be recorded was yielded before.
    """
    with one_thread(benchmark.device):
        run = teacher_run(benchmark, missing[0].seed, runs_dir, show, position, watch)
        if isinstance(run, Diverged):
            yield run
            return
        if any(settings.arm == TEACHER for settings in missing):
            yield run
        teacher = benchmark.model(run)
        arms = []
        for settings in missing:
            if settings.arm == TEACHER:
                continue
            if (found := find(benchmark, settings, runs_dir)) is not None:
                yield found
            else:
                arms.append(settings)
        if not arms:
            return
        learners = [make_learner(benchmark, settings, teacher) for settings in arms]
        epochs = arms[0].epochs_to_train
        yield from _trained(benchmark, learners, epochs, teacher, runs_dir, show, position, watch)


def teacher_run(
    benchmark: Benchmark,
    seed: int,
    runs_dir: Path,
    show: bool = True,
    position: int = 0,
    watch: Watch | None = None,
) -> Run | Diverged:
    """The teacher of a seed, found or trained and recorded; arguments as for :func:`run_seed`."""
    settings = benchmark.settings.replace(arm=TEACHER, seed=seed)
    if (found := find(benchmark, settings, runs_dir)) is not None:
        return found
    learner, epochs = teacher_learner(benchmark, settings), settings.teacher_epochs
    (run,) = _trained(benchmark, [learner], epochs, None, runs_dir, show, position, watch)
    return run


def _trained(
    benchmark: Benchmark,
    learners: list[Learner],
    epochs: int,
    teacher: nn.Module | None,
    runs_dir: Path,
    show: bool,
    position: int,
    watch: Watch | None,
) -> Iterator[Run | Diverged]:
    """Train a lockstep to its end, from its checkpoint if there is one, and record its runs."""
    checkpoint = Checkpoint.of(learners, benchmark.data.sha256, runs_dir)
    with turn(runs_dir, checkpoint.path.name) as first:
        if not first:
            _say_twice(learners[0].settings, runs_dir, show, watch)
        whole: tuple[int, list[dict[str, Any]]] | None = None  # the last epoch, and the state then
        try:
            for epoch in train(
                benchmark, learners, epochs, teacher, show, position, checkpoint, watch
            ):
                if watch is not None and teacher is not None:
                    whole = epoch, [copy.deepcopy(learner.state()) for learner in learners]
        except Stopped:
            if whole is not None:
                for learner, state in zip(learners, whole[1], strict=True):
                    learner.restore(state)
                    learner.settings = learner.settings.replace(stop_after=whole[0])
                yield from _record(benchmark, learners, teacher, runs_dir)
            raise
        yield from _record(benchmark, learners, teacher, runs_dir)
        checkpoint.remove()


def _say_twice(settings: Settings, runs_dir: Path, show: bool, watch: Watch | None) -> None:
    """Say that another process trains the same; neither waits, as the other may be paused."""
    if watch is not None or show:
        (watch or Watch()).note(
            f"{settings.benchmark}, seed {settings.seed}: another process is training the same "
            f"into {runs_dir}. Every run is recorded once; to save the time, stop one of the two"
        )


def find(benchmark: Benchmark, settings: Settings, runs_dir: str | Path) -> Run | None:
    """The recorded run of exactly these settings and data, or None."""
    effective = settings.effective()
    key = run_key(effective, benchmark.data.sha256)
    place = (effective["benchmark"], effective["scale"], effective["arm"], effective["seed"])
    return find_run(runs_dir, *place, key)


def _record(
    benchmark: Benchmark, learners: Sequence[Learner], teacher: nn.Module | None, runs_dir: Path
) -> Iterator[Run | Diverged]:
    """Score trained learners, the test set for the first and only time, and write their runs."""
    before = time.perf_counter()
    done = [learner for learner in learners if learner.failure is None]
    models = [learner.model for learner in done]
    own = benchmark.metric.removeprefix("test_")
    asked = models if teacher is None else [*models, teacher]
    tested = benchmark.score(asked, benchmark.test, teacher)
    fitted = benchmark.score(models, benchmark.probe)
    seconds = (time.perf_counter() - before) / max(1, len(models))
    kernels = kernel_numbers(benchmark, done, teacher)
    numbers = zip(tested[: len(done)], fitted, kernels, strict=True)
    for learner in learners:
        if learner.failure is not None:
            yield learner.failure
            continue
        at_test, at_training, at_kernels = next(numbers)
        metrics = {f"test_{name}": value for name, value in at_test.items()}
        if teacher is not None:
            metrics[f"teacher_{benchmark.metric}"] = tested[-1][own]
        metrics[f"train_{own}"] = at_training[own]
        metrics[f"validation_{own}"] = learner.history[-1][f"validation_{own}"]
        yield _write(benchmark, learner, metrics | at_kernels, seconds, runs_dir)


def _write(
    benchmark: Benchmark,
    learner: Learner,
    metrics: dict[str, float],
    seconds: float,
    runs_dir: Path,
) -> Run:
    """The record of one learner on the disk."""
    data, settings = benchmark.data, learner.settings.effective()
    relation = learner.loss.relation
    if relation is not None and settings["kernel"] != "cosine":
        metrics["bandwidth"] = relation.kernel.bandwidth  # as set, or as calibrated
    run = Run(
        settings=settings,
        key=run_key(settings, data.sha256),
        versions=versions(),
        device=str(benchmark.device),
        data={"name": data.name, "source": data.source, "sha256": data.sha256, **benchmark.sizes},
        metric={"name": benchmark.metric, "higher_is_better": benchmark.higher_is_better},
        parameters=sum(weight.numel() for weight in learner.model.parameters()),
        history=learner.history,
        metrics=metrics,
        seconds={"train": learner.seconds, "evaluate": seconds},
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return replace(run, path=save_run(run, learner.model.state_dict(), runs_dir))


# ---- kernel_numbers


SAMPLES = 512  # half for the views, half for the numbers
FEWEST = 8  # with fewer samples none of the numbers means anything
RIDGE = 1e-3  # keeps dead and nearly dead features out of the view


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
        A dictionary a learner. Empty without a teacher or with fewer than 8 samples; without the
        study's kernel where it takes more angles than the teacher has features, or than half the
        samples. A student that sees no difference between samples has alignment 0.
    """
    if teacher is None or not learners:
        return [{} for _ in learners]
    taught, *seen = _features(benchmark, [teacher, *(learner.model for learner in learners)])
    if len(taught) < FEWEST:
        return [{} for _ in learners]
    settings = replace(benchmark.settings, arm="qrkd", seed=learners[0].settings.seed)
    kernel = build_kernel(settings)
    angles = None
    qubits = kernel.features or settings.qubits
    if qubits <= taught.shape[1] and 2 * qubits < len(taught):
        # The teacher's side alone is used, so the student's may be as wide as it is.
        encoder = Encoder(
            taught.shape[1],
            taught.shape[1],
            qubits,
            settings.encoder,
            derived_seed(settings.seed, "encoder"),
        )
        fitted, half = encoder.fit(taught), len(taught) // 2
        angles = fitted.teacher(taught[:half]), fitted.teacher(taught[half:])
        if settings.bandwidth is None:
            kernel = calibrated(kernel, angles[0])
    found = []
    for learner, features in zip(learners, seen, strict=True):
        numbers = {"feature_alignment": _alignment(features @ features.T, taught @ taught.T)}
        if angles is not None:
            numbers |= _through_view(kernel, features, *angles)
        found.append(numbers | _own(learner, features, taught))
    return found


def least_squares_view(features: Tensor, angles: Tensor) -> Tensor:
    """The linear map ``(d, q)`` that takes centred features ``(n, d)`` nearest to ``(n, q)``.

    Ridge regression; the formula is in the module's docstring.
    """
    centred = features - features.mean(0)
    gram = centred.T @ centred
    size = gram.trace() / len(gram)
    if not size > 0:
        return features.new_zeros(len(gram), angles.shape[1])
    ridge = RIDGE * size * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, centred.T @ angles)


@torch.no_grad()
def _through_view(
    kernel: Kernel, features: Tensor, fitted: Tensor, held_out: Tensor
) -> dict[str, float]:
    """Numbers of student and teacher through one kernel, the student seen by least squares."""
    half = len(fitted)
    view = least_squares_view(features[:half], fitted)
    student, teacher = kernel(standardise(features[half:] @ view)), kernel(held_out)
    return {
        "kernel_alignment": _alignment(student, teacher),
        **_shape(student, "kernel"),
        **_shape(teacher, "teacher_kernel"),
    }


def _shape(matrix: Tensor, name: str) -> dict[str, float]:
    return {
        f"{name}_spread": math.sqrt(off_diagonal(matrix).variance),
        f"{name}_rank": effective_rank(matrix),
    }


@torch.no_grad()
def _own(learner: Learner, features: Tensor, taught: Tensor) -> dict[str, float]:
    """Alignment through the arm's own adapter and kernel, on the second half of the samples."""
    relation = learner.loss.relation
    if relation is None:
        return {}
    half, device = len(taught) // 2, relation.encoder.teacher_map.device
    student, teacher = (x[half:].to(device) for x in (features, taught))
    own = _alignment(relation.student(student), relation.teacher(teacher))
    return {"own_kernel_alignment": own}


def _alignment(matrix: Tensor, target: Tensor) -> float:
    try:
        return centred_alignment(matrix, target)
    except NothingToAlign:
        return 0.0


@torch.no_grad()
def _features(benchmark: Benchmark, models: Sequence[nn.Module]) -> list[Tensor]:
    """Features ``(n, d)`` of the first validation samples, a model each, in float64 on the CPU."""
    rows: list[list[Tensor]] = [[] for _ in models]
    for model in models:
        model.eval()
    for inputs, _ in benchmark.passes(benchmark.validation):
        for model, kept in zip(models, rows, strict=True):
            kept.append(benchmark.outputs(model, inputs).features.cpu().double())
        if sum(map(len, rows[0])) >= SAMPLES:
            break
    return [torch.cat(kept)[:SAMPLES] for kept in rows]
