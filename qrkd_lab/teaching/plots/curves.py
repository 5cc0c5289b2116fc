"""Curves over epochs: how the arms learned, and which terms of the loss fell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from qrkd_lab.studies.statistics import interval
from qrkd_lab.studies.summary import in_logs, order_arms, own_unit, units
from qrkd_lab.teaching.plots.style import (
    INK,
    Chart,
    arm_style,
    draw_legend,
    log_ticks,
    marker,
    need,
    panels,
    quiet,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from qrkd_lab.studies.records import Run

__all__ = [
    "arms_so_far", "differences_over_epochs", "learning_curves", "live_curves", "loss_terms",
]  # fmt: skip


TERMS = ("total", "task", "kd", "distance", "angle", "kernel")


def learning_curves(
    runs: Sequence[Run], value: str | None = None, title: str | None = None
) -> Chart:
    """How did the arms learn? A thick line per arm (the mean over seeds), a thin one per seed.

    Args:
        runs: of one benchmark and scale.
        value: a column of their histories; None: the runs' own metric on the validation part.
        title: the message.

    Raises:
        ValueError: no runs, several benchmarks, or no run whose history holds ``value``.
    """
    table = _histories(runs)
    value = value or f"validation_{runs[0].metric['name'].removeprefix('test_')}"
    if value not in table or table[value].isna().all():
        known = ", ".join(table.columns.drop(["arm", "seed", "epoch"]))
        raise ValueError(f"no run's history holds {value!r}; choose from {known}.")
    factor, unit = units(value)
    name, digits = (f"{words(value)} loss", ".3g") if value in TERMS else (words(value), ".2f")
    table = table.dropna(subset=value)
    table[value] *= factor
    chart = Chart(8.0, 4.4)
    axes = quiet(chart.subplots(), "Epoch", name + unit.replace(" ", ", "))
    means = _draw_curves(axes, table, value)
    ends = {arm: f"{arm}  {mean.iloc[-1]:{digits}}{unit}" for arm, mean in means.items()}
    draw_legend(chart, {arm: ends.get(arm, arm) for arm in order_arms(table["arm"])})
    return chart.finish(
        title or f"{name} over epochs",
        "A thick line per arm, the mean over seeds, and a thin one per seed. At the end: "
        f"{', '.join(ends.values()) or 'unknown'}.",
    )


def differences_over_epochs(runs: Sequence[Run], reference: str = "rkd") -> Chart:
    """Does an arm leave the reference, and when? The validation score minus that of each seed.

    A line is the mean over seeds, its band the 95 % t-interval, each for its arm and epoch alone.
    Perplexities are compared by their ratio, in per cent.

    Args:
        runs: of one benchmark and scale, those of the reference among them.
        reference: an arm.

    Raises:
        ValueError: no runs, several benchmarks, or none of the reference.
    """
    table, metric = _histories(runs), runs[0].metric["name"]
    value = f"validation_{metric.removeprefix('test_')}"
    scores = table.pivot(index=["epoch", "seed"], columns="arm", values=value)
    need(reference in scores, f"runs of {reference}, e.g. arms=['{reference}', 'qrkd']")
    if in_logs(metric):
        unit, apart = "%", 100 * (scores.div(scores[reference], axis=0) - 1)
    else:
        unit, apart = own_unit(metric), units(metric)[0] * scores.sub(scores[reference], axis=0)
    apart = apart[[arm for arm in order_arms(apart) if arm not in (reference, "teacher")]]
    chart = Chart(8.6, 3.8)
    axes = chart.subplots()
    sns.lineplot(
        apart.melt(ignore_index=False, value_name="apart").reset_index(), x="epoch", y="apart",
        errorbar=lambda values: interval(values.to_numpy(), 0.95), err_kws={"alpha": 0.1, "lw": 0},
        legend=False, ax=axes, **_looks(apart),
    )  # fmt: skip
    axes.axhline(0, color=INK, lw=1.2, zorder=1)
    quiet(axes, "Epoch", f"{words(value)} against {reference}, {unit}")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ends = apart.groupby("epoch").mean().iloc[-1]
    said = {arm: f"{arm}  {end:+.2f}" for arm, end in ends.items()}
    draw_legend(chart, said)
    return chart.finish(
        f"At the end no mean is further than {ends.abs().max():.2f} {unit} from {reference}",
        f"Differences in {unit} over epochs, means with 95 % intervals. At the end: "
        f"{'; '.join(said.values())}.",
    )


def loss_terms(runs: Sequence[Run]) -> Chart:
    """Which terms of the loss fall? A panel per term, before its weight and on its own scale.

    Raises:
        ValueError: no runs, several benchmarks, or no loss term in any history.
    """
    table = _histories(runs)
    terms = [term for term in (*TERMS[1:], "total") if term in table]
    need(len(terms), "a loss term (task, kd, distance, ...) in the runs' histories")
    chart, places = panels(len(terms), height=2.4, rest=0.8)
    said = []
    for axes, term in zip(places, terms, strict=True):
        means = _draw_curves(quiet(axes, "Epoch", "Loss"), table.dropna(subset=term), term)
        axes.set_title(term, fontsize=11)
        axes.set_ylim(bottom=min(0.0, table[term].min()))
        said += [f"{term} of {arm} from {mean.iloc[0]:.3g} to {mean.iloc[-1]:.3g}"
                 for arm, mean in means.items()]  # fmt: skip
    draw_legend(chart, {arm: arm for arm in order_arms(table["arm"])})
    message = "The terms of the loss over epochs"
    return chart.finish(message, f"A panel per term, a line per arm: {'; '.join(said)}.")


def _histories(runs: Sequence[Run]) -> pd.DataFrame:
    """The histories of one study: a row per run and epoch, with ``arm`` and ``seed``."""
    need(len(runs), "runs, e.g. those of runs.read_runs(folder)")
    homes = sorted({f"{run.settings['benchmark']} {run.settings['scale']}" for run in runs})
    if len(homes) > 1:
        raise ValueError(f"expected the runs of one benchmark and scale, got {', '.join(homes)}.")
    rows = [
        {"arm": run.settings["arm"], "seed": run.settings["seed"]} | epoch
        for run in runs
        for epoch in run.history
    ]
    return pd.DataFrame(rows, columns=None if rows else ["arm", "seed", "epoch"])


def _looks(arms: Iterable[str]) -> dict[str, Any]:
    """What tells seaborn to draw each arm in its colour and with its marker."""
    looks = {arm: arm_style(arm) for arm in arms}
    return {
        "hue": "arm", "palette": {arm: look["color"] for arm, look in looks.items()},
        "style": "arm", "markers": {arm: look["marker"] for arm, look in looks.items()},
        "dashes": False,
    }  # fmt: skip


def _draw_curves(axes: Axes, table: pd.DataFrame, value: str) -> dict[str, pd.Series]:
    """Seeds as thin lines; each arm's mean, which is returned, where all its seeds have a value."""
    arms = order_arms(table["arm"])
    style = {"x": "epoch", "y": value, "legend": False, "ax": axes} | _looks(arms)
    thin = style | {"style": None, "markers": None, "estimator": None}
    sns.lineplot(table, units="seed", lw=0.7, alpha=0.3, **thin)
    seeds = table.groupby("arm")["seed"].transform("nunique")
    shared = table[table.groupby(["arm", "epoch"])["seed"].transform("size") == seeds]
    if len(shared):
        every = max(1, shared["epoch"].nunique() // 6)
        sns.lineplot(shared, errorbar=None, lw=1.8, markevery=every, **style)
    axes.set(xlabel="Epoch", ylabel=axes.get_ylabel())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    means = shared.groupby(["arm", "epoch"])[value].mean()
    return {arm: means[arm] for arm in arms if arm in means.index}


# ---- while arms train


def live_curves(
    rows: Iterable[Mapping[str, Any]],
    steps: int,
    heads: Mapping[str, str],
    log: Sequence[str] = (),
) -> Chart:
    """How do the arms learn, step by step? A panel per number, a line per arm.

    Args:
        rows: each with ``arm``, ``step`` and the numbers.
        steps: that it will take.
        heads: a number's name to what stands over its panel; the last is told in the title.
        log: numbers on a logarithmic axis.
    """
    table, chart = pd.DataFrame(rows), Chart(5.0 * len(heads), 3.6)
    places = chart.subplots(1, len(heads), squeeze=False)[0]
    look = _looks(table["arm"].unique())
    for axes, (number, head) in zip(places, heads.items(), strict=True):
        sns.lineplot(
            table, x="step", y=number, markeredgecolor="white", legend=axes is places[-1],
            ax=axes, **look,
        )  # fmt: skip
        axes.set(title=head, xlabel="Step", ylabel="", xlim=(-steps / 50, steps * 1.02))
        if number in log:
            axes.set_yscale("log")
            log_ticks(axes.yaxis)
        sns.despine(ax=axes)
    now = table.groupby("arm", sort=False).last()
    said = {
        head: ", ".join(f"{arm} {value:.3g}" for arm, value in now[number].items())
        for number, head in heads.items()
    }
    *_, last = said
    return chart.finish(
        f"{last}: {said[last]} after {table['step'].max()} of {steps} steps",
        "; ".join(f"{head}: {listed}" for head, listed in said.items()) + ".",
    )


Pulses = Mapping[str, Sequence[tuple[float, Mapping[str, float]]]]


def arms_so_far(
    histories: Mapping[str, Sequence[Mapping[str, float]]],
    epochs: int,
    value: str = "validation_accuracy",
    pulses: Pulses | None = None,
    others: Mapping[str, Sequence[Sequence[Mapping[str, float]]]] | None = None,
    pulls: Mapping[str, Mapping[str, float]] | None = None,
) -> Chart:
    """How do the arms learn, side by side? The validation score, and every loss term.

    Args:
        histories: arm to its epochs so far, as in a record; they may be empty.
        epochs: that it will take.
        value: the validation score, a column of the histories.
        pulses: arm to (epochs with fractions, loss terms), what is known between epochs.
        others: arm to the histories of other seeds: a band, the 95 % interval of their mean.
        pulls: arm to its pull now, by term (:func:`~qrkd_lab.teaching.live.pulls_of_terms`), drawn
            as bars below.

    Raises:
        ValueError: no arm.
    """
    need(len(histories), "a history for at least one arm")
    arms, pulses, others = order_arms(histories), pulses or {}, others or {}
    pulls = {arm: pulls[arm] for arm in arms if pulls and pulls.get(arm)}
    chart = Chart(10.6, 5.2 if pulls else 3.9)
    rows = (1, 1, 0.8) if pulls else (1, 1)
    grid = chart.add_gridspec(len(rows), 5, width_ratios=(1.3, 1.3, 1, 1, 1), height_ratios=rows)
    factor, unit = units(value)
    label = words(value) + unit.replace(" ", ", ")
    score = _epoch_axes(chart.add_subplot(grid[:2, :2]), epochs, "Epoch", label)
    legend, banded = {}, set()
    for arm in arms:
        if points := _band(others.get(arm, ()), value):
            banded.add(len(others[arm]))
            at, low, high = np.array(points).T
            colour = arm_style(arm)["color"]
            score.fill_between(at, factor * low, factor * high, color=colour, alpha=0.15, lw=0)
        known = [(e["epoch"], e[value] * factor) for e in histories[arm] if value in e]
        legend[arm] = f"{arm}  {known[-1][1]:.2f}{unit}" if known else arm
        _draw_line(score, known, arm)
    seen = [epoch for history in histories.values() for epoch in history]
    seen += [now for points in pulses.values() for _, now in points]
    terms = [term for term in TERMS if any(term in now for now in seen)]
    for place, term in enumerate(terms):
        axes = _epoch_axes(chart.add_subplot(grid[place // 3, 2 + place % 3]), epochs, ticks=3)
        axes.set_title(f"{term} loss", fontsize=10, color=INK)
        for arm in arms:
            points = [(float(e["epoch"]), e[term]) for e in histories[arm] if term in e]
            points += [(at, t[term]) for at, t in pulses.get(arm, ()) if term in t and at % 1]
            if points:
                axes.plot(*np.array(sorted(points)).T, color=arm_style(arm)["color"], lw=1.5)
        axes.set_ylim(bottom=0)
    draw_legend(chart, legend)
    done = max(map(len, histories.values()))
    said, now = ", ".join(legend.values()), f"Epoch {done} of {epochs}"
    more = _draw_pulls(chart.add_subplot(grid[2, :]), pulls) if pulls else ""
    if banded:
        seeds = " or ".join(map(str, sorted(banded)))
        score.set_title(f"bands: {seeds} other seeds", fontsize=10, color=INK)
        more = f" Bands: 95 % intervals of the mean of {seeds} other seeds.{more}"
    return chart.finish(
        f"{now}: {said}" if len(arms) < 4 else now,
        f"{words(value)} over epochs and the loss terms {', '.join(terms)}, a line for each arm. "
        f"After epoch {done}: {said}.{more}",
    )


def _band(
    seeds: Sequence[Sequence[Mapping[str, float]]], value: str
) -> list[tuple[float, float, float]]:
    """Epoch, and the ends of the mean's 95 % interval, where three seeds or more are known."""
    table = pd.DataFrame([epoch for history in seeds for epoch in history])
    if value not in table:
        return []
    found = [(at, *interval(of.to_numpy(), 0.95)) for at, of in table.groupby("epoch")[value]]
    return [point for point in found if not np.isnan(point).any()]


def _draw_pulls(axes: Axes, pulls: Mapping[str, Mapping[str, float]]) -> str:
    """Bars: each term's share in the sum of an arm's pulls; the same in words."""
    table = pd.DataFrame(pulls).reindex(TERMS).dropna(how="all").rename_axis("term")
    shares = 100 * table / table.sum().replace(0, 1)
    sns.barplot(
        shares.melt(var_name="arm", value_name="share", ignore_index=False).reset_index(),
        x="term", y="share", hue="arm", palette=_looks(pulls)["palette"], saturation=1,
        errorbar=None, legend=False, ax=quiet(axes, "", ""),
    )  # fmt: skip
    for bars in axes.containers:
        axes.bar_label(bars, fmt=_percent, fontsize=8, color=INK)
    axes.set(xlabel="", ylabel="% of its pulls", ylim=(0, 115), yticks=[0, 50, 100])
    doses = [f"{arm} {found['dose']:.2g}" for arm, found in pulls.items() if "dose" in found]
    head = "Which term moves the student? The pull of each weighted term at its features"
    if doses:
        head += f"; dose: {', '.join(doses)}"
    axes.set_title(head, fontsize=10, color=INK)
    known = shares.T.stack().items()
    said = "; ".join(f"{term} of {arm} {_percent(share)} %" for (arm, term), share in known)
    return f" {head}. {said}."


def _percent(share: float) -> str:
    return f"{share:.0f}" if share >= 10 else f"{share:.{1 + (share >= 1)}g}"


def _epoch_axes(axes: Axes, epochs: int, x: str = "", y: str = "", ticks: int = 6) -> Axes:
    quiet(axes, x, y).set_xlim(0, 1.04 * max(epochs, 1))  # room for the last marker
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
    return axes


def _draw_line(axes: Axes, points: Sequence[tuple[float, float]], arm: str) -> None:
    """A line with a marker at each point, or at the last one where there are many."""
    if points:
        at = {"markevery": [-1]} if len(points) > 30 else {}
        axes.plot(*zip(*points, strict=True), lw=1.8, zorder=2, **marker(arm_style(arm), 6), **at)
