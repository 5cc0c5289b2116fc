"""What a record's settings say: what was given, how to make it again, what it belongs to.

Records that differ in more than arm and seed are never put in one table. They are told apart by
what was given to :func:`~qrkd_lab.compare` beside the benchmark's defaults.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd

from qrkd_lab.files import expanded, write_file
from qrkd_lab.studies.arms import BENCHMARKS, SCALES, TEACHER
from qrkd_lab.studies.benchmarks import KIT_ONLY, MODELS, default_settings, kind_of
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.records import Run, run_key
from qrkd_lab.studies.results import order_arms, refuse_duplicates, results
from qrkd_lab.studies.settings import parse_parameters

__all__ = [
    "Catalogue",
    "DEFAULT",
    "Recipe",
    "Variant",
    "exact",
    "in_words",
    "one_kind",
    "reproduce",
    "run_table",
    "set_words",
    "variants",
    "write_csv",
]


# ---- what was given


def in_words(given: Mapping[str, Any]) -> str:
    """Settings in one line.

    Example:
        >>> in_words({"kernel_weight": 3.0, "student_widths": (5, 2, 31)})
        'kernel_weight=3, student_widths=5-2-31'
    """
    return ", ".join(f"{name}={exact(value)}" for name, value in given.items())


def exact(value: Any) -> str:  # noqa: ANN401
    """A value in the fewest digits that are this very number.

    Example:
        >>> exact(1.0), exact(1 / 3), exact((5, 2, 31))
        ('1', '0.3333333333333333', '5-2-31')
    """
    if isinstance(value, (list, tuple)):
        return "-".join(map(exact, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


@cache
def _made(name: str, scale: str, kind: str, arm: str, given: str) -> Mapping[str, Any]:
    settings = replace(default_settings(name, scale, kind), arm=arm)
    return settings.replace(**json.loads(given)).effective()


def _is_made(run: Run, given: Mapping[str, Any]) -> bool:
    """Whether these settings, given today for its benchmark, scale, arm and seed, make this run."""
    own = run.settings
    try:
        made = _made(
            own["benchmark"], own["scale"], kind_of(own), own["arm"], json.dumps(dict(given))
        )
        return run_key({**made, "seed": own["seed"]}, run.data["sha256"]) == run.key
    except (TypeError, ValueError):  # this version knows no such benchmark, arm or setting
        return False


# ---- the call that makes a run again


AGAIN = "runs_again"  # not where the record lies, which would be found and nothing trained


@dataclass(frozen=True)
class Recipe:
    """How to make a run again."""

    python: str  # empty where no call of this version makes the run
    shell: str  # a command that does the same; empty likewise
    notes: tuple[str, ...]  # sentences that belong to it

    def __str__(self) -> str:
        notes = [fill(note, 88, initial_indent="# ", subsequent_indent="# ") for note in self.notes]
        parts = [*notes, self.python.rstrip(), f"# {self.shell}" if self.shell else ""]
        return "\n".join(part for part in parts if part)


def reproduce(run: Run, folder: str | None = None, runs_dir: str = AGAIN) -> Recipe:
    """The call of :func:`~qrkd_lab.compare` that makes a run with this run's key.

    Only what differs from the defaults of the run's benchmark and scale is written out. Where no
    call makes the run, the recipe's only note says so.

    Args:
        run: a record.
        folder: where the data are, for a run on a folder of one's own, as a record knows its name.
        runs_dir: where the new record goes. Where the old one lies already, nothing is trained.

    Example:
        >>> print(reproduce(run).python)                              # doctest: +SKIP
        import qrkd_lab as ql
        <BLANKLINE>
        study = ql.compare("mnist", arms=["qrkd"], seeds=[3], kernel_weight=0.5,
                           runs_dir="runs_again")
    """
    own, data, by = run.settings, run.data, run.versions
    if not _is_made(run, run.given):
        said = (
            "No call of ql.compare makes this run: it was recorded by qrkd_lab "
            f"{by.get('qrkd_lab')}, another version, or by a training loop of somebody's own, "
            "whose code is needed then."
        )
        return Recipe("", "", (said,))
    notes, arrays = [], kind_of(own) == "arrays"
    place, given = own["benchmark"], run.given
    if arrays:
        given = {n: v for n, v in given.items() if n not in KIT_ONLY and v != 0}
        notes.append(
            "bench is ql.Benchmark.from_arrays(...) of the same arrays and models, which only the "
            "code that made them can make again."
        )
    elif place not in BENCHMARKS:
        place = folder or f"path/to/{place}"
    arm = "scratch" if own["arm"] == TEACHER else own["arm"]  # any comparison trains a teacher
    notes.append(
        f"It has the key {run.key} again if the data are the same "
        f"({data.get('source', 'unknown')}, sha256 {str(data['sha256'])[:12]}), and the same "
        f"digits on the same device ({run.device}), torch "
        f"({by.get('torch') or 'of unknown version'}) and kind of processor."
    )
    asked = {"arms": [arm], "seeds": [own["seed"]], "scale": own["scale"], **given}
    asked["runs_dir"] = runs_dir
    parts = ["bench" if arrays else json.dumps(place, ensure_ascii=False)]
    parts += [f"{name}={_literal(value)}" for name, value in asked.items()]
    lines = ["study = ql.compare("]
    for part in parts:
        if not lines[-1].endswith("(") and len(f"{lines[-1]} {part}") > 87:
            lines.append(" " * 18)
        lines[-1] += f"{'' if lines[-1].endswith('(') else ' '}{part},"
    call = "\n".join(["import qrkd_lab as ql", "", *lines])[:-1] + ")\n"
    words = f"python -m qrkd_lab compare {shlex.quote(place)} --arms {arm} --seed {own['seed']}"
    options = [f"--scale {own['scale']}", *set_words(given), f"--runs-dir {shlex.quote(runs_dir)}"]
    return Recipe(call, "" if arrays else " ".join([words, *options]), tuple(notes))


def set_words(changes: Mapping[str, Any]) -> list[str]:
    """Settings as the command line takes them; no word at all where there are none.

    Example:
        >>> set_words({"epochs": 3, "student_widths": (5, 2, 31)})
        ['--set', 'epochs=3', "'student_widths=[5, 2, 31]'"]
    """
    words = [shlex.quote(f"{name}={_bare(value)}") for name, value in changes.items()]
    return ["--set", *words] if words else []


def _literal(value: Any) -> str:  # noqa: ANN401
    """A word, number, None or list of these in Python, and as ``--set`` reads it."""
    return "None" if value is None else json.dumps(value, ensure_ascii=False)


def _bare(value: Any) -> str:  # noqa: ANN401
    """A value as ``--set`` reads it: a bare word where that comes back as it was."""
    bare = isinstance(value, str) and value.isidentifier()
    return value if bare and parse_parameters([f"it={value}"])["it"] == value else _literal(value)


# ---- which of several kinds counts


def one_kind(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Runs with one per arm and seed, and the runs that were left out.

    If a benchmark has several runs for one arm and seed, or several settings for one arm, the runs
    with its default settings are kept. Raises ValueError if there are several of these.
    """
    kept, left_out = [], []
    for of_one in _groups(runs, "benchmark", "scale"):
        given = {(r.settings["arm"], json.dumps(_set(r.given), sort_keys=True)) for r in of_one}
        arms = {run.settings["arm"] for run in of_one}
        seeds = {(run.settings["arm"], run.settings["seed"]) for run in of_one}
        if len(given) > len(arms) or len(of_one) > len(seeds):
            left_out += [run for run in of_one if _set(run.given)]
            of_one = [run for run in of_one if not _set(run.given)]
            if not of_one:
                raise ValueError(
                    f"the records of {left_out[-1].settings['benchmark']} have several settings, "
                    "and none the default ones: keep those of one kind in a folder of their own"
                )
            refuse_duplicates(results(of_one))
        kept += of_one
    return kept, left_out


