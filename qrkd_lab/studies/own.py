"""A benchmark of one's own: arrays, a teacher and a student.

What a run computes is identified by content. A hash of the arrays is part of its key as for any
benchmark; ``teacher_sha256`` and ``student_sha256`` among its settings are hashes of the models: of
their layers, their initial weights and what they say about the first samples. So a changed model
makes new runs, and a changed student leaves the teacher's runs as they are.
"""

from __future__ import annotations

import copy
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qrkd_lab.devices import one_thread, pick_device
from qrkd_lab.losses import Outputs
from qrkd_lab.models.taps import Tapped
from qrkd_lab.seeds import generator, seeded
from qrkd_lab.studies.arms import ARRAYS, TEACHER, check_scale
from qrkd_lab.studies.benchmarks import KIT_ONLY, Benchmark
from qrkd_lab.studies.settings import Settings
from qrkd_lab.tasks import CLASSIFICATION, TASKS, UNLABELLED, Classification, Task
from qrkd_lab.train import odd_tensors

__all__ = ["ArrayBenchmark", "Part", "parts_of"]

PROBED = 8  # samples that a model is asked about, to tell it from another; of a trained one 1000
Inputs = Tensor | dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class Part:
    """Samples ``x`` (a tensor, or several by name) and what is to be said about each, ``y``."""

    x: Inputs
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: Tensor | slice) -> Part:
        return Part(_each(lambda one: one[index], self.x), self.y[index])

    @property
    def named(self) -> dict[str, Tensor]:
        """The inputs by name; a tensor alone is ``x``."""
        return self.x if isinstance(self.x, dict) else {"x": self.x}

    def beside(self, others: Part) -> Part:
        """These samples, and others without their labels."""
        absent = torch.nan if self.y.is_floating_point() else UNLABELLED
        x = {name: torch.cat([one, others.named[name]]) for name, one in self.named.items()}
        y = torch.cat([self.y, self.y.new_full((len(others), *self.y.shape[1:]), absent)])
        return Part(x if isinstance(self.x, dict) else x["x"], y)

    def to(self, device: torch.device) -> tuple[Inputs, Tensor]:
        """Both, on a device."""
        return _each(lambda one: one.to(device), self.x), self.y.to(device)


def _each(of: Callable[[Tensor], Tensor], x: Inputs) -> Inputs:
    return {name: of(one) for name, one in x.items()} if isinstance(x, dict) else of(x)


@dataclass(frozen=True, eq=False)
class Arrays:
    """The three parts, and who they are."""

    name: str
    sha256: str
    train: Part
    validation: Part
    test: Part
    unlabelled: Part | None = None
    source: str = "arrays"


