"""Summaries against numbers worked out by hand or by another way than the code's; what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.records import Run
from qrkd_lab.studies.statistics import power_of
from qrkd_lab.studies.summary import (
    counted,
    improvement_table,
    in_own_unit,
    relative_gains,
    results,
    seed_improvements,
    summary,
)
from tests.studies.made_runs import SHA, own_run

T_975 = {2: 4.302653, 4: 2.776445}  # a printed table's


def make_run(
    arm: str,
    seed: int,
    score: float,
    metric: str = "test_accuracy",
    higher: bool = True,
    benchmark: str = "mnist",
    **settings: Any,  # noqa: ANN401
) -> Run:
    metrics = {metric: score, f"train_{metric.removeprefix('test_')}": score + 0.01}
    return replace(
        own_run({"benchmark": benchmark, "scale": "smoke", "arm": arm, "seed": seed} | settings),
        metric={"name": metric, "higher_is_better": higher},
        metrics=metrics | {"test_agreement": 0.9, f"teacher_{metric}": 0.99},
        seconds={"train": 40.0, "evaluate": 2.0},
    )


def make_study(
    metric: str = "test_accuracy", higher: bool = True, benchmark: str = "mnist",
    **arms: Sequence[float],
) -> Study:  # fmt: skip
    scores = ((arm, seed, v) for arm, values in arms.items() for seed, v in enumerate(values))
    return Study(tuple(make_run(*one, metric, higher, benchmark) for one in scores))


def table(**arms: list[float]) -> pd.DataFrame:
    return make_study(**arms).results


# d = qrkd - rkd = (1, 2, 3, 4, 5) / 100: mean 0.03, sd sqrt(2.5) / 100, t = 3 / sqrt(0.5)
RKD = [0.90, 0.91, 0.89, 0.92, 0.90]
QRKD = [a + d for a, d in zip(RKD, [0.01, 0.02, 0.03, 0.04, 0.05], strict=True)]


def p_of_t4(t: float) -> float:
    """Two-sided p of Student's t with 4 degrees of freedom, whose CDF is elementary."""
    u = t * t / (1 + t * t / 4)
    return 2 * (0.5 - 3 / 8 * math.sqrt(u) * (1 - u / 12))


# results


def test_results_hold_gaps_by_hand() -> None:
    runs = make_study(teacher=[0.99, 0.98], scratch=[0.90, 0.80], qrkd=[0.93, 0.85, 0.88]).runs
    frame = results(reversed(runs))
    assert list(frame["arm"]) == ["teacher"] * 2 + ["scratch"] * 2 + ["qrkd"] * 3
    assert list(frame["seed"]) == [0, 1, 0, 1, 0, 1, 2]
    assert frame["train_test_gap"].to_numpy() == pytest.approx([0.01] * 7)
    nan = math.nan
    behind = [nan, nan, 0.09, 0.19, 0.06, 0.14, 0.11]
    assert frame["teacher_student_gap"].to_numpy() == pytest.approx(behind, nan_ok=True)
    gain = [nan, nan, 0.0, 0.0, 0.03, 0.05, nan]
    assert frame["distillation_gain"].to_numpy() == pytest.approx(gain, nan_ok=True)
    row = frame.iloc[4]
    assert row["seconds"] == 42.0 and row["parameters"] == 10 and row["source"] == "invented"
    assert row["run"].name == "qrkd seed 0" and row["key"] == row["run"].key


def test_gaps_stay_positive_for_a_metric_that_should_be_low() -> None:
    metric = {"name": "test_perplexity", "higher_is_better": False}
    numbers = {"test_perplexity": 30.0, "train_perplexity": 25.0, "teacher_test_perplexity": 20.0}
    kd = replace(make_run("kd", 0, 0.0), metric=metric, metrics=numbers)
    scratch = replace(
        make_run("scratch", 0, 0.0), metric=metric, metrics=numbers | {"test_perplexity": 36.0}
    )
    row = results([kd, scratch]).set_index("arm").loc["kd"]
    gaps = row[["train_test_gap", "teacher_student_gap", "distillation_gain"]]
    assert list(gaps) == [5.0, 10.0, 6.0]


