"""Exercises on the question whether it is quantum: spectra, geometry, equivalence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer, Case, mark
from qrkd_lab.kernels.alignment import geometric_difference
from qrkd_lab.kernels.diagnostics import effective_rank

__all__ = ["check_effective_rank", "check_equivalence", "check_geometric_difference"]

Function = Callable[..., Any]


def check_effective_rank(f: Function | None) -> Answer:
    """Check ``f(K)``: a kernel matrix (n, n) -> e^H, H the entropy of its eigenvalues' shares."""

    def shares(k: Tensor) -> Tensor:
        values = torch.linalg.eigvalsh(k).clamp(min=0)
        return values / values.sum()

    def entropy(p: Tensor) -> Tensor:
        return torch.special.entr(p).sum()

    mistakes = {
        "this is the entropy H: the effective rank is e^H.": lambda k: entropy(shares(k)),
        "the eigenvalues are not shares yet: divide them by their sum.": lambda k: entropy(
            torch.linalg.eigvalsh(k).clamp(min=0)
        ).exp(),
        "a sign is missing: H = -sum p log p.": lambda k: (-entropy(shares(k))).exp(),
        "two bases: H in nats (natural logarithm) belongs to e^H, H in bits to 2^H.": lambda k: (
            entropy(shares(k)) / math.log(2)
        ).exp(),
        "two bases: H in nats belongs to e^H, not to 2^H.": lambda k: 2 ** entropy(shares(k)),
        "the eigenvalues are squared: take their shares as they are.": lambda k: entropy(
            shares(k) ** 2 / (shares(k) ** 2).sum()
        ).exp(),
        "this is the participation ratio (sum)^2 / sum of squares: a relative, not this one.": (
            lambda k: 1 / (shares(k) ** 2).sum()
        ),
        "this is the rank: it counts every eigenvalue above rounding alike.": (
            torch.linalg.matrix_rank
        ),
        "the entropy of the entries: take the eigenvalues.": lambda k: entropy(
            k.abs() / k.abs().sum()
        ).exp(),
        "the entropy of the diagonal: take the eigenvalues.": lambda k: entropy(
            k.diagonal() / k.trace()
        ).exp(),
    }
    cases = [Case(f"with {n} samples", (_kernel(n, scale),)) for n, scale in ((5, 1), (8, 0.4))]
    ones = torch.ones(4, 4, dtype=torch.float64)
    cases.append(Case("where all samples look alike (0 log 0 counts as 0)", (ones,)))
    right = "e^H of the eigenvalues' shares, from 1 (all alike) to n (the identity)."
    return mark(f, effective_rank, cases, mistakes, right, numbers=True)


def check_geometric_difference(f: Function | None) -> Answer:
    """Check ``f(K_C, K_Q, regularisation)`` -> g; see :func:`qrkd_lab.geometric_difference`."""

    def scaled(k: Tensor) -> Tensor:
        return k * (len(k) / k.trace())

    def g2(c: Tensor, q: Tensor, r: float, **change: Any) -> Tensor:  # noqa: ANN401
        if change.get("scale", True):
            c, q = scaled(c), scaled(q)
        inverse = torch.linalg.inv(change.get("damped", c + r * torch.eye(len(c))))
        middle = change.get("middle", lambda: inverse @ c @ inverse)()
        inner = _root(q) @ middle @ _root(q)
        return torch.linalg.matrix_norm(inner, ord=change.get("norm", 2))

    def other_root(c: Tensor, q: Tensor, r: float, root: Callable[[Tensor], Tensor]) -> Tensor:
        c, q = scaled(c), scaled(q)
        inverse = torch.linalg.inv(c + r * torch.eye(len(c)))
        return torch.linalg.matrix_norm(root(q) @ root(c) @ inverse, ord=2)

    def usual(c: Tensor, q: Tensor, r: float) -> Tensor:
        c = scaled(c)
        return g2(c, q, r, middle=lambda: torch.linalg.inv(c + r * torch.eye(len(c)))).sqrt()

    mistakes = {
        "the two kernels are swapped: the classical one is inverted.": (
            lambda c, q, r: g2(q, c, r).sqrt()
        ),
        "the root is missing: this is g^2.": g2,
        "the Frobenius norm: take the largest eigenvalue (ord=2).": (
            lambda c, q, r: g2(c, q, r, norm="fro").sqrt()
        ),
        "the trace norm: take the largest eigenvalue (ord=2).": (
            lambda c, q, r: g2(c, q, r, norm="nuc").sqrt()
        ),
        "the traces are not scaled: multiply each matrix by n / trace first.": (
            lambda c, q, r: g2(c, q, r, scale=False).sqrt()
        ),
        "not regularised: add lambda to the diagonal of the scaled classical matrix.": (
            lambda c, q, r: g2(c, q, 0.0).sqrt()
        ),
        "one inverse of K_C + lambda: regularised, it is sqrt(K_C) (K_C + lambda)^-2 sqrt(K_C).": (
            usual
        ),
        "the largest row sum: ||.||_inf here is the largest eigenvalue (ord=2).": (
            lambda c, q, r: g2(c, q, r, norm=math.inf).sqrt()
        ),
        "the root of the entries: take the matrix root, by eigenvalues.": (
            lambda c, q, r: other_root(c, q, r, torch.sqrt)
        ),
        "a Cholesky factor is not the symmetric root: sqrt(K) sqrt(K) = K.": (
            lambda c, q, r: other_root(c, q, r, torch.linalg.cholesky)
        ),
        "lambda is added before the scaling: scale the traces first.": (
            lambda c, q, r: g2(c, q, r, damped=scaled(c + r * torch.eye(len(c)))).sqrt()
        ),
        "the traces are scaled to 1: scale both to n.": (
            lambda c, q, r: g2(c / c.trace(), q / q.trace(), r, scale=False).sqrt()
        ),
        "this is the training side, without sqrt(K_C).": lambda c, q, r: (
            geometric_difference(c, q, r).training_error
        ),
    }
    cases = [
        Case(f"with {n} samples and lambda = {r}", (2 * _kernel(n, 0.6), _kernel(n, 1.3), r))
        for n, r in ((5, 0.1), (8, 0.02))
    ]
    right = "the regularised geometric difference, with both traces scaled to n."
    rule = lambda c, q, r: geometric_difference(c, q, r).value  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


