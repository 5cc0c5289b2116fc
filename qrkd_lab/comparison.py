"""Comparisons: several arms on several seeds, each run once, recorded, and reused.

A study is a set of runs. Those whose records are there already (for exactly these settings and
data) are reused, the others are trained: a seed is one job, jobs run through joblib, on this
machine's cores or on a Dask cluster. Killing a study loses at most the seeds in progress; starting
it again goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qrkd_lab.arms import ARMS, DEFAULT_ARMS, TEACHER, get_arm
from qrkd_lab.benchmarks import BENCHMARKS, Benchmark, benchmark_settings
from qrkd_lab.devices import pick_device
from qrkd_lab.errand import away, receive, train_away, train_here
from qrkd_lab.job import find
from qrkd_lab.kernels.base import flag
from qrkd_lab.learner import make_learner
from qrkd_lab.parallel import ClusterError, check_jobs, each, processes, scheduler_address
from qrkd_lab.progress import duration
from qrkd_lab.published import PUBLISHED, published_seeds
from qrkd_lab.recipe import Recipe, keep
from qrkd_lab.runs import Run
from qrkd_lab.seeds import which_seeds
from qrkd_lab.settings import Settings
from qrkd_lab.storage import check_writable, runs_folder
from qrkd_lab.study import Study, StudyError

__all__ = ["compare"]


def compare(
    benchmark: str,
    arms: Sequence[str] = DEFAULT_ARMS,
    seeds: int | Iterable[int] = 5,
    scale: str = "laptop",
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    published: bool = False,
    scheduler: str | None = None,
    **overrides: Any,  # noqa: ANN401
) -> Study:
    """Train every arm on every seed, or find the run on disk, and return the study.

    Args:
        benchmark: see :func:`~qrkd_lab.benchmarks.load_benchmark`.
        arms: names from :data:`~qrkd_lab.arms.ARMS`.
        seeds: how many (0, 1, ...), or which.
        scale: ``smoke``, ``laptop`` or ``paper``.
        jobs: processes on this machine, each with one thread; -1 is one a core.
        runs_dir: folder of the records; None: ``$QRKD_RUNS_DIR``, else ``runs`` in the folder of
            the project (:func:`~qrkd_lab.storage.runs_folder`).
        data_dir: folder of the data; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: bars or lines on standard error.
        published: take seeds from the records that came with the kit, where all their runs are
            there (:mod:`qrkd_lab.published`); they need neither data nor training. The study's
            note says how many.
        scheduler: address of a Dask scheduler, ``tcp://host:8786``, whose workers train in place
            of this machine, each on the ``device`` that it has; the records come to ``runs_dir``.
            None: ``$QRKD_SCHEDULER``, else this machine, as with ``""``.
        overrides: any field of :class:`~qrkd_lab.settings.Settings`, e.g. ``epochs=3``.

    Raises:
        ValueError: unknown names (lists the choices), values out of range, equal arms.
        DataError: data that is missing or damaged.
        RecordError: a record that cannot be trusted, or cannot be written.
        StudyError: some runs failed; the others are recorded, the message says which and why.
        ClusterError: the scheduler does not answer, or has no worker that can train.

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
    wanted, names = which_seeds(seeds), _arms(arms)
    check_jobs(jobs)
    progress, published = flag("progress", progress), flag("published", published)
    cluster = scheduler_address(scheduler)
    place = torch.device(device) if cluster and device != "auto" else device
    place = place if cluster else pick_device(device)
    folder = runs_folder(runs_dir)
    ready: dict[int, list[Run]] = {}
    asked = benchmark_settings(benchmark, scale, **overrides)
    planned = [asked.replace(arm=arm) for arm in (TEACHER, *names)]
    if published and benchmark in BENCHMARKS:
        ready = published_seeds(planned, wanted)
    runs = [run for found in ready.values() for run in found]
    notes = [f"{len(runs)} runs came with the kit, trained elsewhere"] if runs else []
    failures: list[str] = []
    if rest := [seed for seed in wanted if seed not in ready]:
        if published:  # with or without progress: it can be hours
            absent = "" if PUBLISHED.is_dir() else f" (there is no {PUBLISHED})"
            _say(
                f"{benchmark}: {len(rest)} of {len(wanted)} seeds did not come with the kit, with "
                f"these arms and settings{absent}; they are trained, or taken from your own records"
            )
        recipe = Recipe(str(benchmark), scale, data_dir, place, overrides)
        own, failures, note = _own_runs(recipe, names, rest, folder, jobs, cluster, progress)
        runs += own
        notes.append(f"{note}; records in {folder}")
    order = {arm: place for place, arm in enumerate((TEACHER, *names))}
    ordered = sorted(runs, key=lambda r: (order[r.settings["arm"]], r.settings["seed"]))
    study = Study(tuple(ordered), notes=("; ".join(notes) + ".",))
    if progress:
        print(study.notes[0], file=sys.stderr)
    if failures:
        raise StudyError(failures, study)
    return study


def _own_runs(
    recipe: Recipe,
    arms: Sequence[str],
    seeds: Sequence[int],
    runs_dir: Path,
    jobs: int,
    scheduler: str | None,
    progress: bool,
) -> tuple[list[Run], list[str], str]:
    """The runs of these seeds, found or trained; what failed; and how many were which, in words."""
    loaded = (replace(recipe, device="cpu") if scheduler else recipe).load()
    recipe = recipe.settled(loaded)
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
    keep(recipe, loaded)
    made, failures = _train_all(recipe, missing, runs, runs_dir, jobs, scheduler, progress)
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


def _train_all(
    recipe: Recipe,
    missing: Mapping[int, list[Settings]],
    runs: Sequence[Run],
    runs_dir: Path,
    jobs: int,
    scheduler: str | None,
    progress: bool,
) -> tuple[list[Run], list[str]]:
    """Train the missing runs, a job a seed; one seed's failure does not take the others down."""
    if scheduler is None:
        workers = processes(jobs, len(missing))
        tasks = {
            seed: (recipe, settings, runs_dir, progress, index % workers)
            for index, (seed, settings) in enumerate(missing.items())
        }
        outcomes = each(train_here, tasks, jobs)
    else:
        tasks = away(recipe, missing, runs, runs_dir)
        say = _say if progress else None
        outcomes = each(train_away, tasks, scheduler=scheduler, check=recipe.check, say=say)
    made: list[Run] = []
    failures: list[str] = []
    try:
        with closing(outcomes):
            for count, (seed, results, failed) in enumerate(outcomes, 1):
                received, lost = receive(seed, results, runs_dir)
                made += received
                failures += failed + lost
                if progress and len(missing) > 1:
                    _say(f"{recipe.benchmark}: seed {seed} done, {count} of {len(missing)}")
    except ClusterError as error:
        if not made and not failures:
            raise
        failures.append(str(error))
    return made, failures


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _arms(arms: Sequence[str]) -> list[str]:
    if not isinstance(arms, Iterable):
        raise TypeError(f"arms: expected names of {', '.join(ARMS)}, got {arms!r}")
    chosen = [arms] if isinstance(arms, str) else list(arms)
    if not chosen:
        raise ValueError(f"arms: expected at least one of {', '.join(ARMS)}")
    for name in chosen:
        get_arm(name)
    return list(dict.fromkeys(chosen))
