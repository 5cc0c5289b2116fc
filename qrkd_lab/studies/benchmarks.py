"""Benchmarks: data, teacher, student and metric, as the training loop needs them.

A *prediction* is what one row of logits is about: an image's class, a review's sentiment, the next
token at one position of a text. A *sample* is what the relations compare: one row of features.
Images have as many of one as of the other; a text has one prediction per token.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.data.fetch import DataError
from qrkd_lab.data.images import Images, VisionData, load_images
from qrkd_lab.devices import default_arithmetic, pick_device
from qrkd_lab.files import RecordError
from qrkd_lab.losses import Outputs
from qrkd_lab.models.cnn import CNN
from qrkd_lab.seeds import derived_seed, generator, seeded
from qrkd_lab.studies.arms import ARRAYS, BENCHMARKS, TEACHER, check_scale
from qrkd_lab.studies.records import NAME, Run
from qrkd_lab.studies.scores import Scores
from qrkd_lab.studies.settings import Settings
from qrkd_lab.tasks import CLASSIFICATION, TASKS, Task
from qrkd_lab.train import odd_tensors

__all__ = [
    "Benchmark",
    "ImageBenchmark",
    "KIT_ONLY",
    "MODELS",
    "benchmark_of",
    "benchmark_settings",
    "default_settings",
    "given_settings",
    "is_text",
    "kind_of",
    "load_benchmark",
    "name_of",
]


@dataclass(frozen=True)
class Benchmark(ABC):
    """Data, models and metric. ``inputs`` is whatever the benchmark's own ``outputs`` takes.

    Attributes:
        settings: the defaults that runs on this benchmark start from.
        data: has ``name``, ``source``, ``sha256`` and the parts ``train``, ``validation``,
            ``test``.
        device: where batches and models live.
        seen: what students draw from, where it is more than the training part: samples without
            labels, too.
    """

    settings: Settings
    data: Any
    device: torch.device
    seen: Any = field(default=None, kw_only=True)

    metric = "test_accuracy"
    higher_is_better = True
    task = CLASSIFICATION  # what outputs are for

    @property
    def train(self) -> Any:  # noqa: ANN401
        return self.data.train

    @property
    def validation(self) -> Any:  # noqa: ANN401
        return self.data.validation

    @property
    def test(self) -> Any:  # noqa: ANN401
        return self.data.test

    @staticmethod
    def from_arrays(
        train: Any,  # noqa: ANN401
        validation: Any,  # noqa: ANN401
        test: Any,  # noqa: ANN401
        teacher: Callable[[int], nn.Module] | nn.Module,
        student: Callable[[int], nn.Module],
        name: str = "mine",
        task: str | Task = "classification",
        unlabelled: Any = None,  # noqa: ANN401
    ) -> Benchmark:
        """A benchmark from arrays and two models of your own, for :func:`qrkd_lab.compare`.

        Scale the inputs with numbers of the training part before; the kit leaves them as they are.

        Args:
            train, validation, test: each ``(x, y)``, or a ``torch.utils.data.Dataset`` of such
                pairs. x is an array, a tensor or a data frame, one sample in each row, or a
                dictionary of such, which the models get by name; real numbers become float32. y is
                an array, a tensor or a series, of what the task needs.
            teacher: a function of a seed that makes an untrained model, ``lambda seed: Net()``;
                torch is seeded when it is called. Or a trained model, which is used as it is, in
                eval mode; or a trained estimator of scikit-learn, whose log-probabilities (or
                predictions, of a regressor) are both logits and features.
            student: a function of a seed that makes an untrained model.
            name: under which the records are kept.
            task: ``"classification"``: y ``(n,)`` holds classes, whole numbers 0, 1, ..., and the
                metric is accuracy. ``"regression"``: y ``(n,)`` or ``(n, c)`` holds real numbers,
                best with mean 0 and variance 1; mean squared error, and RMSE in y's unit.
                ``"multi-label"``: y ``(n, c)`` holds 0 or 1 per label, logits are one per label;
                binary cross-entropy, and F1 over all labels. Or a
                :class:`~qrkd_lab.tasks.Task` with a loss and a metric of your own.
            unlabelled: x of further samples whose y nobody knows. Students see them beside the
                training part: they count in all terms but the task's.

        A model returns logits ``(n, c)``, a tuple that begins with them, an object or dict that has
        ``logits``, or :class:`~qrkd_lab.losses.Outputs`. Relations compare what enters its last
        ``nn.Linear``; to name another layer, or how tokens are pooled, wrap it:
        ``lambda seed: ql.Tapped(Net(), "encoder", pool="mean")``.

        Raises:
            TypeError, ValueError: arrays or models that do not fit; says what was expected.

        Example:
            >>> x, y = torch.randn(60, 4), torch.arange(60) % 2
            >>> net = lambda d: nn.Sequential(nn.Linear(4, d), nn.ReLU(), nn.Linear(d, 2))
            >>> bench = Benchmark.from_arrays(
            ...     train=(x[:40], y[:40]), validation=(x[40:50], y[40:50]), test=(x[50:], y[50:]),
            ...     teacher=lambda seed: net(16), student=lambda seed: net(3), name="tiny",
            ... )
            >>> bench.sizes
            {'train': 40, 'validation': 10, 'test': 10}
        """
        from qrkd_lab.studies.own import ArrayBenchmark, parts_of

        if name in BENCHMARKS or not NAME.fullmatch(str(name)):
            raise ValueError(
                "name: expected letters, digits and _ . + - that are no benchmark of the kit, got "
                f"{name!r}"
            )
        if not isinstance(task, Task) and task not in TASKS:
            choices = ", ".join(TASKS)
            raise ValueError(
                f"unknown task {task!r}; choose from {choices}, or give a Task of your own"
            )
        parts = parts_of(task, unlabelled, train=train, validation=validation, test=test)
        task = task if isinstance(task, Task) else TASKS[task]
        return ArrayBenchmark.of(name, parts, teacher, student, task)

    def with_settings(
        self,
        scale: str,
        device: str | torch.device | None = None,
        **overrides: Any,  # noqa: ANN401
    ) -> Benchmark:
        """The same data and models with other settings: for those of a user's own alone."""
        raise ValueError(
            f"expected the name of a benchmark or one made by Benchmark.from_arrays, got "
            f"{type(self).__name__}: give its name, {self.settings.benchmark!r}"
        )

    @abstractmethod
    def teacher(self, seed: int) -> nn.Module:
        """A teacher before its training here; the same for the same seed."""

    def untrained_teacher(self, seed: int) -> nn.Module:
        """A teacher that has learnt nothing, for the control ``random_teacher``."""
        return self.teacher(derived_seed(seed, "random teacher"))

    @abstractmethod
    def student(self, seed: int) -> nn.Module:
        """A fresh, untrained student; the same for the same seed, whatever the arm."""

    def model(self, run: Run) -> nn.Module:
        """The trained teacher or student of a record, ready to be asked.

        Raises:
            RecordError: its weights are not those of this benchmark's models, or not readable.
        """
        seed = run.settings["seed"]
        model = self.teacher(seed) if run.settings["arm"] == TEACHER else self.student(seed)
        weights = run.weights()
        if odd := odd_tensors(weights, model.state_dict()):
            raise RecordError(f"the weights of {run.path} are of another model: {odd}")
        model.load_state_dict(weights)
        return model.eval()

    def export(self, run: Run, folder: str | Path) -> Path:
        """Write a trained model so that others can use it without this kit.

        Raises:
            ValueError: this kind of benchmark has no format for that but the record's own.
        """
        raise ValueError(
            f"only language models of the kit are exported; benchmark.model(run) is {run.name}, "
            f"and its weights are in {run.path}/weights.safetensors"
        )

    @abstractmethod
    def feature_dim(self, model: nn.Module) -> int:
        """d, the width of the features that ``outputs`` taps from this model."""

    @property
    def random(self) -> bool:
        """Whether models draw from torch's global stream while they learn."""
        return bool(self.settings.dropout)

    @property
    def samples(self) -> int:
        """How many samples an epoch draws from."""
        return len(self.drawn)

    @property
    def drawn(self) -> Any:  # noqa: ANN401
        """What an epoch draws from: ``seen``, else the training part."""
        return self.train if self.seen is None else self.seen

    def of_students(self, seed: int) -> Benchmark:
        """The same with what the students of a seed see: ``student_size``, ``unlabelled``."""
        size, more = self.settings.student_size, self.settings.unlabelled
        if size is None and not more:
            return self
        size = self.samples if size is None else size
        if size + more > self.samples:
            raise ValueError(
                f"student_size{' + unlabelled' * bool(more)}: {self.settings.benchmark} has "
                f"{self.samples} samples to train on, got {size}{f' + {more}' * bool(more)}"
            )
        drawn = torch.randperm(self.samples, generator=generator(seed, "student's images"))
        train = self.train[drawn[:size]]
        seen = train.beside(self.train[drawn[size : size + more]]) if more else None
        return replace(self, data=replace(self.data, train=train), seen=seen)

    def order(self, seed: int, epoch: int) -> Tensor:
        """The samples of an epoch in its own order, int64; ``epoch_size`` of them if it is set."""
        drawn = torch.randperm(self.samples, generator=generator(seed, "batches", epoch))
        return drawn[: self.settings.epoch_size]

    def steps(self, size: int) -> int:
        """Batches of an epoch."""
        held = self.samples if self.settings.epoch_size is None else self.settings.epoch_size
        return -(-min(self.samples, held) // size)

    @abstractmethod
    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Any, Tensor]]:
        """One epoch of the training part in an order of its own: inputs and targets of a batch."""

    @abstractmethod
    def passes(self, part: Any) -> Iterator[tuple[Any, Tensor]]:  # noqa: ANN401
        """A part from its beginning to its end: inputs and targets, every prediction once."""

    @abstractmethod
    def outputs(self, model: nn.Module, inputs: Any) -> Outputs:  # noqa: ANN401
        """Logits, one row per prediction, and the tapped features, one row per sample."""

    @torch.no_grad()
    def predict(self, model: nn.Module, part: Any) -> Outputs:  # noqa: ANN401
        """Outputs for a whole part, in its order; of a long text these are many gigabytes."""
        model.eval()
        found = [self.outputs(model, inputs) for inputs, _ in self.passes(part)]
        return Outputs(*(torch.cat(column) for column in zip(*found, strict=True)))

    @torch.no_grad()
    def features(self, model: nn.Module, count: int, part: Any = None) -> Tensor:  # noqa: ANN401
        """Tapped features ``(n, d)`` of a part's first samples, n <= count; of the training's."""
        model.eval()
        rows: list[Tensor] = []
        for inputs, _ in self.passes(self.train if part is None else part):
            rows.append(self.outputs(model, inputs).features)
            if sum(map(len, rows)) >= count:
                break
        return torch.cat(rows)[:count]

    @torch.no_grad()
    def score(
        self,
        models: Sequence[nn.Module],
        part: Any,  # noqa: ANN401
        teacher: nn.Module | None = None,
    ) -> list[dict[str, float]]:
        """The numbers of each model on a part, in one pass; with a teacher also in what they agree.

        See :class:`~qrkd_lab.studies.scores.Scores`.
        """
        scores = [Scores() for _ in models]
        for model in (*models, *([] if teacher is None else [teacher])):
            model.eval()
        for inputs, targets in self.passes(part):
            believed = None if teacher is None else self.outputs(teacher, inputs).logits
            for model, tally in zip(models, scores, strict=True):
                said = believed if model is teacher else self.outputs(model, inputs).logits
                tally.add(said, targets, believed)
        return [self.numbers(tally, part) for tally in scores]

    def numbers(self, scores: Scores, part: Any) -> dict[str, float]:  # noqa: ANN401
        """The numbers of a part by name, among them the metric's own."""
        return {"accuracy": scores.accuracy, **scores.beside_teacher}

    def in_words(self, epoch: Mapping[str, float]) -> str:
        """The metric of an epoch of a history in a few characters, for progress lines."""
        score = epoch[self.metric.replace("test_", "validation_", 1)]
        return f"{100 * score:.1f}%" if self.metric.endswith("accuracy") else f"{score:.4g}"

    @property
    def probe(self) -> Any:  # noqa: ANN401
        """What of the training part is scored at the end, to see how far a model overfitted."""
        return self.train

    @property
    def sizes(self) -> dict[str, int]:
        """What the record says about the data's sizes."""
        parts = ("train", "validation", "test")
        return {name: len(getattr(self, name)) for name in parts}


