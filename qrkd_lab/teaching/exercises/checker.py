"""The engine of all checks: run the reader's function, compare it, and say what is different.

Type and shape come first, then the numbers, then the gradient. An exception in the reader's code
becomes a hint too: a check never raises.
"""

from __future__ import annotations

import copy
import html
import linecache
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Rational
from typing import Any, NoReturn

import pandas as pd
import torch
from torch import Tensor

Function = Callable[..., Any]
RTOL, ATOL = 1e-4, 1e-6  # float32 inside a function that was given float64 is no mistake
STEEP = 1e6  # a gradient above this on inputs of size 1 comes from dividing by almost nothing
COLOURS = {"Right": "#009E73", "Not yet": "#D55E00", "Not answered yet": "#8C8C8C"}


@dataclass(frozen=True)
class Answer:
    """What a check found; true if the answer is right."""

    state: str  # Right, Not yet or Not answered yet
    text: str  # what is right, or a hint

    def __bool__(self) -> bool:
        return self.state == "Right"

    def __repr__(self) -> str:
        return f"{self.state}: {self.text}"

    def _repr_html_(self) -> str:
        style = f"border-left:4px solid {COLOURS[self.state]};padding:2px 10px;margin:4px 0"
        text = html.escape(self.text)
        return f'<div style="{style}"><strong>{self.state}.</strong> {text}</div>'


@dataclass(frozen=True)
class Case:
    """One input to try a function on."""

    name: str  # what is special, for the hint: "with 5 samples"
    args: tuple[Any, ...]
    smooth: bool = True  # False where the gradient only has to be finite and bounded

    def copies(self, gradient: bool = False) -> list[Any]:
        """The arguments, copied; with ``gradient``, real and complex tensors ask for theirs."""
        made = copy.deepcopy(list(self.args))
        for x in made if gradient else ():
            if isinstance(x, Tensor) and (x.is_floating_point() or x.is_complex()):
                x.requires_grad_()
        return made


class _Stop(Exception):
    """The check is over: the answer."""


def refuse(text: str, state: str = "Not yet") -> NoReturn:
    """End a check with a hint."""
    raise _Stop(Answer(state, text))


def need(fine: object, text: str) -> None:
    """End a check with a hint unless a condition holds."""
    if not fine:
        refuse(text)


def given(value: Any) -> Any:  # noqa: ANN401
    """A function's result, unless there is none yet."""
    if value is None or value is ...:
        refuse("your function returns nothing so far.", "Not answered yet")
    return value


def answered(f: Any, judge: Callable[[Any], str]) -> Answer:  # noqa: ANN401
    """The answer of a check: what ``judge`` returns is right, or the hint that it refuses with."""
    try:
        if f is None or f is ...:
            refuse("give your function to this check.", "Not answered yet")
        if isinstance(f, type):
            refuse(f"expected an object, got the class {f.__name__}: write {f.__name__}().")
        need(callable(f), f"expected a function, got {f!r}: leave out the brackets.")
        return Answer("Right", judge(f))
    except _Stop as stop:
        return stop.args[0]
    except NotImplementedError:
        return Answer("Not answered yet", "your function raises NotImplementedError so far.")
    except Exception as error:
        return Answer("Not yet", _told(f, error))


