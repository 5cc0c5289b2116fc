"""Students that copy matrices from shots: what differs between them is the shots alone."""

from __future__ import annotations

import math

import pandas as pd
import pytest
import torch
from scipy import stats

from qrkd_lab.kernels.shots import ShotRelation
from qrkd_lab.studies.benchmarks import load_benchmark
from qrkd_lab.studies.group import lockstep
from qrkd_lab.teaching.experiments import shot_changes, shot_learner, shot_students


def test_a_table_of_students(tmp_path):
    table = shot_students("digits", (None, 5), ("teacher", "both"), 1, "smoke", 1, tmp_path,
                          kernel_weight=10.0, qubits=3)  # fmt: skip
    assert list(table["sides"]) == ["detached", "teacher", "teacher", "both"]
    assert table["shots"].isna().tolist() == [True, True, False, False]
    assert table["alignment"].between(-1, 1).all() and table["accuracy"].between(0, 1).all()
    assert table["alignment"].nunique() == 4 and (table["gap"] > 0).all()


def test_changes_are_paired_with_the_reference():
    rows = [("detached", math.nan), ("teacher", math.nan), ("both", 1.0)]
    rows = [
        (sides, shots, seed, 5.0 * seed + value[seed], 0.5)
        for (sides, shots), value in zip(rows, ((0, 0, 0), (1, 2, 3), (1, 2, 6)), strict=True)
        for seed in (0, 1, 2)
    ]
    table = pd.DataFrame(rows, columns=["sides", "shots", "seed", "alignment", "accuracy"])
    found = shot_changes(table, "detached")
    test = stats.ttest_1samp([1, 2, 3], 0).confidence_interval()
    assert list(found.index) == ["exact", "1 shot, both"]
    assert found.loc["exact", "alignment"].tolist() == pytest.approx([2, test.low, test.high])
    assert found["accuracy"].to_numpy().tolist() == [[0, 0, 0]] * 2
    other = shot_changes(table, "exact", ["alignment"])
    assert other.loc["1 shot, both", ("alignment", "mean")] == 1
    assert other.loc["detached", ("alignment", "mean")] == -2
    with pytest.raises(ValueError, match="choose from detached, exact, 1 shot, both"):
        shot_changes(table, "rkd")


@pytest.fixture(scope="module")
def bench():
    return load_benchmark("digits", "smoke", qubits=3)


def test_only_the_relation_is_another(bench):
    teacher = bench.teacher(0).eval()
    exact, noisy = (shot_learner(bench, teacher, 0, shots, "both") for shots in (None, 7))
    assert isinstance(noisy.loss.relation, ShotRelation) and noisy.loss.relation.shots == 7
    assert noisy.loss.relation.kernel == exact.loss.relation.kernel
    assert noisy.loss.weights == exact.loss.weights
    same = zip(exact.model.parameters(), noisy.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in same)


def test_the_adapter_is_still_trained(bench):
    teacher = bench.teacher(0).eval()
    learner = shot_learner(bench, teacher, 0, 7)
    before = learner.loss.relation.encoder.student_map.detach().clone()
    list(lockstep(bench, [learner], teacher, epochs=1))
    assert not torch.equal(before, learner.loss.relation.encoder.student_map)


def test_without_noise_to_speak_of_it_is_the_exact_student(bench):
    teacher = bench.teacher(0).eval()
    exact, fine, coarse = (shot_learner(bench, teacher, 0, s) for s in (None, 10**9, 1))
    list(lockstep(bench, [exact, fine, coarse], teacher, epochs=1))
    names = list(exact.model.state_dict())
    near, far = (
        max((exact.model.state_dict()[n] - other.model.state_dict()[n]).abs().max() for n in names)
        for other in (fine, coarse)
    )
    assert near < 0.1 * far
