"""The study, reproduced: every benchmark's notebook executed for every seed, then the report.

    python -m qrkd_lab reproduce mnist --seeds 5

Whatever stops it, the same command goes on: finished notebooks are not run again, recorded runs are
not trained again, an interrupted training continues from its checkpoint. What fails is named at the
end and takes nothing else down.
"""

from __future__ import annotations

import ast
import json
import shlex
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from qrkd_lab.data.fetch import DataError
from qrkd_lab.files import (
    PROJECT,
    RecordError,
    canonical_sha256,
    check_writable,
    expanded,
    file_sha256,
    read_json,
    replacing,
    runs_folder,
    sealed,
    unsealed,
    writing,
)
from qrkd_lab.relations import flag, whole
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.benchmarks import Benchmark, benchmark_settings, load_benchmark
from qrkd_lab.studies.group import find
from qrkd_lab.studies.parallel import alone, check_jobs, scheduler_address
from qrkd_lab.studies.records import PUBLISHED, Run, versions
from qrkd_lab.studies.settings import DEFAULT_ARMS, TEACHER, get_arm
from qrkd_lab.studies.tune import FILE, Trace, read_trace
from qrkd_lab.teaching.notebooks import NotebookError, execute, read_parameters, source_digest
from qrkd_lab.train import duration

__all__ = [
    "NOTEBOOKS",
    "Outcome",
    "Reproduced",
    "SEEDS",
    "SeedGroup",
    "reproduce",
    "split_seeds",
]


FOLDER = PROJECT / "notebooks"  # of a checkout; an installed wheel has none
NOTEBOOKS: dict[str, Path] = {
    "mnist": FOLDER / "06_mnist.ipynb",
    "cifar10": FOLDER / "07_cifar10.ipynb",
    "wikitext2": FOLDER / "08_wikitext2.ipynb",
    "ptb": FOLDER / "09_penn_treebank.ipynb",
    "imdb": FOLDER / "10_imdb.ipynb",
}
SEEDS: Mapping[str, int] = {"mnist": 5, "cifar10": 5, "wikitext2": 3, "ptb": 3, "imdb": 3}
RETRY = "  To try it again: --retry (make reproduce RETRY=1)."


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
    """What the study asks of one benchmark."""

    benchmark: str
    scale: str
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    runs_dir: Path

    def load(self) -> Benchmark:
        """As the notebook loads it: the precision of text, and so its runs, go by the device."""
        device = "cpu" if scheduler_address(None) else "auto"
        return load_benchmark(self.benchmark, self.scale, device=device)

    def groups(self, size: int, out: Path) -> list[SeedGroup]:
        shared = {
            "scale": self.scale, "arms": list(self.arms), "published": False,
            "runs_dir": str(self.runs_dir),
        }  # fmt: skip
        return [
            SeedGroup(self.benchmark, NOTEBOOKS[self.benchmark], shared | {"seeds": seeds}, out)
            for seeds in split_seeds(self.seeds, size)
        ]

    def recorded(self, loaded: Benchmark, seeds: Iterable[int]) -> list[Run]:
        """The whole records of these seeds, and no other run that lies there."""
        runs = []
        for seed in seeds:
            for arm in (TEACHER, *self.arms):
                with suppress(RecordError):  # the notebook stops at a damaged one, and says why
                    settings = loaded.settings.replace(arm=arm, seed=seed)
                    if (run := find(loaded, settings, self.runs_dir)) is not None:
                        runs.append(run)
        return runs

    def complete(self, loaded: Benchmark, seeds: Sequence[int]) -> bool:
        return len(self.recorded(loaded, seeds)) == len(seeds) * (1 + len(self.arms))


