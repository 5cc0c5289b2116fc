"""Training that a notebook can start, pause, stop and look at, while its cells go on.

:class:`LiveRun` is the notebook's end of a pipe, :class:`Worker` the other one, in a process of its
own. What has come so far stands in a :class:`Track`, ready to be drawn at any moment.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from joblib import wrap_non_picklable_objects
from numpy.typing import NDArray
from torch import Tensor

from qrkd_lab.checks import NotFinite
from qrkd_lab.data.fetch import DataError
from qrkd_lab.files import RecordError, check_writable, runs_folder
from qrkd_lab.losses import DistillationLoss, Outputs, TeacherBatch, term_gradients
from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.benchmarks import Benchmark, load_benchmark, name_of
from qrkd_lab.studies.group import find, train_group
from qrkd_lab.studies.records import PUBLISHED, Run, scan_runs
from qrkd_lab.train import Callback, Stopped, Training

__all__ = ["LiveRun", "Order", "Track", "Worker", "pulls_of_terms"]

PULSE, LOOK = 0.2, 0.5  # seconds between two reports of the loss, and of matrices and pulls
MOST = 64  # samples in a matrix
BUSY = ("loading", "training", "paused", "stopping")


@dataclass(frozen=True)
class Order:
    """What is to be trained: the arms of one seed."""

    benchmark: str | Benchmark  # a name, or one of a user's own arrays
    scale: str
    arms: tuple[str, ...]
    seed: int
    settings: Mapping[str, Any]  # whatever differs from the benchmark's defaults
    runs_dir: str | Path | None = None  # of the records, as for compare
    data_dir: str | Path | None = None  # None: $QRKD_DATA_DIR, else the user's cache
    device: str = "auto"  # or cpu, cuda, mps


@dataclass
class Track:
    """What is known of a lockstep so far; ``at`` is always in epochs, with fractions."""

    order: Order | None = None  # what was asked for; None before the first
    arms: tuple[str, ...] = ()  # that train now: the teacher alone, then the students
    epochs: int = 0  # that it will take
    at: float = 0.0  # how far it is
    # By arm: its epochs, as in a record; (at, the mean of each loss term over the epoch so far).
    histories: dict[str, list[Mapping[str, float]]] = field(default_factory=dict)
    pulses: dict[str, list[tuple[float, Mapping[str, float]]]] = field(default_factory=dict)
    # By arm: the teacher's and the student's kernel matrix (n, n) now, and the classes (n,) of
    # their samples, None where there are none, as of a text; the pull of each term now.
    matrices: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    labels: NDArray[Any] | None = None
    pulls: dict[str, Mapping[str, float]] = field(default_factory=dict)
    # By arm: the histories of other seeds that are on the disk, with the same settings.
    others: dict[str, list[Any]] = field(default_factory=dict)
    waits: str = "a process of its own, which loads PyTorch"  # what a start waits for
    runs: list[Run] = field(default_factory=list)  # recorded ones
    reused: list[str] = field(default_factory=list)  # names of those that were on the disk already
    failures: list[str] = field(default_factory=list)

    @property
    def of_teacher(self) -> bool:
        """Whether the teacher is training, and the arms are still to come."""
        return self.arms == (TEACHER,)

    def again(self, order: Order) -> Track:
        """What is known when an order is given: of the same one, the curves so far."""
        if order != self.order:
            return Track(order, tuple(order.arms))
        fresh = {name: [] for name in ("runs", "reused", "failures")}
        return replace(self, arms=tuple(order.arms), waits=Track.waits, **fresh)

    def take(self, kind: str, *said: Any) -> None:  # noqa: ANN401
        """Note what the worker says."""
        match kind, *said:
            case "begin", at, epochs, histories:
                self.at, self.epochs, self.arms = at, epochs, tuple(histories)
                self.histories |= histories
                for arm in histories:  # what lies ahead is trained anew
                    known = self.pulses.get(arm, ())
                    self.pulses[arm] = [point for point in known if point[0] <= at]
            case "pulse", at, terms:
                self.at = at
                for arm, means in terms.items():
                    self.pulses[arm].append((at, means))
            case "epoch", at, epoch:
                self.at = at
                for arm, numbers in epoch.items():
                    self.histories[arm].append(numbers)
            case "waits", text:
                self.waits = text
            case "others", others:
                self.others = others
            case "look", pulls, matrices, labels:
                self.pulls, self.matrices, self.labels = pulls, matrices, labels
            case "run", run, reused:
                self.runs.append(run)
                self.histories[run.settings["arm"]] = list(run.history)
                if reused:
                    self.reused.append(run.name)
                    self.epochs = max(self.epochs, len(run.history))
            case "failed", text:
                self.failures.append(text)


class LiveRun:
    """One training at a time, in a process of its own.

    Attributes:
        state: ``ready``, ``loading``, ``training``, ``paused``, ``stopping``, and at the end
            ``done``, ``stopped`` or ``failed``.
        track: what is known of the last order.

    Args:
        on_change: called whenever there is news, from a thread of its own.

    Example:
        >>> live = LiveRun()
        >>> live.start(Order("digits", "smoke", ("kd", "qrkd"), 0, {}))    # doctest: +SKIP
        >>> live.wait(); live.track.runs                                   # doctest: +SKIP
    """

    def __init__(self, on_change: Callable[[], object] = lambda: None) -> None:
        self.state, self.track, self._on_change = "ready", Track(), on_change
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._idle, self._lock = threading.Event(), threading.Lock()
        self._idle.set()

    @property
    def busy(self) -> bool:
        """Whether something is loading, training, paused or about to stop."""
        return self.state in BUSY

    def start(self, order: Order) -> None:
        """Train, from the disk's records and checkpoints where there are any.

        Raises:
            RuntimeError: something is training already.
        """
        if self.busy:
            raise RuntimeError("a training is under way: stop it first, or wait for its end")
        # Models and functions that were written in the notebook go along as code.
        packed = pickle.dumps(wrap_non_picklable_objects(order, keep_wrapper=False))
        self._warm()
        self.track, self.state = self.track.again(order), "loading"
        self._idle.clear()
        self._on_change()
        with suppress(OSError):  # it has died: the listener says so
            self._pipe.send_bytes(packed)

    def pause(self) -> None:
        """Wait after the present step, or go on after a pause."""
        if self.state in ("training", "paused"):
            self._send("pause" if self.state == "training" else "go on")

    def stop(self) -> None:
        """End after the present step; the last whole epoch is recorded."""
        with self._lock:  # its end may come at this very moment
            if self.state not in ("training", "paused", "loading"):
                return
            self.state = "stopping"
            self._send("stop")
        self._on_change()

    def retire(self) -> None:
        """Stop, and end the process when the last whole epoch is recorded."""
        self.stop()
        if self._process is not None:
            self._send("end")

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for the end of what is training; False if it takes longer."""
        return self._idle.wait(seconds)

    def _warm(self) -> None:
        """Start the process, if there is none: importing torch takes it some seconds."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._listener is not None:
            self._listener.join(20)  # its last words are of the training before
        self._pipe, other = Pipe()
        code = f"from qrkd_lab.teaching.live import Worker; Worker({other.fileno()}).serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[other.fileno()],
            start_new_session=True,  # interrupting the notebook's kernel is not meant for it
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what is to be said comes over the pipe
        )
        other.close()
        self._listener = threading.Thread(target=self._listen, args=(self._pipe,), daemon=True)
        self._listener.start()  # when this Python ends, the pipe does, and so does the process

    def close(self) -> None:
        """Stop, and wait until the process has ended; one that does not is killed."""
        if (process := self._process) is not None:
            self.retire()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            self._listener.join(10)

    def _send(self, word: str) -> None:
        with suppress(OSError):  # it has died: the listener says so
            self._pipe.send(word)

    def _listen(self, pipe: Connection) -> None:
        """Take what the process says, until it has nothing more to say."""
        with suppress(EOFError, OSError):
            while True:
                self._take(*pipe.recv())
        died, self._process = self._process, None
        with suppress(subprocess.TimeoutExpired):
            died.wait(10)
        if self.busy:
            self._take(
                "failed",
                "the training process has died (killed, or out of memory?); what it had "
                "recorded is there, and Start goes on from its last checkpoint",
            )
            self._take("state", "failed")

    def _take(self, kind: str, *said: Any) -> None:  # noqa: ANN401
        with self._lock:
            if kind != "state":
                self.track.take(kind, *said)
            elif self.state != "stopping" or said[0] not in BUSY:
                self.state = said[0]
        if not self.busy:
            self._idle.set()
        self._on_change()


class Worker(Callback):
    """Trains what is ordered through a pipe, reports on it there, and obeys what comes back.

    Args:
        descriptor: of the pipe, as the process has inherited it.
    """

    stops = True

    def __init__(self, descriptor: int) -> None:
        self.pipe = Connection(descriptor)
        self._said = self._next_look = 0.0

    def serve(self) -> None:
        """Carry out one order after the other, until the other end of the pipe is gone."""
        with suppress(EOFError, OSError, KeyboardInterrupt):
            while (order := self.pipe.recv()) != "end":
                if not isinstance(order, Order):
                    continue  # a pause or stop that came too late
                try:
                    self._tell("state", "done" if self._carry_out(order) else "failed")
                except Stopped:
                    self._tell("state", "stopped")
                except Exception as error:  # said in the notebook; the next order may be better
                    known = isinstance(error, (ValueError, ArithmeticError, RecordError, DataError))
                    kind = "" if known else f"{type(error).__name__}: "
                    self._tell("failed", f"{kind}{error}")
                    self._tell("state", "failed")

    def _tell(self, *message: Any) -> None:  # noqa: ANN401
        with suppress(OSError):  # nobody is there any more
            self.pipe.send(message)

    def _carry_out(self, order: Order) -> bool:
        """Train what is not on record; whether all arms could be trained."""
        self._tell(
            "waits", f"the data of {name_of(order.benchmark)} (downloaded if they are not here yet)"
        )
        self.benchmark = benchmark = load_benchmark(
            order.benchmark, order.scale, order.data_dir, order.device, **order.settings
        )
        folder = runs_folder(order.runs_dir)
        check_writable(folder)
        self._tell("waits", f"the records in {folder}")
        self._tell("others", _other_seeds(benchmark, order, folder))
        missing, whole = [], True
        for arm in order.arms:
            settings = benchmark.settings.replace(arm=arm, seed=order.seed)
            run = find(benchmark, settings, folder)
            if run is None:
                missing.append(settings)
            else:
                self._tell("run", run, True)
        self._tell("waits", "the teacher, and the bandwidths of the kernels")
        for result in train_group(benchmark, missing, folder, [self]) if missing else ():
            if isinstance(result, Run):
                self._tell("run", result, False)
            else:
                whole = False
                self._tell("failed", str(result))
        return whole

    def begin(self, training: Training) -> None:
        settings, seen = training.learners[0].settings, self.benchmark
        if training.teacher is not None:
            seen = seen.of_students(settings.seed)
        self.batch = next(iter(seen.batches(settings.seed, 1, settings.batch_size)))
        histories = {le.settings.arm: list(le.history) for le in training.learners}
        self._tell("begin", _at(training), training.epochs, histories)
        self._tell("state", "training")
        self._look(training)

    def step(self, training: Training) -> None:
        now = time.monotonic()
        if now - self._said >= PULSE:
            self._said = now
            terms = {le.settings.arm: le.means() for le in training.active}
            self._tell("pulse", _at(training), terms)
        if now >= self._next_look:
            self._look(training)
        try:
            self._obey()
        except Stopped:
            self._look(training)  # as it is left
            raise

    def epoch(self, training: Training) -> None:
        histories = {le.settings.arm: le.history[-1] for le in training.active}
        self._tell("epoch", _at(training), histories)
        if time.monotonic() >= self._next_look or training.done == training.epochs:
            self._look(training)

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
                    self._tell("state", "paused" if paused else "training")
        except (EOFError, OSError):
            raise Stopped from None  # nobody is there any more

    @torch.no_grad()
    def _look(self, training: Training) -> None:
        """Send what each arm makes of the first batch: the pull of its terms, and its matrices."""
        if training.teacher is None:
            return
        started = time.monotonic()
        inputs, targets = self.batch
        taught, pulls, matrices = training.teacher(inputs), {}, {}
        for learner in training.active:
            arm, relation = learner.settings.arm, learner.loss.relation
            mode = learner.model.training
            learner.model.eval()
            with torch.enable_grad():
                outputs = self.benchmark.outputs(learner.model, inputs)
            learner.model.train(mode)
            with suppress(NotFinite):  # the next step says so
                pulls[arm] = pulls_of_terms(learner.loss, outputs, taught, targets)
            if relation is not None:
                angles = relation.encoder.student(outputs.features)
                pair = [relation.teacher(taught.outputs.features), relation.kernel(angles)]
                matrices[arm] = [m.cpu()[:MOST, :MOST].numpy() for m in pair]
        of_samples = targets.ndim == 1 and len(targets) == len(taught.outputs.features)
        labels = targets[:MOST].cpu().numpy() if of_samples else None
        self._tell("look", pulls, matrices, labels)
        now = time.monotonic()
        self._next_look = now + max(LOOK, 4 * (now - started))  # a fifth of the time at most


def pulls_of_terms(
    loss: DistillationLoss, student: Outputs, teacher: TeacherBatch, targets: Tensor
) -> dict[str, float]:
    r"""How hard each term of a loss pulls at the student's features f of one batch.

    .. math:: \lVert \nabla_f \, w_{term} L_{term} \rVert, \qquad
              \text{dose} = \frac{\lVert \nabla_f \, w_k L_{kernel} \rVert}
              {\lVert \nabla_f (w_d L_{distance} + w_a L_{angle}) \rVert}

    Args:
        loss: of the arm; it is left as it was.
        student: with its graph. Where the logits do not come from the features ``(n, d)``, as of
            pooled ones, task and kd are left out.
        teacher, targets: of the same batch.

    Returns:
        Term to its pull; and ``dose``, where there are a kernel and another relation. Relations of
        one's own count there as distance and angle do.
    """
    held = None if loss.relation is None else loss.relation.generator.get_state()
    with torch.enable_grad():
        losses = loss(student, teacher, targets)
        found = term_gradients(losses, [student.features])
    if held is not None:
        loss.relation.generator.set_state(held)  # the permutations of training stay the same
    if not found["task"].any():
        found = {name: found[name] for name in found if name not in ("task", "kd")}
    weights = {"task": 1.0, **loss.weights}
    own = {name: weights[name] * gradient for name, gradient in found.items()}
    pulls = {name: gradient.norm().item() for name, gradient in own.items()}
    classical = sum(own.get(name, 0) for name in loss.relations)
    if "kernel" in own and isinstance(classical, Tensor) and classical.norm() > 0:
        pulls["dose"] = pulls["kernel"] / classical.norm().item()
    if loss.pulls:  # a dose has chosen weights of its own for this batch
        relations = own.keys() - {"task", "kd"}
        pulls |= {name: loss.pulls[f"{name}_pull"].item() for name in relations}
        pulls["dose"] = loss.pulls["kernel_dose"].item()
    return pulls


def _other_seeds(benchmark: Benchmark, order: Order, folder: Path) -> dict[str, list[Any]]:
    """Arm to the histories of its other seeds in the folder, or that came with the kit."""
    wanted, seeds = {arm: benchmark.settings.replace(arm=arm) for arm in order.arms}, set()
    found: dict[str, list[Any]] = {arm: [] for arm in order.arms}
    home = (benchmark.settings.benchmark, benchmark.settings.scale)
    for run in scan_runs([folder, PUBLISHED], *home)[0]:
        arm, seed = run.settings["arm"], run.settings["seed"]
        if arm not in wanted or seed == order.seed or (arm, seed) in seeds:
            continue
        same = run.settings == wanted[arm].replace(seed=seed).effective()
        if same and run.data["sha256"] == benchmark.data.sha256:
            seeds.add((arm, seed))
            found[arm].append(list(run.history))
    return found


def _at(training: Training) -> float:
    """How far a training is, in epochs."""
    return training.batches / training.steps
