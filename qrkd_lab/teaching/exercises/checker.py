"""The engine of all checks: run the reader's function, compare it, and say what is different.

Type and shape come first, then the numbers, then the gradient. An exception in the reader's code
becomes a hint too: a check never raises.
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

Function = Callable[..., Any]
RTOL, ATOL = 1e-4, 1e-6  # float32 inside a function that was given float64 is no mistake
STEEP = 1e6  # a gradient above this on inputs of size 1 comes from dividing by almost nothing
COLOURS = {"Right": "#009E73", "Not yet": "#D55E00", "Not answered yet": "#8C8C8C"}
CUT_OFF = "the result was cut off from it (.detach(), .item(), .numpy(), torch.tensor(...))."


@dataclass(frozen=True)
class Answer:
    """What a check found; true if the answer is right.

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


@dataclass(frozen=True)
class Case:
    """One input to try a function on.

    Attributes:
        name: what is special, for the hint: "with 5 samples".
        args: the arguments.
        smooth: False where the gradient only has to be finite and bounded.
    """

    name: str
    args: tuple[Any, ...]
    smooth: bool = True

    def copies(self, leaves: Sequence[int] = ()) -> list[Any]:
        """The arguments, copied; the tensors in ``leaves`` ask for a gradient."""
        made = [x.detach().clone() if isinstance(x, Tensor) else copy.copy(x) for x in self.args]
        return [x.requires_grad_() if i in leaves else x for i, x in enumerate(made)]


class _Stop(Exception):
    """The check is over: the answer."""


def refuse(text: str, state: str = "Not yet") -> NoReturn:
    """End a check with a hint."""
    raise _Stop(Answer(state, text))


def answered(
    f: Any,  # noqa: ANN401
    judge: Callable[[Any], str],
    function: bool = True,
    says: Mapping[str, str] | None = None,
) -> Answer:
    """The answer of a check.

    Args:
        f: what the reader gave; None and ``...`` count as not answered yet.
        judge: looks at it, calls :func:`refuse` where something is wrong, returns what is right.
        function: a function is asked for.
        says: part of an exception's message to the hint that replaces it.
    """
    try:
        if f is None or f is ...:
            refuse("give your function to this check.", "Not answered yet")
        if function and isinstance(f, type):
            refuse(f"expected a function, got the class {f.__name__}.")
        if function and not callable(f):
            refuse(f"expected a function, got {f!r}: leave out the brackets.")
        return Answer("Right", judge(f))
    except _Stop as stop:
        return stop.args[0]
    except NotImplementedError:
        return Answer("Not answered yet", "your function raises NotImplementedError so far.")
    except Exception as error:
        hints = (hint for part, hint in (says or {}).items() if part in str(error))
        return Answer("Not yet", next(hints, None) or _told(f, error))


def given(value: Any) -> Any:  # noqa: ANN401
    """A function's result, unless there is none yet."""
    if value is None or value is ...:
        refuse("your function returns nothing so far.", "Not answered yet")
    return value


