"""Benchmarks: what a scale gives, models by seed, evaluation by an independent count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.models import CNN
from qrkd_lab.studies.benchmarks import benchmark_settings


@pytest.fixture(scope="module")
def digits():
    return ql.load_benchmark("digits", "smoke")


def test_the_mnist_models_have_the_papers_sizes():
    settings = benchmark_settings("mnist", "laptop")
    teacher = CNN((1, 28, 28), 10, settings.teacher_widths)
    student = CNN((1, 28, 28), 10, settings.student_widths)
    assert (teacher.parameter_count, student.parameter_count) == (6690, 1725)


def test_a_scale_is_kept_and_overrides_go_on_top(digits):
    assert benchmark_settings("mnist", "smoke", epochs=7).epochs == 7
    assert benchmark_settings("mnist", "smoke").train_size == 512
    assert (digits.settings.train_size, digits.settings.validation_size) == (256, 128)
    with pytest.raises(ValueError, match="vocabulary is a setting of language benchmarks"):
        ql.load_benchmark("digits", "smoke", vocabulary=100)
    with pytest.raises(ValueError, match="none of torch's"):
        ql.load_benchmark("digits", "smoke", device="gpu")
    with pytest.raises(ValueError, match="validation_size: expected at least 1, got 0"):
        ql.load_benchmark("digits", "smoke", validation_size=0)


def test_predict_keeps_the_order_of_the_part(digits):
    model = digits.student(0)
    whole = digits.predict(model, digits.test)
    single = digits.predict(model, digits.test[5:6])
    torch.testing.assert_close(whole.logits[5:6], single.logits)
    assert whole.features.shape == (len(digits.test), model.feature_dim)


def test_an_epoch_sees_every_sample_once_and_normalised(digits):
    inputs, labels = map(torch.cat, zip(*digits.batches(0, 1, 50)))
    assert len(labels) == len(digits.train)
    assert torch.equal(labels.bincount(), digits.train.labels.bincount())
    assert abs(inputs.mean()) < 1e-4 and abs(inputs.std() - 1) < 1e-2


def test_a_recorded_model_can_be_asked_again_and_is_not_exported(digits, tmp_path):
    study = ql.compare("digits", ("kd",), 1, "smoke", runs_dir=tmp_path, progress=False)
    for run in study.runs:
        model = digits.model(run)
        (measured,) = digits.score([model], digits.test)
        assert measured["accuracy"] == run.metrics["test_accuracy"]
    with pytest.raises(ValueError, match="only language models of the kit are exported"):
        ql.benchmark_of(study.runs[0]).export(study.runs[0], tmp_path / "out")


def make_folder(root, train=20):
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", 4)):
        for name, level in (("bright", 200), ("dark", 60)):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.normal(level, 20, (16, 16)).clip(0, 255).astype("uint8")
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory, with the cache of decoded folders beside it."""
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("name", ["my données", ".hidden"])
def test_a_folder_of_images_is_a_benchmark_whatever_its_name(home, name):
    options = {
        "scale": "smoke", "runs_dir": home / "runs", "progress": False, "train_size": 24,
        "validation_size": 8, "epochs": 8, "teacher_epochs": 8, "learning_rate": 0.01,
    }  # fmt: skip
    folder = str(make_folder(home / name))
    study = ql.compare(folder, ("rkd",), 1, **options)
    assert len(study.runs) == 2 and study.results["test_accuracy"].min() > 0.9
    again = ql.compare(folder, ("rkd",), 1, **options)
    assert again.runs == study.runs and "2 runs reused" in again.notes[0]


def test_a_folder_named_like_a_benchmark_keeps_out_of_its_records(home):
    for name in ("digits", "mnist", "cifar10"):
        found = ql.load_benchmark(str(make_folder(home / name)), "smoke")
        assert found.settings.benchmark == f"folder-{name}"


def test_a_home_directory_is_expanded(home):
    make_folder(home / "mine")
    assert benchmark_settings("~/mine", "smoke").epochs == 1
    assert ql.load_benchmark("~/mine", "smoke").settings.benchmark == "mine"
    with pytest.raises(ValueError, match="unknown benchmark '~nobody/mine'"):
        ql.load_benchmark("~nobody/mine", "smoke")


def test_a_scales_sizes_are_lowered_to_a_small_folder_and_ones_own_are_not(home):
    folder = str(make_folder(home / "mine"))  # 40 images

    def sizes(**overrides):
        found = ql.load_benchmark(folder, "smoke", **overrides)
        held = (len(found.train), len(found.validation))
        assert held == (found.settings.train_size, found.settings.validation_size)
        return held

    assert sizes() == (27, 13)
    assert sizes(train_size=30) == (30, 10)
    assert sizes(train_size=8) == (8, 13)
    assert sizes(validation_size=30) == (10, 30)
    for overrides in ({"train_size": 41}, {"validation_size": 40}, {"train_size": 512}):
        with pytest.raises(ValueError, match="must be from"):
            ql.load_benchmark(folder, "smoke", **overrides)


def test_a_tiny_folder_still_has_a_validation_part(home):
    found = ql.load_benchmark(str(make_folder(home / "mine", train=2)), "laptop")
    assert (len(found.train), len(found.validation)) == (3, 1)
    assert (found.settings.train_size, found.settings.validation_size) == (None, None)
