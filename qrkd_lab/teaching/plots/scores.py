"""Figures of a study that compare arms: what each reached, and is one better than another?"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import LogLocator, NullLocator

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
    INK,
    Chart,
    arm_style,
    draw_interval,
    draw_legend,
    draw_seeds,
    marker,
    need,
    quiet,
    stacked,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qrkd_lab.studies.compare import Study

__all__ = [
    "detectable_curve",
    "dose_response",
    "effect_sizes",
    "improvements",
    "paired_differences",
    "scores_by_arm",
    "study_forest",
]


def scores_by_arm(
    results: pd.DataFrame, metric: str = "test_accuracy", title: str | None = None
) -> Chart:
    """What did each arm reach, and how far do its seeds spread?

    Small points are seeds, thin lines join the same seed in all students, the large point and its
    bar are the mean and its 95 % t-interval.

    Args:
        results: the table of :func:`qrkd_lab.studies.summary.results`.
        metric: one of its columns.
        title: the message; without it, the size of the arms' and seeds' differences.

    Raises:
        ValueError: no rows, an unknown metric, or two runs of one arm and seed.
    """
    need(len(results), "a row per run, e.g. report.results(runs)")
    known = results.dropna(subset=metric) if metric in results else results
    found = summary(known, order_arms(known["arm"])[0], metric, higher_is_better=True).frame
    factor, unit = units(metric)
    table = factor * known.pivot(index="seed", columns="arm", values=metric)[list(found.index)]
    means = factor * found[["mean", "low", "high"]]
    chart = Chart(min(10.0, max(6.0, 2.6 + 1.1 * len(means))), 4.6)
    key = "Arm (small points: seeds; bars: 95 % intervals of the mean)"
    axes = quiet(chart.subplots(), key, words(metric) + unit.replace(" ", ", "))
    joined = [x for x, arm in enumerate(table) if arm != "teacher"]
    axes.plot([x - 0.1 for x in joined], table.iloc[:, joined].T, color="#BBBBBB", lw=0.8, zorder=1)
    for x, (arm, row) in enumerate(means.iterrows()):
        seeds = table[arm].dropna()
        draw_seeds(axes, [x - 0.1] * len(seeds), seeds, arm_style(arm))
        draw_interval(axes, x + 0.14, row, arm_style(arm))
    axes.set_xticks(range(len(means)), [arm.replace("_", "\n") for arm in means.index])
    axes.set_xlim(-0.5, len(means) - 0.5)
    shown, points = [arm for arm in table if arm != "teacher"] or list(table), own_unit(metric)
    digits = f".{decimals(metric, found['mean'].iloc[0])}f"
    apart = np.ptp(means.loc[shown, "mean"])
    message = f"The arms' means differ by up to {apart:{digits}} {points}"
    if len(table) > 1:
        spans = table[shown].max() - table[shown].min()
        message += f", the seeds of one arm by up to {spans.max():{digits}}"
    said = "; ".join(
        f"{arm} {row['mean']:{digits}}"
        + ("" if math.isnan(row["low"]) else f" ({row['low']:{digits}} to {row['high']:{digits}})")
        + unit
        for arm, row in means.iterrows()
    )
    return chart.finish(
        title or message,
        f"{words(metric)} for each arm, one point per seed, with the mean and its 95 % interval: "
        f"{said}.",
    )


def paired_differences(
    study: Summary | pd.DataFrame, reference: str | None = None, title: str | None = None
) -> Chart:
    """Is an arm better than the reference, seed by seed?

    Small points are the differences of single seeds (equal ones in a stack), the large point and
    its bar are their mean and its interval, each for its arm alone; right of them stands p after
    Holm's correction for the number of arms. Perplexities are compared by their ratio, in per cent.

    Args:
        study: a :class:`~qrkd_lab.studies.summary.Summary`, or the results to make one from.
        reference: needed with results (``"rkd"`` if not given); with a summary, its own.
        title: the message; without it, the arms whose p is small.

    Raises:
        ValueError: no other arm to compare, or another reference than the summary's.
    """
    if not isinstance(study, Summary):
        need(len(study), "a row per run, e.g. report.results(runs)")
        study = summary(study, reference or "rkd")
    if reference not in (None, study.reference):
        raise ValueError(
            f"this summary compares with {study.reference!r}, not with {reference!r}: "
            f"make one by summary(results, reference={reference!r})."
        )
    rows = study.frame.drop(index=[study.reference, "teacher"], errors="ignore")
    need(len(rows), f"at least one student besides {study.reference}")
    factor, sign = units(study.metric)[0], 1 if study.higher_is_better else -1
    seeds = [sign * study.gains(arm) for arm in rows.index]
    what = f"{words(study.metric)} minus {study.reference}'s"
    if in_logs(study.metric):
        what = f"{words(study.metric)} against {study.reference}'s, %"
        factor, seeds = 100, [np.expm1(values) for values in seeds]
    elif units(study.metric)[1]:
        what += ", points"
    line = max(0.3, min(0.55, 4.6 / len(rows)))  # inches; eleven arms fit in 6.5
    chart = Chart(8.0, 1.9 + line * len(rows))
    what += " (small points: seeds; bars: intervals, each for its arm alone)"
    axes = quiet(chart.subplots(), what, "Arm", grid="x")
    means = factor * rows[["difference", "difference_low", "difference_high"]].to_numpy(dtype=float)
    _forest(axes, rows.index, [factor * values for values in seeds], means, rows.index)
    notes = [p_in_words(p) for p in rows["p_adjusted"]]
    head = f"  p (Holm, {study.at_once})"
    _margins(axes, notes, head, study.higher_is_better)
    sure = rows.index[rows["p_adjusted"] < 1 - study.confidence]
    message = f"Arms that differ from {study.reference} beyond chance: {', '.join(sure) or 'none'}"
    said = " ".join(study.verdict(arm) for arm in rows.index)
    return chart.finish(title or message, said)


def _forest(
    axes: Axes,
    labels: Sequence[str],
    seeds: Sequence[pd.Series],
    means: np.ndarray,
    arms: Sequence[str],
) -> None:
    """A line each: the mean and its interval, the seeds stacked below; a rule at no difference."""
    for y, (values, mean, arm) in enumerate(zip(seeds, means, arms, strict=True)):
        draw_seeds(axes, values, y + 0.14 + stacked(values), arm_style(arm))
        draw_interval(axes, y - 0.12, mean, arm_style(arm), across=True)
    axes.axvline(0, color=INK, lw=1.2, zorder=1)
    axes.set_yticks(range(len(labels)), list(labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)


def _margins(axes: Axes, notes: Sequence[str], head: str, right_is_better: bool = True) -> None:
    """What stands around a forest: which side is better, and a note right of each line."""
    sides = ("worse", "better") if right_is_better else ("better", "worse")
    heads = [(0.0, "left", f"← {sides[0]}"), (1.0, "right", f"{sides[1]} →"), (1.02, "left", head)]
    for x, side, text in heads:
        axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, fontsize=10, color=INK)
    for y, note in enumerate(notes):
        where = axes.get_yaxis_transform()
        axes.text(1.02, y, note, transform=where, va="center", fontsize=10, color=INK)


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
    chart = Chart(8.6, 2.0 + 0.62 * len(table))
    what = f"{arm} is better than {reference} by, % of {reference}'s mean ({KEY})"
    axes = quiet(chart.subplots(), what, "", grid="x")
    labels = [
        f"{textwrap.fill(name, 30)}\n{row['metric'].removeprefix('test_').replace('_', ' ')}"
        + ("" if row["higher_is_better"] else " (less is better)")
        + f", {row['seeds']} seed" + "s" * (row["seeds"] != 1)
        for name, row in table.iterrows()
    ]  # fmt: skip
    means = table[["improvement", "low", "high"]].to_numpy(dtype=float)
    _forest(axes, labels, list(seeds.values()), means, [arm] * len(table))
    family = counted(table.index)
    notes = [
        f"{in_own_unit(row)}, p {p_in_words(row['p_adjusted']) or 'unknown'}"
        + " (does not count)" * (name not in family)
        for name, row in table.iterrows()
    ]
    _margins(axes, notes, f"difference, p (Holm, {len(family)})")
    said = "; ".join(
        f"{name} {row['improvement']:+.2f} %, interval {row['low']:+.2f} to {row['high']:+.2f}, "
        f"{note}"
        for (name, row), note in zip(table.iterrows(), notes, strict=True)
    ).replace("interval +nan to +nan", "no interval")
    counts = table.loc[family]
    sure = counts["p_adjusted"] < LEVEL
    return chart.finish(
        f"{arm} is ahead of {reference} on {(counts['improvement'] > 0).sum()} of {len(counts)} "
        f"benchmarks; differences beyond chance: {sure.sum()}",
        f"By how many per cent of {reference}'s mean score {arm} is better, seeds as points, means "
        f"with 95 % intervals, a line per benchmark: {said}.",
    )


def effect_sizes(study: Study, steps: Sequence[tuple[str, str]]) -> Chart:
    """How large is each step from arm to arm? Better is positive, in per cent of the reference.

    The axis is linear up to 0.1 % and logarithmic beyond, on both sides of 0.

    Args:
        study: with all arms of the steps.
        steps: pairs of arm and reference, a line each.

    Raises:
        ValueError: no step, or arms that the study lacks.
    """
    need(len(steps), 'steps, e.g. [("kd", "scratch")]')
    lines = [f"{arm} \u2212 {reference}" for arm, reference in steps]
    seeds = [seed_improvements({"it": study}, *step)["it"] for step in steps]
    means = [improvement_table({"it": study}, *step).loc["it", "improvement"] for step in steps]
    chart = Chart(8.4, 1.8 + 0.55 * len(steps))
    axes = quiet(chart.subplots(), "Better by, % of the reference (small points: seeds)", "", "x")
    for y, ((arm, _), values, mean) in enumerate(zip(steps, seeds, means, strict=True)):
        draw_seeds(axes, values, [y + 0.2] * len(values), arm_style(arm))
        axes.plot(mean, y, ls="", zorder=3, **marker(arm_style(arm), 9))
        axes.text(1.02, y, f"{mean:+.2f} %", transform=axes.get_yaxis_transform(), va="center")
    axes.set_xscale("symlog", linthresh=0.1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.axvline(0, color=INK, lw=1.2, zorder=1)
    axes.set_yticks(range(len(lines)), lines)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    said = "; ".join(
        f"{line} {mean:+.2f} %, seeds {', '.join(f'{v:+.2f}' for v in values)}"
        for line, values, mean in zip(lines, seeds, means, strict=True)
    )
    return chart.finish(
        f"{lines[0]} is {means[0]:+.1f} %, {lines[-1]} is {means[-1]:+.2f} % (better is positive)",
        f"Sizes of steps between arms, per cent of the reference, positive is better: {said}.",
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
    axes.set_xticks(seeds, map(str, seeds), minor=False)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
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


def study_forest(regimes: Mapping[str, pd.DataFrame], margin: float = 10.0) -> Chart:
    """Which arm is better than ``rkd``, and by how much of what there is to gain?

    The dose of each kernel stands at the right. The diamond is what MerLin's public reproduction
    of the paper reports for its ``qrkd``: one run, with all labels.

    Args:
        regimes: name to the table of :func:`qrkd_lab.studies.study.in_gaps`.
        margin: of interest, in per cent of the gap; the shaded band.
    """
    need(len(regimes), "at least one regime")
    lines = sum(len(found) + 1 for found in regimes.values())
    chart = Chart(8.6, 1.4 + 0.29 * lines)
    rows = chart.subplots(len(regimes), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, found) in zip(rows, regimes.items(), strict=True):
        quiet(axes, "", f"{name}, few labels", grid="x")
        axes.axvspan(-margin, margin, color="#009E73", alpha=0.12, lw=0)
        for y, (arm, row) in enumerate(found.iterrows()):
            draw_interval(axes, y, row[["difference", "low", "high"]], arm_style(arm), across=True)
        axes.plot(ELSEWHERE[name], len(found), "D", ms=8, mfc="white", mec=INK)
        axes.axvline(0, color=INK, lw=1.2, zorder=1)
        axes.set_yticks(range(len(found) + 1), [*found.index, "MerLin's qrkd, 1 run"])
        axes.set_ylim(len(found) + 0.5, -0.5)
        known = found["dose"].map("dose {:.2f}".format)
        _margins(axes, ["no kernel" if "nan" in dose else dose for dose in known], "")
    rows[-1].set_xlabel(
        "Test accuracy minus rkd's, in % of teacher - scratch (95 % intervals; shaded: margin)"
    )
    said = "; ".join(
        f"on {name} {arm} {row['difference']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f})"
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
        places = {s: x for x, s in enumerate(sorted({*part.index.get_level_values("strength")}))}
        arms = order_arms(part.index.get_level_values("arm"))
        for shift, arm in enumerate(arms):
            for strength, row in part.loc[arm].iterrows():
                at = places[strength] + 0.14 * (shift - (len(arms) - 1) / 2)
                draw_interval(axes, at, row[["difference", "low", "high"]], arm_style(arm))
        axes.axhline(0, color=INK, lw=1.2, zorder=1)
        axes.set_xticks(range(len(places)), [f"{strength:g}" for strength in places])
        quiet(axes, labels[how], "Test accuracy minus rkd's, points" if axes is panels[0] else "")
    draw_legend(chart, dict(zip(arms, arms, strict=True)))
    away = ", ".join(
        f"{arm} at {how.removeprefix('kernel_')} {strength:g} ({row['difference']:+.1f} points)"
        for (how, arm, strength), row in response.iterrows()
        if row["low"] > 0 or row["high"] < 0
    )
    said = "; ".join(
        f"{arm} at {how.removeprefix('kernel_')} {strength:g}: {row['difference']:+.2f} "
        f"({row['low']:+.2f} to {row['high']:+.2f})"
        for (how, arm, strength), row in response.iterrows()
    )
    return chart.finish(
        f"Intervals that exclude 0: {away or 'none'}",
        f"Differences to rkd by strength, with 95 % intervals: {said}.",
    )
