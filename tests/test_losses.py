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
    angle_loss,
    distance_loss,
    kd_loss,
    kernel_loss,
    relation_loss,
)
from qrkd_lab.relations import pairwise_distances, triplet_angles


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def huber(u: float) -> float:
    return 0.5 * u * u if abs(u) < 1 else abs(u) - 0.5


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
def test_kd_is_the_formula(temperature):
    s, t = rows(5, 3, 1), rows(5, 3, 2)
    expected = 0.0
    for student, teacher in zip(s.tolist(), t.tolist()):
        p = softmax([z / temperature for z in teacher])
        q = softmax([z / temperature for z in student])
        expected += sum(a * math.log(a / b) for a, b in zip(p, q))
    expected *= temperature**2 / 5
    assert kd_loss(s, t, temperature).item() == pytest.approx(expected, rel=1e-12)


def test_kd_of_sequences_is_the_mean_over_tokens():
    s, t = rows(6, 4, 1), rows(6, 4, 2)
    cubed = kd_loss(s.reshape(2, 3, 4), t.reshape(2, 3, 4))
    torch.testing.assert_close(cubed, kd_loss(s, t))


def test_kd_goes_from_teacher_to_student():
    """KL(teacher || student) is infinite-ish where the student denies what the teacher believes."""
    sure, open_minded = torch.tensor([[20.0, 0.0]]), torch.tensor([[0.0, 0.0]])
    student_denies = kd_loss(sure, open_minded, 1.0)
    student_hedges = kd_loss(open_minded, sure, 1.0)
    assert student_denies > 9 and student_hedges < 0.7


def independent_distance(s: torch.Tensor, t: torch.Tensor) -> float:
    def relation(x: torch.Tensor) -> dict[tuple[int, int], float]:
        points, n = x.tolist(), len(x)
        pairs = {
            (i, j): math.dist(points[i], points[j]) for i in range(n) for j in range(n) if i != j
        }
        mean = sum(pairs.values()) / len(pairs)
        return {pair: value / mean for pair, value in pairs.items()}

    a, b = relation(s), relation(t)
    return sum(huber(a[p] - b[p]) for p in a) / len(a)


def independent_angle(s: torch.Tensor, t: torch.Tensor) -> float:
    def cosine(points: list[list[float]], j: int, i: int, k: int) -> float:
        u = [a - b for a, b in zip(points[i], points[j])]
        v = [a - b for a, b in zip(points[k], points[j])]
        return sum(a * b for a, b in zip(u, v)) / (math.hypot(*u) * math.hypot(*v))

    n, a, b = len(s), s.tolist(), t.tolist()
    triples = [
        (j, i, k) for j in range(n) for i in range(n) for k in range(n) if len({i, j, k}) == 3
    ]
    return sum(huber(cosine(a, *p) - cosine(b, *p)) for p in triples) / len(triples)


@pytest.mark.parametrize(
    ("loss", "independent"),
    [(distance_loss, independent_distance), (angle_loss, independent_angle)],
)
def test_relational_losses_are_the_formulas(loss, independent):
    s, t = rows(6, 3, 1), rows(6, 5, 2)
    assert loss(s, t).item() == pytest.approx(independent(s, t), rel=1e-10)


def test_kernel_loss_is_the_formula():
    s, t = rows(5, 2, 1), rows(5, 2, 2)
    value = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                a = math.prod(math.cos((s[i, c] - s[j, c]).item() / 2) ** 2 for c in range(2))
                b = math.prod(math.cos((t[i, c] - t[j, c]).item() / 2) ** 2 for c in range(2))
                value += huber(a - b) / 20
    kernel = FidelityKernel("angle", qubits=2)
    assert kernel_loss(s, t, kernel).item() == pytest.approx(value, rel=1e-10)


