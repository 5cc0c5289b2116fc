"""Sentiment of reviews as a benchmark: GPT-2 with a classification head, test accuracy.

Unlike a text's, a review's samples have their own lengths: they are cut to ``sequence_length``
tokens and padded at the end. The head reads the hidden state of the last real token, and padding
enters no loss and no pool.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from qrkd_lab.benchmarks.base import Benchmark
from qrkd_lab.benchmarks.language import EVALUATED, LanguageBenchmark, Sequences
from qrkd_lab.data import DataError, TextData, Tokens
from qrkd_lab.models.gpt2 import body, tap
from qrkd_lab.objective import Outputs
from qrkd_lab.runs import Run
from qrkd_lab.scores import Scores
from qrkd_lab.seeds import generator
from qrkd_lab.settings import Settings

__all__ = ["SentimentBenchmark"]


@dataclass(frozen=True)
class SentimentBenchmark(LanguageBenchmark):
    """Classification of documents; inputs are :class:`Sequences`, a prediction a document."""

    metric = "test_accuracy"
    higher_is_better = True

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    @property
    def samples(self) -> int:
        return self.train.documents

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Sequences, Tensor]]:
        taps = generator(seed, "tap", epoch)
        for documents in self.order(seed, epoch).split(size):
            yield self._batch(self.train, documents.numpy(), taps)

    def passes(self, part: Tokens) -> Iterator[tuple[Sequences, Tensor]]:
        taps = generator(0, "tap of passes")
        per = max(1, EVALUATED // self.settings.sequence_length)
        for low in range(0, part.documents, per):
            documents = np.arange(low, min(low + per, part.documents))
            yield self._batch(part, documents, taps)

    def _batch(
        self, part: Tokens, documents: np.ndarray, taps: torch.Generator
    ) -> tuple[Sequences, Tensor]:
        """The beginnings of some documents, padded to the longest of them."""
        begins = np.where(documents > 0, part.ends[documents - 1], 0)
        # Without the end-of-text token, which pads: others would not know it for a real one.
        whole = np.maximum(part.ends[documents] - begins - 1, 1)
        lengths = np.minimum(whole, self.settings.sequence_length)
        real = np.arange(lengths.max()) < lengths[:, None]  # (n, t)
        reach = np.where(real, begins[:, None] + np.arange(lengths.max()), 0)
        ids = np.where(real, part.ids[reach], self.data.tokenizer.pad_token_id).astype(np.int64)
        places = np.flatnonzero(real)
        chosen = self._tapped(len(places), taps)
        batch = Sequences(
            torch.from_numpy(ids),
            torch.from_numpy(lengths),
            tapped=None if chosen is None else torch.from_numpy(places)[chosen],
        )
        return batch.to(self.device), torch.from_numpy(part.labels[documents]).to(self.device)

    def export(self, run: Run, folder: str | Path) -> Path:
        """As a language model's, for ``AutoModelForSequenceClassification``, with class names."""
        folder = super().export(run, folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        config["id2label"] = dict(enumerate(self.data.classes))
        config["label2id"] = {name: i for i, name in enumerate(self.data.classes)}
        (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
        return folder

    def outputs(self, model: nn.Module, inputs: Sequences) -> Outputs:
        """Logits ``(n, c)`` from the last real token; features ``(n, d)`` or ``(k, d)``."""
        with self._precision():
            hidden = body(model, inputs.tokens)  # (n, t, d)
            logits = model.score(tap(hidden, "last", inputs.lengths))
        features = tap(hidden.float(), self.settings.tap, inputs.lengths, inputs.tapped)
        return Outputs(logits.float(), features)

    def numbers(self, scores: Scores, part: Tokens) -> dict[str, float]:
        """Accuracy, a fraction; agreement and KL."""
        return {"accuracy": scores.accuracy, **scores.beside_teacher}

    def in_words(self, numbers: Mapping[str, float]) -> str:
        return f"{100 * numbers['accuracy']:.1f}%"

    @staticmethod
    def size(part: Tokens) -> int:
        """What the sizes of the settings count: documents."""
        return part.documents

    @staticmethod
    def shorten(part: Tokens, size: int) -> Tokens:
        """The first documents of a part, so many."""
        return part.first(size)

    @classmethod
    def cut(cls, data: TextData, settings: Settings) -> TextData:
        """The corpus with its parts cut to the sizes of the settings.

        Raises:
            DataError: the corpus has no labels.
        """
        if not data.classes:
            raise DataError(f"{data.name} has no labels: only imdb-sentiment has them")
        return super().cut(data, settings)

    @property
    def probe(self) -> Tokens:
        return self.train.first(self.validation.documents)

    @property
    def sizes(self) -> dict[str, int]:
        return Benchmark.sizes.fget(self) | {
            f"{name}_reviews": getattr(self, name).documents
            for name in ("train", "validation", "test")
        }
