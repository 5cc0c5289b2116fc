"""What a benchmark is to the training loop, whatever its data are.

A *prediction* is what one row of logits is about: an image's class, a review's sentiment, the next
token at one position of a text. A *sample* is what the relations compare: one row of features.
Images have as many of one as of the other; a text has a prediction a token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.arms import TEACHER
from qrkd_lab.objective import Outputs
from qrkd_lab.runs import RecordError, Run
from qrkd_lab.scores import Scores
from qrkd_lab.seeds import derived_seed, generator
from qrkd_lab.settings import Settings
from qrkd_lab.weights import odd_tensors

__all__ = ["Benchmark"]


@dataclass(frozen=True)
class Benchmark(ABC):
    """Data, models and metric. ``inputs`` is whatever the benchmark's own ``outputs`` takes.

    Attributes:
        settings: the defaults that runs on this benchmark start from.
        data: has ``name``, ``source``, ``sha256`` and the parts ``train``, ``validation``,
            ``test``.
        device: where batches and models live.
    """

    settings: Settings
    data: Any
    device: torch.device

    metric = "test_accuracy"
    higher_is_better = True

    @property
    def train(self) -> Any:  # noqa: ANN401
        return self.data.train

    @property
    def validation(self) -> Any:  # noqa: ANN401
        return self.data.validation

    @property
    def test(self) -> Any:  # noqa: ANN401
        return self.data.test

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
            f"only language models are exported; the weights of {run.name} are in "
            f"{run.path}/weights.safetensors, for {type(self.student(0)).__name__}.load_state_dict"
        )

    @abstractmethod
    def feature_dim(self, model: nn.Module) -> int:
        """d, the width of the features that ``outputs`` taps from this model."""

    @property
    @abstractmethod
    def samples(self) -> int:
        """How many samples the training part has: what an epoch draws from."""

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
        """Logits, a row a prediction, and the tapped features, a row a sample."""

    @torch.no_grad()
    def predict(self, model: nn.Module, part: Any) -> Outputs:  # noqa: ANN401
        """Outputs for a whole part, in its order; of a long text these are many gigabytes."""
        model.eval()
        found = [self.outputs(model, inputs) for inputs, _ in self.passes(part)]
        return Outputs(*(torch.cat(column) for column in zip(*found, strict=True)))

    @torch.no_grad()
    def features(self, model: nn.Module, count: int) -> Tensor:
        """Tapped features ``(n, d)`` of the first samples of the training part, n <= count."""
        model.eval()
        rows: list[Tensor] = []
        for inputs, _ in self.passes(self.train):
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
        """The numbers of each model on a part, in one pass; the teacher is asked once a batch.

        See :class:`~qrkd_lab.scores.Scores`; with a teacher also agreement with it and KL to it.
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

    @abstractmethod
    def numbers(self, scores: Scores, part: Any) -> dict[str, float]:  # noqa: ANN401
        """The numbers of this kind of benchmark, by name; the metric's own is among them."""

    @abstractmethod
    def in_words(self, numbers: Mapping[str, float]) -> str:
        """The metric in a few characters, for progress lines."""

    @property
    def probe(self) -> Any:  # noqa: ANN401
        """What of the training part is scored at the end, to see how far a model overfitted."""
        return self.train

    @property
    def sizes(self) -> dict[str, int]:
        """What the record says about the data's sizes."""
        parts = ("train", "validation", "test")
        return {name: len(getattr(self, name)) for name in parts}
