"""The benchmarks that there are, and what each scale makes of them.

=========  ==========================================================================
scale      what it is for
=========  ==========================================================================
smoke      seconds: tests, and seeing that everything runs
laptop     minutes to half an hour a seed on two cores: real data, small models
paper      the full data and longer training: an hour or more; for text a pretrained
           GPT-2 and a GPU
=========  ==========================================================================

The settings of the paper beyond the MNIST models' sizes are not public in full; these are the kit's
own and are not presented as the paper's.
"""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from qrkd_lab.benchmarks.base import Benchmark
from qrkd_lab.data import DataError
from qrkd_lab.devices import pick_device
from qrkd_lab.runs import Run
from qrkd_lab.settings import Settings

__all__ = ["BENCHMARKS", "SCALES", "benchmark_of", "benchmark_settings", "load_benchmark"]

SCALES = ("smoke", "laptop", "paper")

# What differs from Settings' defaults, by benchmark and scale.
_GREY = {"teacher_widths": (8, 12, 20), "student_widths": (5, 2, 31)}  # 6,690 and 1,725 weights
_COLOUR = {"teacher_widths": (16, 32, 64), "student_widths": (5, 8, 32)}  # 65,962 and 8,150 weights
# What `tune` chose on the validation part at laptop scale, the same budget for every arm; the whole
# search is in results/<benchmark>/laptop/tuning.json. Most lie at the least of the candidates.
_KERNELS = ("qrkd", "rbf", "projected", "no_entanglement", "shuffled", "random_teacher")
_CHOSEN = dict.fromkeys(_KERNELS, 0.1) | {"cosine": 1.0}
_MNIST = _GREY | {
    "kd_weight": 0.1, "distance_weight": 0.1, "angle_weight": 0.2, "kernel_weights": _CHOSEN,
}  # fmt: skip
_CIFAR10 = _COLOUR | {
    "kd_weight": 0.1, "distance_weight": 1.0, "angle_weight": 2.0, "kernel_weights": _CHOSEN,
}  # fmt: skip
_SHORT = {"train_size": 512, "validation_size": 256, "teacher_epochs": 1, "epochs": 1}

_TEXT = {
    "vocabulary": 2048,
    "sequence_length": 64,
    "tap": "tokens",
    "tap_tokens": 64,
    "batch_size": 16,  # half of 32 gave 75 for 84 on PTB's validation part: more steps a token
    "learning_rate": 4e-3,
    "teacher_learning_rate": 1e-3,  # wider networks want smaller steps; 2e-3 was worse
    "schedule": "cosine",
    "clip_norm": 1.0,
    "dropout": 0.0,  # no token budget here comes round often enough to overfit
    "precision": "float32",
    # The best of 17 on PTB's validation part (seed 0, a quarter of the budget): there kd alone had
    # 95, with the temperature 4 and weight 0.3 of images 142, the student without a teacher 151.
    "kd_weight": 10.0, "temperature": 1.0,
    "distance_weight": 3.0, "angle_weight": 6.0, "kernel_weight": 0.3,
    "teacher_layers": 4, "teacher_width": 256, "student_layers": 2, "student_width": 64,
}  # fmt: skip
_TEXT_SMOKE = _TEXT | {
    "vocabulary": 512, "sequence_length": 16, "tap_tokens": 32, "batch_size": 8,
    "teacher_layers": 2, "teacher_width": 64, "student_layers": 1, "student_width": 64,
    "epoch_size": 64, "teacher_epochs": 1, "epochs": 1,
    "train_size": 20_000, "validation_size": 2_000, "test_size": 2_000,
}  # fmt: skip
# A fixed budget of tokens whatever the corpus: 4,096 x 64 an epoch, 1.3 million for the teacher and
# 1.0 million for each student.
_TEXT_LAPTOP = _TEXT | {
    "epoch_size": 4096, "teacher_epochs": 5, "epochs": 4, "validation_size": 20_000,
}  # fmt: skip
_TEXT_PAPER = _TEXT | {
    "teacher_model": "gpt2", "vocabulary": None, "teacher_layers": None, "teacher_width": None,
    "student_layers": 6, "student_width": 384,
    "sequence_length": 512, "tap_tokens": 256, "batch_size": 8, "accumulation": 4,
    "learning_rate": 5e-4, "teacher_learning_rate": 5e-5, "dropout": 0.1,
    "teacher_epochs": 3, "epochs": 10, "checkpoint_steps": 500,
    "precision": None,  # bfloat16 where the device has it
}  # fmt: skip
_REVIEWS = {
    "tap": "last",  # and a classifier's weights, as for images
    "kd_weight": 0.3, "temperature": 4.0,
    "distance_weight": 1.0, "angle_weight": 2.0, "kernel_weight": 1.0,
}  # fmt: skip

