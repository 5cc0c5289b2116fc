"""A learner: a model, the loss it minimises, its optimiser, and what happened so far.

A student of an arm is a learner, and so is the teacher while it is trained on the task alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.arms import TEACHER, get_arm
from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.kernels import Encoder, KernelRelation
from qrkd_lab.kernels.calibration import calibrated
from qrkd_lab.objective import IGNORED, DistillationLoss, Losses, Outputs, TeacherBatch
from qrkd_lab.relations import NotFinite
from qrkd_lab.seeds import derived_seed, seeded
from qrkd_lab.settings import Settings, build_kernel, check_batch
from qrkd_lab.storage import is_number
from qrkd_lab.weights import odd_tensors

__all__ = ["Diverged", "Learner", "make_learner", "teacher_learner"]

FIT, CALIBRATE = 2000, 256  # training samples for the components of pca, and for the bandwidth
FEW_CLASSES = 1000  # up to here the largest logit costs next to nothing, and accuracy says much
MANY = 2**24  # steps: beyond, the optimiser's own count of them does not change any more
_BOOKS = ("history", "seconds", "batches", "_names", "_sums", "_seen")


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
        updates: optimiser steps that its whole training takes.
        history: a dictionary an epoch.
        seconds: spent in this learner's own steps.
        batches: seen so far.
        failure: why it was taken out, if it was.
    """

    settings: Settings
    model: nn.Module
    loss: DistillationLoss
    optimizer: torch.optim.Optimizer
    updates: int
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    batches: int = 0
    failure: Diverged | None = None
    _names: tuple[str, ...] = ()
    _sums: Tensor | float = 0.0
    _seen: Tensor | int = 0
    _group: list[Tensor] = field(default_factory=list)  # predictions of batches that wait
    _first: int = 0  # of the group's first batch

    @property
    def distils(self) -> bool:
        """Whether its loss has a term that asks the teacher."""
        return any(weight > 0 for weight in self.loss.weights.values())

    @property
    def control(self) -> str | None:
        """The control of its kernel term, if it has one."""
        return None if self.loss.relation is None else self.loss.relation.control

    def step(
        self, benchmark: Benchmark, inputs: Tensor, targets: Tensor, teacher: TeacherBatch | None
    ) -> None:
        """Learn from one batch; the optimiser moves after every ``accumulation`` of them.

        It moves along the mean over these batches, or over those that an epoch's end leaves, each
        weighted by its number of predictions that count.

        Raises:
            Diverged: the student's features are not finite.
            ValueError: the batch has too few samples for a term of the loss.
        """
        with self._dropout():
            outputs = benchmark.outputs(self.model, inputs)
        if not self.batches:  # later ones may be smaller: what an epoch leaves over
            active = tuple(name for name, weight in self.loss.weights.items() if weight > 0)
            check_batch(active, len(outputs.features))
        try:
            losses = self.loss(outputs, teacher, targets)
        except NotFinite as error:
            raise self._diverged(str(error)) from error
        counted = (targets != IGNORED).sum()
        self._backward(losses.total, counted, targets.numel())
        self.batches += 1
        if not self.pending:
            self._update()
        self._remember(outputs, losses, targets, counted)

    def _backward(self, total: Tensor, counted: Tensor, predictions: int) -> None:
        """Add to the gradient: 1/accumulation of the batch's, as if all batches were alike.

        Where they are not, :meth:`_update` makes up for it, when it knows them all.
        """
        if self.settings.accumulation > 1:
            if not self._group:
                self._first = predictions
            self._group.append(counted)
            total = total / self.settings.accumulation * (counted / self._first)
        total.backward()

    @property
    def pending(self) -> int:
        """Batches whose gradient the optimiser has not used yet."""
        return self.batches % self.settings.accumulation

    def _dropout(self) -> AbstractContextManager[None]:
        """Dropout draws from torch's global stream: the same masks for all arms at each batch."""
        if not self.settings.dropout:
            return nullcontext()
        return seeded(self.settings.seed, "dropout", self.batches)

    def _update(self) -> None:
        """One step of the optimiser; ``clip_norm`` is of the gradient of all that it moves."""
        moved = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self._group:
            whole = self.settings.accumulation * self._first
            factor = whole / torch.stack(self._group).sum().clamp(min=1)
            for gradient in (p.grad for p in moved if p.grad is not None):
                gradient.mul_(factor)
            self._group.clear()
        if self.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(moved, self.settings.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad()

    @property
    def learning_rate(self) -> float:
        r"""Of the next step; ``cosine``: :math:`\frac{\eta}{2} (1 + \cos \pi u)` after a warm-up.

        u goes from 0 to 1 over the steps that follow the warm-up, a linear rise over 3 % of all.
        """
        s = self.settings
        own = s.arm == TEACHER and s.teacher_learning_rate is not None
        rate = s.teacher_learning_rate if own else s.learning_rate
        if s.schedule == "constant":
            return rate
        done = (self.batches - 1) // s.accumulation
        warm = max(1, round(0.03 * self.updates))
        if done < warm:
            return rate * (done + 1) / warm
        return rate * (1 + math.cos(math.pi * (done - warm) / max(1, self.updates - warm))) / 2

    @torch.no_grad()
    def _remember(self, outputs: Outputs, losses: Losses, targets: Tensor, counted: Tensor) -> None:
        """Add to the epoch's sums; kept as tensors, so that a GPU need not wait."""
        values = [losses.total, *losses.terms.values()]
        self._names = ("total", *losses.terms)
        if outputs.logits.shape[-1] <= FEW_CLASSES:
            right = (outputs.logits.argmax(-1) == targets).sum()  # no class is IGNORED
            values.append(right / counted.clamp(min=1))
            self._names += ("train_accuracy",)
        self._sums = self._sums + counted * torch.stack(values)
        self._seen = self._seen + counted

    def _diverged(self, what: str) -> Diverged:
        return Diverged(
            f"{self.settings.arm} seed {self.settings.seed} diverged in epoch "
            f"{len(self.history) + 1}: {what}; lower learning_rate or the term's weight"
        )

    def means(self) -> dict[str, float]:
        """Mean of each loss term, and the accuracy, over the epoch so far."""
        seen = torch.as_tensor(self._seen).clamp(min=1)
        return dict(zip(self._names, (self._sums / seen).tolist(), strict=True))

    def end_epoch(self, epoch: int, validation: dict[str, float]) -> None:
        """Close the epoch's books.

        Raises:
            Diverged: a mean loss or a validation number is not finite.
        """
        if self.pending:  # an epoch's last batches need not fill an optimiser step
            self.batches += self.settings.accumulation - self.pending
            self._update()
        means = self.means()
        seen = means | {f"validation_{name}": value for name, value in validation.items()}
        bad = [name for name, value in seen.items() if not math.isfinite(value)]
        self._sums, self._seen = 0.0, 0
        if bad:
            raise self._diverged(f"{', '.join(bad)} not finite")
        self.history.append({"epoch": epoch, **seen})

    def state(self) -> dict[str, Any]:
        """Everything that further training depends on: tensors, numbers and words only."""
        return {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "shuffle": None if self.loss.relation is None else self.loss.relation.random_state,
            "failure": None if self.failure is None else str(self.failure),
            **{name: getattr(self, name) for name in _BOOKS},
        }

    def wrong(self, state: Any) -> str:  # noqa: ANN401
        """What in a state from a file is not as :meth:`state` has it, in words; empty if it fits.

        To be asked before :meth:`restore`: a fused optimiser writes wherever a tensor of another
        size says.
        """
        own = self.state()
        if not isinstance(state, dict) or state.keys() != own.keys():
            return f"expected {', '.join(own)}"
        for name in ("model", "loss"):
            if odd := odd_tensors(state[name], own[name]):
                return f"{name}: {odd}"
        moments, parameters = state["optimizer"], self._parameters()
        if not isinstance(moments, dict) or not all(
            type(place) is int and 0 <= place < len(parameters) for place in moments
        ):
            return f"optimizer: expected {len(parameters)} parameters by number"
        for place, held in moments.items():
            like = parameters[place]
            expected = {"step": torch.zeros(()), "exp_avg": like, "exp_avg_sq": like}
            if odd := odd_tensors(held, expected):
                return f"optimizer, parameter {place}: {odd}"
            if not 1 <= (step := held["step"].item()) <= MANY or step % 1:
                return f"optimizer, parameter {place}: step is {step}"
        shuffle, sums, names = state["shuffle"], state["_sums"], state["_names"]
        seen = state["_seen"]
        if isinstance(seen, Tensor):
            seen = seen.item() if seen.shape == () and not seen.is_meta else None
        if self.loss.relation is not None:
            try:
                torch.Generator().set_state(shuffle)
            except (TypeError, RuntimeError) as error:
                return f"shuffle: {error}"
        for name in ("history", "seconds", "batches", "_names"):
            if type(state[name]) is not type(own[name]):
                return f"{name} is {state[name]!r:.60}"
        numbers = [state["seconds"], state["batches"], seen]
        epochs = [epoch if isinstance(epoch, dict) else {"": epoch} for epoch in state["history"]]
        if not all(is_number(n) and n >= 0 for n in numbers) or not all(
            isinstance(name, str) and is_number(n) for epoch in epochs for name, n in epoch.items()
        ):
            return "history, seconds or counts: not numbers"
        if isinstance(sums, Tensor):
            if not sums.is_floating_point() or sums.shape != (len(names),) or sums.is_meta:
                return f"_sums: expected {len(names)} numbers, got {sums.dtype} {tuple(sums.shape)}"
        elif sums != 0:
            return f"_sums is {sums!r:.60}"
        failure = () if state["failure"] is None else (state["failure"],)
        if not all(isinstance(text, str) for text in (*names, *failure)):
            return "names or failure: not text"
        return ""

    def _parameters(self) -> list[Tensor]:
        return [one for group in self.optimizer.param_groups for one in group["params"]]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        parameters = self._parameters()
        moments = {  # laid out in memory like the parameter, which is what the optimiser expects
            place: {
                name: value.clone() if name == "step" else torch.empty_like(like).copy_(value)
                for name, value in held.items()
            }
            for place, held in state["optimizer"].items()
            for like in [parameters[place].detach()]
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.loss.relation is not None:
            self.loss.relation.random_state = state["shuffle"]
        self.failure = None if state["failure"] is None else Diverged(state["failure"])
        for name in _BOOKS:
            setattr(self, name, state[name])
        if isinstance(self._sums, Tensor):  # a checkpoint is read to the CPU
            device = next(self.model.parameters()).device
            self._sums, self._seen = self._sums.to(device), torch.as_tensor(self._seen).to(device)


def teacher_learner(benchmark: Benchmark, settings: Settings) -> Learner:
    """The teacher of a seed, ready to be trained on the task alone."""
    model = benchmark.teacher(settings.seed)
    return _learner(benchmark, settings, model, DistillationLoss(), settings.teacher_epochs)


def make_learner(benchmark: Benchmark, settings: Settings, teacher: nn.Module) -> Learner:
    """The student of an arm, with the loss that its settings describe.

    Args:
        benchmark: gives the student, and the features that a ``pca`` encoder is fitted on.
        settings: of the run.
        teacher: the trained teacher.
    """
    arm = get_arm(settings.arm)
    if settings.tap != "tokens":
        drawn = min(benchmark.samples, settings.epoch_size or benchmark.samples)
        check_batch(arm.terms, min(settings.batch_size, drawn))
    weights = {term: settings.weight(term) for term in arm.terms if term != "kernel"}
    student = benchmark.student(settings.seed)
    relation = None
    if "kernel" in arm.terms:
        relation = _kernel_relation(benchmark, settings, teacher, student)
    loss = DistillationLoss(
        **weights,
        kernel=None if relation is None else (relation, settings.weight("kernel")),
        temperature=settings.temperature,
    )
    return _learner(benchmark, settings, student, loss, settings.epochs)


def _kernel_relation(
    benchmark: Benchmark, settings: Settings, teacher: nn.Module, student: nn.Module
) -> KernelRelation:
    """Kernel and encoder of a run; what is fitted is fitted on the teacher's features alone."""
    kernel = build_kernel(settings)
    encoder = Encoder(
        benchmark.feature_dim(teacher),
        benchmark.feature_dim(student),
        kernel.features or settings.qubits,
        settings.encoder,
        derived_seed(settings.seed, "encoder"),
    )
    fitted = encoder.teacher_side == "pca"
    if fitted or settings.bandwidth is None:
        features = benchmark.features(teacher, FIT if fitted else CALIBRATE).cpu()
        encoder.fit(features)
        if settings.bandwidth is None:
            kernel = calibrated(kernel, encoder.teacher(features[:CALIBRATE]))
    shuffle = derived_seed(settings.seed, "shuffle")
    control = get_arm(settings.arm).control
    return KernelRelation(kernel, encoder, control, shuffle).to(benchmark.device)


def _learner(
    benchmark: Benchmark, settings: Settings, model: nn.Module, loss: DistillationLoss, epochs: int
) -> Learner:
    parameters = [*model.parameters(), *loss.parameters()]
    # One fused kernel for all parameters: the models are so small that launching dominates.
    optimizer = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
    updates = epochs * math.ceil(benchmark.steps(settings.batch_size) / settings.accumulation)
    return Learner(settings, model, loss, optimizer, updates)