def test_gain_is_taken_within_one_benchmark_and_from_one_run() -> None:
    runs = [make_run("scratch", 0, 0.5), make_run("kd", 0, 0.6, benchmark="imdb")]
    assert math.isnan(results(runs).set_index("arm").loc["kd", "distillation_gain"])
    runs = [make_run("scratch", 0, 0.9, epochs=epochs) for epochs in (3, 5)]
    with pytest.raises(ValueError, match=r"scratch seed 0, got 2; .* epochs \(3 and 5\)"):
        results(runs)


# summary: numbers


def test_interval_difference_and_p_by_hand() -> None:
    frame = summary(table(rkd=RKD, qrkd=QRKD)).frame
    row = frame.loc["qrkd"]
    half = T_975[4] * math.sqrt(2.5) / 100 / math.sqrt(5)
    assert row["difference"] == pytest.approx(0.03)
    assert row["difference_low"] == pytest.approx(0.03 - half, rel=1e-6)
    assert row["difference_high"] == pytest.approx(0.03 + half, rel=1e-6)
    assert row["p"] == pytest.approx(p_of_t4(3 / math.sqrt(0.5)), rel=1e-6)
    rkd = frame.loc["rkd"]
    spread = math.sqrt(sum((v - 0.904) ** 2 for v in RKD) / 4)
    assert rkd["mean"] == pytest.approx(0.904)
    assert rkd["high"] - rkd["mean"] == pytest.approx(T_975[4] * spread / math.sqrt(5), rel=1e-6)
    assert rkd["mean"] - rkd["low"] == pytest.approx(rkd["high"] - rkd["mean"])
    assert rkd[["difference", "difference_low", "p", "p_adjusted"]].isna().all()


def test_means_of_the_other_columns_and_order() -> None:
    arms = {"rbf": [0.1] * 3, "qrkd": [0.2, 0.3, 0.4], "mine": [0.3] * 3, "scratch": [0.1] * 3}
    frame = summary(table(**arms, rkd=[0.2] * 3, teacher=[0.9] * 3)).frame
    assert list(frame.index) == ["teacher", "scratch", "rkd", "qrkd", "rbf", "mine"]
    names = ["distillation_gain", "teacher_student_gap", "agreement", "seconds"]
    numbers = frame.loc["qrkd", names]
    assert numbers.to_numpy() == pytest.approx([0.2, 0.69, 0.9, 42.0])


# summary: special cases


def test_fewer_than_three_seeds_or_no_shared_one() -> None:
    found = summary(table(rkd=RKD[:2], qrkd=QRKD[:2]))
    row = found.frame.loc["qrkd"]
    assert row["difference"] == pytest.approx(0.015)
    assert row[["low", "high", "difference_low", "difference_high", "p", "p_adjusted"]].isna().all()
    assert "No interval and no p with fewer than 3 seeds: rkd (2), qrkd (2)." in found.notes
    assert "±" not in str(found)
    assert "cannot be ranked by 2 shared seeds" in found.verdict("qrkd")
    runs = [r for r in make_study(rkd=RKD[:4], qrkd=QRKD[:4]).runs
            if (r.settings["seed"] < 2) == (r.settings["arm"] == "rkd")]  # fmt: skip
    found = summary(results(runs))
    assert found.frame.loc["qrkd", "pairs"] == 0
    assert "0 shared seeds" in found.verdict("qrkd") and "qrkd" in str(found)


def test_identical_in_every_seed_and_arms_that_are_swapped() -> None:
    found = summary(table(rkd=RKD, qrkd=RKD, kd=QRKD))
    row = found.frame.loc["qrkd"]
    assert list(row[["difference", "difference_low", "difference_high", "p"]]) == [0, 0, 0, 1]
    there, back = found.frame.loc["kd"], summary(table(rkd=RKD, kd=QRKD), "kd").frame.loc["rkd"]
    assert there["difference_low"] == pytest.approx(-back["difference_high"])
    assert "qrkd and rkd are identical in every seed." in found.notes
    assert found.verdict("qrkd").endswith("They are identical in every seed.")


def test_arms_that_are_the_same_in_every_seed_are_one_question() -> None:
    """Neither the reference once more, nor an arm once more, makes the others' p larger."""
    kd = [0.91, 0.90, 0.93, 0.92, 0.95]
    alone = summary(table(rkd=RKD, qrkd=QRKD, kd=kd))
    found = summary(table(rkd=RKD, qrkd=QRKD, kd=kd, detached=RKD, again=QRKD))
    assert alone.at_once == found.at_once == 2
    shared = ["qrkd", "kd"]
    assert list(found.frame.loc[shared, "p_adjusted"]) == list(
        alone.frame.loc[shared, "p_adjusted"]
    )
    assert found.frame.loc["again", "p_adjusted"] == found.frame.loc["qrkd", "p_adjusted"]
    assert found.frame.loc["detached", "p_adjusted"] == 1


