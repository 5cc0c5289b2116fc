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
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

import torch
from torch import Tensor, nn
from tqdm import tqdm

from qrkd_lab.files import is_number
from qrkd_lab.kernels.encoders import Encoder, KernelRelation, calibrated
from qrkd_lab.losses import IGNORED, DistillationLoss, Losses, Outputs, TeacherBatch
from qrkd_lab.relations import NotFinite
from qrkd_lab.seeds import derived_seed, seeded
from qrkd_lab.studies.records import odd_tensors
from qrkd_lab.studies.settings import TEACHER, Settings, build_kernel, check_batch, get_arm

if TYPE_CHECKING:
    from qrkd_lab.studies.benchmarks import Benchmark
    from qrkd_lab.studies.checkpoint import Checkpoint

__all__ = [
    "Diverged",
    "Learner",
    "OutOfMemory",
    "Progress",
    "Stopped",
    "Watch",
    "default_arithmetic",
    "duration",
    "make_learner",
    "memory_advice",
    "one_thread",
    "pick_device",
    "teacher_learner",
    "train",
]


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
    global switches have their defaults (:func:`~qrkd_lab.train.default_arithmetic`).
    """
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        with default_arithmetic(device):
            yield
    finally:
        torch.set_num_threads(threads)


# ---- learner


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


# ---- watch


class Stopped(Exception):
    """A watch has ended a training before its last epoch; what was recorded stays."""


class Watch:
    """Looks on and does nothing; override what you want to know.

    Whatever a watch does, the numbers of the runs stay the same: it must not draw from torch's
    global random stream, and it leaves models in training mode.
    """

    def begin(
        self,
        learners: Sequence[Learner],
        teacher: nn.Module | None,
        epochs: int,
        steps: int,
        done: int,
    ) -> None:
        """A lockstep begins, or goes on.

        Args:
            learners: the teacher alone, or all arms.
            teacher: trained; None while it is trained itself.
            epochs, steps: epochs to go through, and batches in each.
            done: batches that a checkpoint had of it.
        """

    def step(self, learners: Sequence[Learner], epoch: int, step: int) -> None:
        """A batch is done, and no gradient waits for another; may wait, may raise
        :class:`Stopped`."""

    def epoch(self, learners: Sequence[Learner], epoch: int) -> None:
        """An epoch is done and validated."""

    def note(self, text: str) -> None:
        """Something to know, which standard error says where nobody watches."""
        print(text, file=sys.stderr)


# ---- progress


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


# ---- devices


# torch's switches that change numbers, and their defaults: first those of several operations, then
# those of one. Which there are depends on torch's version.
_SWITCHES = (
    (torch.backends, "fp32_precision", "none"),
    (torch.backends.cudnn, "fp32_precision", "none"),
    (torch.backends.cudnn, "allow_tf32", True),
    (getattr(torch.backends.cudnn, "conv", None), "fp32_precision", "tf32"),
    (getattr(torch.backends.cudnn, "rnn", None), "fp32_precision", "tf32"),
    (torch.backends.cuda.matmul, "fp32_precision", "ieee"),
    *(
        (getattr(torch.backends.mkldnn, name, None), "fp32_precision", "ieee")
        for name in ("matmul", "conv", "rnn")
    ),
    (torch.backends.cudnn, "enabled", True),
    (torch.backends.cudnn, "benchmark", False),
    (torch.backends.cudnn, "deterministic", False),
    (torch.backends.mkldnn, "enabled", True),
    (torch.backends.mkldnn, "deterministic", False),
    (torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction", True),
    (torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction", True),
    (torch.backends.cuda.matmul, "allow_fp16_accumulation", False),
)
_CALLS = (
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode, 0),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp, True),
    (
        torch.backends.cuda.mem_efficient_sdp_enabled,
        torch.backends.cuda.enable_mem_efficient_sdp,
        True,
    ),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp, True),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp, True),
)


class OutOfMemory(RuntimeError):
    """A step needs more memory than there is; the message says what to make smaller."""


@contextmanager
def memory_advice(batch: int, length: int | None = None) -> Iterator[None]:
    """Turn torch's error for a lack of memory into advice.

    Args:
        batch: samples a batch.
        length: tokens a sample, if it is text.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError
        said = str(error) or type(error).__name__
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and "can't allocate memory" not in said and "out of memory" not in said:
            raise
        what = f"{batch} samples" if length is None else f"{batch} sequences of {length} tokens"
        shorter = "" if length is None else " or sequence_length"
        raise OutOfMemory(
            f"not enough memory for batches of {what}: use a smaller batch_size{shorter}. With "
            f"batch_size={max(1, batch // 2)} and twice the accumulation the optimiser sees "
            f"as many a step as before; relations are within a batch. ({said.splitlines()[0]})"
        ) from error


@contextmanager
def default_arithmetic(device: torch.device | None = None) -> Iterator[None]:
    """Inside the block torch computes by its own defaults, whatever was switched before.

    A record names the settings of a run, not torch's global switches, so these must not change its
    numbers: precision of float32 products (``torch.set_float32_matmul_precision``, TF32), cuDNN's,
    oneDNN's and NNPACK's choice of algorithms, attention's, deterministic mode, default dtype and
    device, flushing of denormal numbers, autocast, ``no_grad`` and ``inference_mode`` around the
    call. They are put back at the end.

    Args:
        device: where is computed, if not on the CPU alone.
    """
    precision = _known(torch.get_float32_matmul_precision)
    flushes = (torch.full((1,), 1e-40, dtype=torch.float32, device="cpu") * 1).item() == 0
    with ExitStack() as stack:
        for of, name, value in _SWITCHES:
            if (old := _known(getattr, of, name, None)) not in (None, value):
                stack.callback(setattr, of, name, old)
                setattr(of, name, value)
        for get, put, value in _CALLS:
            stack.callback(put, get())
            put(value)
        if precision is not None:
            stack.callback(torch.set_float32_matmul_precision, precision)
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        stack.callback(torch.set_flush_denormal, flushes)
        torch.set_flush_denormal(False)
        stack.enter_context(torch.backends.nnpack.flags(True))
        for kind in {"cpu", "cpu" if device is None else device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


def _known(get: Callable[..., Any], *of: Any) -> Any:  # noqa: ANN401
    """What a switch is; None where torch says that it was set by another of its names."""
    try:
        return get(*of)
    except RuntimeError:
        return None


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device of a name; ``"auto"`` takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        ValueError: the name is no torch device, or this machine has none of it.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if str(name) == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is none of torch's; try 'auto' or 'cpu'") from error
    if not there.get(device.type, False):
        choices = ", ".join(kind for kind, available in there.items() if available)
        raise ValueError(f"device {name!r} is not available on this machine; here: auto, {choices}")
    return device
