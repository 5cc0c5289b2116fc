"""A recipe: the call that makes a recorded run again, in Python and at the command line."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import Any

import pandas as pd

from qrkd_lab.files import RecordError, expanded, write_file
from qrkd_lab.studies.benchmarks import BENCHMARKS, SCALES, benchmark_settings
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.records import RECORD, WEIGHTS, Run, load_run, record_folders, run_key
from qrkd_lab.studies.settings import ARMS, TEACHER, Settings, parse_parameters, typed
from qrkd_lab.studies.summary import order_arms, results

__all__ = [
    "Catalogue",
    "Contents",
    "DEFAULT",
    "Frozen",
    "Recipe",
    "Shelf",
    "Variant",
    "changes_of",
    "freeze",
    "has_own_settings",
    "in_words",
    "one_home_a_seed",
    "one_kind",
    "reproduce",
    "run_table",
    "set_words",
    "settings_with",
    "taught",
    "variants",
    "write_csv",
]


AGAIN = "runs_again"  # not where the record lies, which would be found and nothing trained


@dataclass(frozen=True)
class Recipe:
    """How to make a run again.

    Attributes:
        python: code; empty where no call of this version makes the run.
        shell: a command that does the same; empty likewise.
        notes: sentences that belong to it.
    """

    python: str
    shell: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        notes = [fill(note, 88, initial_indent="# ", subsequent_indent="# ") for note in self.notes]
        parts = [*notes, self.python.rstrip(), f"# {self.shell}" if self.shell else ""]
        return "\n".join(part for part in parts if part)


def reproduce(run: Run, folder: str | None = None, runs_dir: str = AGAIN) -> Recipe:
    """The call of :func:`~qrkd_lab.compare` that makes a run with this run's key.

    Only what differs from the defaults of the run's benchmark and scale is written out.

    Args:
        run: a record.
        folder: where the data are, for a run on a folder of one's own: a record knows its name
            only.
        runs_dir: where the new record goes. Where the old one lies already, nothing is trained.

    Returns:
        The recipe; where there is none, its only note says why.

    Example:
        >>> print(reproduce(run).python)                              # doctest: +SKIP
        import qrkd_lab as ql
        <BLANKLINE>
        study = ql.compare("mnist", arms=["qrkd"], seeds=[3], kernel_weight=0.5,
                           runs_dir="runs_again")
    """
    asked = run.settings
    try:
        changes = changes_of(asked)
        made = dict(settings_with(asked, asked["arm"], tuple(changes.items())))
        if run_key(made | {"seed": asked["seed"]}, run.data["sha256"]) != run.key:
            raise ValueError("this version writes a setting as another kind of number")
    except ValueError as error:
        return Recipe("", "", (_impossible(run, error),))
    arm, seed, scale = asked["arm"], asked["seed"], asked["scale"]
    own = asked["benchmark"] not in BENCHMARKS
    place = (folder or f"path/to/{asked['benchmark']}") if own else asked["benchmark"]
    arms = ["scratch" if arm == TEACHER else arm]
    given = {"arms": arms, "seeds": [seed], "scale": scale, **changes, "runs_dir": runs_dir}
    shell = [
        f"python -m qrkd_lab compare {shlex.quote(place)} --arms {arms[0]} --seed {seed}",
        f"--scale {scale}",
        *set_words(changes),
        f"--runs-dir {shlex.quote(runs_dir)}",
    ]
    return Recipe(_call(place, given), " ".join(shell), tuple(_notes(run, own and not folder)))


def set_words(changes: Mapping[str, Any]) -> list[str]:
    """Settings as the command line takes them; no word at all where there are none.

    Example:
        >>> set_words({"epochs": 3, "student_widths": (5, 2, 31)})
        ['--set', 'epochs=3', "'student_widths=[5, 2, 31]'"]
    """
    words = [shlex.quote(f"{name}={_bare(value)}") for name, value in changes.items()]
    return ["--set", *words] if words else []


def _impossible(run: Run, error: ValueError) -> str:
    writer = run.versions.get("qrkd_lab") or "of unknown version"
    return (
        f"No call of ql.compare makes this run: {error}. It was recorded by qrkd_lab {writer}: "
        "by another version, or by a training loop of somebody's own, whose code is needed then."
    )


def _notes(run: Run, folder_unknown: bool) -> list[str]:
    """What the call itself does not say."""
    asked, notes = run.settings, []
    if folder_unknown:
        notes.append(
            f"A record knows the name of its folder of data, {asked['benchmark']}, not where it "
            "is: replace path/to."
        )
    if asked["arm"] == TEACHER:
        notes.append("A teacher is trained by any comparison; that with scratch is the shortest.")
    source, sha256 = run.data.get("source", "unknown"), str(run.data["sha256"])[:12]
    torch = run.versions.get("torch") or "of unknown version"
    notes.append(
        f"It has the key {run.key} again if the data are the same ({source}, sha256 {sha256}), "
        f"and the same digits on the same device ({run.device}), torch ({torch}) and kind of "
        "processor."
    )
    return notes


def _call(place: str, given: Mapping[str, Any]) -> str:
    """Python code, wrapped at 88 characters."""
    values = {n: list(v) if isinstance(v, tuple) else v for n, v in given.items()}
    parts = [_literal(place), *(f"{n}={_literal(v)}" for n, v in values.items())]
    start = "study = ql.compare("
    lines = [start]
    for part, end in zip(parts, [", "] * (len(parts) - 1) + [")"], strict=True):
        if len(lines[-1]) > len(start) and len(lines[-1] + part + end) > 88:
            lines.append(" " * len(start))
        lines[-1] += part + end
    return "\n".join(["import qrkd_lab as ql", "", *(line.rstrip() for line in lines), ""])


def _literal(value: Any) -> str:  # noqa: ANN401
    """Python for a value, with the double quotes of this project's code."""
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _bare(value: Any) -> str:  # noqa: ANN401
    """A value as ``--set`` reads it: JSON, or a bare word."""
    if value is None:
        return "None"
    try:
        if isinstance(value, str) and parse_parameters([f"text={value}"])["text"] == value:
            return value
    except ValueError:  # it begins like a list, say
        pass
    return json.dumps(value, ensure_ascii=False)


