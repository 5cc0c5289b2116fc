"""Recipes: how to load a benchmark. They travel to where the training is; the data do not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from qrkd_lab.benchmarks import Benchmark, load_benchmark
from qrkd_lab.data import DataError
from qrkd_lab.settings import Settings
from qrkd_lab.storage import expanded

__all__ = ["Recipe", "keep", "loaded"]


@dataclass(frozen=True)
class Recipe:
    """What a process needs to know to load the benchmark of a study.

    Args:
        benchmark, scale, data_dir, device, overrides: see
            :func:`~qrkd_lab.benchmarks.load_benchmark`; ``auto`` is decided where it is loaded.
        sha256: of the data, once they are known.
        settings: of the benchmark, once it was loaded.
    """

    benchmark: str
    scale: str
    data_dir: str | Path | None
    device: str | torch.device
    overrides: Mapping[str, Any]
    sha256: str = ""
    settings: Settings | None = None

    @property
    def key(self) -> str:
        return repr(self)

    def load(self) -> Benchmark:
        """The benchmark, read anew."""
        return load_benchmark(
            self.benchmark, self.scale, self.data_dir, self.device, **self.overrides
        )

    def settled(self, benchmark: Benchmark) -> Recipe:
        """The recipe of exactly this benchmark, whatever another machine would choose by itself."""
        overrides = dict(self.overrides)
        if benchmark.settings.precision is not None:
            overrides["precision"] = benchmark.settings.precision
        found = {"sha256": benchmark.data.sha256, "settings": benchmark.settings}
        return replace(self, overrides=overrides, **found)

    def elsewhere(self) -> Recipe:
        """The recipe for another machine, where the folder of the data may be another one."""
        if self.data_dir is None or expanded(self.data_dir).is_dir():
            return self
        return replace(self, data_dir=None)

    def check(self) -> None:
        """Load the benchmark on another machine, and see that it is the one that was settled.

        Raises:
            ValueError, DataError: what :func:`~qrkd_lab.benchmarks.load_benchmark` says; or the
                data or the settings are others.
        """
        found = loaded(self.elsewhere())
        if found.data.sha256 != self.sha256:
            raise DataError(
                f"it holds other data of {self.benchmark}: sha256 {found.data.sha256[:12]}, "
                f"expected {self.sha256[:12]}; give it the same files, or none, so that it "
                "fetches them"
            )
        for field in fields(Settings):
            got, expected = (getattr(of, field.name) for of in (found.settings, self.settings))
            if got != expected:
                raise ValueError(f"{field.name} is {got!r} there, {expected!r} here")


_LOADED: dict[str, Benchmark] = {}  # the last benchmark that this process loaded


def keep(recipe: Recipe, benchmark: Benchmark) -> None:
    """Let :func:`loaded` give this benchmark for the recipe, and forget any other."""
    _LOADED.clear()
    _LOADED[recipe.key] = benchmark


def loaded(recipe: Recipe) -> Benchmark:
    """The benchmark of a recipe, read once a process for all jobs that follow."""
    if recipe.key not in _LOADED:
        _LOADED.clear()  # before the next is read: two may be more than there is memory for
        keep(recipe, recipe.load())
    return _LOADED[recipe.key]