def mark(
    f: Function | None,
    reference: Function,
    cases: Sequence[Case],
    mistakes: Mapping[str, Function],
    right: str,
    learns: Sequence[int] = (),
    fixed: Sequence[int] = (),
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
    """

    def judge(f: Function) -> str:
        want = [_plain(reference(*case.copies())) for case in cases]
        got = [
            _result(_call(f, case, case.copies()), expected, case, bool(learns))
            for case, expected in zip(cases, want, strict=True)
        ]
        if not all(map(_close, got, want)):
            refuse(_mistaken(got, cases, mistakes) or _difference(got, want, cases))
        for case in cases if learns else ():
            _check_gradient(f, reference, case, learns, fixed)
        return right

    return answered(f, judge)


def _call(f: Function, case: Case, args: Sequence[Any]) -> Any:  # noqa: ANN401
    try:
        return given(f(*args))
    except (_Stop, NotImplementedError):
        raise
    except Exception as error:
        refuse(f"{_told(f, error)} It happened {case.name}.")


def _told(f: Function, error: Exception) -> str:
    """The exception's name, message and line, the last one in the reader's own file."""
    home = getattr(getattr(f, "__code__", None), "co_filename", None)
    own = [x for x in traceback.extract_tb(error.__traceback__) if x.filename == home]
    said = f"your function raised {type(error).__name__}: {str(error).rstrip('.')}"
    if not own:
        return f"{said}."
    source = linecache.getline(own[-1].filename, own[-1].lineno).strip()
    return f"{said}, in line {own[-1].lineno}{f' ({source})' if source else ''}."


def _result(value: Any, want: Tensor, case: Case, learns: bool) -> Tensor:  # noqa: ANN401
    """The result as a tensor of the expected shape."""
    if learns and not isinstance(value, Tensor):
        why = "numbers taken out of a tensor carry no gradient"
        refuse(f"expected a torch tensor, got {type(value).__name__}; {why}.")
    try:
        found = _plain(value)
    except (TypeError, ValueError, RuntimeError):
        expected = f"{want.numel()} numbers" if want.ndim else "one number"
        refuse(f"expected {expected}, got {value!r}.")
    if found.shape != want.shape:
        shapes = f"expected {tuple(want.shape)}, got {tuple(found.shape)}"
        refuse(f"wrong shape {case.name}: {shapes}.")
    return found


def _check_gradient(
    f: Function, reference: Function, case: Case, learns: Sequence[int], fixed: Sequence[int]
) -> None:
    """Refuse unless the gradient is there, finite, bounded, right, and nowhere else."""
    want = _gradients(reference, case, learns)
    got = _gradients(f, case, [*learns, *fixed])
    who = "student" if fixed else "input"
    if any(i in got and got[i].abs().max() > ATOL for i in fixed):
        refuse(
            "the values are right, but a gradient reaches the teacher too: detach its side, or "
            "compute it under torch.no_grad()."
        )
    missing = f"the values are right, but no gradient reaches the {who}: {CUT_OFF}"
    for i in learns:
        if i not in got:
            refuse(missing)
        bounded(got[i], case.name, STEEP * max(1, want[i].abs().max().item()))
        if case.smooth and not torch.allclose(got[i], want[i], 1e-3, 1e-6):
            if not got[i].abs().max() > ATOL:
                refuse(missing)
            refuse(
                f"the values are right, but the gradient at the {who} is not: a part of the "
                "formula (a mean, a norm?) is detached, or computed outside torch."
            )


def bounded(gradient: Tensor, where: str, most: float = STEEP) -> None:
    """Refuse a gradient that is not finite, or larger than ``most``."""
    if not gradient.isfinite().all():
        refuse(
            f"the values are right, but the gradient is not finite {where}: a root, norm or "
            "quotient of 0 has an infinite slope (the diagonal counts). Guard it before the root, "
            "e.g. torch.where(d2 > 0, d2, 1.0).sqrt(), and set the result to 0."
        )
    if gradient.abs().max() > most:
        refuse(
            f"the values are right, but the gradient reaches {gradient.abs().max():.0e} {where}: "
            "something is divided by almost 0. Give such pairs no gradient."
        )


def slope(of: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    """The gradient of a scalar function of features, where there is one."""
    x = at.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of .item() and the like, and so do we
        value = of(x)
    if not value.requires_grad:
        refuse(f"no gradient reaches the features: {CUT_OFF}")
    (found,) = torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True)
    return found


def _gradients(f: Function, case: Case, leaves: Sequence[int]) -> dict[int, Tensor]:
    """The gradient of a fixed random sum of the result, by argument."""
    args = case.copies(leaves)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = _call(f, case, args)
    if not isinstance(result, Tensor) or not result.requires_grad:
        return {}
    seed = torch.Generator().manual_seed(1)
    weights = torch.rand(result.shape, generator=seed, dtype=torch.float64)
    try:
        (result * weights * _telling(result.shape)).real.sum().backward()
    except Exception as error:
        refuse(f"the values are right, but backward() raised: {error}")
    return {i: args[i].grad for i in leaves if args[i].grad is not None}


def _plain(value: Any) -> Tensor:  # noqa: ANN401
    value = torch.as_tensor(value)
    return value.detach().to(torch.complex128 if value.is_complex() else torch.float64)


def _telling(shape: Sequence[int]) -> Tensor:
    """Which entries say something: of a cube [j, i, k] not those with i = j or k = j."""
    mask = torch.ones(tuple(shape), dtype=torch.bool)
    if len(shape) == 3:
        same = torch.eye(shape[0], dtype=torch.bool)
        mask &= ~same[:, :, None] & ~same[:, None, :]
    return mask


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.to(torch.complex128), b.to(torch.complex128)
    return a.shape == b.shape and torch.allclose(a, b, RTOL, ATOL)


def _mistaken(
    got: Sequence[Tensor], cases: Sequence[Case], mistakes: Mapping[str, Function]
) -> str | None:
    """The hint of the mistake that gives the same numbers, where both are numbers."""

    def same(found: Tensor, case: Case, mistake: Function) -> bool:
        wrong = _plain(mistake(*case.copies()))
        if wrong.shape != found.shape:
            return False
        both = _telling(found.shape) & found.isfinite() & wrong.isfinite()
        return _close(found[both], wrong[both]) and (bool(both.any()) or not case.smooth)

    for hint, mistake in mistakes.items():
        if all(same(found, case, mistake) for found, case in zip(got, cases, strict=True)):
            return hint
    return None


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
    for axes in itertools.permutations(range(want[0].ndim)):
        if all(map(_close, got, [expected.permute(axes) for expected in want])):
            return f"right numbers, axes in another order: yours is the right one's axes {axes}."
    all_got, all_want = (torch.cat([x.flatten() for x in each]) for each in (got, want))
    at = all_want.abs().argmax()
    ratio = all_got[at] / all_want[at]
    if not ratio.is_complex() and ratio != 0 and _close(all_got, ratio * all_want):
        if abs(ratio + 1) < RTOL:
            return "wrong sign: every number is minus the right one."
        return f"off by a constant factor: yours is {ratio:.4g} times the right value."
    i = next(i for i in range(len(cases)) if not _close(got[i], want[i]))
    return _entry(got[i], want[i], cases[i].name)


def _entry(found: Tensor, expected: Tensor, name: str) -> str:
    """The first wrong entry of a case."""
    off = ~torch.isclose(found, expected.to(found.dtype), RTOL, ATOL)
    at = tuple(off.nonzero()[0].tolist())
    values = f"expected {expected[at].item():.4g}, got {found[at].item():.4g}."
    if not found.ndim:
        return f"wrong value {name}: {values}"
    square = found.ndim == 2 and found.shape[0] == found.shape[1]
    if square and not (off & ~torch.eye(len(off), dtype=torch.bool)).any():
        return f"only the diagonal is wrong {name}: {values}"
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
