"""One panel a benchmark, one line an arm: by how much each arm differs from the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from qrkd_lab.plots.style import (
    INK,
    Chart,
    arm_style,
    draw_interval,
    draw_seeds,
    need,
    panels,
    quiet,
    stacked,
)
from qrkd_lab.statistics import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["differences_by_arm"]


def differences_by_arm(
    found: Mapping[str, Mapping[str, pd.Series]], what: str, title: str
) -> Chart:
    """Differences to a reference, arm by arm and benchmark by benchmark, each on its own scale.

    Args:
        found: benchmark to arm to its differences, one a seed.
        what: they are, for the figure and its description.
        title: the message.

    Raises:
        ValueError: nothing to draw.
    """
    need(len(found), "a benchmark with differences by arm")
    lines = max(map(len, found.values()))
    chart, places = panels(len(found), 0.9 + 0.44 * lines, 1.0)
    said = []
    for axes, (name, arms) in zip(places, found.items(), strict=True):
        quiet(axes, "", "", grid="x").set_title(name, fontsize=11, loc="left", color=INK)
        sure = [_draw(axes, y, arm, values) for y, (arm, values) in enumerate(arms.items())]
        axes.axvline(0, color=INK, lw=1.2, zorder=1)
        axes.set_yticks(range(len(arms)), list(arms))
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.locator_params("x", nbins=4)  # more would run into each other
        said.append(f"{name}: {_range(arms)}; {sum(sure)} of {len(arms)} intervals exclude 0")
    key = "small points: seeds; bars: 95 % intervals, each for its arm alone"
    chart.supxlabel(f"{what} ({key})", fontsize=10, color=INK)
    return chart.finish(
        title, f"{what}, an arm per line, each interval for itself. {'. '.join(said)}."
    )


def _draw(axes: Axes, y: int, arm: str, values: pd.Series) -> bool:
    """One line: its seeds below, the mean and its interval above; whether that excludes 0."""
    low, high = interval(values.to_numpy(), 0.95)
    style, mean = arm_style(arm), values.mean()
    draw_seeds(axes, values, y + 0.14 + stacked(values), style)
    draw_interval(axes, y - 0.12, (mean, low, high), style, across=True)
    return low > 0 or high < 0


def _range(arms: Mapping[str, pd.Series]) -> str:
    """The least and the largest mean; all of them would be too much to listen to."""
    means = sorted((values.mean(), arm) for arm, values in arms.items())
    return " to ".join(f"{mean:+.3g} ({arm})" for mean, arm in (means[0], means[-1]))
