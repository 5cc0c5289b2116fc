"""Checks of arguments and features, and the precision that the method computes in.

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
    "LARGE", "NotFinite", "at_least_float32", "check_features", "flag", "floating", "in_float32",
    "no_second_derivative", "positive", "whole", "with_room",
]  # fmt: skip

# Between these sizes float32 has room for the squares and cubes that relations and their gradients
# are made of.
SMALL, LARGE = 1e-4, 1e8


def at_least_float32(x: Tensor) -> Tensor:
    """The tensor itself, or in float32 where it is float16 or bfloat16."""
    return x.float() if x.is_floating_point() and x.element_size() < 4 else x


def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a function of tensors compute in float32 at least, with autocast off.

    The result has the type of the first tensor argument, and each gradient that of its argument:
    unlike torch's own losses, a loss of bfloat16 features is bfloat16.
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
    """Have the backward steps between inputs and result run with autocast off, too."""
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


def floating(name: str, x: object, shape: str) -> None:
    """Raise a TypeError unless the value is a floating-point tensor."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        kind = f"a {x.dtype} tensor" if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(
            f"{name}: expected a floating-point torch tensor {shape}, got {kind}; "
            "convert with torch.as_tensor(...).float()"
        )


class NotFinite(ValueError):
    """Features that hold NaN or infinity."""


def check_features(x: Tensor, name: str = "features") -> float:
    """The largest absolute value; raises unless ``x`` is finite, floating-point and ``(n, d)``."""
    floating(name, x, "(n, d)")
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
    """Features in float64, on the CPU, where float32 has no room for their squares and cubes."""
    if largest == 0 or SMALL < largest < LARGE:
        return x
    if not 1e-90 < largest < 1e90:
        raise NotFinite(
            f"features: the largest number is {largest:.3g}, whose cube leaves the range of "
            "float64; divide them by it first"
        )
    return x.double() if x.dtype == torch.float64 else x.cpu().double()


def no_second_derivative() -> None:
    """To be called in a hand-written backward: raise where autograd would take its slope for 0."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            "second derivatives (create_graph=True) of kd, angles and kernels are not implemented; "
            "use finite differences of the gradient"
        )
