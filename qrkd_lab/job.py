"""A job: one seed of a study, its teacher and its arms, found or trained, tested and recorded."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torch import nn

from qrkd_lab.arms import TEACHER
from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.checkpoint import Checkpoint
from qrkd_lab.distill import one_thread, train
from qrkd_lab.kernel_numbers import kernel_numbers
from qrkd_lab.learner import Diverged, Learner, make_learner, teacher_learner
from qrkd_lab.runs import Run, find_run, run_key, save_run, versions
from qrkd_lab.settings import Settings
from qrkd_lab.turns import turn
from qrkd_lab.watch import Stopped, Watch

__all__ = ["find", "run_seed", "teacher_run"]


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