# ---- images


@dataclass(frozen=True)
class ImageBenchmark(Benchmark):
    """Image classification; inputs are pixels ``(n, C, H, W)``, one prediction per image."""

    data: VisionData

    def teacher(self, seed: int) -> CNN:
        return self._model(self.settings.teacher_widths, seed, "teacher")

    def student(self, seed: int) -> CNN:
        return self._model(self.settings.student_widths, seed, "student")

    def _model(self, widths: tuple[int, ...], seed: int, role: str) -> CNN:
        height, width = self.data.image_shape[1:]
        padding = 0 if min(height, width) >= 16 else 2  # two pools leave nothing of 8 x 8 else
        with seeded(seed, role):
            model = CNN(self.data.image_shape, len(self.data.classes), widths, padding)
        return model.to(self.device)

    def feature_dim(self, model: CNN) -> int:
        return model.feature_dim

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index in self.order(seed, epoch).split(size):
            yield self._batch(self.drawn[index])

    def passes(self, part: Images) -> Iterator[tuple[Tensor, Tensor]]:
        for low in range(0, len(part), 1000):
            yield self._batch(part[low : low + 1000])

    def _batch(self, images: Images) -> tuple[Tensor, Tensor]:
        pixels = images.pixels.to(self.device, non_blocking=True)
        return self.data.normalise(pixels), images.labels.to(self.device, non_blocking=True)

    def outputs(self, model: CNN, inputs: Tensor) -> Outputs:
        """Logits ``(n, c)`` and the tapped features ``(n, d)``: the penultimate layer."""
        return Outputs(*model.logits_and_features(inputs))


