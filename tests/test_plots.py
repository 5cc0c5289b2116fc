"""Figures: they draw what the numbers say, in the arms' colours, without warnings or pyplot."""

from __future__ import annotations

import base64
import io
import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from qrkd_lab import plots
from qrkd_lab.plots import ARM_COLOURS, ARM_MARKERS, Chart, arm_style
from qrkd_lab.report import results, summary
from qrkd_lab.runs import Run, run_key

pytestmark = pytest.mark.filterwarnings("error")
ARMS = {"teacher": 0.98, "scratch": 0.90, "kd": 0.92, "rkd": 0.93, "qrkd": 0.94, "shuffled": 0.93}
TERMS = {"task": 2.0, "kd": 1.5, "distance": 0.3, "angle": 0.1, "kernel": 0.05}


def make_run(arm: str, seed: int, epochs: int = 4, **more: Any) -> Run:  # noqa: ANN401
    rng = np.random.default_rng([seed, *arm.encode()])
    accuracy = float(ARMS[arm] + rng.normal(0, 0.005))
    count = {"teacher": 1, "scratch": 1, "kd": 2, "rkd": 4}.get(arm, 5)
    history = []
    for epoch in range(1, epochs + 1):
        terms = {n: v / epoch * float(rng.uniform(0.9, 1)) for n, v in list(TERMS.items())[:count]}
        terms["total"] = sum(terms.values())
        rising = {"train_accuracy": accuracy, "validation_accuracy": accuracy - 0.2 / epoch}
        history.append({"epoch": epoch, **terms, **rising})
    chosen = {"benchmark": "mnist", "scale": "smoke", "arm": arm, "seed": seed} | more
    metrics = {"test_accuracy": accuracy, "train_accuracy": accuracy + 0.01}
    metrics |= {} if arm == "teacher" else {"test_agreement": 0.9 + accuracy / 100}
    return Run(
        settings=chosen, key=run_key(chosen, "ab"), versions={}, device="cpu",
        data={"source": "words", "sha256": "ab"},
        metric={"name": "test_accuracy", "higher_is_better": True}, parameters=8,
        history=history, metrics=metrics, seconds={"train": 1.0}, finished="",
    )  # fmt: skip


STUDY = [make_run(arm, seed) for arm in ARMS for seed in range(5)]
RESULTS = results(STUDY)
LABELS = torch.arange(30) % 3
KERNEL = torch.exp(-torch.cdist(x := LABELS[:, None] + torch.linspace(0, 1, 30)[:, None], x))
KERNELS = {"teacher": KERNEL.clone().requires_grad_(), "rkd": KERNEL.numpy() ** 2}

FIGURES = {
    "accuracy": lambda: plots.accuracy_by_arm(RESULTS),
    "agreement": lambda: plots.accuracy_by_arm(RESULTS, "test_agreement"),
    "differences": lambda: plots.paired_differences(RESULTS),
    "curves": lambda: plots.learning_curves(STUDY),
    "terms": lambda: plots.loss_terms(STUDY),
    "kernels": lambda: plots.kernel_matrices(KERNELS, LABELS),
    "two seeds": lambda: plots.accuracy_by_arm(RESULTS[RESULTS["seed"] < 2]),
    "two seeds' differences": lambda: plots.paired_differences(RESULTS[RESULTS["seed"] < 2]),
    "one epoch": lambda: plots.learning_curves([make_run("kd", 0, epochs=1)]),
    "one run": lambda: plots.loss_terms([make_run("teacher", 0)]),
    "one arm": lambda: plots.accuracy_by_arm(RESULTS[RESULTS["arm"] == "kd"]),
    "only teachers": lambda: plots.accuracy_by_arm(RESULTS[RESULTS["arm"] == "teacher"]),
    "one class": lambda: plots.kernel_matrices({"a": np.eye(4)}, np.zeros(4)),
    "negative": lambda: plots.kernel_matrices({k: -np.eye(2) for k in "abcd"}, [1, 0]),
}


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "agg")


