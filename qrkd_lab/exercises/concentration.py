"""Exercises on concentration: how fast kernel values become alike as qubits are added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer, Case, mark

__all__ = ["check_angle_variance", "check_exponential_base"]

Function = Callable[..., Any]


def check_angle_variance(f: Function | None) -> Answer:
    """Check ``f(q)`` -> variance of the angle map's kernel over independent uniform angles."""
    mistakes = {
        "this is the second moment: subtract the square of the mean.": lambda q: (3 / 8) ** q,
        "the mean minus the second moment: square the mean, and turn the order round.": (
            lambda q: 0.5**q - (3 / 8) ** q
        ),
        "the mean is subtracted, not its square.": lambda q: (3 / 8) ** q - 0.5**q,
        "this is the mean.": lambda q: 0.5**q,
        "this is the square of the mean: it is missing in front.": lambda q: 0.25**q,
        "the variance of one qubit to the power q: variances of factors do not multiply; "
        "second moments do.": lambda q: (1 / 8) ** q,
        "the variance of one qubit times q: the kernel is a product, not a sum.": lambda q: q / 8,
        "the standard deviation: give the variance.": (lambda q: ((3 / 8) ** q - 0.25**q) ** 0.5),
        "the wrong sign: second moment minus squared mean.": lambda q: 0.25**q - (3 / 8) ** q,
    }
    cases = [Case(f"with {q} qubits", (q,)) for q in (2, 1, 3, 5)]
    right = "second moment minus squared mean, each a product over qubits."
    return mark(f, lambda q: (3 / 8) ** q - 0.25**q, cases, mistakes, right, numbers=True)


def check_exponential_base(f: Function | None) -> Answer:
    """Check ``f(qubits, variances)``: (m,), (m,) -> base of the exponential, by least squares."""

    def slope(x: Tensor, y: Tensor) -> Tensor:
        x, y = x - x.mean(), y - y.mean()
        return (x * y).sum() / (x * x).sum()

    def through_ends(q: Tensor, v: Tensor) -> Tensor:
        return (v[-1] / v[0]) ** (1 / (q[-1] - q[0]))

    def intercept(q: Tensor, v: Tensor) -> Tensor:
        return v.log().mean() - slope(q, v.log()) * q.mean()

    mistakes = {
        "this is the slope, the logarithm of the base: take its exponential.": (
            lambda q, v: slope(q, v.log())
        ),
        "the fit is of the variances themselves: a line fits their logarithms.": slope,
        "the fit is of the variances themselves: a line fits their logarithms; and no exponential "
        "belongs there.": lambda q, v: slope(q, v).exp(),
        "the step is taken as one qubit: divide by the qubits' own distances.": (
            lambda q, v: slope(torch.arange(len(q), dtype=q.dtype), v.log()).exp()
        ),
        "only the first and the last point are used: fit all of them.": through_ends,
        "only the first and the last point are used, and the step between points is taken as one "
        "qubit: fit all of them, on the qubits.": (
            lambda q, v: (v[-1] / v[0]) ** (1 / (len(q) - 1))
        ),
        "this is one over the base: mind the sign of the slope.": (
            lambda q, v: (-slope(q, v.log())).exp()
        ),
        "this is the line at no qubits, its intercept: the base is in the slope.": (
            lambda q, v: intercept(q, v).exp()
        ),
        "this is the line's intercept: the base is in the slope.": intercept,
        "the fit goes through the origin: let the line have an intercept.": (
            lambda q, v: ((q * v.log()).sum() / (q * q).sum()).exp()
        ),
        "a logarithm to another base than the exponential: use the same for both.": (
            lambda q, v: slope(q, v.log10()).exp()
        ),
        "the mean ratio of neighbours: fit a line to all logarithms instead.": (
            lambda q, v: (v[1:] / v[:-1]).mean()
        ),
        "qubits and variances are swapped in the fit.": lambda q, v: slope(v.log(), q).exp(),
    }
    cases = []
    for qubits, base, seed in (
        ((2, 4, 6, 8), 0.4, 0),
        ((1, 2, 5), 0.8, 1),
        ((3, 6, 9, 10), 0.1, 2),
    ):
        q = torch.tensor(qubits, dtype=torch.float64)
        noise = (0.3 * normal(len(q), seed=seed)).exp()
        cases.append(Case(f"with qubits {qubits}", (q, 0.2 * base**q * noise)))
    right = "the exponential of the least-squares slope of log variance on qubits."
    rule = lambda q, v: slope(q, v.log()).exp()  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)
