"""Figures of null results: is a difference excluded, and how many seeds would it take?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import LogLocator

from qrkd_lab.equivalence import together
from qrkd_lab.plots.diagnostics import COLOURS, MARKERS, legend_below, log_axis
from qrkd_lab.plots.style import INK, Chart, arm_style, marker, need, quiet
from qrkd_lab.statistics import detectable_difference, seeds_needed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qrkd_lab.equivalence import Equivalence

__all__ = ["detectable_curve", "equivalence_bars"]


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
        found: a line's name to what :func:`~qrkd_lab.equivalence.equivalence` found; one margin.
            Several are corrected together, unless they are already
            (:func:`~qrkd_lab.equivalence.together`).
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