def png(figure: Chart) -> np.ndarray:
    data, _ = figure._repr_mimebundle_()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB"))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_rendered_titled_readable_and_described(name: str) -> None:
    figure = FIGURES[name]()
    pixels = png(figure)
    assert pixels.std() > 5  # something is drawn
    assert (pixels[:2] == 255).all() and (pixels[:, -2:] == 255).all()  # nothing is cut off
    assert figure.get_figwidth() <= 10
    title = figure.get_suptitle()
    assert len(title) > 10 and "nan" not in title
    assert figure.alt.startswith(title.replace("\n", " ")) and len(figure.alt) > len(title) + 20
    texts = [t for t in figure.findobj(lambda a: hasattr(a, "get_fontsize")) if t.get_text()]
    assert texts and min(t.get_fontsize() for t in texts) >= 9
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel()


@pytest.mark.parametrize("name", ["accuracy", "differences", "curves", "terms", "kernels"])
def test_the_caller_can_say_the_message(name: str) -> None:
    title = 'The "quantum" term & its <cost>'
    figure = {
        "accuracy": lambda: plots.accuracy_by_arm(RESULTS, title=title),
        "differences": lambda: plots.paired_differences(RESULTS, title=title),
        "curves": lambda: plots.learning_curves(STUDY, title=title),
        "terms": lambda: plots.loss_terms(STUDY, title=title),
        "kernels": lambda: plots.kernel_matrices(KERNELS, LABELS, title=title),
    }[name]()
    assert figure.get_suptitle() == title
    data, extra = figure._repr_mimebundle_()
    assert 'alt="The &quot;quantum&quot; term &amp; its &lt;cost&gt;.' in data["text/html"]
    assert data["text/plain"] == figure.alt == extra["image/png"]["alt"]


def test_no_pyplot_and_report_needs_no_matplotlib() -> None:
    code = (
        "import sys; from qrkd_lab import report; assert 'matplotlib' not in sys.modules; "
        "from qrkd_lab import plots; assert 'matplotlib.pyplot' not in sys.modules; "
        "assert 'seaborn' not in sys.modules"
    )
    root = Path(plots.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)


def test_a_notebook_shows_a_figure_as_the_last_value() -> None:
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(FIGURES["one run"]())
    assert data["image/png"] and data["text/html"].startswith("<img src=")


def test_threads_draw_the_same_as_one_thread() -> None:
    alone = png(FIGURES["accuracy"]())
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: png(FIGURES["accuracy"]()), range(4)))
    assert all(np.array_equal(alone, other) for other in together)


# Colours


