"""Records that come with the kit: studies that ran on real data, to be read without training.

They lie in ``results/`` beside the package, in the form in which every run is recorded
(:mod:`qrkd_lab.runs`), each with the versions, data and settings that made it. Weights of a few
kilobytes come along; larger ones, those of language models, were left out, and such a record says
so when it is asked for them.

A comparison takes from here whole seeds or nothing: the arms of a seed belong together, as they
learnt from one teacher.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qrkd_lab.runs import RECORD, WEIGHTS, RecordError, Run, load_run, read_runs
from qrkd_lab.storage import expanded, write_folder, writing
from qrkd_lab.trace import Trace, read_trace

if TYPE_CHECKING:
    from qrkd_lab.settings import Settings

__all__ = [
    "PUBLISHED", "has_weights", "publish", "publish_trace", "published_runs", "published_seeds",
]  # fmt: skip

PUBLISHED = Path(__file__).parents[1] / "results"  # of a checkout; an installed wheel has none
LARGEST = 300_000  # bytes of weights that are published: a CNN's are, a GPT-2's are not


def published_runs(
    benchmark: str | None = None, scale: str | None = None, folder: str | Path = PUBLISHED
) -> list[Run]:
    """All records that came with the kit, of one benchmark and scale or of all; may be none."""
    return read_runs(folder, benchmark, scale, weights=False)


def published_seeds(
    wanted: Sequence[Settings], seeds: Iterable[int], folder: str | Path = PUBLISHED
) -> dict[int, list[Run]]:
    """The seeds of which every wanted run is published: seed -> its runs, as ``wanted`` goes.

    Args:
        wanted: settings of the arms, one benchmark and scale; the seed is set here.
        seeds: which.
        folder: of the records.
    """
    known: dict[tuple[str, int], list[Run]] = {}
    for run in published_runs(wanted[0].benchmark, wanted[0].scale, folder):
        known.setdefault((run.settings["arm"], run.settings["seed"]), []).append(run)
    found = {}
    for seed in seeds:
        runs = []
        for settings in wanted:
            asked = settings.replace(seed=seed).effective()
            same = [r for r in known.get((settings.arm, seed), []) if dict(r.settings) == asked]
            runs += same[:1]
        if len(runs) == len(wanted) and len({run.data["sha256"] for run in runs}) == 1:
            found[seed] = runs
    return found


def has_weights(run: Run) -> bool:
    """Whether ``run.weights()`` has something to read."""
    return run.path is not None and os.path.exists(run.path / WEIGHTS)


def publish_trace(trace: Trace, folder: str | Path = PUBLISHED) -> Path:
    """Copy the trace of a tuning into a folder of records; returns the file.

    Raises:
        ValueError: another one is there, and this one has not all that it has.
        RecordError: the one that is there is damaged, or the disk is full or read-only.
    """
    path, seeds = trace.path(folder), {trial.seed for trial in trace.trials}
    if path.exists() and (lost := read_trace(path).lost_by(trace, trace.chosen, seeds)):
        raise ValueError(
            f"{path} is the trace of another tuning, and would be replaced. It has "
            f"{'; '.join(lost)}: this one does not. If the records beside it go too, delete that "
            "file first."
        )
    return trace.save(folder)


def publish(runs: Iterable[Run], folder: str | Path = PUBLISHED, largest: int = LARGEST) -> int:
    """Copy records into a folder, as they are; weights only up to a size. Returns how many.

    A record that is there already is kept.

    Args:
        runs: saved ones.
        folder: made if missing.
        largest: bytes of a weights file that still comes along.

    Raises:
        RecordError: a run that is not saved, or was damaged, or a folder that cannot be written.
    """
    count = 0
    for run in runs:
        if run.path is None:
            raise RecordError(f"{run.name} is not saved: save_run it first, then publish it.")
        load_run(run.path, weights=has_weights(run))
        files = {RECORD: (run.path / RECORD).read_bytes()}
        if has_weights(run) and (run.path / WEIGHTS).stat().st_size <= largest:
            files[WEIGHTS] = (run.path / WEIGHTS).read_bytes()
        target = Path(expanded(folder), *run.path.resolve().parts[-3:])
        with writing(f"the record in {target}", "out"):
            count += write_folder(target, files)
    return count
