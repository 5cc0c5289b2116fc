"""The whole loss: named terms, weights, what the arms share, and the controls."""

from __future__ import annotations

import math

import pytest
import torch

from qrkd_lab.kernels import Encoder, FidelityKernel, KernelRelation
from qrkd_lab.losses import (
    IGNORED,
    DistillationLoss,
    Losses,
    Outputs,
    TeacherBatch,
    term_gradients,
)


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


def test_weighted_gradients_of_the_terms_add_up_to_the_total():
    student, teacher, targets = batch()
    leaves = [x.requires_grad_() for x in student]
    loss = DistillationLoss(0.5, 2.0, 3.0, (relation(), 7.0))
    losses = loss(student, teacher, targets)
    found = term_gradients(losses, leaves)
    assert all(gradient.any() for gradient in found.values())
    weighted = sum({"task": 1.0, **loss.weights}[name] * g for name, g in found.items())
    total = torch.autograd.grad(losses.total, leaves)
    torch.testing.assert_close(weighted, torch.cat([g.flatten() for g in total]))


def test_a_term_without_a_path_has_gradient_zero_and_leaves_must_ask_for_one():
    student, teacher, targets = batch()
    student.features.requires_grad_()
    losses = DistillationLoss(kernel=(relation("detached"), 1.0))(student, teacher, targets)
    assert losses.terms["kernel"].requires_grad and not losses.terms["task"].requires_grad
    assert not any(g.any() for g in term_gradients(losses, [student.features]).values())
    for leaves in ([], [torch.zeros(2)]):
        with pytest.raises(ValueError, match="student.parameters"):
            term_gradients(Losses(torch.zeros(()), {}), leaves)


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


def everything(control: str | None = None) -> DistillationLoss:
    return DistillationLoss(kd=0.5, distance=2.0, angle=3.0, kernel=(relation(control), 7.0))


def terms_and_gradients(loss, student, teacher, targets):
    """Each term, and the gradient of the total at logits and features."""
    leaves = [x.detach().clone().requires_grad_() for x in student]
    total, terms = loss(Outputs(*leaves), teacher, targets)
    total.backward()
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
    return {name: value.detach() for name, value in (terms | {"total": total}).items()}, gradients


@pytest.mark.parametrize("control", [None, "detached", "random_teacher"])
@pytest.mark.parametrize("kept", [1, 2, 3, 6])
def test_a_prediction_with_an_ignored_target_counts_in_no_term(kept, control):
    student, teacher, targets = batch()
    other = rows(8, 4, 50)
    rest = torch.arange(8) < kept
    loss, masked = everything(control), torch.where(rest, targets, IGNORED)
    few = TeacherBatch(Outputs(*(x[rest] for x in teacher.outputs)), lambda: other[rest])
    expected = terms_and_gradients(loss, Outputs(*(x[rest] for x in student)), few, targets[rest])
    for left_out in (rows(8, 3, 60), 1e4 * rows(8, 3, 61), torch.full((8, 3), 1e30)):
        filled = Outputs(
            torch.where(rest[:, None], student.logits, left_out),
            torch.where(rest[:, None], student.features, left_out.repeat(1, 2)[:, :5]),
        )
        shared = TeacherBatch(teacher.outputs, lambda: other)
        terms, gradients = terms_and_gradients(loss, filled, shared, masked)
        for name, value in expected[0].items():
            torch.testing.assert_close(terms[name], value, msg=name)
        for found, wanted in zip(gradients, expected[1], strict=True):
            torch.testing.assert_close(found[rest], wanted)
            assert (found[~rest] == 0).all()


@pytest.mark.parametrize("samples", [8, 5], ids=["a sample each", "samples of their own"])
def test_a_batch_of_nothing_but_ignored_targets_has_no_loss_and_no_pull(samples):
    student, teacher, targets = batch()
    few = Outputs(student.logits, student.features[:samples])
    taught = Outputs(teacher.outputs.logits, teacher.outputs.features[:samples])
    terms, gradients = terms_and_gradients(
        everything(), few, taught, torch.full_like(targets, IGNORED)
    )
    assert list(terms) == ["task", "kd", "distance", "angle", "kernel", "total"]
    assert all(value == 0 for value in terms.values())
    assert all((gradient == 0).all() for gradient in gradients)


