"""Verdicts: what a paired comparison says, in the words that the whole report uses."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from qrkd_lab.equivalence import detectable_difference
from qrkd_lab.reporting.markdown import ranged
from qrkd_lab.reporting.studies import gain_unit
from qrkd_lab.statistics import FEWEST, seeds_needed
from qrkd_lab.summary import MANY

__all__ = [
    "BETTER", "LEVEL", "NONE", "SHORT", "UNKNOWN", "WORSE", "chance", "enough_seeds", "excluded",
    "smallest_seen", "verdict",
]  # fmt: skip

LEVEL = 0.05
BETTER, WORSE = "better", "worse"
NONE = "no difference that these seeds could show"
UNKNOWN = "cannot be told from these seeds"
# In tables.
SHORT = {BETTER: "**better**", WORSE: "**worse**", NONE: "none shown", UNKNOWN: "unknown"}


def verdict(gain: float, p: float) -> str:
    """One of four: ``better``, ``worse``, no difference that could be shown, or unknown.

    Args:
        gain: by how much the arm is better, on average.
        p: of the paired test, after correction; NaN where there is none.
    """
    if math.isnan(p):
        return UNKNOWN
    if p >= LEVEL:
        return NONE
    return BETTER if gain > 0 else WORSE


def chance(row: Mapping[str, float]) -> str:
    """The chance to be ahead on a new seed and its interval, or nothing."""
    if math.isnan(row["p_win"]):
        return ""
    return f"{row['p_win']:.2f} {ranged(row['win_low'], row['win_high'], plus=False)}"


def enough_seeds(differences: pd.Series, arms: int = 1) -> str:
    """How many seeds a test needs to see the mean of these differences as a difference, three at
    least: with fewer the kit gives no p.

    Args:
        differences: of one arm, one a seed.
        arms: that are compared at once. From two on, the number in brackets is that for Holm's
            first step, at the level 5 % / ``arms``.
    """
    mean, spread = differences.mean(), differences.std()
    if len(differences) < 2 or not spread > 0:
        return ""
    alone = seeds_needed(mean, spread)
    if arms == 1 or alone is None or alone > MANY:
        return _many(alone)
    return f"{_many(alone)} ({_many(seeds_needed(mean, spread, 1 - LEVEL / arms))})"


def _many(seeds: int | None) -> str:
    return f"more than {MANY:,}" if seeds is None or seeds > MANY else f"{max(seeds, FEWEST)}"


def smallest_seen(differences: pd.Series, arms: int = 1) -> float:
    """The true difference that as many seeds would have shown in four studies of five; or NaN.

    ``arms`` as for :func:`enough_seeds`: the difference that passes Holm's first step.
    """
    spread = float(np.std(differences, ddof=1)) if len(differences) > 1 else 0.0
    if not spread > 0:
        return math.nan
    return detectable_difference(spread, len(differences), 1 - LEVEL / arms)


def excluded(row: pd.Series) -> str:
    """The improvement that a row of ``improvement_table`` leaves possible, in the metric's unit."""
    factor, unit = gain_unit(row["metric"])
    return f"{row['high'] * row['reference'] / 100 * factor:.2f} {unit}".strip()