def quantum(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return kernel_loss(s[:, :3], t[:, :3], FidelityKernel("zz", qubits=3))


def gaussian(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return kernel_loss(s[:, :3], t[:, :3], RBFKernel())


LOSSES = [kd_loss, distance_loss, angle_loss, quantum, gaussian]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_student_like_its_teacher_has_no_loss(loss):
    x = rows(7, 4)
    assert loss(x, x.clone()).item() == pytest.approx(0, abs=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_term_alone_moves_the_student_and_never_the_teacher(loss):
    s, t = rows(7, 4, 1).requires_grad_(), rows(7, 4, 2).requires_grad_()
    loss(s, t).backward()
    assert s.grad.abs().max() > 1e-6
    assert t.grad is None


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_right(loss):
    s, t = rows(5, 4, 1).requires_grad_(), rows(5, 4, 2)
    assert torch.autograd.gradcheck(lambda x: loss(x, t), s)


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("loss", LOSSES)
def test_tiny_batches_have_a_finite_loss_and_gradient(loss, n):
    s, t = rows(n, 4, 1).requires_grad_(), rows(n, 4, 2)
    value = loss(s, t)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(s.grad).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [distance_loss, angle_loss, quantum])
@pytest.mark.parametrize("collapsed", [2, 8])
def test_a_collapsed_student_has_a_bounded_gradient(loss, collapsed, dtype):
    s = rows(8, 4, 1).to(dtype)
    s[:collapsed] = s[0].clone()
    s.requires_grad_()
    loss(s, rows(8, 4, 2).to(dtype)).backward()
    assert torch.isfinite(s.grad).all() and s.grad.abs().max() < 1e3


def test_entries_of_a_sample_with_itself_do_not_count():
    a, b = torch.zeros(3, 3), torch.zeros(3, 3)
    a.fill_diagonal_(5.0)
    assert relation_loss(a, b) == 0
    b[0, 1] = 0.5
    assert relation_loss(a, b).item() == pytest.approx(0.125 / 6)


@pytest.mark.parametrize("loss", [kd_loss, relation_loss])
def test_shapes_must_agree(loss):
    with pytest.raises(ValueError, match=r"\(3, 3\) and \(4, 4\)"):
        loss(torch.zeros(3, 3), torch.zeros(4, 4))


def test_temperature_must_be_positive():
    with pytest.raises(ValueError, match="temperature"):
        kd_loss(torch.zeros(2, 2), torch.zeros(2, 2), 0.0)


KERNELS = [
    *(FidelityKernel(name, 3) for name in ("angle", "zz", "iqp", "reuploading")),
    FidelityKernel("amplitude", 2),
    ProjectedKernel("zz", 3),
    RBFKernel(),
    LaplacianKernel(),
    PolynomialKernel(3),
    CosineKernel(),
]


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
    for autocast, inside in [
        (None, False),
        (torch.bfloat16, False),
        (torch.bfloat16, True),
        (torch.float16, True),
    ]:
        value, gradient = both(EVERY[name], s, t, autocast, inside)
        assert value.dtype == gradient.dtype == dtype
        assert torch.equal(value, expected[0].to(dtype))
        assert torch.equal(gradient, expected[1].to(dtype))


@pytest.mark.parametrize("name", EVERY)
def test_the_type_of_a_loss_is_the_students_whatever_the_teachers(name):
    s, t = rows(9, 4, 1).float(), rows(9, 4, 2)
    expected = EVERY[name](s, t.float())
    for dtype in FLOATS:
        value, gradient = both(EVERY[name], s, t.to(dtype))
        assert value.dtype == gradient.dtype == torch.float32
        torch.testing.assert_close(value, expected, rtol=0.1, atol=1e-3)


SCALES = [10.0**power for power in (-30, -20, -15, -7, -4, 0, 4, 8, 15, 19, 25, 30)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["distance", "angle", str(CosineKernel()), str(KERNELS[4])])
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
    "three rows": lambda: rows(3, 4),
    "coincident": lambda: rows(3, 4).repeat(3, 1),
    "zeros": lambda: torch.cat([rows(4, 4), torch.zeros(3, 4).double()]),
    "nothing but zeros": lambda: torch.zeros(5, 4).double(),
    "clustered": lambda: clustered(torch.float64),
    "one large row": lambda: torch.cat([rows(4, 4), 1e6 * rows(1, 4, 7)]),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("name", EVERY)
def test_loss_and_gradient_are_finite_or_the_loss_says_why_not(name, case):
    every = [(torch.float32, scale) for scale in SCALES] + [(torch.float64, 1e-30)]
    for dtype, scale in [
        *every,
        (torch.float16, 1e-2),
        (torch.float16, 1e2),
        (torch.bfloat16, 1e9),
    ]:
        s = (scale * ODD[case]()).to(dtype).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max)
        t = rows(len(s), 4, 9).to(dtype)
        try:
            value, gradient = both(EVERY[name], s, t)
        except NotFinite as error:
            assert scale >= 1e8 and "leave the range" in str(error)
            continue
        assert torch.isfinite(value) and torch.isfinite(gradient).all(), (dtype, scale)


@pytest.mark.parametrize("relation", [pairwise_distances, triplet_angles])
def test_distances_follow_scale_and_angles_do_not_at_every_scale(relation):
    x = rows(6, 3).float()
    for scale in SCALES:
        factor = scale if relation is pairwise_distances else 1.0
        torch.testing.assert_close(relation(x * scale), relation(x) * factor, rtol=1e-5, atol=0)


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


def test_kd_is_infinite_where_the_student_excludes_what_the_teacher_believes():
    assert kd_loss(torch.tensor([[0.0, -math.inf]]), torch.zeros(1, 2)) == math.inf


@pytest.mark.parametrize(
    ("logits", "error", "says"),
    [
        (torch.zeros(4, 1), ValueError, "single logit"),
        (torch.zeros(4), ValueError, r"\(n, c\)"),
        (torch.zeros(4, 3, dtype=torch.int64), TypeError, "floating-point"),
        ([[0.0, 1.0]], TypeError, "list"),
    ],
)
def test_logits_that_are_none_are_refused(logits, error, says):
    with pytest.raises(error, match=says):
        kd_loss(logits, logits)
