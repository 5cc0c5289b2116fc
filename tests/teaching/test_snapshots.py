"""Snapshots: they are of the study's own students, and each epoch is seen as it was."""

from __future__ import annotations

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.teaching.experiments import record_seeds, record_snapshots

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


def test_seeds_in_processes_give_the_same(bench, study, films):
    teacher = bench.model(study.runs[0])
    found = record_seeds(bench, ["qrkd"], [teacher, teacher], count=20, jobs=2)
    assert [film["qrkd"].seed for film in found] == [0, 1]
    assert torch.equal(found[0]["qrkd"].features, films["qrkd"].features)
    assert torch.equal(found[0]["qrkd"].matrices(), films["qrkd"].matrices())


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
    from dataclasses import replace

    dead = replace(films["qrkd"], features=torch.zeros_like(films["qrkd"].features))
    assert dead.feature_alignments() == dead.alignments() == [0.0, 0.0, 0.0]
