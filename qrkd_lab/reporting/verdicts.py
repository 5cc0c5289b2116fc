"""Verdicts: what a paired comparison says, in the words that the whole report uses."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from qrkd_lab.reporting.markdown import ranged
from qrkd_lab.summary import units

__all__ = [
    "BETTER", "LEVEL", "NONE", "SHORT", "UNKNOWN", "WORSE", "chance", "excluded", "verdict",
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


def excluded(row: pd.Series) -> str:
    """The largest improvement that a row of ``improvement_table`` leaves possible.

    By the simultaneous limits: as said of all benchmarks together. In points of accuracy, else in
    per cent of the reference's score.
    """
    factor, unit = units(row["metric"])
    if unit:
        return f"{row['joint_high'] * row['reference'] / 100 * factor:.2f} points"
    name = row["metric"].removeprefix("test_").replace("_", " ")
    return f"{row['joint_high']:.2f} % of the {name}"
