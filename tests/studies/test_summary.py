"""What a summary says: the verdicts follow from the numbers, and every form holds the same."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qrkd_lab.studies.statistics import power_of
from qrkd_lab.studies.summary import results, summary
from tests.studies.records.made_runs import made_run

T_975 = {4: 2.776445}  # a printed table's

# d = qrkd - rkd = (1, 2, 3, 4, 5) / 100: mean 0.03, sd sqrt(2.5) / 100, t = 3 / sqrt(0.5)
RKD = [0.90, 0.91, 0.89, 0.92, 0.90]
QRKD = [a + d for a, d in zip(RKD, [0.01, 0.02, 0.03, 0.04, 0.05], strict=True)]


def table(**arms: list[float]) -> pd.DataFrame:
    scratch = arms.get("scratch", [math.nan] * 5)
    return pd.DataFrame(
        {"arm": arm, "seed": seed, "test_accuracy": value, "train_test_gap": 0.01,
         "teacher_student_gap": 0.99 - value, "distillation_gain": value - scratch[seed],
         "test_agreement": 0.9, "seconds": 42.0}
        for arm, values in arms.items() for seed, value in enumerate(values)
    )  # fmt: skip


def test_verdicts_follow_from_the_numbers() -> None:
    low = [v - 0.1 for v in QRKD]
    noisy = [v + d for v, d in zip(RKD, [0.02, -0.02, 0.01, 0.0, -0.0025], strict=True)]
    frame = table(rkd=RKD, qrkd=QRKD, kd=low, rbf=noisy)
    found = summary(frame)
    assert found.verdict("qrkd").startswith("qrkd is better than rkd: +3.00 points on average")
    assert "95 % interval [+1.04, +4.96], p = 0.026 (Holm)" in found.verdict("qrkd")
    assert found.verdict("kd").startswith("kd is worse than rkd: -7.00 points")
    said = found.verdict("rbf")
    assert said.startswith("rbf and rkd: no difference that these seeds could show: +0.15 points")
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


def test_text_is_aligned_and_in_percent() -> None:
    found = summary(table(teacher=[0.99] * 5, scratch=RKD, rkd=RKD, qrkd=QRKD))
    text = str(found)
    half = T_975[4] * np.std(QRKD, ddof=1) / math.sqrt(5) * 100
    assert f"93.40 ± {half:.2f}" in text
    blocks = text.split("\n\n")
    for block in blocks[:2]:
        assert len({len(line) for line in block.splitlines()}) == 1
        assert len(block.splitlines()[0]) <= 80
    assert "[+1.04, +4.96]" in text and "scratch and rkd are identical in every seed." in text
    assert "95 % t-interval" in text


def test_markdown_and_html_hold_the_same_cells() -> None:
    frame = table(rkd=RKD, qrkd=QRKD).replace({"arm": {"qrkd": "q|<b>"}})
    found = summary(frame)
    lines = found.to_markdown().splitlines()
    assert lines[0].startswith("| arm | seeds | test accuracy, % | minus rkd |")
    assert len({line.replace(r"\|", "").count("|") for line in lines[:4]}) == 1
    assert r"q\|<b>" in lines[3]
    page = found._repr_html_()
    assert "q|&lt;b&gt;" in page and "<b>" not in page and page.count("<tr>") == 3
    for cell in lines[2].split("|")[2:-1]:
        assert f"<td>{cell.strip()}</td>" in page


def test_a_metric_without_percent() -> None:
    frame = table(rkd=RKD, qrkd=QRKD).rename(columns={"test_accuracy": "test_perplexity"})
    found = summary(frame, metric="test_perplexity", higher_is_better=False)
    assert "against rkd, %" in str(found) and "minus rkd" not in str(found)
    assert "qrkd is worse than rkd: +3.30 % in test perplexity on average" in found.verdict("qrkd")
    frame = frame.rename(columns={"test_perplexity": "test_rmse"})
    found = summary(frame, metric="test_rmse")
    assert "%" not in str(found).splitlines()[0].replace("95 %", "")
    assert "qrkd is worse than rkd: +0.03 in test rmse on average" in found.verdict("qrkd")


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("test_accuracy", True), ("test_perplexity", False), ("test_rmse", False), ("mine", True),
     ("mine", False)],
)  # fmt: skip
def test_a_label_has_the_sign_of_its_number(metric: str, higher: bool) -> None:
    """The column of the gap to the training data is named as it is subtracted."""
    runs = [
        replace(
            made_run(arm, seed, "mnist"),
            metric={"name": metric, "higher_is_better": higher},
            metrics={metric: value, f"train_{metric.removeprefix('test_')}": value + 0.5},
        )
        for arm, values in {"rkd": RKD, "qrkd": QRKD}.items()
        for seed, value in enumerate(values)
    ]
    found = summary(results(runs))  # metric and direction are those of the runs
    assert (found.metric, found.higher_is_better) == (metric, higher)
    shown, hidden = ("train - test", "test - train")[:: 1 if higher else -1]
    for form in (str(found), found.to_markdown(), found._repr_html_()):
        assert shown in form and hidden not in form
        factor = 100 if metric == "test_accuracy" else 1
        assert f"{(0.5 if higher else -0.5) * factor:+.2f}" in form
        assert ("is better." in form) == (not higher)
    assert f"qrkd is {'better' if higher else 'worse'} than rkd" in found.verdict("qrkd")


@pytest.mark.parametrize(
    ("metric", "higher"), [("val_perplexity", False), ("test_kl", False), ("test_agreement", True)]
)
def test_the_direction_of_a_known_metric_needs_no_word(metric: str, higher: bool) -> None:
    frame = table(rkd=RKD, qrkd=QRKD).rename(columns={"test_accuracy": "accuracy_"})
    frame[metric] = frame["accuracy_"]
    assert summary(frame, metric=metric).higher_is_better == higher


def test_the_direction_of_an_unknown_metric_is_asked_for() -> None:
    frame = table(rkd=RKD, qrkd=QRKD).rename(columns={"test_accuracy": "mine"})
    with pytest.raises(ValueError, match="mine: is more of it better, or less"):
        summary(frame, metric="mine")


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


def test_no_form_says_how_many_seeds_would_show_what_was_observed() -> None:
    noisy = [v + d for v, d in zip(RKD, [0.02, -0.02, 0.01, 0.0, -0.0025], strict=True)]
    again = [v + d + 0.001 for v, d in zip(RKD, [0.02, -0.02, 0.01, 0.0, -0.0025], strict=True)]
    first, second = (summary(table(rkd=RKD, rbf=values)) for values in (noisy, again))
    assert first.frame.loc["rbf", "difference"] != second.frame.loc["rbf", "difference"]
    assert first.smallest_seen("rbf") == pytest.approx(second.smallest_seen("rbf"))
    assert math.isnan(summary(table(rkd=RKD, rbf=RKD)).smallest_seen("rbf"))


def test_p_that_is_corrected_stands_beside_intervals_that_are_said_not_to_be() -> None:
    found = summary(table(rkd=RKD, qrkd=QRKD, kd=[v - 0.1 for v in QRKD]))
    note = "p is corrected for 2 arms that are compared at once (Holm); each interval is for its"
    assert note in str(found) and note in found.to_markdown() and note in found._repr_html_()
    assert "corrected for" not in str(summary(table(rkd=RKD, qrkd=QRKD)))