def simulate(colour: str, matrix: list[list[float]]) -> np.ndarray:
    """CIE L*a*b* of a colour as seen with a deficiency (Machado et al. 2009, severity 1)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


SIGHT = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.mark.parametrize("sight", SIGHT)
def test_the_main_arms_are_told_apart_by_everyone(sight: str) -> None:
    main = ("teacher", "scratch", "kd", "rkd_only", "rkd", "qrkd")
    seen = {arm: simulate(ARM_COLOURS[arm], SIGHT[sight]) for arm in main}
    nearest = {
        pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in combinations(main, 2)
    }
    assert min(nearest.values()) > 15, min(nearest, key=nearest.get)
    everyone = [simulate(colour, SIGHT[sight]) for colour in ARM_COLOURS.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(everyone, 2)) > 8


def test_each_arm_has_its_own_colour_and_marker() -> None:
    arms = {"teacher", "scratch", "kd", "rkd_only", "rkd", "qrkd", "rbf", "cosine", "projected",
            "no_entanglement", "shuffled", "detached", "random_teacher"}  # fmt: skip
    assert set(ARM_COLOURS) == set(ARM_MARKERS) == arms
    assert len(set(ARM_COLOURS.values())) == len(set(ARM_MARKERS.values())) == len(arms)
    assert arm_style("qrkd") == {"color": "#D55E00", "marker": "o"}
    assert arm_style("my arm") == arm_style("my arm") and arm_style("my arm")["color"]


# What is drawn


def test_accuracy_draws_every_seed_joins_pairs_and_shows_the_interval() -> None:
    axes = plots.accuracy_by_arm(RESULTS).axes[0]
    for collection, arm in zip(axes.collections[::2], ARMS, strict=True):
        rows = RESULTS[RESULTS["arm"] == arm].sort_values("seed")
        drawn = np.asarray(collection.get_offsets())[:, 1]
        assert drawn == pytest.approx(rows["test_accuracy"].to_numpy() * 100)
        assert to_rgb(collection.get_facecolor()[0][:3]) == to_rgb(ARM_COLOURS[arm])
    joined = [line for line in axes.lines if line.get_color() == "#BBBBBB"]
    assert len(joined) == 5 and all(len(line.get_xdata()) == len(ARMS) - 1 for line in joined)
    frame = summary(RESULTS).frame
    bars = axes.containers
    for bar, arm in zip(bars, ARMS, strict=True):
        ends = bar[2][0].get_segments()[0][:, 1]
        assert ends == pytest.approx(frame.loc[arm, ["low", "high"]].to_numpy(float) * 100)


def test_differences_draw_the_interval_the_seeds_and_zero() -> None:
    found = summary(RESULTS)
    axes = plots.paired_differences(found).axes[0]
    arms = ["scratch", "kd", "qrkd", "shuffled"]
    assert [t.get_text() for t in axes.get_yticklabels()] == arms
    assert [b[0].get_xdata()[0] for b in axes.containers] == pytest.approx(
        found.frame.loc[arms, "difference"] * 100
    )
    wide = RESULTS.pivot(index="seed", columns="arm", values="test_accuracy") * 100
    for collection, arm in zip(axes.collections[::2], arms, strict=True):
        drawn = np.asarray(collection.get_offsets())[:, 0]
        assert drawn == pytest.approx((wide[arm] - wide["rkd"]).to_numpy())
    assert any(set(line.get_xdata()) == {0} for line in axes.lines)


def test_differences_say_who_is_better() -> None:
    def title(**shifts: list[float]) -> str:
        rows = {"arm": [], "seed": [], "test_accuracy": []}
        for arm, values in {"rkd": [0.0] * 5, **shifts}.items():
            for seed, value in enumerate(values):
                base = 0.9 + seed / 100 + value
                for name, item in zip(rows, (arm, seed, base), strict=True):
                    rows[name].append(item)
        return plots.paired_differences(pd.DataFrame(rows)).get_suptitle().replace("\n", " ")

    up, down = [0.010, 0.011, 0.012, 0.011, 0.010], [-0.010, -0.011, -0.012, -0.011, -0.010]
    none = [0.01, -0.01, 0.01, -0.01, 0.001]
    assert title(qrkd=up) == "qrkd is better than rkd"
    assert title(qrkd=up, kd=up) == "kd and qrkd are better than rkd"
    assert title(qrkd=up, kd=down, rbf=none) == (
        "qrkd is better than rkd; kd is worse than rkd; for the others these seeds cannot tell"
    )
    assert title(qrkd=none) == "No arm differs from rkd by more than these seeds could show"


def test_curves_draw_the_mean_only_where_every_seed_has_one() -> None:
    runs = [make_run("kd", 0, epochs=4), make_run("kd", 1, epochs=2)]
    axes = plots.learning_curves(runs).axes[0]
    mean = [line for line in axes.lines if line.get_linewidth() > 1][0].get_ydata()
    first, second = ([e["validation_accuracy"] for e in run.history] for run in runs)
    assert mean[:2] == pytest.approx([50 * (a + b) for a, b in zip(first, second, strict=False)])
    assert np.isnan(mean[2:]).all()
    thin = [line for line in axes.lines if line.get_linewidth() < 1]
    assert thin[0].get_ydata() == pytest.approx([100 * v for v in first])


def test_curves_without_a_shared_epoch_are_still_drawn() -> None:
    late = replace(make_run("kd", 1), history=[{"epoch": 9, "validation_accuracy": 0.5}])
    figure = plots.learning_curves([make_run("kd", 0), late])
    assert figure.get_suptitle() == "Validation accuracy over epochs" and png(figure).std() > 5


def test_loss_terms_have_a_panel_each_and_name_what_rises() -> None:
    figure = plots.loss_terms(STUDY)
    assert [axes.get_title() for axes in figure.axes] == [*TERMS, "total"]
    assert figure.get_suptitle() == "Every loss term ends below where it began"
    kernel = figure.axes[4]
    colours = {line.get_color() for line in kernel.lines}
    assert colours == {ARM_COLOURS["qrkd"], ARM_COLOURS["shuffled"]}
    run = make_run("qrkd", 0)
    up = [e | {"kernel": 0.1 * e["epoch"]} for e in run.history]
    title = plots.loss_terms([replace(run, history=up)]).get_suptitle()
    assert "kernel of qrkd ended higher than it began" in title.replace("\n", " ")


def test_kernels_are_sorted_share_a_scale_and_mark_classes() -> None:
    shuffle = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    labels = LABELS[shuffle]
    mixed = KERNEL[shuffle][:, shuffle]
    figure = plots.kernel_matrices({"a": mixed, "b": 3 * mixed}, labels, class_names="xyz")
    first, second = figure.axes[:2]
    order = np.argsort(labels.numpy(), kind="stable")
    drawn = np.asarray(first.images[0].get_array())
    assert drawn == pytest.approx(mixed.numpy()[order][:, order])
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0.0, 3.0)
    assert [t.get_text() for t in first.get_xticklabels()] == ["x", "y", "z"]
    edges = sorted({float(line.get_ydata()[0]) for line in first.lines[::2]})
    assert edges == [9.5, 19.5]
    same = labels[:, None] == labels[None, :]
    off = ~torch.eye(30, dtype=torch.bool)
    within, between = mixed[same & off].mean(), mixed[~same].mean()
    assert f"within {within:.2f}, between {between:.2f}" in first.get_title()
    assert f"a {within - between:+.2f}, b {3 * (within - between):+.2f}" in figure.get_suptitle()


# Wrong input


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: plots.accuracy_by_arm(RESULTS[:0]), "a row a run"),
        (lambda: plots.accuracy_by_arm(RESULTS, "f1"), "unknown metric 'f1'; choose from"),
        (lambda: plots.paired_differences(RESULTS[:0]), "a row a run"),
        (lambda: plots.paired_differences(RESULTS, "rbf"), "reference 'rbf'; arms here"),
        (lambda: plots.paired_differences(summary(RESULTS), "kd"), "compares with 'rkd'"),
        (lambda: plots.paired_differences(RESULTS[RESULTS["arm"] == "rkd"]), "one student besides"),
        (lambda: plots.learning_curves([]), "expected runs"),
        (lambda: plots.learning_curves(STUDY, "f1"), "'f1'; choose from task"),
        (
            lambda: plots.learning_curves([*STUDY, make_run("kd", 0, scale="paper")]),
            "one benchmark",
        ),
        (lambda: plots.loss_terms([]), "expected runs"),
        (lambda: plots.loss_terms([replace(STUDY[0], history=[])]), "expected a loss term"),
        (lambda: plots.kernel_matrices({}, LABELS), "names to matrices"),
        (
            lambda: plots.kernel_matrices({"a": KERNEL[:5]}, LABELS),
            r"labels \(30,\) and a \(5, 30\)",
        ),
        (lambda: plots.kernel_matrices({"a": KERNEL}, LABELS[:, None]), r"labels \(30, 1\)"),
        (
            lambda: plots.kernel_matrices({"a": KERNEL * math.nan}, LABELS),
            "a holds values that are",
        ),
        (lambda: plots.kernel_matrices({"a": np.zeros((0, 0))}, []), "one n > 0"),
    ],
)
def test_wrong_input_is_told(draw: Any, says: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=says):
        draw()
