"""Exercises on statistics: paired differences, Holm's correction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from qrkd_lab.exercises.marking import Answer, Case, mark
from qrkd_lab.statistics import holm

__all__ = ["check_holm", "check_paired_difference"]

Function = Callable[..., Any]
Array = np.ndarray


def check_paired_difference(f: Function | None) -> Answer:
    """Check ``f(arm, reference)``: arrays (S,) -> mean of arm - reference, 95 % half width."""

    def paired(a: Array, b: Array, **change: float) -> Array:
        d, seeds = a - b, len(a)
        spread = change.get("spread", d.std(ddof=1))
        quantile = change.get("quantile", stats.t.ppf(0.975, seeds - 1))
        return np.array([d.mean(), quantile * spread / change.get("root", seeds**0.5)])

    mistakes = {
        "the difference has the wrong sign: arm minus reference.": lambda a, b: paired(b, a),
        "1.96 is for many seeds: take the t-quantile with S - 1 degrees of freedom.": (
            lambda a, b: paired(a, b, quantile=stats.norm.ppf(0.975))
        ),
        "this t-quantile leaves out 5 % on one side: for 95 % take t at 0.975.": (
            lambda a, b: paired(a, b, quantile=stats.t.ppf(0.95, len(a) - 1))
        ),
        "degrees of freedom are S - 1, not S.": (
            lambda a, b: paired(a, b, quantile=stats.t.ppf(0.975, len(a)))
        ),
        "not paired: take the standard deviation of the differences, seed by seed.": (
            lambda a, b: paired(a, b, spread=np.sqrt(a.var(ddof=1) + b.var(ddof=1)))
        ),
        "the standard deviation divides by S - 1 (ddof=1), not by S.": (
            lambda a, b: paired(a, b, spread=(a - b).std())
        ),
        "the spread of one seed: the mean's is smaller by the root of S.": (
            lambda a, b: paired(a, b, root=1)
        ),
        "this is the standard deviation alone: times t, divided by the root of S.": (
            lambda a, b: paired(a, b, root=1, quantile=1)
        ),
        "this is the standard error: times the t-quantile gives the half width.": (
            lambda a, b: paired(a, b, quantile=1)
        ),
        "these are the ends of the interval: give the mean and the half width.": lambda a, b: (
            paired(a, b)[0] + np.array([-1.0, 1.0]) * paired(a, b)[1]
        ),
    }
    source = np.random.default_rng(0)
    cases = []
    for seeds in (5, 3, 12):
        level = source.normal(90, 2, seeds)
        arm = level + source.normal(0.3, 0.2, seeds)
        cases.append(Case(f"with {seeds} seeds", (arm, level)))
    right = "seed by seed, with the t-interval of the mean difference."
    return mark(f, paired, cases, mistakes, right, numbers=True)


def check_holm(f: Function | None) -> Answer:
    """Check ``f(p)``: p-values, an array (m,) -> adjusted by Holm's method, in the order given."""

    def single(p: Array) -> Array:  # without the running maximum
        return np.minimum(1, p * (len(p) - p.argsort().argsort()))

    def unbounded(p: Array) -> Array:
        order = p.argsort()
        return np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))[order.argsort()]

    mistakes = {
        "this is Bonferroni's: the i-th smallest of m is multiplied by m - i + 1.": (
            lambda p: np.minimum(1, p * len(p))
        ),
        "in sorted order: give each p back its own place.": lambda p: holm(np.sort(p)),
        "an adjusted p must not be below that of a smaller p: take the running maximum.": single,
        "a probability is at most 1.": unbounded,
        "not adjusted: these are the p-values that came in.": lambda p: p,
    }
    values = ([0.01, 0.04, 0.03], [0.2, 0.001, 0.6, 0.02, 0.021], [0.7, 0.03, 0.6])
    cases = [Case(f"with {len(p)} p-values", (np.array(p),)) for p in values]
    right = "step by step, never falling, at most 1, in the order given."
    return mark(f, holm, cases, mistakes, right, numbers=True)
