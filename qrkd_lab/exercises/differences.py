"""How a wrong result differs from the right one, in words.

A typical mistake is itself a function: whoever computes the same wrong numbers on every case made
that mistake. What matches none is compared entry by entry: sign, order of axes, a constant factor,
the diagonal, the first wrong entry.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["ATOL", "Case", "as_tensor", "close", "copies", "difference", "mistaken", "telling"]

RTOL, ATOL = 1e-4, 1e-6  # float32 inside a function that was given float64 is no mistake


@dataclass(frozen=True)
class Case:
    """One input to try a function on.

    Attributes:
        name: what is special, for the hint: "with 5 samples".
        args: the arguments.
        smooth: False where the gradient is only asked to be finite and bounded.
    """

    name: str
    args: tuple[Any, ...]
    smooth: bool = True


def copies(args: Sequence[Any], leaves: Sequence[int] = ()) -> list[Any]:
    """The arguments, copied; the tensors in ``leaves`` ask for a gradient."""
    made = [a.detach().clone() if isinstance(a, Tensor) else copy.copy(a) for a in args]
    return [a.requires_grad_() if i in leaves else a for i, a in enumerate(made)]


def as_tensor(value: Any) -> Tensor:  # noqa: ANN401
    value = torch.as_tensor(value)
    return value.detach().to(torch.complex128 if value.is_complex() else torch.float64)


def telling(shape: Sequence[int]) -> Tensor:
    """Which entries say something: of a cube [j, i, k] not those with i = j or k = j."""
    mask = torch.ones(tuple(shape), dtype=torch.bool)
    if len(shape) == 3:
        same = torch.eye(shape[0], dtype=torch.bool)
        mask &= ~same[:, :, None] & ~same[:, None, :]
    return mask


def close(a: Tensor, b: Tensor) -> bool:
    a, b = a.to(torch.complex128), b.to(torch.complex128)
    return a.shape == b.shape and torch.allclose(a, b, RTOL, ATOL)


def mistaken(
    got: Sequence[Tensor], cases: Sequence[Case], mistakes: Mapping[str, Callable[..., Any]]
) -> str | None:
    """The hint of the mistake that gives the same numbers, where both are numbers."""
    for hint, mistake in mistakes.items():
        same = []
        for found, case in zip(got, cases, strict=True):
            wrong = as_tensor(mistake(*copies(case.args)))
            if wrong.shape != found.shape:
                break
            both = telling(found.shape) & found.isfinite() & wrong.isfinite()
            same.append(close(found[both], wrong[both]) and (bool(both.any()) or not case.smooth))
        if len(same) == len(cases) and all(same):
            return hint
    return None


def difference(got: Sequence[Tensor], want: Sequence[Tensor], cases: Sequence[Case]) -> str:
    """In words, how the numbers differ from the right ones."""
    for found, expected, case in zip(got, want, cases, strict=True):
        bad = ~found.isfinite()
        if bad.any():
            where = f" at {_index(bad)}" if found.ndim else ""
            cause = "0/0, log 0, or a number too large for exp?"
            return f"{found[bad][0].item()} {case.name}{where}: {cause}"
        if found.is_complex() and not expected.is_complex():
            return "expected real numbers, got complex ones."
    if all(map(close, got, [-expected for expected in want])):
        return "wrong sign: every number is minus the right one."
    for axes in itertools.permutations(range(want[0].ndim)):
        if all(map(close, got, [expected.permute(axes) for expected in want])):
            return f"right numbers, axes in another order: yours is the right one's axes {axes}."
    ratios = [_ratio(found, expected) for found, expected in zip(got, want, strict=True)]
    known = [r for r in ratios if r is not None]
    if known and None not in ratios and max(known) - min(known) < RTOL * abs(known[0]):
        return f"off by a constant factor: yours is {known[0]:.4g} times the right value."
    if known and None not in ratios:
        listed = ", ".join(f"{r:.4g} {case.name}" for r, case in zip(known, cases, strict=True))
        return f"off by a factor that depends on the input: {listed}."
    return _entry(got, want, cases)


def _ratio(found: Tensor, expected: Tensor) -> float | None:
    """The one factor between two tensors, or None."""
    if found.is_complex() or expected.is_complex() or not expected.abs().max() > ATOL:
        return None
    at = expected.abs().argmax()
    ratio = (found.flatten()[at] / expected.flatten()[at]).item()
    return ratio if abs(ratio) > ATOL and close(found, ratio * expected) else None


def _entry(got: Sequence[Tensor], want: Sequence[Tensor], cases: Sequence[Case]) -> str:
    """The first case that is wrong, and its worst entry."""
    i = next(i for i in range(len(cases)) if not close(got[i], want[i]))
    found, expected, name = got[i], want[i], cases[i].name
    off = ~torch.isclose(found, expected.to(found.dtype), RTOL, ATOL)
    if not found.ndim:
        return f"wrong value {name}: expected {_said(expected)}, got {_said(found)}."
    if found.ndim == 2 and found.shape[0] == found.shape[1] and not (off & ~_diagonal(off)).any():
        value = _said(found.diagonal()[off.diagonal()][0])
        return f"only the diagonal is wrong {name}: expected {_said(expected[0, 0])}, got {value}."
    at = tuple(off.nonzero()[0].tolist())
    place = ", ".join(map(str, at))
    return (
        f"{int(off.sum())} of {off.numel()} entries are wrong {name}; the first is [{place}]: "
        f"expected {_said(expected[at])}, got {_said(found[at])}."
    )


def _diagonal(like: Tensor) -> Tensor:
    return torch.eye(len(like), dtype=torch.bool)


def _said(value: Tensor) -> str:
    return f"{value.item():.4g}"


def _index(mask: Tensor) -> str:
    return f"[{', '.join(map(str, mask.nonzero()[0].tolist()))}]"