def test_the_same_difference_in_every_seed_has_no_spread() -> None:
    found = summary(table(rkd=[0.9, 0.8, 0.7], qrkd=[0.91, 0.81, 0.71]))
    row = found.frame.loc["qrkd"]
    assert row["difference"] == pytest.approx(0.01) and math.isnan(row["p"])
    assert "same amount in every seed" in found.notes[0]
    assert "see the notes" in found.verdict("qrkd")


def test_only_shared_seeds_are_paired() -> None:
    study = make_study(rkd=RKD, qrkd=QRKD)
    runs = [run for run in study.runs if run.name not in ("rkd seed 1", "qrkd seed 3")]
    found = summary(results(runs))
    row = found.frame.loc["qrkd"]
    assert row["pairs"] == 3 and row["seeds"] == 4 and row["difference"] == pytest.approx(0.03)
    half = T_975[2] * 0.02 / math.sqrt(3)  # d = 0.01, 0.03, 0.05
    assert row["difference_high"] == pytest.approx(0.03 + half, rel=1e-6)
    assert "qrkd and rkd are compared on 3 seeds; not on 1, 3." in found.notes


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"versions": {"torch": "2.13"}}, "The runs differ in torch: 2.0.0 (9 runs) and 2.13 (1"),
        ({"data": {"source": "JPEG copy", "sha256": SHA}}, "The runs differ in data source"),
        ({"data": {"source": "invented", "sha256": "x"}}, "The runs differ in data cont"),
        (
            {"settings": make_run("qrkd", 4, 0, epochs=9).settings},
            "The runs of qrkd have different settings: epochs.",
        ),
    ],
)
def test_runs_that_are_not_alike_are_noted(change: dict[str, Any], note: str) -> None:
    runs = list(make_study(rkd=RKD, qrkd=QRKD).runs)
    assert summary(results(runs)).notes == ()
    runs[-1] = replace(runs[-1], **change)
    assert [n for n in summary(results(runs)).notes if n.startswith(note)]


def test_wrong_questions_say_what_there_is() -> None:
    frame = table(kd=RKD, qrkd=QRKD)
    with pytest.raises(ValueError, match="at least one run, got none"):
        results([])
    with pytest.raises(ValueError, match="mine: is more of it better, or less"):
        summary(frame.assign(mine=1.0), "kd", "mine")
    with pytest.raises(ValueError, match="reference 'rkd'; arms here: kd, qrkd"):
        summary(frame)
    with pytest.raises(ValueError, match="unknown metric 'f1'; choose from .*test_accuracy"):
        summary(frame, "kd", metric="f1")
    with pytest.raises(ValueError, match="between 0 and 1"):
        summary(frame, "kd", confidence=95)
    with pytest.raises(ValueError, match="without .*seed"):
        summary(frame.drop(columns="seed"), "kd")
    with pytest.raises(ValueError, match="kd has no test_kl; these arms have: qrkd"):
        summary(frame.assign(test_kl=frame["test_accuracy"].where(frame["arm"] == "qrkd")),
                "kd", "test_kl")  # fmt: skip
    runs = make_study(rkd=RKD, qrkd=QRKD).runs
    with pytest.raises(ValueError, match=r"one run of qrkd seed 0, got 2; .*epochs \(None and 9\)"):
        summary(results([*runs, make_run("qrkd", 0, 0.5, epochs=9)]))
    with pytest.raises(ValueError, match="expected one benchmark, got imdb, mnist"):
        summary(results([*runs, make_run("qrkd", 0, 0.5, benchmark="imdb")]))


# what it says


