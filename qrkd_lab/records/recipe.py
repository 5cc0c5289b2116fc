"""A recipe: the call that makes a recorded run again, in Python and at the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import fill
from typing import Any

from qrkd_lab.arms import TEACHER
from qrkd_lab.benchmarks import BENCHMARKS
from qrkd_lab.notebook_parameters import NotebookError, parse_parameters
from qrkd_lab.records.changes import changes_of, settings_with
from qrkd_lab.runs import Run, run_key

__all__ = ["Recipe", "reproduce", "set_words"]

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
    except NotebookError:  # it begins like a list, say
        pass
    return json.dumps(value, ensure_ascii=False)
