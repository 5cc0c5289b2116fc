"""The training loop: all students of one seed in lockstep, on the same batches.

Every student starts from the same weights and sees the same batches in the same order; its numbers
are the same as alone, bit for bit. A teacher is trained by the same loop, with the task loss alone.
The last epoch's weights are the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.checks import NotFinite
from qrkd_lab.losses import DistillationLoss, Losses, Outputs, TeacherBatch, check_batch
from qrkd_lab.seeds import seeded
from qrkd_lab.tasks import Classification

__all__ = ["Callback", "Diverged", "Learner", "Stopped", "Training", "odd_tensors", "train"]

FEW_CLASSES = 1000  # up to here the largest logit costs next to nothing, and accuracy says much
_SAVED = ("history", "seconds", "batches", "_names", "_sums", "_seen")

Teacher = Callable[[Any], TeacherBatch]


def train(
    learners: Sequence[Learner],
    batches: Callable[[int], Iterable[tuple[Any, Tensor]]],
    steps: int,
    epochs: int,
    teacher: Teacher | None = None,
    callbacks: Sequence[Callback] = (),
) -> Iterator[int]:
    """Train all learners in lockstep; yields the number of each epoch when it is done.

    A learner that diverges gets a ``failure`` and is left out from then on.

    Args:
        learners: of one seed; each from the same initial student.
        batches: the inputs and targets of an epoch's batches, by the epoch's number (from 1).
        steps: batches in each epoch.
        epochs: how many.
        teacher: what the teacher says about a batch's inputs; asked once per batch, where a learner
            has a distillation term. None: there is none.
        callbacks: told of every step and epoch, in this order.

    Raises:
        Stopped: a callback says so, between two steps.

    Example:
        >>> net, batch = nn.Linear(4, 2), (torch.randn(6, 4), torch.arange(6) % 2)
        >>> adam = torch.optim.Adam(net.parameters())
        >>> learner = Learner(
        ...     "scratch", net, DistillationLoss(), adam, lambda model, x: Outputs(model(x), x)
        ... )
        >>> list(train([learner], lambda epoch: [batch], steps=1, epochs=2))
        [1, 2]
    """
    training = Training(learners, epochs, steps, teacher)
    any(callback.resume(training) for callback in callbacks)
    for callback in callbacks:
        callback.begin(training)
    try:
        while training.done < epochs:
            epoch = training.done + 1
            for learner in training.active:
                learner.model.train()
            for inputs, targets in islice(batches(epoch), training.step, None):
                asked = teacher is not None and any(one.distils for one in training.active)
                taught = teacher(inputs) if asked else None
                for learner in training.active:
                    with learner.watched():
                        learner.step(inputs, targets, taught)
                training.step += 1
                if not any(learner.pending for learner in training.active):
                    for callback in callbacks:
                        callback.step(training)
            for learner in training.active:
                with learner.watched():
                    learner.end_epoch(epoch)
            training.done, training.step = epoch, 0
            for callback in callbacks:
                callback.epoch(training)
            if not training.active:
                return
            yield epoch
    except Stopped:
        for callback in callbacks:
            callback.stop(training)
        raise
    finally:
        for callback in callbacks:
            callback.end()


@dataclass
class Training:
    """What is trained, and how far it is."""

    learners: Sequence[Learner]
    epochs: int
    steps: int  # batches in each epoch
    teacher: Teacher | None = None
    done: int = 0  # whole epochs
    step: int = 0  # batches of the next one that are done

    @property
    def active(self) -> list[Learner]:
        """The learners that have not diverged."""
        return [learner for learner in self.learners if learner.failure is None]

    @property
    def batches(self) -> int:
        """Batches done, of all ``epochs * steps``."""
        return self.done * self.steps + self.step


class Diverged(ArithmeticError):
    """A loss became NaN or infinite; the other learners went on without this one."""


class Stopped(Exception):
    """A callback has ended a training before its last epoch."""


class Callback:
    """Is told of a training and does nothing; override what you want to know.

    It must not draw from torch's global random stream, and it leaves models in training mode.
    """

    stops = False  # whether it may raise Stopped

    def resume(self, training: Training) -> bool:
        """Put the learners, ``done`` and ``step`` where they were; whether that was possible."""
        return False

    def begin(self, training: Training) -> None:
        """A training begins, or goes on."""

    def step(self, training: Training) -> None:
        """A batch is done, and no gradient waits for another; may wait, or raise ``Stopped``."""

    def epoch(self, training: Training) -> None:
        """An epoch is done, and in each learner's ``history``."""

    def stop(self, training: Training) -> None:
        """A callback has stopped the training here."""

    def end(self) -> None:
        """The training is left, whatever the reason."""


