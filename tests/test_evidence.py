"""Evidence of several benchmarks: better is positive on each, seeds stay paired."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from qrkd_lab.evidence import improvement_table, paired_gains, seed_improvements
from qrkd_lab.runs import Run, run_key
from qrkd_lab.statistics import win_interval, win_probability
from qrkd_lab.study import Study

QRKD = [0.91, 0.94, 0.92, 0.96]
RKD = [0.90, 0.92, 0.93, 0.93]


def make_study(benchmark: str, metric: str, higher: bool, scores: dict[str, list[float]]) -> Study:
    runs = []
    for arm, values in scores.items():
        for seed, value in enumerate(values):
            chosen = {"benchmark": benchmark, "scale": "smoke", "arm": arm, "seed": seed}
            runs.append(
                Run(
                    settings=chosen, key=run_key(chosen, "ab"), versions={}, device="cpu",
                    data={"source": "words", "sha256": "ab"},
                    metric={"name": metric, "higher_is_better": higher}, parameters=8,
                    history=[{"epoch": 1, "total": 1.0}], metrics={metric: value},
                    seconds={"train": 1.0}, finished="",
                )
            )  # fmt: skip
    return Study(tuple(runs))


IMAGES = make_study("mnist", "test_accuracy", True, {"rkd": RKD, "qrkd": QRKD})
TEXT = make_study(
    "ptb", "test_perplexity", False, {"rkd": [100.0, 110, 120], "qrkd": [95.0, 104, 116]}
)


def test_accuracy_by_hand() -> None:
    row = improvement_table({"mnist": IMAGES}).loc["mnist"]
    test = stats.ttest_rel(QRKD, RKD)
    assert row["difference"] == pytest.approx(np.mean(QRKD) - np.mean(RKD))
    assert row["improvement"] == pytest.approx(100 * (np.mean(QRKD) / np.mean(RKD) - 1))
    low, high = (100 * end / np.mean(RKD) for end in test.confidence_interval())
    assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert row["p"] == pytest.approx(test.pvalue) and row["seeds"] == 4


def test_less_perplexity_is_better_and_low_is_below_high() -> None:
    table = improvement_table({"mnist": IMAGES, "ptb": TEXT})
    row = table.loc["ptb"]
    assert row["difference"] == pytest.approx(-5.0)
    assert row["improvement"] == pytest.approx(100 * 5 / 110)
    assert row["low"] < row["improvement"] < row["high"]
    assert list(table["p_adjusted"]) == pytest.approx(
        [max(p, 2 * min(table["p"])) for p in table["p"]]
    )


def test_seeds_stay_paired_and_have_the_mean_of_the_table() -> None:
    seeds = seed_improvements({"mnist": IMAGES, "ptb": TEXT})
    assert list(seeds["ptb"]) == pytest.approx([100 * d / 110 for d in (5, 6, 4)])
    assert seeds["mnist"].mean() == pytest.approx(
        improvement_table({"mnist": IMAGES}).loc["mnist", "improvement"]
    )


def test_wins_are_counted_the_way_in_which_better_is_positive() -> None:
    table = improvement_table({"mnist": IMAGES, "ptb": TEXT})
    assert list(table["won"]) == [3, 3]
    gains = np.array([5.0, 6, 4])
    assert list(paired_gains(TEXT.summary("rkd"), "qrkd")) == pytest.approx(list(gains))
    row = table.loc["ptb"]
    assert row["p_win"] == pytest.approx(win_probability(gains))
    assert (row["win_low"], row["win_high"]) == pytest.approx(win_interval(gains))
    assert row["win_low"] > 0.5 and row["p"] < 0.05


def test_two_seeds_have_no_interval() -> None:
    short = make_study("imdb", "test_accuracy", True, {"rkd": RKD[:2], "qrkd": QRKD[:2]})
    row = improvement_table({"imdb": short}).loc["imdb"]
    assert math.isnan(row["low"]) and math.isnan(row["p_adjusted"]) and row["improvement"] > 0
    assert math.isnan(row["p_win"]) and math.isnan(row["win_low"]) and row["won"] == 2


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="expected a mapping from names to studies"):
        improvement_table({})
    with pytest.raises(ValueError, match="mnist: expected two arms .* 'rbf' and 'rkd'.* rkd, qrkd"):
        improvement_table({"mnist": IMAGES}, "rbf")
    with pytest.raises(ValueError, match="expected two arms"):
        improvement_table({"mnist": IMAGES}, "rkd", "rkd")
