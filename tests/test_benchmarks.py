"""Benchmarks: what a scale gives, models by seed, evaluation by an independent count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.benchmarks import BENCHMARKS, SCALES, benchmark_settings
from qrkd_lab.models import CNN
from qrkd_lab.objective import Outputs


@pytest.fixture(scope="module")
def digits():
    return ql.load_benchmark("digits", "smoke")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_every_scale(name, scale):
    settings = benchmark_settings(name, scale)
    assert (settings.benchmark, settings.scale) == (name, scale)


def test_the_mnist_models_have_the_papers_sizes():
    settings = benchmark_settings("mnist", "laptop")
    teacher = CNN((1, 28, 28), 10, settings.teacher_widths)
    student = CNN((1, 28, 28), 10, settings.student_widths)
    assert (teacher.parameter_count, student.parameter_count) == (6690, 1725)


def test_a_scale_is_kept_and_overrides_go_on_top():
    assert benchmark_settings("mnist", "smoke", epochs=7).epochs == 7
    assert benchmark_settings("mnist", "smoke").train_size == 512


def test_the_same_seed_gives_the_same_models(digits):
    a, b = digits.student(3).state_dict(), digits.student(3).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_predict_keeps_the_order_of_the_part(digits):
    model = digits.student(0)
    whole = digits.predict(model, digits.test)
    single = digits.predict(model, digits.test[5:6])
    torch.testing.assert_close(whole.logits[5:6], single.logits)
    assert whole.features.shape == (len(digits.test), model.feature_dim)


def test_evaluate_counts_as_one_would_by_hand(digits):
    part = digits.test[:3]
    labels = part.labels.tolist()
    logits = torch.zeros(3, 10)
    logits[0, labels[0]] = 2.0  # right
    logits[1, (labels[1] + 1) % 10] = 2.0  # wrong
    logits[2, labels[2]] = 1.0  # right
    teacher = torch.zeros(3, 10)
    teacher[:, labels[0]] = 1.0
    numbers = digits.evaluate(part, Outputs(logits, logits), Outputs(teacher, teacher))
    assert numbers["accuracy"] == pytest.approx(2 / 3)
    same = sum(int(row.argmax()) == labels[0] for row in logits) / 3
    assert numbers["agreement"] == pytest.approx(same)
    divergence = 0.0
    for t, s in zip(teacher.tolist(), logits.tolist()):
        p = [math.exp(v) / sum(map(math.exp, t)) for v in t]
        q = [math.exp(v) / sum(map(math.exp, s)) for v in s]
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q)) / 3
    assert numbers["kl"] == pytest.approx(divergence, rel=1e-5)


def test_an_epoch_sees_every_sample_once(digits):
    labels = torch.cat([targets for _, targets in digits.batches(0, 1, 50)])
    assert len(labels) == len(digits.train)
    assert torch.equal(labels.bincount(), digits.train.labels.bincount())


def test_batches_are_normalised(digits):
    inputs = torch.cat([inputs for inputs, _ in digits.batches(0, 1, 64)])
    assert abs(inputs.mean()) < 1e-4 and abs(inputs.std() - 1) < 1e-2


def test_a_recorded_model_can_be_asked_again(digits, tmp_path):
    study = ql.compare("digits", ("kd",), 1, "smoke", runs_dir=tmp_path, progress=False)
    for run in study.runs:
        model = digits.model(run)
        measured = digits.evaluate(digits.test, digits.predict(model, digits.test))
        assert measured["accuracy"] == run.metrics["test_accuracy"]


def test_a_folder_of_images_is_a_benchmark(tmp_path, monkeypatch):
    monkeypatch.setattr("qrkd_lab.data.folder._cache_folder", lambda: tmp_path / "cache")
    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 4)):
        for name, level in (("bright", 200), ("dark", 60)):
            (tmp_path / "mine" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(level, 20, (16, 16)).clip(0, 255).astype("uint8")
                Image.fromarray(pixels).save(tmp_path / "mine" / part / name / f"{i}.png")
    study = ql.compare(
        str(tmp_path / "mine"), ("scratch", "rkd"), 1, "smoke", runs_dir=tmp_path / "runs",
        train_size=24, validation_size=8, epochs=8, teacher_epochs=8, learning_rate=0.01,
        progress=False,
    )  # fmt: skip
    assert set(study.results["benchmark"]) == {"mine"}
    assert study.results["test_accuracy"].min() > 0.9