# ---- changes


_FIELDS = {field.name: str(field.type) for field in dataclasses.fields(Settings)}
Frozen = tuple[tuple[str, Any], ...]  # settings without the seed, sorted, hashable


def changes_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What must be given to :func:`~qrkd_lab.compare` beside names and seed to get these settings.

    Args:
        settings: of a record, i.e. of :meth:`~qrkd_lab.studies.settings.Settings.effective`.

    Returns:
        Overrides, none of which can be left out, in the order of the fields of ``Settings``.

    Raises:
        ValueError: no overrides give them, in words: an arm or scale or setting that this version
            does not know, or one that it has and the record lacks.

    Example:
        >>> from qrkd_lab.studies.benchmarks import benchmark_settings
        >>> changes_of(benchmark_settings("mnist", epochs=3).effective())
        {'epochs': 3}
    """
    return dict(_changes(freeze(settings)))


def settings_with(settings: Mapping[str, Any], arm: str, changes: Frozen) -> Frozen:
    """The frozen settings of an arm's run under these changes, on a record's benchmark and scale.

    Empty where that arm cannot be run so.
    """
    return _try(_base(settings), arm, changes)


def freeze(settings: Mapping[str, Any]) -> Frozen:
    """Settings without the seed as something that can be compared and hashed."""
    kept = {name: value for name, value in settings.items() if name != "seed"}
    return tuple(sorted((name, _hashable(value)) for name, value in kept.items()))


def in_words(changes: Mapping[str, Any]) -> str:
    """Changes in one line.

    Example:
        >>> in_words({"kernel_weight": 3.0, "student_widths": (5, 2, 31)})
        'kernel_weight=3, student_widths=5-2-31'
    """
    return ", ".join(f"{name}={_short(value)}" for name, value in changes.items())


@cache
def _changes(frozen: Frozen) -> Frozen:
    """:func:`changes_of`, with settings and changes as tuples."""
    asked = dict(frozen)
    _check(asked)
    base, arm = _base(asked), asked["arm"]
    needed: dict[str, Any] = {}
    while (here := dict(_given(base, arm, tuple(needed.items())))) != asked:
        # More than once: another feature map has another number of layers by default.
        odd = [name for name in {**asked, **here} if asked.get(name) != here.get(name)]
        rest = [name for name in odd if name not in needed]
        more = {n: asked.get(n) for n in rest if n in asked or "None" in _FIELDS[n]}
        if not more and rest:
            raise ValueError(f"the record lacks {', '.join(rest)}, which this version needs")
        if not more:
            raise ValueError(f"this version gives another {', '.join(odd)} than the record has")
        needed |= more
    for name in list(needed):
        fewer = {n: v for n, v in needed.items() if n != name}
        if _try(base, arm, tuple(fewer.items())) == frozen:
            needed = fewer
    return tuple((name, needed[name]) for name in _FIELDS if name in needed)


def _check(asked: Mapping[str, Any]) -> None:
    if asked["arm"] not in (TEACHER, *ARMS):
        raise ValueError(f"the arm {asked['arm']!r} is none of this version's")
    if asked["scale"] not in SCALES:
        raise ValueError(f"the scale {asked['scale']!r} is none of {', '.join(SCALES)}")
    if unknown := [name for name in asked if name not in _FIELDS]:
        raise ValueError(f"this version has no setting {', '.join(unknown)}")


def _base(settings: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Benchmark, scale, and whether a folder's settings are those of text."""
    return settings["benchmark"], settings["scale"], "sequence_length" in settings


