"""A learner: a model, the loss it minimises, its optimiser, and what happened so far.

A student of an arm is a learner, and so is the teacher while it is trained on the task alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from qrkd_lab.arms import get_arm
from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.kernels import Encoder, KernelRelation
from qrkd_lab.kernels.calibration import calibrated
from qrkd_lab.objective import DistillationLoss, Losses, Outputs, TeacherBatch
from qrkd_lab.relations import NotFinite
from qrkd_lab.seeds import derived_seed
from qrkd_lab.settings import Settings, build_kernel, check_batch

__all__ = ["Diverged", "Learner", "make_learner", "teacher_learner"]

FIT, CALIBRATE = 2000, 256  # training samples for the components of pca, and for the bandwidth


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

    @property
    def control(self) -> str | None:
        """The control of its kernel term, if it has one."""
        return None if self.loss.relation is None else self.loss.relation.control

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
    if encoder.teacher_side == "pca" or settings.bandwidth is None:
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
