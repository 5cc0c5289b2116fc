"""Exercises on what is drawn of a kernel matrix: centring, class blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer, Case, mark
from qrkd_lab.kernels.views import centred, class_blocks

__all__ = ["check_centred_kernel", "check_class_blocks"]

Function = Callable[..., Any]


def _kernel(n: int) -> Tensor:
    """An RBF kernel matrix of seeded samples; its rows have different means."""
    x = normal(n, 2)
    return torch.exp(-(torch.cdist(x, x) ** 2))


def check_centred_kernel(f: Function | None) -> Answer:
    """Check ``f(K)``: kernel matrix (n, n) -> HKH; see ``qrkd_lab.kernels.views.centred``."""
    mistakes = {
        "the mean of each row is taken off, that of each column is not: H stands on both sides.": (
            lambda k: k - k.mean(1, keepdim=True)
        ),
        "the mean of each column is taken off, that of each row is not: H stands on both sides.": (
            lambda k: k - k.mean(0)
        ),
        "the overall mean alone is taken off: rows must sum to 0, each of them.": (
            lambda k: k - k.mean()
        ),
        "the overall mean was taken off twice: add it once.": (
            lambda k: k - k.mean(0) - k.mean(1, keepdim=True)
        ),
        "the overall mean is taken off a third time: its sign is plus.": (
            lambda k: k - k.mean(0) - k.mean(1, keepdim=True) - k.mean()
        ),
        "sums instead of means: H = I - (ones)/n.": (
            lambda k: k - k.sum(0) - k.sum(1, keepdim=True) + k.sum()
        ),
        "the trace is scaled to 1 as well: centring does not change the scale.": (
            lambda k: centred(k) / centred(k).trace()
        ),
    }
    cases = [Case(f"with {n} samples", (_kernel(n),)) for n in (5, 3, 8)]
    right = "HKH: every row and every column sums to 0."
    return mark(f, centred, cases, mistakes, right)


def check_class_blocks(f: Function | None) -> Answer:
    """Check ``f(K, labels)``: (n, n), (n,) -> (c, c), the mean over pairs of different samples."""

    def blocks(k: Tensor, y: Tensor, classes: Tensor | None = None) -> Tensor:
        member = (y[:, None] == (y.unique() if classes is None else classes)).to(k.dtype)
        return member.T @ k @ member

    def sizes(y: Tensor) -> Tensor:
        counts = y.unique(return_counts=True)[1].double()
        return counts[:, None] * counts

    def appearance(k: Tensor, y: Tensor) -> Tensor:
        seen = torch.tensor(list(dict.fromkeys(y.tolist())))
        place = torch.searchsorted(y.unique(), seen)
        return class_blocks(k, y)[place][:, place]

    def hollow(k: Tensor) -> Tensor:
        return k - torch.diag(k.diagonal())

    mistakes = {
        "a sample is compared with itself: leave the diagonal of K out.": (
            lambda k, y: blocks(k, y) / sizes(y)
        ),
        "the diagonal is set to 0 but still counted: divide by the number of pairs that are left, "
        "m(m-1) within a class of m.": lambda k, y: blocks(hollow(k), y) / sizes(y),
        "these are sums: divide by the number of pairs.": lambda k, y: blocks(hollow(k), y),
        "these are sums, with the diagonal: average over different samples.": blocks,
        "the classes are in the order in which they appear: sort them.": appearance,
        "divided by n^2: each block has a number of pairs of its own.": (
            lambda k, y: blocks(hollow(k), y) / len(y) ** 2
        ),
    }
    cases = []
    for labels in ([2, 0, 0, 2, 1, 1, 0], [5, 3, 3, 5, 5], [1, 0, 2, 1, 0, 2, 2, 0]):
        y = torch.tensor(labels)
        cases.append(
            Case(f"with {len(y)} samples in {len(y.unique())} classes", (_kernel(len(y)), y))
        )
    right = "mean values over pairs of different samples, a block a pair of classes."
    return mark(f, class_blocks, cases, mistakes, right)
