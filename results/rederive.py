"""The study's answers from its records alone: needs numpy and scipy, and nothing of the kit.

    python results/rederive.py

prints, per regime, what `study.md` says in its first table.
"""

import json
import math
from pathlib import Path

import numpy as np
from scipy import stats

HERE = Path(__file__).parent
SEEDS = range(3000, 3025)
POOLED = ["rkd", "qrkd", "qrkd_iqp", "rbf", "stretched_rbf", "no_entanglement", "shuffled"]


def accuracies(benchmark: str) -> dict[str, np.ndarray]:
    """Arm to its test accuracies, ``(25,)``, in the order of the seeds."""
    found = {}
    for path in sorted(HERE.glob(f"{benchmark}/few-labels/*/record.json")):
        record = json.loads(path.read_text("utf-8"))
        arm, seed = record["settings"]["arm"], record["settings"]["seed"]
        if seed in SEEDS:
            found.setdefault(arm, {})[seed] = record["metrics"]["test_accuracy"]
    full = {arm: by for arm, by in found.items() if len(by) == len(SEEDS)}
    return {arm: np.array([by[seed] for seed in SEEDS]) for arm, by in full.items()}


def answer(benchmark: str) -> dict[str, dict[str, float]]:
    """By arm: the difference to rkd, its interval and its smallest visible size, in points."""
    y = accuracies(benchmark)
    if not set(POOLED) <= y.keys():
        return {}
    scores = np.stack([y[arm] for arm in POOLED])  # (arms, seeds)
    arms, seeds = scores.shape
    residuals = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    free = (arms - 1) * (seeds - 1)
    error = math.sqrt(2 / seeds * (residuals**2).sum() / free)
    margin = 0.1 * (y["teacher"] - y["scratch"]).mean()
    found = {}
    for arm in ("qrkd", "qrkd_iqp"):
        mean = (y[arm] - y["rkd"]).mean()
        half = stats.t.ppf(0.975, free) * error
        found[arm] = {
            "difference": 100 * mean,
            "low": 100 * (mean - half),
            "high": 100 * (mean + half),
            "margin": 100 * margin,
            "p": 2 * stats.t.sf(abs(mean) / error, free),
            "p_equivalent": stats.t.sf((margin - abs(mean)) / error, free),
        }
    return found


if __name__ == "__main__":
    for benchmark in ("mnist", "cifar10"):
        for arm, one in answer(benchmark).items():
            print(
                f"{benchmark} {arm} {one['difference']:+.2f} [{one['low']:+.2f}, "
                f"{one['high']:+.2f}] margin {one['margin']:.2f}; not corrected: p "
                f"{one['p']:.3g}, p equivalent {one['p_equivalent']:.3g}"
            )
