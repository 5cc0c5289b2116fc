"""The published tables, recomputed from the records with numpy and scipy alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, stats

RESULTS = Path(__file__).parents[2] / "results"
REPORT = (RESULTS / "report.md").read_text(encoding="utf-8")
BENCHMARKS = ("mnist", "cifar10", "wikitext2", "ptb", "imdb")


def scores(benchmark: str) -> dict[str, np.ndarray]:
    """Arm to its test scores, seed by seed."""
    found: dict[str, dict[int, float]] = {}
    for path in (RESULTS / benchmark / "laptop").glob("*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        name = record["metric"]["name"]
        arm, seed = record["settings"]["arm"], record["settings"]["seed"]
        found.setdefault(arm, {})[seed] = record["metrics"][name]
    return {arm: np.array([held[s] for s in sorted(held)]) for arm, held in found.items()}


def holm(p: list[float]) -> list[float]:
    least, adjusted = 0.0, dict.fromkeys(range(len(p)), 1.0)
    for place, i in enumerate(sorted(adjusted, key=p.__getitem__)):
        least = adjusted[i] = min(1.0, max(least, p[i] * (len(p) - place)))
    return list(adjusted.values())


def smallest(d: np.ndarray, level: float) -> float:
    """The true mean whose t-test rejects in four of five studies, in its own direction."""
    df, root = len(d) - 1, len(d) ** 0.5
    critical = stats.t.ppf(1 - level / 2, df)
    shift = optimize.brentq(lambda s: stats.nct.sf(critical, df, s) - 0.8, 0.1, 200)
    return shift / root * d.std(ddof=1)


def row_of(text: str, first: str) -> list[str]:
    """The cells of a table's row."""
    (line,) = re.findall(rf"^\| {first} \|.*$", text, re.MULTILINE)
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_all_benchmarks_at_a_glance() -> None:
    part = REPORT.split("## All benchmarks at a glance")[1].split("## Words")[0]
    gains, p = {}, []
    for name in BENCHMARKS:
        held = scores(name)
        text = held["rkd"].mean() > 1  # a perplexity; accuracies are fractions
        if text:
            gains[name] = 100 * np.log(held["rkd"] / held["qrkd"])
        else:
            gains[name] = 100 * (held["qrkd"] - held["rkd"]) / held["rkd"].mean()
        p.append(stats.ttest_1samp(gains[name], 0).pvalue)
    for name, adjusted in zip(BENCHMARKS, holm(p), strict=True):
        d, held = gains[name], scores(name)
        text = held["rkd"].mean() > 1
        seen = (lambda x: -100 * np.expm1(-x / 100)) if text else (lambda x: x)
        low, high = stats.ttest_1samp(d, 0).confidence_interval(0.95)
        cells = row_of(part, name)
        raw = (held["qrkd"] - held["rkd"]).mean() * (1 if text else 100)
        assert cells[3] == f"{raw:+.2f} {'ppl' if text else 'points'}"
        assert cells[4] == f"{seen(d.mean()):+.2f} [{seen(low):+.2f}, {seen(high):+.2f}]"
        assert cells[5] == f"{adjusted:.3f}"
        assert cells[6] == f"{seen(smallest(d, 0.05 / len(BENCHMARKS))):.2f}"
        _, limit = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / len(BENCHMARKS))
        if text:
            assert f"{seen(limit):.2f} % of the perplexity on {name}" in REPORT
        else:
            assert f"{limit * held['rkd'].mean():.2f} points on {name}" in REPORT


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_arm_of_a_benchmark(name: str) -> None:
    part = REPORT.split(f"### {name}\n")[1].split("\n### ")[0].split("## What the kernels did")[0]
    first, second = part.split("| arm | against rkd")
    held = scores(name)
    text, rkd = held["rkd"].mean() > 1, held["rkd"]
    arms = [arm for arm in held if arm not in ("teacher", "rkd") and (held[arm] != rkd).any()]
    d = {arm: np.log(held[arm] / rkd) if text else held[arm] - rkd for arm in arms}
    adjusted = holm([stats.ttest_1samp(d[arm], 0).pvalue for arm in arms])
    for arm, p in zip(arms, adjusted, strict=True):
        seen = (lambda x: 100 * np.expm1(x)) if text else (lambda x: 100 * x)
        low, high = stats.ttest_1samp(d[arm], 0).confidence_interval(0.95)
        cells = row_of(first, arm)
        assert cells[3] == f"{seen(d[arm].mean()):+.2f}"
        assert cells[4] == f"[{seen(low):+.2f}, {seen(high):+.2f}]"
        assert cells[5] == f"{p:.3f}" or (p < 0.001 and cells[5] == "< 0.001")
        assert row_of(second, arm)[4] == f"{seen(smallest(d[arm], 0.05 / len(arms))):.2f}"
