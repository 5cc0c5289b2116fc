"""What a record's settings say: what was given, how to make it again, what it belongs to.

Records that differ in more than arm and seed are never put in one table. They are told apart by
what was given to :func:`~qrkd_lab.compare` beside the benchmark's defaults.
"""

from __future__ import annotations

import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from qrkd_lab.studies.results import differing, order_arms, results
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


def _made_by(run: Run, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of this run's benchmark, scale, arm and seed, with these given.

    Raises ValueError or TypeError if this version knows no such benchmark, scale, arm or setting.
    """
    own = run.settings
    made = _made(own["benchmark"], own["scale"], kind_of(own), own["arm"], json.dumps(dict(given)))
    return {**made, "seed": own["seed"]}


def _is_made(run: Run, given: Mapping[str, Any]) -> bool:
    """Whether these settings, given today, make this run."""
    try:
        return run_key(_made_by(run, given), run.data["sha256"]) == run.key
    except (TypeError, ValueError):
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
    call makes the run, the recipe's only note says why.

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
    asked, data = run.settings, run.data
    writer = run.versions.get("qrkd_lab") or "of unknown version"
    try:
        made = _made_by(run, run.given)
        if odd := [n for n in {**asked, **made} if asked.get(n) != made.get(n)]:
            raise ValueError(f"this version gives another {', '.join(odd)} than the record")
        if run_key(made, data["sha256"]) != run.key:
            raise ValueError("this version writes a setting as another kind of number")
    except (TypeError, ValueError) as error:
        said = (
            f"No call of ql.compare makes this run: {error}. It was recorded by qrkd_lab {writer}, "
            "another version, or by a training loop of somebody's own, whose code is needed then."
        )
        return Recipe("", "", (said,))
    notes, place = [], asked["benchmark"]
    changes, own = run.given, kind_of(asked) == "arrays"
    if own:
        place = "bench"
        changes = {n: v for n, v in changes.items() if n not in KIT_ONLY and v != 0}
        notes.append(
            "bench is ql.Benchmark.from_arrays(...) of the same arrays and models, which only the "
            "code that made them can make again."
        )
    elif place not in BENCHMARKS:
        if folder is None:
            notes.append(
                f"A record knows the name of its folder of data, {place}, not where it is: "
                "replace path/to."
            )
        place = folder or f"path/to/{place}"
    arm, seed, scale = asked["arm"], asked["seed"], asked["scale"]
    if arm == TEACHER:
        arm = "scratch"
        notes.append("A teacher is trained by any comparison; that with scratch is the shortest.")
    notes.append(
        f"It has the key {run.key} again if the data are the same "
        f"({data.get('source', 'unknown')}, sha256 {str(data['sha256'])[:12]}), and the same "
        f"digits on the same device ({run.device}), torch "
        f"({run.versions.get('torch') or 'of unknown version'}) and kind of processor."
    )
    given = {"arms": [arm], "seeds": [seed], "scale": scale, **changes, "runs_dir": runs_dir}
    call = _call(place, given)
    if own:
        return Recipe(call.replace('"bench"', "bench", 1), "", tuple(notes))
    shell = [
        f"python -m qrkd_lab compare {shlex.quote(place)} --arms {arm} --seed {seed}",
        f"--scale {scale}",
        *set_words(run.given),
        f"--runs-dir {shlex.quote(runs_dir)}",
    ]
    return Recipe(call, " ".join(shell), tuple(notes))


def set_words(changes: Mapping[str, Any]) -> list[str]:
    """Settings as the command line takes them; no word at all where there are none.

    Example:
        >>> set_words({"epochs": 3, "student_widths": (5, 2, 31)})
        ['--set', 'epochs=3', "'student_widths=[5, 2, 31]'"]
    """
    words = [shlex.quote(f"{name}={_bare(value)}") for name, value in changes.items()]
    return ["--set", *words] if words else []


def _call(place: str, given: Mapping[str, Any]) -> str:
    """Python code, wrapped at 88 characters."""
    parts = [_literal(place), *(f"{name}={_literal(value)}" for name, value in given.items())]
    start = "study = ql.compare("
    lines = [start]
    for part, end in zip(parts, [", "] * (len(parts) - 1) + [")"], strict=True):
        if len(lines[-1]) > len(start) and len(lines[-1] + part + end) > 88:
            lines.append(" " * len(start))
        lines[-1] += part + end
    return "\n".join(["import qrkd_lab as ql", "", *(line.rstrip() for line in lines), ""])


def _literal(value: Any) -> str:  # noqa: ANN401
    """A word, number, None or list of these in Python, and as ``--set`` reads it."""
    return "None" if value is None else json.dumps(value, ensure_ascii=False)


def _bare(value: Any) -> str:  # noqa: ANN401
    """A value as ``--set`` reads it: a bare word where that comes back as it was."""
    try:
        if isinstance(value, str) and parse_parameters([f"text={value}"])["text"] == value:
            return value
    except ValueError:  # it begins like a list, say
        pass
    return _literal(value)


# ---- which of several kinds counts


def one_kind(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Runs of which each arm has one kind of settings, and those that are left out for it.

    A benchmark in which the runs of some arm differ in a setting besides the seed, or some arm and
    seed has several runs, keeps those of its own settings, of all its arms; any other keeps what
    it has. Raises ValueError where that leaves an arm none, or a seed several.
    """
    runs, kept = list(runs), []
    for of_one in _groups(runs, "benchmark", "scale"):
        # Which models a user's own arrays have is no setting.
        models = [{n: run.given[n] for n in run.given.keys() & MODELS} for run in of_one]
        own = [run for run, given in zip(of_one, models, strict=True) if _is_made(run, given)]
        several = [same for same in _groups(of_one, "arm", "seed") if len(same) > 1]
        mixed = [
            same
            for same in _groups(of_one, "arm")
            if differing([{**run.settings, "seed": 0} for run in same])
        ]
        for same in several + mixed:
            seeds = [run.settings["seed"] for run in same if run in own]
            if not seeds or len(set(seeds)) < len(seeds):
                raise ValueError(_undecided(same))
        kept += own if several or mixed else of_one
    return kept, [run for run in runs if run not in kept]


def _groups(runs: Iterable[Run], *names: str) -> list[list[Run]]:
    """The runs that share these settings, group by group."""
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.settings[name] for name in names), []).append(run)
    return list(found.values())


