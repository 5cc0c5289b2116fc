"""Variants of a study: the runs of one benchmark and scale that may stand in one table.

Two runs of one arm and seed can differ in other settings (``kernel_weight=3``) or in their data;
they must never be pooled. A variant is what differs from the benchmark's default settings. An arm
that does not use what differs belongs to every such variant: ``rkd`` has no kernel, so its runs are
the same whatever ``kernel_weight`` is, and are trained once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qrkd_lab.records.changes import Frozen, changes_of, freeze, in_words, settings_with
from qrkd_lab.runs import Run

__all__ = ["DEFAULT", "Variant", "one_home_a_seed", "variants"]

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
    :func:`~qrkd_lab.records.changes.changes_of` cannot express come last, told apart by whatever
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
