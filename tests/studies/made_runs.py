"""Records for tests: true settings and keys, invented numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import torch
from PIL import Image

from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.benchmarks import benchmark_settings, given_settings
from qrkd_lab.studies.records import Run, run_key, save_run

SHA = "ab" * 32


def made_run(arm="qrkd", seed=0, benchmark="digits", scale="smoke", sha256=SHA, **changes):
    """A run that was never trained; its scores depend on arm and seed."""
    settings = benchmark_settings(benchmark, scale, **changes).replace(arm=arm, seed=seed)
    return replace(own_run(settings.effective(), sha256), given=given_settings(settings))


def own_run(settings, sha256=SHA):
    """A run of any settings, such as a training loop of one's own records."""
    size, seed = len(settings["arm"]), settings["seed"]
    score = 0.8 + (13 * size + 7 * seed + 5 * size * seed) % 11 / 200
    epochs = [
        {"epoch": n, "total": 2.0 / n, "task": 1.0 / n, "validation_accuracy": score - 0.1 / n}
        for n in (1, 2)
    ]
    metrics = {"test_accuracy": score, "train_accuracy": score + 0.05}
    if settings["arm"] != TEACHER:
        metrics["teacher_test_accuracy"] = 0.9
    return Run(
        settings=settings,
        key=run_key(settings, sha256),
        versions={"qrkd_lab": "0.1.0", "torch": "2.0.0"},
        device="cpu",
        data={"name": settings["benchmark"], "source": "invented", "sha256": sha256},
        metric={"name": "test_accuracy", "higher_is_better": True},
        parameters=10,
        history=epochs,
        metrics=metrics,
        seconds={"train": 1.0, "evaluate": 0.5},
        finished=f"2026-01-{1 + settings['seed']:02d}T00:00:00+00:00",
    )


def keep(root, *runs):
    """Save runs with tiny weights; returns them with their folders."""
    weights = {"w": torch.zeros(2)}
    return [replace(run, path=save_run(run, weights, root)) for run in runs]


def own_images(folder, shade):
    """A small data set of one's own, in ``mine`` in a folder; returns the folder."""
    for part, name, i in product(("train", "test"), ("a", "b"), range(8)):
        place = folder / "mine" / part / name
        place.mkdir(parents=True, exist_ok=True)
        pixels = np.full((16, 16), shade + 60 * (name == "b") + i, dtype="uint8")
        Image.fromarray(pixels).save(place / f"{i}.png")
    return str(folder)
