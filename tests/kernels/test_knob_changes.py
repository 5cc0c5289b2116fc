"""Knobs turned on several projections: paired with the base, seed by seed."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from scipy import stats

from qrkd_lab.teaching.experiments import (
    KNOBS,
    MEASURES,
    measured,
    paired_changes,
    turned_on_projections,
)

SOURCE = torch.Generator().manual_seed(0)
LABELS = torch.arange(24) % 3
FEATURES = torch.randn(24, 8, generator=SOURCE) + 2 * torch.nn.functional.one_hot(LABELS, 8)
TURNS = {"qubits": [2, 3], "bandwidth": [1.0, 4.0], "entangle": [True, False]}


def test_every_projection_sees_every_turn():
    table = turned_on_projections(FEATURES, LABELS, TURNS, (3, 5), qubits=2)
    assert len(table) == 2 * 6 and list(table["seed"].unique()) == [3, 5]
    row = table.query("knob == 'bandwidth' and seed == 5").iloc[1]
    own = measured(FEATURES, LABELS, qubits=2, bandwidth=4.0, seed=5)
    assert row["value"] == 4.0 and row["alignment"] == own["alignment"]
    assert table.attrs["base"] == KNOBS | {"qubits": 2}


def test_changes_are_paired_and_the_base_is_none():
    # projections differ by far more than the turn does, and the turn is the same on all
    rows = [("layers", v, s, 10.0 * s + 0.3 * (v == 1) + 0.1 * (v == 1) * s)
            for v in (1, 2) for s in range(3)]  # fmt: skip
    rows += [("bandwidth", v, s, 10.0 * s - v * (s < 2)) for v in (1.0, 4.0) for s in range(3)]
    table = pd.DataFrame(rows, columns=["knob", "value", "seed", "alignment"])
    table = table.assign(**{name: 0.0 for name in MEASURES if name != "alignment"})
    table["value"] = pd.Series([row[1] for row in rows], dtype=object)
    table.attrs["base"] = KNOBS
    found = paired_changes(table).set_index(["knob", "value", "measure"])
    assert len(found) == 2 * len(MEASURES)
    own = found.loc[("layers", 1, "alignment")]
    test = stats.ttest_1samp([0.3, 0.4, 0.5], 0).confidence_interval()
    assert own[["mean", "low", "high"]].tolist() == pytest.approx([0.4, test.low, test.high])
    assert own["same_sign"] == 3
    wide = found.loc[("bandwidth", 4.0, "alignment")]
    assert wide["mean"] == pytest.approx(-2) and wide["same_sign"] == 2


def test_there_must_be_a_base_to_compare_with():
    with pytest.raises(ValueError, match="qubits: expected its base value 6 among the values"):
        turned_on_projections(FEATURES, LABELS, {"qubits": [2, 3]}, range(2))
    with pytest.raises(ValueError, match="seed is no knob here"):
        turned_on_projections(FEATURES, LABELS, {"seed": [0, 1]}, range(2))
