"""Scores: each mean counted by hand, in one batch or in many."""

from __future__ import annotations

import math

import pytest
import torch

from qrkd_lab.studies.scores import Scores

LOGITS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
TEACHER = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1, 2, 3, 4, 0, 1])


def probabilities(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("sizes", [(7,), (3, 4), (1,) * 7])
def test_every_number_as_counted_by_hand(sizes):
    scores = Scores()
    for part in zip(LOGITS.split(sizes), TARGETS.split(sizes), TEACHER.split(sizes), strict=True):
        scores.add(*part)
    student = [probabilities(row) for row in LOGITS.tolist()]
    teacher = [probabilities(row) for row in TEACHER.tolist()]
    targets = TARGETS.tolist()
    right = sum(max(range(5), key=row.__getitem__) == t for row, t in zip(student, targets))
    assert scores.accuracy == right / 7 and scores.predictions == 7
    nll = -sum(math.log(row[t]) for row, t in zip(student, targets)) / 7
    assert scores.nll == pytest.approx(nll, rel=1e-6)
    same = sum(max(s) == s[max(range(5), key=t.__getitem__)] for s, t in zip(student, teacher))
    kl = sum(p * math.log(p / q) for t, s in zip(teacher, student) for p, q in zip(t, s)) / 7
    assert scores.beside_teacher["agreement"] == same / 7
    assert scores.beside_teacher["kl"] == pytest.approx(kl, rel=1e-5)


def test_without_a_teacher_nothing_is_said_of_one():
    scores = Scores()
    scores.add(LOGITS, TARGETS)
    assert scores.beside_teacher == {}


def test_nothing_counted_is_said():
    with pytest.raises(ValueError, match="no predictions"):
        _ = Scores().accuracy


def test_a_sum_over_millions_keeps_its_digits():
    """In float32 the sum would stop growing."""
    scores = Scores()
    logits = torch.zeros(2, 2)
    scores.add(logits, torch.tensor([0, 1]))
    scores._sums, scores.predictions = scores._sums * 2**26, scores.predictions * 2**26
    scores.add(logits, torch.tensor([0, 1]))
    assert scores._sums[1].item() == pytest.approx((2**27 + 2) * math.log(2), rel=1e-8)
    assert scores._sums[0].item() == 2**26 + 1
