"""A job: one seed of a study, its teacher and its arms, found or trained, tested and recorded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from qrkd_lab.arms import TEACHER
from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.distill import one_thread, train
from qrkd_lab.learner import Diverged, Learner, make_learner, teacher_learner
from qrkd_lab.objective import Outputs
from qrkd_lab.runs import Run, find_run, run_key, save_run, versions
from qrkd_lab.settings import Settings

__all__ = ["find", "run_seed"]


def run_seed(
    benchmark: Benchmark,
    missing: Sequence[Settings],
    runs_dir: Path,
    show: bool = True,
    position: int = 0,
) -> Iterator[Run | Diverged]:
    """Train what is missing of one seed, teacher first, then all arms in lockstep; record it.

    What another process has recorded in the meantime is taken, not trained again.

    Yields:
        Each run as soon as it is recorded; the failure of an arm that diverged.
    """
    about_teacher = benchmark.settings.replace(arm=TEACHER, seed=missing[0].seed)
    with one_thread(benchmark.device):
        run = find(benchmark, about_teacher, runs_dir)
        if run is None:
            learner = teacher_learner(benchmark, about_teacher)
            epochs = about_teacher.teacher_epochs
            for _ in train(benchmark, [learner], epochs, show=show, position=position):
                pass
            if learner.failure is not None:
                yield learner.failure
                return
            run = _record(benchmark, learner, None, runs_dir)
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
        for _ in train(benchmark, learners, arms[0].epochs, teacher, show, position):
            pass
        believed = benchmark.predict(teacher, benchmark.test)
        for learner in learners:
            yield learner.failure or _record(benchmark, learner, believed, runs_dir)


def find(benchmark: Benchmark, settings: Settings, runs_dir: str | Path) -> Run | None:
    """The recorded run of exactly these settings and data, or None."""
    effective = settings.effective()
    key = run_key(effective, benchmark.data.sha256)
    place = (effective["benchmark"], effective["scale"], effective["arm"], effective["seed"])
    return find_run(runs_dir, *place, key)


def _record(benchmark: Benchmark, learner: Learner, teacher: Outputs | None, runs_dir: Path) -> Run:
    """Evaluate a trained learner, the test set for the first and only time, and write its run."""
    before = time.perf_counter()
    data = benchmark.data
    said = benchmark.predict(learner.model, benchmark.test)
    tested = benchmark.evaluate(benchmark.test, said, teacher)
    metrics = {f"test_{name}": value for name, value in tested.items()}
    if teacher is not None:
        metrics["teacher_test_accuracy"] = benchmark.evaluate(benchmark.test, teacher)["accuracy"]
    fitted = benchmark.evaluate(benchmark.train, benchmark.predict(learner.model, benchmark.train))
    metrics["train_accuracy"] = fitted["accuracy"]
    metrics["validation_accuracy"] = learner.history[-1]["validation_accuracy"]
    settings, relation = learner.settings.effective(), learner.loss.relation
    if relation is not None and settings["kernel"] != "cosine":
        metrics["bandwidth"] = relation.kernel.bandwidth  # as set, or as calibrated
    run = Run(
        settings=settings,
        key=run_key(settings, data.sha256),
        versions=versions(),
        device=str(benchmark.device),
        data={
            "name": data.name,
            "source": data.source,
            "sha256": data.sha256,
            "train": len(data.train),
            "validation": len(data.validation),
            "test": len(data.test),
        },
        metric={"name": benchmark.metric, "higher_is_better": benchmark.higher_is_better},
        parameters=learner.model.parameter_count,
        history=learner.history,
        metrics=metrics,
        seconds={"train": learner.seconds, "evaluate": time.perf_counter() - before},
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return replace(run, path=save_run(run, learner.model.state_dict(), runs_dir))
