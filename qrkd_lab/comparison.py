"""Comparisons: several arms on several seeds, each run once, recorded, and reused.

A study is a set of runs. Those whose records are there already (for exactly these settings and
data) are reused, the others are trained: a seed is one job, jobs run on this machine's cores
through joblib. Killing a study loses at most the seeds in progress; starting it again goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import joblib
import torch

from qrkd_lab.arms import ARMS, DEFAULT_ARMS, TEACHER, get_arm
from qrkd_lab.benchmarks import Benchmark, load_benchmark
from qrkd_lab.benchmarks.registry import BENCHMARKS, benchmark_settings
from qrkd_lab.devices import pick_device
from qrkd_lab.job import find, run_seed
from qrkd_lab.kernels.base import whole
from qrkd_lab.learner import make_learner
from qrkd_lab.progress import duration
from qrkd_lab.published import published_seeds
from qrkd_lab.runs import Run
from qrkd_lab.settings import Settings
from qrkd_lab.storage import check_writable
from qrkd_lab.study import Study, StudyError

__all__ = ["compare"]


def compare(
    benchmark: str,
    arms: Sequence[str] = DEFAULT_ARMS,
    seeds: int | Iterable[int] = 5,
    scale: str = "laptop",
    jobs: int = 1,
    runs_dir: str | Path = "runs",
    data_dir: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    published: bool = False,
    **overrides: Any,  # noqa: ANN401
) -> Study:
    """Train every arm on every seed, or find the run on disk, and return the study.

    Args:
        benchmark: see :func:`~qrkd_lab.benchmarks.load_benchmark`.
        arms: names from :data:`~qrkd_lab.arms.ARMS`.
        seeds: how many (0, 1, ...), or which.
        scale: ``smoke``, ``laptop`` or ``paper``.
        jobs: processes on this machine, each with one thread; -1 is one a core.
        runs_dir: folder of the records.
        data_dir: folder of the data; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: bars or lines on standard error.
        published: take seeds from the records that came with the kit, where all their runs are
            there (:mod:`qrkd_lab.published`); they need neither data nor training. The study's
            note says how many.
        overrides: any field of :class:`~qrkd_lab.settings.Settings`, e.g. ``epochs=3``.

    Raises:
        ValueError: unknown names (lists the choices), values out of range, equal arms.
        DataError: data that is missing or damaged.
        RecordError: a record that cannot be trusted, or cannot be written.
        StudyError: some runs failed; the others are recorded, the message says which and why.

    Example:
        >>> study = compare("digits", seeds=3, scale="smoke", progress=False)
        >>> list(study.summary().frame.index)
        ['teacher', 'scratch', 'kd', 'rkd', 'qrkd']
    """
    for name in ("benchmark", "scale", "arm", "seed"):
        if name in overrides:
            raise ValueError(
                f"{name} is not set as a setting; use the arguments benchmark, scale, arms, seeds"
            )
    wanted, names = _seeds(seeds), _arms(arms)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs == 0:
        raise ValueError(f"jobs: expected a whole number >= 1, or -1 for one a core, got {jobs!r}")
    place = pick_device(device)
    ready: dict[int, list[Run]] = {}
    if published and benchmark in BENCHMARKS:
        asked = benchmark_settings(benchmark, scale, **overrides)
        ready = published_seeds([asked.replace(arm=arm) for arm in (TEACHER, *names)], wanted)
    runs = [run for found in ready.values() for run in found]
    notes = [f"{len(runs)} runs came with the kit, trained elsewhere"] if runs else []
    failures: list[str] = []
    if rest := [seed for seed in wanted if seed not in ready]:
        recipe = _Recipe(str(benchmark), scale, data_dir, place, overrides)
        own, failures, note = _own_runs(recipe, names, rest, Path(runs_dir), jobs, progress)
        runs += own
        notes.append(f"{note}; records in {runs_dir}")
    order = {arm: place for place, arm in enumerate((TEACHER, *names))}
    ordered = sorted(runs, key=lambda r: (order[r.settings["arm"]], r.settings["seed"]))
    study = Study(tuple(ordered), notes=("; ".join(notes) + ".",))
    if progress:
        print(study.notes[0], file=sys.stderr)
    if failures:
        raise StudyError(failures, study)
    return study


def _own_runs(
    recipe: _Recipe,
    arms: Sequence[str],
    seeds: Sequence[int],
    runs_dir: Path,
    jobs: int,
    progress: bool,
) -> tuple[list[Run], list[str], str]:
    """The runs of these seeds, found or trained; what failed; and how many were which, in words."""
    loaded = recipe.load()
    recipe = replace(recipe, sha256=loaded.data.sha256)
    chosen = [loaded.settings.replace(arm=arm) for arm in (TEACHER, *arms)]
    runs: list[Run] = []
    missing: dict[int, list[Settings]] = {}
    for seed in seeds:
        for settings in (one.replace(seed=seed) for one in chosen):
            found = find(loaded, settings, runs_dir)
            if found is None:
                missing.setdefault(seed, []).append(settings)
            else:
                runs.append(found)
    _try(loaded, {one.arm: one for todo in missing.values() for one in todo})
    if missing:
        check_writable(runs_dir)
    started = time.monotonic()
    _LOADED.clear()
    _LOADED[recipe.key] = loaded
    made, failures = _train_all(recipe, missing, runs_dir, jobs, progress)
    note = f"{len(runs)} runs reused, {len(made)} trained"
    if made:
        note += f" in {duration(time.monotonic() - started)}"
    return runs + made, failures, note


def _try(benchmark: Benchmark, arms: Mapping[str, Settings]) -> None:
    """Build each arm once beside an untrained teacher: what cannot be built says so now."""
    teacher = benchmark.teacher(0).eval()
    for name, settings in arms.items():
        if name != TEACHER:
            make_learner(benchmark, settings, teacher)


@dataclass(frozen=True)
class _Recipe:
    """How to load a benchmark: it travels to worker processes, not the data; each loads once."""

    benchmark: str
    scale: str
    data_dir: str | Path | None
    device: torch.device
    overrides: Mapping[str, Any]
    sha256: str = ""  # of the data, once they are known

    @property
    def key(self) -> str:
        return repr(self)

    def load(self) -> Benchmark:
        """The benchmark, read anew."""
        return load_benchmark(
            self.benchmark, self.scale, self.data_dir, self.device, **self.overrides
        )


_LOADED: dict[str, Benchmark] = {}  # the last benchmark that this process loaded


def _loaded(recipe: _Recipe) -> Benchmark:
    if recipe.key not in _LOADED:
        _LOADED.clear()
        _LOADED[recipe.key] = recipe.load()
    return _LOADED[recipe.key]


def _train_all(
    recipe: _Recipe,
    missing: dict[int, list[Settings]],
    runs_dir: Path,
    jobs: int,
    progress: bool,
) -> tuple[list[Run], list[str]]:
    """Train the missing runs, a job a seed; one seed's failure does not take the others down."""
    made: list[Run] = []
    failures: list[str] = []
    workers = min(joblib.effective_n_jobs(jobs), len(missing)) or 1
    tasks = (
        joblib.delayed(_job)(recipe, settings, runs_dir, progress, index % workers)
        for index, settings in enumerate(missing.values())
    )
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")
        for count, (seed, runs, failed) in enumerate(parallel(tasks), 1):
            made += runs
            failures += failed
            if progress and len(missing) > 1:
                said = f"seed {seed} done, {count} of {len(missing)}"
                print(f"{recipe.benchmark}: {said}", file=sys.stderr)
    return made, failures