def load_image_benchmark(
    settings: Settings, data_dir: str | None, device: torch.device, given: set[str]
) -> ImageBenchmark:
    """The benchmark of a name or a folder of images; ``given``: sizes that the user set."""
    data = load_images(
        settings.benchmark,
        data_dir=data_dir,
        train_size=settings.train_size,
        validation_size=settings.validation_size,
        at_most={"train_size", "validation_size"} - given,
    )
    if not len(data.validation):
        raise DataError(
            f"{settings.benchmark} has {len(data.train)} image to train on, and none is left to "
            "validate on: expected at least 2 in train/"
        )
    held = {"train_size": len(data.train), "validation_size": len(data.validation)}
    lowered = {n: size for n, size in held.items() if getattr(settings, n) is not None}
    # A folder's records go by its name, not by its path, and say the sizes that were taken.
    return ImageBenchmark(replace(settings, benchmark=data.name, **lowered), data, device)


# ---- registry


_TEXT_ONLY = {
    "vocabulary", "sequence_length", "tap", "tap_tokens", "test_size", "dropout", "precision",
    "teacher_model", "teacher_layers", "teacher_width", "student_layers", "student_width",
}  # fmt: skip
_WIDTHS, MODELS = {"teacher_widths", "student_widths"}, {"teacher_sha256", "student_sha256"}
_IMAGES_ONLY = _WIDTHS | {"student_size", "unlabelled"}
KIT_ONLY = _TEXT_ONLY | _WIDTHS | MODELS | {"train_size", "validation_size"}  # not for arrays