def _undecided(same: Sequence[Run]) -> str:
    arm, one_seed = same[0].settings["arm"], len({run.settings["seed"] for run in same}) == 1
    which = (f"{run.path or run.key}: {in_words(run.given) or 'defaults'}" for run in same)
    return (
        f"expected one record of {same[0].settings['benchmark']} "
        f"{same[0].name if one_seed else f'{arm} in one setting'}, or one with the "
        f"default settings among several, got {len(same)}:\n  " + "\n  ".join(which) + "\nMove the "
        "folders of all kinds but one elsewhere, or name another --runs-dir."
    )


# ---- the studies among many runs


DEFAULT = "default settings"


@dataclass(frozen=True)
class Variant:
    """Runs that differ in nothing but their arm and seed."""

    changes: Mapping[str, Any]  # from the benchmark's defaults; or among runs that are not known
    runs: tuple[Run, ...]  # at most one per arm and seed; those of a seed from one folder
    left_out: int = 0  # how many others are in another folder than the rest of their seed
    data: str = ""  # names data and own models, where runs with the same changes have several
    known: bool = True  # whether compare() as it is now makes such runs

    @property
    def label(self) -> str:
        """In words: ``"default settings"``, ``"epochs=3, kernel_weight=0.1"``."""
        plain = DEFAULT if self.known else "as recorded"
        said = {name: value for name, value in self.changes.items() if name not in MODELS}
        return "; ".join(part for part in (in_words(said) or plain, self.data) if part)


def variants(runs: Iterable[Run]) -> list[Variant]:
    """The variants among the runs of one benchmark and scale: the defaults first, then by name.

    A variant all of whose runs are in another one is left out. Runs that this version would not
    make with what was given come last, told apart by whatever differs within an arm.
    """
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        by_data.setdefault(run.data["sha256"], []).append(run)
    found = []
    for same in by_data.values():
        known = [run for run in same if _is_made(run, run.given)]
        givens = {json.dumps(run.given, sort_keys=True): run.given for run in known}.values()
        made = [Variant(of, tuple(run for run in known if _is_made(run, of))) for of in givens]
        keys = [{run.key for run in variant.runs} for variant in made]
        found += [v for v, own in zip(made, keys, strict=True) if not any(own < k for k in keys)]
        found += _as_recorded([run for run in same if run not in known])
    found = [_one_home(variant) for variant in found]
    labels = Counter(variant.label for variant in found)
    for place, variant in enumerate(found):
        if labels[variant.label] > 1:
            data = variant.runs[0].data
            said = f"data {data.get('source', 'of unknown source')} ({data['sha256'][:8]})"
            for name in sorted(MODELS & variant.changes.keys()):
                said += f", {name.removesuffix('_sha256')} {variant.changes[name][:8]}"
            found[place] = replace(variant, data=said)

    def order(variant: Variant) -> tuple[Any, ...]:
        values = [
            (name, value if isinstance(value, int | float) else math.inf, str(value))
            for name, value in variant.changes.items()
        ]
        return not variant.known, len(values), values, variant.data

    return sorted(found, key=order)


def _as_recorded(runs: Sequence[Run]) -> list[Variant]:
    """Variants by the settings that differ within an arm; an arm without them belongs to each."""
    names: dict[str, set[str]] = {}  # of the settings of an arm
    odd: dict[str, None] = {}
    for same in _groups(runs, "arm"):
        names[same[0].settings["arm"]] = {name for run in same for name in run.settings}
        odd |= dict.fromkeys(differing([{**run.settings, "seed": 0} for run in same]))
    kinds = [
        {name: run.settings.get(name) for name in odd if name in names[run.settings["arm"]]}
        for run in runs
    ]
    found = {}
    for kind in kinds:
        if not any(kind.items() < other.items() for other in kinds):
            pairs = zip(runs, kinds, strict=True)
            members = tuple(run for run, own in pairs if own.items() <= kind.items())
            found[str(kind)] = Variant(kind, members, known=False)
    return list(found.values())


def _one_home(variant: Variant) -> Variant:
    """Each seed's runs from one folder of records, as the arms of a seed learnt from one teacher.

    The folder with most runs of just these changes (not every arm uses them), then with most runs.
    """
    kept: list[Run] = []
    for runs in _groups(variant.runs, "seed"):
        homes: dict[Path | None, list[Run]] = {}
        for run in runs:
            homes.setdefault(run.path and run.path.parents[2], []).append(run)
        kept += max(
            homes.values(),
            key=lambda held: (sum(run.given == variant.changes for run in held), len(held)),
        )
    arms = order_arms(run.settings["arm"] for run in kept)
    kept.sort(key=lambda run: (arms.index(run.settings["arm"]), run.settings["seed"]))
    return replace(variant, runs=tuple(kept), left_out=len(variant.runs) - len(kept))


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