class _Model(Tapped):
    """A model with its tap, whose weights have the names that they have in the model itself."""

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        return self.model.state_dict(*args, **options)

    def load_state_dict(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401
        return self.model.load_state_dict(*args, **options)


class _Estimator(nn.Module):
    """A trained estimator of scikit-learn as a teacher, without parameters.

    Log-probabilities of a classifier, or the predictions of a regressor, are its outputs and its
    features.
    """

    def __init__(self, estimator: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.estimator = estimator

    def forward(self, x: Tensor) -> Outputs:
        rows = x.flatten(1).cpu().numpy()
        if hasattr(self.estimator, "predict_proba"):
            said = np.log(np.clip(self.estimator.predict_proba(rows), 1e-4, None))
        else:
            said = np.reshape(self.estimator.predict(rows), (len(rows), -1))
        said = torch.as_tensor(said, dtype=torch.float32, device=x.device)
        return Outputs(said, said)

    def extra_repr(self) -> str:
        return repr(self.estimator)


@dataclass(frozen=True, eq=False, repr=False)
class ArrayBenchmark(Benchmark):
    """Arrays of one's own with two models of one's own; see :meth:`Benchmark.from_arrays`."""

    data: Arrays
    make_teacher: Callable[[int], nn.Module] | nn.Module  # a model is trained already
    make_student: Callable[[int], nn.Module]
    task: Task = CLASSIFICATION

    @staticmethod
    def of(
        name: str,
        parts: Mapping[str, Part],
        teacher: Callable[[int], nn.Module] | nn.Module,
        student: Callable[[int], nn.Module],
        task: Task,
    ) -> ArrayBenchmark:
        """At scale ``laptop`` on the CPU; raises where the models do not fit the data."""
        if hasattr(teacher, "predict"):
            teacher = _Estimator(teacher).eval()
        if isinstance(teacher, nn.Module):
            teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        taught, width = _checked("teacher", teacher, parts, task)
        learnt, _ = _checked("student", student, parts, task)
        found = {"teacher_sha256": taught, "student_sha256": learnt}
        settings = Settings(name, "laptop", qubits=min(Settings.qubits, width), **found)
        held = {name: {**part.named, "the targets": part.y} for name, part in parts.items()}
        tensors = {f"{part} {name}": one for part, of in held.items() for name, one in of.items()}
        data = Arrays(name, _digest(tensors).hex(), **parts)
        bench = ArrayBenchmark(settings, data, torch.device("cpu"), teacher, student, task)
        return bench.with_settings("laptop")

    def with_settings(
        self,
        scale: str,
        device: str | torch.device | None = None,
        **overrides: Any,  # noqa: ANN401
    ) -> ArrayBenchmark:
        """This benchmark at a scale, on a device (None: on its own), with some settings changed.

        Raises:
            ValueError: an unknown scale or setting, a bad value, a setting of the kit's own data
                and models, or epochs for a teacher that is trained.
        """
        check_scale(scale, ARRAYS)
        if foreign := overrides.keys() & KIT_ONLY:
            raise ValueError(
                f"{min(foreign)} is a setting of the kit's own benchmarks: on your own arrays, "
                "give the samples and build the models as you want them"
            )
        if isinstance(self.make_teacher, nn.Module) and "teacher_epochs" in overrides:
            raise ValueError(
                "teacher_epochs: the teacher is trained already; give a function of a seed, "
                "teacher=lambda seed: ..., to have it trained here"
            )
        # Checked as if for the teacher: what suits an arm is checked when it is chosen.
        base = replace(self.settings, scale=scale, arm=TEACHER).replace(**ARRAYS[scale])
        if isinstance(self.make_teacher, nn.Module):
            base = base.replace(teacher_epochs=0)
        settings = base.replace(**overrides)
        if "arm" not in overrides:
            settings = replace(settings, arm=Settings.arm)
        where = self.device if device is None else pick_device(device)
        return replace(self, settings=settings, device=where)

    @property
    def sizes(self) -> dict[str, int]:
        rest = self.data.unlabelled
        return super().sizes | ({} if rest is None else {"unlabelled": len(rest)})

    def of_students(self, seed: int) -> Benchmark:
        found, rest = super().of_students(seed), self.data.unlabelled
        return found if rest is None else replace(found, seen=found.drawn.beside(rest))

    def teacher(self, seed: int) -> Tapped:
        if isinstance(self.make_teacher, nn.Module):
            return _tapped(copy.deepcopy(self.make_teacher)).to(self.device)
        return _made("teacher", self.make_teacher, seed).to(self.device)

    def untrained_teacher(self, seed: int) -> Tapped:
        if isinstance(self.make_teacher, nn.Module):
            raise ValueError(
                "the arm random_teacher needs an untrained teacher, but yours was given trained: "
                "give a function of a seed, teacher=lambda seed: ..., or leave the arm out"
            )
        return super().untrained_teacher(seed)

    def student(self, seed: int) -> Tapped:
        return _made("student", self.make_student, seed).to(self.device)

    @torch.no_grad()
    def feature_dim(self, model: Tapped) -> int:
        inputs, _ = self.train[:PROBED].to(self.device)
        return self.outputs(model.eval(), inputs).features.shape[1]

    @property
    def random(self) -> bool:
        return True  # nothing says whether a model of somebody's own has dropout

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Inputs, Tensor]]:
        for index in self.order(seed, epoch).split(size):
            yield self.drawn[index].to(self.device)

    def passes(self, part: Part) -> Iterator[tuple[Inputs, Tensor]]:
        for low in range(0, len(part), 256):
            yield part[low : low + 256].to(self.device)

    def outputs(self, model: Tapped, inputs: Inputs) -> Outputs:
        """Logits ``(n, c)`` and the tapped features ``(n, d)``."""
        return _asked(model, inputs)

    @property
    def metric(self) -> str:
        return f"test_{self.task.metric}"

    @property
    def higher_is_better(self) -> bool:
        return self.task.higher_is_better

    @torch.no_grad()
    def score(
        self, models: Sequence[nn.Module], part: Part, teacher: nn.Module | None = None
    ) -> list[dict[str, float]]:
        if isinstance(self.task, Classification):
            return super().score(models, part, teacher)
        y = part.y.to(self.device)
        scores = [self.task.score(self.predict(model, part).logits, y) for model in models]
        return [{self.task.metric: float(score)} for score in scores]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        return (
            f"ArrayBenchmark({self.data.name}: {sizes}; data {self.data.sha256[:12]}, teacher "
            f"{self.settings.teacher_sha256}, student {self.settings.student_sha256})"
        )


