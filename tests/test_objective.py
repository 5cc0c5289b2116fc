"""The whole loss: named terms, weights, what the arms share, and the controls."""

from __future__ import annotations

import math

import pytest
import torch

from qrkd_lab.kernels import Encoder, FidelityKernel, KernelRelation
from qrkd_lab.objective import DistillationLoss, Outputs, TeacherBatch


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def batch(seed: int = 3) -> tuple[Outputs, TeacherBatch, torch.Tensor]:
    student = Outputs(rows(8, 3, seed), rows(8, 5, seed + 1))
    teacher = Outputs(rows(8, 3, seed + 2), rows(8, 4, seed + 3))
    return student, TeacherBatch(teacher), torch.arange(8) % 3


def relation(control: str | None = None) -> KernelRelation:
    return KernelRelation(FidelityKernel("iqp", qubits=3), Encoder(4, 5, 3), control)


def test_the_total_is_the_weighted_sum_of_the_named_terms():
    loss = DistillationLoss(kd=0.5, distance=2.0, angle=3.0, kernel=(relation(), 7.0))
    total, terms = loss(*batch())
    assert list(terms) == ["task", "kd", "distance", "angle", "kernel"]
    weights = {"task": 1.0, "kd": 0.5, "distance": 2.0, "angle": 3.0, "kernel": 7.0}
    expected = sum(weights[name] * value.item() for name, value in terms.items())
    assert total.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("only", ["kd", "distance", "angle", "kernel"])
def test_each_term_of_the_whole_loss_has_a_gradient_of_its_own(only):
    weights = {only: 1.0} if only != "kernel" else {"kernel": (relation(), 1.0)}
    student, teacher, targets = batch()
    student.logits.requires_grad_()
    student.features.requires_grad_()
    _, terms = DistillationLoss(**weights)(student, teacher, targets)
    reached = student.logits if only == "kd" else student.features
    (gradient,) = torch.autograd.grad(terms[only], reached)
    assert gradient.abs().max() > 1e-6


def test_the_detached_control_has_no_gradient_at_the_student():
    """The trap this kit is built around: a kernel term that is logged, weighted, and idle."""
    student, teacher, targets = batch()
    student.features.requires_grad_()
    loss = DistillationLoss(kernel=(relation("detached"), 1000.0))
    _, terms = loss(student, teacher, targets)
    assert terms["kernel"] > 0
    terms["kernel"].backward()
    assert student.features.grad is None


def test_the_shuffled_control_permutes_the_teacher():
    student, teacher, _ = batch()
    shuffled = relation("shuffled")
    target = shuffled.teacher(teacher.outputs.features)
    _, used = shuffled.compared(student.features, target)
    assert not torch.equal(used, target)
    torch.testing.assert_close(used.flatten().sort().values, target.flatten().sort().values)


def test_random_teacher_takes_the_untrained_features():
    student, teacher, targets = batch()
    untrained = rows(8, 4, 50)
    loss = DistillationLoss(kernel=(relation("random_teacher"), 1.0))
    with pytest.raises(ValueError, match="untrained"):
        loss(student, teacher, targets)
    shared = TeacherBatch(teacher.outputs, untrained=lambda: untrained)
    usual = DistillationLoss(kernel=(relation(), 1.0))(student, teacher, targets)
    random = loss(student, shared, targets)
    assert not torch.isclose(random.terms["kernel"], usual.terms["kernel"])


def test_the_teachers_relations_are_computed_once_for_all_arms():
    student, teacher, targets = batch()
    calls = []

    def counted(features: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.zeros(8, 8)

    teacher.relation("mine", counted)
    teacher.relation("mine", counted)
    assert len(calls) == 1
    first, second = relation(), relation()
    assert first.teacher_key == second.teacher_key
    other = KernelRelation(FidelityKernel("iqp", qubits=3, bandwidth=0.5), Encoder(4, 5, 3))
    assert other.teacher_key != first.teacher_key


def test_weights_must_be_finite_and_not_negative():
    with pytest.raises(ValueError, match="weight of angle"):
        DistillationLoss(angle=-1.0)
    with pytest.raises(ValueError, match="weight of kd"):
        DistillationLoss(kd=math.nan)


def test_a_term_without_teacher_is_refused():
    student, _, targets = batch()
    with pytest.raises(ValueError, match="need a teacher"):
        DistillationLoss(kd=1.0)(student, None, targets)


def test_outputs_are_taken_as_a_teacher_and_other_things_are_not():
    student, teacher, targets = batch()
    loss = DistillationLoss(kd=1.0, kernel=(relation(), 1.0))
    plain, shared = loss(student, teacher.outputs, targets), loss(student, teacher, targets)
    assert torch.equal(plain.total, shared.total)
    with pytest.raises(TypeError, match="Outputs"):
        loss(student.logits, teacher, targets)
    with pytest.raises(TypeError, match="KernelRelation"):
        DistillationLoss(kernel=(FidelityKernel("iqp", qubits=3), 1.0))
    with pytest.raises(TypeError, match="KernelRelation"):
        KernelRelation(Encoder(4, 5, 3), FidelityKernel("iqp", qubits=3))


def test_the_repr_is_the_formula():
    loss = DistillationLoss(kd=1.0, angle=2.0, kernel=(relation(), 0.5))
    assert repr(loss).startswith("DistillationLoss(task + 1 kd(T=4) + 2 angle + 0.5 kernel(")