def test_verdicts_follow_from_the_numbers() -> None:
    low = [v - 0.1 for v in QRKD]
    noisy = [v + d for v, d in zip(RKD, [0.02, -0.02, 0.01, 0.0, -0.0025], strict=True)]
    frame = table(rkd=RKD, qrkd=QRKD, kd=low, rbf=noisy)
    found = summary(frame)
    assert found.verdict("qrkd").startswith("qrkd is better than rkd: +3.00 points on average")
    assert "95 % interval [+1.04, +4.96], p = 0.026 (Holm)" in found.verdict("qrkd")
    assert found.verdict("kd").startswith("kd is worse than rkd: -7.00 points")
    said = found.verdict("rbf")
    assert said.startswith("rbf and rkd cannot be distinguished by these seeds: +0.15 points")
    d = np.subtract(noisy, RKD)
    least = found.smallest_seen("rbf")
    assert power_of(least, d.std(ddof=1), 5, 1 - 0.05 / 3) == pytest.approx(0.8)
    assert said.endswith(f"(80 % power, level 5 % / 3) is {100 * least:.2f} points.")
    alone = summary(table(rkd=RKD, rbf=noisy)).verdict("rbf")
    assert "could have seen (80 % power, level 5 %) is" in alone
    assert "is the reference" in found.verdict("rkd")
    lower = summary(frame, higher_is_better=False)
    assert lower.verdict("qrkd").startswith("qrkd is worse than rkd")
    assert lower.verdict("kd").startswith("kd is better than rkd")


def test_holm_can_take_a_verdict_away() -> None:
    one = summary(table(rkd=RKD, qrkd=QRKD))
    assert "better" in one.verdict("qrkd")
    rng = np.random.default_rng(0)
    others = {f"c{i}": [v + e for v, e in zip(RKD, rng.normal(0, 0.02, 5), strict=True)]
              for i in range(5)}  # fmt: skip
    many = summary(table(rkd=RKD, qrkd=QRKD, **others))
    assert many.frame.loc["qrkd", "p"] == one.frame.loc["qrkd", "p"]
    assert "Its own interval excludes 0, but several arms were compared" in many.verdict("qrkd")


def test_markdown_and_html_hold_the_same_cells() -> None:
    frame = table(rkd=RKD, qrkd=QRKD).replace({"arm": {"qrkd": "q|<b>"}})
    found = summary(frame)
    lines = found.to_markdown().splitlines()
    heads = [cell.strip() for cell in lines[0].split("|")[1:5]]
    assert heads == ["arm", "seeds", "test accuracy, %", "minus rkd"]
    assert len({line.replace(r"\|", "").count("|") for line in lines[:4]}) == 1
    assert r"q\|<b>" in lines[3]
    page = found._repr_html_()
    assert "q|&lt;b&gt;" in page and "<b>" not in page and page.count("<tr>") == 2
    for cell in lines[2].split("|")[2:-1]:
        assert f"<td>{cell.strip()}</td>" in page


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("test_accuracy", True), ("test_perplexity", False), ("mine", True), ("mine", False)],
)
def test_a_label_has_the_sign_of_its_number(metric: str, higher: bool) -> None:
    """The column of the gap to the training data is named as it is subtracted."""
    runs = make_study(metric, higher, rkd=RKD, qrkd=QRKD).runs
    found = summary(results(runs))  # metric and direction are those of the runs
    assert (found.metric, found.higher_is_better) == (metric, higher)
    shown, hidden = ("train - test", "test - train")[:: 1 if higher else -1]
    for form in (str(found), found.to_markdown(), found._repr_html_()):
        assert shown in form and hidden not in form
        factor = 100 if metric == "test_accuracy" else 1
        assert f"{(0.01 if higher else -0.01) * factor:+.2f}" in form
        assert ("is better." in form) == (not higher)
    assert f"qrkd is {'better' if higher else 'worse'} than rkd" in found.verdict("qrkd")


def test_perplexities_are_compared_by_their_ratio() -> None:
    """A seed at a level of its own must not drown what is the same part in each seed."""
    level, ratio = np.array([50.0, 60, 2000]), np.exp([0.020, 0.021, 0.022])
    frame = pd.DataFrame(
        {"arm": arm, "seed": seed, "test_perplexity": value}
        for arm, values in {"rkd": level, "qrkd": level * ratio}.items()
        for seed, value in enumerate(values)
    )
    found = summary(frame, metric="test_perplexity")
    row, test = found.frame.loc["qrkd"], stats.ttest_1samp(np.log(ratio), 0)
    ends = np.expm1([0.021, *test.confidence_interval()])
    names = ["difference", "difference_low", "difference_high"]
    assert list(row[names]) == pytest.approx(list(ends)) and row["p"] == pytest.approx(test.pvalue)
    back = summary(frame, "qrkd", "test_perplexity").frame.loc["rkd"]
    assert back["p"] == pytest.approx(row["p"])
    assert (1 + back["difference"]) * (1 + row["difference"]) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"a perplexity is above 0, got -1\.0"):
        summary(frame.replace(2000.0, -1.0), metric="test_perplexity")


