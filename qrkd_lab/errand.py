"""The errand of one seed: train what is missing, on this machine or for a caller elsewhere."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qrkd_lab.arms import TEACHER
from qrkd_lab.at_worker import CalledOff, own_folder
from qrkd_lab.job import run_seed
from qrkd_lab.learner import Diverged
from qrkd_lab.recipe import Recipe, loaded
from qrkd_lab.runs import RECORD, WEIGHTS, Run, checked_record, load_run, record_place
from qrkd_lab.settings import Settings
from qrkd_lab.storage import (
    RecordError,
    canonical_sha256,
    expanded,
    read_file,
    write_folder,
    writing,
)
from qrkd_lab.workers import failure

__all__ = ["Parcel", "away", "pack", "receive", "train_away", "train_here", "unpack"]


@dataclass(frozen=True)
class Parcel:
    """A record as bytes, for machines that share no disk.

    Args:
        place: its folder, from the folder of all records on.
        files: content by file name.
    """

    place: str
    files: dict[str, bytes]


def pack(run: Run) -> Parcel:
    """The record of a run, as it lies on the disk."""
    files = {name: read_file(run.path / name, None) for name in (RECORD, WEIGHTS)}
    return Parcel("/".join(run.path.parts[-3:]), files)


def unpack(parcel: Parcel, runs_dir: Path) -> Run:
    """Write a record, unless it is there already, and read it.

    Names, digests and all that the record says are checked first, so that nothing is written
    outside ``runs_dir``, and nothing that would have to be deleted again.

    Raises:
        RecordError: it was damaged on its way, or is no record; or it cannot be written.
    """
    try:
        files = dict(parcel.files)
        if files.keys() != {RECORD, WEIGHTS}:
            raise ValueError(f"expected {RECORD} and {WEIGHTS}, got {sorted(files)!r:.200}")
        record = checked_record(files[RECORD])
        if parcel.place != (place := "/".join(record_place(record))):
            raise ValueError(f"it says that it belongs to {parcel.place!r:.200}, not to {place}")
        if hashlib.sha256(files[WEIGHTS]).hexdigest() != record["weights_sha256"]:
            raise ValueError(f"{WEIGHTS} was changed: its digest does not match")
    except (AttributeError, TypeError, ValueError) as error:
        raise RecordError(
            f"a record that was trained elsewhere came damaged ({error}). Nothing was written: run "
            "again, and it is trained again."
        ) from error
    target = runs_dir / place
    with writing(f"a record that was trained elsewhere, in {target},"):
        write_folder(target, files)
    return load_run(target)


def train_here(
    recipe: Recipe, missing: Sequence[Settings], runs_dir: Path, show: bool, position: int
) -> tuple[int, list[Run], list[str]]:
    """Train what is missing of one seed; returns the seed, its runs, and what failed in words.

    Args:
        recipe: of the benchmark.
        missing: settings of the runs, all of one seed.
        runs_dir: folder of the records.
        show, position: as for :func:`~qrkd_lab.job.run_seed`.
    """

    def results() -> Iterator[Run | Diverged]:
        yield from run_seed(loaded(recipe), missing, runs_dir, show, position)

    return _sorted(missing[0].seed, results())


def away(
    recipe: Recipe, missing: Mapping[int, list[Settings]], runs: Sequence[Run], runs_dir: Path
) -> dict[int, tuple[Any, ...]]:
    """The arguments of :func:`train_away` by seed; a teacher that is here already goes along.

    Args:
        recipe, missing: by seed, as for :func:`train_here`.
        runs: those of the study that are here already.
        runs_dir: folder of the records at the caller.
    """
    if recipe.data_dir is not None:
        recipe = replace(recipe, data_dir=expanded(recipe.data_dir).absolute())
    teachers = {run.settings["seed"]: run for run in runs if run.settings["arm"] == TEACHER}
    held = {seed: [pack(run)] for seed, run in teachers.items() if seed in missing}
    caller = f"{platform.node()}:{runs_dir.resolve()}"
    return {
        seed: (recipe, settings, held.get(seed, []), caller) for seed, settings in missing.items()
    }


def train_away(
    recipe: Recipe, missing: Sequence[Settings], held: Sequence[Parcel], caller: str
) -> tuple[int, list[Parcel], list[str]]:
    """The same in a worker of a cluster, in a folder of its own that is emptied at the end.

    The folder is found again, with the checkpoint in it, by a worker that does the job anew on the
    same machine.

    Args:
        recipe, missing: as for :func:`train_here`.
        held: records of this seed that the caller has.
        caller: its machine and folder; two callers do not share a folder.
    """
    about = [caller, recipe.sha256, [settings.effective() for settings in missing]]
    folder = own_folder(canonical_sha256(about)[:16])

    def results() -> Iterator[Parcel | Diverged]:
        for parcel in held:
            unpack(parcel, folder)
        benchmark = loaded(recipe.elsewhere())
        for result in run_seed(benchmark, missing, folder, show=False, watch=CalledOff()):
            yield pack(result) if isinstance(result, Run) else result
        shutil.rmtree(folder, ignore_errors=True)

    return _sorted(missing[0].seed, results())


def _sorted(seed: int, results: Iterator[Any]) -> tuple[int, list[Any], list[str]]:
    """What was made, and what failed; an error becomes a sentence, so that other seeds go on."""
    made, failures = [], []
    try:
        for result in results:
            if isinstance(result, Diverged):
                failures.append(str(result))
            else:
                made.append(result)
    except Exception as error:
        failures.append(failure(seed, error))
    return seed, made, failures


def receive(
    seed: int, results: Sequence[Run | Parcel], runs_dir: Path
) -> tuple[list[Run], list[str]]:
    """The runs of an outcome, those from elsewhere written down; what could not be, in words.

    A record of another seed is none of this outcome.
    """
    runs, lost = [], []
    for result in results:
        try:
            run = result if isinstance(result, Run) else unpack(result, runs_dir)
            if run.settings["seed"] != seed:
                raise RecordError(f"got the record of {run.name}, which nobody asked for")
            runs.append(run)
        except RecordError as error:
            lost.append(f"seed {seed}: {error}")
    return runs, lost
