"""Settings: checked by name, type and range; each field that an arm uses changes its run."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
import torch

from qrkd_lab.kernels import CosineKernel, FidelityKernel, ProjectedKernel, RBFKernel
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.records import run_key
from qrkd_lab.studies.settings import ARMS, Settings, build_kernel

BASE = Settings("digits", "smoke")
# A text's, with a trained-from-scratch teacher; one of its fields at a time is changed.
TEXT = benchmark_settings("ptb", "smoke")

OTHER = {
    "benchmark": "mnist",
    "scale": "laptop",
    "arm": "shuffled",
    "seed": 1,
    "train_size": 10,
    "validation_size": 10,
    "teacher_widths": (1, 2, 3),
    "student_widths": (1, 2, 3),
    "teacher_epochs": 9,
    "epochs": 9,
    "batch_size": 9,
    "learning_rate": 0.5,
    "kd_weight": 0.5,
    "temperature": 2.0,
    "distance_weight": 0.5,
    "angle_weight": 0.5,
    "kernel_weight": 0.5,
    "kernel_weights": {"qrkd": 0.7},
    "kernel": "projected",
    "feature_map": "angle",
    "qubits": 3,
    "layers": 3,
    "bandwidth": 0.5,
    "encoder": "pca",
    "epoch_size": 50,
    "accumulation": 2,
    "teacher_learning_rate": 0.5,
    "schedule": "cosine",
    "clip_norm": 0.5,
}
OTHER_TEXT = {
    "test_size": 10,
    "teacher_layers": 9,
    "teacher_width": 640,
    "student_layers": 9,
    "student_width": 640,
    "teacher_model": "gpt2",
    "vocabulary": 300,
    "sequence_length": 9,
    "tap": "mean",
    "tap_tokens": 9,
    "dropout": 0.5,
    "precision": "bfloat16",
}


def test_every_field_has_another_value_here():
    named = {field.name for field in dataclasses.fields(Settings)}
    assert {*OTHER, *OTHER_TEXT, "checkpoint_steps", "stop_after"} == named


@pytest.mark.parametrize("name", OTHER)
def test_every_field_makes_another_qrkd_run(name):
    changed = BASE.replace(**{name: OTHER[name]})
    assert run_key(changed.effective(), "x") != run_key(BASE.effective(), "x")


@pytest.mark.parametrize("name", OTHER_TEXT)
def test_every_field_of_text_makes_another_qrkd_run(name):
    changed = TEXT.replace(**{name: OTHER_TEXT[name]})
    assert run_key(changed.effective(), "x") != run_key(TEXT.effective(), "x")


def test_how_often_a_run_is_saved_on_the_way_makes_no_other_run():
    assert BASE.replace(checkpoint_steps=3).effective() == BASE.effective()


def test_a_stopped_run_at_a_constant_rate_is_the_shorter_run():
    stopped = BASE.replace(epochs=5, stop_after=2)
    assert stopped.effective() == BASE.replace(epochs=2).effective()
    assert (stopped.epochs_to_train, BASE.epochs_to_train) == (2, BASE.epochs)
    assert BASE.replace(stop_after=BASE.epochs).effective() == BASE.effective()
    assert stopped.replace(arm="teacher").effective() == BASE.replace(arm="teacher").effective()


def test_a_stopped_run_whose_rate_was_to_fall_is_a_run_of_its_own():
    text = TEXT.replace(epochs=4, schedule="cosine")
    stopped = text.replace(stop_after=2)
    assert stopped.effective() == {**text.effective(), "stop_after": 2}
    assert text.replace(stop_after=4).effective() == text.effective()
    with pytest.raises(ValueError, match="at most epochs = 4, got 5"):
        text.replace(stop_after=5)


def test_what_is_none_is_no_part_of_a_runs_identity():
    assert None not in BASE.effective().values() and "sequence_length" not in BASE.effective()


@pytest.mark.parametrize(
    ("arm", "unused"),
    [
        ("scratch", {"tap", "tap_tokens"}),
        ("kd", {"tap", "tap_tokens"}),
        ("teacher", {"tap", "student_layers", "student_width", "learning_rate"}),
    ],
)
def test_what_an_arm_of_a_text_does_not_use_makes_no_other_run(arm, unused):
    base, other = TEXT.replace(arm=arm), OTHER | OTHER_TEXT
    for name in unused:
        assert base.replace(**{name: other[name]}).effective() == base.effective()


def test_a_tap_other_than_tokens_has_no_number_of_them():
    means = TEXT.replace(tap="mean")
    assert means.effective() == means.replace(tap_tokens=9).effective()


@pytest.mark.parametrize(
    ("arm", "unused"),
    [
        ("scratch", {"kd_weight", "temperature", "angle_weight", "kernel_weight", "qubits"}),
        ("kd", {"distance_weight", "angle_weight", "kernel_weight", "feature_map", "bandwidth"}),
        ("rkd", {"kernel_weight", "kernel", "feature_map", "layers", "encoder"}),
        ("rbf", {"feature_map", "layers"}),
        ("cosine", {"feature_map", "layers", "bandwidth"}),
        ("teacher", {"epochs", "student_widths", "kd_weight", "kernel", "encoder"}),
    ],
)
def test_fields_that_an_arm_does_not_use_do_not_make_another_run(arm, unused):
    base = BASE.replace(arm=arm)
    for name in unused:
        assert base.replace(**{name: OTHER[name]}).effective() == base.effective()


def test_each_arm_has_its_own_kernel_weight_until_one_is_set_for_all():
    tuned = BASE.replace(kernel_weights={"rbf": 3, "qrkd": 0.3})
    own = {arm: tuned.replace(arm=arm).weight("kernel") for arm in ("qrkd", "rbf", "detached")}
    assert own == {"qrkd": 0.3, "rbf": 3.0, "detached": 0.3}
    assert tuned.replace(arm="rbf").effective()["kernel_weight"] == 3.0
    assert "kernel_weights" not in tuned.effective()
    one = BASE.replace(arm="rbf", kernel_weight=2.0)
    assert one.replace(kernel_weights={"rbf": 3}).weight("kernel") == 3.0  # the later word
    assert one.replace(kernel_weight=5.0, kernel_weights={"rbf": 3}).weight("kernel") == 5.0
    assert tuned.replace(arm="rbf", kernel_weight=5.0).weight("kernel") == 5.0
    assert BASE.weight("kernel") == 1.0 and tuned.weight("kd") == BASE.kd_weight
    with pytest.raises(ValueError, match="unknown arm 'rfb'"):
        BASE.replace(kernel_weights={"rfb": 1.0})
    with pytest.raises(ValueError, match="finite weights > 0, got 0"):
        BASE.replace(kernel_weights={"rbf": 0.0})
    with pytest.raises(TypeError, match="expected weights by arm, got 3"):
        BASE.replace(kernel_weights=3)


def test_effective_settings_are_plain_json():
    assert json.loads(json.dumps(BASE.effective())) == BASE.effective()


@pytest.mark.parametrize("arm", ARMS)
def test_controls_differ_from_qrkd_in_one_thing(arm):
    mine, qrkd = BASE.replace(arm=arm).effective(), BASE.effective()
    if arm in ("shuffled", "detached", "random_teacher", "no_entanglement"):
        assert {name for name in qrkd if mine.get(name) != qrkd[name]} == {"arm"}


def test_the_kernel_of_each_arm():
    kinds = {arm: type(build_kernel(BASE.replace(arm=arm))) for arm in ARMS}
    assert kinds["qrkd"] is kinds["shuffled"] is FidelityKernel
    assert kinds["rbf"] is RBFKernel and kinds["cosine"] is CosineKernel
    assert kinds["projected"] is ProjectedKernel
    assert build_kernel(BASE.replace(arm="qrkd")).entangle
    assert not build_kernel(BASE.replace(arm="no_entanglement")).entangle


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; choose from accumulation"),
        ({"epochs": 0}, "epochs: expected at least 1"),
        ({"accumulation": 0}, "accumulation: expected at least 1"),
        ({"clip_norm": 0.0}, "clip_norm: expected a number > 0"),
        ({"dropout": 1.0}, "dropout: expected a fraction from 0 to below 1"),
        ({"student_width": 100}, "student_width: expected a multiple of 64"),
        ({"tap": "first"}, "unknown tap 'first'; choose from mean, last, tokens"),
        ({"schedule": "step"}, "unknown schedule 'step'; choose from constant, cosine"),
        ({"precision": "float16"}, "choose from float32, bfloat16"),
        ({"arm": "rkd", "tap": "tokens", "tap_tokens": 2}, "the angle term compares 3"),
        ({"learning_rate": -1.0}, "learning_rate"),
        ({"temperature": 0.0}, "temperature"),
        ({"kernel": "quantum"}, "choose from fidelity, projected"),
        ({"encoder": "none"}, "choose from adapter"),
        ({"feature_map": "zzz"}, "choose one of angle, zz"),
        ({"qubits": 40}, "1 to 16"),
        ({"arm": "qkd"}, "unknown arm 'qkd'; choose from scratch"),
        ({"kernel_weight": 0.0}, "leave the arm out"),
        ({"arm": "rkd", "angle_weight": 0.0}, "leave the arm out"),
        ({"arm": "rbf", "kernel": "rbf"}, "would equal 'qrkd'"),
        ({"arm": "no_entanglement", "feature_map": "angle"}, "no entanglement to leave out"),
        (
            {"arm": "no_entanglement", "feature_map": "reuploading", "layers": 1},
            "no entanglement to leave out",
        ),
        ({"arm": "no_entanglement", "kernel": "rbf"}, "no entanglement to leave out"),
        ({"arm": "no_entanglement", "qubits": 1}, "no entanglement to leave out"),
    ],
)
def test_bad_values_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        BASE.replace(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 2.5}, "epochs: expected a whole number, got 2.5"),
        ({"epochs": True}, "epochs: expected a whole number"),
        ({"learning_rate": "fast"}, "learning_rate: expected a number"),
        ({"kernel": 3}, "kernel: expected a word"),
        ({"student_widths": [1, 2.5]}, "a list of whole numbers"),
        ({"train_size": "all"}, "a whole number or None"),
    ],
)
def test_bad_types_are_refused(changes, says):
    with pytest.raises(TypeError, match=says):
        BASE.replace(**changes)


# Values that some arms cannot have, and which those are.
NOT_FOR = {
    "batch_size=2": ({"batch_size": 2}, lambda arm: "angle" in arm.terms),
    "batch_size=1": ({"batch_size": 1}, lambda arm: {"angle", "kernel"} & set(arm.terms)),
    "kd_weight=0": ({"kd_weight": 0.0}, lambda arm: "kd" in arm.terms),
    "distance_weight=0": ({"distance_weight": 0}, lambda arm: "distance" in arm.terms),
    "angle_weight=0": ({"angle_weight": 0}, lambda arm: "angle" in arm.terms),
    "kernel_weight=0": ({"kernel_weight": 0}, lambda arm: "kernel" in arm.terms),
    "kernel=rbf": (
        {"kernel": "rbf"}, lambda arm: arm.kernel == "rbf" or not arm.entangle,
    ),
}  # fmt: skip


@pytest.mark.parametrize("arm", ["teacher", *ARMS])
@pytest.mark.parametrize("name", NOT_FOR)
def test_a_value_is_refused_for_the_arms_alone_that_cannot_have_it(name, arm):
    changes, refused = NOT_FOR[name]
    ways = (
        lambda: BASE.replace(arm=arm, **changes),
        lambda: benchmark_settings("digits", "smoke", arm=arm, **changes),
        lambda: benchmark_settings("digits", "smoke", **changes).replace(arm=arm),
    )
    for way in ways:
        if arm != "teacher" and refused(ARMS[arm]):
            with pytest.raises(ValueError):  # noqa: PT011
                way()
        else:
            settings = way()
            assert settings.arm == arm
            assert all(getattr(settings, field) == value for field, value in changes.items())


@pytest.mark.parametrize("arm", ["teacher", *ARMS])
@pytest.mark.parametrize(
    "changes",
    [
        {"qubits": 17}, {"qubits": 0}, {"layers": 0},
        {"layers": 2, "feature_map": "amplitude"}, {"bandwidth": 0.0}, {"bandwidth": -1.0},
        {"feature_map": "zzz"}, {"kernel": "rfb"}, {"encoder": "none"}, {"kd_weight": -1.0},
        {"angle_weight": float("nan")}, {"kernel_weight": float("inf")}, {"temperature": 0.0},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_out_of_range_is_refused_for_every_arm(arm, changes):
    with pytest.raises(ValueError, match=next(iter(changes)).replace("_", "[_ ]")):
        benchmark_settings("digits", "smoke", arm=arm, **changes)


NUMBERS = {
    int: (np.int64, np.int32, np.uint8, np.array, torch.tensor),
    float: (np.float64, np.float32, np.float16, np.array, torch.tensor, Fraction),
    str: (np.str_,),
    tuple: (np.array, torch.tensor, list, lambda v: [np.int64(one) for one in v]),
}
WRONG = {
    int: ("3", 3.0, np.float64(3), True, np.True_, [3], b"3"),
    float: ("0.5", True, np.True_, [0.5], 1j, b"1", {}),
    str: (3, True, ["zz"], b"zz"),
    tuple: ("123", 3, [1, 2.5], [1, True], [1, "2"], [1, 0], {1: 2}),
}


def kind_of(name):
    text = str(next(f.type for f in dataclasses.fields(Settings) if f.name == name))
    return {"int": int, "float": float, "str": str}.get(text.split(" ")[0], tuple)


@pytest.mark.parametrize("name", sorted({*OTHER, *OTHER_TEXT} - {"kernel_weights", "scale"}))
def test_every_field_takes_numpys_numbers_and_no_other_type(name):
    base, value = (TEXT, OTHER_TEXT[name]) if name in OTHER_TEXT else (BASE, OTHER[name])
    kind = kind_of(name)
    for form in NUMBERS[kind]:
        if form is np.uint8 and value > 255:
            continue
        kept = getattr(base.replace(**{name: form(value)}), name)
        assert kept == value and type(kept) is kind
        assert json.dumps(kept)
    for wrong in WRONG[kind]:
        with pytest.raises(TypeError, match=f"^{name}: expected "):
            base.replace(**{name: wrong})


def test_a_whole_number_of_numpy_is_a_number():
    kept = BASE.replace(temperature=np.int64(2)).temperature
    assert (kept, type(kept)) == (2.0, float)


def test_weights_of_arms_take_numpys_numbers_and_no_text():
    given = BASE.replace(kernel_weights={"rbf": np.float32(0.5), "qrkd": np.int64(2)})
    assert given.kernel_weights == (("qrkd", 2.0), ("rbf", 0.5))
    assert {type(weight) for _, weight in given.kernel_weights} == {float}
    for wrong in ("0.5", True, None, [1.0]):
        with pytest.raises(TypeError, match="kernel_weights: expected weights by arm"):
            BASE.replace(kernel_weights={"rbf": wrong})


def test_whole_numbers_and_lists_are_taken_as_meant():
    settings = BASE.replace(kd_weight=2, student_widths=[1, 2, 3], train_size=None)
    assert settings.kd_weight == 2.0 and isinstance(settings.kd_weight, float)
    assert settings.student_widths == (1, 2, 3)
