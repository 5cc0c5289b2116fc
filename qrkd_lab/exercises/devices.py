"""Exercises on devices: how many circuits, and what to do with a matrix that shots have broken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer, Case, mark

__all__ = ["check_circuits_needed", "check_clip_spectrum"]

Function = Callable[..., Any]


def check_circuits_needed(f: Function | None) -> Answer:
    """Check ``f(n, gates, steps)`` -> circuits of one training by parameter shift, two a gate."""

    def count(n: int, gates: int, steps: int, **change: int) -> int:
        pairs = change.get("pairs", n * (n - 1) // 2)
        shifted = change.get("shifted", 4 * gates)
        return steps * pairs * (change.get("matrices", 2) + shifted)

    mistakes = {
        "a pair's circuit holds the gates of two samples: 2 x 2 x gates shifted circuits.": (
            lambda n, g, s: count(n, g, s, shifted=2 * g)
        ),
        "one shifted circuit a gate: the rule takes two, one for each sign.": (
            lambda n, g, s: count(n, g, s, shifted=g)
        ),
        "n^2 pairs: i, j and j, i are the same, and the diagonal is 1.": (
            lambda n, g, s: count(n, g, s, pairs=n * n)
        ),
        "n(n-1) pairs: i, j and j, i are the same circuit; halve it.": (
            lambda n, g, s: count(n, g, s, pairs=n * (n - 1))
        ),
        "n(n+1)/2 pairs: the diagonal is 1 and needs no circuit.": (
            lambda n, g, s: count(n, g, s, pairs=n * (n + 1) // 2)
        ),
        "n states: a device cannot keep them; it runs a circuit a pair.": (
            lambda n, g, s: count(n, g, s, pairs=n)
        ),
        "the teacher's matrix is missing.": lambda n, g, s: count(n, g, s, matrices=1),
        "the two matrices are missing: their values are measured, too.": (
            lambda n, g, s: count(n, g, s, matrices=0)
        ),
        "the gradient is missing: two shifted circuits for each gate.": (
            lambda n, g, s: count(n, g, s, shifted=0)
        ),
        "the slope is counted per sample: each pair's circuit is shifted.": (
            lambda n, g, s: s * (n * (n - 1) + n * 4 * g)
        ),
        "this is one step: times the steps.": lambda n, g, s: count(n, g, 1),
        "the teacher's gates are shifted, too: it needs no gradient.": (
            lambda n, g, s: count(n, g, s, shifted=8 * g)
        ),
    }
    rows = ((64, 42, 540), (8, 5, 3), (17, 12, 10))
    cases = [Case(f"for n = {n}, {g} gates and {s} steps", (n, g, s)) for n, g, s in rows]
    right = "two matrices and the shifted circuits of the student's gates, pair by pair."
    return mark(f, count, cases, mistakes, right, numbers=True)


def check_clip_spectrum(f: Function | None) -> Answer:
    """Check ``f(matrix)``: symmetric (n, n) -> the same with negative eigenvalues set to 0."""

    def rebuilt(k: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        values, vectors = torch.linalg.eigh(k)
        return (vectors * change(values)) @ vectors.T

    def columns(k: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(k)
        return (vectors.T * values.clamp(min=0)) @ vectors

    def unit(k: Tensor) -> Tensor:
        root = k.diagonal().sqrt()
        return k / root[:, None] / root[None, :]

    def shifted(k: Tensor) -> Tensor:
        least = torch.linalg.eigvalsh(k)[0].clamp(max=0)
        return k - least * torch.eye(len(k), dtype=k.dtype)

    mistakes = {
        "nothing is changed.": lambda k: k,
        "entries are clipped: clip the eigenvalues.": lambda k: k.clamp(min=0),
        "the sign is turned (flip): set negative eigenvalues to 0.": (
            lambda k: rebuilt(k, torch.abs)
        ),
        "the smallest eigenvalue is subtracted from the diagonal (displace): set the negative ones "
        "to 0, and leave the others.": shifted,
        "the eigenvectors are the columns of what eigh gives: V diag(l) V^T, not V^T diag(l) V.": (
            columns
        ),
        "these are eigenvalues on a diagonal: rotate back, V diag(l) V^T.": (
            lambda k: torch.linalg.eigvalsh(k).clamp(min=0).diag()
        ),
        "right, but scaled to a diagonal of 1 afterwards: leave it as it is.": (
            lambda k: unit(rebuilt(k, lambda v: v.clamp(min=0)))
        ),
        "the positive eigenvalues went, the negative ones stayed: the other way round.": (
            lambda k: rebuilt(k, lambda v: v.clamp(max=0))
        ),
    }
    cases = []
    for n, seed in ((5, 0), (3, 1)):
        x = normal(n, 2, seed=seed)
        noise = 0.4 * normal(n, n, seed=seed + 2)
        k = torch.exp(-0.5 * torch.cdist(x, x) ** 2) + noise + noise.T
        k.fill_diagonal_(1.0)
        cases.append(Case(f"with a matrix of {n} samples", (k,)))
    cases.append(Case("with a matrix that is right already", (torch.eye(4, dtype=torch.float64),)))
    right = "no negative eigenvalue, and nothing else changed."
    rule = lambda k: rebuilt(k, lambda v: v.clamp(min=0))  # noqa: E731
    return mark(f, rule, cases, mistakes, right)
