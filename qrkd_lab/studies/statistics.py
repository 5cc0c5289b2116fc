"""The statistics of a comparison: intervals, Holm's correction, and what can be seen at all."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats

from qrkd_lab.checks import positive

__all__ = [
    "Equivalence",
    "FEWEST",
    "detectable_difference",
    "equivalence",
    "holm",
    "interval",
    "p_equals",
    "p_in_words",
    "power_of",
    "seeds_needed",
    "together",
    "variance_shares",
]


FEWEST = 3  # seeds for an interval: with two, the t-quantile is 12.7 and the interval says nothing


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
    """A p-value in a table: three digits, "< 0.001", or nothing where there is none (NaN)."""
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equals(p: float) -> str:
    """A p-value in a sentence: "p = 0.026", "p < 0.001", "p unknown"."""
    said = p_in_words(p) or "unknown"
    return f"p = {said}" if said[0].isdigit() else f"p {said}"


def _has_spread(d: np.ndarray) -> bool:
    """Whether differences are more than one number with rounding errors."""
    return bool(np.ptp(d) > 1e-12 * np.abs(d).max())


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


def variance_shares(table: pd.DataFrame) -> pd.Series:
    r"""What differs more, arms or seeds? Shares of the sum of squares of a table of scores.

    With the score :math:`y_{sa}` of seed s and arm a, and a dot for a mean over an index,

    .. math:: \sum (y_{sa} - y_{..})^2 = A \sum (y_{s.} - y_{..})^2 + S \sum (y_{.a} - y_{..})^2
              + \sum (y_{sa} - y_{s.} - y_{.a} + y_{..})^2.

    Args:
        table: a row per seed and a column per arm, without gaps.

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
    """Seeds that a paired t-test needs to see a true difference: an estimate, for planning.

    Args:
        difference: the smallest that would matter, fixed before: with the one that was observed,
            the answer says nothing beyond p.
        spread: standard deviation of the paired differences (ddof = 1).
        confidence: 1 minus the level of the test.
        power: the chance to see it.

    Returns:
        The number of seeds, or None if a million would not do.

    Example:
        >>> seeds_needed(0.5, 1.0)
        34
    """
    seeds = range(2, 1_000_001)
    found = bisect_left(
        seeds, power, key=lambda count: power_of(difference, spread, count, confidence)
    )
    return seeds[found] if found < len(seeds) else None


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


# ---- equivalence


@dataclass(frozen=True)
class Equivalence:
    """What :func:`equivalence` found; all in the unit of the differences."""

    seeds: int
    mean: float
    spread: float  # standard deviation, ddof = 1
    margin: float  # the smallest difference that would matter
    low: float  # the interval of the mean: does it exclude 0?
    high: float
    inner_low: float  # of confidence 1 - 2 (1 - confidence): does it lie within the margin?
    inner_high: float
    p: float  # small if the true mean lies within the margin; NaN: all differences are the same
    p_different: float  # of the paired t-test: small if the true mean is not 0
    confidence: float  # 0.95 means a test at 5 %

    @property
    def verdict(self) -> str:
        """``equivalent``, ``different``, ``different, by less than the margin``, ``undecided``."""
        if math.isnan(self.p):
            return "undecided"
        within = self.p < 1 - self.confidence
        if self.p_different < 1 - self.confidence:
            return "different, by less than the margin" if within else "different"
        return "equivalent" if within else "undecided"


def equivalence(differences: ArrayLike, margin: float, confidence: float = 0.95) -> Equivalence:
    r"""Two one-sided t-tests: is the true mean difference smaller than the margin?

    .. math:: t_- = \frac{\bar d + \delta}{s / \sqrt S}, \qquad
              t_+ = \frac{\delta - \bar d}{s / \sqrt S}, \qquad
              p = \max\big(P(T_{S-1} > t_-),\; P(T_{S-1} > t_+)\big)

    Args:
        differences: arm minus reference, one per seed, ``(S,)``.
        margin: :math:`\delta > 0`, in the same unit, fixed before the results are seen.
        confidence: 0.95 tests at 5 %.

    Raises:
        ValueError: fewer than three seeds, NaN, or a margin not > 0.

    Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 657 (1987); Lakens, Social
    Psychological and Personality Science 8, 355 (2017).

    Example:
        >>> equivalence([0.1, -0.2, 0.0, 0.1, -0.1], margin=0.5).verdict
        'equivalent'
    """
    positive("margin", margin)
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or len(d) < FEWEST or not np.isfinite(d).all():
        raise ValueError(
            f"differences: expected (S,) finite numbers, one per seed, S >= {FEWEST}; got shape "
            f"{d.shape}"
        )
    outer, inner = interval(d, confidence), interval(d, 2 * confidence - 1)
    p = different = math.nan  # of the same difference in every seed: no spread to test with
    if _has_spread(d):
        error, free = stats.sem(d), len(d) - 1
        p = float(stats.t.sf((margin - abs(d.mean())) / error, free))
        different = float(2 * stats.t.sf(abs(d.mean()) / error, free))
    return Equivalence(
        len(d), d.mean(), d.std(ddof=1), float(margin), *outer, *inner, p, different, confidence
    )


def together(found: Mapping[str, Equivalence]) -> dict[str, Equivalence]:
    """The same with both p corrected by Holm's method for all of them; intervals stay as they are.

    Args:
        found: name of a benchmark to what :func:`equivalence` found, for all that count.

    Example:
        >>> one, two = equivalence([0.1, -0.2, 0.0, 0.1], 0.5), equivalence([1.0, -2.0, 2.0], 0.5)
        >>> together({"mnist": one, "ptb": two})["mnist"].p == 2 * one.p
        True
    """
    p, different = (
        holm(np.array([getattr(one, name) for one in found.values()], dtype=float))
        for name in ("p", "p_different")
    )
    return {
        name: replace(one, p=float(p[i]), p_different=float(different[i]))
        for i, (name, one) in enumerate(found.items())
    }
