"""The one training loop: all arms of one seed side by side, in lockstep, on the same batches.

Every arm starts from the same student and sees the same batches in the same order, so a comparison
is paired by construction. The teacher's forward pass and its relations are computed once a batch
and shared. An arm's numbers do not depend on which arms it trains beside: they are the same as
alone, bit for bit.

Training a teacher is the same loop with one learner and the task loss alone. The last epoch's
weights are the result; no epoch is picked, by validation or by test.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

import torch
from torch import Tensor, nn

from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.checkpoint import Checkpoint
from qrkd_lab.devices import default_arithmetic, memory_advice
from qrkd_lab.learner import Diverged, Learner
from qrkd_lab.objective import TeacherBatch
from qrkd_lab.progress import Progress
from qrkd_lab.watch import Stopped, Watch

__all__ = ["one_thread", "train"]


def train(
    benchmark: Benchmark,
    learners: Sequence[Learner],
    epochs: int,
    teacher: nn.Module | None = None,
    show: bool = True,
    position: int = 0,
    checkpoint: Checkpoint | None = None,
    watch: Watch | None = None,
) -> Iterator[int]:
    """Train all learners in lockstep; yields the number of each epoch when it is done.

    The caller decides what happens between epochs (nothing, a picture, a stop). A learner that
    diverges gets a ``failure`` and is left out from then on; the others do not notice.

    Args:
        benchmark: batches and evaluation.
        learners: of one seed and one batch size; each from the same initial student.
        epochs: how many.
        teacher: trained; None where no learner has a distillation term.
        show: progress on standard error.
        position: of the bar, where several processes show one each.
        checkpoint: where the state is saved now and then, and taken up from; None: nowhere.
        watch: told of every step and epoch.

    Raises:
        OutOfMemory: a step needs more memory than there is; says what to make smaller.
        Stopped: the watch says so, between two steps; the state is in the checkpoint then.
    """
    first = learners[0].settings
    steps = benchmark.steps(first.batch_size)
    watch = Watch() if watch is None else watch
    begun, done = (
        (1, 0) if checkpoint is None else checkpoint.restore(learners, watch, epochs, steps)
    )
    names = "" if len(learners) > 1 else f" {first.arm}"
    progress = Progress(
        f"{first.benchmark}{names} seed {first.seed}", epochs, steps, show, position=position
    )
    progress.resume((begun - 1) * steps + done)
    watch.begin(learners, teacher, epochs, steps, (begun - 1) * steps + done)
    try:
        for epoch in range(begun, epochs + 1):
            with memory_advice(first.batch_size, first.sequence_length):
                _epoch(benchmark, learners, epoch, teacher, progress, checkpoint, watch, done)
                scores = _end_epoch(benchmark, learners, epoch, teacher)
            done = 0
            if checkpoint is not None and checkpoint.due(learners, steps * epoch):
                checkpoint.save(learners, epoch + 1, 0)
            progress.epoch(epoch, scores)
            watch.epoch(learners, epoch)
            if not scores:
                return
            yield epoch
    finally:
        progress.close()


def _epoch(
    benchmark: Benchmark,
    learners: Sequence[Learner],
    epoch: int,
    teacher: nn.Module | None,
    progress: Progress,
    checkpoint: Checkpoint | None,
    watch: Watch,
    done: int,
) -> None:
    """One epoch from batch ``done`` on."""
    active = [learner for learner in learners if learner.failure is None]
    first = learners[0].settings
    untrained = None
    if any(learner.control == "random_teacher" for learner in active):
        untrained = benchmark.untrained_teacher(first.seed).eval()
    for learner in active:
        learner.model.train()
    before = (epoch - 1) * benchmark.steps(first.batch_size)
    batches = islice(benchmark.batches(first.seed, epoch, first.batch_size), done, None)
    for step, (inputs, targets) in enumerate(batches, done + 1):
        asked = teacher is not None and any(learner.distils for learner in active)
        shared = _ask(benchmark, teacher, untrained, inputs) if asked else None
        for learner in active:
            started = time.perf_counter()
            try:
                learner.step(benchmark, inputs, targets, shared)
            except Diverged as failure:
                learner.failure = failure
            learner.seconds += time.perf_counter() - started
        active = [learner for learner in active if learner.failure is None]
        terms = {le.settings.arm: le.means() for le in active} if progress.due else None
        progress.batch(epoch, terms)
        if checkpoint is not None and checkpoint.due(learners, before + step):
            checkpoint.save(learners, epoch, step)
        if not any(learner.pending for learner in active):
            try:
                watch.step(learners, epoch, step)
            except Stopped:
                if checkpoint is not None:
                    checkpoint.save(learners, epoch, step)
                raise


@torch.no_grad()
def _ask(
    benchmark: Benchmark, teacher: nn.Module, untrained: nn.Module | None, inputs: Tensor
) -> TeacherBatch:
    """What the teacher says about a batch; an untrained one is asked only when it is needed."""
    other = None if untrained is None else lambda: benchmark.outputs(untrained, inputs).features
    return TeacherBatch(benchmark.outputs(teacher, inputs), other)


def _end_epoch(
    benchmark: Benchmark, learners: Sequence[Learner], epoch: int, teacher: nn.Module | None
) -> dict[str, str]:
    """Validate all learners in one pass; arm -> its score in words, for those still training."""
    scores: dict[str, str] = {}
    active = [learner for learner in learners if learner.failure is None]
    models = [learner.model for learner in active]
    found = benchmark.score(models, benchmark.validation, teacher)
    for learner, numbers in zip(active, found, strict=True):
        try:
            learner.end_epoch(epoch, numbers)
        except Diverged as failure:
            learner.failure = failure
            continue
        scores[learner.settings.arm] = benchmark.in_words(numbers)
    return scores


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """One CPU thread inside the block: faster for models this small, and the same bits always.

    The order of additions depends on the number of threads, so a fixed number makes a run the same
    whether it is the only one on the machine or shares it with others. For the same reason torch's
    global switches have their defaults (:func:`~qrkd_lab.devices.default_arithmetic`).
    """
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        with default_arithmetic(device):
            yield
    finally:
        torch.set_num_threads(threads)