@cache
def _defaults(benchmark: str, scale: str, text: bool) -> Settings:
    """A benchmark's default settings; a folder need not be there."""
    if benchmark in BENCHMARKS:
        return benchmark_settings(benchmark, scale)
    return benchmark_settings("ptb" if text else "cifar10", scale).replace(benchmark=benchmark)


@cache
def _given(base: tuple[str, str, bool], arm: str, changes: Frozen) -> Frozen:
    """The settings of a run of this arm when ``changes`` are given."""
    typed = {name: _typed(name, value) for name, value in changes}
    settings = dataclasses.replace(_defaults(*base), **typed, arm=arm)
    settings.check()
    return freeze(settings.effective())


@cache
def _typed(name: str, value: Any) -> Any:  # noqa: ANN401
    """A value as its field's type. Once: that is most of the time of ``Settings.replace``."""
    try:
        return typed(name, value)
    except TypeError as error:  # of another type than this version's
        raise ValueError(str(error)) from error


def _try(base: tuple[str, str, bool], arm: str, changes: Frozen) -> Frozen:
    """The same; empty where the changes cannot be."""
    try:
        return _given(base, arm, changes)
    except ValueError:
        return ()


def _hashable(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, Mapping):
        return tuple(sorted((name, _hashable(item)) for name, item in value.items()))
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value


def _short(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, (list, tuple)):
        return "-".join(map(_short, value))
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


# ---- kinds


def has_own_settings(run: Run) -> bool:
    """Whether a run has the default settings of its benchmark and scale."""
    return _said(run) == ""


def taught(runs: Iterable[Run]) -> list[Run]:
    """Runs without the teachers that have no student among them, as ``tune`` leaves some."""
    runs = list(runs)
    learnt = {_lesson(run) for run in runs if run.settings["arm"] != TEACHER}
    return [run for run in runs if _lesson(run) in learnt]


def _lesson(run: Run) -> tuple[str, str, int]:
    return run.settings["benchmark"], run.settings["scale"], run.settings["seed"]


def one_kind(runs: Iterable[Run]) -> tuple[list[Run], list[Run]]:
    """Runs of which each arm has one kind of settings, and those that are left out for it.

    A benchmark in which the runs of some arm differ in a setting besides the seed, or some arm and
    seed has several runs, keeps those of its own settings, of all its arms; any other keeps what
    it has.

    Raises:
        ValueError: of several kinds of an arm none, or of several runs of one arm and seed not just
            one, has its benchmark's own settings.

    Example:
        >>> kept, others = one_kind(read_runs("runs", "mnist", "laptop"))      # doctest: +SKIP
    """
    found = _grouped(runs, "benchmark", "scale")
    kept, others = [], []
    for of_one in found:
        several = [same for same in _grouped(of_one, "arm", "seed") if len(same) > 1]
        mixed = [held for held in _grouped(of_one, "arm") if len(set(map(_kind, held))) > 1]
        for same in several:
            if sum(map(has_own_settings, same)) != 1:
                raise ValueError(_undecided(same, same[0].name))
        for held in mixed:
            if not any(map(has_own_settings, held)):
                raise ValueError(_undecided(held, f"{held[0].settings['arm']} in one setting"))
        for run in of_one:
            left = (several or mixed) and not has_own_settings(run)
            (others if left else kept).append(run)
    return kept, others


