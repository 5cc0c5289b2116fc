"""Figures that compare arms: what the numbers say, in the arms' colours, without warnings."""

from __future__ import annotations

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from qrkd_lab.studies.arms import get_arm
from qrkd_lab.studies.records import Run, run_key
from qrkd_lab.studies.summary import improvement_table, results, summary
from qrkd_lab.teaching import plots
from qrkd_lab.teaching.plots.scores import PARTS, arm_grid, detectable_curve, improvements
from qrkd_lab.teaching.plots.style import ARM_COLOURS, Chart
from tests.studies.test_summary import IMAGES, QRKD, RKD, TEXT, make_study

pytestmark = pytest.mark.filterwarnings("error")

ARMS = {"teacher": 0.98, "scratch": 0.90, "kd": 0.92, "rkd": 0.93, "qrkd": 0.94, "shuffled": 0.93}
TERMS = {"task": 2.0, "kd": 1.5, "distance": 0.3, "angle": 0.1, "kernel": 0.05}


def make_run(arm: str, seed: int, epochs: int = 4, **more: object) -> Run:
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

STUDIES = {"mnist": IMAGES, "ptb": TEXT}

FIGURES = {
    "accuracy": lambda: plots.scores_by_arm(RESULTS),
    "differences": lambda: plots.paired_differences(summary(RESULTS)),
    "curves": lambda: plots.learning_curves(STUDY),
    "terms": lambda: plots.loss_terms(STUDY),
    "kernels": lambda: plots.kernel_matrices(KERNELS, LABELS),
    "two seeds": lambda: plots.scores_by_arm(RESULTS[RESULTS["seed"] < 2]),
    "two differences": lambda: plots.paired_differences(summary(RESULTS[RESULTS["seed"] < 2])),
    "one epoch": lambda: plots.learning_curves([make_run("kd", 0, epochs=1)]),
    "one run": lambda: plots.loss_terms([make_run("teacher", 0)]),
    "one class": lambda: plots.kernel_matrices({"a": np.eye(4)}, np.zeros(4)),
    "negative": lambda: plots.kernel_matrices({k: -np.eye(2) for k in "abcd"}, [1, 0]),
    "spectra": lambda: plots.spectra({"teacher": KERNEL, "ones": torch.ones(20, 20)}),
    "seeds": lambda: detectable_curve({"mnist": 0.1, "ptb": 2.0}, 0.5),
    "benchmarks": lambda: improvements(STUDIES),
    "over epochs": lambda: plots.differences_over_epochs(STUDY),
}


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MPLBACKEND", "agg")


def png(figure: Chart) -> np.ndarray:
    data, _ = figure._repr_mimebundle_()
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB"))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_rendered_titled_readable_and_described(name: str):
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


def test_threads_draw_the_same_as_one_thread():
    alone = png(FIGURES["seeds"]())
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda _: png(FIGURES["seeds"]()), range(3)))
    assert all(np.array_equal(alone, other) for other in together)


def test_accuracy_draws_every_seed_joins_pairs_and_shows_the_interval():
    axes = plots.scores_by_arm(RESULTS).axes[0]
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


def test_differences_draw_the_interval_the_seeds_and_zero():
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


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: plots.scores_by_arm(RESULTS[:0]), "a row per run"),
        (lambda: plots.scores_by_arm(RESULTS, "f1"), "unknown metric 'f1'; choose from"),
        (lambda: plots.paired_differences(summary(RESULTS[RESULTS["arm"] == "rkd"])), "besides"),
        (lambda: detectable_curve({}, 0.5), "names to spreads"),
        (lambda: arm_grid(["x"]), "choose from scratch"),
    ],
)
def test_wrong_input_is_told(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()


def test_a_line_a_benchmark_with_the_numbers_of_the_table_and_digits_do_not_count():
    chart, table = improvements(STUDIES), improvement_table(STUDIES)
    axes = chart.axes[0]
    means = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert means == pytest.approx(list(table["improvement"]))
    said = " ".join(text.get_text() for text in axes.texts)
    assert "+1.25 points" in said and "-5.00 ppl" in said and "better →" in said
    more = improvements({"digits": IMAGES, **STUDIES})
    assert more.get_suptitle() == chart.get_suptitle() and len(more.axes[0].containers) == 3
    two = improvements({"imdb": make_study(rkd=RKD[:2], qrkd=QRKD[:2])})
    assert "no interval, " in two.alt and "nan" not in two.alt and "p unknown" in two.alt


def parts(name):
    return {part for part, has in PARTS.items() if has(get_arm(name))}


def test_every_control_lacks_what_it_is_a_control_for():
    whole = parts("qrkd")
    assert whole == set(PARTS)
    for arm, lacks in (
        ("shuffled", {"right pairs"}), ("detached", {"gradient"}), ("random_teacher", {"trained"}),
        ("no_entanglement", {"entangling"}), ("projected", {"fidelity"}),
        ("rbf", {"circuit", "fidelity", "entangling"}),
    ):  # fmt: skip
        assert whole - parts(arm) == lacks
    assert parts("rkd") == {"task", "outputs", "distances", "angles"}
    assert parts("rkd_only") == parts("rkd") - {"outputs"} and parts("scratch") == {"task"}


def test_filled_points_are_the_arms_own():
    figure = arm_grid(["rkd", "qrkd"])
    points = {to_hex(line.get_color()).upper(): line for line in figure.axes[0].lines}
    for arm in ("rkd", "qrkd"):
        at = points[ARM_COLOURS[arm]].get_xdata()
        assert {list(PARTS)[x] for x in at} == parts(arm)