@pytest.mark.parametrize("t", [2, 3, 4])  # as many tokens as classes, too
def test_sequences_are_their_tokens(t):
    logits, taught, targets = rows(6 * t, 3, 1), rows(6 * t, 3, 2), torch.arange(6 * t) % 3
    targets[::4] = IGNORED
    features = rows(6, 5, 3), rows(6, 4, 4)
    flat = everything()(Outputs(logits, features[0]), Outputs(taught, features[1]), targets)
    whole = everything()(
        Outputs(logits.reshape(6, t, 3), features[0]),
        Outputs(taught.reshape(6, t, 3), features[1]),
        targets.reshape(6, t),
    )
    for name, value in flat.terms.items():
        torch.testing.assert_close(whole.terms[name], value, msg=name)


def test_a_sequence_of_ignored_targets_is_no_sample():
    student = Outputs(rows(24, 3, 1).reshape(8, 3, 3), rows(8, 5, 3))
    teacher = Outputs(rows(24, 3, 2).reshape(8, 3, 3), rows(8, 4, 4))
    targets = (torch.arange(24) % 3).reshape(8, 3)
    targets[5:] = IGNORED
    targets[0, 1] = IGNORED
    found, _ = terms_and_gradients(everything(), student, teacher, targets)
    few = (Outputs(*(x[:5] for x in one)) for one in (student, teacher))
    expected, _ = terms_and_gradients(everything(), *few, targets[:5])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.int16, torch.bool])
def test_any_whole_numbers_are_classes(dtype):
    student, teacher, targets = batch()
    targets = (targets % 2).to(dtype)
    found = everything()(student, teacher, targets)
    assert torch.equal(found.total, everything()(student, teacher, targets.long()).total)


@pytest.mark.parametrize(
    ("logits", "targets", "error", "says"),
    [
        ((8, 3), torch.rand(8, 3), TypeError, "soft targets"),
        ((8, 3), torch.rand(8), TypeError, "whole numbers, got torch.float32"),
        ((8, 3), [0] * 8, TypeError, "whole numbers, got list"),
        ((8, 1), torch.zeros(8).long(), ValueError, "single logit"),
        ((8, 1), torch.rand(8), ValueError, "single logit"),
        ((8,), torch.zeros(8).long(), ValueError, "single logit"),
        ((8, 3), torch.zeros(7).long(), ValueError, r"shape \(8,\) .*got \(7,\)"),
        ((8, 3), torch.zeros(8, 1).long(), ValueError, r"shape \(8,\) .*got \(8, 1\)"),
        ((8, 4, 3), torch.zeros(8, 3).long(), ValueError, r"shape \(8, 4\)"),
        ((8, 4, 3), torch.zeros(8).long(), ValueError, r"shape \(8, 4\)"),
        ((8, 3), torch.full((8,), 3), ValueError, "classes 0 to 2 .* got 3 to 3"),
        ((8, 3), torch.tensor([-1, 0, 1, 2, -100, 0, 0, 0]), ValueError, "got -1 to 2"),
    ],
)
def test_targets_that_are_no_classes_are_refused(logits, targets, error, says):
    with pytest.raises(error, match=says):
        DistillationLoss()(Outputs(torch.zeros(logits), rows(8, 5)), None, targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_changes_the_gradient_only_by_rounding(dtype, autocast):
    student, teacher, targets = batch()
    taught = Outputs(*(x.to(dtype) for x in teacher.outputs))
    halves = Outputs(*(x.to(dtype) for x in student))
    wide = (Outputs(*(x.float() for x in side)) for side in (halves, taught))
    expected, pulls = terms_and_gradients(everything(), *wide, targets)
    with torch.autocast("cpu", dtype, enabled=autocast):
        found, gradients = terms_and_gradients(everything(), halves, taught, targets)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    for gradient, pull in zip(gradients, pulls, strict=True):
        assert torch.equal(gradient, pull.to(dtype))