def name_of(benchmark: str | Benchmark | None) -> str | None:
    """What a benchmark is called: by its name, its folder, or as one of a user's own."""
    return benchmark.settings.benchmark if isinstance(benchmark, Benchmark) else benchmark


def is_text(benchmark: str) -> bool:
    """Whether a benchmark is one of language, by name or a folder of text; else it is of images."""
    if benchmark in BENCHMARKS:
        return "vocabulary" in BENCHMARKS[benchmark]["smoke"]
    folder = os.path.expanduser(benchmark)
    if os.path.isdir(os.path.join(folder, "train")):  # images, perhaps beside a list of them
        return os.path.isfile(os.path.join(folder, "train.txt"))
    texts = (os.path.join(folder, f"{part}.txt") for part in ("train", "valid", "test"))
    return any(map(os.path.lexists, texts))  # whether they can be read is seen later


def benchmark_settings(
    benchmark: str | Benchmark,
    scale: str = "laptop",
    **overrides: Any,  # noqa: ANN401
) -> Settings:
    """The default settings of a benchmark at a scale, with some of them changed.

    Whether they suit an arm is checked when it is chosen: by an override ``arm=``, or later by
    ``settings.replace(arm=...)``.

    Raises:
        ValueError: unknown benchmark, scale or setting (lists the choices), a setting that this
            kind of benchmark has no use for, or a bad value.
    """
    if isinstance(benchmark, Benchmark):
        return benchmark.with_settings(scale, **overrides).settings
    scales = BENCHMARKS.get(benchmark)
    if scales is None and os.path.isdir(os.path.expanduser(benchmark)):
        scales = BENCHMARKS["ptb" if is_text(benchmark) else "cifar10"]
    if scales is None:
        raise ValueError(
            f"unknown benchmark {benchmark!r}; choose from {', '.join(BENCHMARKS)}, or give a "
            "folder of images, root/{train,test}/<class>/*.png, or of text, "
            "root/{train,valid,test}.txt"
        )
    check_scale(scale, scales)
    foreign = overrides.keys() & (_IMAGES_ONLY if is_text(benchmark) else _TEXT_ONLY)
    if foreign:
        other = "image" if is_text(benchmark) else "language"
        raise ValueError(f"{min(foreign)} is a setting of {other} benchmarks, not of {benchmark}")
    base = Settings(os.fspath(benchmark), scale, TEACHER).replace(**scales[scale])
    changed = base.replace(**overrides)
    return changed if "arm" in overrides else replace(changed, arm=Settings.arm)


