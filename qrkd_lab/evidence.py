r"""Evidence of several benchmarks about one pair of arms, on one scale.

Accuracy and perplexity have no unit in common. What they share is a direction, better or worse, and
a size: the reference's own mean. With d_s = metric(arm, seed s) - metric(reference, seed s),

.. math:: \text{improvement}_s = \pm 100 \, \frac{d_s}{|\overline{\text{reference}}|} \%

with the minus for metrics of which less is better, so that a positive number is always better.
Perplexities are compared in logs, as they are exponentials of a mean: tests, means and intervals
are those of g_s = log(reference / arm), given as the per cent 100 (1 - exp(-g)) by which the arm's
perplexity is lower. A per cent here means another thing on each benchmark: it lines the benchmarks
up, it does not make their sizes comparable, and no mean over benchmarks is taken.

Several benchmarks are one family of tests, for every question that is asked of them: Holm's
correction and simultaneous limits count all but the digits, which are there for practice
(:func:`counted`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qrkd_lab.plots.style import need
from qrkd_lab.statistics import detectable_difference, holm, interval, win_interval, win_probability
from qrkd_lab.summary import Summary, in_logs, own_unit, units

if TYPE_CHECKING:
    from qrkd_lab.study import Study

__all__ = ["counted", "improvement_table", "relative_gains", "seed_improvements"]

LEVEL = 0.05


def counted(names: Iterable[str]) -> list[str]:
    """The benchmarks that a claim is judged by: all but ``digits``, unless there is nothing else.

    They are the family that every correction for several benchmarks counts.
    """
    names = list(names)
    return [name for name in names if name != "digits"] or names


def improvement_table(
    studies: Mapping[str, Study], arm: str = "qrkd", reference: str = "rkd"
) -> pd.DataFrame:
    """How much better is an arm than the reference, benchmark by benchmark?

    Args:
        studies: name of a benchmark to its study; each has both arms.
        arm, reference: names of arms.

    Returns:
        A row per benchmark: ``metric``, ``higher_is_better``, ``seeds``, ``reference`` (the
        reference's mean), in the metric's own unit ``difference``; in per cent of that mean, better
        is positive, ``improvement`` with its own 95 % t-interval from ``low`` to ``high`` (the mean
        it is divided by is taken as known) and the simultaneous one from ``joint_low`` to
        ``joint_high`` (Bonferroni: all of them hold together in 95 of 100 such studies);
        ``smallest``, the smallest improvement that the study could have seen with 80 % power, at
        5 % divided by the number of benchmarks; ``won``, the number of seeds in which the arm is
        ahead, and ``p_win``, the chance that it is on a new one, with its interval from ``win_low``
        to ``win_high`` (see :func:`~qrkd_lab.statistics.win_probability`); ``p`` of the paired
        t-test and ``p_adjusted`` (Holm, over the benchmarks that are :func:`counted`; of ``digits``
        beside them, p itself). NaN where a study has fewer than three seeds.

    Raises:
        ValueError: no study, one without both arms, or a reference whose mean is 0.

    Example:
        >>> improvement_table({"mnist": study})                       # doctest: +SKIP
    """
    need(len(studies), 'a mapping from names to studies, e.g. {"mnist": study}')
    found = {name: _summary(name, study, arm, reference) for name, study in studies.items()}
    p = pd.Series({name: summary.frame.loc[arm, "p"] for name, summary in found.items()})
    family, rows = counted(studies), {}
    for name, summary in found.items():
        metric, gains = summary.metric, relative_gains(summary, arm).to_numpy()
        # Without p there are too few seeds, or no spread to take an interval from.
        known = gains if p[name] == p[name] else gains[:0]
        many = max(1, p[family].count()) if name in family else 1
        alone, joint = 1 - LEVEL, 1 - LEVEL / many
        (low, high), (joint_low, joint_high) = (interval(known, c) for c in (alone, joint))
        spread = known.std(ddof=1) if len(known) else 0.0
        least = detectable_difference(spread, len(known), joint) if spread > 0 else math.nan
        win_low, win_high = win_interval(gains)
        rows[name] = {
            "metric": metric,
            "higher_is_better": summary.higher_is_better,
            "seeds": len(gains),
            "reference": summary.frame.loc[reference, "mean"],
            "difference": _raw_difference(summary, arm),
            "improvement": _per_cent(gains.mean() if len(gains) else math.nan, metric),
            "low": _per_cent(low, metric),
            "high": _per_cent(high, metric),
            "joint_low": _per_cent(joint_low, metric),
            "joint_high": _per_cent(joint_high, metric),
            "smallest": _per_cent(least, metric),
            "won": int((gains > 0).sum()),
            "p_win": win_probability(gains),
            "win_low": win_low,
            "win_high": win_high,
            "p": p[name],
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("benchmark")
    table["p_adjusted"] = p
    table.loc[family, "p_adjusted"] = holm(p[family].to_numpy())
    return table


def seed_improvements(
    studies: Mapping[str, Study], arm: str = "qrkd", reference: str = "rkd"
) -> dict[str, pd.Series]:
    """The same, seed by seed: benchmark to a series of per cents with the seeds as its index."""
    found = {}
    for name, study in studies.items():
        summary = _summary(name, study, arm, reference)
        found[name] = _per_cent(relative_gains(summary, arm), summary.metric)
    return found


def relative_gains(summary: Summary, arm: str) -> pd.Series:
    """By how much an arm is better than the reference, in hundredths, on the scale of the tests.

    Per cent of the reference's mean; of perplexities 100 log(reference / arm), which is the per
    cent by which the arm's is lower as long as both are small (1.005 for 1.000 %).
    """
    gains = summary.gains(arm)
    if in_logs(summary.metric):
        return 100 * gains
    mean = abs(summary.frame.loc[summary.reference, "mean"])
    if not mean > 0:
        raise ValueError(f"no per cent of {summary.reference}: its mean {summary.metric} is {mean}")
    return 100 / mean * gains


def in_own_unit(row: pd.Series) -> str:
    """The difference of a row of :func:`improvement_table` as its metric is printed."""
    if math.isnan(row["difference"]):
        return ""
    return f"{row['difference'] * units(row['metric'])[0]:+.2f} {own_unit(row['metric'])}"


def _raw_difference(summary: Summary, arm: str) -> float:
    scores = summary.results.pivot(index="seed", columns="arm", values=summary.metric)
    return (scores[arm] - scores[summary.reference]).astype(float).mean()


def _per_cent(gain: float | pd.Series, metric: str) -> float | pd.Series:
    """Hundredths on the scale of the tests as the per cent that is read."""
    return -100 * np.expm1(-gain / 100) if in_logs(metric) else gain


def _summary(name: str, study: Study, arm: str, reference: str) -> Summary:
    summary = study.summary(reference)
    if arm == reference or arm not in summary.frame.index:
        arms = ", ".join(summary.frame.index)
        raise ValueError(
            f"{name}: expected two arms of its study, got {arm!r} and {reference!r}; it has {arms}."
        )
    return summary
