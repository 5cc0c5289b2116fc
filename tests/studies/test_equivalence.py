"""Equivalence tests, how often one is ahead, and null results in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from qrkd_lab.studies.statistics import (
    ahead,
    detectable_difference,
    equivalence,
    null_report,
    seeds_needed,
    together,
)

pytestmark = pytest.mark.filterwarnings("error")


def sample(seeds, mean, spread, seed=0):
    d = np.random.default_rng(seed).normal(size=seeds)
    return (d - d.mean()) / d.std(ddof=1) * spread + mean


@pytest.mark.parametrize(("mean", "margin"), [(0.1, 0.5), (-0.3, 0.5), (0.9, 0.5), (0.0, 0.2)])
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
        (1.0, 0.1, "different"),
        (-1.0, 0.1, "different"),
        (0.1, 2.0, "undecided"),
    ],
)
def test_there_are_four_verdicts(mean, spread, verdict):
    d = sample(10, mean, spread)
    assert equivalence(d, 0.5).verdict == verdict
    said = null_report(d, 0.5)
    assert f"{mean:+.2f} points" in said and "10 paired seeds" in said
    assert ("equivalent within 0.5 points" in said) == (verdict == "equivalent")
    assert ("too small to decide" in said) == (verdict == "undecided")
    assert f"about {max(3, seeds_needed(0.5, spread))} seeds" in said


def test_a_test_at_five_per_cent_errs_in_five_per_cent_at_the_margin():
    rng = np.random.default_rng(1)
    draws = rng.normal(0.5, 1.0, (4000, 12))  # the true difference is the margin itself
    wrong = np.mean([equivalence(d, 0.5).p < 0.05 for d in draws])
    assert wrong <= 0.06


def test_the_same_difference_in_every_seed_decides_nothing():
    found = equivalence([0.25, 0.25, 0.25], 0.5)
    assert math.isnan(found.p) and found.verdict == "undecided"
    assert "p unknown" in null_report([0.25, 0.25, 0.25], 0.5)
    assert "had the larger value" not in null_report([0.0, 0.0, 0.0], 0.5)


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
    assert math.isnan(held["4"].p) and {one.family for one in held.values()} == {4}
    assert (held["0"].low, held["0"].inner_low) == (found["0"].low, found["0"].inner_low)


def test_a_verdict_among_many_is_that_of_the_corrected_p():
    one = equivalence(sample(5, 0.0, 0.44), 0.5)
    many = together({str(i): one for i in range(6)})["0"]
    assert one.verdict == "equivalent" and many.verdict == "undecided"
    apart = equivalence(sample(5, 0.5, 0.36), 0.2)
    assert apart.verdict == "different"
    assert together({"a": apart, "b": apart})["a"].verdict == "undecided"
    said = null_report(sample(5, 0.0, 0.44), 0.5, found=many)
    assert said.count("corrected for 6 tests (Holm)") == 3 and "too small to decide" in said
    assert f"about {seeds_needed(0.5, 0.44, 1 - 0.05 / 6)} seeds" in said


def test_ties_do_not_count_as_wins():
    found = ahead([1.0, 0.0, -1.0, 2.0, 3.0])
    assert (found.wins, found.seeds, found.share) == (3, 4, 0.75)
    test = stats.binomtest(3, 4)
    assert (found.low, found.high) == pytest.approx(test.proportion_ci(0.95))
    assert found.p == pytest.approx(test.pvalue)


@pytest.mark.parametrize("seeds", [2, 5, 30])
def test_the_detectable_difference_is_the_inverse_of_the_seeds_needed(seeds):
    difference = detectable_difference(0.7, seeds)
    assert seeds_needed(1.001 * difference, 0.7) == seeds
    assert seeds_needed(0.99 * difference, 0.7) > seeds or seeds == 2


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: equivalence([0.1, 0.2], 0.5), "S >= 3"),
        (lambda: equivalence([0.1, 0.2, math.nan], 0.5), "finite"),
        (lambda: equivalence([0.1, 0.2, 0.3], 0), "margin: expected"),
        (lambda: ahead([0.0, 0.0]), "at least one seed"),
        (lambda: detectable_difference(0.0, 5), "spread > 0"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()
