"""Kernel numbers: right where the answer is known, the same for an arm alone or beside others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

import qrkd_lab as ql
from qrkd_lab.studies.group import RIDGE, kernel_numbers, least_squares_view, lockstep, make_learner

COMMON = {
    "feature_alignment", "kernel_alignment", "kernel_spread", "kernel_rank",
    "teacher_kernel_spread", "teacher_kernel_rank",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench():
    return ql.load_benchmark("digits", "smoke", epochs=1)


@pytest.fixture(scope="module")
def teacher(bench):
    return bench.teacher(0).eval()


def learners(bench, teacher, *arms):
    return [make_learner(bench, bench.settings.replace(arm=arm), teacher) for arm in arms]


def test_every_arm_has_the_common_numbers_and_kernel_arms_their_own(bench, teacher):
    arms = list(ql.ARMS)
    for arm, numbers in zip(
        arms, kernel_numbers(bench, learners(bench, teacher, *arms), teacher), strict=True
    ):
        own = {"own_kernel_alignment"} if "kernel" in ql.ARMS[arm].terms else set()
        assert set(numbers) == COMMON | own
        assert all(type(value) is float and np.isfinite(value) for value in numbers.values())
        assert numbers["kernel_rank"] > 1 and numbers["kernel_spread"] > 0


def test_a_student_that_is_the_teacher_is_aligned(bench, teacher):
    (learner,) = learners(bench, teacher, "kd")
    learner.model = bench.teacher(0)
    (numbers,) = kernel_numbers(bench, [learner], teacher)
    assert numbers["feature_alignment"] == pytest.approx(1)
    assert numbers["kernel_alignment"] > 0.97  # the ridge keeps it from 1
    assert numbers["kernel_rank"] == pytest.approx(numbers["teacher_kernel_rank"], rel=0.05)
    (fresh,) = kernel_numbers(bench, learners(bench, teacher, "kd"), teacher)
    assert fresh["kernel_alignment"] < 0.6 and fresh["feature_alignment"] < 0.9


def test_alone_and_beside_others_are_the_same_and_training_shows(bench, teacher):
    some = learners(bench, teacher, "scratch", "qrkd")
    before = kernel_numbers(bench, some, teacher)
    list(lockstep(bench, some, teacher, epochs=1))
    after = kernel_numbers(bench, some, teacher)
    assert [kernel_numbers(bench, [one], teacher)[0] for one in some] == after
    assert before[1] != after[1]
    assert after[1]["teacher_kernel_rank"] == after[0]["teacher_kernel_rank"]


def test_the_own_alignment_is_through_adapter_and_kernel_on_the_second_half(bench, teacher):
    (learner,) = learners(bench, teacher, "rbf")
    part = bench.validation[: min(512, len(bench.validation))]
    half = len(part) // 2
    relation = learner.loss.relation
    models = (learner.model, teacher)
    seen, taught = (bench.predict(model, part).features[half:].double() for model in models)
    wanted = ql.centred_alignment(relation.student(seen), relation.teacher(taught))
    (numbers,) = kernel_numbers(bench, [learner], teacher)
    assert numbers["own_kernel_alignment"] == pytest.approx(wanted)


def test_no_teacher_a_narrow_teacher_and_a_dead_student(bench, teacher):
    learner, dead = learners(bench, teacher, "scratch", "scratch")
    assert kernel_numbers(bench, [learner], None) == [{}]
    narrow = ql.load_benchmark("digits", "smoke", teacher_widths=(4, 4, 2))
    (found,) = kernel_numbers(narrow, [learner], narrow.teacher(0))
    assert set(found) == {"feature_alignment"}
    for weight in dead.model.parameters():
        weight.data.zero_()
    (found,) = kernel_numbers(bench, [dead], teacher)
    assert found["feature_alignment"] == found["kernel_alignment"] == 0
    assert found["kernel_spread"] == pytest.approx(0)
    assert found["kernel_rank"] == pytest.approx(1)


def test_the_view_is_ridge_regression_and_blind_to_scale():
    draw = torch.Generator().manual_seed(0)
    features, angles = (torch.randn(40, d, dtype=torch.float64, generator=draw) for d in (5, 2))
    view = least_squares_view(features, angles)
    centred = features - features.mean(0)
    ridge = Ridge(RIDGE * centred.square().sum().item() / 5, fit_intercept=False)
    assert view.numpy() == pytest.approx(ridge.fit(centred.numpy(), angles.numpy()).coef_.T)
    assert 7 * least_squares_view(7 * features + 1, angles) == pytest.approx(view)
    assert (least_squares_view(torch.ones(4, 3), angles[:4]) == 0).all()


def test_all_kernels_are_trained_at_the_dose_that_was_asked_for(bench, teacher):
    rkd = learners(bench, teacher, "rkd")[0]
    arms = ("qrkd", "rbf", "cosine", "shuffled", "random_teacher", "detached")
    chosen = [bench.settings.replace(arm=arm, kernel_dose=0.5) for arm in arms]
    dosed = [make_learner(bench, settings, teacher) for settings in chosen]
    list(lockstep(bench, [rkd, *dosed], teacher, epochs=1))
    *pulling, detached = dosed
    for learner in pulling:
        assert learner.history[0]["kernel_dose"] == pytest.approx(0.5, rel=1e-4)
        assert learner.history[0]["kernel_weight"] > 0
    assert "kernel_pull" not in detached.history[0]
    for one, other in zip(rkd.model.parameters(), detached.model.parameters(), strict=True):
        assert torch.equal(one, other)
    (alone,) = [make_learner(bench, chosen[0], teacher)]
    list(lockstep(bench, [alone], teacher, epochs=1))
    for one, other in zip(alone.model.parameters(), dosed[0].model.parameters(), strict=True):
        assert torch.equal(one, other)
