"""The one training loop: all arms of one seed side by side, in lockstep, on the same batches.

Every arm starts from the same student and sees the same batches in the same order, so a comparison
is paired by construction. The teacher's forward pass and its relations are computed once a batch
and shared. An arm's numbers do not depend on which arms it trains beside: they are the same as
alone, bit for bit.

Training a teacher is the same loop with one learner and the task loss alone. The last epoch's
weights are the result; no epoch is picked, by validation or by test.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from qrkd_lab.arms import get_arm
from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.kernels import Encoder, KernelRelation
from qrkd_lab.kernels.calibration import calibrated
from qrkd_lab.objective import DistillationLoss, Losses, Outputs, TeacherBatch
from qrkd_lab.progress import Progress
from qrkd_lab.relations import NotFinite
from qrkd_lab.seeds import derived_seed
from qrkd_lab.settings import Settings, build_kernel, check_batch

FIT, CALIBRATE = 2000, 256  # training samples for the components of pca, and for the bandwidth

__all__ = ["Diverged", "Learner", "make_learner", "one_thread", "teacher_learner", "train"]


class Diverged(ArithmeticError):
    """An arm's loss became NaN or infinite; the others went on without it."""


@dataclass
class Learner:
    """A model that learns: its loss, its optimiser, and what happened so far.

    Attributes:
        settings: of this run; ``settings.arm`` names it.
        model: the student (or the teacher, when the teacher is trained).
        loss: what it minimises; its parameters (an adapter) are trained along.
        optimizer: over both.
        history: a dictionary an epoch.
        seconds: spent in this learner's own steps.
        failure: why it was taken out, if it was.
    """

    settings: Settings
    model: nn.Module
    loss: DistillationLoss
    optimizer: torch.optim.Optimizer
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    failure: Diverged | None = None
    _names: tuple[str, ...] = ()
    _sums: Tensor | float = 0.0
    _seen: int = 0

    def step(
        self, benchmark: Benchmark, inputs: Tensor, targets: Tensor, teacher: TeacherBatch | None
    ) -> None:
        """One optimiser step on one batch.

        Raises:
            Diverged: the student's features are not finite.
        """
        outputs = benchmark.outputs(self.model, inputs)
        try:
            losses = self.loss(outputs, teacher, targets)
        except NotFinite as error:
            raise self._diverged(str(error)) from error
        self.optimizer.zero_grad()
        losses.total.backward()
        self.optimizer.step()
        self._remember(outputs, losses, targets)

    @torch.no_grad()
    def _remember(self, outputs: Outputs, losses: Losses, targets: Tensor) -> None:
        """Add to the epoch's sums; kept as a tensor, so that a GPU need not wait."""
        correct = (outputs.logits.argmax(-1) == targets).float().mean()
        values = torch.stack([losses.total, *losses.terms.values(), correct])
        self._names = ("total", *losses.terms, "train_accuracy")
        self._sums = self._sums + len(targets) * values
        self._seen += len(targets)

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"{self.settings.arm} seed {self.settings.seed} diverged in epoch "
            f"{len(self.history) + 1}: {what}; lower learning_rate or the term's weight"
        )

    def means(self) -> dict[str, float]:
        """Mean of each loss term, and the accuracy, over the epoch so far."""
        return dict(zip(self._names, (self._sums / self._seen).tolist(), strict=True))

    def end_epoch(self, epoch: int, validation: dict[str, float]) -> None:
        """Close the epoch's books.

        Raises:
            Diverged: a mean loss is not finite.
        """
        means = self.means()
        bad = [name for name, value in means.items() if not math.isfinite(value)]
        self._sums, self._seen = 0.0, 0
        if bad:
            raise self._diverged(f"{', '.join(bad)} not finite")
        named = {f"validation_{name}": value for name, value in validation.items()}
        self.history.append({"epoch": epoch, **means, **named})


def teacher_learner(benchmark: Benchmark, settings: Settings) -> Learner:
    """The teacher of a seed, ready to be trained on the task alone."""
    return _learner(settings, benchmark.teacher(settings.seed), DistillationLoss())


def make_learner(benchmark: Benchmark, settings: Settings, teacher: nn.Module) -> Learner:
    """The student of an arm, with the loss that its settings describe.

    Args:
        benchmark: gives the student, and the features that a ``pca`` encoder is fitted on.
        settings: of the run.
        teacher: the trained teacher.
    """
    arm = get_arm(settings.arm)
    check_batch(arm.terms, min(settings.batch_size, len(benchmark.train)))
    weights = {term: getattr(settings, f"{term}_weight") for term in arm.terms if term != "kernel"}
    student = benchmark.student(settings.seed)
    relation = None
    if "kernel" in arm.terms:
        relation = _kernel_relation(benchmark, settings, teacher, student.feature_dim)
    loss = DistillationLoss(
        **weights,
        kernel=None if relation is None else (relation, settings.kernel_weight),
        temperature=settings.temperature,
    )
    return _learner(settings, student, loss)


