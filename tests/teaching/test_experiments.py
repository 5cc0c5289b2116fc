"""Knobs turned, students watched, and adapters alone."""

from __future__ import annotations

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from scipy import stats

import qrkd_lab as ql
from qrkd_lab.studies.compare import compare
from qrkd_lab.teaching.experiments import (
    fit_adapter,
    knob_summary,
    record_snapshots,
    relation_value,
    same_at_all_values,
    sweep_students,
)


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


ARMS = ("scratch", "qrkd", "rbf")


@pytest.fixture(scope="module")
def bench():
    return ql.load_benchmark("digits", "smoke", epochs=2)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    return ql.compare("digits", ARMS, 1, "smoke", runs_dir=place, progress=False, epochs=2)


@pytest.fixture(scope="module")
def films(bench, study):
    return record_snapshots(bench, ARMS, 0, bench.model(study.runs[0]), count=20)


def test_the_students_are_those_of_a_study(study, films):
    for run in study.runs[1:]:
        live = films[run.settings["arm"]].model.state_dict()
        assert all(torch.equal(live[name], value) for name, value in run.weights().items())


def test_each_epoch_is_kept_and_the_last_is_the_model(bench, films):
    film = films["qrkd"]
    assert film.epochs == (0, 1, 2) and film.features.shape[:2] == (3, 20)
    part = bench.validation[:20]
    assert torch.equal(film.features[0], bench.predict(bench.student(0), part).features)
    assert torch.equal(film.features[-1], bench.predict(film.model, part).features)
    assert torch.equal(film.labels, part.labels)
    assert torch.equal(film.adapters[-1], film.relation.encoder.student_map.detach())
    assert not torch.equal(film.adapters[0], film.adapters[1])
    assert repr(film) == "Snapshots(qrkd seed 0, 3 of 20 samples)"


def test_matrices_go_through_the_adapter_of_their_epoch_or_a_given_relation(films):
    film = films["qrkd"]
    own, through = film.matrices(), film.matrices(film.relation)
    assert own.shape == (3, 20, 20)
    torch.testing.assert_close(own[-1], through[-1])
    assert not torch.allclose(own[0], through[0])
    target = film.relation.teacher(film.teacher_features)
    assert torch.equal(film.teacher_matrix(), target)
    assert film.alignments()[-1] == pytest.approx(ql.centred_alignment(own[-1], target))


def test_an_arm_without_kernel_needs_a_view(films):
    film = films["scratch"]
    assert film.relation is None and film.adapters is None
    with pytest.raises(ValueError, match="'scratch' has no kernel term.*fit_adapter"):
        film.matrices()
    assert film.matrices(films["qrkd"].relation).shape == (3, 20, 20)


def test_features_align_without_any_encoder(films):
    film = films["scratch"]
    x, t = film.features[1].double(), film.teacher_features.double()
    found = film.feature_alignments()
    assert len(found) == 3
    assert found[1] == pytest.approx(ql.centred_alignment(x @ x.T, t @ t.T))
    assert found[0] == films["rbf"].feature_alignments()[0]  # the same student at the start


def test_a_dead_student_aligns_with_nothing(films):
    dead = replace(films["qrkd"], features=torch.zeros_like(films["qrkd"].features))
    assert dead.feature_alignments() == dead.alignments() == [0.0, 0.0, 0.0]


GENERATOR = torch.Generator().manual_seed(0)
TAUGHT = torch.randn(60, 8, generator=GENERATOR)
LEARNT = TAUGHT @ torch.randn(8, 10, generator=GENERATOR)  # a linear map of the teacher


def relation(kind="adapter", control=None):
    encoder = ql.Encoder(8, 10, 4, kind, seed=3)
    return ql.KernelRelation(ql.FidelityKernel("iqp", qubits=4, bandwidth=0.3), encoder, control)


def test_it_lowers_the_loss_and_changes_only_its_copy():
    given = relation()
    before = given.encoder.student_map.detach().clone()
    fresh = fit_adapter(given, LEARNT, TAUGHT, steps=0)
    fitted = fit_adapter(given, LEARNT, TAUGHT, steps=60)
    first, last = (relation_value(r, LEARNT, TAUGHT).item() for r in (fresh, fitted))
    assert last < 0.5 * first
    assert torch.equal(given.encoder.student_map, before)
    assert torch.equal(fitted.teacher(TAUGHT), given.teacher(TAUGHT))


def test_the_same_seed_gives_the_same_adapter_and_no_control_is_kept():
    one, other = (fit_adapter(relation(control="detached"), LEARNT, TAUGHT, 5) for _ in range(2))
    assert torch.equal(one.encoder.student_map, other.encoder.student_map)
    assert one.control is None
    third = fit_adapter(relation(), LEARNT, TAUGHT, 5, seed=1)
    assert not torch.equal(one.encoder.student_map, third.encoder.student_map)


def test_students_of_another_width_can_be_seen_too():
    fitted = fit_adapter(relation(), LEARNT[:, :7], TAUGHT, 2)
    assert fitted.student(LEARNT[:, :7]).shape == (60, 60)


def test_the_student_gets_no_gradient():
    x = LEARNT.clone().requires_grad_()
    given = relation()
    relation_value(given, x, TAUGHT).backward()
    assert x.grad is None and given.encoder.student_map.grad.abs().sum() > 0


def test_wrong_features_are_told():
    with pytest.raises(ValueError, match="no adapter to train"):
        fit_adapter(relation("projection"), LEARNT, TAUGHT)
    with pytest.raises(ValueError, match="same samples, got 5 .* and 60"):
        fit_adapter(relation(), LEARNT[:5], TAUGHT)
