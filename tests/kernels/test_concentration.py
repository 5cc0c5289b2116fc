"""Fidelity and projected kernels as qubits are added, and the shots that each needs."""

from __future__ import annotations

import math

import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, ProjectedKernel, diagnose, off_diagonal
from qrkd_lab.kernels.analysis import global_and_projected, shots_to_resolve

X = torch.randn(16, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_a_fidelity_needs_what_its_diagnosis_says():
    kernel = FidelityKernel("iqp", 3)
    assert shots_to_resolve(kernel, X) == pytest.approx(diagnose(kernel(X)).shots)


def test_a_projected_kernel_needs_shots_for_its_bloch_vectors():
    # one qubit turned about Y: the vector is (sin x, 0, cos x)
    x = X[:, :1]
    parts = torch.cat([x.sin(), 0 * x, x.cos()], dim=1)
    want = (1 - parts.square()).mean() / parts.var(0, correction=0).mean()
    assert shots_to_resolve(ProjectedKernel("angle", 1), x) == pytest.approx(want.item())
    wide = ProjectedKernel("angle", 1, bandwidth=0.5), ProjectedKernel("angle", 1)
    assert shots_to_resolve(wide[0], x) == pytest.approx(shots_to_resolve(wide[1], 0.5 * x))
    gammas = (shots_to_resolve(ProjectedKernel("zz", 3, gamma=g), X) for g in (0.1, 10.0))
    assert next(gammas) == next(gammas)


def test_what_never_varies_takes_for_ever():
    same = X[:1].expand(4, 3)
    assert shots_to_resolve(FidelityKernel("zz", 3), same) == math.inf
    assert shots_to_resolve(ProjectedKernel("zz", 3), same) > 1e12


def test_the_table_holds_both_kernels():
    table = global_and_projected(("iqp",), (2, 3), bandwidth=0.5, samples=12, seed=3)
    assert set(table["feature_map"]) == {"iqp"}
    assert list(table["kernel"].unique()) == ["fidelity", "projected"]
    x = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    kernel = ProjectedKernel("iqp", 2, bandwidth=0.5)
    row = table.query("kernel == 'projected' and qubits == 2").iloc[0]
    assert row["variance"] == off_diagonal(kernel(x[:, :2])).variance
    assert row["shots"] == shots_to_resolve(kernel, x[:, :2])
