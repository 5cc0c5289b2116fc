"""What was set on purpose in a record, found from its settings alone."""

from __future__ import annotations

import pytest

from qrkd_lab.studies.benchmarks import BENCHMARKS, SCALES, benchmark_settings
from qrkd_lab.studies.provenance import changes_of, freeze, in_words, settings_with
from qrkd_lab.studies.settings import ARMS, TEACHER


@pytest.mark.parametrize("benchmark", BENCHMARKS)
@pytest.mark.parametrize("scale", SCALES)
def test_defaults_have_no_changes(benchmark, scale):
    for arm in ("teacher", "scratch", "rkd_only", "qrkd", "cosine"):
        settings = benchmark_settings(benchmark, scale).replace(arm=arm, seed=4)
        assert changes_of(settings.effective()) == {}


@pytest.mark.parametrize(
    "benchmark, scale, changes",
    [
        ("mnist", "laptop", {"epochs": 3}),
        ("mnist", "laptop", {"student_widths": (3, 4, 5), "kernel_weight": 0.25}),
        ("digits", "smoke", {"train_size": None}),
        ("cifar10", "paper", {"kernel": "rbf", "bandwidth": 0.5}),
        ("mnist", "laptop", {"batch_size": 32, "feature_map": "angle", "layers": 3}),
        ("ptb", "laptop", {"tap": "mean"}),
        ("ptb", "laptop", {"teacher_model": "gpt2"}),
        ("imdb", "paper", {"precision": "float32", "vocabulary": 512, "teacher_model": None,
                           "teacher_layers": 2, "teacher_width": 128}),
    ],
)  # fmt: skip
def test_changes_are_found_again(benchmark, scale, changes):
    settings = benchmark_settings(benchmark, scale, **changes)
    assert changes_of(settings.effective()) == changes


def test_another_maps_own_depth_is_no_change():
    assert changes_of(benchmark_settings("mnist", feature_map="angle").effective()) == {
        "feature_map": "angle"
    }
    assert changes_of(benchmark_settings("mnist", layers=2).effective()) == {}


def test_what_an_arm_does_not_use_is_no_change_of_its():
    settings = benchmark_settings("mnist", kernel_weight=3.0)
    for arm in (TEACHER, *ARMS):
        found = changes_of(settings.replace(arm=arm).effective())
        uses = arm != TEACHER and "kernel" in ARMS[arm].terms
        assert found == ({"kernel_weight": 3.0} if uses else {})


def test_a_folder_need_not_be_there():
    images = benchmark_settings("cifar10", "smoke", epochs=2).replace(benchmark="pictures")
    assert changes_of(images.effective()) == {"epochs": 2}
    text = benchmark_settings("ptb", "laptop").replace(benchmark="stories")
    assert changes_of(text.effective()) == {}


@pytest.mark.parametrize(
    "edit, said",
    [
        ({"batch_size": None}, "the record lacks batch_size"),
        ({"colour": "red"}, "no setting colour"),
        ({"arm": "ladder"}, "the arm 'ladder'"),
        ({"scale": "huge"}, "the scale 'huge'"),
        ({"kernel": "wavelet"}, "unknown kernel 'wavelet'"),
        ({"epochs": "three"}, "epochs: expected a whole number"),
        ({"arm": "rkd", "kernel_weight": None}, "another"),
    ],
)
def test_what_no_call_gives_is_refused_in_words(edit, said):
    settings = benchmark_settings("mnist").effective() | edit
    with pytest.raises(ValueError, match=said):
        changes_of({name: value for name, value in settings.items() if value is not None})


def test_another_arm_of_the_same_study():
    settings = benchmark_settings("mnist", kernel_weight=3.0).effective()
    changes = tuple(changes_of(settings).items())
    rkd = benchmark_settings("mnist").replace(arm="rkd", seed=9).effective()
    assert settings_with(settings, "rkd", changes) == freeze(rkd)
    assert settings_with(settings, "rbf", (("kernel", "rbf"),)) == (), "it would equal qrkd"


def test_in_words():
    said = in_words({"kernel_weight": 3.0, "student_widths": (5, 2), "kernel": "rbf", "tap": None})
    assert said == "kernel_weight=3, student_widths=5-2, kernel=rbf, tap=None"