def _set(given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among what was given; the models of a user's own are none."""
    return {name: value for name, value in given.items() if name not in MODELS}


def _groups(runs: Iterable[Run], *names: str) -> list[list[Run]]:
    """The runs that share these settings, group by group."""
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.settings[name] for name in names), []).append(run)
    return list(found.values())


# ---- the studies among many runs


DEFAULT = "default settings"


@dataclass(frozen=True)
class Variant:
    """Runs that differ in arm and seed only, one per arm and seed."""

    label: str  # in words: "default settings", "epochs=3, kernel_weight=0.1"
    runs: tuple[Run, ...]


def variants(runs: Iterable[Run]) -> list[Variant]:
    """The variants among the runs of one benchmark and scale, the defaults first.

    An arm that does not use what was changed belongs to each variant; a variant all of whose runs
    are in another one is left out. Runs that this version would not make with what was given are
    one variant, the last.
    """
    found: dict[str, list[Run]] = {}
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        by_data.setdefault(run.data["sha256"], []).append(run)
    for sha256, same in by_data.items():
        data = f"; data {same[0].data.get('source')} ({sha256[:8]})" if len(by_data) > 1 else ""
        known = [run for run in same if _is_made(run, run.given)]
        givens = {json.dumps(run.given, sort_keys=True): run.given for run in known}
        for given in sorted(givens.values(), key=lambda given: (len(given), in_words(given))):
            models = "".join(f"; {n[:7]} {given[n][:8]}" for n in sorted(MODELS & given.keys()))
            said = in_words(_set(given)) or DEFAULT
            found[said + models + data] = [run for run in known if _is_made(run, given)]
        if rest := [run for run in same if run not in known]:
            found[f"as recorded{data}"] = rest
    sets = {label: {run.key for run in held} for label, held in found.items()}
    return [
        Variant(label, tuple(_one_home(held)))
        for label, held in found.items()
        if not any(sets[label] < other for other in sets.values())
    ]


