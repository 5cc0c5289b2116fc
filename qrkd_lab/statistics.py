"""The statistics of a comparison: intervals, Holm's correction, and how many seeds would do."""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

__all__ = ["FEWEST", "holm", "interval", "seeds_needed"]

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


def seeds_needed(
    difference: float, spread: float, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """Seeds that a paired t-test needs to see a difference: an estimate.

    With S seeds the test's t follows a noncentral t with S - 1 degrees of freedom and
    noncentrality sqrt(S) * difference / spread; the answer is the smallest S whose power suffices.
    It takes the difference as true, although it was seen through the same noise.

    Args:
        difference: mean of the paired differences.
        spread: their standard deviation (ddof = 1).

    Returns:
        The number of seeds, or None if a million would not do.

    Example:
        >>> seeds_needed(0.5, 1.0)
        34
    """
    effect = abs(difference) / spread if spread else math.inf

    def enough(seeds: int) -> bool:
        critical = stats.t.ppf((1 + confidence) / 2, seeds - 1)
        shift = min(effect * math.sqrt(seeds), 1e3)
        return stats.nct.sf(critical, seeds - 1, shift) >= power  # the other tail adds < 0.1 %

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > 2_000_000:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
