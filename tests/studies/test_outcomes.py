"""Secondary outcomes: each number where it is known; few labels: what students see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import qrkd_lab as ql
from qrkd_lab.data.images import Images
from qrkd_lab.studies.benchmarks import load_benchmark
from qrkd_lab.studies.group import train_group
from qrkd_lab.studies.scores import calibration_error, noisy, outcomes, recall_at_1
from tests.hazards import SMALL

LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 0, 0])


@pytest.mark.parametrize(
    ("confidence", "right", "expected"),
    [(0.999, 10, 0.001), (0.999, 5, 0.499), (0.6, 6, 0.0), (0.6, 10, 0.4), (0.6, 0, 0.6)],
)
def test_the_calibration_error_is_the_gap_between_belief_and_truth(confidence, right, expected):
    said = LABELS.clone()
    said[right:] = (said[right:] + 1) % 3
    rest = torch.full((10, 3), (1 - confidence) / 2, dtype=torch.float64)
    believed = rest.scatter(1, said[:, None], confidence)
    assert calibration_error(believed, LABELS) == pytest.approx(expected, abs=1e-9)


def test_opposite_gaps_in_two_bins_do_not_cancel():
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
    assert outcomes(_with(benchmark, validation=part), [benchmark.model(run)]) == [{}]


def _with(benchmark, **parts):
    import dataclasses

    return dataclasses.replace(benchmark, data=dataclasses.replace(benchmark.data, **parts))


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
