"""Language benchmarks: GPT-2 predicts the next token of a text, or the sentiment of a review.

A text is one stream of tokens. An epoch cuts it into blocks of ``sequence_length``, from an offset
and in an order of its own; every position of a block is a prediction, so there is no padding. What
the relations compare is tapped from the hidden states, see :func:`~qrkd_lab.models.gpt2.tap`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from qrkd_lab.data.fetch import DataError
from qrkd_lab.data.text import CHOICES, TextData, Tokens, load_text, load_tokenizer
from qrkd_lab.files import canonical_sha256, expanded
from qrkd_lab.losses import Outputs
from qrkd_lab.models.gpt2 import (
    body,
    build_gpt2,
    fingerprint,
    pretrained_config,
    pretrained_gpt2,
    tap,
    untrained_gpt2,
)
from qrkd_lab.seeds import generator, seeded
from qrkd_lab.studies.benchmarks import Benchmark
from qrkd_lab.studies.records import Run
from qrkd_lab.studies.scores import Scores
from qrkd_lab.studies.settings import Settings

__all__ = [
    "LanguageBenchmark",
    "SentimentBenchmark",
    "Sequences",
    "load_language_benchmark",
    "windows",
]


EVALUATED = 4096  # tokens per batch while scoring


class Sequences(NamedTuple):
    """A batch of token sequences ``(n, t)``, int64, padded at the end.

    ``lengths`` ``(n,)`` counts the real tokens of each (None: all t); ``predicted`` and ``tapped``
    are positions in the flattened ``n t``: what logits are wanted for (None: everywhere), and what
    the tap ``tokens`` takes.
    """

    tokens: Tensor
    lengths: Tensor | None = None
    predicted: Tensor | None = None
    tapped: Tensor | None = None

    def to(self, device: torch.device) -> Sequences:
        return Sequences(*(None if x is None else x.to(device, non_blocking=True) for x in self))


@dataclass(frozen=True)
class LanguageBenchmark(Benchmark):
    """Next-token prediction; inputs are :class:`Sequences`, one prediction per token.

    Attributes:
        rows: of the embedding; a pretrained teacher may have more than its tokenizer makes.
    """

    data: TextData
    rows: int

    metric = "test_perplexity"
    higher_is_better = False
    classes = None  # a classifier of sequences has some

    def teacher(self, seed: int) -> nn.Module:
        s = self.settings
        if s.teacher_model is None:
            return self._built(seed, "teacher", s.teacher_layers, s.teacher_width)
        given = (s.teacher_model, self.data.tokenizer, s.sequence_length, s.dropout)
        with seeded(seed, "teacher"):
            return pretrained_gpt2(*given, classes=self.classes).to(self.device)

    def untrained_teacher(self, seed: int) -> nn.Module:
        s = self.settings
        if s.teacher_model is None:
            return super().untrained_teacher(seed)
        given = (s.teacher_model, self.data.tokenizer, s.sequence_length)
        with seeded(seed, "random teacher"):
            return untrained_gpt2(*given, classes=self.classes).to(self.device)

    def student(self, seed: int) -> nn.Module:
        return self._built(
            seed, "student", self.settings.student_layers, self.settings.student_width
        )

    def _built(self, seed: int, role: str, layers: int, width: int) -> nn.Module:
        sizes = (layers, width, self.settings.sequence_length, self.settings.dropout, self.rows)
        with seeded(seed, role):
            return build_gpt2(self.data.tokenizer, *sizes, self.classes).to(self.device)

    def export(self, run: Run, folder: str | Path) -> Path:
        """Write a trained model and its tokenizer in Hugging Face's format, as safetensors.

        ``AutoModelForCausalLM.from_pretrained(folder)`` and
        ``pipeline("text-generation", folder)`` read it, or ``AutoModelForSequenceClassification``
        a classifier; nothing of this kit is needed there.
        """
        folder = expanded(folder)
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise ValueError(f"{folder} exists: give a folder that is new or empty")
        model, tokenizer = self.model(run).cpu(), self.data.tokenizer
        model.config.pad_token_id = tokenizer.eos_token_id  # for batches of others
        if self.classes:
            model.config.id2label = dict(enumerate(self.data.classes))
            model.config.label2id = {name: i for i, name in enumerate(self.data.classes)}
        tokenizer.model_max_length = self.settings.sequence_length
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    def feature_dim(self, model: nn.Module) -> int:
        return model.config.n_embd

    @cached_property
    def samples(self) -> int:
        return (len(self.train) - self.settings.sequence_length) // self.settings.sequence_length

    def batches(self, seed: int, epoch: int, size: int) -> Iterator[tuple[Sequences, Tensor]]:
        t = self.settings.sequence_length
        offset = torch.randint(t, (1,), generator=generator(seed, "offset", epoch)).item()
        taps = generator(seed, "tap", epoch)
        for blocks in self.order(seed, epoch).split(size):
            # (n, t + 1): a block and the token after it
            reach = offset + t * blocks.numpy()[:, None] + np.arange(t + 1)
            ids = torch.from_numpy(self.train.ids[reach].astype(np.int64))
            batch = Sequences(ids[:, :-1], tapped=self._tapped(len(ids) * t, taps))
            yield batch.to(self.device), ids[:, 1:].flatten().to(self.device)

    def _tapped(self, count: int, drawn: torch.Generator) -> Tensor | None:
        """Positions that the tap ``tokens`` takes from so many real tokens, or None."""
        if self.settings.tap != "tokens":
            return None
        return torch.randperm(count, generator=drawn)[: self.settings.tap_tokens]

    def passes(self, part: Tokens) -> Iterator[tuple[Sequences, Tensor]]:
        """Overlapping windows: every token is predicted once, after at least t/2 others.

        Only at the beginning there are fewer; the first token follows the end-of-text token.
        """
        t, taps = min(self.settings.sequence_length, len(part)), generator(0, "tap of passes")
        begins, fresh = windows(len(part), t, max(1, t // 2))
        per = max(1, EVALUATED // t)
        for low in range(0, len(begins), per):
            starts, new = begins[low : low + per], fresh[low : low + per]
            reach = starts[:, None] + np.arange(t)  # (n, t), of the targets
            ids = part.ids[np.maximum(reach - 1, 0)].astype(np.int64)
            ids[reach == 0] = self.data.tokenizer.eos_token_id
            predicted = np.flatnonzero(np.arange(t) >= t - new[:, None])
            targets = part.ids[reach].astype(np.int64).ravel()[predicted]
            batch = Sequences(
                torch.from_numpy(ids),
                predicted=torch.from_numpy(predicted),
                tapped=self._tapped(reach.size, taps),
            )
            yield batch.to(self.device), torch.from_numpy(targets).to(self.device)

    def outputs(self, model: nn.Module, inputs: Sequences) -> Outputs:
        """Logits ``(m, v)`` of the predicted tokens; features ``(n, d)`` or ``(k, d)``."""
        half = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            hidden = body(model, inputs.tokens)  # (n, t, d)
            logits = self._logits(model, hidden, inputs)
        features = tap(hidden.float(), self.settings.tap, inputs.lengths, inputs.tapped)
        return Outputs(logits.float(), features)

    def _logits(self, model: nn.Module, hidden: Tensor, inputs: Sequences) -> Tensor:
        rows = hidden.flatten(0, 1)
        return model.lm_head(rows if inputs.predicted is None else rows[inputs.predicted])

    def numbers(self, scores: Scores, part: Tokens) -> dict[str, float]:
        """Perplexity per token and per word, next-token accuracy; agreement and KL.

        exp of the mean of -log p per token; and per word, which compares different tokenizers: the
        same sum over the corpus's own number of words (each line or review ends with one more).
        """
        total = scores.nll * scores.predictions
        return {
            "perplexity": math.exp(min(scores.nll, 700.0)),
            "word_perplexity": math.exp(min(total / part.word_count, 700.0)),
            "accuracy": scores.accuracy,
            **scores.beside_teacher,
        }

    @property
    def probe(self) -> Tokens:
        return self.train.take(len(self.validation))

    @property
    def sizes(self) -> dict[str, int]:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        words = {f"{name}_words": part.word_count for name, part in parts.items()}
        return {name: len(part) for name, part in parts.items()} | words


def windows(count: int, length: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows over ``count`` targets: where each begins, and how many of its last are new.

    Example:
        >>> windows(10, 4, 2)
        (array([0, 2, 4, 6]), array([4, 2, 2, 2]))
    """
    ends = np.minimum(np.arange(length, count + stride, stride), count)
    ends = np.unique(ends)  # the last window is moved back rather than cut short
    return ends - length, np.diff(ends, prepend=0)


