"""Seed groups: a benchmark's notebook, executed for some of a study's seeds, once.

A group has a folder of its own. There lies the executed copy, and beside
it, once the run is over, ``group.json``: what was asked for, whether it failed and of what. That
file is there whole or not at all; a copy without it is one that was interrupted, however complete
it looks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np

from qrkd_lab.notebooks import NotebookError, execute, source_digest
from qrkd_lab.runs import versions
from qrkd_lab.storage import (
    RecordError,
    canonical_sha256,
    file_sha256,
    read_json,
    replacing,
    sealed,
    unsealed,
    writing,
)

__all__ = ["Outcome", "SeedGroup", "split_seeds"]

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
