"""Forest plots: one question asked of several benchmarks, or of several classes, a line each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qrkd_lab.evidence import counted, improvement_table, in_own_unit, seed_improvements
from qrkd_lab.plots.style import INK, Chart, arm_style, draw_interval, draw_seeds, quiet, stacked
from qrkd_lab.statistics import interval, p_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from qrkd_lab.study import Study

__all__ = ["by_class", "improvements"]

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
    mean score (see :mod:`~qrkd_lab.evidence`), the numbers at the right edge are in the metric's
    own unit. p is corrected for the number of benchmarks (Holm), the intervals are not: each is for
    its line alone. The chance is that to be ahead on a new seed
    (:func:`~qrkd_lab.statistics.win_probability`). Beside other benchmarks, ``digits`` is drawn and
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