def load_language_benchmark(
    settings: Settings, data_dir: str | Path | None, device: torch.device, given: set[str]
) -> LanguageBenchmark:
    """The benchmark of a corpus, with its tokenizer and its sizes; ``given``: what the user set."""
    needed = ["sequence_length", "tap", "student_layers", "student_width"]
    if settings.teacher_model is None:
        needed += ["vocabulary", "teacher_layers", "teacher_width", "dropout"]
    for name in needed:
        if getattr(settings, name) is None:
            raise ValueError(f"{name} is None, but {settings.benchmark} needs it: give a value")
    sentiment = settings.benchmark == "imdb-sentiment"
    corpus = "imdb" if sentiment else settings.benchmark
    data, rows = _with_tokenizer(settings, corpus, data_dir)
    if settings.precision is None:
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        settings = replace(settings, precision="bfloat16" if half else "float32")
    if corpus not in CHOICES:  # a folder: its records go by its name, not by its path
        settings = replace(settings, benchmark=data.name)
    for part in ("train", "validation", "test"):
        name, tokens = f"{part}_size", getattr(data, part)
        held = tokens.documents if sentiment else len(tokens)
        if (wanted := getattr(settings, name)) is None:
            continue
        if wanted > held and name in given:
            raise ValueError(f"{name}: expected at most {held}, got {wanted}")
        size = min(wanted, held)  # a scale's own size is lowered
        settings = replace(settings, **{name: size})
        data = replace(data, **{part: tokens.first(size) if sentiment else tokens.take(size)})
    kind = SentimentBenchmark if sentiment else LanguageBenchmark
    loaded = kind(settings, data, device, rows)
    if loaded.samples < settings.batch_size:
        raise DataError(
            f"{settings.benchmark}: the training part holds {loaded.samples} sequences of "
            f"{settings.sequence_length} tokens, less than one batch of {settings.batch_size}: use "
            "a smaller batch_size or sequence_length, or more text"
        )
    return loaded


