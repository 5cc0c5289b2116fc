"""Kinds of records: those of their benchmark's own settings, and those of changed ones.

An exercise with ``kernel_weight=10`` leaves its records beside those of the study. A report or a
publication is on one kind: two records of one arm and seed are two answers to one question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from qrkd_lab.arms import TEACHER
from qrkd_lab.records.changes import changes_of, in_words
from qrkd_lab.runs import Run

__all__ = ["has_own_settings", "one_kind", "taught"]


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
