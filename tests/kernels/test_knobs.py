"""Knobs of a kernel matrix: each is used, ranges are ranges, and a forest finds what matters."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from qrkd_lab.kernels import (
    Encoder,
    FidelityKernel,
    best_fit,
    centred_alignment,
    class_matrix,
    effective_rank,
    off_diagonal,
)
from qrkd_lab.kernels.encoders import calibrated
from qrkd_lab.teaching.experiments import (
    KNOBS,
    importances,
    kernel_of,
    measured,
    one_at_a_time,
    random_design,
)

SOURCE = torch.Generator().manual_seed(0)
LABELS = torch.arange(24) % 3
FEATURES = torch.randn(24, 8, generator=SOURCE) + 2 * torch.nn.functional.one_hot(LABELS, 8)


def test_the_numbers_are_those_of_the_matrix():
    found = measured(FEATURES, LABELS, feature_map="iqp", qubits=3, bandwidth=2.0, seed=5)
    angles = Encoder(8, 8, 3, "projection", 5).teacher(FEATURES).double()
    rule = calibrated(FidelityKernel("iqp", 3, 2), angles).bandwidth
    matrix = FidelityKernel("iqp", 3, 2, bandwidth=2 * rule)(angles)
    pairs = off_diagonal(matrix)
    assert found["used"] == 2 * rule
    kernel, own = kernel_of(FEATURES, feature_map="iqp", qubits=3, bandwidth=2.0, seed=5)
    assert torch.equal(kernel(own), matrix)
    assert found["spread"] == pytest.approx(pairs.variance**0.5)
    assert found["rank"] == pytest.approx(effective_rank(matrix) / 24)
    assert found["alignment"] == pytest.approx(centred_alignment(matrix, class_matrix(LABELS)))
    assert found["rbf"] == pytest.approx(max(0, best_fit(matrix, angles).r_squared))
    assert found["shots"] == pytest.approx(pairs.mean * (1 - pairs.mean) / pairs.variance)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("feature_map", "angle"), ("qubits", 4), ("layers", 1), ("entangle", False),
     ("encoder", "pca"), ("bandwidth", 0.5), ("rule", False), ("seed", 1)],
)  # fmt: skip
def test_each_knob_changes_something(knob, value):
    base = {"qubits": 3, "feature_map": "zz"}
    assert measured(FEATURES, LABELS, **base) != measured(FEATURES, LABELS, **base | {knob: value})


def test_every_knob_is_tried_above():
    marks = test_each_knob_changes_something.pytestmark[0].args[1]
    assert {knob for knob, _ in marks} == set(KNOBS)


def test_an_unknown_knob_lists_the_knobs():
    with pytest.raises(ValueError, match="unknown knob 'qubit'; choose from feature_map, qubits"):
        measured(FEATURES, LABELS, qubit=3)


def test_a_matrix_that_says_nothing_has_numbers():
    ones = measured(FEATURES, LABELS, qubits=2, rule=False, bandwidth=1e-9)
    assert ones["alignment"] == 0 and ones["rbf"] == 0 and ones["rank"] == pytest.approx(1 / 24)


def test_one_knob_moves_and_the_others_stand_still():
    knobs = {"qubits": [2, 3], "bandwidth": [1.0, 4.0]}
    table = one_at_a_time(FEATURES, LABELS, knobs, feature_map="angle", layers=1)
    assert list(table["knob"]) == ["qubits", "qubits", "bandwidth", "bandwidth"]
    own = measured(FEATURES, LABELS, feature_map="angle", layers=1, bandwidth=4.0)
    assert table.iloc[3][list(own)].to_dict() == own
    assert table.attrs["rule"] is True
    assert one_at_a_time(FEATURES, LABELS, {"qubits": [2]}, rule=False).attrs["rule"] is False


def test_a_design_draws_from_the_values_and_is_seeded():
    knobs = {"qubits": [2, 3], "encoder": ["pca", "truncate"]}
    design = random_design(FEATURES, LABELS, knobs, 6, seed=1, layers=1)
    assert set(design["qubits"]) == {2, 3} and set(design["encoder"]) == {"pca", "truncate"}
    pd.testing.assert_frame_equal(design, random_design(FEATURES, LABELS, knobs, 6, 1, layers=1))
    row = design.iloc[0]
    own = measured(FEATURES, LABELS, qubits=int(row["qubits"]), encoder=row["encoder"], layers=1)
    assert row["spread"] == own["spread"]


def test_a_forest_finds_the_knob_that_matters():
    source = np.random.default_rng(0)
    design = pd.DataFrame({
        "qubits": source.integers(2, 9, 90), "entangle": source.random(90) < 0.5,
        "encoder": source.choice(["pca", "truncate"], 90),
    })  # fmt: skip
    design["spread"] = (design["qubits"] - 5) ** 2 + 3.0 * (design["encoder"] == "pca")
    found = importances(design, ["qubits", "entangle", "encoder"], "spread")
    assert found["importance"].idxmax() == "qubits" and found.attrs["r_squared"] > 0.9
    assert found.loc["encoder", "importance"] > 0.05 > abs(found.loc["entangle", "importance"])
    with pytest.raises(ValueError, match="at least 30 settings"):
        importances(design[:20], ["qubits"], "spread")
    with pytest.raises(ValueError, match="unknown column 'rank'"):
        importances(design, ["qubits"], "rank")
    assert math.isfinite(found["spread"].sum())
