"""Marking: compare a reader's function with a reference and say in words what is different.

Type and shape first, then the numbers (``checker``), then the gradient.
Exceptions of the reader's code become a hint too: marking never raises.
"""

from __future__ import annotations

import copy
import html
import itertools
import linecache
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

__all__ = [
    "ATOL",
    "Answer",
    "Case",
    "STEEP",
    "answered",
    "as_tensor",
    "close",
    "coincident",
    "copies",
    "difference",
    "mark",
    "mistaken",
    "normal",
    "refuse",
    "states",
    "telling",
]


STEEP = 1e6  # a gradient above this on inputs of size 1 comes from dividing by almost nothing
COLOURS = {"Right": "#009E73", "Not yet": "#D55E00", "Not answered yet": "#8C8C8C"}


@dataclass(frozen=True)
class Answer:
    """What a check found; true if the answer is right, and shows itself in a notebook.

    Attributes:
        state: ``Right``, ``Not yet`` or ``Not answered yet``.
        text: what is right, or a hint.
    """

    state: str
    text: str

    def __bool__(self) -> bool:
        return self.state == "Right"

    def __repr__(self) -> str:
        return f"{self.state}: {self.text}"

    def _repr_html_(self) -> str:
        style = f"border-left:4px solid {COLOURS[self.state]};padding:2px 10px;margin:4px 0"
        text = html.escape(self.text)
        return f'<div style="{style}"><strong>{self.state}.</strong> {text}</div>'


class _Stop(Exception):
    """Marking is over: the answer."""

    def __init__(self, text: str, state: str = "Not yet") -> None:
        super().__init__(text)
        self.answer = Answer(state, text)


def mark(
    f: Callable[..., Any],
    reference: Callable[..., Any],
    cases: Sequence[Case],
    mistakes: Mapping[str, Callable[..., Any]],
    right: str,
    learns: Sequence[int] = (),
    fixed: Sequence[int] = (),
    numbers: bool = False,
) -> Answer:
    """Run ``f`` on the cases beside the reference and say what is wrong, or that nothing is.

    Args:
        f: the reader's function; None, ``...``, or one that returns these or raises
            NotImplementedError counts as not answered yet.
        reference: what it should compute.
        cases: inputs, ordinary ones first.
        mistakes: hint to a function that makes this mistake.
        right: what to say if all is well.
        learns: arguments (by position) that the gradient must reach, correctly.
        fixed: arguments (by position) that must get no gradient.
        numbers: plain numbers are asked for, rather than a tensor.
    """
    if f is None or f is ...:
        return Answer("Not answered yet", "give your function to this check.")
    if not callable(f):
        return Answer("Not yet", f"expected a function, got {f!r}: leave out the brackets.")
    if isinstance(f, type):
        return Answer("Not yet", f"expected a function, got the class {f.__name__}.")
    try:
        want = [as_tensor(reference(*copies(case.args))) for case in cases]
        got = [
            _result(_call(f, case, copies(case.args)), expected, case, numbers, bool(learns))
            for case, expected in zip(cases, want, strict=True)
        ]
        if not all(map(close, got, want)):
            raise _Stop(mistaken(got, cases, mistakes) or difference(got, want, cases))
        for case in cases if learns else ():
            _check_gradient(f, reference, case, learns, fixed)
    except _Stop as stop:
        return stop.answer
    return Answer("Right", right)


def answered(
    f: Any,  # noqa: ANN401
    judge: Callable[[Any], str],
    function: bool = True,
) -> Answer:
    """The answer of a check of properties, where there is no one right result to compare with.

    Args:
        f: what the reader gave; None and ``...`` count as not answered yet.
        judge: looks at it, calls :func:`refuse` where something is wrong, returns what is right.
        function: a function is asked for.
    """
    if f is None or f is ...:
        return Answer("Not answered yet", "give your function to this check.")
    if function and (not callable(f) or isinstance(f, type)):
        return Answer("Not yet", f"expected a function, got {getattr(f, '__name__', repr(f))}.")
    try:
        return Answer("Right", judge(f))
    except _Stop as stop:
        return stop.answer
    except NotImplementedError:
        return Answer("Not answered yet", "your function raises NotImplementedError so far.")
    except Exception as error:
        return Answer("Not yet", _told(f, error))


def refuse(text: str, state: str = "Not yet") -> NoReturn:
    """End a check with a hint."""
    raise _Stop(text, state)


def _call(f: Callable[..., Any], case: Case, args: Sequence[Any]) -> Any:  # noqa: ANN401
    try:
        result = f(*args)
    except NotImplementedError:
        result = None
    except Exception as error:
        raise _Stop(f"{_told(f, error)} It happened {case.name}.") from None
    if result is None or result is ...:
        raise _Stop("your function returns nothing so far.", "Not answered yet")
    return result


