"""Figures of a study that compare arms: what each reached, and is one better than another?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qrkd_lab.plots.style import (
    INK,
    Chart,
    arm_style,
    draw_interval,
    draw_seeds,
    need,
    quiet,
    stacked,
    words,
)
from qrkd_lab.report import order_arms, summary
from qrkd_lab.statistics import p_in_words
from qrkd_lab.summary import Summary, in_logs, own_unit, units

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["paired_differences", "scores_by_arm"]


def scores_by_arm(
    results: pd.DataFrame, metric: str = "test_accuracy", title: str | None = None
) -> Chart:
    """What did each arm reach, and how far do its seeds spread?

    Small points are seeds, thin lines join the same seed in all students, the large point and its
    bar are the mean and its 95 % t-interval.

    Args:
        results: the table of :func:`qrkd_lab.report.results`.
        metric: one of its columns.
        title: the message; without it, the size of the arms' and seeds' differences.

    Raises:
        ValueError: no rows, an unknown metric, or two runs of one arm and seed.
    """
    need(len(results), "a row a run, e.g. report.results(runs)")
    known = results.dropna(subset=metric) if metric in results else results
    found = summary(known, order_arms(known["arm"])[0], metric, higher_is_better=True)  # no verdict
    factor, unit = units(metric)
    table = found.results.pivot(index="seed", columns="arm", values=metric) * factor
    arms = list(found.frame.index)
    chart = Chart(min(10.0, max(6.0, 2.6 + 1.1 * len(arms))), 4.6)
    key = "Arm (small points: seeds; bars: 95 % intervals of the mean)"
    axes = quiet(chart.subplots(), key, words(metric) + unit.replace(" ", ", "))
    _draw_scores(axes, found, table)
    said = "; ".join(f"{arm} {_said(row, factor)}{unit}" for arm, row in found.frame.iterrows())
    return chart.finish(
        title or _spread(found, table),
        f"{words(metric)} for each arm, one point a seed, with the mean and its 95 % interval: "
        f"{said}.",
    )


def _draw_scores(axes: Axes, found: Summary, table: pd.DataFrame) -> None:
    """Seeds left of each arm's tick, students of one seed joined; mean and interval right of it."""
    factor = units(found.metric)[0]
    where = {arm: i for i, arm in enumerate(found.frame.index)}
    students = [arm for arm in where if arm != "teacher"]
    for _, row in table[students].iterrows():
        axes.plot([where[a] - 0.1 for a in students], row, color="#BBBBBB", lw=0.8, zorder=1)
    for arm, row in found.frame.iterrows():
        style, seeds = arm_style(arm), table[arm].dropna()
        draw_seeds(axes, [where[arm] - 0.1] * len(seeds), seeds, style)
        draw_interval(axes, where[arm] + 0.14, row[["mean", "low", "high"]] * factor, style)
    axes.set_xticks(range(len(where)), [arm.replace("_", "\n") for arm in where])
    axes.set_xlim(-0.5, len(where) - 0.5)


def _spread(found: Summary, table: pd.DataFrame) -> str:
    """How far arms and seeds are apart: the message of the figure of scores."""
    factor, points = units(found.metric)[0], f" {own_unit(found.metric)}"
    arms = list(found.frame.index)
    shown = [arm for arm in arms if arm != "teacher"] or arms
    means = found.frame.loc[shown, "mean"] * factor
    spans = table[shown].max() - table[shown].min()
    if len(shown) == 1:
        return f"The seeds of {shown[0]} differ by up to {spans.max():.2f}{points}"
    apart = f"The arms' means differ by up to {means.max() - means.min():.2f}{points}"
    if len(table) == 1:
        return f"{apart}; one seed says nothing about their spread"
    return f"{apart}, the seeds of one arm by up to {spans.max():.2f}"


def _said(row: pd.Series, factor: float) -> str:
    mean, low, high = (row[name] * factor for name in ("mean", "low", "high"))
    return f"{mean:.2f}" + ("" if math.isnan(low) else f" ({low:.2f} to {high:.2f})")


