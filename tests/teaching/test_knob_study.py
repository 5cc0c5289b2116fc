"""A knob turned, students at each value: paired with one reference, summarised, tested."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from scipy import stats

from qrkd_lab.studies.compare import compare
from qrkd_lab.teaching.experiments import knob_summary, same_at_all_values, sweep_students


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    table = sweep_students("digits", "bandwidth", (None, 0.5), 2, "smoke", 1, runs, qubits=3)
    return runs, table


def test_differences_are_to_the_reference_of_the_same_seed(swept):
    runs, table = swept
    assert list(table["value"]) == [None, None, 0.5, 0.5] and set(table["knob"]) == {"bandwidth"}
    study = compare("digits", ["rkd", "qrkd"], 2, "smoke", 1, runs, progress=False, qubits=3,
                    bandwidth=0.5)  # fmt: skip
    assert study.notes[0].startswith("6 runs reused, 0 trained")  # it is the same study
    found = study.results.set_index(["arm", "seed"])["test_accuracy"]
    part = table[table["value"] == 0.5].set_index("seed")
    for seed in (0, 1):
        assert part.loc[seed, "test_accuracy"] == found["qrkd", seed]
        ahead = found["qrkd", seed] - found["rkd", seed]
        assert part.loc[seed, "test_accuracy_difference"] == ahead
    assert (part["bandwidth"] == 0.5).all() and "trained" in table.attrs["notes"][0]


def test_a_knob_that_the_reference_uses_is_refused(swept):
    with pytest.raises(ValueError, match="temperature changes rkd too"):
        sweep_students("digits", "temperature", (1.0, 2.0), 1, "smoke", 1, swept[0])


def by_hand(rows):
    columns = ["knob", "value", "seed", "test_accuracy", "test_accuracy_difference"]
    table = pd.DataFrame([("w", v, s, a, d) for v, s, a, d in rows], columns=columns)
    table["value"] = pd.Series([row[0] for row in rows], dtype=object)  # None is a value
    return table


TABLE = by_hand([
    *((None, s, 0.9 + d, d) for s, d in enumerate((0.01, 0.02, 0.03))),
    *((1.0, s, 0.8 + d, d) for s, d in enumerate((-0.1, -0.11, -0.12))),
    *((2.0, s, 0.7 + d, d) for s, d in enumerate((0.0, 0.01, -0.01))),
])  # fmt: skip


def test_a_summary_has_the_interval_of_each_value():
    found = knob_summary(TABLE)
    assert list(found.index) == [None, 1.0, 2.0]
    first = found.iloc[0]
    test = stats.ttest_1samp([0.01, 0.02, 0.03], 0.0)
    assert (first["low"], first["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert first["p"] == pytest.approx(2 * test.pvalue)  # Holm: the second smallest of three
    assert found["seeds"].tolist() == [3, 3, 3]


def test_with_two_seeds_there_is_a_mean_only():
    found = knob_summary(TABLE[TABLE["seed"] < 2])
    assert found["mean"].notna().all() and found[["low", "high", "p"]].isna().all(axis=None)


def test_friedman_asks_whether_the_knob_matters_at_all():
    wide = TABLE["test_accuracy"].to_numpy().reshape(3, 3)
    assert same_at_all_values(TABLE) == stats.friedmanchisquare(*wide).pvalue
    assert math.isnan(same_at_all_values(TABLE[TABLE["seed"] < 2]))
    assert math.isnan(same_at_all_values(TABLE.assign(test_accuracy=0.5)))
