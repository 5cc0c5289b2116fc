"""Figures of a study that compare arms: what each reached, and is one better than another?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator
from scipy import stats

from qrkd_lab.studies.statistics import (
    FEWEST,
    detectable_difference,
    interval,
    p_in_words,
    seeds_needed,
    together,
)
from qrkd_lab.studies.summary import (
    Summary,
    counted,
    improvement_table,
    in_logs,
    in_own_unit,
    order_arms,
    own_unit,
    seed_improvements,
    summary,
    units,
)
from qrkd_lab.teaching.plots.curves import curves_of
from qrkd_lab.teaching.plots.kernels import COLOURS, MARKERS, legend_below, log_axis
from qrkd_lab.teaching.plots.style import (
    INK,
    Chart,
    arm_style,
    draw_interval,
    draw_seeds,
    marker,
    need,
    quiet,
    stacked,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from qrkd_lab.studies.compare import Study
    from qrkd_lab.studies.records import Run
    from qrkd_lab.studies.statistics import Equivalence

__all__ = [
    "against",
    "by_class",
    "detectable_curve",
    "difference_over_epochs",
    "equivalence_bars",
    "false_alarms",
    "improvements",
    "paired_differences",
    "scores_by_arm",
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
        study: a :class:`~qrkd_lab.studies.summary.Summary`, or the results to make one from.
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


# ---- forests


KEY = "small points: seeds; bars: 95 % intervals, each for its line alone"
LEVEL = 0.05


def improvements(
    studies: Mapping[str, Study],
    arm: str = "qrkd",
    reference: str = "rkd",
    title: str | None = None,
) -> Chart:
    """Is an arm better than the reference, benchmark by benchmark?

    Right is better on every line, whatever the metric; the axis is in per cent of the reference's
    mean score (see ``summary``), the numbers at the right edge are in the metric's
    own unit. p is corrected for the number of benchmarks (Holm), the intervals are not: each is for
    its line alone. The chance is that to be ahead on a new seed
    (``win_probability``). Beside other benchmarks, ``digits`` is drawn and
    does not count.

    Args:
        studies: name of a benchmark to its study; each has both arms.
        arm, reference: names of arms.
        title: the message; without it, on how many benchmarks the arm is better or worse.

    Raises:
        ValueError: no study, or one without both arms.
    """
    table = improvement_table(studies, arm, reference)
    seeds = seed_improvements(studies, arm, reference)
    chart = Chart(8.6, 2.0 + 0.62 * len(table))
    what = f"{arm} is better than {reference} by, % of {reference}'s mean ({KEY})"
    axes = quiet(chart.subplots(), what, "", grid="x")
    labels = [f"{name}\n{_metric(row)}, {_seeds(row)}" for name, row in table.iterrows()]
    means = table[["improvement", "low", "high"]].to_numpy(dtype=float)
    _draw(axes, labels, list(seeds.values()), means, arm)
    family = counted(table.index)
    notes = [_note(row, alone=name not in family) for name, row in table.iterrows()]
    _beside(axes, f"difference, p (Holm, {len(family)})", notes)
    said = "; ".join(
        f"{name} {row['improvement']:+.2f} % ({_range(row['low'], row['high'])}; {note})"
        for (name, row), note in zip(table.iterrows(), notes, strict=True)
    ).replace("\n", " ")
    return chart.finish(
        title or _message(table.loc[family], arm, reference),
        f"One line a benchmark: by how many per cent of {reference}'s mean score {arm} is better, "
        f"seeds as points, means with 95 % intervals, each for its line alone; p corrected for "
        f"{len(family)} (Holm): {said}.",
    )


def by_class(
    arm: ArrayLike,
    reference: ArrayLike,
    classes: Sequence[str],
    names: tuple[str, str] = ("qrkd", "rkd"),
    title: str | None = None,
) -> Chart:
    """Does an arm help some classes and hurt others? A line a class, differences seed by seed.

    Args:
        arm, reference: accuracies ``(seeds, classes)``, fractions.
        classes: a name each.
        names: of the two arms.
        title: the message; without it, how many intervals exclude 0, and how many would by chance.

    Raises:
        ValueError: shapes that do not fit.
    """
    differences = 100 * (np.asarray(arm, dtype=float) - np.asarray(reference, dtype=float))
    if differences.ndim != 2 or differences.shape[1] != len(classes) or not len(differences):
        raise ValueError(
            f"expected accuracies (seeds, {len(classes)}) for {len(classes)} classes, got "
            f"{np.shape(arm)} and {np.shape(reference)}."
        )
    columns = list(differences.T)  # a class each
    means = np.array([[d.mean(), *interval(d, 1 - LEVEL)] for d in columns])
    chart = Chart(8.0, 1.8 + 0.36 * len(classes))
    what = f"Accuracy of {names[0]} minus {names[1]}'s, points ({KEY})"
    axes = quiet(chart.subplots(), what, "Class", grid="x")
    _draw(axes, list(classes), columns, means, names[0])
    out = int(((means[:, 1] > 0) | (means[:, 2] < 0)).sum())
    message = (
        f"{names[0]} minus {names[1]}: {out} of {len(classes)} classes' intervals exclude 0; "
        f"chance alone gives {LEVEL * len(classes):.2g} on average"
    )
    said = "; ".join(
        f"{name} {mean:+.2f} ({_range(low, high)})"
        for name, (mean, low, high) in zip(classes, means, strict=True)
    )
    return chart.finish(title or message, f"Differences of accuracy in points by class: {said}.")


def _draw(
    axes: Axes, labels: Sequence[str], columns: Sequence[ArrayLike], means: np.ndarray, arm: str
) -> None:
    """A line each: the mean and its interval, the seeds stacked below; a rule at no difference."""
    style = arm_style(arm)
    for y, (values, mean) in enumerate(zip(columns, means, strict=True)):
        seeds = pd.Series(np.asarray(values, dtype=float))
        draw_seeds(axes, seeds, y + 0.14 + stacked(seeds), style)
        draw_interval(axes, y - 0.12, mean, style, across=True)
    axes.axvline(0, color=INK, lw=1.2, zorder=1)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    for x, side, text in ((0.0, "left", "← worse"), (1.0, "right", "better →")):
        axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, fontsize=10, color=INK)


def _beside(axes: Axes, head: str, notes: Sequence[str]) -> None:
    """Words right of each line."""
    axes.text(1.03, 1.02, head, transform=axes.transAxes, fontsize=10, color=INK)
    for y, note in enumerate(notes):
        where = axes.get_yaxis_transform()
        axes.text(1.03, y, note, transform=where, va="center", fontsize=10, color=INK)


def _note(row: pd.Series, alone: bool) -> str:
    said = f"{in_own_unit(row)}, p {p_in_words(row['p_adjusted']) or 'unknown'}"
    said += " (does not count)" if alone else ""
    if math.isnan(row["p_win"]):
        return said
    return f"{said},\nchance to win a new seed {row['p_win']:.2f}"


def _metric(row: pd.Series) -> str:
    less = "" if row["higher_is_better"] else " (less is better)"
    return row["metric"].removeprefix("test_").replace("_", " ") + less


def _seeds(row: pd.Series) -> str:
    return f"{row['seeds']} seed{'' if row['seeds'] == 1 else 's'}"


def _range(low: float, high: float) -> str:
    return "no interval" if math.isnan(low) else f"{low:+.2f} to {high:+.2f}"


def _message(table: pd.DataFrame, arm: str, reference: str) -> str:
    sure = table[table["p_adjusted"] < LEVEL]
    better = int((sure["improvement"] > 0).sum())
    worse = len(sure) - better
    ahead = int((table["improvement"] > 0).sum())
    many = f"{len(table)} benchmark{'s' if len(table) > 1 else ''}"
    if table["p_adjusted"].isna().all():
        return f"{arm} is ahead of {reference} on {ahead} of {many}, with too few seeds to be sure"
    if not len(sure):
        return (
            f"{arm} is ahead of {reference} on {ahead} of {many}, on none by more than these "
            "seeds could show"
        )
    parts = [(f"better than {reference}", better), (f"worse than {reference}", worse)]
    said = " and ".join(f"{what} on {count}" for what, count in parts if count)
    rest = "; on the others these seeds cannot tell" if len(sure) < len(table) else ""
    return f"{arm} is {said} of {many}{rest}"


# ---- evidence


def false_alarms(
    rates: Mapping[str, Mapping[int, float]], level: float = 0.05, title: str | None = None
) -> Chart:
    """How often does at least one of k equal arms look different? A line a way of testing.

    Args:
        rates: name of the way to test, to number of arms k, to share of studies with an alarm.
        level: that each single test was made at; drawn as a dashed line.
        title: the message; without it, the rates at the most arms.

    Raises:
        ValueError: nothing to draw.
    """
    need(len(rates), 'a mapping such as {"uncorrected": {1: 0.05, 2: 0.09}}')
    chart = Chart(7.6, 4.2)
    what = "Studies with a false alarm, %"
    axes = quiet(chart.subplots(), "Arms compared with the reference", what)
    ends = []
    for i, (name, by_count) in enumerate(rates.items()):
        style = {"color": COLOURS[(1, 0, 2)[i % 3]], "marker": MARKERS[i % len(MARKERS)]}
        values = [100 * rate for rate in by_count.values()]
        axes.plot(list(by_count), values, lw=1.8, label=name, **marker(style, 7))
        ends.append(f"{values[-1]:.0f} % ({name})")
    axes.axhline(100 * level, color=INK, lw=1, ls="--", label=f"{100 * level:g} %, as promised")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    chart.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=10)
    most = max(max(by_count) for by_count in rates.values())
    message = f"Studies of {most} equal arms with a false alarm: {', '.join(ends)}"
    said = "; ".join(
        f"{name}: " + ", ".join(f"{100 * rate:.1f} % with {k}" for k, rate in by_count.items())
        for name, by_count in rates.items()
    )
    return chart.finish(title or message, f"Share of studies with a false alarm. {said}.")


def against(
    results: pd.DataFrame, x: str, y: str = "test_accuracy", title: str | None = None
) -> Chart:
    """Do two quantities of the runs go together? One point a run, in its arm's style.

    Args:
        results: the table of ``results``, with columns of your own if you like.
        x, y: two of its columns of numbers.
        title: the message; without it, Spearman's rank correlation over all points.

    Raises:
        ValueError: a column that is not there, or no row with both.
    """
    if absent := [name for name in (x, y) if name not in results]:
        raise ValueError(f"no column {', '.join(absent)}; choose from {', '.join(results)}.")
    known = results.dropna(subset=[x, y])
    need(len(known), f"rows that have both {x} and {y}")
    arms = order_arms(known["arm"])
    chart = Chart(7.8, 4.2)
    labels = [words(name) + units(name)[1].replace(" ", ", ") for name in (x, y)]
    axes = quiet(chart.subplots(), *labels, grid="both")
    for arm in arms:
        rows = known[known["arm"] == arm]
        across, up = (rows[name].astype(float) * units(name)[0] for name in (x, y))
        axes.scatter(across, up, s=34, alpha=0.75, lw=0, label=arm, **arm_style(arm))
    chart.legend(loc="outside right center", frameon=False, fontsize=10)
    fixed = min(known[x].nunique(), known[y].nunique()) < 2 or len(known) < FEWEST
    rank = math.nan if fixed else stats.spearmanr(known[x], known[y]).statistic
    message = f"{words(y)} against {words(x).lower()}, {len(known)} runs"
    if not fixed:
        message += f": rank correlation {rank:+.2f}"
    return chart.finish(
        title or message,
        f"One point a run of {', '.join(arms)}. {labels[0]} from {known[x].min():.3g} to "
        f"{known[x].max():.3g}, {labels[1]} from {known[y].min():.4g} to {known[y].max():.4g} "
        "(as fractions where in %).",
    )


def difference_over_epochs(
    runs: Sequence[Run],
    arm: str = "qrkd",
    reference: str = "rkd",
    value: str | None = None,
    title: str | None = None,
) -> Chart:
    """Would another number of epochs have told another story? Paired differences, epoch by epoch.

    Args:
        runs: of one benchmark and scale, with both arms.
        arm, reference: names of arms.
        value: a column of their histories; None: the runs' own metric on the validation part.
        title: the message; without it, how often the mean changes its sign.

    Raises:
        ValueError: no runs, an arm that is not there, or no history that holds ``value``.
    """
    curves, value = curves_of(runs, value)
    if absent := [name for name in (arm, reference) if name not in curves]:
        raise ValueError(f"no {value} of {', '.join(absent)}; arms here: {', '.join(curves)}.")
    logs, factor, unit = in_logs(value), units(value)[0], own_unit(value)
    first, second = (np.log(curves[of]) if logs else curves[of] for of in (arm, reference))
    table = (first - second).dropna(how="all").dropna(axis=1)
    need(table.size, f"seeds that both {arm} and {reference} have")
    rows = np.array([[row.mean(), *interval(row.to_numpy(), 0.95)] for _, row in table.iterrows()])
    if logs:  # ratios, in per cent
        table, rows, factor, unit = np.expm1(table), np.expm1(rows), 100, "% of its perplexity"
    table, rows = factor * table, factor * rows
    style = arm_style(arm)
    chart = Chart(8.0, 4.2)
    axes = quiet(chart.subplots(), "Epoch", f"{arm} minus {reference}, {unit}")
    axes.plot(table.index, table, color=style["color"], lw=0.8, alpha=0.35, zorder=1)
    axes.plot(table.index, rows[:, 0], lw=1.8, zorder=3, **marker(style, 8))
    axes.fill_between(table.index, rows[:, 1], rows[:, 2], color=style["color"], alpha=0.13, lw=0)
    axes.axhline(0, color=INK, lw=1.2, zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    signs = np.sign(rows[:, 0][rows[:, 0] != 0])
    flips = int((signs[1:] != signs[:-1]).sum())
    changes = {0: "never changes", 1: "changes once"}.get(flips, f"changes {flips} times")
    name = words(value).lower()
    ends = f"{rows[0, 0]:+.2f} after epoch {table.index[0]}, {rows[-1, 0]:+.2f} after the last"
    return chart.finish(
        title or f"{arm} minus {reference} in {name}: the mean's sign {changes} over the epochs",
        f"Paired difference in {name} over epochs, a thin line a seed, the mean with a band of its "
        f"95 % interval: {ends}.",
    )


# ---- equivalence


def equivalence_bars(
    found: Mapping[str, Equivalence],
    arm: str = "qrkd",
    what: str = "Better than the reference by",
    title: str | None = None,
) -> Chart:
    """Is a difference that matters excluded? Intervals against the band of the margin.

    The thick bar is the interval of the equivalence test (90 % for a test at 5 %), the thin line
    that of the ordinary test (95 %), each for its line alone. Asked alone, a line is equivalent if
    its thick bar lies within the band, and different if its thin line does not touch 0. The
    verdicts of several lines are corrected for their number, the bars are not; the axis says so.

    Args:
        found: a line's name to what ``equivalence`` found; one margin.
            Several are corrected together, unless they are already
            (:func:`~qrkd_lab.studies.statistics.together`).
        arm: whose colour to take.
        what: the axis' label, with the unit.
        title: the message; without it, how many lines are equivalent, different, undecided.

    Raises:
        ValueError: nothing to draw, or several margins.
    """
    need(len(found), "a mapping from names to what equivalence() found")
    margins = {one.margin for one in found.values()}
    if len(margins) > 1:
        raise ValueError(f"expected one margin for all lines, got {sorted(margins)}")
    (margin,) = margins
    if all(one.family == 1 for one in found.values()):
        found = together(found)
    chart, style = Chart(8.4, 1.9 + 0.55 * len(found)), arm_style(arm)
    key = "\n(bars: 90 % and 95 % intervals, each alone"
    key += f"; verdicts corrected for {len(found)} lines, Holm)" if len(found) > 1 else ")"
    axes = quiet(chart.subplots(), what + key, "", grid="x")
    axes.axvspan(-margin, margin, color="#009E73", alpha=0.12, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1.2, zorder=1)
    for y, one in enumerate(found.values()):
        axes.plot([one.low, one.high], [y, y], color=style["color"], lw=1.5, zorder=2)
        axes.plot([one.inner_low, one.inner_high], [y, y], color=style["color"], lw=5, alpha=0.6,
                  zorder=2, solid_capstyle="butt")  # fmt: skip
        axes.plot(one.mean, y, ls="", zorder=3, **marker(style, 9))
    _name_lines(axes, found)
    counts = {word: [n for n, one in found.items() if one.verdict == word] for word in _WORDS}
    message = "; ".join(f"{word} on {len(n)}" for word, n in counts.items() if n)
    said = "; ".join(
        f"{name} {one.mean:+.2f} (90 % {one.inner_low:+.2f} to {one.inner_high:+.2f}): "
        f"{one.verdict}"
        for name, one in found.items()
    )
    many = f"of {len(found)} line{'s' if len(found) > 1 else ''}"
    return chart.finish(
        title or f"{message[:1].upper()}{message[1:]} {many}, at a margin of {margin:g}",
        f"Intervals of mean differences, each for its line alone, and a band from {-margin:g} to "
        f"{margin:g}; verdicts corrected for the number of lines (Holm): {said}.",
    )


_WORDS = ("equivalent", "different, by less than the margin", "different", "undecided")


def _name_lines(axes: Axes, found: Mapping[str, Equivalence]) -> None:
    """The lines' names at the left, their verdicts at the right."""
    axes.set_yticks(range(len(found)), [f"{n} ({one.seeds} seeds)" for n, one in found.items()])
    axes.set_ylim(len(found) - 0.5, -0.5)
    where = axes.get_yaxis_transform()
    short = {"different, by less than the margin": "different, but small"}
    for y, one in enumerate(found.values()):
        word = short.get(one.verdict, one.verdict)
        axes.text(1.02, y, word, transform=where, va="center", fontsize=10, color=INK)


