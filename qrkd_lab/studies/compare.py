"""Comparisons: several arms on several seeds, each run once, recorded, and reused.

Runs that are recorded for exactly these settings and data are reused; the others are trained, one
job per seed, on this machine's cores or on a Dask cluster. The same call continues a study that was
interrupted.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.checks import flag
from qrkd_lab.data.fetch import DataError
from qrkd_lab.devices import pick_device
from qrkd_lab.files import (
    check_writable,
    expanded,
    replacing,
    runs_folder,
    write_file,
    writing,
)
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.arms import ARMS, BENCHMARKS, DEFAULT_ARMS, TEACHER, Arm, get_arm
from qrkd_lab.studies.benchmarks import Benchmark, benchmark_settings, load_benchmark
from qrkd_lab.studies.callbacks import Progress, duration
from qrkd_lab.studies.group import find, make_learner, train_group
from qrkd_lab.studies.parallel import (
    ClusterError,
    Outcome,
    check_jobs,
    each,
    each_on_cluster,
    processes,
)
from qrkd_lab.studies.records import NAME, PUBLISHED, Run, pack, published_seeds, unpack
from qrkd_lab.studies.settings import Settings
from qrkd_lab.train import Diverged

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from matplotlib.figure import Figure

    from qrkd_lab.studies.summary import Summary

__all__ = ["Study", "StudyError", "compare"]


def compare(
    benchmark: str | Benchmark,
    arms: Sequence[str | Arm] = DEFAULT_ARMS,
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
        benchmark: see :func:`~qrkd_lab.studies.benchmarks.load_benchmark`; or one of your own, by
            :meth:`~qrkd_lab.studies.benchmarks.Benchmark.from_arrays`.
        arms: names from :data:`~qrkd_lab.studies.arms.ARMS`, and
            :class:`~qrkd_lab.studies.arms.Arm` objects of your own.
        seeds: how many (0, 1, ...), or which.
        scale: ``smoke``, ``laptop`` or ``paper``.
        jobs: processes on this machine, each with one thread; -1 is one a core.
        runs_dir: folder of the records; None: ``$QRKD_RUNS_DIR``, else ``runs`` in the folder of
            the project (:func:`~qrkd_lab.files.runs_folder`).
        data_dir: folder of the data; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: bars or lines on standard error.
        published: take seeds from the records that came with the kit, where all their runs are
            there; they need neither data nor training. The study's note says how many.
        scheduler: address of a Dask scheduler, ``tcp://host:8786``, whose workers train in place
            of this machine, each on the ``device`` that it has; the records come to ``runs_dir``.
            A benchmark of your own is sent to them, with its data. None: this machine trains.
        overrides: any field of :class:`~qrkd_lab.studies.settings.Settings`, e.g. ``epochs=3``.

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
    for name in ("arm", "own_arm", "seed"):
        if name in overrides:
            raise ValueError(f"{name} is not set as a setting; use the arguments arms and seeds")
    wanted, names = which_seeds(seeds), _chosen(arms)
    check_jobs(jobs)
    progress, published = flag("progress", progress), flag("published", published)
    if isinstance(benchmark, Benchmark) and published:
        raise ValueError("published: no records of a benchmark of your own came with the kit")
    device = device if scheduler else pick_device(device)  # each worker of a cluster picks
    folder = runs_folder(runs_dir)
    asked = benchmark_settings(benchmark, scale, **overrides)
    planned = [asked.replace(arm=arm) for arm in (TEACHER, *names)]
    ready: dict[int, list[Run]] = {}
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
        given = benchmark if isinstance(benchmark, Benchmark) else str(benchmark)
        source = _Source(given, scale, data_dir, device, overrides)
        loaded = (replace(source, device="cpu") if scheduler else source).load()
        source = replace(source, sha256=loaded.data.sha256)
        found, missing = _look_up(loaded, names, rest, folder)
        trained: list[Run] = []
        started = time.monotonic()
        try:
            outcomes = _outcomes(source, loaded, missing, found, folder, jobs, scheduler, progress)
            for done, (seed, made, failed) in enumerate(outcomes, 1):
                trained += (unpack(one, folder) if isinstance(one, dict) else one for one in made)
                failures += failed
                if progress and len(missing) > 1:
                    _say(f"{asked.benchmark}: seed {seed} done, {done} of {len(missing)}")
        except ClusterError as error:
            if not trained and not failures:
                raise
            failures.append(str(error))
        took = f" in {duration(time.monotonic() - started)}" if trained else ""
        notes.append(f"{len(found)} runs reused, {len(trained)} trained{took}; records in {folder}")
        runs += found + trained
    order = {getattr(arm, "name", arm): place for place, arm in enumerate((TEACHER, *names))}
    runs.sort(key=lambda run: (order[run.settings["arm"]], run.settings["seed"]))
    study = Study(tuple(runs), notes=("; ".join(notes) + ".",))
    if progress:
        _say(study.notes[0])
    if failures:
        raise StudyError(failures, study)
    return study


def _chosen(arms: Sequence[str | Arm]) -> list[str | Arm]:
    """Each arm once; raise ValueError or TypeError if one is not among those that there are."""
    arms = [arms] if isinstance(arms, str | Arm) else arms
    if not isinstance(arms, Iterable):
        raise TypeError(f"arms: expected names of {', '.join(ARMS)}, got {arms!r}")
    chosen = list(dict.fromkeys(arms))
    if not chosen:
        raise ValueError(f"arms: expected at least one of {', '.join(ARMS)}, got none")
    taken = [*ARMS, TEACHER, *(arm.name for arm in chosen if isinstance(arm, Arm))]
    for arm in chosen:
        if not isinstance(arm, Arm):
            get_arm(arm)
        elif not NAME.fullmatch(arm.name) or taken.count(arm.name) > 1:
            raise ValueError(
                f"an arm of your own needs a name that no other arm has, Arm(..., name='mine'), of "
                f"letters, digits and _ . + -; got {arm.name!r}"
            )
    return chosen


def _look_up(
    benchmark: Benchmark, arms: Sequence[str | Arm], seeds: Sequence[int], runs_dir: Path
) -> tuple[list[Run], dict[int, list[Settings]]]:
    """The runs of these seeds that are recorded, and by seed those that are not."""
    runs: list[Run] = []
    missing: dict[int, list[Settings]] = {}
    for seed in seeds:
        for arm in (TEACHER, *arms):
            settings = benchmark.settings.replace(arm=arm, seed=seed)
            if (found := find(benchmark, settings, runs_dir)) is None:
                missing.setdefault(seed, []).append(settings)
            else:
                runs.append(found)
    if missing:
        # Build each arm once beside an untrained teacher: what cannot be built says so now.
        teacher, few = benchmark.teacher(0).eval(), benchmark.of_students(0)
        for settings in {one.arm: one for todo in missing.values() for one in todo}.values():
            if settings.arm != TEACHER:
                make_learner(few, settings, teacher)
        check_writable(runs_dir)
    return runs, missing


def _outcomes(
    source: _Source,
    benchmark: Benchmark,
    missing: Mapping[int, list[Settings]],
    found: Sequence[Run],
    runs_dir: Path,
    jobs: int,
    scheduler: str | None,
    progress: bool,
) -> Iterator[Outcome]:
    """Train what is missing; what came of each seed as soon as it is there."""
    if scheduler and missing:
        if benchmark.settings.precision is not None:  # by the device: decided here, once for all
            precision = {"precision": benchmark.settings.precision}
            source = replace(source, overrides={**source.overrides, **precision})
        teachers = {run.settings["seed"]: run for run in found if run.settings["arm"] == TEACHER}
        tasks = {}
        for seed, todo in missing.items():
            held = [pack(teachers[seed])] if seed in teachers else []  # it need not be trained
            tasks[seed] = (source, todo, held)
        return each_on_cluster(_train_away, tasks, scheduler)
    if (lines := processes(jobs, len(missing))) == 1:
        bars = _bars(benchmark, progress)
        tasks = {seed: (benchmark, todo, runs_dir, bars) for seed, todo in missing.items()}
        return each(train_group, tasks)
    tasks = {
        seed: (source, todo, runs_dir, progress, index % lines)
        for index, (seed, todo) in enumerate(missing.items())
    }
    return each(_train_in_worker, tasks, jobs)


def _say(text: str) -> None:
    print(text, file=sys.stderr)


# ---- study


class StudyError(RuntimeError):
    """Some runs of a study failed; ``.study`` holds those that did not."""

    def __init__(self, failures: Sequence[str], study: Study) -> None:
        self.failures, self.study = tuple(failures), study
        listed = "\n  ".join(self.failures)
        super().__init__(
            f"{len(self.failures)} failed; {len(study.runs)} runs are recorded and will be reused:"
            f"\n  {listed}"
        )


@dataclass(frozen=True)
class Study:
    """Finished runs of one benchmark and scale.

    Attributes:
        runs: records, of any arms and seeds.
        notes: what happened on the way (how many runs were reused).
    """

    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def results(self) -> pd.DataFrame:
        """A row per run; see :func:`~qrkd_lab.studies.summary.results`."""
        from qrkd_lab.studies.results import results

        return results(self.runs)

    def summary(self, reference: str | None = None, confidence: float = 0.95) -> Summary:
        """Means with intervals, and paired differences to a reference arm.

        Args:
            reference: an arm; None takes ``rkd``, or the first of ``kd``, ``scratch`` there is.
            confidence: of the intervals.

        Raises:
            ValueError: the reference is not among the arms (lists them).
        """
        from qrkd_lab.studies.summary import summary

        asked = (reference, confidence)
        if asked not in self._summaries:
            if reference is None:
                present = set(self.results["arm"])
                likely = [arm for arm in ("rkd", "kd", "scratch") if arm in present]
                reference = (likely or sorted(present))[0]
            self._summaries[asked] = summary(self.results, reference, None, confidence)
        return self._summaries[asked]

    @cached_property
    def _summaries(self) -> dict[tuple[str | None, float], Summary]:
        return {}

    def plot(self) -> Figure:
        """Every run's score by arm, seeds as points, means with intervals."""
        from qrkd_lab.teaching.plots.scores import scores_by_arm

        return scores_by_arm(self.results, self.runs[0].metric["name"])

    def save(self, folder: str | Path, reference: str | None = None) -> Path:
        """Write ``results.csv``, ``summary.md`` and three figures as PNG into a folder.

        Args:
            folder: made if missing.
            reference: the arm that ``summary.md`` and ``differences.png`` compare with; None as in
                :meth:`summary`.

        Raises:
            ValueError: the reference is not among the arms (lists them).
            RecordError: the folder cannot be written, or the disk is full; a file that was there
                is there still.
        """
        from qrkd_lab.teaching.plots.curves import learning_curves
        from qrkd_lab.teaching.plots.scores import paired_differences

        summary = self.summary(reference)
        folder = expanded(folder)
        table = self.results.drop(columns="run")  # whole records, which lie in runs_dir
        students = [run for run in self.runs if run.settings["arm"] != "teacher"]
        figures = {"scores": self.plot(), "learning_curves": learning_curves(students)}
        if len(set(self.results["arm"]) - {"teacher"}) > 1:
            figures["differences"] = paired_differences(summary)
        with writing(f"the tables and figures in {folder}", "out"):
            write_file(folder / "results.csv", table.to_csv(index=False).encode())
            write_file(folder / "summary.md", f"{summary.to_markdown()}\n".encode())
            for name, figure in figures.items():
                with replacing(folder / f"{name}.png") as stream:
                    figure.savefig(stream, dpi=150)
        return folder

    def __str__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()


