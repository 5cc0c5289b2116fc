"""Checkpoints: where a lockstep is, so that a killed one goes on as if nothing had happened.

One file for all learners of a lockstep. It is written beside its place and renamed, so it is whole
or not there, and it is read with ``weights_only``: a file from elsewhere can run no code. Its name
holds a hash of the runs in it and of the libraries' versions: change either, and training begins
anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from qrkd_lab.learner import Learner
from qrkd_lab.runs import record_folder, versions
from qrkd_lab.storage import RecordError, canonical_sha256, replacing, writing
from qrkd_lab.watch import Watch

__all__ = ["Checkpoint"]

SECONDS = 60.0


@dataclass
class Checkpoint:
    """The file that holds a lockstep's state.

    Args:
        path: of the file.
        steps: save after so many batches; None: when a minute has passed.
        records: names of the folders where the learners' runs will be recorded.
    """

    path: Path
    steps: int | None = None
    records: Sequence[str] = ()
    _saved: float = field(default_factory=time.monotonic)
    _step: int = 0

    @classmethod
    def of(cls, learners: Sequence[Learner], data_sha256: str, runs_dir: Path) -> Checkpoint:
        """The checkpoint of these learners, under a hidden name beside their records."""
        settings = learners[0].settings
        runs = [learner.settings.effective() for learner in learners]
        records = [record_folder(run, data_sha256) for run in runs]
        key = canonical_sha256({"runs": runs, "data": data_sha256, "versions": versions()})[:16]
        name = f".checkpoint-seed{settings.seed}-{key}.pt"
        place = runs_dir / settings.benchmark / settings.scale / name
        return cls(place, settings.checkpoint_steps, records)

    def due(self, learners: Sequence[Learner], total: int) -> bool:
        """Whether it is time to save, ``total`` batches after the beginning of the training.

        Not between the batches of one optimiser step; then with the next one that ends a step.
        """
        if any(learner.pending for learner in learners if learner.failure is None):
            return False
        if self.steps is None:
            due = time.monotonic() - self._saved > SECONDS
        else:
            due = total - self._step >= self.steps
        if due:
            self._saved, self._step = time.monotonic(), total
        return due

    def save(self, learners: Sequence[Learner], epoch: int, step: int) -> None:
        """Write down that ``step`` batches of ``epoch`` are done.

        Raises:
            RecordError: the disk is full or read-only.
        """
        state = {"epoch": epoch, "step": step, "learners": [one.state() for one in learners]}
        state["records"] = list(self.records)
        with writing(f"the state of the training in {self.path.parent}"):
            try:
                with replacing(self.path) as stream:
                    torch.save(state, stream)
            except RuntimeError as error:  # torch hides the disk's error behind one of its own
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from error
                raise

    def restore(self, learners: Sequence[Learner], watch: Watch | None = None) -> tuple[int, int]:
        """Put the learners where they were; returns epoch and batches done in it, or (1, 0).

        A file that cannot be read, or holds something else, is said to be so to the watch, and
        training begins anew.

        Raises:
            RecordError: it fits these learners in number and not in kind; says to delete it.
        """
        if not self.path.exists():
            return 1, 0
        try:
            state = torch.load(self.path, weights_only=True, map_location="cpu")
            epoch, step, held = state["epoch"], state["step"], list(state["learners"])
        except Exception as error:  # what a damaged file raises depends on the damage
            said = (str(error) or type(error).__name__).splitlines()[0]
            (watch or Watch()).note(f"{self.path} cannot be read ({said}): training begins anew")
            return 1, 0
        try:
            for learner, one in zip(learners, held, strict=True):
                learner.restore(one)
        except (RuntimeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(
                f"{self.path} is no state of this training ({type(error).__name__}): delete it, "
                "and training begins anew."
            ) from error
        return epoch, step

    def remove(self) -> None:
        """Delete the file: what it led to is recorded.

        So are others that led to nothing else: a process killed between two records leaves one, for
        what is missing then trains under another name.
        """
        self.path.unlink(missing_ok=True)
        folder = self.path.parent
        for path in folder.glob(".checkpoint-*.pt"):
            with suppress(Exception):  # damaged, of an older version, or another process was faster
                records = torch.load(path, weights_only=True, mmap=True)["records"]
                if records and all((folder / name).exists() for name in records):
                    path.unlink()
