"""Losses: each formula evaluated a second way, each term alone reaching the student only."""

from __future__ import annotations

import math

import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, RBFKernel
from qrkd_lab.losses import (
    angle_loss,
    distance_loss,
    kd_loss,
    kernel_loss,
    relation_loss,
)


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
