r"""Tuning: the weight of each arm's own term, chosen on validation data, with one budget for all.

An arm has one weight of its own: ``kd`` that of the outputs' term, ``rkd`` that of the distances
(the angles' is twice as large, as in Park et al. 2019), ``qrkd`` and every control that of the
kernel. They are chosen in three stages, each on top of what the one before chose, so that two
neighbouring arms still differ in one term only:

.. math:: w_\text{kd} \to (w_d, w_a = 2 w_d) \to w_k \text{ of each arm with a kernel}.

Every arm has the same candidates, the same seeds and the same number of epochs: none wins by being
tuned harder. The seeds are others than a study's. The candidates of a stage and seed train in
lockstep, like the arms of a study; their score is the validation metric after the last epoch, and
no candidate is scored on the test part (the teacher is, like every run of the kit). The whole trace
is recorded (:class:`~qrkd_lab.trace.Trace`).
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qrkd_lab.arms import CANDIDATES, TEACHER, TUNED
from qrkd_lab.benchmarks import Benchmark, benchmark_settings
from qrkd_lab.checkpoint import Checkpoint
from qrkd_lab.distill import one_thread, train
from qrkd_lab.job import teacher_run
from qrkd_lab.kernels.base import flag, positive, whole
from qrkd_lab.learner import Diverged, make_learner
from qrkd_lab.parallel import check_jobs, each
from qrkd_lab.recipe import Recipe, keep, loaded
from qrkd_lab.runs import versions
from qrkd_lab.seeds import which_seeds
from qrkd_lab.settings import Settings
from qrkd_lab.storage import (
    canonical_sha256,
    check_writable,
    damaged,
    plain,
    read_json,
    runs_folder,
    sealed,
    unsealed,
    write_folder,
)
from qrkd_lab.trace import DIGEST, Trace, Trial, best_weights, read_trace, weight_settings
from qrkd_lab.turns import alone
from qrkd_lab.workers import failure

__all__ = ["TuningError", "tune"]

QUARTER = 0.25  # of a study's epochs
FIRST_SEED = 1000  # beyond those of a study, which count from 0
TRIALS = "trials.json"
CHOSEN = ("kd_weight", "distance_weight", "angle_weight", "kernel_weight", "kernel_weights")


class TuningError(RuntimeError):
    """A stage could not be finished on some seeds; what was finished will be found again."""

    def __init__(self, stage: str, failures: Sequence[str]) -> None:
        listed = "\n  ".join(failures)
        super().__init__(
            f"tuning stopped at the stage {stage!r}; what is done is kept, and the same call goes "
            f"on:\n  {listed}"
        )


Candidate = tuple[str, float, Settings]  # arm, weight, and the settings with it


def tune(
    benchmark: str,
    arms: Sequence[str] = TUNED,
    seeds: int | Iterable[int] = 2,
    scale: str = "laptop",
    weights: Sequence[float] = CANDIDATES,
    epochs: int | None = None,
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    **overrides: Any,  # noqa: ANN401
) -> Trace:
    """Choose the weights of ``kd``, ``rkd`` and the arms with a kernel on the validation part.

    What was interrupted goes on; a stage and seed that is on the disk is not trained again, if the
    same versions trained it on the same device. The trace is written to
    ``<runs_dir>/<benchmark>/<scale>/tuning.json``; one that is there already is replaced only by
    one that has all that it has.

    Args:
        benchmark, scale, jobs, runs_dir, data_dir, device, progress: as for
            :func:`~qrkd_lab.compare`.
        arms: with a kernel term; ``kd`` and ``rkd`` are always tuned, as the others build on them.
        seeds: how many, or which; a weight's score is its mean over them. A number counts from
            :data:`FIRST_SEED` on, so that no seed of a study has chosen its own weights.
        weights: the candidates of every arm.
        epochs: of a candidate's training; None: a quarter of the scale's, rounded up.
        overrides: any field of :class:`~qrkd_lab.settings.Settings` that is not chosen here.

    Returns:
        The trace: every trial, and what was chosen. ``ql.compare(..., **trace.settings)`` trains
        the study with it.

    Raises:
        ValueError: an arm that has no kernel to weigh, no candidates, a weight out of range, or a
            weight given as a setting; or
            the trace that is there has other settings, or more arms, weights or seeds.
        DataError, RecordError: as :func:`~qrkd_lab.compare`.
        TuningError: a stage failed on some seeds; says which, and why.
        RuntimeError: another process tunes the same benchmark in the same folder.

    Example:
        >>> trace = tune("digits", ["qrkd", "rbf"], scale="smoke", progress=False)  # doctest: +SKIP
        >>> trace.chosen                                                            # doctest: +SKIP
        {'kd': 0.3, 'rkd': 1.0, 'qrkd': 0.1, 'rbf': 3.0}
    """
    check_jobs(jobs)
    progress = flag("progress", progress)
    wanted, drawn, grid = _arms(arms), which_seeds(seeds, FIRST_SEED), _grid(weights)
    if given := [name for name in CHOSEN if name in overrides]:
        raise ValueError(
            f"{given[0]} is what tune chooses: give candidates as weights=, and no setting of it"
        )
    if given := [name for name in ("arm", "seed") if name in overrides]:
        raise ValueError(f"{given[0]} is not set as a setting; use the arguments arms and seeds")
    own = benchmark_settings(benchmark, scale)
    short = math.ceil(QUARTER * own.epochs) if epochs is None else whole("epochs", epochs, 1)
    for arm in ("kd", "rkd", *wanted):
        benchmark_settings(benchmark, scale, epochs=short, arm=arm, **overrides)
    recipe = Recipe(benchmark, scale, data_dir, device, overrides | {"epochs": short})
    keep(recipe, there := recipe.load())
    check_writable(folder := runs_folder(runs_dir))
    asked = {name: getattr(there.settings, name) for name in overrides}
    changed = {name: value for name, value in asked.items() if value != getattr(own, name)}
    empty = _trace(there, own.epochs, grid, plain(changed, "overrides"))
    _check_replaceable(folder, empty, wanted, drawn)
    does = (
        f"tunes {benchmark} in {folder} at this moment: wait for it, and what it has done is found "
        "here; or give another runs_dir."
    )
    with alone(_home(folder, there.settings), "tune", does):
        trials = _all_trials(recipe, there, wanted, drawn, grid, folder, jobs, progress)
        (trace := replace(empty, trials=tuple(trials))).save(folder)
    return trace


def _all_trials(
    recipe: Recipe,
    there: Benchmark,
    arms: Sequence[str],
    seeds: Sequence[int],
    grid: Sequence[float],
    folder: Path,
    jobs: int,
    progress: bool,
) -> list[Trial]:
    """Stage by stage, each on what the ones before chose."""
    benchmark, higher = there.settings.benchmark, there.higher_is_better
    trials: list[Trial] = []
    failures: list[str] = []
    for stage, of_stage in (("kd", ("kd",)), ("rkd", ("rkd",)), ("kernel", arms)):
        chosen = weight_settings(best_weights(trials, higher))
        settled = there.settings.replace(arm=TEACHER, **chosen)  # each arm is checked on its own
        candidates = _candidates(settled, stage, of_stage, grid)
        tasks = {seed: (recipe, stage, candidates, folder, progress, seed) for seed in seeds}
        ended: dict[int, list[Trial]] = {}
        for done, (seed, found, failed) in enumerate(each(_job, tasks, jobs), 1):
            ended[seed] = found
            failures += failed
            if progress:
                said = f"tuning {', '.join(of_stage)}: seed {seed} done, {done} of {len(seeds)}"
                print(f"{benchmark}: {said}", file=sys.stderr)
        if failures:
            raise TuningError(stage, failures)
        trials += [trial for seed in seeds for trial in ended[seed]]
    return trials


def _candidates(
    settled: Settings, stage: str, arms: Sequence[str], grid: Sequence[float]
) -> list[Candidate]:
    """A candidate an arm and weight; beside those of kernels ``rkd``, on which they build."""
    found = [
        (arm, weight, settled.replace(arm=arm, **weight_settings({arm: weight})))
        for arm in arms
        for weight in grid
    ]
    if stage == "kernel":
        found.append(("rkd", settled.distance_weight, settled.replace(arm="rkd")))
    return found


def _job(
    recipe: Recipe,
    stage: str,
    candidates: Sequence[Candidate],
    runs_dir: Path,
    show: bool,
    seed: int,
) -> tuple[int, list[Trial], list[str]]:
    """A stage on one seed; an error becomes a sentence, so that other seeds are finished."""
    try:
        return seed, _trials(loaded(recipe), stage, candidates, runs_dir, show, seed), []
    except Exception as error:
        return seed, [], [failure(seed, error)]


def _trials(
    benchmark: Benchmark,
    stage: str,
    candidates: Sequence[Candidate],
    runs_dir: Path,
    show: bool,
    seed: int,
) -> list[Trial]:
    """All candidates of a stage on one seed, found on the disk or trained in lockstep."""
    seeded = [settings.replace(seed=seed) for _, _, settings in candidates]
    # The trace names versions and device once for all trials. An update of the system alone, whose
    # number is part of the platform's name, is no reason to train again.
    by = {name: number for name, number in versions().items() if name != "platform"}
    trained = {"runs": [one.effective() for one in seeded], "data": benchmark.data.sha256}
    trained |= {"versions": by, "device": str(benchmark.device), "format": 2}  # 2: with a digest
    name = f"{stage}-seed{seed}-{canonical_sha256(trained)[:16]}"
    place = _home(runs_dir, benchmark.settings) / name
    if not place.exists():
        scores = _scores(benchmark, seeded, runs_dir, show)
        trials = [
            {"stage": stage, "arm": arm, "weight": weight, "seed": seed}
            | {"score": score, "seconds": seconds}
            for (arm, weight, _), (score, seconds) in zip(candidates, scores, strict=True)
        ]
        made = sealed(plain({"of": name, "trials": trials}, "trials"), DIGEST)
        write_folder(place, {TRIALS: json.dumps(made).encode()})
    try:
        held = unsealed(read_json(place / TRIALS), DIGEST)
        if held.get("of") != name:
            raise ValueError("was moved: it holds other trials")
        return [Trial(**trial) for trial in held["trials"]]
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(place, f"{TRIALS} {error}") from error


def _home(runs_dir: Path, settings: Settings) -> Path:
    """The folder of the trials."""
    return runs_dir / settings.benchmark / settings.scale / "tuning"


def _scores(
    benchmark: Benchmark, candidates: Sequence[Settings], runs_dir: Path, show: bool
) -> list[tuple[float | None, float]]:
    """Train candidates of one seed in lockstep; validation score (None: diverged) and seconds."""
    with one_thread(benchmark.device):
        run = teacher_run(benchmark, candidates[0].seed, runs_dir, show)
        if isinstance(run, Diverged):
            raise run
        teacher = benchmark.model(run)
        learners = [make_learner(benchmark, settings, teacher) for settings in candidates]
        checkpoint = Checkpoint.of(learners, benchmark.data.sha256, runs_dir)
        epochs = candidates[0].epochs_to_train
        for _ in train(benchmark, learners, epochs, teacher, show, checkpoint=checkpoint):
            pass
    checkpoint.remove()
    name = f"validation_{benchmark.metric.removeprefix('test_')}"
    return [
        (None if one.failure is not None else one.history[-1][name], one.seconds)
        for one in learners
    ]


def _trace(
    benchmark: Benchmark, full: int, grid: Sequence[float], overrides: Mapping[str, Any]
) -> Trace:
    """The trace, without any trial yet."""
    data, settings = benchmark.data, benchmark.settings
    return Trace(
        benchmark=settings.benchmark,
        scale=settings.scale,
        metric=f"validation_{benchmark.metric.removeprefix('test_')}",
        higher_is_better=benchmark.higher_is_better,
        weights=tuple(grid),
        epochs=settings.epochs,
        full_epochs=full,
        trials=(),
        data={"name": data.name, "source": data.source, "sha256": data.sha256},
        versions=versions(),
        device=str(benchmark.device),
        overrides=overrides,
    )


def _check_replaceable(
    folder: Path, planned: Trace, arms: Sequence[str], seeds: Sequence[int]
) -> None:
    """Refuse to begin what would end in the loss of another trace."""
    path = planned.path(folder)
    if path.exists() and (odd := read_trace(path).lost_by(planned, ("kd", "rkd", *arms), seeds)):
        raise ValueError(
            f"{path} is the trace of another tuning, and would be replaced. It has "
            f"{'; '.join(odd)}: this one does not. Ask for the same and more, give another "
            "runs_dir, or delete that file first."
        )


def _arms(arms: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(arms, Iterable):
        raise TypeError(f"arms: expected some of {', '.join(TUNED)}, got {arms!r}")
    chosen = tuple(dict.fromkeys([arms] if isinstance(arms, str) else arms))
    if not chosen or (odd := [arm for arm in chosen if arm not in TUNED]):
        got = odd[0] if chosen else "none"
        raise ValueError(f"arms: expected some of {', '.join(TUNED)}, got {got}")
    return chosen


def _grid(weights: Sequence[float]) -> tuple[float, ...]:
    if isinstance(weights, str) or not isinstance(weights, Iterable):
        raise ValueError(f"weights: expected finite numbers > 0, got {weights!r}")
    grid = tuple(sorted({positive("weights", weight) for weight in weights}))
    if not grid:
        raise ValueError("weights: expected finite numbers > 0, got none")
    return grid
