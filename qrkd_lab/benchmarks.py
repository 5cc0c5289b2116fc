"""Benchmarks: data, teacher, student and metric at a scale, behind one small interface.

The training loop knows only this interface, so that images and language are the same to it:
``batch`` gives inputs and targets, ``outputs`` runs a model and taps its features, ``evaluate``
gives the numbers that count.

=========  ==========================================================================
scale      what it is for
=========  ==========================================================================
smoke      seconds: tests, and seeing that everything runs
laptop     minutes on two cores: real data, small models
paper      the full data and longer training: an hour or more
=========  ==========================================================================

The settings of the paper beyond the MNIST models' sizes are not public in full; these are the kit's
own and are not presented as the paper's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrkd_lab.arms import TEACHER
from qrkd_lab.data import DataError, Images, VisionData, load_images
from qrkd_lab.devices import pick_device
from qrkd_lab.models import CNN
from qrkd_lab.objective import Outputs
from qrkd_lab.runs import Run
from qrkd_lab.seeds import generator, seeded
from qrkd_lab.settings import Settings

__all__ = ["BENCHMARKS", "SCALES", "Benchmark", "benchmark_settings", "load_benchmark"]

SCALES = ("smoke", "laptop", "paper")

# What differs from Settings' defaults, by benchmark and scale.
_SHORT = {"train_size": 512, "validation_size": 256, "teacher_epochs": 1, "epochs": 1}
_COLOUR = {"teacher_widths": (16, 32, 64), "student_widths": (5, 8, 32)}  # 65,962 and 8,150 weights
BENCHMARKS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        # 1,100 images to train on: few and small steps, so a high rate and many short epochs
        "smoke": _SHORT | {"train_size": 256, "validation_size": 128, "learning_rate": 1e-2},
        "laptop": {"teacher_epochs": 30, "epochs": 30, "learning_rate": 1e-2},
        "paper": {"teacher_epochs": 100, "epochs": 100, "learning_rate": 1e-2},
    },
    "mnist": {
        "smoke": _SHORT,
        "laptop": {"teacher_epochs": 5, "epochs": 5},
        "paper": {"teacher_epochs": 20, "epochs": 20},
    },
    "cifar10": {
        "smoke": _COLOUR | _SHORT,
        "laptop": _COLOUR | {"teacher_epochs": 8, "epochs": 8},
        "paper": _COLOUR | {"teacher_epochs": 40, "epochs": 40},
    },
}


def benchmark_settings(benchmark: str, scale: str = "laptop", **overrides: Any) -> Settings:  # noqa: ANN401
    """The default settings of a benchmark at a scale, with some of them changed.

    Raises:
        ValueError: unknown benchmark, scale or setting (lists the choices), or a bad value.
    """
    scales = BENCHMARKS.get(benchmark)
    if scales is None and os.path.isdir(os.path.expanduser(benchmark)):
        scales = BENCHMARKS["cifar10"]  # a folder of images
    if scales is None:
        raise ValueError(
            f"unknown benchmark {benchmark!r}; choose from {', '.join(BENCHMARKS)}, or give a "
            "folder of images, root/{train,test}/<class>/*.png"
        )
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; choose from {', '.join(SCALES)}")
    base = Settings(os.fspath(benchmark), scale).replace(**scales[scale])
    return base.replace(**overrides)


def load_benchmark(
    benchmark: str,
    scale: str = "laptop",
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    **overrides: Any,  # noqa: ANN401
) -> Benchmark:
    """Data and models of a benchmark at a scale.

    Args:
        benchmark: ``digits``, ``mnist``, ``cifar10``, or a folder of images.
        scale: ``smoke``, ``laptop`` or ``paper``.
        data_dir: where the files are or go; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: where batches and models live; ``auto`` takes a GPU if there is one.
        overrides: any field of :class:`~qrkd_lab.settings.Settings`. A ``train_size`` or
            ``validation_size`` that you give must fit the data; a scale's own is lowered to fit.

    Raises:
        ValueError: unknown names (lists the choices), a device that is not there, sizes that the
            data cannot give, or no validation images.
        DataError: files that are missing and cannot be fetched, or that are damaged.

    Example:
        >>> b = load_benchmark("digits", scale="smoke")
        >>> b.student(seed=0).parameter_count
        981
    """
    settings = benchmark_settings(benchmark, scale, **overrides)
    place = pick_device(device)
    if settings.validation_size is not None and settings.validation_size < 1:
        raise ValueError(
            f"validation_size: expected at least 1, got {settings.validation_size}: every epoch is "
            "scored on the validation part; leave it out for the default"
        )
    scales_own = {"train_size", "validation_size"} - overrides.keys()
    data = load_images(
        benchmark,
        data_dir=data_dir,
        train_size=settings.train_size,
        validation_size=settings.validation_size,
        at_most=scales_own,
    )
    if not len(data.validation):
        raise DataError(
            f"{benchmark} has {len(data.train)} image to train on, and none is left to validate "
            "on: expected at least 2 in train/"
        )
    held = {"train_size": len(data.train), "validation_size": len(data.validation)}
    lowered = {n: size for n, size in held.items() if getattr(settings, n) is not None}
    # A folder's records go by its name, not by its path, and say the sizes that were taken.
    return Benchmark(settings.replace(benchmark=data.name, **lowered), data, place)


@dataclass(frozen=True)
class Benchmark:
    """An image-classification benchmark: ``.train``, ``.validation``, ``.test``, models, metric.

    Attributes:
        settings: the defaults that runs on this benchmark start from.
        data: the images, in memory.
        device: where batches and models live.
    """

    settings: Settings
    data: VisionData
    device: torch.device

    metric = "test_accuracy"
    higher_is_better = True

    @property
    def train(self) -> Images:
        return self.data.train

    @property
    def validation(self) -> Images:
        return self.data.validation

    @property
    def test(self) -> Images:
        return self.data.test

    def teacher(self, seed: int) -> CNN:
        """A fresh, untrained teacher; the same for the same seed."""
        return self._model(self.settings.teacher_widths, seed, "teacher")

    def student(self, seed: int) -> CNN:
        """A fresh, untrained student; the same for the same seed, whatever the arm."""
        return self._model(self.settings.student_widths, seed, "student")

    def _model(self, widths: tuple[int, ...], seed: int, role: str) -> CNN:
        height, width = self.data.image_shape[1:]
        padding = 0 if min(height, width) >= 16 else 2  # two pools leave nothing of 8 x 8 else
        with seeded(seed, role):
            model = CNN(self.data.image_shape, len(self.data.classes), widths, padding)
        return model.to(self.device)

    def model(self, run: Run) -> CNN:
        """The trained teacher or student of a record, ready to be asked."""
        seed = run.settings["seed"]
        model = self.teacher(seed) if run.settings["arm"] == TEACHER else self.student(seed)
        model.load_state_dict(run.weights())
        return model.eval()

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of the training part in an order of its own: inputs and targets of a batch."""
        order = torch.randperm(len(self.train), generator=generator(seed, "batches", epoch))
        for index in order.split(size):
            yield self._batch(self.train[index])

    def _batch(self, images: Images) -> tuple[Tensor, Tensor]:
        pixels = images.pixels.to(self.device, non_blocking=True)
        return self.data.normalise(pixels), images.labels.to(self.device, non_blocking=True)

    def outputs(self, model: nn.Module, inputs: Tensor) -> Outputs:
        """Logits ``(n, c)`` and the tapped features ``(n, d)``: the penultimate layer."""
        return Outputs(*model.logits_and_features(inputs))

    @torch.no_grad()
    def predict(self, model: nn.Module, part: Images) -> Outputs:
        """Outputs for every sample of a part, in its order, without gradient."""
        model.eval()
        slices = [part[low : low + 1000] for low in range(0, len(part), 1000)]
        found = [self.outputs(model, self._batch(images)[0]) for images in slices]
        return Outputs(*(torch.cat(column) for column in zip(*found, strict=True)))

    def evaluate(
        self, part: Images, outputs: Outputs, teacher: Outputs | None = None
    ) -> dict[str, float]:
        """Accuracy (a fraction); with the teacher's outputs also ``agreement``, the fraction of
        samples given the teacher's class, and ``kl``, the mean KL(teacher || student) in nats."""
        said = outputs.logits.argmax(1)
        labels = part.labels.to(said.device)
        numbers = {"accuracy": (said == labels).sum().item() / len(labels)}
        if teacher is not None:
            same = said == teacher.logits.argmax(1)
            numbers["agreement"] = same.sum().item() / len(labels)
            numbers["kl"] = F.kl_div(
                outputs.logits.log_softmax(1),
                teacher.logits.log_softmax(1),
                log_target=True,
                reduction="batchmean",
            ).item()
        return numbers
