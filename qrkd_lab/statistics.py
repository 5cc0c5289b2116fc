"""The statistics of a comparison: intervals, Holm's correction, and what can be seen at all."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import optimize, stats

__all__ = [
    "FEWEST",
    "detectable_difference",
    "holm",
    "interval",
    "p_in_words",
    "power_of",
    "seeds_needed",
    "variance_shares",
    "win_interval",
    "win_probability",
]

FEWEST = 3  # seeds for an interval: with two, the t-quantile is 12.7 and the interval says nothing
MOST = 30.0  # of t: beyond, the chance of a win is 0 or 1, and scipy's noncentral t is not reliable


def interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The mean's t-interval: its two ends, NaN with fewer than :data:`FEWEST` values."""
    if len(values) < FEWEST:
        return math.nan, math.nan
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return values.mean() - half, values.mean() + half


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p: the i-th smallest of m times (m - i + 1), never falling, at most 1."""
    adjusted = np.full(len(p), math.nan)
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def p_in_words(p: float) -> str:
    """A p-value as it is printed: three digits, "< 0.001", or nothing where there is none (NaN)."""
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def power_of(difference: float, spread: float, seeds: int, confidence: float = 0.95) -> float:
    r"""Chance that a paired t-test on this many seeds sees a true difference, in its direction.

    With :math:`S` seeds the test's t follows a noncentral t with :math:`S - 1` degrees of freedom
    and noncentrality :math:`\sqrt{S}\, \delta / \sigma`; it must exceed the test's quantile.

    Args:
        difference: the true difference, :math:`\delta`.
        spread: standard deviation of the paired differences, :math:`\sigma`.
        seeds: S, 2 or more.
        confidence: 1 minus the level of the test.

    Example:
        >>> round(power_of(0.5, 1.0, seeds=34), 2)
        0.81
    """
    effect = abs(difference) / spread if spread else math.inf
    critical = stats.t.ppf((1 + confidence) / 2, seeds - 1)
    shift = min(effect * math.sqrt(seeds), 1e3)
    return float(stats.nct.sf(critical, seeds - 1, shift))  # the other tail adds < 2.5 %


def win_probability(differences: np.ndarray) -> float:
    r"""Chance that the arm is ahead on a seed that was not run: an estimate.

    With :math:`S` differences of mean :math:`\bar d` and standard deviation :math:`s`, taken as
    normal, the next one is predicted by a t with :math:`S - 1` degrees of freedom,

    .. math:: P(d_\text{new} > 0) = T_{S-1} \left( \frac{\bar d}{s \sqrt{1 + 1 / S}} \right),

    which is nearer to one half than the share of the seeds that were won: few seeds know s badly.
    Bouthillier et al. (MLSys 2021) call a method meaningfully better from P = 0.75 on, if the
    interval (:func:`win_interval`) excludes one half.

    Args:
        differences: one a seed, better is positive, ``(S,)``.

    Returns:
        NaN with fewer than :data:`FEWEST` seeds or without spread.

    Example:
        >>> round(win_probability(np.array([0.1, 0.3, -0.1])), 2)
        0.65
    """
    t = _t_of(differences)
    return float(stats.t.cdf(t / math.sqrt(len(differences) + 1), len(differences) - 1))


def win_interval(differences: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    r"""Interval of the true chance :math:`P(d > 0) = \Phi(\delta)`, of normal differences.

    The observed :math:`t = \sqrt S\, \bar d / s` follows a noncentral t with noncentrality
    :math:`\sqrt S\, \delta`. The interval holds each :math:`\delta` under which t is not in one of
    the tails, of :math:`(1 - \text{confidence}) / 2` each; so it excludes one half if and only if
    the paired t-test rejects "no difference".

    Args:
        differences: one a seed, better is positive, ``(S,)``.
        confidence: of the interval.

    Returns:
        Its two ends; NaN with fewer than :data:`FEWEST` seeds or without spread.

    Example:
        >>> low, high = win_interval(np.array([0.1, 0.3, -0.1]))
        >>> round(low, 2), round(high, 2)
        (0.22, 0.95)
    """
    t, seeds = _t_of(differences), len(differences)
    if math.isnan(t):
        return math.nan, math.nan
    t = min(max(t, -MOST), MOST)
    reach = MOST / 2 + 3 * abs(t)

    def missing(shift: float, tail: float) -> float:
        # Far in a tail scipy gives NaN; there the chance is 0 or 1.
        return np.nan_to_num(stats.nct.cdf(t, seeds - 1, shift), nan=float(shift < t)) - tail

    def end(tail: float) -> float:
        shift = optimize.brentq(missing, -reach, reach, (tail,))
        return float(stats.norm.cdf(shift / math.sqrt(seeds)))

    return end((1 + confidence) / 2), end((1 - confidence) / 2)


def _t_of(differences: np.ndarray) -> float:
    """The paired t; NaN with too few seeds or without spread."""
    d = np.asarray(differences, dtype=float)
    if len(d) < FEWEST or not np.ptp(d) > 1e-12 * np.abs(d).max():
        return math.nan
    return float(d.mean() / stats.sem(d))


def variance_shares(table: pd.DataFrame) -> pd.Series:
    r"""What differs more, arms or seeds? Shares of the sum of squares of a table of scores.

    With the score :math:`y_{sa}` of seed s and arm a, and a dot for a mean over an index,

    .. math:: \sum (y_{sa} - y_{..})^2 = A \sum (y_{s.} - y_{..})^2 + S \sum (y_{.a} - y_{..})^2
              + \sum (y_{sa} - y_{s.} - y_{.a} + y_{..})^2.

    Args:
        table: a row a seed and a column an arm, without gaps.

    Returns:
        ``seed``, ``arm`` and ``rest`` (what arm and seed do together, and noise): they add up to 1.

    Raises:
        ValueError: fewer than two rows or columns, a gap, or all scores equal.
    """
    y = table.to_numpy(dtype=float)
    if min(y.shape) < 2 or not np.isfinite(y).all():
        raise ValueError(
            f"expected two or more seeds (rows) and arms (columns) without gaps, got {y.shape} "
            f"with {int((~np.isfinite(y)).sum())} gaps: drop incomplete seeds by .dropna()."
        )
    seed, arm = (y.mean(axis, keepdims=True) - y.mean() for axis in (1, 0))
    rest = y - y.mean() - seed - arm
    squares = [float((np.broadcast_to(part, y.shape) ** 2).sum()) for part in (seed, arm, rest)]
    if not (total := sum(squares)) > 0:
        raise ValueError("all scores are equal: there is no variance to share out.")
    return pd.Series(squares, ["seed", "arm", "rest"]) / total


def seeds_needed(
    difference: float, spread: float, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """Seeds that a paired t-test needs to see a true difference: an estimate.

    For planning: the difference is one that was fixed before, the smallest that would matter. With
    the difference that was observed the answer is a function of p, and says nothing beyond it.

    Args:
        difference: the true difference to be seen.
        spread: standard deviation of the paired differences (ddof = 1).
        confidence: 1 minus the level of the test.
        power: the chance to see it.

    Returns:
        The number of seeds, or None if a million would not do.

    Example:
        >>> seeds_needed(0.5, 1.0)
        34
    """

    def enough(seeds: int) -> bool:
        return power_of(difference, spread, seeds, confidence) >= power

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > 2_000_000:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def detectable_difference(
    spread: float, seeds: int, confidence: float = 0.95, chance: float = 0.8
) -> float:
    """The smallest true difference that a paired t-test with so many seeds sees, with some chance.

    The inverse of :func:`power_of` in its first argument.

    Args:
        spread: standard deviation of the paired differences, > 0.
        seeds: at least 2.
        confidence: 1 minus the level of the test.
        chance: with which it is to be seen (80 % power).

    Raises:
        ValueError: too few seeds or no spread.

    Example:
        >>> round(detectable_difference(1.0, 34), 1)
        0.5
    """
    if not spread > 0 or seeds < 2:
        raise ValueError(f"expected a spread > 0 and at least 2 seeds, got {spread} and {seeds}")

    def missing(effect: float) -> float:  # in units of the spread
        return power_of(effect, 1.0, seeds, confidence) - chance

    return optimize.brentq(missing, 0.0, 1e3 / seeds**0.5) * spread