def mark(
    f: Function | None,
    reference: Function,
    cases: Sequence[Case],
    mistakes: Mapping[str, Function],
    right: str,
    gradient: bool = False,
    call: Function = lambda f, *args: f(*args),
) -> Answer:
    """Run ``f`` on the cases beside the reference and say what is wrong, or that nothing is.

    Args:
        f: the reader's function.
        reference: what it should compute.
        cases: inputs, ordinary ones first.
        mistakes: hint to a function that makes this mistake.
        right: what to say if all is well.
        gradient: the first argument must get the right gradient; a second one that is features or
            logits is the teacher's, and must get none.
        call: how a function is applied to the arguments of a case.
    """

    def judge(f: Function) -> str:
        want = [_plain(call(reference, *case.copies())) for case in cases]
        got = [
            _result(_call(call, f, case, case.copies()), expected, case, gradient)
            for case, expected in zip(cases, want, strict=True)
        ]
        if not all(map(close, got, want)):
            for hint, mistake in mistakes.items():
                wrong = [_plain(call(mistake, *case.copies())) for case in cases]
                need(not all(map(_alike, got, wrong, cases)), hint)
            refuse(_difference(got, want, cases))
        for case in cases if gradient else ():
            _check_gradient(f, reference, case)
        return right

    return answered(f, judge)


def _call(call: Function, f: Function, case: Case, args: Sequence[Any]) -> Any:  # noqa: ANN401
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # np.log of a tensor is no mistake
            return given(call(f, *args))
    except (_Stop, NotImplementedError):
        raise
    except Exception as error:
        refuse(f"{_told(f, error)} It happened {case.name}.")


def _told(f: Function, error: Exception) -> str:
    """The exception's name, message and line, the last one in the reader's own file."""
    home = getattr(getattr(f, "__code__", None), "co_filename", None)
    own = [x for x in traceback.extract_tb(error.__traceback__) if x.filename == home]
    if "modified by an inplace operation" in str(error):
        return (
            "your function overwrites a tensor that the gradient needs (fill_diagonal_, "
            "x[...] = ..., x += ...): make a new one, e.g. by torch.where."
        )
    said = f"your function raised {type(error).__name__}: {str(error).rstrip('.')}"
    if not own:
        return f"{said}."
    source = linecache.getline(own[-1].filename, own[-1].lineno).strip()
    return f"{said}, in line {own[-1].lineno}{f' ({source})' if source else ''}."


def _result(value: Any, want: Tensor, case: Case, gradient: bool) -> Tensor:  # noqa: ANN401
    """The result as a tensor of the expected shape."""
    if gradient and not isinstance(value, Tensor):
        why = "numbers taken out of a tensor carry no gradient"
        refuse(f"expected a torch tensor, got {type(value).__name__}; {why}.")
    try:
        found = _plain(value)
    except (TypeError, ValueError, RuntimeError):
        refuse(f"expected numbers, got {value!r:.60}.")
    shapes = f"expected {tuple(want.shape)}, got {tuple(found.shape)}"
    need(found.shape == want.shape, f"wrong shape {case.name}: {shapes}.")
    return found


def _check_gradient(f: Function, reference: Function, case: Case) -> None:
    """Refuse unless the gradient is there, finite, bounded, right, and nowhere else."""
    who = "input" if len(case.args) == 1 else "student"
    (want, _), (got, taught) = _gradients(reference, case), _gradients(f, case)
    silent = got is None or (want.any() and not got.any())
    if taught is not None and taught.any():
        wrong = ", not the student: you detached the wrong side."
        both = " too: detach its side, or compute it under torch.no_grad()."
        refuse(
            f"the values are right, but a gradient reaches the teacher{wrong if silent else both}"
        )
    need(
        not silent,
        f"the values are right, but no gradient reaches the {who}: the result was cut off from it "
        "(.detach(), .item(), .numpy(), torch.tensor(...)).",
    )
    bounded(got, case.name, STEEP * max(1, want.abs().max().item()))
    need(
        not case.smooth or torch.allclose(got, want, 1e-3, 1e-6),
        f"the values are right, but the gradient at the {who} is not: a part of the "
        "formula (a mean, a norm?) is detached, or computed outside torch.",
    )


