"""Images that may not be there: a notebook with published records goes on without them.

Records need no images, a look at images does. Ask for them once with :func:`images_at_hand`; what
comes back is the benchmark, or a :class:`Missing` that says in words what is not there. Pass it on
through :func:`if_there`, which calls nothing where something is missing:

    bench = images_at_hand("mnist")
    if_there(bench, lambda bench: samples(bench.train, bench.data.classes))
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from qrkd_lab.arms import TEACHER
from qrkd_lab.data import DataError
from qrkd_lab.seeds import which_seeds

if TYPE_CHECKING:
    from qrkd_lab.benchmarks.images import ImageBenchmark
    from qrkd_lab.study import Study

__all__ = ["Missing", "if_there", "images_at_hand", "study_at_hand", "what_is_there"]


@dataclass(frozen=True)
class Missing:
    """Stands for something that is not at hand, and says why when it is displayed."""

    reason: str

    def __repr__(self) -> str:
        return f"Not shown: {self.reason}"

    def _repr_html_(self) -> str:
        return f"<p><strong>Not shown:</strong> {html.escape(self.reason)}</p>"


def images_at_hand(
    benchmark: str,
    scale: str = "laptop",
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    **overrides: Any,  # noqa: ANN401
) -> ImageBenchmark | Missing:
    """The benchmark if its images are on this machine; nothing is downloaded.

    Args:
        benchmark, scale, data_dir, device, overrides: see
            :func:`~qrkd_lab.benchmarks.load_benchmark`.

    Raises:
        ValueError: unknown names, a language benchmark, or settings out of range.

    Example:
        >>> images_at_hand("digits", "smoke").settings.benchmark
        'digits'
    """
    from qrkd_lab.benchmarks import load_benchmark
    from qrkd_lab.benchmarks.registry import is_text
    from qrkd_lab.data import load_images

    if is_text(benchmark):
        raise ValueError(f"{benchmark} is a benchmark of language: it has no images")
    try:
        load_images(benchmark, data_dir=data_dir, download=False)  # no network from here on
        return load_benchmark(benchmark, scale, data_dir, device, **overrides)
    except DataError:
        return Missing(
            f"the images of {benchmark} are not on this machine, or not whole. Get them with "
            f"python -m qrkd_lab data {benchmark} and run the notebook again."
        )


def if_there(value: Any, then: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    """``then(value)``, or the value itself where it is :class:`Missing`.

    Example:
        >>> if_there(2, lambda x: x + 1)
        3
        >>> if_there(Missing("no images here."), lambda x: x + 1)
        Not shown: no images here.
    """
    return value if isinstance(value, Missing) else then(value)


def study_at_hand(benchmark: str, **choices: Any) -> Study | Missing:  # noqa: ANN401
    """A study if its images are on this machine, or all its records came with the kit.

    Nothing is downloaded: where a seed, arm or setting is not among those records, and the images
    are not here, it is :class:`Missing`.

    Args:
        benchmark: one of images.
        choices: arguments of :func:`~qrkd_lab.comparison.compare` by name.

    Example:
        >>> study = study_at_hand("mnist", published=True)                 # doctest: +SKIP
    """
    from qrkd_lab.benchmarks import benchmark_settings
    from qrkd_lab.comparison import compare
    from qrkd_lab.published import published_seeds

    bound = signature(compare).bind(benchmark, **choices)
    bound.apply_defaults()
    asked = bound.arguments
    images = images_at_hand(benchmark, asked["scale"], asked["data_dir"])
    if isinstance(images, Missing):
        if not asked["published"]:
            return images
        settings = benchmark_settings(benchmark, asked["scale"], **asked["overrides"])
        arms = [asked["arms"]] if isinstance(asked["arms"], str) else asked["arms"]
        seeds = which_seeds(asked["seeds"])
        wanted = [settings.replace(arm=arm) for arm in (TEACHER, *arms)]
        if set(seeds) - published_seeds(wanted, seeds).keys():
            return images
    return compare(benchmark, **choices)


def what_is_there(named: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without what is missing; prints the reason of each that is.

    Example:
        >>> what_is_there({"a": 1, "b": Missing("no images here.")})
        b is left out: no images here.
        {'a': 1}
    """
    for name, value in named.items():
        if isinstance(value, Missing):
            print(f"{name} is left out: {value.reason}")
    return {name: value for name, value in named.items() if not isinstance(value, Missing)}
