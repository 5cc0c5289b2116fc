"""An adapter alone: it lowers the loss, moves nothing else, and starts anew each time."""

from __future__ import annotations

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.teaching.experiments import fit_adapter, relation_value

GENERATOR = torch.Generator().manual_seed(0)
TEACHER = torch.randn(60, 8, generator=GENERATOR)
STUDENT = TEACHER @ torch.randn(8, 10, generator=GENERATOR)  # a linear map of the teacher


def relation(kind="adapter", control=None):
    encoder = ql.Encoder(8, 10, 4, kind, seed=3)
    return ql.KernelRelation(ql.FidelityKernel("iqp", qubits=4, bandwidth=0.3), encoder, control)


def test_it_lowers_the_loss_and_changes_only_its_copy():
    given = relation()
    before = given.encoder.student_map.detach().clone()
    fresh = fit_adapter(given, STUDENT, TEACHER, steps=0)
    fitted = fit_adapter(given, STUDENT, TEACHER, steps=150)
    first, last = (relation_value(r, STUDENT, TEACHER).item() for r in (fresh, fitted))
    assert last < 0.3 * first
    assert torch.equal(given.encoder.student_map, before)
    assert torch.equal(fitted.teacher(TEACHER), given.teacher(TEACHER))


def test_the_same_seed_gives_the_same_adapter_and_no_control_is_kept():
    one, other = (fit_adapter(relation(control="detached"), STUDENT, TEACHER, 5) for _ in range(2))
    assert torch.equal(one.encoder.student_map, other.encoder.student_map)
    assert one.control is None
    third = fit_adapter(relation(), STUDENT, TEACHER, 5, seed=1)
    assert not torch.equal(one.encoder.student_map, third.encoder.student_map)


def test_students_of_another_width_can_be_seen_too():
    fitted = fit_adapter(relation(), STUDENT[:, :7], TEACHER, 2)
    assert fitted.student(STUDENT[:, :7]).shape == (60, 60)


def test_the_student_gets_no_gradient():
    x = STUDENT.clone().requires_grad_()
    given = relation()
    relation_value(given, x, TEACHER).backward()
    assert x.grad is None and given.encoder.student_map.grad.abs().sum() > 0


def test_wrong_input_is_told():
    with pytest.raises(ValueError, match="no adapter to train"):
        fit_adapter(relation("projection"), STUDENT, TEACHER)
    with pytest.raises(ValueError, match="same samples, got 5 .* and 60"):
        fit_adapter(relation(), STUDENT[:5], TEACHER)