def _with_tokenizer(
    settings: Settings, corpus: str, data_dir: str | Path | None
) -> tuple[TextData, int]:
    """The corpus in the teacher's own tokens, or in those of a tokenizer trained on it."""
    if settings.teacher_model is None:
        data = load_text(corpus, data_dir=data_dir, vocabulary=settings.vocabulary)
        return data, len(data.tokenizer)
    tokenizer = load_tokenizer(settings.teacher_model, data_dir=data_dir)
    config = pretrained_config(settings.teacher_model, tokenizer, settings.sequence_length)
    data = load_text(corpus, data_dir=data_dir, tokenizer=tokenizer)
    # What the teacher starts from is part of what a run is made of, like the text.
    sha256 = canonical_sha256([data.sha256, fingerprint(settings.teacher_model, config)])
    return replace(data, sha256=sha256), config.vocab_size


# ---- sentiment


@dataclass(frozen=True)
class SentimentBenchmark(LanguageBenchmark):
    """Classification of documents; inputs are :class:`Sequences`, one prediction per document."""

    metric = "test_accuracy"
    higher_is_better = True
    numbers = Benchmark.numbers

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

    def _logits(self, model: nn.Module, hidden: Tensor, inputs: Sequences) -> Tensor:
        return model.score(tap(hidden, "last", inputs.lengths))  # (n, c), from the last real token

    @property
    def probe(self) -> Tokens:
        return self.train.first(self.validation.documents)

    @property
    def sizes(self) -> dict[str, int]:
        return Benchmark.sizes.fget(self) | {
            f"{name}_reviews": getattr(self, name).documents
            for name in ("train", "validation", "test")
        }
