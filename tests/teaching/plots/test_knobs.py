"""Figures of knobs: sweeps on one scale, paired changes, students by value."""

from __future__ import annotations

import pandas as pd
import pytest

from qrkd_lab.teaching.experiments import MEASURES
from qrkd_lab.teaching.plots.kernels import (
    design_importances,
    knob_changes,
    knob_effect,
    knob_sweeps,
)

pytestmark = pytest.mark.filterwarnings("error")
ROWS = [("qubits", 2, 0.3), ("qubits", 4, 0.6), ("entangle", True, 0.5), ("entangle", False, 0.4),
        ("seed", 0, 0.5), ("seed", 1, 0.65)]  # fmt: skip
SWEEP = pd.DataFrame(ROWS, columns=["knob", "value", "alignment"]).assign(
    spread=0.2, rank=0.1, rbf=0.9
)


def title(figure):
    return figure.get_suptitle().replace("\n", " ")


def test_sweeps_are_a_panel_a_knob_on_one_scale():
    figure = knob_sweeps(SWEEP)
    assert title(figure) == (
        "Alignment with the classes, one knob turned: from 0.30 (qubits: 2) to 0.65 (random "
        "projection (seed): 1)"
    )
    assert [a.get_xlabel() for a in figure.axes] == [
        "Qubits", "Entangle", "Random projection (seed)"
    ]  # fmt: skip
    assert len({a.get_ylim() for a in figure.axes}) == 1
    assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == ["yes", "no"]
    line = figure.axes[0].lines[list(MEASURES).index("alignment")]
    assert line.get_ydata() == pytest.approx([0.3, 0.6])


@pytest.mark.parametrize(
    ("rule", "label"), [(True, "Bandwidth / the rule's"), (False, "Bandwidth")]
)
def test_a_bandwidth_of_the_rule_is_named_so(rule, label):
    table = SWEEP[:2].assign(knob="bandwidth")
    table.attrs["rule"] = rule
    assert knob_sweeps(table).axes[0].get_xlabel() == label


def test_changes_are_intervals_beside_zero():
    rows = [("qubits", 8, m, 0.1, -0.1, 0.3, 4) for m in MEASURES]
    rows += [("entangle", False, m, -0.2, -0.3, -0.1, 6) for m in MEASURES]
    columns = ["knob", "value", "measure", "mean", "low", "high", "same_sign"]
    figure = knob_changes(pd.DataFrame(rows, columns=columns))
    assert title(figure).endswith(
        "is clear of 0 at 1 of 2 turns; the largest, -0.20, by entangle: no"
    )
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["Qubits: 8", "Entangle: no"]
    assert "qubits 8 +0.10 [-0.10, +0.30]" in figure.alt and len(figure.axes) == len(MEASURES)


def test_importances_name_the_first_knob_and_the_fit():
    table = pd.DataFrame({"importance": [0.2, 0.9], "spread": [0.1, 0.1]}, ["qubits", "bandwidth"])
    table.attrs["r_squared"] = 0.75
    figure = design_importances({"spread": table})
    assert title(figure).endswith("the forest tells spread by bandwidth")
    assert "R² = 0.75" in figure.axes[0].get_title(loc="left")


def effect(values):
    rows = [
        ("bandwidth", v, s, d + 0.001 * s, d + 0.001 * s)
        for v, d in values for s in range(4)
    ]  # fmt: skip
    columns = ["knob", "value", "seed", "test_accuracy_difference", "test_agreement_difference"]
    table = pd.DataFrame(rows, columns=columns)
    table["value"] = pd.Series([row[1] for row in rows], dtype=object)  # None is a value
    return table


def test_the_effect_on_students_is_a_difference_by_seed():
    figure = knob_effect(effect([(0.1, -0.001), (None, 0.05), (1.0, 0.0)]))
    assert title(figure) == (
        "Bandwidth: intervals of the difference to rkd exclude 0 at 1 of 3 values for test "
        "accuracy, 1 of 3 values for test agreement"
    )
    loud = knob_effect(effect([(None, 0.0)]), setting="Weight 10")
    assert title(loud).startswith("Weight 10, bandwidth: intervals of")
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.1", "rule", "1"]
    seeds = axes.collections[2].get_offsets() if len(axes.collections) > 2 else None
    assert seeds is not None and "Test accuracy at rule: +5.15 points" in figure.alt
    assert axes.get_ylabel() == "Test accuracy minus rkd, points"


@pytest.mark.parametrize("draw", [knob_sweeps, knob_changes, knob_effect])
def test_nothing_is_not_drawn(draw):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(pd.DataFrame())


def test_no_importance_is_not_drawn():
    with pytest.raises(ValueError, match="nothing to draw"):
        design_importances({})
