"""Image classification as a benchmark: a CNN teacher, a CNN student, test accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qrkd_lab.benchmarks.base import Benchmark
from qrkd_lab.data import DataError, Images, VisionData, load_images
from qrkd_lab.models import CNN
from qrkd_lab.objective import Outputs
from qrkd_lab.scores import Scores
from qrkd_lab.seeds import seeded
from qrkd_lab.settings import Settings

__all__ = ["ImageBenchmark", "load_image_benchmark"]


@dataclass(frozen=True)
class ImageBenchmark(Benchmark):
    """Image classification; inputs are pixels ``(n, C, H, W)``, a prediction an image."""

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

    @property
    def samples(self) -> int:
        return len(self.train)

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index in self.order(seed, epoch).split(size):
            yield self._batch(self.train[index])

    def passes(self, part: Images) -> Iterator[tuple[Tensor, Tensor]]:
        for low in range(0, len(part), 1000):
            yield self._batch(part[low : low + 1000])

    def _batch(self, images: Images) -> tuple[Tensor, Tensor]:
        pixels = images.pixels.to(self.device, non_blocking=True)
        return self.data.normalise(pixels), images.labels.to(self.device, non_blocking=True)

    def outputs(self, model: CNN, inputs: Tensor) -> Outputs:
        """Logits ``(n, c)`` and the tapped features ``(n, d)``: the penultimate layer."""
        return Outputs(*model.logits_and_features(inputs))

    def numbers(self, scores: Scores, part: Images) -> dict[str, float]:
        """Accuracy, a fraction; agreement and KL."""
        return {"accuracy": scores.accuracy, **scores.beside_teacher}

    def in_words(self, numbers: Mapping[str, float]) -> str:
        return f"{100 * numbers['accuracy']:.1f}%"


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
