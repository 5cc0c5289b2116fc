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


def rows_of(text: str, first: str) -> list[list[str]]:
    """The cells of every table row with this first cell."""
    found = re.findall(rf"^\| {re.escape(first)} +\|.*$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in found]


def gains(arm: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Per cent of the reference's mean; of perplexities 100 times the log of the ratio."""
    if reference.mean() > 1:  # a perplexity; accuracies are fractions
        return 100 * np.log(reference / arm)
    return 100 * (arm - reference) / reference.mean()


def seen(d: float, reference: np.ndarray) -> float:
    """As it is printed: a gain in logs is said in per cent."""
    return -100 * np.expm1(-d / 100) if reference.mean() > 1 else d


def ranged(d: np.ndarray, reference: np.ndarray) -> str:
    low, high = stats.ttest_1samp(d, 0).confidence_interval(0.95)
    mean, low, high = (seen(end, reference) for end in (d.mean(), low, high))
    return f"{mean:+z.2f} [{low:+z.2f}, {high:+z.2f}]"


def test_a_line_per_benchmark() -> None:
    held = {name: scores(name) for name in BENCHMARKS}
    found = {name: gains(of["qrkd"], of["rkd"]) for name, of in held.items()}
    adjusted = holm([stats.ttest_1samp(d, 0).pvalue for d in found.values()])
    inside = {}
    for name, d in found.items():  # two one-sided tests, half a per cent
        printed = seen(d, held[name]["rkd"])
        inside[name] = max(
            stats.ttest_1samp(printed, -0.5, alternative="greater").pvalue,
            stats.ttest_1samp(printed, 0.5, alternative="less").pvalue,
        )
    inside = dict(zip(inside, holm(list(inside.values())), strict=True))
    for (name, d), p in zip(found.items(), adjusted, strict=True):
        cells, qrkd, rkd = rows_of(REPORT, name)[0], held[name]["qrkd"], held[name]["rkd"]
        text = rkd.mean() > 1
        assert cells[1] == str(len(d))
        assert cells[3] == f"{(qrkd - rkd).mean() * (1 if text else 100):+.2f} " + (
            "ppl" if text else "points"
        )
        assert cells[4] == ranged(d, rkd) and cells[5] == f"{p:.3f}"
        assert cells[6] == f"{seen(smallest(d, 0.05 / len(BENCHMARKS)), rkd):.2f}"
        _, most = stats.ttest_1samp(d, 0).confidence_interval(1 - 0.05 / len(BENCHMARKS))
        most = f"{seen(most, rkd):.2f} %" if text else f"{most * rkd.mean():.2f} points"
        assert cells[7] == most
        assert cells[8] == ("equivalent" if inside[name] < 0.05 else "undecided")


def test_every_control() -> None:
    part = REPORT.split("## Is it the quantum kernel?")[1].split("## Missing")[0]
    held = [scores(name) for name in BENCHMARKS]
    for other in ("rkd", "rbf", "cosine", "projected", "no_entanglement", "shuffled",
                  "random_teacher"):  # fmt: skip
        (cells,) = rows_of(part, f"`{other}`")
        there = [(i, of) for i, of in enumerate(held) if other in of]
        found = [gains(of["qrkd"], of[other]) for _, of in there]
        p = holm([stats.ttest_1samp(d, 0).pvalue for d in found])
        for (i, of), d, adjusted in zip(there, found, p, strict=True):
            cell = ranged(d, of[other])
            assert cells[2 + i] == (f"**{cell}**" if adjusted < 0.05 else cell)
        assert [cell for i, cell in enumerate(cells[2:]) if i not in dict(there)] == [""] * (
            len(held) - len(there)
        )


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_arm_of_a_benchmark(name: str) -> None:
    part = REPORT.split(f"<summary>All arms on {name}</summary>")[1].split("</details>")[0]
    held = scores(name)
    text, rkd = held["rkd"].mean() > 1, held["rkd"]
    arms = [arm for arm in held if arm not in ("teacher", "rkd") and (held[arm] != rkd).any()]
    d = {arm: np.log(held[arm] / rkd) if text else held[arm] - rkd for arm in arms}
    adjusted = holm([stats.ttest_1samp(d[arm], 0).pvalue for arm in arms])
    for arm, p in zip(arms, adjusted, strict=True):
        shown = (lambda x: 100 * np.expm1(x)) if text else (lambda x: 100 * x)
        low, high = stats.ttest_1samp(d[arm], 0).confidence_interval(0.95)
        cells = rows_of(part, arm)[0]
        assert cells[3] == f"{shown(d[arm].mean()):+.2f}"
        assert cells[4] == f"[{shown(low):+.2f}, {shown(high):+.2f}]"
        assert cells[5] == f"{p:.3f}" or (p < 0.001 and cells[5] == "< 0.001")