# ---- arrays


def parts_of(task: str | Task, unlabelled: Any = None, **given: Any) -> dict[str, Part]:  # noqa: ANN401
    """The samples by part as tensors on the CPU, with targets as the task takes them."""
    parts = {n: _targets(n, _part(n, *_pair(n, one)), task) for n, one in given.items()}
    if unlabelled is not None:
        rest = _part("unlabelled", _pair("unlabelled", (unlabelled, None))[0])
        like, got = (
            {name: (tuple(one.shape[1:]), one.dtype) for name, one in part.named.items()}
            for part in (parts["train"], rest)
        )
        if got != like:
            raise ValueError(f"unlabelled: expected rows of x as in train, {like}, got {got}")
        parts["unlabelled"] = rest
    return parts


def _part(name: str, x: Any, *y: Any) -> Part:  # noqa: ANN401
    """The samples of a part as tensors on the CPU; without y all of them are 0."""
    if isinstance(x, Mapping):
        x = {str(key): _tensor(f"{name}, x[{key!r}]", one) for key, one in x.items()}
    else:
        x = _tensor(f"{name}, x", x)
    first = next(iter(x.values())) if isinstance(x, dict) else x
    part = Part(x, _tensor(f"{name}, y", *y) if y else torch.zeros(len(first)))
    rows = set(map(len, part.named.values()))
    if rows != {len(part.y)}:
        raise ValueError(
            f"{name}: expected as many rows of x as of y, got "
            f"{', '.join(map(str, rows))} and {len(part.y)}"
        )
    return part