def _grouped(runs: Iterable[Run], *names: str) -> list[list[Run]]:
    """The runs that share these settings, group by group."""
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        found.setdefault(tuple(run.settings[name] for name in names), []).append(run)
    return list(found.values())


def _kind(run: Run) -> str:
    """All settings but the seed."""
    return repr(sorted((dict(run.settings) | {"seed": 0}).items()))


def _undecided(same: Sequence[Run], what: str) -> str:
    which = "\n  ".join(f"{run.path or run.key}: {_said(run) or 'defaults'}" for run in same)
    return (
        f"expected one record of {same[0].settings['benchmark']} {what}, or one with the "
        f"default settings among several, got {len(same)}:\n  {which}\nMove the folders of all "
        "kinds but one elsewhere, or name another --runs-dir."
    )


def _said(run: Run) -> str:
    """What is not the default; nothing where all is."""
    try:
        return in_words(changes_of(run.settings))
    except ValueError as error:
        return f"not by this version, {error}"


# ---- variants


DEFAULT = "default settings"


@dataclass(frozen=True)
class Variant:
    """Runs that differ in nothing but their arm and seed.

    Attributes:
        changes: what differs from the benchmark's defaults.
        runs: at most one an arm, seed and folder of records.
        data: names the data, where runs with the same changes have several; else empty.
        known: False: the runs are not of :func:`~qrkd_lab.compare` as it is now; ``changes`` is
            then what differs among them.
    """

    changes: Mapping[str, Any]
    runs: tuple[Run, ...]
    data: str = ""
    known: bool = True

    @property
    def label(self) -> str:
        """In words: ``"default settings"``, ``"epochs=3, kernel_weight=0.1"``."""
        plain = DEFAULT if self.known else "as recorded"
        return "; ".join(part for part in (in_words(self.changes) or plain, self.data) if part)


def variants(runs: Iterable[Run]) -> list[Variant]:
    """The variants among the runs of one benchmark and scale: the defaults first, then by name.

    A variant all of whose runs are in another one is left out. Runs with settings that
    :func:`~qrkd_lab.studies.provenance.changes_of` cannot express come last, told apart by whatever
    differs within an arm.

    Raises:
        ValueError: several benchmarks or scales.

    Example:
        >>> [v.label for v in variants(runs)]                         # doctest: +SKIP
        ['default settings', 'kernel_weight=3.0']
    """
    runs = list(runs)
    homes = {(run.settings["benchmark"], run.settings["scale"]) for run in runs}
    if len(homes) > 1:
        said = ", ".join(sorted(f"{benchmark} {scale}" for benchmark, scale in homes))
        raise ValueError(f"expected the runs of one benchmark and scale, got {said}.")
    found = []
    for sha256 in dict.fromkeys(run.data["sha256"] for run in runs):
        same = [run for run in runs if run.data["sha256"] == sha256]
        found += _of_one_data(same)
    labels = [variant.label for variant in found]
    named = [
        replace(variant, data=_data(variant.runs[0]))
        if labels.count(variant.label) > 1
        else variant
        for variant in found
    ]
    return sorted(named, key=_order)


def one_home_a_seed(variant: Variant) -> Variant:
    """Each seed's runs from one folder of records, as the arms of a seed learnt from one teacher.

    So a record that was trained here is not compared with one that came with the kit, on another
    machine. It is the folder with most of the runs that are the variant's own (with its changes,
    which not every arm uses), then with most arms, then the first.
    """
    homes: dict[int, dict[Any, list[Run]]] = {}
    for run in variant.runs:
        home = None if run.path is None else run.path.parents[2]
        homes.setdefault(run.settings["seed"], {}).setdefault(home, []).append(run)

    def size(runs: Sequence[Run]) -> tuple[int, int]:
        changed = (changes_of(run.settings) == variant.changes for run in runs if variant.known)
        return sum(changed), len(runs)

    kept = [run for found in homes.values() for run in max(found.values(), key=size)]
    return replace(variant, runs=tuple(kept))