def _told(f: Callable[..., Any], error: Exception) -> str:
    """The exception's name, message and line, the last one in the reader's own file."""
    frames = traceback.extract_tb(error.__traceback__)
    home = getattr(getattr(f, "__code__", None), "co_filename", None)
    own = [frame for frame in frames if frame.filename == home]
    said = f"your function raised {type(error).__name__}: {str(error).rstrip('.')}"
    if not own:
        return f"{said}."
    source = linecache.getline(own[-1].filename, own[-1].lineno).strip()
    return f"{said}, in line {own[-1].lineno}{f' ({source})' if source else ''}."


def _result(value: Any, want: Tensor, case: Case, numbers: bool, learns: bool) -> Tensor:  # noqa: ANN401
    """The result as a tensor of the expected shape."""
    if not isinstance(value, Tensor) and not numbers and (learns or want.ndim):
        why = "; numbers taken out of a tensor carry no gradient" if learns else ""
        raise _Stop(f"expected a torch tensor, got {type(value).__name__}{why}.")
    try:
        found = as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        expected = "one number" if not want.ndim else f"{want.numel()} numbers"
        raise _Stop(f"expected {expected}, got {value!r}.") from None
    if found.shape != want.shape:
        raise _Stop(
            f"wrong shape {case.name}: expected {tuple(want.shape)}, got {tuple(found.shape)}."
        )
    return found


def _check_gradient(
    f: Callable[..., Any],
    reference: Callable[..., Any],
    case: Case,
    learns: Sequence[int],
    fixed: Sequence[int],
) -> None:
    """Raise unless the gradient is there, finite, bounded, right, and nowhere else."""
    want = _gradients(reference, case, learns)
    got = _gradients(f, case, [*learns, *fixed])
    missing = "the values are right, but no gradient reaches the {}: the result was cut off from "
    missing += "it (.detach(), .item(), .numpy(), no_grad or torch.tensor(...))."
    who = "student" if fixed else "input"
    if any(got.get(i) is None for i in learns):
        raise _Stop(missing.format(who))
    if any(got.get(i) is not None and got[i].abs().max() > ATOL for i in fixed):
        raise _Stop(
            "the values are right, but a gradient reaches the teacher too: detach its side, or "
            "compute it under torch.no_grad()."
        )
    for i in learns:
        if not got[i].isfinite().all():
            raise _Stop(
                f"the values are right, but the gradient is not finite {case.name}: a root, norm "
                "or quotient of 0 has an infinite slope (the diagonal counts). Guard it before "
                "the root, e.g. torch.where(d2 > 0, d2, 1.0).sqrt(), and set the result to 0."
            )
        if got[i].abs().max() > max(STEEP, STEEP * want[i].abs().max().item()):
            raise _Stop(
                f"the values are right, but the gradient reaches {got[i].abs().max():.0e} "
                f"{case.name}: something is divided by almost 0. Give such pairs no gradient."
            )
        if case.smooth and not torch.allclose(got[i], want[i], 1e-3, 1e-6):
            if not got[i].abs().max() > ATOL:
                raise _Stop(missing.format(who))
            raise _Stop(
                f"the values are right, but the gradient at the {who} is not: a part of the "
                "formula (a mean, a norm?) is detached, or computed outside torch."
            )


def _gradients(f: Callable[..., Any], case: Case, leaves: Sequence[int]) -> dict[int, Any]:
    """The gradient of a fixed random sum of the result, by argument."""
    args = copies(case.args, leaves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of .item() and the like, and so do we
        result = _call(f, case, args)
    if not isinstance(result, Tensor) or not result.requires_grad:
        return {}
    shape = result.shape
    weights = torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    try:
        (result * weights * telling(shape)).real.sum().backward()
    except Exception as error:
        raise _Stop(f"the values are right, but backward() raised: {error}") from None
    return {i: args[i].grad for i in leaves if args[i].grad is not None}


# ---- differences


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


# ---- inputs


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same shape and seed."""
    source = torch.Generator().manual_seed(1000 * seed + sum(shape))
    return torch.randn(shape, generator=source, dtype=torch.float64)


def coincident(n: int, d: int) -> Tensor:
    """Features ``(n, d)``, n >= 5, with two equal rows and two rows of zeros."""
    x = normal(n, d, seed=2)
    x[1] = x[0]
    x[-2:] = 0
    return x


def states(n: int, q: int) -> Tensor:
    """Random normalised states ``(n, 2^q)``, complex."""
    raw = torch.complex(normal(n, 2**q), normal(n, 2**q, seed=1))
    return raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True)
