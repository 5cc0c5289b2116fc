"""Students watched, and adapters alone."""

from __future__ import annotations

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.teaching.experiments import fit_adapter, record_snapshots, relation_value

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
    assert film.relation is None and film.own is None
    with pytest.raises(ValueError, match="'scratch' has no kernel term.*fit_adapter"):
        film.matrices()
    assert film.matrices(films["qrkd"].relation).shape == (3, 20, 20)


GENERATOR = torch.Generator().manual_seed(0)
TAUGHT = torch.randn(60, 8, generator=GENERATOR)
LEARNT = TAUGHT @ torch.randn(8, 10, generator=GENERATOR)  # a linear map of the teacher


def relation(kind="adapter", control=None):
    encoder = ql.Encoder(8, 10, 4, kind, seed=3)
    return ql.KernelRelation(ql.FidelityKernel("iqp", qubits=4, bandwidth=0.3), encoder, control)


def test_it_lowers_the_loss_and_changes_only_its_copy():
    given = relation()
    before = given.encoder.student_map.detach().clone()
    x = LEARNT[:, :7].clone().requires_grad_()  # of another width than the relation's student
    fresh, fitted = (fit_adapter(given, x, TAUGHT, steps) for steps in (0, 60))
    first, last = (relation_value(r, x, TAUGHT) for r in (fresh, fitted))
    assert last.item() < 0.5 * first.item()
    first.backward()
    assert x.grad is None and fresh.encoder.student_map.grad.abs().sum() > 0
    assert torch.equal(given.encoder.student_map, before)
    assert torch.equal(fitted.teacher(TAUGHT), given.teacher(TAUGHT))


def test_the_same_seed_gives_the_same_adapter_and_no_control_is_kept():
    one, other = (fit_adapter(relation(control="detached"), LEARNT, TAUGHT, 5) for _ in range(2))
    assert torch.equal(one.encoder.student_map, other.encoder.student_map)
    assert one.control is None
    third = fit_adapter(relation(), LEARNT, TAUGHT, 5, seed=1)
    assert not torch.equal(one.encoder.student_map, third.encoder.student_map)

    with pytest.raises(ValueError, match="no adapter to train"):
        fit_adapter(relation("projection"), LEARNT, TAUGHT)
    with pytest.raises(ValueError, match="same samples, got 5 .* and 60"):
        fit_adapter(relation(), LEARNT[:5], TAUGHT)