def _of_one_data(runs: Sequence[Run]) -> list[Variant]:
    """The variants of runs on the same data, those within others left out."""
    known: dict[Frozen, list[Run]] = {}
    kinds: dict[Frozen, Mapping[str, Any]] = {}
    foreign = []
    for run in runs:
        try:
            changes = changes_of(run.settings)
        except ValueError:
            foreign.append(run)
        else:
            kinds[tuple(changes.items())] = run.settings
            known.setdefault(freeze(run.settings), []).append(run)
    arms = dict.fromkeys(dict(frozen)["arm"] for frozen in known)
    found = []
    for changes, settings in kinds.items():
        wanted = (settings_with(settings, arm, changes) for arm in arms)
        members = [run for frozen in wanted for run in known.get(frozen, ())]
        found.append(Variant(dict(changes), tuple(members)))
    keys = [{run.key for run in variant.runs} for variant in found]
    kept = [v for v, mine in zip(found, keys, strict=True) if not any(mine < k for k in keys)]
    return kept + _as_recorded(foreign)


def _as_recorded(runs: Sequence[Run]) -> list[Variant]:
    """Variants by what differs within an arm; an arm without that setting belongs to each."""
    arms: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        arms.setdefault(run.settings["arm"], []).append(dict(freeze(run.settings)))
    names = {arm: dict.fromkeys(n for settings in seen for n in settings)
             for arm, seen in arms.items()}  # fmt: skip
    odd = dict.fromkeys(
        name for arm, seen in arms.items() for name in names[arm]
        if len({settings.get(name) for settings in seen}) > 1
    )  # fmt: skip
    held = [
        {name: run.settings.get(name) for name in odd if name in names[run.settings["arm"]]}
        for run in runs
    ]
    kinds = [k for i, k in enumerate(held) if k not in held[:i]]
    largest = [k for k in kinds if not any(k.items() < other.items() for other in kinds)]
    return [
        Variant(
            kind,
            tuple(run for run, h in zip(runs, held, strict=True) if h.items() <= kind.items()),
            known=False,
        )
        for kind in largest
    ]


def _data(run: Run) -> str:
    return f"data {run.data.get('source', 'of unknown source')} ({str(run.data['sha256'])[:8]})"


def _order(variant: Variant) -> tuple[Any, ...]:
    sizes = [(n, (0, v, "") if _number(v) else (1, 0, str(v))) for n, v in variant.changes.items()]
    return not variant.known, len(sizes), sizes, variant.data


def _number(value: object) -> bool:
    return isinstance(value, int | float)


# ---- catalogue


class Catalogue:
    """Which studies there are among many runs.

    Args:
        runs: of any benchmarks; where two are the same run, the first folder's comes first.

    Example:
        >>> Catalogue(ql.published_runs()).benchmarks                  # doctest: +SKIP
        ['mnist', 'cifar10', 'wikitext2', 'ptb', 'imdb']
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs: dict[str, dict[str, list[Run]]] = {}
        for run in runs:
            scales = self._runs.setdefault(run.settings["benchmark"], {})
            scales.setdefault(run.settings["scale"], []).append(run)
        self._variants: dict[tuple[str | None, str | None], dict[str, Variant]] = {}
        self._left_out: dict[tuple[str | None, str | None, str], int] = {}

    @property
    def benchmarks(self) -> list[str]:
        """Names: the kit's benchmarks in their order, then the others by name."""
        known = [name for name in BENCHMARKS if name in self._runs]
        return known + sorted(self._runs.keys() - set(known))

    def scales(self, benchmark: str | None) -> list[str]:
        """Scales with runs of a benchmark; none for one that is not there."""
        there = self._runs.get(benchmark, {})
        return [s for s in SCALES if s in there] + sorted(there.keys() - set(SCALES))

    def variants(self, benchmark: str | None, scale: str | None) -> Mapping[str, Variant]:
        """Label to variant, each seed's runs from one folder of records."""
        place = (benchmark, scale)
        if place not in self._variants:
            found = {v.label: v for v in variants(self._runs.get(benchmark, {}).get(scale, []))}
            kept = {name: one_home_a_seed(variant) for name, variant in found.items()}
            self._variants[place] = kept
            for name, variant in found.items():
                self._left_out[*place, name] = len(variant.runs) - len(kept[name].runs)
        return self._variants[place]

    def runs(self, benchmark: str | None, scale: str | None, label: str | None) -> list[Run]:
        """The runs of one variant by arm and seed; none where there is no such variant."""
        variant = self.variants(benchmark, scale).get(label)
        found = () if variant is None else variant.runs
        place = {arm: i for i, arm in enumerate(order_arms(r.settings["arm"] for r in found))}
        return sorted(found, key=lambda run: (place[run.settings["arm"]], run.settings["seed"]))

    def left_out(self, benchmark: str, scale: str, label: str) -> int:
        """How many runs of a variant are not in it, as their seed's others are elsewhere."""
        self.variants(benchmark, scale)
        return self._left_out.get((benchmark, scale, label), 0)

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


