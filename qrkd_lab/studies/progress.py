"""How far a training is, on standard error: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from tqdm import tqdm

from qrkd_lab.train import Callback, Training

__all__ = ["Progress", "duration"]

LINE_SECONDS = 10.0  # plain lines come no faster than this
BAR_SECONDS = 0.5


class Progress(Callback):
    """A bar in a terminal, plain lines elsewhere; serves one training after the other.

    Args:
        what: e.g. ``"mnist"``; the seed is added, and the arm where it is alone.
        words: an epoch's score in a few characters, from its entry in a learner's history.
        stream: where to; None is standard error.
        position: line of the bar, where several processes show one each.
    """

    def __init__(
        self,
        what: str,
        words: Callable[[Mapping[str, float]], str],
        stream: TextIO | None = None,
        position: int = 0,
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

    def note(self, text: str) -> bool:
        print(text, file=self.stream)
        return True


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
