"""Verdicts: four words, and the numbers beside them."""

from __future__ import annotations

import math

import pandas as pd

from qrkd_lab.studies.report import BETTER, NONE, UNKNOWN, WORSE, chance, excluded, verdict


def test_a_verdict_needs_a_small_p_and_takes_its_direction_from_the_gain():
    assert verdict(0.1, 0.049) == BETTER and verdict(-0.1, 0.049) == WORSE
    assert verdict(0.1, 0.05) == NONE and verdict(0.1, math.nan) == UNKNOWN


def test_the_chance_to_win_and_what_is_excluded():
    row = {"p_win": 0.531, "win_low": 0.2, "win_high": 0.9}
    assert chance(row) == "0.53 [0.20, 0.90]" and chance(row | {"p_win": math.nan}) == ""
    row = pd.Series({"joint_high": 2.0, "reference": 0.5, "metric": "test_accuracy"})
    assert excluded(row) == "1.00 points"
    assert excluded(row.replace("test_accuracy", "test_perplexity")) == "2.00 % of the perplexity"