def _pair(name: str, given: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Inputs and targets of a part, whatever holds them."""
    if isinstance(given, torch.utils.data.Dataset):
        try:
            given = torch.utils.data.default_collate([given[i] for i in range(len(given))])
        except (TypeError, RuntimeError) as error:
            raise TypeError(
                f"{name}: the samples of this Dataset do not fit into one tensor; give each the "
                "same shape (pad texts, resize pictures; a torchvision dataset needs "
                f"transform=ToTensor()), and a length: {error}"
            ) from error
    tables = hasattr(given, "column_names"), hasattr(given, "columns"), isinstance(given, Mapping)
    if any(tables):
        given = given, "label" if "label" in _columns(given) else "labels"
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise TypeError(
            f"{name}: expected a pair (x, y) or a torch Dataset, got {type(given).__name__}; of a "
            "table give (table, 'the column that is y')"
        )
    table, y = given
    if hasattr(table, "with_format"):  # a table of Hugging Face's datasets
        table = table.with_format("numpy")[:]  # a dictionary of arrays
    if not isinstance(y, str):
        return table, y
    if y not in (columns := _columns(table)):
        raise ValueError(
            f"{name}: there is no column {y!r}; give (table, 'the column that is y'), one of "
            f"{', '.join(map(str, columns))}"
        )
    rest = [column for column in columns if column != y]
    if hasattr(table, "columns"):  # a data frame
        return table[rest], table[y]
    return table[rest[0]] if len(rest) == 1 else {name: table[name] for name in rest}, table[y]


def _columns(table: Any) -> list[Any]:  # noqa: ANN401
    """The names of the columns of a table, a data frame or a dictionary."""
    found = getattr(table, "column_names", None) or getattr(table, "columns", None)
    return list(table if found is None else found)


def _targets(name: str, part: Part, task: str | Task) -> Part:
    """The part with targets as the task takes them; real ones are ``(n, c)``."""
    y = part.y[:, None] if part.y.ndim == 1 and part.y.is_floating_point() else part.y
    got = f"got {tuple(part.y.shape)}, {part.y.dtype}, from {y.min():g} to {y.max():g}"
    if task == "regression":
        y = y.float().reshape(len(y), -1)
    elif task == "multi-label":
        if y.ndim != 2 or not ((y == 0) | (y == 1)).all():
            raise ValueError(f"{name}, y: expected labels (n, c), each 0 or 1, {got}")
        y = y.float()
    elif task == "classification" and (y.ndim != 1 or y.min() < 0):
        raise ValueError(
            f"{name}, y: expected classes (n,), whole numbers 0, 1, ..., {got}; of real numbers "
            "use task='regression', of several labels task='multi-label'"
        )
    return Part(part.x, y)


def _tensor(name: str, given: Any) -> Tensor:  # noqa: ANN401
    """The content on the CPU: real numbers in float32, whole ones in int64."""
    frame = hasattr(given, "columns")
    if not isinstance(given, Tensor):
        try:
            array = np.array(given)
        except ValueError as error:  # rows of several lengths
            array = np.array(None)
            which = f" ({error})"
        else:
            odd = [*given.select_dtypes(exclude=["number", "bool"])] if frame else []
            which = f" in {', '.join(map(str, odd))}" if odd else ""
        if array.dtype.kind not in "biuf":
            raise TypeError(
                f"{name}: expected numbers, got {array.dtype}{which}; give words as numbers, by "
                "pandas.factorize (classes) or get_dummies (inputs) before they are cut; pad rows "
                "of tokens to one length; leave out columns that no model uses"
            )
        given = torch.as_tensor(array)
    tensor = given.detach().cpu().clone()  # what becomes of the array later does not matter
    small = tensor.dtype in (torch.uint8, torch.bool) and tensor.ndim > 1  # pixels
    real = tensor.is_floating_point() or small or (frame and tensor.ndim > 1)
    tensor = tensor.float() if real else tensor.long()
    if not tensor.ndim or not tensor.numel():
        raise ValueError(f"{name}: expected one row per sample, got {tuple(tensor.shape)}")
    if bad := int((~tensor.reshape(len(tensor), -1).isfinite()).any(1).sum()):
        raise ValueError(f"{name}: {bad} of {len(tensor)} rows hold NaN or infinity")
    return tensor


def _digest(tensors: Mapping[str, Tensor]) -> bytes:
    """SHA-256 of tensors: their names, types, shapes and content."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.digest()


# ---- models


def _tapped(model: nn.Module) -> _Model:
    if not isinstance(model, Tapped):
        return _Model(model)
    return _Model(model.model, None if model.before else model.layer, model.pool)


def _made(role: str, make: Callable[[int], nn.Module], seed: int) -> _Model:
    """A fresh model of a seed, with its tap; the same for the same seed."""
    if not callable(make) or isinstance(make, (type, nn.Module)):
        name = make.__name__ if isinstance(make, type) else "MyNet"
        raise TypeError(
            f"{role}: expected a function of a seed that makes a model, e.g. "
            f"lambda seed: {name}(), got {make if isinstance(make, type) else type(make)}"
        )
    with seeded(seed, role):
        model = make(seed)
    if not isinstance(model, nn.Module):
        raise TypeError(f"{role}: expected a function that gives an nn.Module, got {type(model)}")
    return _tapped(model)


def _asked(model: Tapped, inputs: Inputs) -> Outputs:
    logits, features = model(**inputs) if isinstance(inputs, dict) else model(inputs)
    return Outputs(logits[:, None] if logits.ndim == 1 else logits, features)


def _checked(
    role: str,
    given: Any,  # noqa: ANN401
    parts: Mapping[str, Part],
    task: Task,
) -> tuple[str, int]:
    """The hash of a model and the width of its features; raises where it does not fit the data."""
    trained = isinstance(given, nn.Module) and role == "teacher"
    model = _tapped(given) if trained else _made(role, given, 0)
    weights = _digest(model.state_dict())
    if not trained:
        again = _made(role, given, 0)
        if again.model is model.model or _digest(again.state_dict()) != weights:
            raise ValueError(
                f"{role}: expected a new model with the same weights each time that the function "
                "is called with the same seed; build the model inside the function, and draw from "
                "torch's random numbers alone"
            )
        if odd := odd_tensors(_made(role, given, 1).state_dict(), model.state_dict()):
            raise ValueError(
                f"{role}: the function makes another model for seed 1 than for seed 0 ({odd}); its "
                "one argument is the seed, e.g. lambda seed: make_net(width=32)"
            )
    part = parts["train"][: 1000 if trained else PROBED]
    y = part.y
    with one_thread(torch.device("cpu")), seeded(0, "probe"):
        try:
            logits, features = (one.detach() for one in _asked(model.train(not trained), part.x))
        except Exception as error:
            shown = part.named.items()
            said = ", ".join(f"{n} {tuple(one.shape)} {one.dtype}" for n, one in shown)
            raise ValueError(
                f"the {role} was asked about {said}: {type(error).__name__}: {error}"
            ) from error
    gives = f"the {role} gives {tuple(logits.shape)}"
    highest = max(p.y.max() for p in parts.values())
    classes = max(int(highest), 1) + 1
    if logits.ndim != 2 or len(logits) != len(y):
        raise ValueError(f"{gives} for {len(y)} samples; expected logits (n, c), a row each")
    classifies = isinstance(task, Classification)
    if classifies and logits.shape[1] < classes:
        raise ValueError(f"{gives}; expected {classes} logits or more, as y goes up to {highest}")
    if task in (TASKS["regression"], TASKS["multi-label"]) and logits.shape != y.shape:
        raise ValueError(f"{gives}; expected {tuple(y.shape)}, as y has it")
    # What it says tells apart what the layers and weights do not: how they are put together. Four
    # digits of a few numbers, as the last digits differ between processors.
    digest = hashlib.sha256(re.sub("0x[0-9a-f]+", "", repr(model.model)).encode() + weights)
    if not classifies:
        kd = task.kd(logits, logits.flip(0), Settings.temperature)
        for number in (task.loss(logits, y), task.score(logits, y), kd):
            digest.update(f"{float(number):.3e}".encode())
    for name, said in (("logits", logits.double()), ("features", features.double())):
        if not said.isfinite().all():
            raise ValueError(f"the {role}'s {name} hold NaN or infinity")
        drawn = torch.randn(4, said.numel(), generator=generator(0, "probe"), dtype=torch.float64)
        size = said.norm() + 1e-30
        numbers = [size, *(drawn @ (said.flatten() / size))]
        digest.update(" ".join(f"{number:.3e}" for number in numbers).encode())
    return digest.hexdigest()[:16], features.shape[1]
