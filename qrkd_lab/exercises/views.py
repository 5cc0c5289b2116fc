"""Exercises on what is drawn of a kernel matrix: centring, class blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer, Case, mark
from qrkd_lab.kernels.alignment import NothingToAlign, centred_alignment
from qrkd_lab.kernels.views import centred, class_blocks
from qrkd_lab.losses import relation_loss

__all__ = ["check_centred_kernel", "check_class_blocks", "check_near_but_unlike"]

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
        "K.mean(1) has shape (n,) and is taken off as a row: keepdim=True makes it a column.": (
            lambda k: k - k.mean(0) - k.mean(1) + k.mean()
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


def check_near_but_unlike(f: Function | None) -> Answer:
    """Check ``f()``: two kernel matrices (n, n), n >= 10, with a small loss and a small CKA."""
    if f is None or f is ...:
        return Answer("Not answered yet", "give your function to this check.")
    if not callable(f) or isinstance(f, type):
        return Answer("Not yet", f"expected a function, got {f!r}: leave out the brackets.")
    try:
        pair = f()
    except NotImplementedError:
        pair = None
    except Exception as error:
        return Answer("Not yet", f"your function raised {type(error).__name__}: {error}")
    if pair is None or pair is ...:
        return Answer("Not answered yet", "your function returns nothing so far.")
    fault = _fault(pair)
    right = Answer("Right", "hardly any loss, and little that they agree on.")
    return Answer("Not yet", fault) if fault else right


def _fault(pair: object) -> str:
    """What keeps these from being the two kernels that are asked for; empty: nothing."""
    if not isinstance(pair, (tuple, list)) or not all(isinstance(m, Tensor) for m in pair):
        return f"expected two matrices (K, L), got {type(pair).__name__}."
    shapes = [tuple(m.shape) for m in pair]
    if len(pair) != 2 or len(shapes[0]) != 2 or len({*shapes[0], *shapes[1]}) != 1:
        return f"expected two matrices of one size (n, n), got {shapes}."
    if len(pair[0]) < 10:
        return f"expected at least 10 samples, got {len(pair[0])}."
    for name, given in zip("KL", pair, strict=True):
        m = given.detach().double()
        if not m.isfinite().all():
            return f"{name} has values that are not finite."
        if (m - m.T).abs().max() > 1e-6:
            return f"{name} is not symmetric: K(x, y) is K(y, x)."
        if (m.diagonal() - 1).abs().max() > 1e-6:
            return f"the diagonal of {name} is not 1: every sample is wholly like itself."
        if (low := torch.linalg.eigvalsh(m).min().item()) < -1e-6:
            return f"{name} has the negative eigenvalue {low:.3g}: no kernel can give it."
    if (loss := relation_loss(*(m.detach().double() for m in pair)).item()) >= 1e-3:
        return f"the kernel loss is {loss:.4f}, not below 0.001: press both towards one value."
    try:
        cka = centred_alignment(*pair)
    except NothingToAlign as error:
        return f"the CKA cannot be had: {error}"
    if cka >= 0.5:
        return f"the CKA is {cka:.2f}, not below 0.5: what is left must disagree."
    return ""
