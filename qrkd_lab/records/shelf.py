"""A shelf: the records of several folders, which can be looked at again and again.

:func:`~qrkd_lab.runs.read_runs` reads a folder once. A shelf remembers what it has read by the time
and size of the files, so that looking again reads only what is new; it says what could not be read
instead of warning; and it passes over folders that are no records (data, notebooks' outputs).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qrkd_lab.runs import RECORD, WEIGHTS, RecordError, Run, load_run, record_folders
from qrkd_lab.storage import expanded

__all__ = ["Contents", "Shelf"]


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
