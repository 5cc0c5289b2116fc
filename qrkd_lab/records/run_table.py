"""The table of runs that is handed on: a row a run, what was changed, and nothing but text."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from qrkd_lab.records.changes import changes_of, in_words
from qrkd_lab.report import results
from qrkd_lab.runs import Run
from qrkd_lab.storage import (
    expanded,
    write_file,
)

__all__ = ["run_table", "write_csv"]


def run_table(runs: Iterable[Run]) -> pd.DataFrame:
    """A row a run: :func:`~qrkd_lab.report.results` without the run itself, and where it is from.

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
