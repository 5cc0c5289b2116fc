"""Exercises on states, kernels and shots."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.exercises.inputs import coincident, normal, states
from qrkd_lab.exercises.marking import Answer, Case, mark

__all__ = [
    "check_angle_states", "check_bandwidth_rule", "check_fidelity_kernel", "check_shots_needed",
]  # fmt: skip

Function = Callable[..., Any]


def check_fidelity_kernel(f: Function | None) -> Answer:
    """Check ``f(states)``: complex (n, 2**q) -> real (n, n), |<i|j>|^2."""
    mistakes = {
        "these are the overlaps, complex: take their absolute square.": lambda u: u @ u.mH,
        "the amplitude is not squared: |<i|j>|^2.": lambda u: (u @ u.mH).abs(),
        "a conjugate is missing: <i|j> conjugates one side (states.conj() or .mH).": (
            lambda u: (u @ u.T).abs() ** 2
        ),
        "a conjugate is missing, and the amplitude is not squared.": lambda u: (u @ u.T).abs(),
        "the real part alone: |z|^2 = Re(z)^2 + Im(z)^2.": lambda u: (u @ u.mH).real ** 2,
        "the real part of the overlap: take its absolute square.": lambda u: (u @ u.mH).real,
        "z * z instead of z * conj(z): take abs() before the square.": lambda u: (u @ u.mH) ** 2,
        "overlap of the probabilities |amplitude|^2: multiply amplitudes, then square.": (
            lambda u: u.abs() ** 2 @ (u.abs() ** 2).T
        ),
    }
    right = "fidelities, real, symmetric, with ones on the diagonal."
    cases = [Case(f"with {n} states of {q} qubits", (states(n, q),)) for n, q in ((5, 2), (2, 3))]
    return mark(f, lambda u: (u @ u.mH).abs() ** 2, cases, mistakes, right, learns=[0])


def check_angle_states(f: Function | None) -> Answer:
    """Check ``f(x)``: angles (n, q) -> states (n, 2**q) of RY(x_i) on each qubit, wire 0 first."""

    def product(x: Tensor, half: float = 2, flip: bool = False) -> Tensor:
        pairs = torch.stack([(x / half).cos(), (x / half).sin()], -1)  # (n, q, 2)
        states = torch.ones(len(x), 1, dtype=x.dtype)
        for qubit in pairs.flip(2 if flip else 0).unbind(1) if flip else pairs.unbind(1):
            states = (states[:, :, None] * qubit[:, None, :]).flatten(1)  # (n, 2^k)
        return states

    mistakes = {
        "RY(x) turns by half its angle: cos(x/2) and sin(x/2).": lambda x: product(x, 1),
        "cosine and sine are swapped: |0> gets the cosine.": lambda x: product(x, flip=True),
        "the qubits are in reverse order: wire 0 is the leftmost factor.": (
            lambda x: product(x.flip(1))
        ),
        "these are probabilities: a state holds amplitudes, their signed roots.": (
            lambda x: product(x) ** 2
        ),
        "a sign is lost: sin(x/2) is negative for negative angles.": lambda x: product(x).abs(),
        "the sine has the wrong sign: RY(x)|0> = cos(x/2)|0> + sin(x/2)|1>.": (
            lambda x: product(-x)
        ),
    }
    cases = [Case(f"with {n} rows of {q} angles", (normal(n, q),)) for n, q in ((4, 3), (2, 1))]
    cases += [Case("with a row of zeros and coincident rows", (coincident(5, 2),))]
    right = "the states of the kit's angle map, one factor a qubit."
    return mark(f, product, cases, mistakes, right, learns=[0])


def check_bandwidth_rule(f: Function | None) -> Answer:
    """Check ``f(matrices, bandwidths)``: (m, n, n), (m,) -> the bandwidth of largest spread."""

    def spread(k: Tensor, diagonal: bool = False) -> Tensor:
        keep = ~torch.eye(k.shape[1], dtype=torch.bool) | diagonal
        return k[:, keep].std(1)

    mistakes = {
        "this is the place in the list: give the bandwidth there.": lambda k, b: spread(k).argmax(),
        "the diagonal is counted: it is 1 for every bandwidth, leave it out.": (
            lambda k, b: b[spread(k, True).argmax()]
        ),
        "this is the largest spread: give the bandwidth where it is.": (
            lambda k, b: spread(k).max()
        ),
        "the diagonal is set to 0 but still counted: leave it out.": (
            lambda k, b: b[(k * (1 - torch.eye(k.shape[1]))).flatten(1).std(1).argmax()]
        ),
        "the smallest spread: take the largest.": lambda k, b: b[spread(k).argmin()],
        "the largest mean: take the largest standard deviation.": (
            lambda k, b: b[k.mean((1, 2)).argmax()]
        ),
    }
    bandwidths = 2.0 ** torch.arange(-5, 4, dtype=torch.float64)
    cases = []
    for n, seed in ((4, 0), (6, 1), (12, 2)):
        d2 = torch.cdist(x := normal(n, 2, seed=seed), x) ** 2
        kernels = torch.exp(-d2 * bandwidths[:, None, None] ** 2)
        cases.append(Case(f"with {n} samples", (kernels, bandwidths)))
    right = "the bandwidth at which kernel values of different samples spread most."
    rule = lambda k, b: b[spread(k).argmax()]  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


def check_shots_needed(f: Function | None) -> Answer:
    """Check ``f(value, error)`` -> shots for a kernel value to have this standard error."""
    mistakes = {
        "rounded down: with this many shots the error is a little too large.": (
            lambda k, e: math.floor(k * (1 - k) / e**2)
        ),
        "a share k of the shots has the variance k(1 - k), not 1.": lambda k, e: math.ceil(e**-2),
        "the variance is k(1 - k), not k.": lambda k, e: math.ceil(k / e**2),
        "the error falls with the root of the shots: square it.": (
            lambda k, e: math.ceil(k * (1 - k) / e)
        ),
        "the root is too much: shots = variance / error^2.": (
            lambda k, e: math.ceil((k * (1 - k)) ** 0.5 / e)
        ),
        "0.25 is the largest variance a share can have: take this value's own, k(1 - k).": (
            lambda k, e: math.ceil(0.25 / e**2)
        ),
        "rounded to the nearest: round up.": lambda k, e: round(k * (1 - k) / e**2),
        "not a whole number: round up.": lambda k, e: k * (1 - k) / e**2,
    }
    pairs = ((0.3, 0.011), (0.9, 0.017), (0.02, 0.013))
    cases = [Case(f"for the value {k} and the error {e}", (k, e)) for k, e in pairs]
    right = "the variance of a share, over the squared error, rounded up."
    rule = lambda k, e: math.ceil(k * (1 - k) / e**2)  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)
