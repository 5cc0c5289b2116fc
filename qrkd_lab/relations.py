"""Relations: from a batch of features to numbers *between* its samples.

A relation is what relational knowledge distillation compares instead of single outputs. This module
holds the two of RKD (Park et al., 2019), pairwise distances and triplet angles; the third relation
of QRKD, a kernel matrix, lives in :mod:`qrkd_lab.kernels` and is used in the same way.

Features that coincide happen in practice (dead ReLUs give equal rows), and the textbook formulas
have infinite slopes there. Here every root is guarded, so gradients are finite and bounded always.

Whatever the caller's precision, relations, kernels, encoders and losses compute in float32 at
least: see :func:`in_float32`.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "NotFinite",
    "at_least_float32",
    "check_features",
    "flag",
    "in_float32",
    "no_second_derivative",
    "pairwise_distances",
    "positive",
    "triplet_angles",
    "whole",
    "with_room",
]

# Two rows nearer than this fraction of the batch's root-mean-square distance count as coincident:
# an angle at such a pair is noise, and its slope, which grows like 1 / distance, would swamp the
# batch. The gradient of an angle is thereby at most about 1e3 / (root-mean-square distance).
COINCIDENT = 1e-3

# Between these sizes float32 has room for the squares and cubes that relations and their gradients
# are made of.
SMALL, LARGE = 1e-4, 1e8


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor itself, or in float32 where it is float16 or bfloat16."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x


def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a function of tensors compute in float32 at least, with autocast off.

    float16 and bfloat16 arguments become float32 inside; float32 and float64 stay as they are. The
    result has the type of the first tensor argument, and each gradient that of its argument. So,
    unlike torch's own losses, which autocast returns in float32, a loss of bfloat16 features is
    bfloat16. A float16 result beyond 65504 is infinite, as everywhere in torch.

    Outside of autocast, float32 and float64 arguments pass through at no cost.
    """
    names = inspect.signature(function)

    @functools.wraps(function)
    def computed(*args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        cast = bool(given) and torch.is_autocast_enabled(given[0].device.type)
        if not cast and all(at_least_float32(x) is x for x in given):
            return function(*args, **kwargs)
        ordered = names.bind(*args, **kwargs).args
        first = next(x for x in ordered if isinstance(x, Tensor))
        inside = [at_least_float32(x).view_as(x) if isinstance(x, Tensor) else x for x in ordered]
        with torch.autocast(first.device.type, enabled=False):
            result = function(*inside)
        if cast:
            _backward_without_autocast(result, inside, first.device.type)
        return result.to(first.dtype)

    return computed


def _backward_without_autocast(result: Tensor, inputs: list[Any], device_type: str) -> None:
    """Have the backward steps between inputs and result run with autocast off, too.

    Called inside autocast, backward would take its matrix products in half precision.
    """
    before: list[bool] = []

    def off(*_: object) -> None:
        before.append(torch.is_autocast_enabled(device_type))
        torch.set_autocast_enabled(device_type, False)

    def back(*_: object) -> None:
        torch.set_autocast_enabled(device_type, before.pop())

    done = {x.grad_fn for x in inputs if isinstance(x, Tensor)} | {None}
    todo = [result.grad_fn]
    while todo:
        node = todo.pop()
        if node not in done and node.next_functions:
            done.add(node)
            node.register_prehook(off)
            node.register_hook(back)
            todo += [following for following, _ in node.next_functions]


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


class NotFinite(ValueError):
    """Features that hold NaN or infinity."""


def check_features(x: Tensor, name: str = "features") -> float:
    """Raise unless ``x`` is a finite floating-point ``(n, d)`` tensor with ``n, d >= 1``.

    Returns:
        The largest absolute value.

    Raises:
        TypeError: ``x`` is not a floating-point tensor.
        ValueError: ``x`` has another shape, or holds NaN or infinity.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = f"a {x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"{name}: expected a floating-point torch tensor (n, d), got {kind}; "
            "convert with torch.as_tensor(...).float()"
        )
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(
            f"{name}: expected shape (n samples, d features), got {tuple(x.shape)}; "
            "flatten or pool the other axes first, e.g. x.flatten(1)"
        )
    largest = x.detach().abs().amax().item()  # NaN where one is among them
    if not math.isfinite(largest):
        bad = int((~torch.isfinite(x)).any(1).sum())
        raise NotFinite(
            f"{name}: {bad} of {len(x)} rows hold NaN or infinity; the model has diverged "
            "(lower the learning rate or the weights) or its input was not finite"
        )
    return largest


def with_room(x: Tensor, largest: float) -> Tensor:
    """Features in float64, on the CPU, where float32 has no room for their squares and cubes.

    Raises:
        NotFinite: float64 has none either.
    """
    if largest == 0 or SMALL < largest < LARGE:
        return x
    if not 1e-90 < largest < 1e90:
        raise NotFinite(
            f"features: the largest number is {largest:.3g}, whose cube leaves the range of "
            "float64; divide them by it first"
        )
    return x.double() if x.dtype == torch.float64 else x.cpu().double()


@in_float32
def pairwise_distances(x: Tensor) -> Tensor:
    r"""Euclidean distance between every two samples of a batch.

    .. math:: D_{ij} = \lVert x_i - x_j \rVert_2

    The gradient at coincident rows, where the formula has none, is 0; elsewhere each distance has
    a gradient of length 1.

    Args:
        x: features ``(n, d)``.

    Returns:
        ``(n, n)``, symmetric, zero diagonal, in the units of ``x``.

    Raises:
        TypeError, ValueError: see :func:`check_features`.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, eq. 5-6.

    Example:
        >>> pairwise_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[0., 5.],
                [5., 0.]])
    """
    wide = with_room(x, check_features(x))
    # Direct differences: exact for near rows, where |x|^2 + |y|^2 - 2xy would cancel.
    return torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").to(x)


@in_float32
def triplet_angles(x: Tensor) -> Tensor:
    r"""Cosine of the angle at every sample between every two others.

    .. math:: A_{jik} = \cos \angle x_i x_j x_k
              = \frac{\langle x_i - x_j,\; x_k - x_j \rangle}
                     {\lVert x_i - x_j \rVert\, \lVert x_k - x_j \rVert}

    The numerator is taken from the Gram matrix :math:`G = X X^\top` as
    :math:`G_{ik} - G_{ij} - G_{jk} + G_{jj}`, so that no ``(n, n, d)`` tensor of differences is
    ever built: the cost is O(n^2 d + n^3) instead of O(n^3 d).

    Args:
        x: features ``(n, d)``.

    Returns:
        ``(n, n, n)`` without unit, in [-1, 1] up to rounding (in float32 up to some 3e-7 outside:
        clamp before ``arccos``); entry ``[j, i, k]`` is the angle *at* ``x_j``. It is 0, with no
        gradient, where it is undefined: i = j, k = j, or rows nearer to each other than 1/1000 of
        the batch's root-mean-square distance.

    Raises:
        TypeError, ValueError: see :func:`check_features`.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, eq. 8-9.

    Example:
        >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> triplet_angles(corner)[0, 1, 2]
        tensor(0.)
    """
    given, x = x, with_room(x, check_features(x))
    # Differences below the resolution of x itself are rounding, whatever the others are.
    resolution = (8 * torch.finfo(given.dtype).eps) ** 2 * x.detach().square().sum(1).mean()
    x = x - x.mean(0)  # angles do not see a shift; small numbers cancel less
    gram = x @ x.T
    norms = gram.diagonal()
    squared = norms[:, None] + norms - 2 * gram  # (n, n)
    apart = squared > COINCIDENT**2 * squared.detach().mean() + resolution
    inverse = torch.where(apart, torch.where(apart, squared, 1.0).rsqrt(), 0.0)
    return _CosineFromGram.apply(gram, inverse).to(given)


def no_second_derivative() -> None:
    """To be called in a backward: raise where a derivative of it is asked for.

    Hand-written backwards have none; without this, autograd would take it for zero.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            "second derivatives (create_graph=True) of kd, angles and kernels are not implemented; "
            "use finite differences of the gradient"
        )


