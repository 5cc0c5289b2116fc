"""Exercises without one right answer: your own relation and kernel, checked by properties."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.exercises.inputs import coincident, normal
from qrkd_lab.exercises.marking import STEEP, Answer, answered, refuse
from qrkd_lab.kernels.base import Kernel
from qrkd_lab.kernels.encoders import Encoder
from qrkd_lab.kernels.relation import KernelRelation
from qrkd_lab.losses import relation_loss

__all__ = ["check_own_kernel", "check_own_relation"]

Function = Callable[..., Any]
TOLERANCE = 1e-6
ROUNDING = 1e-10  # of an eigenvalue in doubles


def check_own_relation(f: Function | None) -> Answer:
    """Check ``f(x)``: features (n, d) -> a relation (n, n), whatever it measures.

    Asked: the same numbers each time, symmetric, the same for samples in another order, telling
    samples apart, finite at coincident and zero rows, and a gradient that is finite and bounded
    there; a relational loss of equal features is then 0, and moves the student elsewhere.
    """
    return answered(f, _relation)


def _relation(f: Function) -> str:
    for n, d in ((6, 3), (5, 8)):
        x = normal(n, d)
        R = _matrix(f(x.clone()), (n, n), f"for {n} samples of {d} features")
        _finite(R, f"for {n} samples of {d} features")
        if not _close(R, f(x.clone())):
            refuse("two calls with the same features give different numbers: fix what is random.")
        if not _close(R, R.T):
            refuse("not symmetric: [i, j] and [j, i] must say the same; average the two.")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
        if not _close(f(x[order]), R[order][:, order]):
            refuse(
                "samples in another order give other numbers, not the same ones in that order: an "
                "entry must depend on the two samples (and the batch as a whole), not on the row."
            )
        off = R[~torch.eye(n, dtype=torch.bool)]
        if (off - off[0]).abs().max() < TOLERANCE:
            refuse("all pairs get the same number: such a relation tells no samples apart.")
        if relation_loss(f(x.clone()), R).abs() > TOLERANCE:
            refuse("the loss of a student that equals its teacher is not 0.")
    slope = _slope(lambda s: relation_loss(f(s), f(normal(6, 4, seed=1))), normal(6, 3))
    _bounded(slope)
    if not slope.abs().max() > 0:
        refuse("the gradient at the student is 0 everywhere: rounding, ranking or a clamp?")
    x = coincident(6, 3)
    _finite(_matrix(f(x.clone()), (6, 6), "at coincident rows"), "at coincident or zero rows")
    weights = normal(6, 6, seed=3)
    _bounded(_slope(lambda s: (f(s) * weights).sum(), x))
    return (
        "symmetric, in step with the order of the samples, finite, and a student can learn from it."
    )


def check_own_kernel(kernel: Kernel | None) -> Answer:
    """Check a :class:`~qrkd_lab.kernels.base.Kernel` of your own, e.g. ``MyKernel(bandwidth=1)``.

    Asked: symmetric, positive semi-definite, 1 on the diagonal; ``k(x, y)`` that agrees with
    ``k(x)``; a gradient that is finite and bounded, at coincident rows too; and that a
    ``KernelRelation`` takes it.
    """
    return answered(kernel, _kernel, function=False)


def _kernel(kernel: Kernel) -> str:
    if not isinstance(kernel, Kernel):
        if callable(kernel) and not isinstance(kernel, type):
            _matrix(kernel(normal(3, 4)), (3, 3), "for 3 samples")  # not even begun?
        refuse(
            f"expected a Kernel, e.g. MyKernel(), got {getattr(kernel, '__name__', repr(kernel))}: "
            "derive your class from qrkd_lab.kernels.Kernel, and give an object of it."
        )
    q = kernel.features or getattr(kernel, "qubits", 4)
    for n, seed in ((6, 0), (9, 1)):
        x, y = 0.7 * normal(n, q, seed=seed), 0.7 * normal(5, q, seed=seed + 5)
        K = _matrix(kernel(x), (n, n), f"for {n} samples")
        _finite(K, f"for {n} samples")
        if not _close(K, K.T):
            refuse("not symmetric: k(x, y) = k(y, x) is what makes it a kernel.")
        if not _close(K.diagonal(), torch.ones(n)):
            at = K.diagonal()[(K.diagonal() - 1).abs().argmax()]
            refuse(f"the diagonal is not 1 but e.g. {at:.3g}: divide by sqrt(k(x, x) k(y, y)).")
        both = torch.cat([x, y])
        if not _close(kernel(both)[:n, n:], _matrix(kernel(x, y), (n, 5), "for k(x, y)")):
            refuse("k(x, y) is not the block of k on all samples: does an entry see the batch?")
    K = kernel(normal(40, q, seed=4))
    smallest = torch.linalg.eigvalsh(K.detach())[0].item()
    if smallest < -(ROUNDING if K.dtype == torch.float64 else TOLERANCE) * len(K):
        refuse(
            f"not positive semi-definite: an eigenvalue of {smallest:.2g} on 40 samples; symmetric "
            "likenesses are not enough. Sums and products of kernels, and inner products of "
            "embeddings, are always safe."
        )
    if (K - K.mean()).abs().max() < TOLERANCE:
        refuse("all pairs get the same number: such a kernel tells no samples apart.")
    weights = normal(6, 6, seed=3)
    for x in (normal(6, q), coincident(6, q)):
        slope = _slope(lambda s: (kernel(s) * weights).sum(), x)
        _bounded(slope)
        if not slope.abs().max() > 0:
            refuse("the gradient is 0 everywhere: rounding, ranking or a clamp?")
    named = {part.name for part in fields(kernel)} if is_dataclass(kernel) else set()
    x = normal(6, q)
    if "bandwidth" not in named and not _close(kernel(x), kernel(2 * x)):
        refuse(
            "bandwidth must be a field: @dataclass(frozen=True) and bandwidth: float = 1.0, or it "
            "cannot be calibrated."
        )
    KernelRelation(kernel, Encoder(q + 2, q + 3, q))  # hashable, a Kernel, q angles
    return "a kernel: symmetric, positive semi-definite, 1 on the diagonal, and differentiable."


def _matrix(value: Any, shape: tuple[int, int], where: str) -> Tensor:  # noqa: ANN401
    if value is None or value is ...:
        refuse("your function returns nothing so far.", "Not answered yet")
    if not isinstance(value, Tensor):
        refuse(f"expected a torch tensor, got {type(value).__name__}.")
    if value.shape != shape:
        refuse(f"wrong shape {where}: expected {shape}, got {tuple(value.shape)}.")
    return value.detach()


def _finite(value: Tensor, where: str) -> None:
    if not value.isfinite().all():
        refuse(f"not finite {where}: 0/0, log 0, or a number too large for exp?")


def _slope(of: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    x = at.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of .item() and the like, and so do we
        value = of(x)
    if not value.requires_grad:
        refuse(
            "no gradient reaches the features: the result was cut off from them (.detach(), "
            ".item(), .numpy(), no_grad or torch.tensor(...))."
        )
    (slope,) = torch.autograd.grad(value, x, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


def _bounded(slope: Tensor) -> None:
    if not slope.isfinite().all():
        refuse(
            "the gradient is not finite at coincident or zero rows (the diagonal counts): a root, "
            "norm or quotient of 0 has an infinite slope. Guard it before the root."
        )
    if slope.abs().max() > STEEP:
        refuse(
            f"the gradient reaches {slope.abs().max():.0e} at coincident or zero rows: something "
            "is divided by almost 0."
        )


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.detach().double(), b.detach().double()
    return a.shape == b.shape and torch.allclose(a, b, 1e-4, TOLERANCE)
