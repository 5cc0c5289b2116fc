"""Figures of a study, one function each; every one answers a question that its title answers.

Arms keep one colour and one marker through all figures (:data:`ARM_COLOURS`), chosen to be told
apart with a colour-vision deficiency too. Seeds are always drawn, not only their mean. Each figure
is a :class:`Chart`: a matplotlib figure without any global state (so it works headless, in threads
and in widgets), which shows itself as a cell's last value and carries a description in ``.alt``.
"""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

from qrkd_lab.report import Summary, order_arms, summary, units

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from qrkd_lab.runs import Run

__all__ = [
    "ARM_COLOURS", "ARM_MARKERS", "Chart", "accuracy_by_arm", "arm_style", "kernel_matrices",
    "learning_curves", "loss_terms", "paired_differences",
]  # fmt: skip

# Okabe & Ito's palette, then Tol's "muted" for the controls; markers tell apart what is close.
ARM_COLOURS = {
    "teacher": "#000000", "scratch": "#8C8C8C", "kd": "#E69F00", "rkd_only": "#56B4E9",
    "rkd": "#0072B2", "qrkd": "#D55E00", "rbf": "#009E73", "cosine": "#CC79A7",
    "projected": "#882255", "no_entanglement": "#999933", "shuffled": "#332288",
    "detached": "#DDCC77", "random_teacher": "#661100",
}  # fmt: skip
ARM_MARKERS = dict(zip(ARM_COLOURS, "*Xsv^oDPpdh<>", strict=True))
SPARE = ("#7A5195", "#B07D2B", "#2A7F9E", "#A23B4A", "#5B7F3A")  # for arms of the user's own
NOT_TERMS = ("epoch", "seconds", "learning_rate")
KEY = "small points: seeds; bars: intervals of the mean"
INK, FAINT = "#333333", "#DDDDDD"


