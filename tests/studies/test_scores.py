"""Scores and secondary outcomes: each number where it is known; few labels: what students see."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import qrkd_lab as ql
from qrkd_lab.data.images import Images
from qrkd_lab.studies.benchmarks import load_benchmark
from qrkd_lab.studies.group import train_group
from qrkd_lab.studies.scores import Scores, calibration_error, noisy, outcomes, recall_at_1
from tests.hazards import SMALL

LOGITS = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
TEACHER = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
TARGETS = torch.tensor([0, 1, 2, 3, 4, 0, 1])


def probabilities(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("sizes", [(7,), (3, 4)])
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
    with pytest.raises(ValueError, match="no predictions"):
        _ = Scores().accuracy
    assert scores.beside_teacher["kl"] == pytest.approx(kl, rel=1e-5)


def test_a_sum_over_millions_keeps_its_digits():
    """In float32 the sum would stop growing."""
    scores = Scores()
    logits = torch.zeros(2, 2)
    scores.add(logits, torch.tensor([0, 1]))
    scores._sums, scores.predictions = scores._sums * 2**26, scores.predictions * 2**26
    scores.add(logits, torch.tensor([0, 1]))
    assert scores._sums[1].item() == pytest.approx((2**27 + 2) * math.log(2), rel=1e-8)
    assert scores._sums[0].item() == 2**26 + 1


# ---- secondary outcomes


LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0, 0])


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [(0.999, 5, 0.499), (0.6, 6, 0.0), (0.6, 10, 0.4)],
)
def test_the_calibration_error_is_the_gap_between_belief_and_truth(confidence, right, expected):
    said = LABELS.clone()
    said[right:] = (said[right:] + 1) % 3
    rest = torch.full((10, 3), (1 - confidence) / 2, dtype=torch.float64)
    believed = rest.scatter(1, said[:, None], confidence)
    assert calibration_error(believed, LABELS) == pytest.approx(expected, abs=1e-9)
    # opposite gaps in two bins do not cancel
    believed = torch.tensor([[0.9, 0.1]] * 5 + [[0.6, 0.4]] * 5)
    labels = torch.tensor([1] * 5 + [0] * 5)
    assert calibration_error(believed, labels) == pytest.approx((0.9 + 0.4) / 2)


def test_recall_is_that_of_the_nearest_other_sample():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (1100,), generator=generator)  # more than one block
    features = torch.randn(1100, 4, generator=generator) + labels[:, None]
    nearest = KNeighborsClassifier(2).fit(features, labels).kneighbors(features)[1]
    own = nearest[:, 0] == np.arange(1100)
    assert own.all()
    expected = (labels[nearest[:, 1]] == labels).double().mean().item()
    assert recall_at_1(features, labels) == pytest.approx(expected)


@pytest.mark.parametrize(("channels", "level"), [(1, 0.4), (3, 0.15)])
def test_noise_is_the_same_at_each_call_and_as_large_as_said(channels, level):
    grey = Images(torch.full((50, channels, 8, 8), 128, dtype=torch.uint8), torch.zeros(50).long())
    found = noisy(grey)
    assert torch.equal(found.pixels, noisy(grey).pixels) and found.pixels.dtype == torch.uint8
    assert (found.pixels.double() / 255).std() == pytest.approx(level, rel=0.2)


def test_outcomes_of_a_record_are_those_of_its_model_and_none_of_a_single_class(tmp_path):
    study = ql.compare("digits", ["kd"], 1, runs_dir=tmp_path, **SMALL)
    run = study.runs[-1]
    benchmark = load_benchmark("digits", **SMALL)
    (found,) = outcomes(benchmark, [benchmark.model(run)])
    assert {name: run.metrics[name] for name in found} == found
    assert all(0 <= number <= 1 for name, number in found.items() if name != "test_nll")
    labels = torch.zeros(len(benchmark.validation), dtype=torch.long)
    part = Images(benchmark.validation.pixels, labels)
    benchmark = replace(benchmark, data=replace(benchmark.data, validation=part))
    assert outcomes(benchmark, [benchmark.model(run)]) == [{}]


# ---- few labels


def test_students_see_few_images_and_the_teacher_all(tmp_path):
    benchmark = load_benchmark("digits", **SMALL, student_size=20)
    few = [benchmark.of_students(seed).train for seed in (0, 0, 1)]
    assert [len(part) for part in few] == [20, 20, 20]
    assert torch.equal(few[0].pixels, few[1].pixels)
    assert not torch.equal(few[0].pixels, few[2].pixels)
    settings = benchmark.settings.replace(arm="scratch", batch_size=8)
    teacher, student = train_group(benchmark, [settings.replace(arm="teacher"), settings], tmp_path)
    assert teacher.data["train"] == len(benchmark.train) and student.data["train"] == 20
    assert "student_size" not in teacher.settings and student.settings["student_size"] == 20
    more = load_benchmark("digits", **SMALL, student_size=20, unlabelled=30).of_students(0)
    assert torch.equal(more.train.pixels, few[0].pixels) and more.samples == 50
    assert torch.equal(more.drawn.labels[:20], few[0].labels) and (more.drawn.labels[20:] < 0).all()
    with pytest.raises(ValueError, match="student_size: digits has .* samples to train on, got"):
        load_benchmark("digits", **SMALL, student_size=10_000).of_students(0)
