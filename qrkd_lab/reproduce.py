"""The study, reproduced: train what is missing, execute each notebook, write the report.

    python -m qrkd_lab reproduce mnist --seeds 5

Whatever stops it, the same command goes on: recorded runs are not trained again, and an interrupted
training continues from its checkpoint. What fails is named at the end and takes no other benchmark
down.
"""

from __future__ import annotations

import ast
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from qrkd_lab.data.fetch import DataError
from qrkd_lab.files import PROJECT, RecordError, check_writable, expanded, runs_folder
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.benchmarks import benchmark_settings, load_benchmark
from qrkd_lab.studies.cluster import ClusterError
from qrkd_lab.studies.compare import StudyError, compare
from qrkd_lab.studies.parallel import alone, check_jobs
from qrkd_lab.studies.records import PUBLISHED, Run
from qrkd_lab.studies.settings import DEFAULT_ARMS, TEACHER, get_arm
from qrkd_lab.studies.tune import FILE, TuningHistory, read_tuning
from qrkd_lab.teaching.notebooks import execute
from qrkd_lab.teaching.parameters import NotebookError, read_parameters

__all__ = ["NOTEBOOKS", "Reproduced", "SEEDS", "reproduce"]

FOLDER = PROJECT / "notebooks"  # of a checkout; an installed wheel has none
NOTEBOOKS: dict[str, Path] = {
    "mnist": FOLDER / "06_mnist.ipynb",
    "cifar10": FOLDER / "07_cifar10.ipynb",
    "wikitext2": FOLDER / "08_wikitext2.ipynb",
    "ptb": FOLDER / "09_penn_treebank.ipynb",
    "imdb": FOLDER / "10_imdb.ipynb",
}
SEEDS: Mapping[str, int] = {"mnist": 5, "cifar10": 5, "wikitext2": 3, "ptb": 3, "imdb": 3}


@dataclass(frozen=True)
class Reproduced:
    """What :func:`reproduce` left.

    Attributes:
        report: the file; None where no run is recorded, or it could not be written.
        failures: a sentence each; none if all of the study is there.
    """

    report: Path | None
    failures: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """What is asked of one benchmark."""

    benchmark: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]


def reproduce(
    benchmarks: Sequence[str] = (),
    seeds: int | Iterable[int] | None = None,
    scale: str = "laptop",
    jobs: int = 2,
    runs_dir: str | Path | None = None,
    out: str | Path | None = None,
    *,
    arms: Sequence[str] | None = None,
    scheduler: str | None = None,
) -> Reproduced:
    """Train all seeds of the benchmarks, execute each notebook once on them, write the report.

    Args:
        benchmarks: of :data:`NOTEBOOKS`; none: all of them.
        seeds: how many, or which; None: each benchmark's own number (:data:`SEEDS`).
        scale: ``smoke``, ``laptop`` or ``paper``.
        jobs: processes that train; -1: one per core.
        runs_dir: folder of the records; what is there already is not trained again. None: see
            :func:`~qrkd_lab.files.runs_folder`.
        out: folder of the executed notebooks and the report; None: ``reproduce`` in ``runs_dir``.
        arms: ``scratch``, ``kd``, ``rkd`` and ``qrkd``, which the notebooks compare, and others;
            None: those that the notebook names.
        scheduler: as for :func:`~qrkd_lab.compare`.

    Raises:
        ValueError: unknown names (lists the choices), arms that a notebook cannot do without,
            seeds or jobs that cannot be.
        RecordError: a folder that cannot be written.
        RuntimeError: another process reproduces into the same folder.

    Example:
        >>> reproduce(["mnist"], seeds=3, scale="smoke").failures           # doctest: +SKIP
        ()
    """
    records = runs_folder(runs_dir).absolute()
    folder = records / "reproduce" if out is None else expanded(out).absolute()
    check_jobs(jobs)
    parts = [_part(name, scale, arms, seeds) for name in dict.fromkeys(benchmarks or NOTEBOOKS)]
    check_writable(folder, "out")
    check_writable(records)
    does = (
        f"reproduces into {folder} at this moment: wait for it, or give another folder (--out). "
        "Records in the same runs_dir serve both."
    )
    runs: list[Run] = []
    failures: list[str] = []
    report = None
    with alone(folder, "reproduce", does):
        for part in [part for part in parts if _has_data(part, scale, failures)]:
            runs += _one(part, scale, jobs, records, folder, scheduler, failures)
        if runs:
            from qrkd_lab.studies.report import write_report

            command, tunings = _command(benchmarks, scale, seeds, arms), _tunings(runs, failures)
            try:
                report = write_report(runs, folder, command, tunings, _lacking(parts, runs))
            except RecordError as error:
                failures.append(str(error))
    return Reproduced(report, tuple(failures))


