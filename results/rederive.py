"""The study's answers from its records alone: needs numpy and scipy, and nothing of the kit.

    python results/rederive.py

prints, per regime, what `study.md` says in its first table and of `qrkd` minus each control.
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


def pooled(y: dict[str, np.ndarray]) -> tuple[float, int]:
    """The standard error of a difference of two of the pooled arms, and its degrees of freedom."""
    scores = np.stack([y[arm] for arm in POOLED])  # (arms, seeds)
    arms, seeds = scores.shape
    residuals = scores - scores.mean(1, keepdims=True) - scores.mean(0) + scores.mean()
    free = (arms - 1) * (seeds - 1)
    return math.sqrt(2 / seeds * (residuals**2).sum() / free), free


def difference(y: dict[str, np.ndarray], arm: str, other: str) -> str:
    """Mean and 95 % interval of arm minus other, in points."""
    error, free = pooled(y)
    mean, half = (y[arm] - y[other]).mean(), stats.t.ppf(0.975, free) * error
    return f"{100 * mean:+.2f} [{100 * (mean - half):+.2f}, {100 * (mean + half):+.2f}]"


if __name__ == "__main__":
    for benchmark in ("mnist", "cifar10"):
        y = accuracies(benchmark)
        if not set(POOLED) <= y.keys():
            continue
        error, free = pooled(y)
        margin = 0.1 * (y["teacher"] - y["scratch"]).mean()
        for arm in ("qrkd", "qrkd_iqp"):
            mean = abs((y[arm] - y["rkd"]).mean())
            p, equivalent = (
                2 * stats.t.sf(mean / error, free),
                stats.t.sf((margin - mean) / error, free),
            )
            print(
                f"{benchmark} {arm} {difference(y, arm, 'rkd')} margin {100 * margin:.2f}; "
                f"not corrected: p {p:.3g}, p equivalent {equivalent:.3g}"
            )
        for other in POOLED[2:]:
            print(f"{benchmark} qrkd minus {other} {difference(y, 'qrkd', other)}")