def given_settings(settings: Settings) -> dict[str, Any]:
    """What to give beside benchmark, scale, arm and seed to get such a run again, as plain JSON.

    Only what the run's arm uses, and what is not the default of its benchmark and scale.

    Example:
        >>> given_settings(benchmark_settings("mnist", epochs=3))
        {'epochs': 3}
    """
    own = settings.effective()
    usual = default_settings(settings.benchmark, settings.scale, kind_of(own))
    arm = {"arm": settings.arm, "own_arm": settings.own_arm}
    usual = replace(usual, **arm, seed=settings.seed)
    other = usual.effective()
    derived = {"epochs", "kernel_weight"}  # may follow from stop_after and kernel_weights
    return {
        name: own.get(name)
        for name in (field.name for field in fields(Settings))
        if own.get(name) != other.get(name)
        and (name in derived & own.keys() or getattr(settings, name) != getattr(usual, name))
    }


def kind_of(settings: Mapping[str, Any]) -> str:
    """What a run's settings are about: ``arrays`` of a user's own, ``text`` or ``images``."""
    if "teacher_sha256" in settings:
        return "arrays"
    return "text" if "sequence_length" in settings else "images"


def default_settings(benchmark: str, scale: str, kind: str) -> Settings:
    """The defaults of a benchmark at a scale; a folder, of text or images, need not be there."""
    if kind == "arrays":
        return Settings(benchmark, scale).replace(**ARRAYS[scale])
    own = benchmark if benchmark in BENCHMARKS else "ptb" if kind == "text" else "cifar10"
    return replace(benchmark_settings(own, scale), benchmark=benchmark)


