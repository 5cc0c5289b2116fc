"""Settings: checked by name, type and range; each field that an arm uses changes its run."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch

from qrkd_lab.kernels import CosineKernel, FidelityKernel, ProjectedKernel, RBFKernel
from qrkd_lab.studies.arms import ARMS, Arm
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.settings import Settings, build_kernel

BASE = Settings("digits", "smoke")
# A text's, with a trained-from-scratch teacher; one of its fields at a time is changed.
TEXT = benchmark_settings("ptb", "smoke")
OTHER = {
    "benchmark": "mnist", "scale": "laptop", "arm": "shuffled", "seed": 1,
    "train_size": 10, "validation_size": 10, "teacher_widths": (1, 2, 3),
    "student_widths": (1, 2, 3), "teacher_epochs": 9, "epochs": 9, "batch_size": 9,
    "learning_rate": 0.5, "kd_weight": 0.5, "temperature": 2.0, "distance_weight": 0.5,
    "angle_weight": 0.5, "kernel_weight": 0.5, "kernel_weights": {"qrkd": 0.7}, "kernel_dose": 0.5,
    "kernel_share": 0.5, "student_size": 9, "unlabelled": 9,
    "kernel": "projected", "feature_map": "angle", "qubits": 3, "layers": 3, "bandwidth": 0.5,
    "encoder": "pca", "epoch_size": 50, "accumulation": 2, "teacher_learning_rate": 0.5,
    "schedule": "cosine", "clip_norm": 0.5,
    "own_arm": Arm(("kd",), name="mine"), "teacher_sha256": "ab", "student_sha256": "ab",
}  # fmt: skip
OTHER_TEXT = {
    "test_size": 10, "teacher_layers": 9, "teacher_width": 640, "student_layers": 9,
    "student_width": 640, "teacher_model": "gpt2", "vocabulary": 300, "sequence_length": 9,
    "tap": "mean", "tap_tokens": 9, "dropout": 0.5, "precision": "bfloat16",
}  # fmt: skip
ALL = [(BASE, name, value) for name, value in OTHER.items()]
ALL += [(TEXT, name, value) for name, value in OTHER_TEXT.items()]
NAMES = [name for _, name, _ in ALL]


# ---- what a run's identity is


@pytest.mark.parametrize(("base", "name", "value"), ALL, ids=NAMES)
def test_every_field_makes_another_qrkd_run(base, name, value):
    assert base.replace(**{name: value}).effective() != base.effective()
    named = {field.name for field in dataclasses.fields(Settings)}
    assert {*NAMES, "checkpoint_steps", "stop_after"} == named


@pytest.mark.parametrize(
    ("base", "arm", "unused"),
    [
        (BASE, "qrkd", {"checkpoint_steps"}),
        (BASE, "scratch", {"kd_weight", "temperature", "angle_weight", "kernel_weight", "qubits"}),
        (BASE, "kd", {"distance_weight", "kernel_weight", "feature_map", "bandwidth"}),
        (BASE, "rkd", {"kernel_weight", "kernel", "feature_map", "layers", "encoder"}),
        (BASE, "rbf", {"feature_map", "layers"}),
        (BASE, "cosine", {"feature_map", "layers", "bandwidth"}),
        (BASE, "teacher", {"epochs", "student_widths", "unlabelled", "kd_weight", "kernel"}),
        (TEXT, "scratch", {"tap", "tap_tokens"}),
        (TEXT, "kd", {"tap", "tap_tokens"}),
        (TEXT, "teacher", {"tap", "student_layers", "student_width", "learning_rate"}),
        (TEXT.replace(tap="mean"), "qrkd", {"tap_tokens"}),
    ],
)
def test_fields_that_an_arm_does_not_use_do_not_make_another_run(base, arm, unused):
    base = base.replace(arm=arm)
    for name in unused:
        changed = base.replace(**{name: (OTHER | OTHER_TEXT | {"checkpoint_steps": 3})[name]})
        assert changed.effective() == base.effective()


def test_a_stopped_run_is_the_shorter_one_unless_its_rate_was_to_fall():
    stopped = BASE.replace(epochs=5, stop_after=2)
    assert stopped.effective() == BASE.replace(epochs=2).effective()
    assert (stopped.epochs_to_train, BASE.epochs_to_train) == (2, BASE.epochs)
    assert BASE.replace(stop_after=BASE.epochs).effective() == BASE.effective()
    assert stopped.replace(arm="teacher").effective() == BASE.replace(arm="teacher").effective()
    text = TEXT.replace(epochs=4, schedule="cosine")
    assert text.replace(stop_after=2).effective() == {**text.effective(), "stop_after": 2}
    assert text.replace(stop_after=4).effective() == text.effective()


def test_each_arm_has_its_own_kernel_weight_until_one_is_set_for_all():
    tuned = BASE.replace(kernel_weights={"rbf": 3, "qrkd": 0.3})
    own = {arm: tuned.replace(arm=arm).weight("kernel") for arm in ("qrkd", "rbf", "detached")}
    assert own == {"qrkd": 0.3, "rbf": 3.0, "detached": 0.3}
    assert tuned.replace(arm="rbf").effective()["kernel_weight"] == 3.0
    assert "kernel_weights" not in tuned.effective()
    one = BASE.replace(arm="rbf", kernel_weight=2.0)
    assert one.replace(kernel_weights={"rbf": 3}).weight("kernel") == 3.0  # the later word
    assert tuned.replace(arm="rbf", kernel_weight=5.0).weight("kernel") == 5.0
    dosed = one.replace(kernel_dose=2.0)  # the later word
    assert dosed.effective()["kernel_dose"] == 2.0 and "kernel_weight" not in dosed.effective()
    assert dosed.replace(arm="rkd").effective() == BASE.replace(arm="rkd").effective()
    assert (
        dosed.replace(kernel_weight=1.0).effective() == one.replace(kernel_weight=1.0).effective()
    )
    assert dosed.replace(kernel_share=0.5).by_pull == {"kernel_share": 0.5}
    with pytest.raises(ValueError, match="give one of the two"):
        one.replace(kernel_dose=1.0, kernel_weight=1.0)
    alone = dosed.replace(arm="rbf_only")
    assert alone.by_pull == {"kernel_share": 1.0} and BASE.replace(arm="kd").by_pull == {}
    assert BASE.weight("kernel") == 1.0 and tuned.weight("kd") == BASE.kd_weight


def test_each_arms_kernel_and_what_sets_it_apart_from_qrkd():
    kinds = {arm: type(build_kernel(BASE.replace(arm=arm))) for arm in ARMS}
    assert kinds["qrkd"] is kinds["shuffled"] is FidelityKernel
    assert kinds["rbf"] is RBFKernel and kinds["cosine"] is CosineKernel
    assert kinds["projected"] is ProjectedKernel
    iqp = BASE.replace(arm="qrkd_iqp")
    assert build_kernel(iqp).feature_map == iqp.effective()["feature_map"] == "iqp"
    qrkd = BASE.effective()
    assert json.loads(json.dumps(qrkd)) == qrkd and None not in qrkd.values()
    for arm in ("shuffled", "detached", "random_teacher", "no_entanglement", "stretched_rbf"):
        mine = BASE.replace(arm=arm)
        assert mine.effective() == qrkd | {"arm": arm}
        assert build_kernel(mine).entangle == (arm != "no_entanglement")


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'; choose from accumulation"),
        ({"dropout": 1.0}, "dropout: expected a fraction from 0 to below 1"),
        ({"teacher_width": 0}, "teacher_width: expected a multiple of 64"),
        ({"precision": "float16"}, "choose from float32, bfloat16"),
        ({"stop_after": 4}, "at most epochs = 3, got 4"),
        ({"tap": "first"}, "unknown tap 'first'; choose from mean, last, tokens"),
        ({"arm": "rkd", "tap": "tokens", "tap_tokens": 2}, "the angle term compares 3"),
        ({"qubits": 40}, "1 to 16"),
        ({"arm": "qkd"}, "unknown arm 'qkd'; choose from scratch"),
        ({"kernel_weight": 0.0}, "leave the arm out"),
        ({"kernel_weights": {"rfb": 1.0}}, "unknown arm 'rfb'"),
        ({"kernel_weights": {"rbf": 0.0}}, "kernel_weights of rbf: expected a finite number > 0"),
        ({"arm": "qrkd_iqp", "feature_map": "iqp"}, "would equal 'qrkd'"),
        ({"arm": "stretched_rbf", "kernel": "laplacian"}, "needs a quantum kernel"),
        ({"kernel_share": 1.5}, "kernel_share: expected a fraction above 0, at most 1"),
        (
            {"arm": "no_entanglement", "feature_map": "reuploading", "layers": 1},
            "no entanglement to leave out",
        ),
        ({"arm": "no_entanglement", "qubits": 1}, "no entanglement to leave out"),
    ],
)
def test_bad_values_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        BASE.replace(**changes)


# Values that some arms cannot have, and which those are.
NOT_FOR = [
    ({"batch_size": 2}, lambda arm: "angle" in arm.terms),
    ({"batch_size": 1}, lambda arm: {"distance", "angle", "kernel"} & set(arm.terms)),
    ({"kd_weight": 0.0}, lambda arm: "kd" in arm.terms),
    ({"distance_weight": 0}, lambda arm: "distance" in arm.terms),
    ({"angle_weight": 0}, lambda arm: "angle" in arm.terms),
    ({"kernel_weight": 0}, lambda arm: "kernel" in arm.terms and arm.share is None),
    (
        {"kernel": "rbf"},
        lambda arm: arm.kernel == "rbf" or not arm.entangle or arm.stretched or arm.feature_map,
    ),
]


@pytest.mark.parametrize(("changes", "refused"), NOT_FOR, ids=lambda v: str(v)[:25])
def test_a_value_is_refused_for_the_arms_alone_that_cannot_have_it(changes, refused):
    ways = (
        lambda arm: BASE.replace(arm=arm, **changes),
        lambda arm: benchmark_settings("digits", "smoke", arm=arm, **changes),
        lambda arm: benchmark_settings("digits", "smoke", **changes).replace(arm=arm),
    )
    for arm, way in product(("teacher", *ARMS), ways):
        if arm != "teacher" and refused(ARMS[arm]):
            with pytest.raises(ValueError):  # noqa: PT011
                way(arm)
        else:
            settings = way(arm)
            assert settings.arm == arm
            assert all(getattr(settings, field) == value for field, value in changes.items())


@pytest.mark.parametrize(
    "changes",
    [
        {"qubits": 17}, {"qubits": 0}, {"layers": 0}, {"validation_size": 0}, {"epochs": 0},
        {"layers": 2, "feature_map": "amplitude"}, {"bandwidth": 0.0}, {"feature_map": "zzz"},
        {"kernel": "rfb"}, {"encoder": "none"}, {"kd_weight": -1.0}, {"accumulation": 0},
        {"angle_weight": float("nan")}, {"kernel_weight": float("inf")}, {"temperature": 0.0},
        {"clip_norm": 0.0}, {"learning_rate": -1.0}, {"schedule": "step"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_out_of_range_is_refused_for_every_arm(changes):
    for arm in ("teacher", "scratch", "qrkd"):
        with pytest.raises(ValueError, match=next(iter(changes)).replace("_", "[_ ]")):
            benchmark_settings("digits", "smoke", arm=arm, **changes)


# ---- types


NUMBERS = {
    int: (np.int64, np.uint8, np.array, torch.tensor),
    float: (np.float64, np.float16, np.array, torch.tensor, Fraction),
    str: (np.str_,),
    tuple: (np.array, torch.tensor, list, lambda v: [np.int64(one) for one in v]),
}
WRONG = {
    int: ("3", 3.0, np.float64(3), True, np.True_, [3]),
    float: ("0.5", True, [0.5], 1j),
    str: (3, True, b"zz"),
    tuple: ("123", 3, [1, 2.5], [1, True], [1, 0]),
}


@pytest.mark.parametrize(
    ("base", "name", "value"),
    [case for case in ALL if case[1] not in ("kernel_weights", "scale", "own_arm")],
)
def test_every_field_takes_numpys_numbers_and_no_other_type(base, name, value):
    kind = type(value)
    for form in NUMBERS[kind]:
        if form is np.uint8 and value > 255:
            continue
        kept = getattr(base.replace(**{name: form(value)}), name)
        assert kept == value and type(kept) is kind and json.dumps(kept)
    for wrong in WRONG[kind]:
        with pytest.raises(TypeError, match=f"^{name}: expected "):
            base.replace(**{name: wrong})


def test_whole_numbers_lists_none_and_weights_of_arms_are_taken_as_meant():
    settings = BASE.replace(kd_weight=2, student_widths=[1, 2, 3], train_size=None)
    assert settings.student_widths == (1, 2, 3) and settings.train_size is None
    assert repr(settings.kd_weight) == "2.0"
    for name in ("epochs", "kd_weight", "kernel"):
        with pytest.raises(TypeError, match=f"{name}: expected"):
            BASE.replace(**{name: None})
    given = BASE.replace(kernel_weights={"rbf": np.float32(0.5), "qrkd": np.int64(2)})
    assert repr(given.kernel_weights) == "(('qrkd', 2.0), ('rbf', 0.5))"
    for wrong in ({"rbf": "0.5"}, {"rbf": True}, 3):
        with pytest.raises(TypeError, match="kernel_weights: expected weights by arm"):
            BASE.replace(kernel_weights=wrong)
