"""The study, reproduced: train what is missing, execute each notebook, write the report.

The same command continues what was interrupted. What fails is named at the end and takes no other
benchmark down.
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
from filelock import FileLock, Timeout

from qrkd_lab.data.fetch import DataError
from qrkd_lab.files import PROJECT, RecordError, check_writable, expanded, runs_folder
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.arms import DEFAULT_ARMS, get_arm
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.compare import StudyError, compare
from qrkd_lab.studies.parallel import ClusterError, check_jobs
from qrkd_lab.studies.records import PUBLISHED, Run
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
    asked = {name: _asked(name, scale, arms, seeds) for name in benchmarks or NOTEBOOKS}
    check_writable(folder, "out")
    check_writable(records)
    runs: list[Run] = []
    failures: list[str] = []
    report = None
    try:
        lock = FileLock(folder / ".reproduce.lock", timeout=0).acquire()
    except Timeout as error:
        raise RuntimeError(
            f"another process reproduces into {folder} at this moment: wait for it, or give "
            "another folder (--out). Records in the same runs_dir serve both."
        ) from error
    with lock:
        for name in asked:
            options = {"jobs": jobs, "runs_dir": records, "scheduler": scheduler}
            runs += _one(name, *asked[name], scale, folder, options, failures)
        if runs:
            from qrkd_lab.studies.report import compose

            command, tunings = _command(benchmarks, scale, seeds, arms), _tunings(runs, failures)
            try:
                report = compose(runs, command, tunings, missing=failures).save(folder)
            except RecordError as error:
                failures.append(str(error))
    return Reproduced(report, tuple(failures))


def _asked(
    name: str, scale: str, arms: Sequence[str] | None, seeds: int | Iterable[int] | None
) -> tuple[list[str], list[int]]:
    """The arms and seeds of a benchmark, once every word in them is known."""
    if name not in NOTEBOOKS:
        raise ValueError(f"unknown benchmark {name!r}; choose from {', '.join(NOTEBOOKS)}")
    notebook = NOTEBOOKS[name]
    if not notebook.exists():
        raise ValueError(f"no notebook at {notebook}: it comes with a checkout of the repository")
    if arms is None:
        offered = read_parameters(notebook.name, nbformat.read(notebook, as_version=4))
        arms = ast.literal_eval(offered["arms"])
    else:
        for arm in arms:
            get_arm(arm)
        if lacking := [arm for arm in DEFAULT_ARMS if arm not in arms]:
            raise ValueError(
                f"arms: {', '.join(lacking)} must be among them, as the notebooks compare "
                f"{', '.join(DEFAULT_ARMS)}; others alone are trained by python -m qrkd_lab compare"
            )
    benchmark_settings(name, scale)
    return list(dict.fromkeys(arms)), which_seeds(SEEDS[name] if seeds is None else seeds)


def _one(
    name: str,
    arms: Sequence[str],
    seeds: Sequence[int],
    scale: str,
    folder: Path,
    options: Mapping[str, Any],
    failures: list[str],
) -> Sequence[Run]:
    """The runs of a benchmark, trained where they are missing; its notebook is executed on them."""
    notebook, runs = NOTEBOOKS[name], ()
    try:
        runs = compare(name, arms, seeds, scale, **options).runs
        _say(f"{name}: executing {notebook.name}")
        parameters = {"scale": scale, "arms": arms, "seeds": seeds, "published": False}
        parameters["runs_dir"] = str(options["runs_dir"])
        if options["scheduler"]:  # precision goes by the device: the runs were settled on the CPU
            parameters["device"] = "cpu"
        execute(notebook, folder, parameters, progress=sys.stderr.isatty(), cwd=notebook.parent)
    except StudyError as error:
        runs = error.study.runs
        failures += [f"{name}: {failure}" for failure in error.failures]
    except Exception as error:  # whatever it is, the other benchmarks go on
        known = isinstance(error, (NotebookError, RecordError, ClusterError, DataError))
        failures.append(f"{name}: {'' if known else f'{type(error).__name__}: '}{error}")
        _say(failures[-1])
    return runs


def _tunings(runs: Sequence[Run], failures: list[str]) -> list[TuningHistory]:
    """The searches that chose the kernel's weights: the kit's own, else those made here."""
    found = []
    own = {run.path.parent: (run.settings["benchmark"], run.settings["scale"]) for run in runs}
    for place, kind in own.items():
        places = [path for path in (PUBLISHED.joinpath(*kind), place) if (path / FILE).exists()]
        try:
            found += [read_tuning(path) for path in places[:1]]
        except RecordError as error:
            failures.append(f"The report is without a search of weights: {error}")
    return found


def _command(
    benchmarks: Sequence[str],
    scale: str,
    seeds: int | Iterable[int] | None,
    arms: Sequence[str] | None,
) -> str:
    """The command that leads to the same numbers; where and how fast is the reader's own."""
    words: list[Any] = ["python", "-m", "qrkd_lab", "reproduce", *benchmarks, "--scale", scale]
    if seeds is not None:
        words += ["--seeds", seeds] if isinstance(seeds, int) else ["--seed", *which_seeds(seeds)]
    words += ["--arms", *arms] if arms else []
    return shlex.join(map(str, words))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