@dataclass
class Learner:
    """A model that learns: its loss, its optimiser, and what happened so far."""

    name: str  # of the arm, for messages
    model: nn.Module  # the student (or the teacher, when the teacher is trained)
    loss: DistillationLoss  # its parameters (an adapter) are trained along
    optimizer: torch.optim.Optimizer  # over the parameters of both
    outputs: Callable[[nn.Module, Any], Outputs]  # of the model on a batch's inputs
    seed: int = 0  # of the dropout masks
    rate: Callable[[int], float] | None = None  # by steps done before; None: the optimiser's own
    accumulation: int = 1  # batches per optimiser step; relations are within a batch
    clip_norm: float | None = None  # of the gradient of each of the optimiser's groups
    dropout: bool = False  # whether the model draws from torch's global stream
    unlabelled: bool = False  # whether some samples have no label: then no accuracy is taken
    settings: Any = None  # of the run; training does not read them
    history: list[dict[str, float]] = field(default_factory=list)  # a dictionary per epoch
    seconds: float = 0.0  # spent in this learner's own steps
    batches: int = 0  # seen so far
    failure: Diverged | None = None  # why it was taken out, if it was
    _names: tuple[str, ...] = ()
    _sums: Tensor | float = 0.0
    _seen: Tensor | int = 0
    _group: list[Tensor] = field(default_factory=list)  # predictions of batches that wait
    _first: int = 0  # of the group's first batch

    @property
    def distils(self) -> bool:
        """Whether its loss has a term that asks the teacher."""
        return bool(self.loss.active)

    @property
    def pending(self) -> int:
        """Batches whose gradient the optimiser has not used yet."""
        return self.batches % self.accumulation

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Count the time of the block; a learner that diverges in it is taken out."""
        started = time.perf_counter()
        try:
            yield
        except Diverged as failure:
            self.failure = failure
        self.seconds += time.perf_counter() - started

    def step(self, inputs: Any, targets: Tensor, teacher: TeacherBatch | None) -> None:  # noqa: ANN401
        """Learn from one batch; the optimiser moves after every ``accumulation`` of them.

        It moves along the mean over these batches, weighted by their predictions that count.
        """
        # Dropout's masks are the same for all arms at each batch.
        masks = seeded(self.seed, "dropout", self.batches) if self.dropout else nullcontext()
        with masks:
            outputs = self.outputs(self.model, inputs)
        if not self.batches:  # later ones may be smaller: what an epoch leaves over
            check_batch(self.loss.active, len(outputs.features))
        try:
            losses = self.loss(outputs, teacher, targets)
        except NotFinite as error:
            raise self.diverged(str(error)) from error
        which = self.loss.task.counted(targets)
        counted = which.sum()
        if self.accumulation == 1:
            losses.total.backward()
        else:  # 1 / accumulation of the gradient; _update corrects for unequal batches
            if not self._group:
                self._first = len(which)
            self._group.append(counted)
            (losses.total / self.accumulation * (counted / self._first)).backward()
        self.batches += 1
        if not self.pending:
            self._update()
        self._remember(outputs, losses, targets, counted)

    def _update(self) -> None:
        """One step of the optimiser."""
        if self._group:
            factor = self.accumulation * self._first / torch.stack(self._group).sum().clamp(min=1)
            for gradient in (p.grad for p in self._parameters() if p.grad is not None):
                gradient.mul_(factor)
            self._group.clear()
        for group in self.optimizer.param_groups:
            if self.clip_norm is not None:
                nn.utils.clip_grad_norm_(group["params"], self.clip_norm)
            if self.rate is not None:
                group["lr"] = self.rate((self.batches - 1) // self.accumulation)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _parameters(self) -> list[Tensor]:
        return [one for group in self.optimizer.param_groups for one in group["params"]]

    @torch.no_grad()
    def _remember(self, outputs: Outputs, losses: Losses, targets: Tensor, counted: Tensor) -> None:
        """Add to the epoch's sums; kept as tensors, so that a GPU need not wait."""
        values = [losses.total, *losses.terms.values(), *self.loss.pulls.values()]
        self._names = ("total", *losses.terms, *self.loss.pulls)
        classes = outputs.logits.shape[-1] if isinstance(self.loss.task, Classification) else None
        if classes is not None and classes <= FEW_CLASSES and not self.unlabelled:
            values.append(self.loss.task.score(outputs.logits, targets))
            self._names += ("train_accuracy",)
        self._sums = self._sums + counted * torch.stack(values)
        self._seen = self._seen + counted

    def means(self) -> dict[str, float]:
        """Mean of each loss term, and the accuracy, over the epoch so far."""
        seen = torch.as_tensor(self._seen).clamp(min=1)
        return dict(zip(self._names, (self._sums / seen).tolist(), strict=True))

    def end_epoch(self, epoch: int) -> None:
        """Use the gradient that waits, and add the epoch to the history."""
        if self.pending:  # an epoch's last batches need not fill an optimiser step
            self.batches += self.accumulation - self.pending
            self._update()
        self.history.append({"epoch": epoch})
        self.add_to_history(self.means())
        self._sums, self._seen = 0.0, 0

    def add_to_history(self, numbers: Mapping[str, float]) -> None:
        """More numbers of the last epoch; raises Diverged if one of them is not finite."""
        if bad := [name for name, value in numbers.items() if not math.isfinite(value)]:
            epoch = self.history.pop()["epoch"]
            raise self.diverged(f"{', '.join(bad)} not finite", epoch)
        self.history[-1] |= numbers

    def diverged(self, what: str, epoch: float | None = None) -> Diverged:
        epoch = len(self.history) + 1 if epoch is None else epoch
        return Diverged(
            f"{self.name} seed {self.seed} diverged in epoch {epoch}: {what}; lower learning_rate "
            "or the term's weight"
        )

    def state(self) -> dict[str, Any]:
        """Everything that further training depends on: tensors, numbers and words only."""
        relation = self.loss.relation
        return {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "shuffle": None if relation is None else relation.generator.get_state(),
            "failure": None if self.failure is None else str(self.failure),
            **{name: getattr(self, name) for name in _SAVED},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        parameters = dict(enumerate(self._parameters()))
        moments = {  # in sizes and layouts of its own, which a fused optimiser does not check
            place: {
                name: (torch.zeros(()) if name == "step" else torch.empty_like(like)).copy_(value)
                for name, value in held.items()
            }
            for place, held in state["optimizer"].items()
            for like in [parameters[place].detach()]
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        if self.loss.relation is not None:
            self.loss.relation.generator.set_state(state["shuffle"])
        self.failure = None if state["failure"] is None else Diverged(state["failure"])
        for name in _SAVED:
            setattr(self, name, state[name])
        if isinstance(self._sums, Tensor):  # a checkpoint is read to the CPU
            device = next(self.model.parameters()).device
            self._sums, self._seen = self._sums.to(device), torch.as_tensor(self._seen).to(device)


def odd_tensors(found: Any, expected: Mapping[str, Tensor]) -> str:  # noqa: ANN401
    """What in ``found`` is not a tensor of the expected name, type and shape; empty if all are."""
    if not isinstance(found, Mapping) or found.keys() != expected.keys():
        got = sorted(map(str, found)) if isinstance(found, Mapping) else found
        return f"expected {', '.join(sorted(expected)) or 'nothing'}, got {got!r:.200}"
    for name, tensor in expected.items():
        kind = (tensor.dtype, tensor.shape, tensor.layout)
        one = found[name]
        is_one = isinstance(one, Tensor) and not one.is_meta
        if not is_one or (one.dtype, one.shape, one.layout) != kind:
            got = f"{one.dtype} {tuple(one.shape)}" if is_one else repr(one)
            return f"{name}: expected {tensor.dtype} {tuple(tensor.shape)}, got {got:.200}"
    return ""