def reproduce(
    benchmarks: Sequence[str] = (),
    seeds: int | Iterable[int] | None = None,
    scale: str = "laptop",
    jobs: int = 2,
    runs_dir: str | Path | None = None,
    out: str | Path | None = None,
    *,
    arms: Sequence[str] | None = None,
    group_size: int = 5,
    retry: bool = False,
) -> Reproduced:
    """Execute the benchmarks' notebooks for all seeds, group by group, and write the report.

    Args:
        benchmarks: of :data:`NOTEBOOKS`; none: all of them.
        seeds: how many, or which; None: each benchmark's own number (:data:`SEEDS`).
        scale: ``smoke``, ``laptop`` or ``paper``.
        jobs: processes that train; -1: one a core.
        runs_dir: folder of the records, as for :func:`~qrkd_lab.compare`; what is there already
            is not trained again.
        out: folder of the executed notebooks, their states and ``report.md``; None: ``reproduce``
            in that of the records.
        arms: ``scratch``, ``kd``, ``rkd`` and ``qrkd``, which the notebooks compare, and others;
            None: those that the notebook names.
        group_size: seeds a notebook, at least. With fewer than three its intervals are empty, and
            the notebook on CIFAR-10, which shares out the variance, needs two.
        retry: try again what failed before; else it is only named.

    Raises:
        ValueError: unknown names (lists the choices), arms that a notebook cannot do without,
            seeds, jobs or a size that cannot be.
        RecordError: a folder that cannot be written.
        RuntimeError: another process reproduces into the same folder.

    Example:
        >>> reproduce(["mnist"], seeds=3, scale="smoke").failures           # doctest: +SKIP
        ()
    """
    records = runs_folder(runs_dir).absolute()
    folder = expanded(out).absolute() if out else records / "reproduce"
    whole("group_size", group_size, 1)
    retry = flag("retry", retry)
    check_jobs(jobs)
    names = list(dict.fromkeys(benchmarks or NOTEBOOKS))
    parts = [_part(name, scale, arms, seeds, records) for name in names]
    check_writable(folder, "out")
    check_writable(records)
    does = (
        f"reproduces into {folder} at this moment: wait for it, or give another folder (--out). "
        "Records in the same runs_dir serve both."
    )
    with alone(folder, "reproduce", does):
        ready, failures = _with_data(parts)
        runs, failed = _all_groups(ready, group_size, folder, jobs, retry)
        failures += failed
        report = None
        if runs:
            from qrkd_lab.studies.report import write_report

            command = _command(benchmarks, scale, seeds, arms)
            tunings, failed = _tunings(runs, records)
            failures += failed
            try:
                report = write_report(runs, folder, command, tunings, _lacking(parts, runs))
            except RecordError as error:
                failures.append(str(error))
    return Reproduced(report, tuple(failures))