def paired_differences(
    study: Summary | pd.DataFrame, reference: str | None = None, title: str | None = None
) -> Chart:
    """Is an arm better than the reference, seed by seed?

    Small points are the differences of single seeds (equal ones in a stack), the large point and
    its bar are their mean and its interval, each for its arm alone; right of them stands p after
    Holm's correction for the number of arms. Perplexities are compared by their ratio, in per cent.

    Args:
        study: a :class:`~qrkd_lab.report.Summary`, or the results to make one from.
        reference: needed with results (``"rkd"`` if not given); with a summary, its own.
        title: the message; without it, the arms that are better or worse.

    Raises:
        ValueError: no other arm to compare, or another reference than the summary's.
    """
    if not isinstance(study, Summary):
        need(len(study), "a row a run, e.g. report.results(runs)")
        study = summary(study, reference or "rkd")
    if reference not in (None, study.reference):
        raise ValueError(
            f"this summary compares with {study.reference!r}, not with {reference!r}: "
            f"make one by summary(results, reference={reference!r})."
        )
    rows = study.frame.drop(index=[study.reference, "teacher"], errors="ignore")
    need(len(rows), f"at least one student besides {study.reference}")
    chart = Chart(8.0, 1.9 + 0.55 * len(rows))
    what = f"{words(study.metric)} minus {study.reference}'s"
    if in_logs(study.metric):
        what = f"{words(study.metric)} against {study.reference}'s, %"
    elif units(study.metric)[1]:
        what += ", points"
    what += " (small points: seeds; bars: intervals, each for its arm alone)"
    axes = quiet(chart.subplots(), what, "Arm", grid="x")
    _draw_differences(axes, study, rows)
    sides = ("worse", "better") if study.higher_is_better else ("better", "worse")
    heads = [(0.0, "left", f"← {sides[0]}"), (1.0, "right", f"{sides[1]} →")]
    for x, side, text in [*heads, (1.02, "left", f"  p (Holm, {study.at_once})")]:
        axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, fontsize=10, color=INK)
    said = " ".join(study.verdict(arm) for arm in rows.index)
    return chart.finish(title or _ranking(study, list(rows.index)), said)


def _draw_differences(axes: Axes, study: Summary, rows: pd.DataFrame) -> None:
    """An arm a line: its seeds above, the mean and its interval below, p at the right edge."""
    logs = in_logs(study.metric)
    factor, sign = 100 if logs else units(study.metric)[0], 1 if study.higher_is_better else -1
    for y, (arm, row) in enumerate(rows.iterrows()):
        style = arm_style(arm)
        seeds = sign * study.gains(arm)
        seeds = factor * (np.expm1(seeds) if logs else seeds)
        draw_seeds(axes, seeds, y + 0.14 + stacked(seeds), style)
        mean = row[["difference", "difference_low", "difference_high"]] * factor
        draw_interval(axes, y - 0.12, mean, style, across=True)
        p = row["p_adjusted"]
        text = p_in_words(p)
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=10)
    axes.axvline(0, color=INK, lw=1.2, zorder=1)
    axes.set_yticks(range(len(rows)), list(rows.index))
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _ranking(study: Summary, arms: Sequence[str]) -> str:
    """The verdicts in one line: what a forest plot's title says."""
    alone = study.frame.loc[arms]
    sure = alone.index[alone["p_adjusted"] < 1 - study.confidence]
    if alone["p_adjusted"].isna().all():
        return f"Too few seeds to tell {study.reference} from any other arm"
    if not len(sure):
        return f"These seeds show no difference between {study.reference} and any other arm"
    higher = alone["difference"] > 0
    better = [arm for arm in sure if higher[arm] == study.higher_is_better]
    worse = [arm for arm in sure if arm not in better]
    parts = [("better", better), ("worse", worse)]
    said = [
        f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {word} than {study.reference}"
        for word, names in parts
        if names
    ]
    rest = "; for the others these seeds cannot tell" if len(sure) < len(arms) else ""
    return "; ".join(said) + rest
