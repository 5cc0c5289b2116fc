"""Curves over epochs: how the arms learned, and which terms of the loss fell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from qrkd_lab.studies.summary import improvement_table, order_arms, seed_improvements, units
from qrkd_lab.teaching.plots.kernels import COLOURS, log_axis
from qrkd_lab.teaching.plots.style import (
    ARM_COLOURS,
    FAINT,
    INK,
    Chart,
    arm_style,
    draw_legend,
    marker,
    need,
    panels,
    quiet,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from qrkd_lab.studies.compare import Study
    from qrkd_lab.studies.records import Run

__all__ = [
    "arms_so_far",
    "curves_of",
    "effect_sizes",
    "learning_curves",
    "loss_terms",
    "matrices_so_far",
    "next_word_bars",
    "window_map",
]


TERMS = ("total", "task", "kd", "distance", "angle", "kernel")
NOT_TERMS = ("epoch", "seconds", "learning_rate")


def learning_curves(
    runs: Sequence[Run], value: str | None = None, title: str | None = None
) -> Chart:
    """How did the arms learn? One line an arm (the mean over seeds), its seeds as thin lines.

    Args:
        runs: of one benchmark and scale.
        value: a column of their histories; None: the runs' own metric on the validation part.
        title: the message; without it, where the arms end.

    Raises:
        ValueError: no runs, several benchmarks, or no run whose history holds ``value``.
    """
    found, value = curves_of(runs, value)
    curves = {arm: curve * units(value)[0] for arm, curve in found.items()}
    unit = units(value)[1]
    name = words(value) + (" loss" if value in TERMS else "")
    digits = ".3g" if value in TERMS else ".2f"
    chart = Chart(8.0, 4.4)
    axes = quiet(chart.subplots(), "Epoch", name + unit.replace(" ", ", "))
    _draw_curves(axes, curves)
    last = {arm: curve.mean(axis=1, skipna=False).dropna() for arm, curve in curves.items()}
    ends = {arm: f"{mean.iloc[-1]:{digits}}{unit}" for arm, mean in last.items() if len(mean)}
    draw_legend(chart, {arm: f"{arm}  {ends.get(arm, '')}" for arm in curves})
    values = [last[arm].iloc[-1] for arm in ends if arm != "teacher" or len(ends) == 1]
    message = f"{name} over epochs"
    if values:
        low, high = min(values), max(values)
        message = f"{name} of the arms ends between {low:{digits}} and {high:{digits}}{unit}"
    said = "; ".join(f"{arm} {end} after epoch {last[arm].index[-1]}" for arm, end in ends.items())
    return chart.finish(
        title or message,
        f"{name} over epochs, a thick line for each arm's mean over seeds and a thin line "
        f"for each seed. Means at the end: {said}.",
    )


def curves_of(runs: Sequence[Run], value: str | None = None) -> tuple[dict[str, pd.DataFrame], str]:
    """The curves that are drawn, as tables: arm to a row an epoch and a column a seed.

    Args:
        runs: of one benchmark and scale.
        value: a column of their histories; None: the runs' own metric on the validation part.

    Returns:
        The tables, fractions rather than per cent, and the name of the column.

    Raises:
        ValueError: no runs, several benchmarks, or no run whose history holds ``value``.
    """
    runs = _one_study(runs)
    value = value or f"validation_{runs[0].metric['name'].removeprefix('test_')}"
    return _curves(runs, value), value


def loss_terms(runs: Sequence[Run], title: str | None = None) -> Chart:
    """Which terms of the loss fall? One panel a term, each with its own scale.

    Raises:
        ValueError: no runs, several benchmarks, or no loss term in any history.
    """
    runs = _one_study(runs)
    names = dict.fromkeys(name for run in runs for epoch in run.history for name in epoch)
    skip = ("train_", "validation_", "test_", *NOT_TERMS)
    terms = [name for name in names if not name.startswith(skip)]
    terms = sorted(terms, key=lambda name: name == "total")
    need(len(terms), "a loss term (task, kd, distance, ...) in the runs' histories")
    chart, places = panels(len(terms), height=2.4, rest=0.8)
    arms, said, rising = [], [], []
    for axes, term in zip(places, terms, strict=True):
        curves = _curves(runs, term)
        _draw_curves(quiet(axes, "Epoch", "Loss"), curves)
        axes.set_title(term, fontsize=11)
        axes.set_ylim(bottom=min(0.0, *(curve.min().min() for curve in curves.values())))
        arms += curves
        for arm, curve in curves.items():
            mean = curve.mean(axis=1)
            said.append(f"{term} of {arm} from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}")
            rising += [f"{term} of {arm}"] if mean.iloc[-1] > mean.iloc[0] else []
    draw_legend(chart, {arm: arm for arm in order_arms(arms)})
    message = "Every loss term ends below where it began"
    if rising:
        message = f"Not every loss term falls: {', '.join(rising[:3])} ended higher than it began"
    return chart.finish(title or message, f"Loss terms over epochs: {'; '.join(said)}.")


def _one_study(runs: Sequence[Run]) -> list[Run]:
    runs = list(runs)
    need(len(runs), "runs, e.g. those of runs.read_runs(folder)")
    homes = sorted({f"{run.settings['benchmark']} {run.settings['scale']}" for run in runs})
    if len(homes) > 1:
        raise ValueError(f"expected the runs of one benchmark and scale, got {', '.join(homes)}.")
    return runs


def _curves(runs: Sequence[Run], value: str) -> dict[str, pd.DataFrame]:
    """For each arm that has the value: a row an epoch, a column a run."""
    runs = _one_study(runs)
    found: dict[str, list[pd.Series]] = {}
    for run in runs:
        points = {e["epoch"]: e[value] for e in run.history if e.get(value) is not None}
        if points:
            series = pd.Series(points, name=run.settings["seed"], dtype=float)
            found.setdefault(run.settings["arm"], []).append(series)
    if not found:
        names = dict.fromkeys(n for run in runs for e in run.history for n in e if n != "epoch")
        raise ValueError(f"no run's history holds {value!r}; choose from {', '.join(names)}.")
    return {arm: pd.concat(found[arm], axis=1).sort_index() for arm in order_arms(found)}


def _draw_curves(axes: Axes, curves: Mapping[str, pd.DataFrame]) -> None:
    for i, (arm, curve) in enumerate(curves.items()):
        style, mean = arm_style(arm), curve.mean(axis=1, skipna=False)  # where every seed has one
        axes.plot(curve.index, curve, color=style["color"], lw=0.7, alpha=0.3, zorder=1)
        axes.plot(mean.index, mean, color=style["color"], lw=1.8, zorder=2)
        step = max(3, len(mean) // 5)  # arms that lie on each other show their markers in turn
        shown = mean.iloc[i % step :: step]
        axes.plot(shown.index, shown, ls="", zorder=3, **marker(style))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


# ---- live


Pulses = Mapping[str, Sequence[tuple[float, Mapping[str, float]]]]
POINTS = 30  # epochs up to which each is a point


def arms_so_far(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    epochs: int,
    value: str = "validation_accuracy",
    pulses: Pulses | None = None,
    title: str | None = None,
) -> Chart:
    """How do the arms learn, side by side? The validation score, and every loss term.

    Args:
        histories: arm to its epochs so far, as in a record; they may be empty.
        epochs: that it will take.
        value: the validation score, a column of the histories.
        pulses: arm to (epochs with fractions, loss terms), what is known between epochs.
        title: the message; without it, how far it is and who leads.

    Raises:
        ValueError: no arm.
    """
    need(len(histories), "a history for at least one arm")
    arms, pulses = order_arms(histories), pulses or {}
    terms = _terms(histories, pulses)
    chart = Chart(10.6, 3.9)
    grid = chart.add_gridspec(2, 5, width_ratios=(1.3, 1.3, 1, 1, 1))
    score = chart.add_subplot(grid[:, :2])
    factor, unit = units(value)
    ends = [at for points in pulses.values() for at, _ in points[-1:]]
    shown = _epochs_shown(epochs, [*ends, *map(len, histories.values())])
    quiet(score, "Epoch", words(value) + unit.replace(" ", ", ")).set_xlim(0, shown)
    if not any(value in epoch for history in histories.values() for epoch in history):
        score.set_yticks([])  # no score yet: no scale
    score.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    legend = {}
    for arm in arms:
        known = [(e["epoch"], e[value] * factor) for e in histories[arm] if value in e]
        legend[arm] = f"{arm}  {known[-1][1]:.2f}{unit}" if known else arm
        if known:
            _line(score, *zip(*known, strict=True), arm, epochs)
    for place, term in enumerate(terms[:6]):
        axes = quiet(chart.add_subplot(grid[place // 3, 2 + place % 3]), "", "")
        axes.set_xlim(0, shown)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.set_title(f"{term} loss", fontsize=10, color=INK)
        for arm in arms:
            _term(axes, arm, term, histories[arm], pulses.get(arm, ()), epochs)
        low, high = axes.get_ylim()
        axes.set_ylim(min(0.0, low), high + 0.05 * (high - min(0.0, low)))
    draw_legend(chart, legend)
    done = max((len(history) for history in histories.values()), default=0)
    said = ", ".join(legend.values())
    message = f"Epoch {done} of {epochs}: {said}" if len(arms) < 4 else f"Epoch {done} of {epochs}"
    return chart.finish(
        title or message,
        f"{words(value)} over epochs and the loss terms {', '.join(terms)}, a line for each arm. "
        f"After epoch {done}: {said}.",
    )


def matrices_so_far(
    teacher: NDArray[Any],
    student: NDArray[Any],
    arm: str,
    labels: NDArray[Any] | None,
    alignments: Mapping[str, Sequence[tuple[float, float]]],
    epochs: int,
    title: str | None = None,
) -> Chart:
    """Does the student's kernel matrix become the teacher's? Both now, and their alignment so far.

    Args:
        teacher, student: kernel matrices ``(n, n)``, through the arm's own kernel and encoder.
        arm: whose they are.
        labels: classes ``(n,)`` to sort by; None: as they come.
        alignments: arm to (epochs with fractions, centred alignment by its biased estimator).
        epochs: that it will take.
        title: the message; without it, the alignment now.
    """
    n = len(teacher)
    order = np.arange(n) if labels is None else np.argsort(labels, kind="stable")
    chart = Chart(10.6, 3.5)
    *heat, curve = chart.subplots(1, 3, width_ratios=(1, 1, 1.25))
    pair = {"teacher": teacher, f"student, {arm}": student}
    for axes, (name, matrix) in zip(heat, pair.items(), strict=True):
        image = axes.imshow(
            matrix[np.ix_(order, order)], vmin=0, vmax=1, cmap="cividis", interpolation="nearest"
        )
        axes.set_title(name, fontsize=10, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_xlabel(f"{n} samples" + ("" if labels is None else ", by class"), fontsize=10)
    chart.colorbar(image, ax=heat, label="Kernel value", shrink=0.8)
    shown = _epochs_shown(epochs, [points[-1][0] for points in alignments.values()])
    quiet(curve, "Epoch", "Centred alignment").set(xlim=(0, shown), ylim=(0, 1.02))
    curve.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    for name in order_arms(alignments):
        _line(curve, *zip(*alignments[name], strict=True), name, epochs=POINTS + 1)
    draw_legend(chart, {name: f"{name}  {alignments[name][-1][1]:.2f}" for name in alignments})
    now = alignments[arm][-1][1] if alignments.get(arm) else float("nan")
    message = f"Alignment of the kernel matrices of {arm} with its teacher's: {now:.2f}"
    if now != now:
        message = f"The student of {arm} sees no difference between samples: nothing to align"
    kind = "sorted by class" if labels is not None else "as they come"
    return chart.finish(
        title or message,
        f"Kernel matrices of {n} samples, {kind}, of teacher and student, and the alignment of "
        f"each arm over epochs. {message}.",
    )


def _epochs_shown(epochs: int, done: Iterable[float]) -> float:
    """Where the axis of epochs ends: with the last one, or a little after where it is now."""
    if epochs <= POINTS:
        return 1.04 * max(epochs, 1)  # room for the last marker
    return min(epochs, max(10.0, 1.3 * max(done, default=0.0)))


def _terms(histories: Mapping[str, Sequence[Mapping[str, float]]], pulses: Pulses) -> list[str]:
    """The loss terms that anything is known of, in the order of the loss."""
    known = {name for history in histories.values() for epoch in history for name in epoch}
    known |= {name for points in pulses.values() for _, terms in points for name in terms}
    return [term for term in TERMS if term in known]


def _term(
    axes: Axes,
    arm: str,
    term: str,
    history: Sequence[Mapping[str, float]],
    pulses: Sequence[tuple[float, Mapping[str, float]]],
    epochs: int,
) -> None:
    """One term of one arm: a line through all that is known, a point for each whole epoch."""
    whole = [(float(epoch["epoch"]), epoch[term]) for epoch in history if term in epoch]
    between = [(at, terms[term]) for at, terms in pulses if term in terms and at % 1]
    if points := sorted([*whole, *between]):
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=arm_style(arm)["color"], lw=1.4, zorder=2)
    if whole and epochs <= POINTS // 2:
        axes.plot(*zip(*whole, strict=True), ls="", zorder=3, **marker(arm_style(arm), 4))


def _line(axes: Axes, x: Sequence[float], y: Sequence[float], arm: str, epochs: int) -> None:
    style = arm_style(arm)
    axes.plot(x, y, color=style["color"], lw=1.8, zorder=2)
    every = slice(None) if epochs <= POINTS else slice(-1, None)
    axes.plot(x[every], y[every], ls="", zorder=3, **marker(style, 6))


# ---- language


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
    from qrkd_lab.studies.language import windows

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