def _part(
    name: str, scale: str, arms: Sequence[str] | None, seeds: int | Iterable[int] | None
) -> _Part:
    """What is asked of a benchmark, once every word in it is known."""
    if name not in NOTEBOOKS:
        raise ValueError(f"unknown benchmark {name!r}; choose from {', '.join(NOTEBOOKS)}")
    notebook = NOTEBOOKS[name]
    if not notebook.exists():
        raise ValueError(f"no notebook at {notebook}: it comes with a checkout of the repository")
    if arms is None:
        offered = read_parameters(notebook.name, nbformat.read(notebook, as_version=4))
        arms = ast.literal_eval(offered["arms"].default)
    else:
        for arm in arms:
            get_arm(arm)
        if lacking := [arm for arm in DEFAULT_ARMS if arm not in arms]:
            raise ValueError(
                f"arms: {', '.join(lacking)} must be among them, as the notebooks compare "
                f"{', '.join(DEFAULT_ARMS)}; others alone are trained by python -m qrkd_lab compare"
            )
    benchmark_settings(name, scale)
    wanted = which_seeds(SEEDS[name] if seeds is None else seeds)
    return _Part(name, tuple(dict.fromkeys(arms)), tuple(wanted))


def _has_data(part: _Part, scale: str, failures: list[str]) -> bool:
    """Whether a benchmark can be loaded; why not is said before hours of training, and kept."""
    try:
        load_benchmark(part.benchmark, scale)
        return True
    except Exception as error:  # whatever it is, the other benchmarks go on
        cause = f"{part.benchmark} is left out: {type(error).__name__}: {error}"
        if isinstance(error, DataError):
            cause += f"\n  Get the data with python -m qrkd_lab data {part.benchmark}."
    _say(cause)
    failures.append(cause)
    return False


def _one(
    part: _Part,
    scale: str,
    jobs: int,
    records: Path,
    folder: Path,
    scheduler: str | None,
    failures: list[str],
) -> Sequence[Run]:
    """The runs of a benchmark, trained where they are missing; its notebook is executed on them."""
    name, notebook = part.benchmark, NOTEBOOKS[part.benchmark]
    runs: Sequence[Run] = ()
    try:
        options = {"jobs": jobs, "runs_dir": records, "scheduler": scheduler}
        runs = compare(name, part.arms, part.seeds, scale, **options).runs
        _say(f"{name}: executing {notebook.name}")
        parameters = {
            "scale": scale, "arms": list(part.arms), "seeds": list(part.seeds), "published": False,
            "runs_dir": str(records),
        }  # fmt: skip
        if scheduler:  # precision goes by the device: the runs were settled on the CPU
            parameters["device"] = "cpu"
        shown = sys.stderr.isatty()
        execute(notebook, folder, parameters, progress=shown, cwd=notebook.parent)
    except StudyError as error:
        runs = error.study.runs
        failures += [f"{name}: {failure}" for failure in error.failures]
    except Exception as error:  # whatever it is, the other benchmarks go on
        known = isinstance(error, (NotebookError, RecordError, ClusterError))
        failures.append(f"{name}: {'' if known else f'{type(error).__name__}: '}{error}")
    return runs


def _lacking(parts: Iterable[_Part], runs: Iterable[Run]) -> list[str]:
    """What was asked for and is not recorded: a sentence per benchmark."""
    held = {tuple(run.settings[name] for name in ("benchmark", "arm", "seed")) for run in runs}
    said = []
    for part in parts:
        asked = [(part.benchmark, a, s) for s in part.seeds for a in (TEACHER, *part.arms)]
        lacks = [run for run in asked if run not in held]
        seeds = ", ".join(str(seed) for seed in dict.fromkeys(seed for _, _, seed in lacks))
        if lacks:
            said.append(
                f"{part.benchmark}: {len(lacks)} of the {len(asked)} runs that were asked for are "
                f"not recorded, of the seeds {seeds}"
            )
    return said


def _tunings(runs: Sequence[Run], failures: list[str]) -> list[TuningHistory]:
    """The searches that chose the kernel's weights: the kit's own, else those made here."""
    traces = []
    own = {run.path.parent: (run.settings["benchmark"], run.settings["scale"]) for run in runs}
    for place, kind in own.items():
        found = [path for path in (PUBLISHED.joinpath(*kind), place) if (path / FILE).exists()]
        try:
            traces += [read_tuning(path) for path in found[:1]]
        except RecordError as error:
            failures.append(f"The report is without a search of weights: {error}")
    return traces


def _command(
    benchmarks: Sequence[str],
    scale: str,
    seeds: int | Iterable[int] | None,
    arms: Sequence[str] | None,
) -> str:
    """The command that leads to the same numbers; where and how fast is the reader's own."""
    words: list[Any] = ["python", "-m", "qrkd_lab", "reproduce", *benchmarks, "--scale", scale]
    if isinstance(seeds, int):
        words += ["--seeds", seeds]
    elif seeds is not None:
        words += ["--seed", *which_seeds(seeds)]
    words += ["--arms", *arms] if arms else []
    return shlex.join(map(str, words))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
