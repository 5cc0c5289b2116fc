"""Kinds of records: those of their benchmark's own settings, and those of changed ones.

An exercise with ``kernel_weight=10`` leaves its records beside those of the study. A report or a
publication is on one kind: two records of one arm and seed are two answers to one question.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    """Runs of which each arm and seed is there once, and those that are left out for it.

    A benchmark in which some arm and seed has several runs keeps those of its own settings, of all
    its arms; any other keeps what it has.

    Raises:
        ValueError: of several runs of one arm and seed not just one has its benchmark's own
            settings.

    Example:
        >>> kept, others = one_kind(read_runs("runs", "mnist", "laptop"))      # doctest: +SKIP
    """
    found: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        found.setdefault((run.settings["benchmark"], run.settings["scale"]), []).append(run)
    kept, others = [], []
    for of_one in found.values():
        several = [same for same in _by_arm_and_seed(of_one) if len(same) > 1]
        for same in several:
            if sum(map(has_own_settings, same)) != 1:
                raise ValueError(_undecided(same))
        for run in of_one:
            (others if several and not has_own_settings(run) else kept).append(run)
    return kept, others


def _by_arm_and_seed(runs: Sequence[Run]) -> list[list[Run]]:
    found: dict[tuple[str, int], list[Run]] = {}
    for run in runs:
        found.setdefault((run.settings["arm"], run.settings["seed"]), []).append(run)
    return list(found.values())


def _undecided(same: Sequence[Run]) -> str:
    which = "\n  ".join(f"{run.path or run.key}: {_said(run) or 'defaults'}" for run in same)
    return (
        f"expected one record of {same[0].settings['benchmark']} {same[0].name}, or one with the "
        f"default settings among several, got {len(same)}:\n  {which}\nMove the folders of all "
        "kinds but one elsewhere, or name another --runs-dir."
    )


def _said(run: Run) -> str:
    """What is not the default; nothing where all is."""
    try:
        return in_words(changes_of(run.settings))
    except ValueError as error:
        return f"not by this version, {error}"
