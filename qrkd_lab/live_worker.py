"""The process that trains for a notebook: it takes orders over a pipe, and tells what it does.

A process of its own, so that the notebook's cells go on while it trains, and neither draws from the
other's random numbers. It ends when the pipe does: when a notebook is closed, or its kernel killed,
the last whole epoch is recorded, and a checkpoint is left to go on from.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.benchmarks import Benchmark, load_benchmark
from qrkd_lab.data import DataError
from qrkd_lab.job import find, run_seed
from qrkd_lab.learner import Learner
from qrkd_lab.runs import Run
from qrkd_lab.storage import RecordError, check_writable, runs_folder
from qrkd_lab.watch import Stopped, Watch

__all__ = ["Order", "serve", "serve_at"]

PULSE, LOOK = 0.2, 0.5  # seconds between two reports of the loss, and of the kernel matrices
MOST = 64  # samples in a matrix


@dataclass(frozen=True)
class Order:
    """What is to be trained: the arms of one seed.

    Attributes:
        benchmark, scale: by name.
        arms: names.
        seed: of the runs.
        settings: whatever differs from the benchmark's defaults.
        runs_dir: folder of the records, as for :func:`~qrkd_lab.compare`.
        data_dir: folder of the data; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
    """

    benchmark: str
    scale: str
    arms: tuple[str, ...]
    seed: int
    settings: Mapping[str, Any]
    runs_dir: str | Path | None = None
    data_dir: str | Path | None = None
    device: str = "auto"


def serve_at(descriptor: int) -> None:
    """:func:`serve` at an inherited file descriptor: what the new process begins with."""
    serve(Connection(descriptor))


def serve(pipe: Connection) -> None:
    """Carry out one order after the other, until the other end is gone."""
    try:
        while True:
            order = pipe.recv()
            if order == "end":
                return
            if not isinstance(order, Order):
                continue  # a pause or stop that came too late
            try:
                _carry_out(order, pipe)
            except Stopped:
                _tell(pipe, "end", "stopped")
            except Exception as error:  # said in the notebook; the next order may be better
                known = isinstance(error, (ValueError, ArithmeticError, RecordError, DataError))
                kind = "" if known else f"{type(error).__name__}: "
                _tell(pipe, "failed", f"{kind}{error}")
                _tell(pipe, "end", "failed")
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _tell(pipe: Connection, *message: Any) -> None:  # noqa: ANN401
    """Send a message, if somebody is still there to take it."""
    with suppress(OSError):
        pipe.send(message)


def _carry_out(order: Order, pipe: Connection) -> None:
    benchmark = load_benchmark(
        order.benchmark, order.scale, order.data_dir, order.device, **order.settings
    )
    folder = runs_folder(order.runs_dir)
    check_writable(folder)
    missing, failed = [], 0
    for arm in order.arms:
        settings = benchmark.settings.replace(arm=arm, seed=order.seed)
        run = find(benchmark, settings, folder)
        if run is None:
            missing.append(settings)
        else:
            _tell(pipe, "run", run, True)
    watch = PipeWatch(pipe, benchmark)
    for result in run_seed(benchmark, missing, folder, False, 0, watch) if missing else ():
        if isinstance(result, Run):
            _tell(pipe, "run", result, False)
        else:
            failed += 1
            _tell(pipe, "failed", str(result))
    _tell(pipe, "end", "failed" if failed else "done")


class PipeWatch(Watch):
    """Reports steps, epochs and kernel matrices through a pipe, and obeys what comes back."""

    def __init__(self, pipe: Connection, benchmark: Benchmark) -> None:
        self.pipe, self.benchmark = pipe, benchmark
        self.teacher: nn.Module | None = None
        self.batch: tuple[Any, Tensor] | None = None
        self._epochs = self._steps = 1
        self._said = self._looked = 0.0

    def begin(
        self,
        learners: Sequence[Learner],
        teacher: nn.Module | None,
        epochs: int,
        steps: int,
        done: int,
    ) -> None:
        settings = learners[0].settings
        self.teacher, self._epochs, self._steps = teacher, epochs, steps
        self.batch = next(iter(self.benchmark.batches(settings.seed, 1, settings.batch_size)))
        arms = [learner.settings.arm for learner in learners]
        histories = {learner.settings.arm: list(learner.history) for learner in learners}
        _tell(self.pipe, "begin", arms, epochs, steps, done, histories)
        self._look(learners, done / steps)

    def step(self, learners: Sequence[Learner], epoch: int, step: int) -> None:
        now, at = time.monotonic(), epoch - 1 + step / self._steps
        if now - self._said >= PULSE:
            self._said = now
            terms = {le.settings.arm: le.means() for le in learners if le.failure is None}
            _tell(self.pipe, "pulse", at, terms)
        if now - self._looked >= LOOK:
            self._look(learners, at)
        try:
            self._obey()
        except Stopped:
            self._look(learners, at)  # as it is left
            raise

    def epoch(self, learners: Sequence[Learner], epoch: int) -> None:
        histories = {le.settings.arm: le.history[-1] for le in learners if le.failure is None}
        _tell(self.pipe, "epoch", epoch, histories)
        if time.monotonic() - self._looked >= LOOK or epoch == self._epochs:
            self._look(learners, epoch)

    def note(self, text: str) -> None:
        _tell(self.pipe, "note", text)

    def _obey(self) -> None:
        """Do what the notebook asks; while paused, wait for the next word."""
        paused = False
        try:
            while paused or self.pipe.poll():
                word = self.pipe.recv()
                if word in ("stop", "end"):
                    raise Stopped
                if paused != (word == "pause"):
                    paused = not paused
                    _tell(self.pipe, "paused", paused)
        except (EOFError, OSError):
            raise Stopped from None  # nobody is there any more

    @torch.no_grad()
    def _look(self, learners: Sequence[Learner], at: float) -> None:
        """Send the kernel matrices of the first batch, as the teacher and each arm see it."""
        self._looked = time.monotonic()
        seen = [le for le in learners if le.loss.relation is not None and le.failure is None]
        if self.teacher is None or not seen:
            return
        inputs, targets = self.batch
        matrices = {}
        taught = self.benchmark.outputs(self.teacher, inputs).features
        for learner in seen:
            relation, training = learner.loss.relation, learner.model.training
            learner.model.eval()
            features = self.benchmark.outputs(learner.model, inputs).features
            learner.model.train(training)
            pair = [relation.teacher(taught), relation.kernel(relation.encoder.student(features))]
            matrices[learner.settings.arm] = [m.cpu()[:MOST, :MOST].numpy() for m in pair]
        labels = targets[:MOST].cpu().numpy() if len(targets) == len(taught) else None
        _tell(self.pipe, "matrices", at, matrices, labels)
