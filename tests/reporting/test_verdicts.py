"""Verdicts: four words, and the numbers beside them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from qrkd_lab.reporting.verdicts import (
    BETTER,
    NONE,
    UNKNOWN,
    WORSE,
    chance,
    enough_seeds,
    excluded,
    smallest_seen,
    verdict,
)
from qrkd_lab.statistics import power_of


def test_a_verdict_needs_a_small_p_and_takes_its_direction_from_the_gain():
    assert verdict(0.1, 0.049) == BETTER and verdict(-0.1, 0.049) == WORSE
    assert verdict(0.1, 0.05) == NONE and verdict(0.1, math.nan) == UNKNOWN


def test_seeds_that_would_do():
    assert enough_seeds(pd.Series([-0.5, 0.5, 1.5])) == "34"  # a published table's, for 0.5 sd
    assert enough_seeds(pd.Series([1.0, -1.0, 1.001, -1.0])) == "more than 1,000"
    assert enough_seeds(pd.Series([1.0, 1.01, 0.99])) == "3", "with two there is no p"
    assert enough_seeds(pd.Series([-0.5, 0.5, 1.5]), arms=5) == "34 (51)"  # published: for 1 %
    assert enough_seeds(pd.Series([1.0, -1.0, 1.001, -1.0]), arms=5) == "more than 1,000"
    assert enough_seeds(pd.Series([1.0, 1.0])) == enough_seeds(pd.Series([1.0])) == ""


def test_the_smallest_difference_that_would_have_been_seen():
    gains = pd.Series([0.1, 0.4, -0.2, 0.3, 0.0])
    least = smallest_seen(gains)
    assert power_of(least, np.std(gains, ddof=1), 5) == pytest.approx(0.8)
    beside = smallest_seen(gains, arms=2)
    assert power_of(beside, np.std(gains, ddof=1), 5, confidence=0.975) == pytest.approx(0.8)
    assert math.isnan(smallest_seen(gains[:1])) and math.isnan(smallest_seen(gains * 0))


def test_the_chance_to_win_and_what_is_excluded():
    row = {"p_win": 0.531, "win_low": 0.2, "win_high": 0.9}
    assert chance(row) == "0.53 [0.20, 0.90]" and chance(row | {"p_win": math.nan}) == ""
    row = pd.Series({"high": 2.0, "reference": 0.5, "metric": "test_accuracy"})
    assert excluded(row) == "1.00 points"
