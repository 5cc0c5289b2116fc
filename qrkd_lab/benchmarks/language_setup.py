"""From settings to a benchmark of language: corpus, tokenizer and sizes, checked together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from qrkd_lab.benchmarks.language import LanguageBenchmark
from qrkd_lab.benchmarks.sentiment import SentimentBenchmark
from qrkd_lab.data import DataError, TextData, load_text
from qrkd_lab.data.text import CHOICES
from qrkd_lab.data.tokenizer import load_tokenizer
from qrkd_lab.models.gpt2 import fingerprint, pretrained_config
from qrkd_lab.settings import Settings
from qrkd_lab.storage import canonical_sha256

__all__ = ["load_language_benchmark"]


def load_language_benchmark(
    settings: Settings, data_dir: str | Path | None, device: torch.device, given: set[str]
) -> LanguageBenchmark:
    """The benchmark of a corpus, with its tokenizer and its sizes; ``given``: what the user set."""
    _check_complete(settings)
    sentiment = settings.benchmark == "imdb-sentiment"
    corpus = "imdb" if sentiment else settings.benchmark
    data, rows = _with_tokenizer(settings, corpus, data_dir)
    if settings.precision is None:
        half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        settings = replace(settings, precision="bfloat16" if half else "float32")
    if corpus not in CHOICES:  # a folder: its records go by its name, not by its path
        settings = replace(settings, benchmark=data.name)
    kind = SentimentBenchmark if sentiment else LanguageBenchmark
    settings = _fitting(settings, kind, data, given)
    loaded = kind(settings, kind.cut(data, settings), device, rows)
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


def _check_complete(settings: Settings) -> None:
    """Raise ValueError where a setting that a text needs was set to None."""
    needed = ["sequence_length", "tap", "student_layers", "student_width"]
    if settings.teacher_model is None:
        needed += ["vocabulary", "teacher_layers", "teacher_width", "dropout"]
    for name in needed:
        if getattr(settings, name) is None:
            raise ValueError(f"{name} is None, but {settings.benchmark} needs it: give a value")


def _fitting(
    settings: Settings, kind: type[LanguageBenchmark], data: TextData, given: set[str]
) -> Settings:
    """Settings whose sizes the corpus has; a scale's own is lowered, the user's must fit."""
    lowered = {}
    for part in ("train", "validation", "test"):
        name, held = f"{part}_size", kind.size(getattr(data, part))
        wanted = getattr(settings, name)
        if wanted is not None and wanted > held:
            if name in given:
                raise ValueError(f"{name}: expected at most {held}, got {wanted}")
            lowered[name] = held
    return replace(settings, **lowered)