def _part(
    name: str,
    scale: str,
    arms: Sequence[str] | None,
    seeds: int | Iterable[int] | None,
    runs_dir: Path,
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
    return _Part(name, scale, tuple(dict.fromkeys(arms)), tuple(wanted), runs_dir)


def _with_data(parts: Sequence[_Part]) -> tuple[list[_Part], list[str]]:
    """The benchmarks whose data are at hand, or could be fetched; and what is wrong with others."""
    ready, failures = [], []
    for part in parts:
        loaded, cause = _loaded(part)
        if loaded is None:
            failures.append(cause)
        else:
            ready.append(part)
    return ready, failures


def _loaded(part: _Part) -> tuple[Benchmark | None, str]:
    """The benchmark; or None and why it is left out, which is said."""
    try:
        return part.load(), ""
    except DataError as error:
        cause = (
            f"{part.benchmark}: no data, so it is left out: {error}\n"
            f"  Get them with python -m qrkd_lab data {part.benchmark}, and run this again."
        )
    except Exception as error:  # whatever it is, the other benchmarks go on
        cause = f"{part.benchmark} is left out: {type(error).__name__}: {error}"
    _say(cause)
    return None, cause


def _all_groups(
    parts: Sequence[_Part], size: int, folder: Path, jobs: int, retry: bool
) -> tuple[list[Run], list[str]]:
    """Every group of every benchmark, one after the other: the study's runs, and what failed."""
    groups = {part: part.groups(size, folder) for part in parts}
    total, count = sum(map(len, groups.values())), 0
    runs: list[Run] = []
    failures: list[str] = []
    for part in parts:
        loaded, cause = _loaded(part)  # again: one benchmark's data at a time stay in memory
        if loaded is None:
            count += len(groups[part])
            failures.append(cause)
            continue
        for group in groups[part]:
            count += 1
            cause = _one_group(part, group, loaded, jobs, retry, f"[{count} of {total}]")
            failures += [f"{group.name}: {cause}"] if cause else []
        runs += part.recorded(loaded, part.seeds)
    return runs, failures


def _one_group(
    part: _Part, group: SeedGroup, loaded: Benchmark, jobs: int, retry: bool, place: str
) -> str:
    """Execute a group if it has to be; returns why it failed, or ""."""
    seeds, known = group.parameters["seeds"], group.outcome()
    if known and not known.cause and part.complete(loaded, seeds):
        _say(f"{place} {group.name}: finished before, in {group.copy}")
        return ""
    if known and known.cause and not retry:
        _say(f"{place} {group.name}: failed before, and is not tried again")
        return f"{known.cause}\n{RETRY}"
    _say(f"{place} {group.name}: executing {group.notebook.name}")
    done = group.run(jobs, progress=sys.stderr.isatty())
    if not (cause := done.cause) and not part.complete(loaded, seeds):
        cause = "the notebook is through, but not all of its runs are recorded"
    said = "failed after" if cause else "done in"
    _say(f"{place} {group.name}: {said} {duration(done.seconds)}")
    kept = group.outcome()
    return f"{cause}\n{RETRY}" if kept and kept.cause else cause


def _lacking(parts: Iterable[_Part], runs: Iterable[Run]) -> list[str]:
    """What was asked for and is not recorded: a sentence a benchmark."""
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


def _tunings(runs: Iterable[Run], runs_dir: Path) -> tuple[list[Trace], list[str]]:
    """The searches that chose the kernel's weights, the kit's own, else those made here; and what
    is wrong with others."""
    kinds = dict.fromkeys((run.settings["benchmark"], run.settings["scale"]) for run in runs)
    places = ([Path(root, *kind) for root in (PUBLISHED, runs_dir)] for kind in kinds)
    found = ([place for place in pair if (place / FILE).exists()][:1] for pair in places)
    traces, failures = [], []
    for place in (place for one in found for place in one):
        try:
            traces.append(read_trace(place))
        except RecordError as error:
            failures.append(f"The report is without a search of weights: {error}")
    return traces, failures


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


# ---- seed_groups


STATE, DIGEST = "group.json", "group_sha256"


@dataclass(frozen=True)
class Outcome:
    """How the run of a group ended.

    Attributes:
        cause: why it failed; "" if it did not.
        seconds: that it took.
    """

    cause: str
    seconds: float


@dataclass(frozen=True)
class SeedGroup:
    """Some seeds of a benchmark and the notebook that is executed on them.

    Attributes:
        benchmark: its name.
        notebook: the file.
        parameters: of the notebook, as it is executed; ``scale`` and ``seeds`` are among them.
        out: folder of all groups.
    """

    benchmark: str
    notebook: Path
    parameters: Mapping[str, Any]
    out: Path

    @property
    def name(self) -> str:
        """In words: ``"mnist, seeds 0 to 4"``."""
        first, last, seeds = self._range()
        if len(seeds) > 2 and seeds == list(range(first, last + 1)):
            return f"{self.benchmark}, seeds {first} to {last}"
        return f"{self.benchmark}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"

    @property
    def folder(self) -> Path:
        """Where the executed copy and the state lie; other parameters, another folder."""
        first, last, _ = self._range()
        key = canonical_sha256(dict(self.parameters))[:8]
        return self.out / f"{self.benchmark}-{self.parameters['scale']}-{first}to{last}-{key}"

    @property
    def copy(self) -> Path:
        """The executed notebook."""
        return self.folder / self.notebook.name

    def outcome(self) -> Outcome | None:
        """How its last run ended; None: there was none of exactly this, or it was interrupted.

        "This" is these parameters, the notebook's present code and this version of the package.
        """
        try:
            state = unsealed(read_json(self.folder / STATE), DIGEST)
            same = state.get("asked") == self._asked()
            if not same or not state["cause"] and file_sha256(self.copy) != state["copy_sha256"]:
                return None
            return Outcome(state["cause"], state["seconds"])
        except (RecordError, KeyError, ValueError):
            return None

    def run(self, jobs: int = 1, progress: bool = False) -> Outcome:
        """Execute the notebook, whatever was before, and write down how it ended.

        Args:
            jobs: processes that train; they change no number.
            progress: show papermill's bar of cells.
        """
        asked, started, cause = self._asked(), time.monotonic(), ""
        parameters, home = {**self.parameters, "jobs": jobs}, self.notebook.parent
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / STATE).unlink(missing_ok=True)
            execute(self.notebook, self.folder, parameters, progress=progress, cwd=home)
        except Exception as error:  # whatever it is, the other groups go on
            known = isinstance(error, NotebookError)
            cause = str(error) if known else f"{type(error).__name__}: {error}"
        outcome = Outcome(cause, round(time.monotonic() - started, 1))
        digest = None if cause else file_sha256(self.copy)
        state = sealed({"asked": asked, **vars(outcome), "copy_sha256": digest}, DIGEST)
        try:
            with writing(str(self.folder), "out"), replacing(self.folder / STATE) as stream:
                stream.write(json.dumps(state, indent=1).encode())
        except RecordError as untold:  # the next time it is executed again
            return replace(outcome, cause=f"{cause}\n{untold}" if cause else str(untold))
        return outcome

    def _range(self) -> tuple[int, int, list[int]]:
        seeds = list(self.parameters["seeds"])
        return min(seeds), max(seeds), seeds

    def _asked(self) -> dict[str, Any]:
        return {
            "parameters": dict(self.parameters),
            "notebook": source_digest(nbformat.read(self.notebook, as_version=4)),
            "qrkd_lab": versions()["qrkd_lab"],
        }


def split_seeds(seeds: Sequence[int], size: int) -> list[list[int]]:
    """Groups of at least ``size`` seeds (or of all there are), as equal as can be.

    Example:
        >>> split_seeds(range(7), 3)
        [[0, 1, 2, 3], [4, 5, 6]]
    """
    groups = np.array_split(np.asarray(seeds), max(1, len(seeds) // size))
    return [group.tolist() for group in groups]
