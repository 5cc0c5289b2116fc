"""Curves draw what the histories hold, seed by seed, and say what rises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from qrkd_lab.studies.records import Run, run_key
from qrkd_lab.teaching.plots.curves import histories, learning_curves, loss_terms
from qrkd_lab.teaching.plots.style import ARM_COLOURS

pytestmark = pytest.mark.filterwarnings("error")
TERMS = {"task": 2.0, "kd": 1.5, "distance": 0.3, "angle": 0.1, "kernel": 0.05}
COUNT = {"teacher": 1, "scratch": 1, "kd": 2, "rkd": 4, "qrkd": 5, "shuffled": 5}  # terms by arm


def make_run(arm: str, seed: int, epochs: int = 4, **more: Any) -> Run:  # noqa: ANN401
    rng = np.random.default_rng([seed, *arm.encode()])
    history = []
    for epoch in range(1, epochs + 1):
        terms = {n: TERMS[n] / epoch * float(rng.uniform(0.9, 1)) for n in [*TERMS][: COUNT[arm]]}
        score = {"validation_accuracy": float(rng.uniform(0.8, 0.9)) - 0.2 / epoch}
        history.append({"epoch": epoch, **terms, "total": sum(terms.values()), **score})
    chosen = {"benchmark": "mnist", "scale": "smoke", "arm": arm, "seed": seed} | more
    return Run(
        settings=chosen, key=run_key(chosen, "ab"), versions={}, device="cpu", data={},
        metric={"name": "test_accuracy"},
        parameters=8, history=history, metrics={}, seconds={}, finished="",
    )  # fmt: skip


STUDY = [make_run(arm, seed) for arm in COUNT for seed in range(5)]


def test_curves_draw_the_mean_only_where_every_seed_has_one() -> None:
    runs = [make_run("kd", 0, epochs=4), make_run("kd", 1, epochs=2)]
    lines = learning_curves(runs).axes[0].lines
    first, second = ([100 * e["validation_accuracy"] for e in run.history] for run in runs)
    (mean,) = (line.get_ydata() for line in lines if line.get_linewidth() > 1)
    assert mean == pytest.approx([(a + b) / 2 for a, b in zip(first, second, strict=False)])
    thin = [line.get_ydata() for line in lines if line.get_linewidth() < 1]
    assert thin == [pytest.approx(first), pytest.approx(second)]


def test_a_loss_term_is_called_a_loss_and_small_numbers_are_told_apart() -> None:
    figure = learning_curves(STUDY, "kernel")
    ends = [np.mean([r.history[-1]["kernel"] for r in STUDY if r.settings["arm"] == arm])
            for arm in ("qrkd", "shuffled")]  # fmt: skip
    low, high = sorted(ends)
    assert figure.get_suptitle() == (
        f"Kernel loss of the arms ends between {low:.3g} and {high:.3g}"
    )
    assert figure.axes[0].get_ylabel() == "Kernel loss"
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [
        f"{arm}  {end:.3g}" for arm, end in zip(("qrkd", "shuffled"), ends, strict=True)
    ]


def test_curves_without_a_shared_epoch_are_still_drawn(tmp_path: Path) -> None:
    late = replace(make_run("kd", 1), history=[{"epoch": 9, "validation_accuracy": 0.5}])
    figure = learning_curves([make_run("kd", 0), late])
    assert figure.get_suptitle() == "Validation accuracy over epochs"
    figure.savefig(tmp_path / "drawn.png")
    assert np.asarray(Image.open(tmp_path / "drawn.png").convert("RGB")).std() > 5


def test_loss_terms_have_a_panel_each() -> None:
    figure = loss_terms(STUDY)
    assert [axes.get_title() for axes in figure.axes] == [*TERMS, "total"]
    kernel = figure.axes[4]
    colours = {to_hex(line.get_color()).upper() for line in kernel.lines}
    assert colours == {ARM_COLOURS["qrkd"], ARM_COLOURS["shuffled"]}
    assert "kernel of qrkd from 0.0" in figure.alt


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: learning_curves([]), "expected runs"),
        (lambda: learning_curves(STUDY, "f1"), "'f1'; choose from task"),
        (
            lambda: learning_curves([*STUDY, make_run("kd", 0, scale="paper")]),
            "one benchmark",
        ),
        (lambda: loss_terms([]), "expected runs"),
        (lambda: loss_terms([replace(STUDY[0], history=[])]), "expected a loss term"),
    ],
)
def test_wrong_input_is_told(draw: Any, says: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=says):
        draw()


def test_histories_are_a_row_per_run_and_epoch() -> None:
    table = histories(STUDY)
    assert len(table) == sum(len(run.history) for run in STUDY)
    run = next(r for r in STUDY if r.settings["arm"] == "qrkd" and r.settings["seed"] == 2)
    rows = table[(table["arm"] == "qrkd") & (table["seed"] == 2)]
    assert list(rows["kernel"]) == [entry["kernel"] for entry in run.history]
    assert set(table.dropna(subset="kernel")["arm"]) == {"qrkd", "shuffled"}
