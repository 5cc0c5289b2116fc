"""What every kernel is: embed each sample, then compare every two embeddings.

A kernel says only two things: how a batch of angles ``(n, q)`` becomes one row ``(n, m)`` a sample
(:meth:`Kernel.embed`: a quantum state, Bloch vectors, or the angles themselves), and how rows of
two batches become a matrix (:meth:`Kernel.compare`). Checks, bandwidth and bounded memory are here,
once, for quantum kernels and classical controls alike.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from itertools import pairwise
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qrkd_lab.relations import LARGE, NotFinite, check_features, in_float32

__all__ = ["Kernel", "flag", "positive", "whole"]


class Kernel:
    """A kernel on angles: ``k(x)`` is ``(n, n)``, ``k(x, y)`` is ``(n, m)``; both differentiable.

    Attributes:
        bandwidth: every input is multiplied by it first. Small values make all samples look alike
            (K -> 1), large ones make each look like itself only (K -> identity).
        chunk: rows embedded at once; None chooses so that an embedding block stays near 128 MiB.
    """

    bandwidth: float = 1.0
    chunk: int | None = None

    @property
    def features(self) -> int | None:
        """How many angles a sample must have; None: any number."""
        return None

    @property
    def embedding_size(self) -> int:
        """Numbers a row of the embedding holds, to choose ``chunk`` by."""
        return 1024

    def embed(self, x: Tensor) -> Tensor:
        """Rows ``(n, m)`` for angles ``(n, q)``, bandwidth already applied."""
        raise TypeError(f"{type(self).__name__} must define embed(x)")

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        """Kernel values ``(n, m)`` of embeddings ``(n, .)`` and ``(m, .)``."""
        raise TypeError(f"{type(self).__name__} must define compare(u, v)")

    @in_float32
    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The kernel matrix of ``x`` with itself, or with ``y``.

        Args:
            x: angles ``(n, q)``.
            y: angles ``(m, q)``; None means ``x``.

        Returns:
            ``(n, n)`` or ``(n, m)``, in the dtype and on the device of ``x``; computed in float32
            at least (:func:`~qrkd_lab.relations.in_float32`).

        Raises:
            TypeError, ValueError: not a finite float ``(n, q)`` tensor, or another q than expected.
            NotFinite: angles so large that the kernel's own numbers leave the range of their type.
        """
        largest = self.check(x, "x")
        if y is not None:
            largest = max(largest, self.check(y, "y"))
            if y.dtype != x.dtype or y.shape[1] != x.shape[1]:
                raise ValueError(
                    f"x and y must have one dtype and width, got {x.dtype}, {x.shape[1]} and "
                    f"{y.dtype}, {y.shape[1]}"
                )
        most = max(1, 2**24 // self.embedding_size)
        rows = most if self.chunk is None else whole("chunk", self.chunk, 1)
        if max(len(x), 0 if y is None else len(y)) <= rows:
            u = self.embed(x * self.bandwidth)
            matrix = self.compare(u, u if y is None else self.embed(y * self.bandwidth))
        else:
            matrix = self._blockwise(x, x if y is None else y, rows)
        if self.bandwidth * largest > LARGE and not torch.isfinite(matrix).all():
            raise NotFinite(
                f"{self}: angles as large as {largest:.3g} leave the range of {x.dtype} inside it; "
                "standardise them first, as an Encoder does, or use float64"
            )
        return matrix

    def check(self, x: Tensor, name: str = "x") -> float:
        """Raise unless ``x`` is a finite float tensor ``(n, q)`` with the q this kernel takes.

        Returns:
            The largest absolute value.
        """
        largest = check_features(x, name)
        if self.features is not None and x.shape[1] != self.features:
            raise ValueError(
                f"{name}: {self} takes {self.features} angles a sample, got {x.shape[1]}; "
                "use an Encoder, or a kernel of another size"
            )
        return largest

    def _blockwise(self, x: Tensor, y: Tensor, rows: int) -> Tensor:
        """The same matrix block by block; embeddings are made again rather than kept."""

        def block(a: Tensor, b: Tensor) -> Tensor:
            return self.compare(self.embed(a * self.bandwidth), self.embed(b * self.bandwidth))

        def line(a: Tensor) -> Iterator[Tensor]:
            for low, high in pairwise([*range(0, len(y), rows), len(y)]):
                yield checkpoint(block, a, y[low:high], use_reentrant=False)

        cuts = pairwise([*range(0, len(x), rows), len(x)])
        return torch.cat([torch.cat(list(line(x[low:high])), dim=1) for low, high in cuts])


def whole(name: str, value: object, low: int, high: float = math.inf) -> int:
    """The value as an int (NumPy's integers count), or a ValueError that names the argument."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not low <= number <= high:
        limits = f"from {low} to {high}" if high < math.inf else f">= {low}"
        raise ValueError(f"{name}: expected a whole number {limits}, got {value!r}")
    return number


def positive(name: str, value: object) -> float:
    """The value as a float (NumPy's numbers count), or a ValueError that names the argument."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < math.inf:
        raise ValueError(f"{name}: expected a finite number > 0, got {value!r}")
    return float(value)


def flag(name: str, value: object) -> bool:
    """The value as a bool (NumPy's counts), or a TypeError: text and numbers are none."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)
