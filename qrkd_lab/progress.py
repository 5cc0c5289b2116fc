"""Progress of long work: a bar that names arm, epoch, loss terms and time left; lines elsewhere.

In a terminal one bar moves, showing the arms in turn. Without a terminal (a log, a notebook, a
pipe) it prints a plain line when an epoch ends, at most one every few seconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TextIO

from tqdm import tqdm

__all__ = ["Progress", "duration"]

LINE_SECONDS = 10.0  # plain lines come no faster than this
BAR_SECONDS = 0.5


class Progress:
    """Shows how far a lockstep of several arms is.

    Args:
        what: e.g. ``"mnist seed 0"``.
        epochs: in all.
        batches: an epoch.
        show: False prints nothing at all.
        stream: where to; None is standard error.
        position: line of the bar, where several processes show one each.
    """

    def __init__(
        self,
        what: str,
        epochs: int,
        batches: int,
        show: bool = True,
        stream: TextIO | None = None,
        position: int = 0,
    ) -> None:
        self.what, self.epochs, self.batches, self.show = what, epochs, batches, show
        self.stream = stream or sys.stderr
        self.started = self.drawn = self.printed = time.monotonic()
        self.before = 0.0  # the fraction that an earlier process did
        self.bar = None
        if show and self.stream.isatty():
            self.bar = tqdm(
                total=epochs * batches,
                desc=what,
                position=position,
                leave=False,
                file=self.stream,
                bar_format="{desc} {percentage:3.0f}%|{bar:12}| {remaining} left{postfix}",
            )
        self.turn = 0

    def resume(self, batches: int) -> None:
        """So many batches were done before."""
        self.before = batches / (self.epochs * self.batches)
        if self.bar is not None:
            self.bar.update(batches)

    @property
    def due(self) -> bool:
        """Whether the bar wants new numbers now; collecting them costs something."""
        return self.bar is not None and time.monotonic() - self.drawn > BAR_SECONDS

    def batch(self, epoch: int, terms: Mapping[str, Mapping[str, float]] | None = None) -> None:
        """One more batch is done; ``terms``: arm -> loss term -> mean so far, when ``due``."""
        if self.bar is None:
            return
        self.bar.update(1)
        if terms:
            arm = list(terms)[self.turn % len(terms)]
            self.turn += 1
            self.drawn = time.monotonic()
            said = " ".join(f"{name} {value:.3g}" for name, value in terms[arm].items())
            self.bar.set_postfix_str(f"epoch {epoch}/{self.epochs}, {arm}: {said}", refresh=True)

    def epoch(self, epoch: int, scores: Mapping[str, str]) -> None:
        """An epoch is done; ``scores``: arm -> its validation score in words."""
        now = time.monotonic()
        last = epoch == self.epochs
        if (
            not self.show
            or self.bar is not None
            or (now - self.printed < LINE_SECONDS and not last)
        ):
            return
        self.printed = now
        spent = now - self.started
        done = epoch / self.epochs
        batch = 1 / (self.epochs * self.batches)  # resumed after an epoch's last, there was none
        left = duration(spent / max(done - self.before, batch) * (1 - done))
        said = ", ".join(f"{arm} {score}" for arm, score in scores.items())
        when = f"took {duration(spent)}" if last else f"{left} left"
        line = f"{self.what}: epoch {epoch}/{self.epochs}, {said}, {when}"
        print(line, file=self.stream, flush=True)

    def close(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()


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