def _one_home(runs: Iterable[Run]) -> list[Run]:
    """Each seed's runs from the folder with most of them (one teacher), by arm and seed."""
    kept = []
    for same in _groups(runs, "seed"):
        homes: dict[Path | None, list[Run]] = {}
        for run in same:
            homes.setdefault(run.path and run.path.parents[2], []).append(run)
        kept += max(homes.values(), key=len)
    arms = order_arms(run.settings["arm"] for run in kept)
    return sorted(kept, key=lambda r: (arms.index(r.settings["arm"]), r.settings["seed"]))


class Catalogue:
    """Which studies there are among many runs.

    Args:
        runs: of any benchmarks; where two are the same run, the first folder's comes first.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs = {
            (same[0].settings["benchmark"], same[0].settings["scale"]): same
            for same in _groups(runs, "benchmark", "scale")
        }
        self._variants: dict[tuple[str | None, str | None], dict[str, Variant]] = {}

    @property
    def benchmarks(self) -> list[str]:
        """Names: the kit's benchmarks in their order, then the others by name."""
        return _ordered({benchmark for benchmark, _ in self._runs}, BENCHMARKS)

    def scales(self, benchmark: str | None) -> list[str]:
        """Scales with runs of a benchmark; none for one that is not there."""
        return _ordered({scale for name, scale in self._runs if name == benchmark}, SCALES)

    def variants(self, benchmark: str | None, scale: str | None) -> dict[str, Variant]:
        """Label to variant; empty where there are no runs."""
        place = (benchmark, scale)
        if place not in self._variants:
            found = variants(self._runs.get(place, []))
            self._variants[place] = {variant.label: variant for variant in found}
        return self._variants[place]

    def runs(self, benchmark: str | None, scale: str | None, label: str | None) -> list[Run]:
        """The runs of one variant by arm and seed; none where there is no such variant."""
        variant = self.variants(benchmark, scale).get(label)
        return [] if variant is None else list(variant.runs)

    def studies(self, scale: str, arm: str, reference: str) -> dict[str, Study]:
        """The two arms on each benchmark that has both at this scale, by name.

        With the default settings if it can be; where they are others, the name says so.
        """
        found = {}
        for benchmark in self.benchmarks:
            for label, variant in self.variants(benchmark, scale).items():
                runs = [r for r in variant.runs if r.settings["arm"] in (arm, reference)]
                if len({run.settings["arm"] for run in runs}) == 2:
                    name = benchmark if label == DEFAULT else f"{benchmark} ({label})"
                    found[name] = Study(tuple(runs))
                    break
        return found


def _ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """Names: those that are known in their order, then the others by name."""
    return [name for name in known if name in names] + sorted(set(names) - set(known))


# ---- the table of runs


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """One row per run: ``results``, what was changed, the data's hash, versions, and the date."""
    table = results(runs)
    held = list(table.pop("run"))
    return table.assign(
        changed=[in_words(run.given) for run in held],
        data_sha256=[run.data["sha256"] for run in held],
        qrkd_lab=[run.versions.get("qrkd_lab") for run in held],
        torch=[run.versions.get("torch") for run in held],
        finished=[run.finished for run in held],
    )


def write_csv(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table to a new file and return its path; ValueError if that cannot be."""
    place = expanded(path)
    if not os.fspath(path).strip() or os.path.lexists(place):
        raise ValueError(
            f"expected the name of a new file, e.g. records-2.csv, got {os.fspath(path)!r}; "
            "what is there is left as it is"
        )
    try:
        write_file(place, table.to_csv(index=False).encode())
    except OSError as error:
        raise ValueError(f"{path} could not be written: {error.strerror or error}") from error
    return place