def check_equivalence(f: Function | None) -> Answer:
    """Check ``f(differences, margin)``: (S,), a number -> p of two one-sided t-tests (TOST)."""

    def sides(d: np.ndarray, m: float, **change: Any) -> tuple[float, float]:  # noqa: ANN401
        error = d.std(ddof=change.get("ddof", 1)) / change.get("root", len(d) ** 0.5)
        law = change.get("law", stats.t(len(d) - 1))
        return law.sf((d.mean() + m) / error), law.sf((m - d.mean()) / error)

    mistakes = {
        "the smaller of the two: both tests must reject, so the larger p counts.": (
            lambda d, m: min(sides(d, m))
        ),
        "the two p are added: the larger one counts.": lambda d, m: sum(sides(d, m)),
        "the mean of the two p: the larger one counts.": lambda d, m: sum(sides(d, m)) / 2,
        "S degrees of freedom: one is spent on the mean, S - 1 are left.": (
            lambda d, m: max(sides(d, m, law=stats.t(len(d))))
        ),
        "the wrong tails: small p where the mean lies far inside the margin.": (
            lambda d, m: 1 - max(sides(d, m))
        ),
        "the wrong tails: each test asks whether the mean lies on the margin's inner side.": (
            lambda d, m: 1 - min(sides(d, m))
        ),
        "two-sided tests: each of the two is one-sided.": lambda d, m: 2 * max(sides(d, m)),
        "this is the t-test of 'no difference': its large p proves nothing.": (
            lambda d, m: stats.ttest_1samp(d, 0).pvalue
        ),
        "the normal law is for many seeds: Student's t with S - 1 degrees of freedom.": (
            lambda d, m: max(sides(d, m, law=stats.norm))
        ),
        "the standard deviation divides by S - 1 (ddof=1), not by S.": (
            lambda d, m: max(sides(d, m, ddof=0))
        ),
        "the spread of one seed: the mean's is smaller by the root of S.": (
            lambda d, m: max(sides(d, m, root=1))
        ),
        "the upper side only: test the lower one too, and take the larger p.": (
            lambda d, m: sides(d, m)[1]
        ),
        "the lower side only: test the upper one too, and take the larger p.": (
            lambda d, m: sides(d, m)[0]
        ),
    }
    source = np.random.default_rng(0)
    cases = []
    for seeds, mean, margin in ((5, 0.1, 0.4), (10, -0.2, 0.5), (4, 0.3, 0.35)):
        d = source.normal(0, 0.3, seeds)
        d += mean - d.mean()
        cases.append(Case(f"with {seeds} seeds and a margin of {margin}", (d, margin)))
    right = "the larger p of two one-sided t-tests."
    return mark(f, lambda d, m: max(sides(d, m)), cases, mistakes, right, numbers=True)


def _kernel(n: int, scale: float) -> Tensor:
    """An RBF matrix of normal angles, well conditioned."""
    return torch.exp(-scale * torch.cdist(x := normal(n, 3), x) ** 2)


def _root(k: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(k)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
