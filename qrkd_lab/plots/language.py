"""Figures about language models: windows over a text, next words, and the sizes of effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qrkd_lab.evidence import improvement_table, seed_improvements
from qrkd_lab.plots.diagnostics import COLOURS, log_axis
from qrkd_lab.plots.style import ARM_COLOURS, FAINT, INK, Chart, arm_style, marker, need, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qrkd_lab.study import Study

__all__ = ["effect_sizes", "next_word_bars", "window_map"]

LADDER = (("kd", "scratch"), ("rkd", "kd"), ("qrkd", "rkd"))
VISIBLE = {"\n": "(end)"}  # of a line


def window_map(count: int, length: int, stride: int, title: str | None = None) -> Chart:
    """Which window scores which token, and what does it see before? A row a window.

    Args:
        count: tokens of the text; some dozens, so that each is a square.
        length, stride: of the windows, in tokens.
        title: the message; without it, that every token is scored once, and by how many windows.

    Raises:
        ValueError: a stride that leaves gaps, or windows longer than the text.
    """
    from qrkd_lab.benchmarks.language import windows

    if not 1 <= stride <= length <= count:
        raise ValueError(
            f"expected 1 <= stride <= length <= count, got stride {stride}, length {length}, "
            f"count {count}"
        )
    begins, fresh = windows(count, length, stride)
    chart = Chart(8.6, 1.5 + 0.32 * len(begins))
    axes = quiet(chart.subplots(), "Token of the text", "Window", grid="x")
    for row, (begin, new) in enumerate(zip(begins, fresh, strict=True)):
        parts = {"seen, not scored": (begin, length - new, FAINT)}
        parts["scored"] = (begin + length - new, new, COLOURS[0])
        for name, (left, width, colour) in parts.items():
            label = name if row == len(begins) - 1 else None
            axes.barh(row, width, 0.7, left, color=colour, edgecolor="white", label=label)
    axes.set_yticks(range(len(begins)), [f"{i + 1}" for i in range(len(begins))])
    axes.set_ylim(len(begins) - 0.5, -0.5)
    axes.set_xlim(0, count)
    chart.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2,
                 frameon=False, fontsize=10)  # fmt: skip
    least = int((length - fresh)[1:].min()) if len(fresh) > 1 else 0
    message = (
        f"{len(begins)} windows of {length} tokens score each of {count} tokens once, after the "
        f"first window with {least} or more before it"
    )
    said = "; ".join(
        f"window {i + 1} sees tokens {b} to {b + length - 1} and scores the last {n}"
        for i, (b, n) in enumerate(zip(begins, fresh, strict=True))
    )
    return chart.finish(title or message, f"Bars of windows over a text: {said}.")


def next_word_bars(
    beliefs: Mapping[str, Mapping[str, float]], words: int = 8, title: str | None = None
) -> Chart:
    """What do several models expect next? Bars over the words that the first finds most likely.

    Args:
        beliefs: name of a model to the probability of each next word; the first is the yardstick.
        words: how many to show.
        title: the message; without it, what each gives to the first one's favourite.

    Raises:
        ValueError: no model, or one without a word.
    """
    need(len(beliefs), 'a mapping from names to next words, e.g. {"teacher": {"fish": 0.3}}')
    need(min(map(len, beliefs.values())), "at least one next word from each model")
    first = next(iter(beliefs.values()))
    shown = sorted(first, key=first.__getitem__, reverse=True)[:words]
    labels = [VISIBLE.get(word, word.strip()) for word in shown]
    columns = 2 if len(beliefs) in (2, 4) else min(3, len(beliefs))
    rows = -(-len(beliefs) // columns)
    chart = Chart(3.2 * columns + 0.4, (0.8 + 0.24 * len(shown)) * rows + 0.6)
    places = list(chart.subplots(rows, columns, squeeze=False).flat)
    for axes in places[len(beliefs) :]:
        axes.remove()
    places = places[: len(beliefs)]
    top = max(belief.get(word, 0.0) for belief in beliefs.values() for word in shown)
    said = []
    for axes, (name, belief), spare in zip(places, beliefs.items(), COLOURS * 9, strict=False):
        values = [belief.get(word, 0.0) for word in shown]
        quiet(axes, "", "", grid="x").barh(
            range(len(shown)), values, color=ARM_COLOURS.get(name, spare)
        )
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_xlim(0, 1.1 * top)
        axes.set_title(f"{name}\nall others {max(0.0, 1 - sum(values)):.2f}", fontsize=10)
        said.append(
            f"{name}: " + ", ".join(f"{w} {v:.2f}" for w, v in zip(labels, values, strict=True))
        )
    for axes in places[-columns:]:  # those with no panel beneath them
        axes.set_xlabel("Probability", fontsize=10, color=INK)
    favourite = ", ".join(f"{name} {b.get(shown[0], 0.0):.2f}" for name, b in beliefs.items())
    return chart.finish(
        title or f"Probability of “{labels[0]}”: {favourite}",
        f"Bars of next-word probabilities, a panel a model. {'; '.join(said)}.",
    )


def effect_sizes(
    study: Study, steps: Sequence[tuple[str, str]] = LADDER, title: str | None = None
) -> Chart:
    """How large is each step from arm to arm? Sizes in per cent of the reference, on a log scale.

    A filled marker is better than the reference, a hollow one is worse; large ones are means, small
    ones seeds. On a log scale a size has no sign: the text at the right has it.

    Args:
        study: with all arms of the steps.
        steps: pairs of arm and reference, a line each.
        title: the message; without it, the first and the last step.

    Raises:
        ValueError: no step, or arms that the study lacks.
    """
    need(len(steps), 'steps, e.g. [("kd", "scratch")]')
    found = {
        f"{arm} - {reference}": (
            arm,
            seed_improvements({"it": study}, arm, reference)["it"],
            improvement_table({"it": study}, arm, reference).loc["it", "improvement"],
        )
        for arm, reference in steps
    }
    chart = Chart(8.4, 1.8 + 0.55 * len(found))
    axes = quiet(chart.subplots(), "Size, % of the reference's mean (small points: seeds)", "", "x")
    log_axis(axes, "x")
    sizes = [abs(v) for _, seeds, mean in found.values() for v in (*seeds, mean) if v]
    axes.set_xlim(min(sizes, default=0.1) / 3, max(sizes, default=1.0) * 3)
    for y, (arm, seeds, mean) in enumerate(found.values()):
        _draw_size(axes, y, arm, seeds.to_numpy(), mean)
    axes.set_yticks(range(len(found)), [name.replace("-", "\u2212") for name in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.text(1.02, 1.02, "better by", transform=axes.transAxes, fontsize=10, color=INK)
    means = {name: mean for name, (_, _, mean) in found.items()}
    said = "; ".join(
        f"{name} {mean:+.2f} %, seeds {', '.join(f'{v:+.2f}' for v in found[name][1])}"
        for name, mean in means.items()
    )
    ends = list(means)
    message = f"{ends[0]} is {means[ends[0]]:+.1f} %"
    if len(ends) > 1:
        message += f", {ends[-1]} is {means[ends[-1]]:+.2f} %"
    return chart.finish(
        title or f"{message} (better is positive)".replace(" - ", " \u2212 "),
        f"Sizes of steps between arms, log scale, positive is better: {said}.",
    )


def _draw_size(axes: Axes, y: int, arm: str, seeds: np.ndarray, mean: float) -> None:
    """A stick up to the mean, the seeds below it, hollow what is worse; the number beside."""
    style = arm_style(arm)
    text = axes.get_yaxis_transform()
    axes.text(1.02, y, f"{mean:+.2f} %", transform=text, va="center", fontsize=10, color=INK)
    if mean == 0:
        return
    axes.plot([axes.get_xlim()[0], abs(mean)], [y, y], color=style["color"], lw=2, zorder=1)
    hollow = {"mfc": "white", "mec": style["color"]}
    for seed in seeds[seeds != 0]:
        look = marker(style, 4.5) | ({"mew": 0} if seed > 0 else hollow | {"mew": 1})
        axes.plot(abs(seed), y + 0.2, ls="", alpha=0.75, zorder=2, **look)
    look = marker(style, 9) | ({} if mean > 0 else hollow | {"mew": 1.6})
    axes.plot(abs(mean), y, ls="", zorder=3, **look)
