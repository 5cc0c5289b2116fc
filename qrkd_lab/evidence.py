r"""Evidence of several benchmarks about one pair of arms, on one scale.

Accuracy and perplexity have no unit in common. What they share is a direction, better or worse, and
a size: the reference's own mean. With d_s = metric(arm, seed s) - metric(reference, seed s),

.. math:: \text{improvement}_s = \pm 100 \, \frac{d_s}{\overline{\text{reference}}} \%

with the minus for metrics of which less is better, so that a positive number is always better. A
per cent here means another thing on each benchmark: it lines the benchmarks up, it does not make
their sizes comparable, and no mean over benchmarks is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from qrkd_lab.plots.style import need
from qrkd_lab.statistics import holm, win_interval, win_probability
from qrkd_lab.summary import Summary, units

if TYPE_CHECKING:
    from qrkd_lab.study import Study

__all__ = ["improvement_table", "paired_gains", "seed_improvements"]

COLUMNS = {"improvement": "difference", "low": "difference_low", "high": "difference_high"}


def improvement_table(
    studies: Mapping[str, Study], arm: str = "qrkd", reference: str = "rkd"
) -> pd.DataFrame:
    """How much better is an arm than the reference, benchmark by benchmark?

    Args:
        studies: name of a benchmark to its study; each has both arms.
        arm, reference: names of arms.

    Returns:
        A row a benchmark: ``metric``, ``seeds``, ``reference`` (the reference's mean), in the
        metric's own unit ``difference``; in per cent of that mean, better is positive,
        ``improvement`` with its 95 % t-interval from ``low`` to ``high`` (the mean it is divided by
        is taken as known); ``won``, the number of seeds in which the arm is ahead, and ``p_win``,
        the chance that it is on a new one, with its interval from ``win_low`` to ``win_high``
        (see :func:`~qrkd_lab.statistics.win_probability`); ``p`` of the paired t-test and
        ``p_adjusted`` (Holm, over benchmarks). NaN where a study has fewer than three seeds.

    Raises:
        ValueError: no study, or one without both arms.

    Example:
        >>> improvement_table({"mnist": study})                       # doctest: +SKIP
    """
    need(len(studies), 'a mapping from names to studies, e.g. {"mnist": study}')
    rows = {}
    for name, study in studies.items():
        summary = _summary(name, study, arm, reference)
        found, factor = summary.frame.loc[arm], _factor(summary)
        ends = {to: found[of] * factor for to, of in COLUMNS.items()}
        if factor < 0:  # the better end of a perplexity's interval is its lower one
            ends |= {"low": ends["high"], "high": ends["low"]}
        gains = paired_gains(summary, arm)
        win_low, win_high = win_interval(gains.to_numpy())
        rows[name] = {
            "metric": summary.metric,
            "seeds": int(found["pairs"]),
            "reference": summary.frame.loc[reference, "mean"],
            "difference": found["difference"],
            **ends,
            "won": int((gains > 0).sum()),
            "p_win": win_probability(gains.to_numpy()),
            "win_low": win_low,
            "win_high": win_high,
            "p": found["p"],
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("benchmark")
    return table.assign(p_adjusted=holm(table["p"].to_numpy()))


def seed_improvements(
    studies: Mapping[str, Study], arm: str = "qrkd", reference: str = "rkd"
) -> dict[str, pd.Series]:
    """The same, seed by seed: benchmark to a series of per cents with the seeds as its index."""
    found = {}
    for name, study in studies.items():
        summary = _summary(name, study, arm, reference)
        found[name] = paired_gains(summary, arm) * abs(_factor(summary))
    return found


def paired_gains(summary: Summary, arm: str) -> pd.Series:
    """By how much an arm is better than the summary's reference, in the metric's unit.

    Positive is better. The seeds are the index; those that lack one of the two are left out.
    """
    scores = summary.results.pivot(index="seed", columns="arm", values=summary.metric)
    sign = 1 if summary.higher_is_better else -1
    return sign * (scores[arm] - scores[summary.reference]).dropna().astype(float)


def in_own_unit(row: pd.Series) -> str:
    """The difference of a row of :func:`improvement_table` as its metric is printed."""
    factor, unit = units(row["metric"])
    if math.isnan(row["difference"]):
        return ""
    return f"{row['difference'] * factor:+.2f} {'points' if unit else 'ppl'}"


def _summary(name: str, study: Study, arm: str, reference: str) -> Summary:
    summary = study.summary(reference)
    if arm == reference or arm not in summary.frame.index:
        arms = ", ".join(summary.frame.index)
        raise ValueError(
            f"{name}: expected two arms of its study, got {arm!r} and {reference!r}; it has {arms}."
        )
    return summary


def _factor(summary: Summary) -> float:
    sign = 1 if summary.higher_is_better else -1
    return sign * 100 / summary.frame.loc[summary.reference, "mean"]
