"""Figures of a study that compare arms: what each has and reached, and is one better?"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import seaborn as sns

from qrkd_lab.studies.arms import ARMS, get_arm
from qrkd_lab.studies.statistics import detectable_difference, p_in_words, seeds_needed
from qrkd_lab.studies.summary import (
    Summary,
    counted,
    decimals,
    improvement_table,
    in_logs,
    in_own_unit,
    order_arms,
    own_unit,
    seed_improvements,
    summary,
    units,
)
from qrkd_lab.teaching.plots.style import (
    FAINT,
    INK,
    Chart,
    arm_style,
    draw_legend,
    log_ticks,
    marker,
    need,
    quiet,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from qrkd_lab.studies.compare import Study

__all__ = [
    "PARTS", "arm_grid", "detectable_curve", "dose_response", "improvements",
    "paired_differences", "scores_by_arm", "study_forest",
]  # fmt: skip

PARTS = {
    "task": lambda arm: True,
    "outputs": lambda arm: "kd" in arm.terms,
    "distances": lambda arm: "distance" in arm.terms and arm.share != 1,
    "angles": lambda arm: "angle" in arm.terms and arm.share != 1,
    "a kernel": lambda arm: "kernel" in arm.terms,
    "circuit": lambda arm: (
        "kernel" in arm.terms and not arm.stretched and arm.kernel in (None, "projected")
    ),
    "fidelity": lambda arm: PARTS["circuit"](arm) and arm.kernel is None,
    "entangling": lambda arm: PARTS["circuit"](arm) and arm.entangle,
    "gradient": lambda arm: "kernel" in arm.terms and arm.control != "detached",
    "right pairs": lambda arm: "kernel" in arm.terms and arm.control != "shuffled",
    "trained": lambda arm: "kernel" in arm.terms and arm.control != "random_teacher",
}


def arm_grid(arms: Iterable[str] = tuple(ARMS)) -> Chart:
    """Which arm has what? A line per arm, in its colour and marker; a filled point: it has it.

    Two lines that differ in one column answer one question: what that column does.

    Args:
        arms: names.

    Raises:
        ValueError: no arm, or an unknown one (lists them).
    """
    parts = {name: [part for part, has in PARTS.items() if has(get_arm(name))] for name in arms}
    need(len(parts), "at least one arm")
    chart = Chart(9.4, 1.9 + 0.34 * len(parts))
    axes, columns = quiet(chart.subplots(), "", ""), list(PARTS)
    for y, (name, has) in enumerate(parts.items()):
        axes.plot(range(len(columns)), [y] * len(columns), ".", ms=5, color=FAINT)
        at = [columns.index(part) for part in has]
        axes.plot(at, [y] * len(at), ls="", **marker(arm_style(name), 10))
    axes.axvline(columns.index("a kernel") + 0.5, color=FAINT, lw=1.2)
    axes.set_yticks(range(len(parts)), list(parts))
    axes.set_xticks(range(len(columns)), [part.replace(" ", "\n", 1) for part in columns])
    axes.set(xlim=(-0.6, len(columns) - 0.4), ylim=(len(parts) - 0.4, -0.6))
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for middle, text in ((2, "the loss has"), (7.5, "the kernel term has")):
        axes.text(middle, len(parts) - 0.25, text, ha="center", va="top", fontsize=10, color=INK)
    said = "; ".join(f"{name}: {', '.join(has)}" for name, has in parts.items())
    message = f"What {len(parts)} arms have and lack, each in its own colour and marker"
    return chart.finish(message, f"A line per arm, a column per part: {said}.")


def scores_by_arm(results: pd.DataFrame, metric: str = "test_accuracy") -> Chart:
    """What did each arm reach, and how far do its seeds spread?

    Small points are seeds, thin lines join the same seed in all students, the large point and its
    bar are the mean and its 95 % t-interval.

    Args:
        results: the table of :func:`qrkd_lab.studies.summary.results`.
        metric: one of its columns.

    Raises:
        ValueError: no rows, an unknown metric, or two runs of one arm and seed.
    """
    need(len(results), "a row per run, e.g. study.results")
    known = results.dropna(subset=metric) if metric in results else results
    found = summary(known, order_arms(known["arm"])[0], metric, higher_is_better=True).frame
    factor, unit = units(metric)
    table = factor * known.pivot(index="seed", columns="arm", values=metric)[list(found.index)]
    means = factor * found[["mean", "low", "high"]]
    chart = Chart(min(10.0, max(6.0, 2.6 + 1.1 * len(means))), 4.6)
    key = "Arm (small points: seeds; bars: 95 % intervals of the mean)"
    axes = quiet(chart.subplots(), key, words(metric) + unit.replace(" ", ", "))
    students = [x for x, arm in enumerate(table) if arm != "teacher"]
    paired = table.iloc[:, students].T
    axes.plot([x - 0.1 for x in students], paired, color="#BBBBBB", lw=0.8, zorder=1)
    for x, (arm, row) in enumerate(means.iterrows()):
        seeds = table[arm].dropna()
        _draw_seeds(axes, [x - 0.1] * len(seeds), seeds, arm)
        _draw_interval(axes, x + 0.14, row, arm)
    axes.set_xticks(range(len(means)), [arm.replace("_", "\n") for arm in means.index])
    axes.set_xlim(-0.5, len(means) - 0.5)
    shown = table.iloc[:, students or slice(None)]
    digits = f".{decimals(metric, found['mean'].iloc[0])}f"
    apart, spread = np.ptp(means.loc[shown.columns, "mean"]), (shown.max() - shown.min()).max()
    said = "; ".join(f"{arm} {_ranged(row, digits)}{unit}" for arm, row in means.iterrows())
    return chart.finish(
        f"The arms' means differ by up to {apart:{digits}} {own_unit(metric)}, the seeds of one "
        f"arm by up to {spread:{digits}}",
        f"{words(metric)} for each arm, one point per seed, with the mean and its 95 % interval: "
        f"{said}.",
    )


def paired_differences(study: Summary | pd.DataFrame, reference: str = "rkd") -> Chart:
    """Is an arm better than the reference, seed by seed?

    Small points are the differences of single seeds (equal ones in a stack), the large point and
    its bar are their mean and its interval, each for its arm alone; right of them stands p after
    Holm's correction for the number of arms. Perplexities are compared by their ratio, in per cent.

    Args:
        study: a :class:`~qrkd_lab.studies.summary.Summary`, or the results to make one from.
        reference: of results; a summary has its own.

    Raises:
        ValueError: no other arm to compare.
    """
    if not isinstance(study, Summary):
        study = summary(study, reference)
    rows = study.frame.drop(index=[study.reference, "teacher"], errors="ignore")
    need(len(rows), f"at least one student besides {study.reference}")
    what, factor = f"{words(study.metric)} minus {study.reference}'s", units(study.metric)[0]
    if in_logs(study.metric):
        what, factor = f"{words(study.metric)} against {study.reference}'s, %", 100
    elif units(study.metric)[1]:
        what += ", points"
    lines = []
    for arm, row in rows.iterrows():
        seeds = study.gains(arm) if study.higher_is_better else -study.gains(arm)
        seeds = np.expm1(seeds) if in_logs(study.metric) else seeds
        mean = factor * row[["difference", "difference_low", "difference_high"]].astype(float)
        lines.append(_Line(arm, arm, mean, p_in_words(row["p_adjusted"]), factor * seeds))
    # Eleven arms fit in 6.5 inches.
    chart = Chart(8.0, 1.9 + max(0.3, min(0.55, 4.6 / len(rows))) * len(rows))
    what += " (small points: seeds; bars: intervals, each for its arm alone)"
    axes = quiet(chart.subplots(), what, "Arm", grid="x")
    _draw_forest(axes, lines, f"  p (Holm, {study.at_once})", study.higher_is_better)
    sure = rows.index[rows["p_adjusted"] < 1 - study.confidence]
    message = f"Arms that differ from {study.reference} beyond chance: {', '.join(sure) or 'none'}"
    return chart.finish(message, " ".join(study.verdict(arm) for arm in rows.index))


KEY = "small points: seeds; bars: 95 % intervals, each for its line alone"
LEVEL = 0.05


def improvements(
    studies: Mapping[str, Study],
    arm: str = "qrkd",
    reference: str = "rkd",
) -> Chart:
    """Is an arm better than the reference, benchmark by benchmark?

    Right is better on every line, whatever the metric; the axis is in per cent of the reference's
    mean score (see ``summary``), the numbers at the right edge are in the metric's
    own unit. p is corrected for the number of benchmarks (Holm), the intervals are not: each is for
    its line alone. Beside other benchmarks, ``digits`` is drawn and does not count.

    Args:
        studies: name of a benchmark to its study; each has both arms.
        arm, reference: names of arms.

    Raises:
        ValueError: no study, or one without both arms.
    """
    table = improvement_table(studies, arm, reference)
    seeds = seed_improvements(studies, arm, reference)
    family, lines, said = counted(table.index), [], []
    for name, row in table.iterrows():
        less = "" if row["higher_is_better"] else " (less is better)"
        metric = row["metric"].removeprefix("test_").replace("_", " ")
        many = "s" * (row["seeds"] != 1)
        mean = row[["improvement", "low", "high"]].astype(float)
        note = f"{in_own_unit(row)}, p {p_in_words(row['p_adjusted']) or 'unknown'}"
        note += " (does not count)" * (name not in family)
        label = f"{textwrap.fill(name, 30)}\n{metric}{less}, {row['seeds']} seed{many}"
        lines.append(_Line(label, arm, mean, note, seeds[name]))
        known = f"interval {row['low']:+.2f} to {row['high']:+.2f}"
        known = "no interval" if math.isnan(row["low"]) else known
        said.append(f"{name} {row['improvement']:+.2f} %, {known}, {note}")
    chart = Chart(8.6, 2.0 + 0.62 * len(table))
    what = f"{arm} is better than {reference} by, % of {reference}'s mean ({KEY})"
    axes = quiet(chart.subplots(), what, "", grid="x")
    _draw_forest(axes, lines, f"difference, p (Holm, {len(family)})")
    counts = table.loc[family]
    sure = counts["p_adjusted"] < LEVEL
    return chart.finish(
        f"{arm} is ahead of {reference} on {(counts['improvement'] > 0).sum()} of {len(counts)} "
        f"benchmarks; differences beyond chance: {sure.sum()}",
        f"By how many per cent of {reference}'s mean score {arm} is better, seeds as points, means "
        f"with 95 % intervals, a line per benchmark: {'; '.join(said)}.",
    )


def detectable_curve(
    spreads: Mapping[str, float], margin: float, unit: str = "%", tests: int = 1
) -> Chart:
    """How many seeds does a difference need? The smallest one seen with 80 % power, by seeds.

    Args:
        spreads: a line's name to the standard deviation of its paired differences, > 0.
        margin: the smallest difference that matters, fixed before; a dashed line.
        unit: of spreads and margin.
        tests: that are made at once; the level is 5 % divided by it, that of Holm's first step.
    """
    need(len(spreads), "a mapping from names to spreads")
    confidence, at = 1 - 0.05 / tests, "5 %" if tests == 1 else f"5 % / {tests}"
    seeds = (3, 5, 10, 20, 50, 100, 200)
    curves = pd.DataFrame(
        {
            f"{name} (spread {spread:.2g})": [
                detectable_difference(spread, count, confidence) for count in seeds
            ]
            for name, spread in spreads.items()
        },
        index=seeds,
    )
    chart = Chart(7.6, 4.6)
    axes = sns.lineplot(curves, markers=True, dashes=False, ax=chart.subplots())
    quiet(axes, f"Seeds (a test at {at})", f"Difference seen with 80 % power, {unit}", "both")
    axes.axhline(margin, color=INK, lw=1, ls="--", label=f"margin {margin:g}")
    axes.set(xscale="log", yscale="log")
    log_ticks(axes.xaxis)
    log_ticks(axes.yaxis)
    axes.set_xticks(seeds, map(str, seeds), minor=False)
    axes.legend(frameon=False)
    enough = {
        name: seeds_needed(margin, spread, confidence) or "more than a million"
        for name, spread in spreads.items()
    }
    said = "; ".join(f"{name}: {count}" for name, count in enough.items())
    most = max(spreads, key=spreads.__getitem__)
    return chart.finish(
        f"To see {margin:g} {unit} on {most}, the noisiest here, takes {enough[most]} seeds",
        f"Smallest difference seen with 80 % power by a test at {at} against seeds, both "
        f"logarithmic, with a dashed line at {margin:g} {unit}. Seeds that suffice for it: {said}.",
    )


# GitHub, merlinquantum/reproduced_papers, papers/QRKD: QRKD-simple - RKD over teacher - scratch,
# test accuracies of one run of ten epochs with all labels.
ELSEWHERE = {
    "mnist": 100 * (95.39 - 94.35) / (98.34 - 90.85),
    "cifar10": 100 * (47.93 - 46.66) / (57.81 - 44.30),
}
RANGE = ["difference", "low", "high"]


def study_forest(regimes: Mapping[str, pd.DataFrame], margin: float = 10.0) -> Chart:
    """Which arm is better than ``rkd``, and by how much of what there is to gain?

    The dose of each kernel stands at the right. The diamond is what MerLin's public reproduction
    of the paper reports for its ``qrkd``: one run, with all labels.

    Args:
        regimes: name to the table of :func:`qrkd_lab.studies.study.in_gaps`.
        margin: of interest, in per cent of the gap; the shaded band.
    """
    need(len(regimes), "at least one regime")
    chart = Chart(8.6, 1.4 + 0.29 * sum(len(found) + 1 for found in regimes.values()))
    rows = chart.subplots(len(regimes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, found) in zip(rows, regimes.items(), strict=True):
        quiet(axes, "", f"{name}, few labels", grid="x")
        axes.axvspan(-margin, margin, color="#009E73", alpha=0.12, lw=0)
        lines = [
            _Line(arm, arm, row[RANGE], f"dose {row['dose']:.2f}")
            if row["dose"] > 0
            else _Line(arm, arm, row[RANGE], "no kernel")
            for arm, row in found.iterrows()
        ]
        _draw_forest(axes, [*lines, _Line("MerLin's qrkd, all labels")])
        axes.plot(ELSEWHERE[name], len(found), "D", ms=8, mfc="white", mec=INK)
    rows[-1].set_xlabel(
        "Test accuracy minus rkd's, in % of teacher - scratch (95 % intervals; shaded: margin)"
    )
    said = "; ".join(
        f"on {name} {arm} {_ranged(row[RANGE], '+.1f')}"
        for name, found in regimes.items()
        for arm, row in found.iterrows()
    )
    gains = ", ".join(f"{of.loc['qrkd', 'difference']:+.1f} % on {n}" for n, of in regimes.items())
    return chart.finish(
        f"Of what there is to gain, teacher - scratch, qrkd adds to rkd {gains}",
        f"Differences to rkd, in per cent of teacher minus scratch, the margin of {margin:g} % "
        f"shaded, the one run of MerLin's public reproduction as a diamond: {said}.",
    )


def dose_response(response: pd.DataFrame) -> Chart:
    """Does a stronger kernel term help or harm, beside the classical relations and in their place?

    Args:
        response: of :func:`qrkd_lab.studies.study.doses`.
    """
    need(len(response), "runs with kernel_dose or kernel_share")
    labels = {
        "kernel_dose": "Dose, beside distance and angle",
        "kernel_share": "Share of the pull, in place of distance and angle",
    }
    shown = [how for how in labels if how in response.index.get_level_values("how")]
    chart = Chart(9.6, 4.4)
    panels = chart.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for axes, how in zip(panels, shown, strict=True):
        part = response.loc[how]
        strengths, arms = part.index.unique("strength").sort_values(), part.index.unique("arm")
        for shift, arm in enumerate(order_arms(arms)):
            aside = 0.14 * (shift - (len(arms) - 1) / 2)
            for strength, row in part.loc[arm].iterrows():
                _draw_interval(axes, strengths.get_loc(strength) + aside, row[RANGE], arm)
        axes.axhline(0, color=INK, lw=1.2, zorder=1)
        axes.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
        quiet(axes, labels[how], "Test accuracy minus rkd's, points" if axes is panels[0] else "")
    draw_legend(chart, {arm: arm for arm in order_arms(arms)})
    at = {key: f"{key[1]} at {key[0].removeprefix('kernel_')} {key[2]:g}" for key in response.index}
    away = ", ".join(
        f"{at[key]} ({row['difference']:+.1f} points)"
        for key, row in response.iterrows()
        if row["low"] > 0 or row["high"] < 0
    )
    said = "; ".join(f"{at[k]}: {_ranged(row[RANGE], '+.2f')}" for k, row in response.iterrows())
    return chart.finish(
        f"Intervals that exclude 0: {away or 'none'}",
        f"Differences to rkd by strength, with 95 % intervals: {said}.",
    )


# ---- what they are drawn with

UNKNOWN = (math.nan, math.nan, math.nan)


class _Line(NamedTuple):
    """A line of a forest: its label, whose it is, mean and interval, a note, the seeds."""

    label: str
    arm: str = "qrkd"
    mean: Sequence[float] = UNKNOWN
    note: str = ""
    seeds: pd.Series = pd.Series(dtype=float)


def _draw_forest(
    axes: Axes, lines: Sequence[_Line], head: str = "", right_is_better: bool = True
) -> None:
    """A line each: the mean and its interval, the seeds stacked below, the note right of it."""
    for y, line in enumerate(lines):
        place = line.seeds.groupby(line.seeds.round(9)).cumcount()  # of equal values, in a stack
        lift = place * min(0.11, 0.32 / place.clip(lower=1).max())
        _draw_seeds(axes, line.seeds, y + 0.14 + lift, line.arm)
        _draw_interval(axes, y - 0.12 * (len(place) > 0), line.mean, line.arm, across=True)
        right = axes.get_yaxis_transform()
        axes.text(1.02, y, line.note, transform=right, va="center", fontsize=10, color=INK)
    sides = ("worse", "better") if right_is_better else ("better", "worse")
    heads = [(0.0, "left", f"← {sides[0]}"), (1.0, "right", f"{sides[1]} →"), (1.02, "left", head)]
    for x, side, text in heads:
        axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, fontsize=10, color=INK)
    axes.axvline(0, color=INK, lw=1.2, zorder=1)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)


def _draw_interval(
    axes: Axes, at: float, row: Sequence[float], arm: str, across: bool = False
) -> None:
    """A mean with the bar from low to high, ``row`` all three, at ``at`` on the arms' axis."""
    mean, low, high = row
    bar = None if math.isnan(low) else [[mean - low], [high - mean]]
    place = {"x": mean, "y": at, "xerr": bar} if across else {"x": at, "y": mean, "yerr": bar}
    axes.errorbar(**place, lw=2, capsize=4, capthick=2, zorder=3, **marker(arm_style(arm), 9))


def _draw_seeds(axes: Axes, x: ArrayLike, y: ArrayLike, arm: str) -> None:
    style = arm_style(arm)
    size = 60 if style["marker"] == "*" else 24
    axes.scatter(x, y, s=size, alpha=0.75, zorder=2, lw=0, **style)


def _ranged(row: Sequence[float], digits: str) -> str:
    """A mean, and its interval where there is one."""
    mean, low, high = row
    return f"{mean:{digits}}" + ("" if math.isnan(low) else f" ({low:{digits}} to {high:{digits}})")
