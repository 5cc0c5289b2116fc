"""Losses: each formula evaluated a second way, each term alone reaching the student only."""

from __future__ import annotations

import math

import pytest
import torch

from qrkd_lab.checks import NotFinite, in_float32
from qrkd_lab.kernels import (
    CosineKernel,
    Encoder,
    FidelityKernel,
    KernelRelation,
    LaplacianKernel,
    PolynomialKernel,
    ProjectedKernel,
    RBFKernel,
)
from qrkd_lab.losses import (
    DistillationLoss,
    Losses,
    Outputs,
    TeacherBatch,
    angle_loss,
    distance_loss,
    kernel_loss,
    relation_loss,
    term_gradients,
)
from qrkd_lab.tasks import IGNORED, TASKS, UNLABELLED, kd_loss, label_kd


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def huber(u: torch.Tensor) -> torch.Tensor:
    return torch.where(u.abs() < 1, 0.5 * u * u, u.abs() - 0.5)


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
def test_kd_is_the_formula_and_of_sequences_the_mean_over_tokens(temperature):
    s, t = rows(6, 4, 1), rows(6, 4, 2)
    p, q = ((z / temperature).exp() / (z / temperature).exp().sum(1, keepdim=True) for z in (t, s))
    expected = temperature**2 / 6 * (p * (p / q).log()).sum()
    torch.testing.assert_close(kd_loss(s, t, temperature), expected)
    cubed = kd_loss(s.reshape(2, 3, 4), t.reshape(2, 3, 4), temperature)
    torch.testing.assert_close(cubed, expected)


def plain_distances(x: torch.Tensor) -> torch.Tensor:
    """Of pairs i != j, divided by their mean; from differences, as printed."""
    values = (x[:, None] - x).square().sum(-1).sqrt()[~torch.eye(len(x), dtype=torch.bool)]
    return values / values.mean()


def plain_angles(x: torch.Tensor) -> torch.Tensor:
    """Of all triples of different samples."""
    difference = x[None] - x[:, None]  # [j, i] = x_i - x_j
    length = difference.square().sum(-1).sqrt()
    cosine = torch.einsum("jid,jkd->jik", difference, difference)
    n = torch.arange(len(x))
    j, i, k = n[:, None, None], n[:, None], n
    distinct = (i != j) & (j != k) & (i != k)
    return (cosine / (length[:, :, None] * length[:, None]))[distinct]


def plain_kernel(x: torch.Tensor) -> torch.Tensor:
    """Of the angle map on two qubits, over pairs i != j."""
    x = x[:, :2]
    values = ((x[:, None] - x) / 2).cos().square().prod(-1)
    return values[~torch.eye(len(x), dtype=torch.bool)]