BENCHMARKS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        # 1,100 images to train on: few and small steps, so a high rate and many short epochs
        "smoke": _GREY
        | _SHORT
        | {"train_size": 256, "validation_size": 128, "learning_rate": 1e-2},
        "laptop": _GREY | {"teacher_epochs": 30, "epochs": 30, "learning_rate": 1e-2},
        "paper": _GREY | {"teacher_epochs": 100, "epochs": 100, "learning_rate": 1e-2},
    },
    "mnist": {
        "smoke": _MNIST | _SHORT,
        "laptop": _MNIST | {"teacher_epochs": 5, "epochs": 5},
        "paper": _MNIST | {"teacher_epochs": 20, "epochs": 20},
    },
    "cifar10": {
        "smoke": _CIFAR10 | _SHORT,
        "laptop": _CIFAR10 | {"teacher_epochs": 8, "epochs": 8},
        "paper": _CIFAR10 | {"teacher_epochs": 40, "epochs": 40},
    },
    "wikitext2": {"smoke": _TEXT_SMOKE, "laptop": _TEXT_LAPTOP, "paper": _TEXT_PAPER},
    "ptb": {"smoke": _TEXT_SMOKE, "laptop": _TEXT_LAPTOP, "paper": _TEXT_PAPER},
    "imdb": {
        "smoke": _TEXT_SMOKE,
        "laptop": _TEXT_LAPTOP | {"test_size": 200_000},  # of ten million tokens
        "paper": _TEXT_PAPER,
    },
    "imdb-sentiment": {
        "smoke": _TEXT_SMOKE
        | _REVIEWS
        | {"train_size": 128, "validation_size": 64, "test_size": 64, "sequence_length": 32},
        "laptop": _TEXT_LAPTOP
        | _REVIEWS
        | {"sequence_length": 128, "validation_size": 1000, "batch_size": 32,
           "teacher_layers": 2, "teacher_width": 128, "student_layers": 1, "student_width": 64},
        "paper": _TEXT_PAPER | _REVIEWS | {"sequence_length": 256, "batch_size": 32},
    },
}  # fmt: skip
_TEXT_ONLY = {
    "vocabulary", "sequence_length", "tap", "tap_tokens", "test_size", "dropout", "precision",
    "teacher_model", "teacher_layers", "teacher_width", "student_layers", "student_width",
}  # fmt: skip
_IMAGES_ONLY = {"teacher_widths", "student_widths"}


def is_text(benchmark: str) -> bool:
    """Whether a benchmark is one of language, by name or a folder of text; else it is of images."""
    if benchmark in BENCHMARKS:
        return "vocabulary" in BENCHMARKS[benchmark]["smoke"]
    return os.path.isfile(os.path.join(os.path.expanduser(benchmark), "train.txt"))


def benchmark_settings(benchmark: str, scale: str = "laptop", **overrides: Any) -> Settings:  # noqa: ANN401
    """The default settings of a benchmark at a scale, with some of them changed.

    Raises:
        ValueError: unknown benchmark, scale or setting (lists the choices), a setting that this
            kind of benchmark has no use for, or a bad value.
    """
    scales = BENCHMARKS.get(benchmark)
    if scales is None and os.path.isdir(os.path.expanduser(benchmark)):
        scales = BENCHMARKS["ptb" if is_text(benchmark) else "cifar10"]
    if scales is None:
        raise ValueError(
            f"unknown benchmark {benchmark!r}; choose from {', '.join(BENCHMARKS)}, or give a "
            "folder of images, root/{train,test}/<class>/*.png, or of text, "
            "root/{train,valid,test}.txt"
        )
    if scale not in SCALES:
        raise ValueError(f"unknown scale {scale!r}; choose from {', '.join(SCALES)}")
    foreign = overrides.keys() & (_IMAGES_ONLY if is_text(benchmark) else _TEXT_ONLY)
    if foreign:
        other = "image" if is_text(benchmark) else "language"
        raise ValueError(f"{min(foreign)} is a setting of {other} benchmarks, not of {benchmark}")
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
        benchmark: ``digits``, ``mnist``, ``cifar10``, or a folder of images; ``wikitext2``,
            ``ptb``, ``imdb``, ``imdb-sentiment``, or a folder of text.
        scale: ``smoke``, ``laptop`` or ``paper``.
        data_dir: where the files are or go; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: where batches and models live; ``auto`` takes a GPU if there is one.
        overrides: any field of :class:`~qrkd_lab.settings.Settings`. A ``train_size`` or
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
    settings = benchmark_settings(benchmark, scale, **overrides)
    place = pick_device(device)
    if settings.validation_size is not None and settings.validation_size < 1:
        raise ValueError(
            f"validation_size: expected at least 1, got {settings.validation_size}: every epoch is "
            "scored on the validation part; leave it out for the default"
        )
    if is_text(benchmark):
        from qrkd_lab.benchmarks.language_setup import load_language_benchmark

        return load_language_benchmark(settings, data_dir, place, set(overrides))
    from qrkd_lab.benchmarks.images import load_image_benchmark

    return load_image_benchmark(settings, data_dir, place, set(overrides))


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
        folder: where the data are, for a run on a folder of images or text of the user's own: a
            record knows its name only.

    Raises:
        DataError: the data here are not those of the record.
    """
    known = {field.name for field in fields(Settings)} - {"benchmark", "scale", "arm", "seed"}
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
