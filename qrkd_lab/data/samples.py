"""Labelled samples to look at through a kernel: digits, MNIST, two moons, or a reader's array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from qrkd_lab.data.images import stratified_order
from qrkd_lab.data.vision import load_images

__all__ = ["SOURCES", "Samples", "labelled_samples"]

SOURCES = ("digits", "two moons", "mnist")
MOST = 2000  # of a large data set; an order that stratifies makes them its fair share


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """Rows of numbers with a class each, in an order whose every beginning is stratified.

    Attributes:
        name: of the source.
        features: float64 ``(m, d)``.
        labels: int64 ``(m,)``.
        classes: their names, one a class number.
    """

    name: str
    features: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        m, d = self.features.shape
        return f"Samples({self.name}, {m:,} of {d} numbers in {len(self.classes)} classes)"


def labelled_samples(
    source: str | tuple[ArrayLike, ArrayLike], data_dir: str | Path | None = None, seed: int = 0
) -> Samples:
    """Samples by name, or of arrays; images are their pixels, from 0 to 1.

    Args:
        source: ``digits``, ``two moons``, ``mnist``, or (features ``(m, d)``, labels ``(m,)``).
        data_dir: folder of MNIST; None: ``$QRKD_DATA_DIR``, else the user's cache.
        seed: of the order, and of the moons.

    Raises:
        ValueError: an unknown name (lists them), or arrays of other shapes or not finite.
        DataError: MNIST is not on this machine (nothing is downloaded).

    Example:
        >>> labelled_samples("two moons")
        Samples(two moons, 512 of 2 numbers in 2 classes)
    """
    if not isinstance(source, str):
        return _own(source, seed)
    if source not in SOURCES:
        raise ValueError(
            f"unknown data {source!r}; choose from {', '.join(SOURCES)}, or give a pair of arrays "
            "(features, labels)"
        )
    if source == "two moons":
        from sklearn.datasets import make_moons

        points, which = make_moons(512, noise=0.1, random_state=seed)
        return _ordered(source, torch.from_numpy(points), torch.from_numpy(which), None, seed)
    images = load_images(source, data_dir=data_dir, download=False)
    chosen = images.train[stratified_order(images.train.labels, seed)[:MOST]]
    pixels = chosen.pixels.flatten(1).double() / 255
    return Samples(source, pixels, chosen.labels, images.classes)


def _own(source: tuple[ArrayLike, ArrayLike], seed: int) -> Samples:
    try:
        x, y = source
        rows, labels = (
            np.asarray(v.detach().cpu() if isinstance(v, Tensor) else v) for v in (x, y)
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"data: expected a pair (features, labels) of arrays: {error}") from None
    if rows.dtype.kind not in "buif" or labels.dtype.kind not in "buifUS":
        raise ValueError(
            "data: expected features that are numbers, and labels that are numbers or words; got "
            f"{rows.dtype} and {labels.dtype}"
        )
    if rows.ndim != 2 or not rows.shape[1] or labels.shape != (len(rows),) or len(rows) < 3:
        raise ValueError(
            "data: expected features (m, d) and labels (m,) with one m >= 3, got "
            f"{rows.shape} and {labels.shape}"
        )
    features = torch.from_numpy(np.array(rows, dtype=np.float64))  # a copy, whatever its strides
    if not features.isfinite().all():
        raise ValueError("data: the features hold values that are not finite; leave them out")
    if labels.dtype.kind == "f" and not (labels == np.round(labels)).all():
        raise ValueError("data: the labels are no classes, but numbers with fractions, or NaN")
    found, numbers = np.unique(labels, return_inverse=True)  # words too
    classes = [str(c) for c in found.tolist()]
    return _ordered("your data", features, torch.from_numpy(numbers), classes, seed)


def _ordered(
    name: str, features: Tensor, labels: Tensor, classes: Sequence[str] | None, seed: int
) -> Samples:
    order = stratified_order(labels, seed)
    names = classes or [str(c) for c in labels.unique().tolist()]
    return Samples(name, features[order].double(), labels[order], tuple(names))
