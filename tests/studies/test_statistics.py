"""Statistics against numbers worked out by hand, published or simulated; null results."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qrkd_lab.studies.statistics import (
    detectable_difference,
    equivalence,
    holm,
    interval,
    power_of,
    seeds_needed,
    together,
    variance_shares,
)

pytestmark = pytest.mark.filterwarnings("error")
T_975 = {4: 2.776445, 8: 2.306004, 9: 2.262157}  # a printed table's


def test_interval_by_hand() -> None:
    low, high = interval(np.array([1.0, 2, 3, 4, 5]), 0.95)
    half = T_975[4] * math.sqrt(2.5) / math.sqrt(5)
    assert (low, high) == pytest.approx((3 - half, 3 + half), rel=1e-6)
    assert all(math.isnan(end) for end in interval(np.array([1.0, 2]), 0.95))


def test_holm_by_hand() -> None:
    p = np.array([0.01, 0.04, math.nan, 0.03, 0.005])
    expected = [0.03, 0.06, math.nan, 0.06, 0.02]
    assert holm(p) == pytest.approx(expected, nan_ok=True)
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize(("effect", "seeds"), [(0.2, 199), (0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_as_in_published_tables(effect: float, seeds: int) -> None:
    assert seeds_needed(effect, 1.0) == seeds_needed(-2 * effect, 2.0) == seeds


def test_seeds_needed_at_the_ends() -> None:
    assert seeds_needed(0.0, 1.0) is None
    assert seeds_needed(1.0, 0.0) == seeds_needed(1e9, 1.0) == 2
    assert seeds_needed(0.5, 1.0, power=0.9) == 44  # published: 44
    assert seeds_needed(0.01, 1.0) == pytest.approx((1.959964 + 0.841621) ** 2 * 1e4, rel=1e-3)
    for seeds in (2, 5, 30):
        difference = detectable_difference(0.7, seeds)
        assert seeds_needed(1.001 * difference, 0.7) == seeds
        assert seeds_needed(0.99 * difference, 0.7) > seeds or seeds == 2


def test_power_by_simulation() -> None:
    draws = np.random.default_rng(1).normal(-0.8, 1.0, (100_000, 5))
    t = draws.mean(1) / (draws.std(1, ddof=1) / math.sqrt(5))
    assert power_of(-0.8, 1.0, 5) == pytest.approx((np.abs(t) > T_975[4]).mean(), abs=0.005)
    assert power_of(0.0, 1.0, 5) == pytest.approx(0.025)  # one side of the level
    assert power_of(1.0, 0.0, 2) == pytest.approx(1.0)


def test_shares_of_variance_by_loops() -> None:
    y = np.random.default_rng(0).normal(size=(4, 3)) + np.array([[0], [3], [1], [2]])
    seed = sum((y[s].mean() - y.mean()) ** 2 for s in range(4) for _ in range(3))
    arm = sum((y[:, a].mean() - y.mean()) ** 2 for a in range(3) for _ in range(4))
    total = sum((value - y.mean()) ** 2 for value in y.ravel())
    shares = variance_shares(pd.DataFrame(y))
    assert shares["seed"] == pytest.approx(seed / total)
    assert shares["arm"] == pytest.approx(arm / total)
    assert shares.sum() == pytest.approx(1.0)
    only_arms = variance_shares(pd.DataFrame([[1.0, 2.0], [1.0, 2.0]]))
    assert only_arms.to_dict() == pytest.approx({"seed": 0, "arm": 1, "rest": 0})


# ---- equivalence


def sample(seeds, mean, spread, seed=0):
    d = np.random.default_rng(seed).normal(size=seeds)
    return (d - d.mean()) / d.std(ddof=1) * spread + mean


@pytest.mark.parametrize(("mean", "margin"), [(0.1, 0.5), (-0.3, 0.5), (0.9, 0.5)])
def test_p_is_the_larger_of_two_one_sided_tests(mean, margin):
    d = sample(8, mean, 0.4)
    found = equivalence(d, margin)
    lower = stats.ttest_1samp(d + margin, 0, alternative="greater").pvalue
    upper = stats.ttest_1samp(d - margin, 0, alternative="less").pvalue
    assert found.p == pytest.approx(max(lower, upper))
    ends = stats.ttest_1samp(d, 0).confidence_interval(0.90)
    assert (found.inner_low, found.inner_high) == pytest.approx(ends)
    assert (found.low, found.high) == pytest.approx(stats.ttest_1samp(d, 0).confidence_interval())
    assert (found.p < 0.05) == (-margin < found.inner_low and found.inner_high < margin)


@pytest.mark.parametrize(
    ("mean", "spread", "verdict"),
    [
        (0.0, 0.1, "equivalent"),
        (0.2, 0.1, "different, by less than the margin"),
        (-1.0, 0.1, "different"),
        (0.1, 2.0, "undecided"),
    ],
)
def test_there_are_four_verdicts(mean, spread, verdict):
    d = sample(10, mean, spread)
    assert equivalence(d, 0.5).verdict == verdict
    same = equivalence([0.25, 0.25, 0.25], 0.5)
    assert math.isnan(same.p) and same.verdict == "undecided"


@pytest.mark.parametrize("which", ["p", "p_different"])
def test_both_questions_are_corrected_for_the_same_family(which):
    means, spreads = (0.0, 0.3, 1.0, 0.1, 0.0), (0.2, 0.25, 0.9, 0.5, 0.0)
    found = {
        str(i): equivalence(sample(8, mean, spread) if spread else np.full(8, mean), 0.5)
        for i, (mean, spread) in enumerate(zip(means, spreads, strict=True))
    }
    alone = np.array([getattr(one, which) for one in found.values()])
    known = alone[:4]  # the last has no spread, so no test
    places = np.argsort(known)
    by_hand = np.empty(4)
    by_hand[places] = np.minimum(1, np.maximum.accumulate(known[places] * [4, 3, 2, 1]))
    held = together(found)
    assert [getattr(one, which) for one in held.values()][:4] == pytest.approx(list(by_hand))
    assert math.isnan(held["4"].p)
    assert (held["0"].low, held["0"].inner_low) == (found["0"].low, found["0"].inner_low)


def test_a_verdict_among_many_is_that_of_the_corrected_p():
    one = equivalence(sample(5, 0.0, 0.44), 0.5)
    many = together({str(i): one for i in range(6)})["0"]
    assert one.verdict == "equivalent" and many.verdict == "undecided"
    apart = equivalence(sample(5, 0.5, 0.36), 0.2)
    assert apart.verdict == "different"
    assert together({"a": apart, "b": apart})["a"].verdict == "undecided"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: equivalence([0.1, 0.2, math.nan], 0.5), "finite"),
        (lambda: equivalence([0.1, 0.2, 0.3], 0), "margin: expected"),
        (lambda: detectable_difference(0.0, 5), "spread > 0"),
        (lambda: variance_shares(pd.DataFrame(np.ones((3, 2)))), "all scores are equal"),
        (lambda: variance_shares(pd.DataFrame([[1.0, 2.0], [3.0, math.nan]])), "with 1 gaps"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()
