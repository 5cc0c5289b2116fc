"""Evidence of several benchmarks: better is positive on each, seeds stay paired."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.records import Run, run_key
from qrkd_lab.studies.statistics import power_of, win_probability
from qrkd_lab.studies.summary import (
    counted,
    improvement_table,
    in_own_unit,
    relative_gains,
    seed_improvements,
)

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
    gains = np.log([100 / 95, 110 / 104, 120 / 116])
    assert row["improvement"] == pytest.approx(100 * (1 - np.exp(-gains.mean())))
    assert row["low"] < row["improvement"] < row["high"]
    assert list(table["p_adjusted"]) == pytest.approx(
        [max(p, 2 * min(table["p"])) for p in table["p"]]
    )


def test_seeds_stay_paired_and_have_the_mean_of_the_table() -> None:
    seeds = seed_improvements({"mnist": IMAGES, "ptb": TEXT})
    assert list(seeds["ptb"]) == pytest.approx([5, 100 * 6 / 110, 100 * 4 / 120])
    assert seeds["mnist"].mean() == pytest.approx(
        improvement_table({"mnist": IMAGES}).loc["mnist", "improvement"]
    )


def test_wins_are_counted_the_way_in_which_better_is_positive() -> None:
    table = improvement_table({"mnist": IMAGES, "ptb": TEXT})
    assert list(table["won"]) == [3, 3]
    gains = np.log([100 / 95, 110 / 104, 120 / 116])
    assert list(TEXT.summary("rkd").gains("qrkd")) == pytest.approx(list(gains))
    assert list(relative_gains(TEXT.summary("rkd"), "qrkd")) == pytest.approx(list(100 * gains))
    row = table.loc["ptb"]
    assert row["p_win"] == pytest.approx(win_probability(gains))
    assert row["p_win"] > 0.5 and row["p"] < 0.05


def test_two_seeds_have_no_interval() -> None:
    short = make_study("imdb", "test_accuracy", True, {"rkd": RKD[:2], "qrkd": QRKD[:2]})
    row = improvement_table({"imdb": short}).loc["imdb"]
    assert math.isnan(row["low"]) and math.isnan(row["p_adjusted"]) and row["improvement"] > 0
    assert math.isnan(row["p_win"]) and row["won"] == 2


def test_errors_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="expected a mapping from names to studies"):
        improvement_table({})
    with pytest.raises(ValueError, match="mnist: expected two arms .* 'rbf' and 'rkd'.* rkd, qrkd"):
        improvement_table({"mnist": IMAGES}, "rbf")
    with pytest.raises(ValueError, match="expected two arms"):
        improvement_table({"mnist": IMAGES}, "rkd", "rkd")


@pytest.mark.parametrize(
    ("metric", "higher", "said"),
    [
        ("test_accuracy", True, "-10.00 points"),
        ("test_top5_accuracy", True, "-10.00 points"),
        ("test_perplexity", False, "-0.10 ppl"),
        ("test_rmse", False, "-0.10 rmse"),
        ("test_log_likelihood", True, "-0.10 log likelihood"),
        ("test_kl", False, "-0.10 nats"),
        ("my score", True, "-0.10 my score"),
    ],
)
def test_every_metric_has_its_own_unit_and_direction(metric: str, higher: bool, said: str) -> None:
    scores = {"rkd": [1.0, 1.2, 1.1], "qrkd": [0.9, 1.1, 1.0 + 1e-6]}
    row = improvement_table({"mine": make_study("mine", metric, higher, scores)}).loc["mine"]
    assert in_own_unit(row) == said and row["higher_is_better"] == higher
    assert (row["improvement"] > 0) == (not higher)


def test_per_cents_of_a_negative_mean_keep_their_sign_and_of_nothing_are_refused() -> None:
    scores = {"rkd": [-1.0, -1.2, -1.1], "qrkd": [-0.9, -1.05, -1.0]}
    row = improvement_table({"mine": make_study("mine", "test_bound", True, scores)}).loc["mine"]
    assert row["improvement"] > 0 and row["low"] < row["improvement"] < row["high"]
    zero = make_study("mine", "test_bound", True, {"rkd": [0.0, 0.0], "qrkd": [1.0, 1.0]})
    with pytest.raises(ValueError, match="no per cent of rkd: its mean test_bound is 0"):
        improvement_table({"mine": zero})


def test_digits_are_practice_and_in_no_family() -> None:
    digits = make_study("digits", "test_accuracy", True, {"rkd": RKD, "qrkd": QRKD})
    benchmarks = {"mnist": IMAGES, "ptb": TEXT}
    without = improvement_table(benchmarks)
    beside = improvement_table({"digits": digits, **benchmarks})
    columns = ["p_adjusted", "joint_low", "joint_high", "smallest"]
    assert beside.loc[["mnist", "ptb"], columns].equals(without[columns])
    alone = improvement_table({"digits": digits}).loc["digits"]
    assert list(beside.loc["digits", columns]) == list(alone[columns])
    assert counted(["digits", "ptb"]) == ["ptb"] and counted(["digits"]) == ["digits"]


@pytest.mark.parametrize("many", [1, 2, 5])
def test_limits_that_are_read_together_are_simultaneous(many: int) -> None:
    table = improvement_table({str(i): IMAGES for i in range(many)})
    test = stats.ttest_rel(QRKD, RKD)
    for of, level in (("", 0.05), ("joint_", 0.05 / many)):
        ends = [100 * end / np.mean(RKD) for end in test.confidence_interval(1 - level)]
        assert list(table.loc["0", [f"{of}low", f"{of}high"]]) == pytest.approx(ends)


def test_the_smallest_improvement_is_seen_in_four_of_five_studies_whatever_was_observed() -> None:
    spread = np.std(np.subtract(QRKD, RKD), ddof=1) / np.mean(RKD) * 100
    row = improvement_table({"mnist": IMAGES, "ptb": TEXT}).loc["mnist"]
    assert power_of(row["smallest"], spread, 4, 1 - 0.05 / 2) == pytest.approx(0.8)
    moved = make_study(
        "mnist", "test_accuracy", True, {"rkd": RKD, "qrkd": [q - 0.1 for q in QRKD]}
    )
    other = improvement_table({"mnist": moved, "ptb": TEXT}).loc["mnist"]
    assert other["smallest"] == pytest.approx(row["smallest"]) and other["p"] != row["p"]
