"""A benchmark by its name: its settings, its data and models, and the one that a record is of."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from qrkd_lab.arms import TEACHER
from qrkd_lab.benchmarks.base import Benchmark
from qrkd_lab.benchmarks.scales import BENCHMARKS, check_scale
from qrkd_lab.data import DataError
from qrkd_lab.devices import default_arithmetic, pick_device
from qrkd_lab.runs import Run
from qrkd_lab.settings import Settings

__all__ = ["benchmark_of", "benchmark_settings", "is_text", "load_benchmark"]

_TEXT_ONLY = {
    "vocabulary", "sequence_length", "tap", "tap_tokens", "test_size", "dropout", "precision",
    "teacher_model", "teacher_layers", "teacher_width", "student_layers", "student_width",
}  # fmt: skip
_IMAGES_ONLY = {"teacher_widths", "student_widths"}


def is_text(benchmark: str) -> bool:
    """Whether a benchmark is one of language, by name or a folder of text; else it is of images."""
    if benchmark in BENCHMARKS:
        return "vocabulary" in BENCHMARKS[benchmark]["smoke"]
    folder = os.path.expanduser(benchmark)
    if os.path.isdir(os.path.join(folder, "train")):  # images, perhaps beside a list of them
        return os.path.isfile(os.path.join(folder, "train.txt"))
    texts = (os.path.join(folder, f"{part}.txt") for part in ("train", "valid", "test"))
    return any(map(os.path.lexists, texts))  # whether they can be read is seen later


def benchmark_settings(benchmark: str, scale: str = "laptop", **overrides: Any) -> Settings:  # noqa: ANN401
    """The default settings of a benchmark at a scale, with some of them changed.

    Whether they suit an arm is checked when it is chosen: by an override ``arm=``, or later by
    ``settings.replace(arm=...)``.

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
    check_scale(scale)
    foreign = overrides.keys() & (_IMAGES_ONLY if is_text(benchmark) else _TEXT_ONLY)
    if foreign:
        other = "image" if is_text(benchmark) else "language"
        raise ValueError(f"{min(foreign)} is a setting of {other} benchmarks, not of {benchmark}")
    base = Settings(os.fspath(benchmark), scale, TEACHER).replace(**scales[scale])
    changed = base.replace(**overrides)
    return changed if "arm" in overrides else replace(changed, arm=Settings.arm)


@default_arithmetic()
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