def angle_map(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return kernel_loss(s[:, :2], t[:, :2], FidelityKernel("angle", qubits=2))


@pytest.mark.parametrize(
    ("loss", "plain"),
    [(distance_loss, plain_distances), (angle_loss, plain_angles), (angle_map, plain_kernel)],
)
def test_relational_losses_are_the_formulas(loss, plain):
    s, t = rows(6, 3, 1), rows(6, 5, 2)
    expected = huber(plain(s) - plain(t)).mean()
    torch.testing.assert_close(loss(s, t), expected, rtol=1e-10, atol=0)


def quantum(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return kernel_loss(s[:, :3], t[:, :3], FidelityKernel("zz", qubits=3))


def gaussian(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return kernel_loss(s[:, :3], t[:, :3], RBFKernel())


LOSSES = [kd_loss, distance_loss, angle_loss, quantum, gaussian]


@pytest.mark.parametrize("loss", LOSSES)
def test_each_loss_pulls_the_student_alone_to_its_teacher(loss):
    s, t = rows(7, 4, 1).requires_grad_(), rows(7, 4, 2).requires_grad_()
    assert loss(t, t).item() == pytest.approx(0, abs=1e-14)
    loss(s, t).backward()
    assert s.grad.abs().max() > 1e-6
    assert t.grad is None
    assert torch.autograd.gradcheck(lambda x: loss(x, t.detach()[:5]), s[:5])
    if loss not in (distance_loss, gaussian):  # whose second derivatives are autograd's own
        with pytest.raises(RuntimeError, match="second derivatives"):
            torch.autograd.grad(loss(s, t), s, create_graph=True)


def test_entries_of_a_sample_with_itself_do_not_count():
    a, b = torch.zeros(3, 3), torch.zeros(3, 3)
    a.fill_diagonal_(5.0)
    assert relation_loss(a, b) == 0
    b[0, 1] = 0.5
    assert relation_loss(a, b).item() == pytest.approx(0.125 / 6)


AMPLITUDE = FidelityKernel("amplitude", 2)
KERNELS = [
    *(FidelityKernel(name, 3) for name in ("zz", "reuploading")), AMPLITUDE,
    ProjectedKernel("zz", 3), RBFKernel(), LaplacianKernel(), PolynomialKernel(3), CosineKernel(),
]  # fmt: skip


def by_kernel(kernel):
    width = kernel.features or 4
    return lambda s, t: kernel_loss(s[:, :width], t[:, :width], kernel)


def encoded(kind):
    """Features of width 4 through an encoder of each kind."""

    relation = KernelRelation(RBFKernel(), Encoder(4, 4, 3, kind).fit(rows(9, 4, 5).float()))
    return in_float32(lambda s, t: relation_loss(relation.student(s), relation.teacher(t)))


EVERY = {
    "kd": kd_loss,
    "distance": distance_loss,
    "angle": angle_loss,
    **{str(kernel): by_kernel(kernel) for kernel in KERNELS},
    **{kind: encoded(kind) for kind in ("adapter", "projection", "pca", "truncate")},
}


def clustered(dtype, seed: int = 1) -> torch.Tensor:
    """Nine rows in three groups, far apart and 0.03 wide: where half precision sees nothing."""
    return (rows(3, 4, seed).repeat(3, 1) + 0.03 * rows(9, 4, seed + 1)).to(dtype)


def both(loss, s, t, autocast=None, inside=False):
    """Value and gradient of a loss, with autocast around it, and around backward too."""
    x = s.clone().requires_grad_()
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        value = loss(x, t)
        if inside:
            value.backward()
    if not inside:
        value.backward()
    return value.detach(), x.grad


FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", EVERY)
def test_whatever_the_precision_around_a_loss_computes_in_float32(name, dtype):
    s, t = clustered(dtype), clustered(dtype, 3)
    wide = torch.promote_types(dtype, torch.float32)
    expected = both(EVERY[name], s.to(wide), t.to(wide))
    half = torch.bfloat16
    for autocast, inside in [(None, False), (half, False), (half, True), (torch.float16, True)]:
        value, gradient = both(EVERY[name], s, t, autocast, inside)
        assert value.dtype == gradient.dtype == dtype
        assert torch.equal(value, expected[0].to(dtype))
        assert torch.equal(gradient, expected[1].to(dtype))
    for other in FLOATS:  # the type is the student's
        value, gradient = both(EVERY[name], s, t.to(other))
        assert value.dtype == gradient.dtype == dtype


SCALES = [10.0**power for power in (-30, -15, -4, 0, 8, 19, 30)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["distance", "angle", str(CosineKernel()), str(AMPLITUDE)])
def test_a_loss_that_is_blind_to_scale_is_so_at_every_scale(name, scale, dtype):
    s, t = rows(9, 4, 1).to(dtype), rows(9, 4, 2).to(dtype)
    expected = both(EVERY[name], s, t)
    for student, teacher in ((s * scale, t), (s, t * scale), (s * scale, t * scale)):
        value, gradient = both(EVERY[name], student, teacher)
        torch.testing.assert_close(value, expected[0], rtol=1e-5, atol=0)
        if student is not s:
            gradient = gradient * scale
        torch.testing.assert_close(gradient, expected[1], rtol=1e-4, atol=1e-7)


ODD = {
    "one row": lambda: rows(1, 4),
    "two rows": lambda: rows(2, 4),
    "coincident": lambda: rows(3, 4).repeat(3, 1),
    "zeros": lambda: torch.cat([rows(4, 4), torch.zeros(3, 4).double()]),
    "nothing but zeros": lambda: torch.zeros(5, 4).double(),
    "one large row": lambda: torch.cat([rows(4, 4), 1e6 * rows(1, 4, 7)]),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", EVERY)
def test_loss_and_gradient_are_finite_or_the_loss_says_why_not(name, case):
    halves = [(torch.float16, 1e-2), (torch.float16, 1e2), (torch.bfloat16, 1e9)]
    single = [(torch.float32, scale) for scale in SCALES]
    for dtype, scale in [*single, (torch.float64, 1e-30), *halves]:
        s = (scale * ODD[case]()).to(dtype).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max)
        t = rows(len(s), 4, 9).to(dtype)
        try:
            value, gradient = both(EVERY[name], s, t)
        except NotFinite as error:
            assert scale >= 1e8 and "leave the range" in str(error)
            continue
        assert torch.isfinite(value) and torch.isfinite(gradient).all(), (dtype, scale)
        if case == "coincident" and scale == 1:
            assert gradient.abs().max() < 1e3


@pytest.mark.parametrize("excluded", ["both", "teacher"])
def test_a_class_that_the_teacher_excludes_adds_nothing_to_kd(excluded):
    s, t = rows(5, 4, 1), rows(5, 4, 2)
    left = t[:, :3]
    t[:, 3] = -math.inf
    if excluded == "both":
        s[:, 3] = -math.inf
    value, gradient = both(kd_loss, s, t)
    p = (left / 4).softmax(1)
    log_q = (s / 4).log_softmax(1)
    expected = 16 * (p * (p.log() - log_q[:, :3])).sum() / 5
    torch.testing.assert_close(value, expected)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    if excluded == "both":
        torch.testing.assert_close(value, kd_loss(s[:, :3], left))


# The whole loss: named terms, weights, what the arms share, and the controls


def rows32(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def batch(seed: int = 3) -> tuple[Outputs, TeacherBatch, torch.Tensor]:
    student = Outputs(rows32(8, 3, seed), rows32(8, 5, seed + 1))
    teacher = Outputs(rows32(8, 3, seed + 2), rows32(8, 4, seed + 3))
    return student, TeacherBatch(teacher), torch.arange(8) % 3


def relation(control: str | None = None) -> KernelRelation:
    return KernelRelation(FidelityKernel("iqp", qubits=3), Encoder(4, 5, 3), control)


def everything(control: str | None = None) -> DistillationLoss:
    return DistillationLoss(kd=0.5, distance=2.0, angle=3.0, kernel=(relation(control), 7.0))


def test_weighted_gradients_of_the_terms_add_up_to_the_total():
    student, teacher, targets = batch()
    leaves = [x.requires_grad_() for x in student]
    loss = DistillationLoss(0.5, 2.0, 3.0, (relation(), 7.0))
    losses = loss(student, teacher, targets)
    found = term_gradients(losses, leaves)
    assert all(gradient.abs().max() > 1e-6 for gradient in found.values())
    weighted = sum({"task": 1.0, **loss.weights}[name] * g for name, g in found.items())
    total = torch.autograd.grad(losses.total, leaves)
    torch.testing.assert_close(weighted, torch.cat([g.flatten() for g in total]))


@pytest.mark.parametrize("kernel", [KERNELS[0], RBFKernel()], ids=str)
@pytest.mark.parametrize(("dose", "share"), [(0.3, False), (3.0, False), (0.25, True), (1.0, True)])
def test_a_dose_is_the_pull_in_that_of_distance_and_angle(kernel, dose, share):
    """A share is a dose that distance and angle make room for."""
    student, teacher, targets = batch()
    own = KernelRelation(kernel, Encoder(4, 5, 3))
    by, kept = {"kernel_share" if share else "kernel_dose": dose}, 1 - dose * share
    dosed = DistillationLoss(0.5, 2.0, 3.0, (own, 7.0), **by)
    plain = DistillationLoss(0.5, 2.0, 3.0, (own, 7.0))
    leaves = [x.requires_grad_() for x in student] + [own.encoder.student_map]
    total, terms = dosed(student, teacher, targets)
    expected = plain(student, teacher, targets)
    torch.testing.assert_close(terms, expected.terms)
    alone = {n: g[24:64] for n, g in term_gradients(expected, leaves).items()}  # features (8, 5)
    classical = (2.0 * alone["distance"] + 3.0 * alone["angle"]).norm()
    weight = dose * classical / alone["kernel"].norm()
    torch.testing.assert_close(dosed.pulls["kernel_weight"], weight)
    torch.testing.assert_close(dosed.pulls["kernel_pull"], dose * classical)
    assert dosed.pulls["kernel_dose"].item() == pytest.approx(dose, rel=1e-5)
    torch.testing.assert_close(dosed.pulls["angle_pull"], kept * 3.0 * alone["angle"].norm())
    again = DistillationLoss(0.5, kept * 2.0, kept * 3.0, (own, weight.item()))
    again = again(student, teacher, targets)
    torch.testing.assert_close(total, again.total)
    for found, wanted in zip(*(torch.autograd.grad(t, leaves) for t in (total, again.total))):
        torch.testing.assert_close(found, wanted)


def cosines(x: torch.Tensor) -> torch.Tensor:
    unit = x / x.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
    return unit @ unit.T


def test_a_relation_of_ones_own_is_a_term_like_the_others():
    student, teacher, targets = batch()
    for one in (student.features, teacher.outputs.features):
        one.requires_grad_()
    loss = DistillationLoss(kd=0.5, relations={"cosine": (cosines, 10.0), "idle": (cosines, 1)})
    loss.weights["idle"] = 0.0
    found = loss(student, teacher, targets)
    expected = relation_loss(cosines(student.features), cosines(teacher.outputs.features))
    assert list(found.terms) == ["task", "kd", "cosine"]
    torch.testing.assert_close(found.terms["cosine"], expected)
    whole = found.terms["task"] + 0.5 * found.terms["kd"] + 10.0 * expected
    torch.testing.assert_close(found.total, whole)
    assert term_gradients(found, [student.features])["cosine"].abs().max() > 1e-6
    found.total.backward()
    assert teacher.outputs.features.grad is None
    assert repr(loss) == "DistillationLoss(task + 0.5 kd(T=4) + 10 cosine)"


def test_a_kernel_has_no_weight_where_nothing_else_pulls():
    student, teacher, targets = batch()
    loss = DistillationLoss(distance=1.0, kernel=(relation(), 1.0), kernel_dose=1.0)
    collapsed = Outputs(student.logits, torch.zeros_like(student.features).requires_grad_())
    loss(collapsed, teacher, targets).total.backward()
    assert loss.pulls["kernel_weight"] == 0 and not collapsed.features.grad.any()
    assert repr(loss).endswith("at dose 1)")


def test_the_detached_control_has_no_gradient_and_leaves_must_ask_for_one():
    """The trap this kit is built around: a kernel term that is logged, weighted, and idle."""
    student, teacher, targets = batch()
    student.features.requires_grad_()
    losses = DistillationLoss(kernel=(relation("detached"), 1.0))(student, teacher, targets)
    assert losses.terms["kernel"] > 0
    assert losses.terms["kernel"].requires_grad and not losses.terms["task"].requires_grad
    assert not any(g.any() for g in term_gradients(losses, [student.features]).values())


def test_the_shuffled_control_permutes_the_teacher():
    student, teacher, _ = batch()
    shuffled = relation("shuffled")
    target = shuffled.teacher(teacher.outputs.features)
    _, used = shuffled.compared(student.features, target)
    assert not torch.equal(used, target)
    torch.testing.assert_close(used.flatten().sort().values, target.flatten().sort().values)


def test_random_teacher_takes_the_untrained_features():
    student, teacher, targets = batch()
    untrained = rows32(8, 4, 50)
    loss = DistillationLoss(kernel=(relation("random_teacher"), 1.0))
    shared = TeacherBatch(teacher.outputs, untrained=lambda: untrained)
    usual = DistillationLoss(kernel=(relation(), 1.0))(student, teacher, targets)
    random = loss(student, shared, targets)
    assert not torch.isclose(random.terms["kernel"], usual.terms["kernel"])


def test_the_teachers_relations_are_computed_once_for_all_arms():
    calls, teacher = [], batch()[1]
    for _ in range(2):
        teacher.relation("mine", lambda features: calls.append(1) or features)
    assert len(calls) == 1
    assert relation().teacher_key == relation("shuffled").teacher_key
    other = KernelRelation(FidelityKernel("iqp", qubits=3, bandwidth=0.5), Encoder(4, 5, 3))
    assert other.teacher_key != relation().teacher_key


def terms_and_gradients(loss, student, teacher, targets, autocast=None):
    """Each term, and the gradient of the total at logits and features."""
    leaves = [x.detach().clone().requires_grad_() for x in student]
    with torch.autocast("cpu", autocast, enabled=autocast is not None):
        total, terms = loss(Outputs(*leaves), teacher, targets)
    total.backward()
    gradients = [torch.zeros_like(x) if x.grad is None else x.grad for x in leaves]
    return {name: value.detach() for name, value in (terms | {"total": total}).items()}, gradients


@pytest.mark.parametrize("control", [None, "random_teacher"])
@pytest.mark.parametrize("kept", [1, 2, 6])
def test_a_prediction_with_an_ignored_target_counts_in_no_term(kept, control):
    student, teacher, targets = batch()
    other = rows32(8, 4, 50)
    rest = torch.arange(8) < kept
    loss, masked = everything(control), torch.where(rest, targets, IGNORED)
    few = TeacherBatch(Outputs(*(x[rest] for x in teacher.outputs)), lambda: other[rest])
    expected = terms_and_gradients(loss, Outputs(*(x[rest] for x in student)), few, targets[rest])
    for left_out in (rows32(8, 3, 60), 1e4 * rows32(8, 3, 61), torch.full((8, 3), 1e30)):
        filled = Outputs(
            torch.where(rest[:, None], student.logits, left_out),
            torch.where(rest[:, None], student.features, left_out.repeat(1, 2)[:, :5]),
        )
        shared = TeacherBatch(teacher.outputs, lambda: other)
        terms, gradients = terms_and_gradients(loss, filled, shared, masked)
        torch.testing.assert_close(terms, expected[0])
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


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("known", [0, 5, 8])
def test_a_sample_without_label_counts_in_all_terms_but_the_tasks(name, known):
    student, teacher, targets = batch()
    if name != "classification":
        targets = (rows32(8, 3, 7) > 0).float()
    absent = UNLABELLED if name == "classification" else torch.nan
    hidden = targets.clone()
    hidden[known:] = absent
    loss = DistillationLoss(0.5, 2.0, 3.0, (relation(), 7.0), task=TASKS[name])
    expected, (at_logits, _) = terms_and_gradients(loss, student, teacher, targets)
    found, (pull, _) = terms_and_gradients(loss, student, teacher, hidden)
    only = TASKS[name].loss(student.logits[:known], targets[:known]) if known else torch.tensor(0.0)
    torch.testing.assert_close(found.pop("task"), only)
    torch.testing.assert_close(
        found.pop("total") - only, expected.pop("total") - expected.pop("task")
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    task, (alone, _) = terms_and_gradients(
        DistillationLoss(task=TASKS[name]), student, None, hidden
    )
    assert pull.isfinite().all() and (alone[known:] == 0).all()
    assert known == 8 or not torch.equal(pull, at_logits)


@pytest.mark.parametrize("t", [2, 3])  # as many tokens as classes, too
def test_sequences_are_their_tokens(t):
    logits, taught, targets = rows32(6 * t, 3, 1), rows32(6 * t, 3, 2), torch.arange(6 * t) % 3
    targets[::4] = IGNORED
    features = rows32(6, 5, 3), rows32(6, 4, 4)
    flat = everything()(Outputs(logits, features[0]), Outputs(taught, features[1]), targets)
    whole = everything()(
        Outputs(logits.reshape(6, t, 3), features[0]),
        Outputs(taught.reshape(6, t, 3), features[1]),
        targets.reshape(6, t),
    )
    torch.testing.assert_close(whole.terms, flat.terms)


def test_a_sequence_of_ignored_targets_is_no_sample():
    student = Outputs(rows32(24, 3, 1).reshape(8, 3, 3), rows32(8, 5, 3))
    teacher = Outputs(rows32(24, 3, 2).reshape(8, 3, 3), rows32(8, 4, 4))
    targets = (torch.arange(24) % 3).reshape(8, 3)
    targets[5:] = IGNORED
    targets[0, 1] = IGNORED
    few = (Outputs(*(x[:5] for x in one)) for one in (student, teacher))
    torch.testing.assert_close(
        everything()(student, teacher, targets).terms, everything()(*few, targets[:5]).terms
    )


@pytest.mark.parametrize("dtype", [torch.int32, torch.bool])
def test_any_whole_numbers_are_classes(dtype):
    student, teacher, targets = batch()
    targets = (targets % 2).to(dtype)
    found = everything()(student, teacher, targets)
    assert torch.equal(found.total, everything()(student, teacher, targets.long()).total)


def learn(targets=None, logits=(8, 3), **options):
    """The loss of a batch."""
    student, teacher, usual = batch()
    student.features.requires_grad_()
    given = student if logits == (8, 3) else Outputs(torch.zeros(logits), student.features)
    return DistillationLoss(**options)(given, teacher, usual if targets is None else targets)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_changes_the_gradient_only_by_rounding(dtype):
    student, teacher, targets = batch()
    halves = [Outputs(*(x.to(dtype) for x in one)) for one in (student, teacher.outputs)]
    wide = [Outputs(*(x.float() for x in one)) for one in halves]
    expected, pulls = terms_and_gradients(everything(), *wide, targets)
    found, gradients = terms_and_gradients(everything(), *halves, targets, dtype)
    pulls = [pull.to(dtype) for pull in pulls]
    torch.testing.assert_close((found, gradients), (expected, pulls), rtol=0, atol=0)


PAIR = {"kernel": (relation(), 1.0)}
REFUSED = [
    (lambda: kd_loss(torch.zeros(3, 3), torch.zeros(4, 4)), r"\(3, 3\) and \(4, 4\)"),
    (lambda: relation_loss(torch.zeros(3, 3), torch.zeros(4, 4)), r"\(3, 3\) and \(4, 4\)"),
    (lambda: kd_loss(torch.zeros(4, 1), torch.zeros(4, 1)), "single logit"),
    (lambda: kd_loss(torch.zeros(2, 2).long(), torch.zeros(2, 2)), "floating-point"),
    (lambda: kd_loss([[0.0, 1.0]], [[0.0, 1.0]]), "list"),
    (lambda: kd_loss(torch.zeros(2, 2), torch.zeros(2, 2), 0.0), "temperature"),
    (lambda: DistillationLoss(angle=-1.0), "weight of angle"),
    (lambda: DistillationLoss(temperature=0.0), "temperature"),
    (lambda: DistillationLoss(kd=1.0, kernel_dose=1.0, **PAIR), "multiples of the pull of dist"),
    (lambda: DistillationLoss(distance=1.0, kernel_dose=1.0), "multiples of the pull of distance"),
    (lambda: DistillationLoss(distance=1.0, kernel_share=1.1, **PAIR), "kernel_share: .* at most"),
    (lambda: DistillationLoss(distance=1.0, kernel_share=0.5, kernel_dose=1.0, **PAIR), "one of"),
    (lambda: KernelRelation(Encoder(4, 5, 3), RBFKernel()), "KernelRelation"),
    (lambda: everything()(batch()[0], None, batch()[2]), "need a teacher"),
    (lambda: everything()(batch()[0].logits, *batch()[1:]), "Outputs"),
    (lambda: learn(kernel=(relation("random_teacher"), 1.0)), "untrained"),
    (
        lambda: learn(relations={"a b": (cosines, 1.0)}),
        "relation 'a b': expected a name of letters",
    ),
    (lambda: learn(relations={"train_x": (cosines, 1.0)}), "no other number of a history has"),
    (lambda: learn(relations=cosines), "relations: expected {name: .function, weight.}, got <func"),
    (lambda: learn(relations={"own": ("cosines", 1.0)}), r"expected \(function of features, weig"),
    (lambda: learn(relations={"own": (cosines, 0)}), "weight of own: expected a finite number > 0"),
    (lambda: learn(relations={"own": (lambda x: x, 1.0)}), r"expected \(n, n\) .* got \(8, \d\)"),
    (lambda: learn(relations={"own": (lambda x: cosines(x) > 0, 1.0)}), "got a torch.bool tensor"),
    (lambda: learn(relations={"own": (lambda x: cosines(x.detach()), 1.0)}), "no gradient reaches"),
    (lambda: learn(torch.rand(8, 3)), "soft targets"),
    (lambda: learn([0] * 8), "whole numbers, got list"),
    (lambda: learn(torch.zeros(7).long()), r"shape \(8,\) .*got \(7,\)"),
    (lambda: learn(torch.full((8,), 3)), "classes 0 to 2 .* got 3 to 3"),
    (lambda: learn(torch.tensor([-1, 0, 1, 2, -100, 0, 0, 0])), "got -1 to 2"),
    (lambda: learn(torch.rand(8), (8, 1)), "single logit"),
    (lambda: learn(torch.zeros(8).long(), (8, 4, 3)), r"shape \(8, 4\)"),
    (lambda: term_gradients(Losses(torch.zeros(()), {}), [torch.zeros(2)]), "student.parameters"),
]


@pytest.mark.parametrize(("call", "says"), REFUSED)
def test_what_is_no_loss_no_relation_or_no_batch_is_refused(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_of_labels_is_the_formula_and_0_where_both_agree(temperature):
    s, t = rows(6, 3, 1), rows(6, 3, 2)
    p, q = (1 / (1 + (-z / temperature).exp()) for z in (t, s))
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(label_kd(s, t, temperature), temperature**2 / 18 * kl.sum())
    assert label_kd(t, t, temperature).abs() < 1e-12


@pytest.mark.parametrize("name", ["regression", "multi-label"])
def test_a_task_that_is_no_classification_has_its_own_terms_of_the_outputs(name):
    task, targets = TASKS[name], (rows(8, 2, 3) > 0).double()
    student, teacher = (Outputs(rows(8, 2, i).requires_grad_(), rows(8, 4, i)) for i in (1, 2))
    loss = DistillationLoss(kd=0.5, distance=1.0, temperature=2.0, task=task)
    found = loss(student, teacher, targets)
    torch.testing.assert_close(found.terms["task"], task.loss(student.logits, targets))
    torch.testing.assert_close(found.terms["kd"], task.kd(student.logits, teacher.logits, 2.0))
    total = found.terms["task"] + 0.5 * found.terms["kd"] + found.terms["distance"]
    torch.testing.assert_close(found.total, total)
    for term in ("task", "kd"):
        pull, none = torch.autograd.grad(
            found.terms[term], [student.logits, teacher.logits], retain_graph=True,
            allow_unused=True,
        )  # fmt: skip
        assert pull.abs().max() > 0 and none is None
