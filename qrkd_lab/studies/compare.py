"""Comparisons: several arms on several seeds, each run once, recorded, and reused.

A study is a set of runs. Those whose records are there already (for exactly these settings and
data) are reused, the others are trained: a seed is one job, jobs run through joblib, on this
machine's cores or on a Dask cluster. Killing a study loses at most the seeds in progress; starting
it again goes on.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from qrkd_lab.data.fetch import DataError
from qrkd_lab.devices import pick_device
from qrkd_lab.files import (
    RecordError,
    canonical_sha256,
    check_writable,
    expanded,
    read_file,
    replacing,
    runs_folder,
    write_file,
    write_folder,
    writing,
)
from qrkd_lab.relations import flag
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.benchmarks import BENCHMARKS, Benchmark, benchmark_settings, load_benchmark
from qrkd_lab.studies.group import find, make_learner, train_group
from qrkd_lab.studies.parallel import (
    CalledOff,
    ClusterError,
    check_jobs,
    each,
    failure,
    own_folder,
    processes,
)
from qrkd_lab.studies.progress import Progress, duration
from qrkd_lab.studies.records import (
    PUBLISHED,
    RECORD,
    WEIGHTS,
    Run,
    checked_record,
    load_run,
    published_seeds,
    record_place,
)
from qrkd_lab.studies.settings import ARMS, DEFAULT_ARMS, TEACHER, Settings, get_arm
from qrkd_lab.train import Diverged

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from qrkd_lab.studies.summary import Summary

__all__ = [
    "Parcel",
    "Recipe",
    "Study",
    "StudyError",
    "away",
    "compare",
    "keep",
    "loaded",
    "pack",
    "receive",
    "train_away",
    "train_here",
    "unpack",
]


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
        benchmark: see :func:`~qrkd_lab.studies.benchmarks.load_benchmark`.
        arms: names from :data:`~qrkd_lab.studies.settings.ARMS`.
        seeds: how many (0, 1, ...), or which.
        scale: ``smoke``, ``laptop`` or ``paper``.
        jobs: processes on this machine, each with one thread; -1 is one a core.
        runs_dir: folder of the records; None: ``$QRKD_RUNS_DIR``, else ``runs`` in the folder of
            the project (:func:`~qrkd_lab.files.runs_folder`).
        data_dir: folder of the data; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        progress: bars or lines on standard error.
        published: take seeds from the records that came with the kit, where all their runs are
            there (``records``); they need neither data nor training. The study's
            note says how many.
        scheduler: address of a Dask scheduler, ``tcp://host:8786``, whose workers train in place
            of this machine, each on the ``device`` that it has; the records come to ``runs_dir``.
            None: this machine trains.
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
    for name in ("benchmark", "scale", "arm", "seed"):
        if name in overrides:
            raise ValueError(
                f"{name} is not set as a setting; use the arguments benchmark, scale, arms, seeds"
            )
    wanted, names = which_seeds(seeds), _arms(arms)
    check_jobs(jobs)
    progress, published = flag("progress", progress), flag("published", published)
    place = torch.device(device) if scheduler and device != "auto" else device
    place = place if scheduler else pick_device(device)
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
        own, failures, note = _own_runs(
            recipe, names, rest, folder, jobs, scheduler or None, progress
        )
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
    if not scheduler:
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
        """A row a run: arm, seed, metrics, gaps, times; see ``results``."""
        from qrkd_lab.studies.summary import results

        return results(self.runs)

    def summary(self, reference: str | None = None, confidence: float = 0.95) -> Summary:
        """Means with intervals, and paired differences to a reference arm.

        Args:
            reference: an arm; None takes ``rkd``, or the first of ``kd``, ``scratch`` there is.
            confidence: of the intervals.

        Raises:
            ValueError: the reference is not among the arms (lists them).
        """
        asked = (reference, confidence)
        if asked not in self._summaries:
            self._summaries[asked] = self._summary(*asked)
        return self._summaries[asked]

    @cached_property
    def _summaries(self) -> dict[tuple[str | None, float], Summary]:
        return {}

    def _summary(self, reference: str | None, confidence: float) -> Summary:
        from qrkd_lab.studies.summary import summary

        present = set(self.results["arm"])
        if reference is None:
            likely = [arm for arm in ("rkd", "kd", "scratch") if arm in present]
            reference = (likely or sorted(present))[0]
        metric = self.runs[0].metric
        return summary(
            self.results,
            reference,
            metric["name"],
            confidence,
            higher_is_better=metric["higher_is_better"],
        )

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


# ---- recipe


@dataclass(frozen=True)
class Recipe:
    """What a process needs to know to load the benchmark of a study.

    Args:
        benchmark, scale, data_dir, device, overrides: see
            ``load_benchmark``; ``auto`` is decided where it is loaded.
        sha256: of the data, once they are known.
        settings: of the benchmark, once it was loaded.
    """

    benchmark: str
    scale: str
    data_dir: str | Path | None
    device: str | torch.device
    overrides: Mapping[str, Any]
    sha256: str = ""
    settings: Settings | None = None

    @property
    def key(self) -> str:
        return repr(self)

    def load(self) -> Benchmark:
        """The benchmark, read anew."""
        return load_benchmark(
            self.benchmark, self.scale, self.data_dir, self.device, **self.overrides
        )

    def settled(self, benchmark: Benchmark) -> Recipe:
        """The recipe of exactly this benchmark, whatever another machine would choose by itself."""
        overrides = dict(self.overrides)
        if benchmark.settings.precision is not None:
            overrides["precision"] = benchmark.settings.precision
        found = {"sha256": benchmark.data.sha256, "settings": benchmark.settings}
        return replace(self, overrides=overrides, **found)

    def elsewhere(self) -> Recipe:
        """The recipe for another machine, where the folder of the data may be another one."""
        if self.data_dir is None or expanded(self.data_dir).is_dir():
            return self
        return replace(self, data_dir=None)

    def check(self) -> None:
        """Load the benchmark on another machine, and see that it is the one that was settled.

        Raises:
            ValueError, DataError: what ``load_benchmark`` says; or the
                data or the settings are others.
        """
        found = loaded(self.elsewhere())
        if found.data.sha256 != self.sha256:
            raise DataError(
                f"it holds other data of {self.benchmark}: sha256 {found.data.sha256[:12]}, "
                f"expected {self.sha256[:12]}; give it the same files, or none, so that it "
                "fetches them"
            )
        for field in fields(Settings):
            got, expected = (getattr(of, field.name) for of in (found.settings, self.settings))
            if got != expected:
                raise ValueError(f"{field.name} is {got!r} there, {expected!r} here")


_LOADED: dict[str, Benchmark] = {}  # the last benchmark that this process loaded


def keep(recipe: Recipe, benchmark: Benchmark) -> None:
    """Let :func:`loaded` give this benchmark for the recipe, and forget any other."""
    _LOADED.clear()
    _LOADED[recipe.key] = benchmark


def loaded(recipe: Recipe) -> Benchmark:
    """The benchmark of a recipe, read once a process for all jobs that follow."""
    if recipe.key not in _LOADED:
        _LOADED.clear()  # before the next is read: two may be more than there is memory for
        keep(recipe, recipe.load())
    return _LOADED[recipe.key]


# ---- errand


@dataclass(frozen=True)
class Parcel:
    """A record as bytes, for machines that share no disk.

    Args:
        place: its folder, from the folder of all records on.
        files: content by file name.
    """

    place: str
    files: dict[str, bytes]


def pack(run: Run) -> Parcel:
    """The record of a run, as it lies on the disk."""
    files = {name: read_file(run.path / name, None) for name in (RECORD, WEIGHTS)}
    return Parcel("/".join(run.path.parts[-3:]), files)


def unpack(parcel: Parcel, runs_dir: Path) -> Run:
    """Write a record, unless it is there already, and read it.

    Names, digests and all that the record says are checked first, so that nothing is written
    outside ``runs_dir``, and nothing that would have to be deleted again.

    Raises:
        RecordError: it was damaged on its way, or is no record; or it cannot be written.
    """
    try:
        files = dict(parcel.files)
        if files.keys() != {RECORD, WEIGHTS}:
            raise ValueError(f"expected {RECORD} and {WEIGHTS}, got {sorted(files)!r:.200}")
        record = checked_record(files[RECORD])
        if parcel.place != (place := "/".join(record_place(record))):
            raise ValueError(f"it says that it belongs to {parcel.place!r:.200}, not to {place}")
        if hashlib.sha256(files[WEIGHTS]).hexdigest() != record["weights_sha256"]:
            raise ValueError(f"{WEIGHTS} was changed: its digest does not match")
    except (AttributeError, TypeError, ValueError) as error:
        raise RecordError(
            f"a record that was trained elsewhere came damaged ({error}). Nothing was written: run "
            "again, and it is trained again."
        ) from error
    target = runs_dir / place
    with writing(f"a record that was trained elsewhere, in {target},"):
        write_folder(target, files)
    return load_run(target)


def train_here(
    recipe: Recipe, missing: Sequence[Settings], runs_dir: Path, show: bool, position: int
) -> tuple[int, list[Run], list[str]]:
    """Train what is missing of one seed; returns the seed, its runs, and what failed in words.

    Args:
        recipe: of the benchmark.
        missing: settings of the runs, all of one seed.
        runs_dir: folder of the records.
        show, position: as for :func:`~qrkd_lab.studies.group.train_group`.
    """

    def results() -> Iterator[Run | Diverged]:
        benchmark = loaded(recipe)
        name, words = benchmark.settings.benchmark, benchmark.in_words
        callbacks = [Progress(name, words, position=position)] if show else []
        yield from train_group(benchmark, missing, runs_dir, callbacks)

    return _sorted(missing[0].seed, results())


def away(
    recipe: Recipe, missing: Mapping[int, list[Settings]], runs: Sequence[Run], runs_dir: Path
) -> dict[int, tuple[Any, ...]]:
    """The arguments of :func:`train_away` by seed; a teacher that is here already goes along.

    Args:
        recipe, missing: by seed, as for :func:`train_here`.
        runs: those of the study that are here already.
        runs_dir: folder of the records at the caller.
    """
    if recipe.data_dir is not None:
        recipe = replace(recipe, data_dir=expanded(recipe.data_dir).absolute())
    teachers = {run.settings["seed"]: run for run in runs if run.settings["arm"] == TEACHER}
    held = {seed: [pack(run)] for seed, run in teachers.items() if seed in missing}
    caller = f"{platform.node()}:{runs_dir.resolve()}"
    return {
        seed: (recipe, settings, held.get(seed, []), caller) for seed, settings in missing.items()
    }


def train_away(
    recipe: Recipe, missing: Sequence[Settings], held: Sequence[Parcel], caller: str
) -> tuple[int, list[Parcel], list[str]]:
    """The same in a worker of a cluster, in a folder of its own that is emptied at the end.

    The folder is found again, with the checkpoint in it, by a worker that does the job anew on the
    same machine.

    Args:
        recipe, missing: as for :func:`train_here`.
        held: records of this seed that the caller has.
        caller: its machine and folder; two callers do not share a folder.
    """
    about = [caller, recipe.sha256, [settings.effective() for settings in missing]]
    folder = own_folder(canonical_sha256(about)[:16])

    def results() -> Iterator[Parcel | Diverged]:
        for parcel in held:
            unpack(parcel, folder)
        benchmark = loaded(recipe.elsewhere())
        for result in train_group(benchmark, missing, folder, [CalledOff()]):
            yield pack(result) if isinstance(result, Run) else result
        shutil.rmtree(folder, ignore_errors=True)

    return _sorted(missing[0].seed, results())


def _sorted(seed: int, results: Iterator[Any]) -> tuple[int, list[Any], list[str]]:
    """What was made, and what failed; an error becomes a sentence, so that other seeds go on."""
    made, failures = [], []
    try:
        for result in results:
            if isinstance(result, Diverged):
                failures.append(str(result))
            else:
                made.append(result)
    except Exception as error:
        failures.append(failure(seed, error))
    return seed, made, failures


def receive(
    seed: int, results: Sequence[Run | Parcel], runs_dir: Path
) -> tuple[list[Run], list[str]]:
    """The runs of an outcome, those from elsewhere written down; what could not be, in words.

    A record of another seed is none of this outcome.
    """
    runs, lost = [], []
    for result in results:
        try:
            run = result if isinstance(result, Run) else unpack(result, runs_dir)
            if run.settings["seed"] != seed:
                raise RecordError(f"got the record of {run.name}, which nobody asked for")
            runs.append(run)
        except RecordError as error:
            lost.append(f"seed {seed}: {error}")
    return runs, lost