class _CosineFromGram(torch.autograd.Function):
    """A[j, i, k] = (G_ik - G_ij - G_jk + G_jj) r_ji r_jk, with few (n, n, n) temporaries.

    Autograd's own backward of this line keeps four cubes and is 2 to 4 times slower.
    """

    @staticmethod
    def forward(ctx: Any, gram: Tensor, inverse: Tensor) -> Tensor:  # noqa: ANN401
        cosine = gram.unsqueeze(0) - gram.unsqueeze(2)  # [j, i, k] = G_ik - G_ji
        cosine += (gram.diagonal().unsqueeze(1) - gram).unsqueeze(1)  # + G_jj - G_jk
        cosine *= inverse.unsqueeze(2)
        cosine *= inverse.unsqueeze(1)
        ctx.save_for_backward(inverse, cosine)
        return cosine

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        no_second_derivative()
        inverse, cosine = ctx.saved_tensors
        # dA / d log r_ji = A, once as the row i and once as the column k.
        cube = grad * cosine
        by_log = cube.sum(2) + cube.sum(1)
        grad_inverse = torch.where(inverse > 0, by_log / torch.where(inverse > 0, inverse, 1.0), 0)
        torch.mul(grad, inverse.unsqueeze(2), out=cube)  # dL / d numerator[j, i, k]
        cube *= inverse.unsqueeze(1)
        over_k, over_i = cube.sum(2), cube.sum(1)  # (j, i), (j, k)
        grad_gram = cube.sum(0) - over_k - over_i + torch.diag(over_k.sum(1))
        return grad_gram, grad_inverse