@default_arithmetic()
def load_benchmark(
    benchmark: str | Benchmark,
    scale: str = "laptop",
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    **overrides: Any,  # noqa: ANN401
) -> Benchmark:
    """Data and models of a benchmark at a scale.

    Args:
        benchmark: ``digits``, ``mnist``, ``cifar10``, or a folder of images; ``wikitext2``,
            ``ptb``, ``imdb``, ``imdb-sentiment``, or a folder of text; or one that was made by
            :meth:`Benchmark.from_arrays`.
        scale: ``smoke``, ``laptop`` or ``paper``.
        data_dir: where the files are or go; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: where batches and models live; ``auto`` takes a GPU if there is one.
        overrides: any field of :class:`~qrkd_lab.studies.settings.Settings`. A ``train_size`` or
            ``validation_size`` that you give must fit the data; a scale's own is lowered to fit.

    Raises:
        ValueError: unknown names (lists the choices), a device that is not there, sizes that the
            data cannot give, or no validation part.
        DataError: files that are missing and cannot be fetched, or that are damaged.

    Example:
        >>> b = load_benchmark("digits", scale="smoke")
        >>> b.student(seed=0).parameter_count
        981
    """
    if isinstance(benchmark, Benchmark):
        return benchmark.with_settings(scale, device, **overrides)
    settings, load = benchmark_settings(benchmark, scale, **overrides), load_image_benchmark
    if is_text(benchmark):
        from qrkd_lab.studies.language import load_language_benchmark as load
    return load(settings, data_dir, pick_device(device), set(overrides))


def benchmark_of(
    run: Run,
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    folder: str | None = None,
) -> Benchmark:
    """The benchmark that a recorded run was made on, with its settings and its data.

    Args:
        run: the record.
        data_dir, device: see :func:`load_benchmark`.
        folder: where the data are, for a run on a folder of one's own, as a record knows its name.

    Raises:
        DataError: the data here are not those of the record.
    """
    if kind_of(run.settings) == "arrays":
        raise ValueError(
            f"{run.name} is of arrays and models of somebody's own: make the benchmark again by "
            "Benchmark.from_arrays, and ask its model(run)"
        )
    own = {"benchmark", "scale", "arm", "own_arm", "seed"}
    known = {field.name for field in fields(Settings)} - own
    held = {name: value for name, value in run.settings.items() if name in known}
    name, scale = folder or run.settings["benchmark"], run.settings["scale"]
    if name not in BENCHMARKS and folder is None:
        raise ValueError(f"{run.name} is of a folder called {name}: say where it is (folder=...)")
    # A record leaves out what is None: where this scale has a value of its own, it was set so.
    here = benchmark_settings(name, scale).replace(arm=run.settings["arm"], **held).effective()
    held |= {field: None for field in here.keys() & known if field not in run.settings}
    found = load_benchmark(name, scale, data_dir, device, **held)
    if found.data.sha256 != run.data["sha256"]:
        place = run.path or run.name
        raise DataError(
            f"the data of {name}, or the teacher_model, here are not those of {place}: sha256 "
            f"{found.data.sha256[:12]} here, {run.data['sha256'][:12]} there"
        )
    return found
