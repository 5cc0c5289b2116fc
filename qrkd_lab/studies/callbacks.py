"""Callbacks of a study: checkpoints, from which a killed training goes on, and progress on stderr.

A checkpoint is one file for all learners that train in lockstep: the SHA-256 of the rest in its
first line, then the state, which is read with ``weights_only`` (a file from elsewhere can run no
code). Its name is a hash of all that changes the numbers: the runs' settings, the data, the
versions of the libraries that compute, the processor's instructions, the device.
"""

from __future__ import annotations

import hashlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import torch
from tqdm import tqdm

from qrkd_lab.files import canonical_sha256, replacing, writing
from qrkd_lab.studies.records import record_folder, versions
from qrkd_lab.train import Callback, Learner, Training

__all__ = ["Checkpoint", "Progress", "duration"]

SECONDS = 60.0
FIRST = 65  # bytes of the first line: a SHA-256 in hexadecimal digits, and the line's end
COMPUTE = ("qrkd_lab", "torch", "transformers", "pennylane", "numpy", "cpu")  # of the versions


@dataclass
class Checkpoint(Callback):
    """The file that holds the state of a training; a callback that saves it and goes on from it."""

    path: Path
    steps: int | None = None  # save after so many batches; None: when a minute has passed
    _saved: float = field(default_factory=time.monotonic)
    _step: int = 0

    @classmethod
    def of(cls, learners: Sequence[Learner], data_sha256: str, runs_dir: Path) -> Checkpoint:
        """The checkpoint of these learners, under a hidden name beside their records."""
        settings = learners[0].settings
        runs = [learner.settings.effective() for learner in learners]
        device = next(learners[0].model.parameters()).device
        where = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        by = {name: number for name, number in versions().items() if name in COMPUTE}
        about = {"runs": runs, "data": data_sha256, "by": by, "device": where, "format": 2}
        name = f".checkpoint-seed{settings.seed}-{canonical_sha256(about)[:16]}.pt"
        path = record_folder(runs_dir, runs[0], data_sha256).with_name(name)
        return cls(path, settings.checkpoint_steps)

    def step(self, training: Training) -> None:
        if self.steps is None:
            due = time.monotonic() - self._saved > SECONDS
        else:
            due = training.batches - self._step >= self.steps
        if due:
            self._saved, self._step = time.monotonic(), training.batches
            self.save(training)

    epoch = step

    def stop(self, training: Training) -> None:
        self.save(training)

    def save(self, training: Training) -> None:
        """Write down how far the training is; raises RecordError if the disk fails."""
        states = [learner.state() for learner in training.learners]
        held = io.BytesIO()
        torch.save({"done": training.done, "step": training.step, "learners": states}, held)
        digest = hashlib.sha256(held.getbuffer()).hexdigest()
        with writing(f"the state of the training in {self.path.parent}"):
            with replacing(self.path) as stream:
                stream.write(f"{digest}\n".encode())
                stream.write(held.getbuffer())

    def resume(self, training: Training) -> bool:
        """Put a training where it was; whether there was a file to use.

        A damaged file is reported on stderr, and training begins anew.
        """
        if not self.path.exists():
            return False
        with self.path.open("rb") as stream:
            said = stream.readline(FIRST)
            if said != f"{hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode():
                text = "was cut or changed: its digest does not match. Training begins anew"
                print(self.path, text, file=sys.stderr)
                return False
            stream.seek(FIRST)
            state = torch.load(stream, weights_only=True, map_location="cpu")
        for learner, one in zip(training.learners, state["learners"], strict=True):
            learner.restore(one)
        training.done, training.step = state["done"], state["step"]
        return True


# ---- progress


LINE_SECONDS = 10.0  # plain lines come no faster than this
BAR_SECONDS = 0.5


class Progress(Callback):
    """A bar in a terminal, plain lines elsewhere; serves one training after the other."""

    def __init__(
        self,
        what: str,  # "mnist", say; the seed is added, and the arm where it is alone
        words: Callable[[Mapping[str, float]], str],  # the score of an epoch in a few characters
        stream: TextIO | None = None,
        position: int = 0,  # line of the bar, where several processes show one each
    ) -> None:
        self.what, self.words, self.position = what, words, position
        self.stream = stream or sys.stderr
        self.bar: tqdm | None = None

    def begin(self, training: Training) -> None:
        first, *others = training.learners
        self.label = f"{self.what}{'' if others else f' {first.name}'} seed {first.seed}"
        self.before, self.shown = training.batches, 0
        self.started = self.drawn = self.printed = time.monotonic()
        if self.stream.isatty():
            self.bar = tqdm(
                total=training.epochs * training.steps,
                initial=training.batches,
                desc=self.label,
                position=self.position,
                leave=False,
                file=self.stream,
                bar_format="{desc} {percentage:3.0f}%|{bar:12}| {remaining} left{postfix}",
            )

    def step(self, training: Training) -> None:
        if self.bar is None:
            return
        self.bar.update(training.batches - self.bar.n)
        if time.monotonic() - self.drawn > BAR_SECONDS:  # collecting the terms costs something
            if active := training.active:
                learner = active[self.shown % len(active)]  # one arm after the other
                said = " ".join(f"{name} {value:.3g}" for name, value in learner.means().items())
                text = f"epoch {training.done + 1}/{training.epochs}, {learner.name}: {said}"
                self.bar.set_postfix_str(text, refresh=True)
            self.shown, self.drawn = self.shown + 1, time.monotonic()

    def epoch(self, training: Training) -> None:
        now, left = time.monotonic(), training.epochs - training.done
        if self.bar is not None or (now - self.printed < LINE_SECONDS and left):
            return
        self.printed, spent = now, now - self.started
        made = max(training.batches - self.before, 1)  # resumed after an epoch's last: none
        seconds = spent / made * left * training.steps
        said = ", ".join(f"{one.name} {self.words(one.history[-1])}" for one in training.active)
        when = f"{duration(seconds)} left" if left else f"took {duration(spent)}"
        line = f"{self.label}: epoch {training.done}/{training.epochs}, {said}, {when}"
        print(line, file=self.stream, flush=True)

    def end(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def duration(seconds: float) -> str:
    """Seconds in words: ``"0.4 s"``, ``"42 s"``, ``"3 min 05 s"``, ``"2 h 07 min"``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