# ---- shelf


@dataclass(frozen=True)
class Contents:
    """What lies on a shelf.

    Attributes:
        runs: the whole ones, folder by folder, sorted by benchmark, scale, arm and seed.
        problems: a sentence for each record or folder that cannot be read; it is tried again the
            next time.
        missing: folders that are not there.
        new: how many records were not there, or not so, the last time.
        gone: how many are not there any more.
    """

    runs: tuple[Run, ...] = ()
    problems: tuple[str, ...] = ()
    missing: tuple[Path, ...] = ()
    new: int = 0
    gone: int = 0


class Shelf:
    """Reads records, and remembers them.

    Example:
        >>> shelf = Shelf()
        >>> len(shelf.look(["no such folder"]).runs)
        0
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[object, Run | str]] = {}  # folder -> its files, what it says

    def look(self, folders: Sequence[str | os.PathLike[str]]) -> Contents:
        """Everything under these folders now; a weights file may be missing."""
        problems: list[str] = []
        seen: dict[Path, tuple[object, Run | str]] = {}
        new = 0
        roots = [expanded(folder) for folder in folders]
        missing = [root for root in roots if not os.path.exists(root)]
        for root in roots:
            for path in record_folders(root, problems):
                stamp = _stamp(path)
                known = self._known.get(path)
                changed = known is None or known[0] != stamp
                new += changed
                if changed or isinstance(known[1], str):
                    known = stamp, _read(path)
                seen[path] = known
        gone = len(self._known.keys() - seen.keys())
        self._known = seen
        said = [what for _, what in seen.values()]
        runs = [run for run in said if isinstance(run, Run)]
        problems += [text for text in said if isinstance(text, str)]
        return Contents(tuple(_sorted(runs, roots)), tuple(problems), tuple(missing), new, gone)


def _stamp(path: Path) -> object:
    """Changes when a file of the record does."""
    stamp = []
    for name in (RECORD, WEIGHTS):
        try:
            found = (path / name).stat()
            stamp.append((found.st_mtime_ns, found.st_ctime_ns, found.st_size))
        except OSError:
            stamp.append(None)
    return stamp


def _read(path: Path) -> Run | str:
    try:
        return load_run(path, weights=False)
    except RecordError as error:
        return str(error)


def _sorted(runs: Sequence[Run], homes: Sequence[Path]) -> list[Run]:
    order = ("benchmark", "scale", "arm", "seed")
    return sorted(
        runs,
        key=lambda run: (
            homes.index(run.path.parents[2]), *(run.settings[name] for name in order), run.key
        ),
    )  # fmt: skip


# ---- run_table


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """A row a run: ``results`` without the run itself, and where it is from.

    The last columns say which settings were not the defaults, the data's hash, qrkd_lab's and
    torch's version, and when it was finished.

    Raises:
        ValueError: no runs.
    """
    table = results(runs)
    held = list(table.pop("run"))
    more = {
        "changed": [_changed(run) for run in held],
        "data_sha256": [run.data["sha256"] for run in held],
        "qrkd_lab": [run.versions.get("qrkd_lab") for run in held],
        "torch": [run.versions.get("torch") for run in held],
        "finished": [run.finished for run in held],
    }
    return table.assign(**more)


def write_csv(table: pd.DataFrame, path: str | os.PathLike[str]) -> Path:
    """Write a table to a new file; folders above it are made. Returns its path.

    Raises:
        ValueError: no name, a file that is there already, or one that cannot be written.
    """
    if not os.fspath(path).strip():
        raise ValueError("expected a file to write to, e.g. records.csv, got none")
    place = expanded(path)
    try:
        if place.exists():
            raise ValueError(
                f"{path} is there already and was left as it is: give another name, e.g. "
                f"{_free(place)}"
            )
        write_file(place, table.to_csv(index=False).encode())
    except OSError as error:
        raise ValueError(f"{path} could not be written: {error.strerror or error}") from error
    return place


def _changed(run: Run) -> str:
    try:
        return in_words(changes_of(run.settings))
    except ValueError:
        return "unknown: not of this version's compare"


def _free(path: Path) -> Path:
    number = 2
    while (free := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return free