def _job(
    recipe: _Recipe, missing: list[Settings], runs_dir: Path, show: bool, position: int
) -> tuple[int, list[Run], list[str]]:
    """One seed in a worker process; an error becomes a sentence, so that other seeds go on."""
    seed, made, failures = missing[0].seed, [], []
    try:
        for result in run_seed(_loaded(recipe), missing, runs_dir, show, position):
            if isinstance(result, Run):
                made.append(result)
            else:
                failures.append(str(result))
    except Exception as error:
        failures.append(f"seed {seed}: {type(error).__name__}: {error}")
    return seed, made, failures


def _seeds(seeds: int | Iterable[int]) -> list[int]:
    try:
        chosen = list(seeds) if isinstance(seeds, Iterable) else range(whole("seeds", seeds, 1))
        chosen = [whole("seeds", seed, 0) for seed in chosen]
    except ValueError:
        chosen = []
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"seeds: expected a count >= 1, or different whole numbers >= 0, got {seeds!r}"
        )
    return chosen


def _arms(arms: Sequence[str]) -> list[str]:
    chosen = [arms] if isinstance(arms, str) else list(arms)
    if not chosen:
        raise ValueError(f"arms: expected at least one of {', '.join(ARMS)}")
    for name in chosen:
        get_arm(name)
    return list(dict.fromkeys(chosen))