# ---- jobs


@dataclass(frozen=True)
class _Source:
    """What a process needs to know to load the benchmark of a study; see ``load_benchmark``."""

    benchmark: str | Benchmark
    scale: str
    data_dir: str | Path | None
    device: str | torch.device  # "auto" is decided where it is loaded
    overrides: Mapping[str, Any]
    sha256: str = ""  # of its data, once it was loaded

    def load(self) -> Benchmark:
        return load_benchmark(
            self.benchmark, self.scale, self.data_dir, self.device, **self.overrides
        )


_LOADED: dict[str, Benchmark] = {}  # the last benchmark that this process loaded


def _loaded(source: _Source) -> Benchmark:
    """The benchmark, read once per process for all jobs that follow."""
    if repr(source) not in _LOADED:
        _LOADED.clear()  # before the next is read: two may be more than there is memory for
        _LOADED[repr(source)] = source.load()
    return _LOADED[repr(source)]


def _bars(benchmark: Benchmark, show: bool, position: int = 0) -> list[Progress]:
    name, words = benchmark.settings.benchmark, benchmark.in_words
    return [Progress(name, words, position=position)] if show else []


def _train_in_worker(
    source: _Source, missing: Sequence[Settings], runs_dir: Path, show: bool, position: int
) -> Iterator[Run | Diverged]:
    """Train what is missing of one seed in a process of this machine, with a bar at a position."""
    benchmark = _loaded(source)
    return train_group(benchmark, missing, runs_dir, _bars(benchmark, show, position))


def _train_away(
    source: _Source, missing: Sequence[Settings], held: Sequence[Mapping[str, bytes]]
) -> Iterator[Mapping[str, bytes] | Diverged]:
    """The same on a worker of a cluster, in a folder that is removed at the end."""
    benchmark = _loaded(source)
    if benchmark.data.sha256 != source.sha256:
        raise DataError(
            f"a worker holds other data of {source.benchmark}: sha256 "
            f"{benchmark.data.sha256[:12]}, expected {source.sha256[:12]}; give it the same files, "
            "or none, so that it fetches them"
        )
    with tempfile.TemporaryDirectory(prefix="qrkd_lab-") as folder:
        for files in held:
            unpack(files, Path(folder))
        for result in train_group(benchmark, missing, Path(folder)):
            yield pack(result) if isinstance(result, Run) else result
