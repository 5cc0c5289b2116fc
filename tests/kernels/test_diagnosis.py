"""All at once and in words; the tables behind the figures."""

from __future__ import annotations

import math
import re

import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, RBFKernel
from qrkd_lab.kernels.analysis import centred_alignment, class_matrix, effective_rank, off_diagonal
from qrkd_lab.kernels.diagnosis import concentration_table, diagnose

X = torch.randn(24, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = (X[:, 0] > 0).long()


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (torch.eye(24), "nearly the identity: each sample only resembles itself; an RBF resembles"),
        (torch.ones(24, 24), "nearly all ones: all samples look alike; all pairs are equally"),
        (RBFKernel(0.8)(X), r"neither .*; fitted by an RBF \(R\^2 = 1.00\)"),
        (FidelityKernel("zz", 3, bandwidth=0.3)(X), r"neither .*; not fitted by an RBF"),
    ],
)
def test_it_says_what_it_sees(matrix, says):
    found = diagnose(matrix, LABELS, X)
    assert re.search(says, found.verdict)
    for shown in (repr(found), found._repr_html_()):
        assert "effective rank" in shown and "best RBF" in shown and "Kernel matrix: " in shown


def test_its_numbers_are_those_of_the_functions():
    k = RBFKernel()(X)
    found = diagnose(k, LABELS)
    assert found.off_diagonal == off_diagonal(k) and found.effective_rank == effective_rank(k)
    assert found.centred_alignment == centred_alignment(k, class_matrix(LABELS))
    assert found.fit is None and "RBF" not in repr(found)
    pairs = found.off_diagonal
    # With that many shots the noise of an entry at the mean has the variance over pairs.
    assert pairs.mean * (1 - pairs.mean) / found.shots == pytest.approx(pairs.variance)
    assert diagnose(torch.ones(3, 3)).shots == math.inf
    assert math.isnan(diagnose(torch.ones(24, 24), LABELS).centred_alignment)


def test_concentration_is_measured_on_the_first_angles():
    table = concentration_table(["angle", "zz"], [1, 2, 3], [0.5, 1.0], angles=X)
    assert len(table) == 12
    row = table.query("feature_map == 'zz' and bandwidth == 0.5 and qubits == 2").iloc[0]
    k = FidelityKernel("zz", 2, bandwidth=0.5)(X[:, :2])
    assert row["variance"] == off_diagonal(k).variance and row["mean"] == off_diagonal(k).mean
    assert row["effective_rank"] == effective_rank(k) and row["samples"] == 24


def test_the_angle_map_concentrates_by_a_known_factor():
    # of normal angles E cos^2((x - y) / 2) = (1 + e^-1) / 2 a qubit
    table = concentration_table(["angle"], [2, 4], samples=600)
    means = table["mean"].to_numpy()
    assert means == pytest.approx([((1 + math.exp(-1)) / 2) ** q for q in (2, 4)], rel=0.03)
    # and E cos^4 = (3 + 4 e^-1 + e^-4) / 8
    fourth = (3 + 4 * math.exp(-1) + math.exp(-4)) / 8
    wanted = [fourth**q - ((1 + math.exp(-1)) / 2) ** (2 * q) for q in (2, 4)]
    assert table["variance"].to_numpy() == pytest.approx(wanted, rel=0.1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: diagnose(torch.ones(1, 1)), "no pairs"),
        (lambda: diagnose(torch.eye(24), LABELS[:3]), "24 samples"),
        (lambda: concentration_table(angles=X), r"\(n, 10 or more\), got \(24, 3\)"),
        (lambda: concentration_table(["nothing"], [2]), "unknown feature map"),
        (lambda: concentration_table(qubits=[0]), "qubits"),
    ],
)
def test_wrong_input_is_told(call, says):
    with pytest.raises(ValueError, match=says):
        call()