# ---- several benchmarks: better is positive on each, seeds stay paired

AFTER = [0.91, 0.94, 0.92, 0.96]
BEFORE = [0.90, 0.92, 0.93, 0.93]
IMAGES = make_study(rkd=BEFORE, qrkd=AFTER)
TEXT = make_study("test_perplexity", False, rkd=[100.0, 110, 120], qrkd=[95.0, 104, 116])
BOTH = {"mnist": IMAGES, "ptb": TEXT}


def test_improvements_by_hand_better_is_positive_and_seeds_stay_paired() -> None:
    table, test = improvement_table(BOTH), stats.ttest_rel(AFTER, BEFORE)
    row, text = table.loc["mnist"], table.loc["ptb"]
    assert row["difference"] == pytest.approx(np.mean(AFTER) - np.mean(BEFORE))
    assert row["improvement"] == pytest.approx(100 * (np.mean(AFTER) / np.mean(BEFORE) - 1))
    assert row["p"] == pytest.approx(test.pvalue) and row["seeds"] == 4
    gains = np.log([100 / 95, 110 / 104, 120 / 116])
    assert text["difference"] == pytest.approx(-5.0)
    assert text["improvement"] == pytest.approx(100 * (1 - np.exp(-gains.mean())))
    assert text["low"] < text["improvement"] < text["high"] and text["p"] < 0.05
    doubled = [max(p, 2 * min(table["p"])) for p in table["p"]]
    assert list(table["p_adjusted"]) == pytest.approx(doubled)
    own = TEXT.summary("rkd")
    assert list(own.gains("qrkd")) == pytest.approx(list(gains))
    assert list(relative_gains(own, "qrkd")) == pytest.approx(list(100 * gains))
    seeds = seed_improvements(BOTH)
    assert list(seeds["ptb"]) == pytest.approx([5, 100 * 6 / 110, 100 * 4 / 120])
    assert seeds["mnist"].mean() == pytest.approx(row["improvement"])
    short = make_study(rkd=BEFORE[:2], qrkd=AFTER[:2])  # two seeds have no interval
    row = improvement_table({"imdb": short}).loc["imdb"]
    assert row[["low", "p_adjusted"]].isna().all() and row["improvement"] > 0


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
        ("test_perplexity", False, "-0.10 ppl"),
        ("test_rmse", False, "-0.10 rmse"),
        ("test_kl", False, "-0.10 nats"),
        ("my score", True, "-0.10 my score"),
    ],
)
def test_every_metric_has_its_own_unit_and_direction(metric: str, higher: bool, said: str) -> None:
    scores = {"rkd": [1.0, 1.2, 1.1], "qrkd": [0.9, 1.1, 1.0 + 1e-6]}
    row = improvement_table({"mine": make_study(metric, higher, **scores)}).loc["mine"]
    assert in_own_unit(row) == said and row["higher_is_better"] == higher
    assert (row["improvement"] > 0) == (not higher)


def test_per_cents_of_a_negative_mean_keep_their_sign_and_of_nothing_are_refused() -> None:
    scores = {"rkd": [-1.0, -1.2, -1.1], "qrkd": [-0.9, -1.05, -1.0]}
    row = improvement_table({"mine": make_study("test_bound", **scores)}).loc["mine"]
    assert row["improvement"] > 0 and row["low"] < row["improvement"] < row["high"]
    zero = make_study("test_bound", rkd=[0.0, 0.0], qrkd=[1.0, 1.0])
    with pytest.raises(ValueError, match="no per cent of rkd: its mean test_bound is 0"):
        improvement_table({"mine": zero})


def test_digits_are_practice_and_in_no_family() -> None:
    digits = make_study(rkd=BEFORE, qrkd=AFTER)
    without = improvement_table(BOTH)
    beside = improvement_table({"digits": digits, **BOTH})
    columns = ["p_adjusted", "joint_high", "smallest"]
    assert beside.loc[["mnist", "ptb"], columns].equals(without[columns])
    alone = improvement_table({"digits": digits}).loc["digits"]
    assert list(beside.loc["digits", columns]) == list(alone[columns])
    assert counted(["digits", "ptb"]) == ["ptb"] and counted(["digits"]) == ["digits"]