class Chart(Figure):
    """A matplotlib figure that displays itself in a notebook, with ``alt`` as its alt text."""

    alt: str = ""

    def __init__(self, width: float, height: float) -> None:
        """A figure of this size in inches, laid out so that nothing overlaps."""
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:  # noqa: ANN401
        # A bare Figure shows as text unless pyplot is set up; and only HTML carries alt text there.
        drawn, packed = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=144)
        Image.open(drawn).convert("RGB").quantize(dither=Image.Dither.NONE).save(packed, "png")
        png = base64.b64encode(packed.getvalue()).decode()  # 256 colours: a third of the size
        width, height = (round(inches * 96) for inches in self.get_size_inches())  # CSS pixels
        alt = html.escape(self.alt, quote=True)
        image = f'<img src="data:image/png;base64,{png}" alt="{alt}" width="{width}">'
        data = {"image/png": png, "text/html": image, "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt, "width": width, "height": height}}

    def finish(self, title: str, alt: str) -> Chart:
        """Set the title (wrapped to the width) and the description; returns the figure."""
        wide = textwrap.fill(title, int(self.get_figwidth() * 9.5))
        self.suptitle(wide, x=0.01, ha="left", fontsize=12, fontweight="bold", color="black")
        self.alt = f"{title}. {alt}"
        return self


def arm_style(arm: str) -> dict[str, str]:
    """The colour and marker of an arm, always the same; an unknown arm's follow from its name."""
    number = crc32(arm.encode())
    colour = ARM_COLOURS.get(arm) or SPARE[number % len(SPARE)]
    return {"color": colour, "marker": ARM_MARKERS.get(arm, "o^sDvP"[number % 6])}


def accuracy_by_arm(
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
    _need(len(results), "a row a run, e.g. report.results(runs)")
    known = results.dropna(subset=metric) if metric in results else results
    found = summary(known, order_arms(known["arm"])[0], metric)
    factor, unit = units(metric)
    table = found.results.pivot(index="seed", columns="arm", values=metric) * factor
    arms = list(found.frame.index)
    students = [arm for arm in arms if arm != "teacher"]
    chart = Chart(min(10.0, max(6.0, 2.6 + 1.1 * len(arms))), 4.6)
    axes = _axes(chart.subplots(), f"Arm ({KEY})", _title(metric) + unit.replace(" ", ", "))
    where = {arm: i for i, arm in enumerate(arms)}
    for _, row in table[students].iterrows():
        axes.plot([where[a] - 0.1 for a in students], row, color="#BBBBBB", lw=0.8, zorder=1)
    for arm, row in found.frame.iterrows():
        style, seeds = arm_style(arm), table[arm].dropna()
        _points(axes, [where[arm] - 0.1] * len(seeds), seeds, style)
        _interval(axes, where[arm] + 0.14, row[["mean", "low", "high"]] * factor, style)
    axes.set_xticks(range(len(arms)), [arm.replace("_", "\n") for arm in arms])
    axes.set_xlim(-0.5, len(arms) - 0.5)
    means = found.frame.loc[students or arms, "mean"] * factor
    spans = table[students or arms].max() - table[students or arms].min()
    points, shown = " points" if unit else "", students or arms
    message = f"The seeds of {shown[0]} differ by up to {spans.max():.2f}{points}"
    if len(shown) > 1:
        message = (
            f"The arms' means differ by up to {means.max() - means.min():.2f}{points}, "
            f"the seeds of one arm by up to {spans.max():.2f}"
        )
    said = "; ".join(f"{arm} {_said(row, factor)}{unit}" for arm, row in found.frame.iterrows())
    return chart.finish(
        title or message,
        f"{_title(metric)} for each arm, one point a seed, with the mean and its 95 % interval: "
        f"{said}.",
    )


def paired_differences(
    study: Summary | pd.DataFrame, reference: str | None = None, title: str | None = None
) -> Chart:
    """Is an arm better than the reference, seed by seed?

    Small points are the differences of single seeds, the large point and its bar are their mean
    and its interval; right of them stands p after Holm's correction.

    Args:
        study: a :class:`~qrkd_lab.report.Summary`, or the results to make one from.
        reference: needed with results (``"rkd"`` if not given); with a summary, its own.
        title: the message; without it, the arms that are better or worse.

    Raises:
        ValueError: no other arm to compare, or another reference than the summary's.
    """
    if not isinstance(study, Summary):
        _need(len(study), "a row a run, e.g. report.results(runs)")
        study = summary(study, reference or "rkd")
    if reference not in (None, study.reference):
        raise ValueError(
            f"this summary compares with {study.reference!r}, not with {reference!r}: "
            f"make one by summary(results, reference={reference!r})."
        )
    rows = study.frame.drop(index=[study.reference, "teacher"], errors="ignore")
    _need(len(rows), f"at least one student besides {study.reference}")
    factor, unit = units(study.metric)
    table = study.results.pivot(index="seed", columns="arm", values=study.metric) * factor
    chart = Chart(8.0, 1.9 + 0.55 * len(rows))
    points = ", points" if unit else ""
    what = f"{_title(study.metric)} minus {study.reference}'s{points} ({KEY})"
    axes = _axes(chart.subplots(), what, "Arm", grid="x")
    for y, (arm, row) in enumerate(rows.iterrows()):
        style = arm_style(arm)
        seeds = (table[arm] - table[study.reference]).dropna()
        _points(axes, seeds, [y + 0.16] * len(seeds), style)
        mean = row[["difference", "difference_low", "difference_high"]] * factor
        _interval(axes, y - 0.12, mean, style, across=True)
        p = row["p_adjusted"]
        text = "" if math.isnan(p) else f"{p:.3f}" if p >= 0.001 else "< 0.001"
        axes.text(1.02, y, text, transform=axes.get_yaxis_transform(), va="center", fontsize=10)
    axes.axvline(0, color=INK, lw=1.2, zorder=1)
    axes.set_yticks(range(len(rows)), list(rows.index))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    sides = ("worse", "better") if study.higher_is_better else ("better", "worse")
    heads = [(0.0, "left", f"← {sides[0]}"), (1.0, "right", f"{sides[1]} →")]
    for x, side, text in [*heads, (1.02, "left", "  p (Holm)")]:
        axes.text(x, 1.02, text, transform=axes.transAxes, ha=side, fontsize=10, color=INK)
    said = " ".join(study.verdict(arm) for arm in rows.index)
    return chart.finish(title or _ranking(study, list(rows.index)), said)


def learning_curves(
    runs: Sequence[Run], value: str = "validation_accuracy", title: str | None = None
) -> Chart:
    """How did the arms learn? One line an arm (the mean over seeds), its seeds as thin lines.

    Raises:
        ValueError: no runs, several benchmarks, or no run whose history holds ``value``.
    """
    curves = {arm: curve * units(value)[0] for arm, curve in _curves(runs, value).items()}
    unit = units(value)[1]
    chart = Chart(8.0, 4.4)
    axes = _axes(chart.subplots(), "Epoch", _title(value) + unit.replace(" ", ", "))
    _draw_curves(axes, curves)
    last = {arm: curve.mean(axis=1, skipna=False).dropna() for arm, curve in curves.items()}
    ends = {arm: f"{mean.iloc[-1]:.2f}{unit}" for arm, mean in last.items() if len(mean)}
    _legend(chart, {arm: f"{arm}  {ends.get(arm, '')}" for arm in curves})
    values = [last[arm].iloc[-1] for arm in ends if arm != "teacher" or len(ends) == 1]
    message = f"{_title(value)} over epochs"
    if values:
        low, high = min(values), max(values)
        message = f"{_title(value)} of the arms ends between {low:.2f} and {high:.2f}{unit}"
    said = "; ".join(f"{arm} {end} after epoch {last[arm].index[-1]}" for arm, end in ends.items())
    return chart.finish(
        title or message,
        f"{_title(value)} over epochs, a thick line for each arm's mean over seeds and a thin line "
        f"for each seed. Means at the end: {said}.",
    )


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
    _need(len(terms), "a loss term (task, kd, distance, ...) in the runs' histories")
    columns = min(3, len(terms))
    height = math.ceil(len(terms) / columns)
    chart = Chart(3.0 * columns + 1.0, 2.4 * height + 0.8)
    panels = chart.subplots(height, columns, squeeze=False).ravel()
    arms, said, rising = [], [], []
    for axes, term in zip(panels, terms, strict=False):
        curves = _curves(runs, term)
        _draw_curves(_axes(axes, "Epoch", "Loss"), curves)
        axes.set_title(term, fontsize=11)
        axes.set_ylim(bottom=min(0.0, *(curve.min().min() for curve in curves.values())))
        arms += curves
        for arm, curve in curves.items():
            mean = curve.mean(axis=1)
            said.append(f"{term} of {arm} from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}")
            rising += [f"{term} of {arm}"] if mean.iloc[-1] > mean.iloc[0] else []
    for axes in panels[len(terms) :]:
        axes.remove()
    _legend(chart, {arm: arm for arm in order_arms(arms)})
    message = "Every loss term ends below where it began"
    if rising:
        message = f"Not every loss term falls: {', '.join(rising[:3])} ended higher than it began"
    return chart.finish(title or message, f"Loss terms over epochs: {'; '.join(said)}.")


def kernel_matrices(
    matrices: Mapping[str, ArrayLike],
    labels: ArrayLike,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Chart:
    """Does a kernel see the classes? Heat maps sorted by class, all on one colour scale.

    Args:
        matrices: name to kernel matrix (n, n), torch or numpy.
        labels: class of each sample (n,).
        title: the message; without it, how far within and between classes are apart.
        class_names: names to write at the axes, one a class number; else the numbers.

    Raises:
        ValueError: no matrix, a matrix that is not (n, n) or not finite, or labels not (n,).
    """
    classes = _array(labels)
    _need(len(matrices), 'a mapping from names to matrices, e.g. {"teacher": K}')
    kernels = {name: _square(name, matrix, classes) for name, matrix in matrices.items()}
    order = np.argsort(classes, kind="stable")
    found, starts = np.unique(classes[order], return_index=True)
    ends = np.append(starts[1:], len(classes))
    ticks = [str(class_names[int(c)]) if class_names is not None else str(c) for c in found]
    low = min(0.0, *(k.min() for k in kernels.values()))
    high = max(1.0, *(k.max() for k in kernels.values()))
    columns = min(3, len(kernels))
    height = math.ceil(len(kernels) / columns)
    chart = Chart(min(10.0, 3.0 * columns + 1.0), 3.2 * height + 0.6)
    panels = chart.subplots(height, columns, squeeze=False).ravel()
    colours = {"cmap": "cividis", "vmin": low, "vmax": high}
    said = []
    for axes, (name, kernel) in zip(panels, kernels.items(), strict=False):
        image = axes.imshow(kernel[np.ix_(order, order)], interpolation="nearest", **colours)
        for edge in starts[1:] - 0.5:
            axes.axhline(edge, color="white", lw=0.7)
            axes.axvline(edge, color="white", lw=0.7)
        axes.set_xticks((starts + ends - 1) / 2, ticks, fontsize=9)
        axes.set_yticks((starts + ends - 1) / 2, ticks, fontsize=9)
        axes.tick_params(length=0)
        within, between = _contrast(kernel, classes)
        numbers = f"within {within:.2f}, between {between:.2f}".replace("nan", "–")
        axes.set_title(f"{name}\n{numbers}", fontsize=10)
        said += [f"{name} {within - between:+.2f}"] if math.isfinite(within - between) else []
        axes.set_xlabel("Class of sample", fontsize=10)
    panels[0].set_ylabel("Class of sample", fontsize=10)
    for axes in panels[len(kernels) :]:
        axes.remove()
    chart.colorbar(image, ax=list(panels[: len(kernels)]), label="Kernel value", shrink=0.85)
    message = f"Likeness within a class minus between classes: {', '.join(said)}"
    if not said:
        message = "Too few samples or classes to compare likeness within and between"
    count = f"{len(kernels)} kernel matrices of {len(classes)} samples in {len(found)} classes"
    return chart.finish(title or message, f"{count}; {message}." if title else f"{count}.")


def _need(count: int, what: str) -> None:
    if not count:
        raise ValueError(f"nothing to draw: expected {what}, got none.")


def _axes(axes: Axes, x: str, y: str, grid: str = "y") -> Axes:
    """Quiet axes: labels, a faint grid behind the data, no box."""
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9.5, color=FAINT, labelcolor=INK)
    axes.grid(axis=grid, color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return axes


def _interval(
    axes: Axes, at: float, row: pd.Series, style: Mapping[str, str], across: bool = False
) -> None:
    mean, low, high = row
    bar = None if math.isnan(low) else [[mean - low], [high - mean]]
    place = {"x": mean, "y": at, "xerr": bar} if across else {"x": at, "y": mean, "yerr": bar}
    axes.errorbar(**place, lw=2, capsize=4, capthick=2, zorder=3, **_mark(style, 9))


def _points(axes: Axes, x: ArrayLike, y: ArrayLike, style: Mapping[str, str]) -> None:
    size = 60 if style["marker"] == "*" else 24
    axes.scatter(x, y, s=size, alpha=0.75, zorder=2, lw=0, **style)


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _said(row: pd.Series, factor: float) -> str:
    mean, low, high = (row[name] * factor for name in ("mean", "low", "high"))
    return f"{mean:.2f}" + ("" if math.isnan(low) else f" ({low:.2f} to {high:.2f})")


def _ranking(study: Summary, arms: Sequence[str]) -> str:
    """The verdicts in one line: what a forest plot's title says."""
    alone = study.frame.loc[arms]
    sure = alone.index[alone["p_adjusted"] < 1 - study.confidence]
    if not len(sure):
        return f"No arm differs from {study.reference} by more than these seeds could show"
    higher = alone["difference"] > 0
    better = [arm for arm in sure if higher[arm] == study.higher_is_better]
    worse = [arm for arm in sure if arm not in better]
    parts = [("better", better), ("worse", worse)]
    said = [
        f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} {word} than {study.reference}"
        for word, names in parts
        if names
    ]
    rest = "; for the others these seeds cannot tell" if len(sure) < len(arms) else ""
    return "; ".join(said) + rest


def _one_study(runs: Sequence[Run]) -> list[Run]:
    runs = list(runs)
    _need(len(runs), "runs, e.g. those of runs.read_runs(folder)")
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
        axes.plot(shown.index, shown, ls="", zorder=3, **_mark(style))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def _legend(chart: Chart, labels: Mapping[str, str]) -> None:
    handles = [
        Line2D([], [], lw=1.8, label=text, **_mark(arm_style(arm))) for arm, text in labels.items()
    ]
    chart.legend(handles=handles, loc="outside right center", frameon=False, fontsize=10)


def _mark(style: Mapping[str, str], size: float = 7.0) -> dict[str, Any]:
    """Line2D's settings of a marker with a white edge; a star needs more room."""
    size *= 1.6 if style["marker"] == "*" else 1
    return {**style, "ms": size, "mec": "white", "mew": 0.6}


def _array(values: ArrayLike) -> np.ndarray:
    """Torch (on any device, with or without gradient) or array-like to numpy."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _square(name: str, matrix: ArrayLike, classes: np.ndarray) -> np.ndarray:
    kernel = _array(matrix)
    n = len(classes) if classes.ndim == 1 else 0
    if not n or kernel.shape != (n, n):
        raise ValueError(
            f"expected labels (n,) and matrices (n, n) with one n > 0; got labels "
            f"{classes.shape} and {name} {kernel.shape}."
        )
    if not np.isfinite(kernel).all():
        raise ValueError(f"{name} holds values that are not finite: look for NaN in its features.")
    return kernel.astype(float)


def _contrast(kernel: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Mean kernel value within a class (without the diagonal) and between classes."""
    same = classes[:, None] == classes[None, :]
    others = ~np.eye(len(classes), dtype=bool)
    parts = (kernel[same & others], kernel[~same])
    within, between = (part.mean() if part.size else math.nan for part in parts)
    return float(within), float(between)