def bounded(gradient: Tensor, where: str, most: float = STEEP) -> None:
    """Refuse a gradient that is not finite, or larger than ``most``."""
    need(
        gradient.isfinite().all(),
        f"the values are right, but the gradient is not finite {where}: a root, norm or "
        "quotient of 0 has an infinite slope (the diagonal counts). Guard it before the root, "
        "e.g. torch.where(d2 > 0, d2, 1.0).sqrt(), and set the result to 0.",
    )
    need(
        gradient.abs().max() <= most,
        f"the values are right, but the gradient reaches {gradient.abs().max():.0e} {where}: "
        "something is divided by almost 0. Give such pairs no gradient.",
    )


def _gradients(f: Function, case: Case) -> list[Tensor | None]:
    """The gradients of a fixed random sum of the result, at the student and at the teacher."""
    args = case.copies(gradient=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of .item() and the like, and so do we
        result = f(*args)
    if isinstance(result, Tensor) and result.requires_grad:
        weights = normal(*result.shape, seed=1).abs()
        if result.ndim == 3:  # of a cube [j, i, k] only i and k other than j count
            other = 1 - torch.eye(len(result))
            weights *= other[:, :, None] * other[:, None, :]
        (result * weights).real.sum().backward()
    return [x.grad if isinstance(x, Tensor) else None for x in (*args, None)[:2]]


def _plain(value: Any) -> Tensor:  # noqa: ANN401
    if isinstance(value, Mapping):
        value = list(value.values())
    elif isinstance(value, pd.Series | pd.DataFrame):
        value = value.to_numpy(copy=True)
    value = torch.as_tensor(float(value) if isinstance(value, Rational | Decimal) else value)
    return value.detach().to(torch.complex128 if value.is_complex() else torch.float64)


def close(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors have the same shape and numbers."""
    a, b = (x.detach().to(torch.complex128) for x in (a, b))
    return a.shape == b.shape and torch.allclose(a, b, RTOL, ATOL)


def _alike(found: Tensor, wrong: Tensor, case: Case) -> bool:
    """Whether a result is that of a mistake, where both are numbers."""
    if wrong.shape != found.shape:
        return False
    both = found.isfinite() & wrong.isfinite()
    return close(found[both], wrong[both]) and (bool(both.any()) or not case.smooth)


def _difference(got: Sequence[Tensor], want: Sequence[Tensor], cases: Sequence[Case]) -> str:
    """In words, how the numbers differ from the right ones."""
    for found, expected, case in zip(got, want, cases, strict=True):
        bad = ~found.isfinite()
        if bad.any():
            where = f" at {bad.nonzero()[0].tolist()}" if found.ndim else ""
            cause = "0/0, log 0, or a number too large for exp?"
            return f"{found[bad][0].item()} {case.name}{where}: {cause}"
        if found.is_complex() and not expected.is_complex():
            return "expected real numbers, got complex ones."
    all_got, all_want = (torch.cat([x.flatten() for x in each]) for each in (got, want))
    at = all_want.abs().argmax()
    ratio = all_got[at] / all_want[at]
    if not ratio.is_complex() and ratio != 0 and close(all_got, ratio * all_want):
        if abs(ratio + 1) < RTOL:
            return "wrong sign: every number is minus the right one."
        return f"off by a constant factor: yours is {ratio:.4g} times the right value."
    i = next(i for i in range(len(cases)) if not close(got[i], want[i]))
    found, expected, name = got[i], want[i], cases[i].name
    off = ~torch.isclose(found, expected.to(found.dtype), RTOL, ATOL)
    at = tuple(off.nonzero()[0].tolist())
    values = f"expected {expected[at].item():.4g}, got {found[at].item():.4g}."
    if not found.ndim:
        return f"wrong value {name}: {values}"
    count = f"{int(off.sum())} of {off.numel()} entries are wrong {name}"
    return f"{count}; the first is {list(at)}: {values}"


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


def rbf(n: int, scale: float = 1.0, d: int = 2) -> Tensor:
    """An RBF kernel matrix ``(n, n)`` of normal samples; its rows have different means."""
    return torch.exp(-scale * torch.cdist(x := normal(n, d), x) ** 2)
