"""What a summary says: the verdicts follow from the numbers, and every form holds the same."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from qrkd_lab.report import summary
from qrkd_lab.statistics import seeds_needed

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
    seeds = seeds_needed(0.0015, d.std(ddof=1))
    normal = ((1.959964 + 0.841621) * d.std(ddof=1) / 0.0015) ** 2  # without t's own spread
    assert f"80 % power takes about {seeds} seeds (an estimate for this" in said
    assert "this comparison alone at 5 %; beside the other arms, with Holm's correction" in said
    assert normal < seeds < normal + 3
    tiny = [v + d for v, d in zip(RKD, [0.02, -0.02, 0.01, 0.0, -0.009], strict=True)]
    far = summary(table(rkd=RKD, rbf=tiny)).verdict("rbf")
    assert far.endswith("80 % power takes more than 1,000 seeds (an estimate).")  # one arm alone
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
    assert "%" not in str(found).splitlines()[0].replace("95 %", "")
    assert "qrkd is worse than rkd: +0.03 on average" in found.verdict("qrkd")