def _kernel_relation(
    benchmark: Benchmark, settings: Settings, teacher: nn.Module, student_dim: int
) -> KernelRelation:
    """Kernel and encoder of a run; what is fitted is fitted on the teacher's features alone."""
    kernel = build_kernel(settings)
    encoder = Encoder(
        teacher.feature_dim,
        student_dim,
        kernel.features or settings.qubits,
        settings.encoder,
        derived_seed(settings.seed, "encoder"),
    )
    features = benchmark.predict(teacher, benchmark.train[:FIT]).features.cpu()
    encoder.fit(features)
    if settings.bandwidth is None:
        kernel = calibrated(kernel, encoder.teacher(features[:CALIBRATE]))
    shuffle = derived_seed(settings.seed, "shuffle")
    control = get_arm(settings.arm).control
    return KernelRelation(kernel, encoder, control, shuffle).to(benchmark.device)


def _learner(settings: Settings, model: nn.Module, loss: DistillationLoss) -> Learner:
    parameters = [*model.parameters(), *loss.parameters()]
    # One fused kernel for all parameters: the models are so small that launching dominates.
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
    return Learner(settings, model, loss, optimizer)


def train(
    benchmark: Benchmark,
    learners: Sequence[Learner],
    epochs: int,
    teacher: nn.Module | None = None,
    show: bool = True,
    position: int = 0,
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
    """
    first = learners[0].settings
    steps = math.ceil(len(benchmark.train) / first.batch_size)
    names = "" if len(learners) > 1 else f" {first.arm}"
    progress = Progress(
        f"{first.benchmark}{names} seed {first.seed}", epochs, steps, show, position=position
    )
    believed = None if teacher is None else benchmark.predict(teacher, benchmark.validation)
    try:
        for epoch in range(1, epochs + 1):
            _epoch(benchmark, learners, epoch, teacher, progress)
            scores = _end_epoch(benchmark, learners, epoch, believed)
            progress.epoch(epoch, scores)
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
) -> None:
    active = [learner for learner in learners if learner.failure is None]
    first = learners[0].settings
    untrained = None
    if any(get_control(learner) == "random_teacher" for learner in active):
        untrained = benchmark.teacher(derived_seed(first.seed, "random teacher")).eval()
    for learner in active:
        learner.model.train()
    for inputs, targets in benchmark.batches(first.seed, epoch, first.batch_size):
        shared = None if teacher is None else _ask(benchmark, teacher, untrained, inputs)
        for learner in active:
            before = time.perf_counter()
            try:
                learner.step(benchmark, inputs, targets, shared)
            except Diverged as failure:
                learner.failure = failure
            learner.seconds += time.perf_counter() - before
        active = [learner for learner in active if learner.failure is None]
        terms = {le.settings.arm: le.means() for le in active} if progress.due else None
        progress.batch(epoch, terms)


@torch.no_grad()
def _ask(
    benchmark: Benchmark, teacher: nn.Module, untrained: nn.Module | None, inputs: Tensor
) -> TeacherBatch:
    """What the teacher says about a batch; an untrained one is asked only when it is needed."""
    other = None if untrained is None else lambda: benchmark.outputs(untrained, inputs).features
    return TeacherBatch(benchmark.outputs(teacher, inputs), other)


def _end_epoch(
    benchmark: Benchmark, learners: Sequence[Learner], epoch: int, believed: Outputs | None
) -> dict[str, str]:
    """Validate each learner; returns arm -> its score in words, for those still training."""
    scores: dict[str, str] = {}
    for learner in learners:
        if learner.failure is not None:
            continue
        said = benchmark.predict(learner.model, benchmark.validation)
        numbers = benchmark.evaluate(benchmark.validation, said, believed)
        try:
            learner.end_epoch(epoch, numbers)
        except Diverged as failure:
            learner.failure = failure
            continue
        scores[learner.settings.arm] = f"{100 * numbers['accuracy']:.1f}%"
    return scores


def get_control(learner: Learner) -> str | None:
    """The control of a learner's kernel term, if it has one."""
    relation = learner.loss.relation
    return None if relation is None else relation.control


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """One CPU thread inside the block: faster for models this small, and the same bits always.

    The order of additions depends on the number of threads, so a fixed number makes a run the same
    whether it is the only one on the machine or shares it with others.
    """
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
