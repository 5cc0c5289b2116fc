"""Images in memory: uint8 pixels with their labels, in parts, and fair ways to split them.

Pixels stay ``uint8`` until a batch is normalised: MNIST takes 55 MB and CIFAR-10 184 MB, and an
epoch touches no file and no image library. Shapes: ``n`` samples, ``C`` channels, ``H`` x ``W``
pixels with values 0..255.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["SPLIT_SEED", "Images", "Parts", "fingerprint", "stratified_order"]

SPLIT_SEED = 2026  # one split for every run of everybody, so that results can be compared


@dataclass(frozen=True, eq=False)
class Images:
    """One part of a data set.

    Args:
        pixels: uint8 ``(n, C, H, W)``, values 0..255.
        labels: int64 ``(n,)``, class numbers from 0.

    Raises:
        TypeError: A tensor has another type.
        ValueError: The shapes do not fit.
    """

    pixels: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.labels.dtype != torch.int64:
            raise TypeError(
                "Images expects uint8 pixels and int64 labels, "
                f"got {self.pixels.dtype} and {self.labels.dtype}."
            )
        if self.pixels.ndim != 4 or self.labels.shape != self.pixels.shape[:1]:
            raise ValueError(
                "Images expects pixels (n, C, H, W) and labels (n,), "
                f"got {tuple(self.pixels.shape)} and {tuple(self.labels.shape)}."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Images:
        """The samples of an int64 index ``(m,)`` or a slice, as images again."""
        if isinstance(index, slice):
            return Images(self.pixels[index], self.labels[index])
        # index_select copies whole images: several times faster than pixels[index]
        return Images(self.pixels.index_select(0, index), self.labels.index_select(0, index))

    def __repr__(self) -> str:
        shape = " x ".join(str(size) for size in self.pixels.shape[1:])
        return f"Images({len(self):,} of {shape})"


@dataclass(frozen=True, eq=False)
class Parts:
    """What a reader gives: a data set as it is published, before any split of its training part.

    Args:
        train, test: The published parts.
        classes: Names, in the order of the class numbers.
        source: Where the pixels come from, in words.
        validation_size: How many training images are set aside unless the user says otherwise.
    """

    train: Images
    test: Images
    classes: tuple[str, ...]
    source: str
    validation_size: int


def stratified_order(labels: Tensor, seed: int = SPLIT_SEED) -> Tensor:
    r"""A random order of the samples in which every stretch has the classes in due proportion.

    Sample number :math:`r` of its class's :math:`n_c` samples (shuffled) gets the rank
    :math:`(r + 1/2) / n_c`; the order sorts by rank, ties at random. So the first ``k`` are a
    stratified sample for each ``k``, larger ones contain smaller ones, and cutting the order
    in two stratifies both pieces.

    Args:
        labels: int64 ``(n,)``.
        seed: Of the shuffling.

    Returns:
        int64 ``(n,)``, a permutation of 0..n-1.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> labels[stratified_order(labels)[:3]].sort().values
        tensor([0, 0, 1])
    """
    rng = np.random.default_rng(seed)
    classes = labels.numpy()
    rank = np.empty(len(classes))
    for label in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == label))
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.lexsort((rng.permutation(len(classes)), rank))  # by rank, then by chance
    return torch.from_numpy(order)


def fingerprint(*parts: Images) -> str:
    """SHA-256 (hex) of shapes, pixels and labels of all parts, in order; equal on every machine.

    Raises:
        ValueError: A part is not on the CPU.
    """
    digest = hashlib.sha256()
    for part in parts:
        if part.pixels.device.type != "cpu":
            raise ValueError(f"fingerprint expects images on the CPU, got {part.pixels.device}.")
        digest.update(repr(tuple(part.pixels.shape)).encode())
        digest.update(np.ascontiguousarray(part.pixels.numpy()))
        digest.update(np.ascontiguousarray(part.labels.numpy(), dtype="<i8"))
    return digest.hexdigest()
