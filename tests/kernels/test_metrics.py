"""An RBF in a learnt metric reproduces a stretched RBF on new samples, where a round one fails."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.kernels.analysis import learn_metric, metric_rbf, r_squared
from qrkd_lab.kernels.diagnosis import best_fit

DRAW = torch.Generator().manual_seed(0)
X = torch.randn(30, 3, generator=DRAW, dtype=torch.float64)
NEW = torch.randn(30, 3, generator=DRAW, dtype=torch.float64)
M = torch.tensor([[1.5, 0.0, 0.0], [1.5, 0.1, 0.0], [0.0, 0.0, 0.1]], dtype=torch.float64)


def test_the_matrix_is_a_gaussian_of_the_stretched_distance() -> None:
    torch.testing.assert_close(metric_rbf(X, M), torch.exp(-(torch.cdist(X @ M, X @ M) ** 2)))


def test_the_metric_is_found_and_holds_on_new_samples() -> None:
    wanted = metric_rbf(X, M)
    found = learn_metric(wanted, X)
    assert r_squared(metric_rbf(NEW, M), metric_rbf(NEW, found)) > 0.98
    assert best_fit(wanted, X, "rbf").r_squared < 0.9


def test_r_squared_is_1_for_itself_and_0_for_the_mean() -> None:
    wanted = metric_rbf(X, M)
    off = wanted[~torch.eye(30, dtype=torch.bool)]
    assert r_squared(wanted, wanted) == 1
    assert r_squared(wanted, torch.full_like(wanted, off.mean())) == pytest.approx(0, abs=1e-9)


def test_angles_and_matrix_must_belong_together() -> None:
    with pytest.raises(ValueError, match=r"expected a matrix \(30, 30\)"):
        learn_metric(torch.eye(4), X)