def detectable_curve(
    spreads: Mapping[str, float],
    margin: float,
    seeds: Sequence[int] = (3, 5, 10, 20, 50, 100, 200),
    unit: str = "%",
    title: str | None = None,
    tests: int = 1,
) -> Chart:
    """How many seeds does a difference need? The smallest one seen with 80 % power, by seeds.

    Args:
        spreads: a line's name to the standard deviation of its paired differences.
        margin: the smallest difference that matters, fixed before, a dashed line.
        seeds: numbers to show.
        unit: of spreads and margin.
        tests: that are made at once; the level is 5 % divided by it, that of Holm's first step.
        title: the message; without it, the seeds for the margin at the smallest and largest spread.

    Raises:
        ValueError: nothing to draw, or a spread that is not > 0.
    """
    need(len(spreads), "a mapping from names to spreads")
    chart = Chart(7.6, 4.6)
    level = 0.05 / tests
    at = "5 %" if tests == 1 else f"5 % / {tests}"
    what = f"Difference seen with 80 % power, {unit}"
    axes = quiet(chart.subplots(), f"Seeds (a test at {at})", what, "both")
    log_axis(axes, "x")
    log_axis(axes, "y")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    enough = {}
    for i, (name, spread) in enumerate(spreads.items()):
        curve = np.array([detectable_difference(spread, count, 1 - level) for count in seeds])
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        axes.plot(seeds, curve, lw=1.8, label=f"{name} (spread {spread:.2g})", **marker(style, 7))
        enough[name] = seeds_needed(margin, spread, 1 - level) or "more than a million"
    axes.axhline(margin, color=INK, lw=1, ls="--", label=f"margin {margin:g}")
    axes.set_xticks(list(seeds), [f"{count}" for count in seeds])
    legend_below(chart, axes)
    said = "; ".join(f"{name}: {count}" for name, count in enough.items())
    most = max(spreads, key=spreads.__getitem__)
    message = f"To see {margin:g} {unit} on {most}, the noisiest here, takes {enough[most]} seeds"
    return chart.finish(
        title or message,
        f"Smallest difference seen with 80 % power by a test at {at} against seeds, both "
        f"logarithmic, with a dashed line at {margin:g} {unit}. Seeds that suffice for it: {said}.",
    )
