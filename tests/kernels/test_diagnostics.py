"""Numbers of one kernel matrix, against numpy, scipy and closed forms; refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch

from qrkd_lab.kernels import FidelityKernel
from qrkd_lab.kernels.analysis import (
    check_matrix,
    effective_rank,
    eigenvalues,
    off_diagonal,
    off_diagonal_values,
    spectral_entropy,
)

X = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
K = FidelityKernel("angle", 3)(X)


def test_off_diagonal_of_the_angle_map_is_its_closed_form():
    x = X.numpy()
    pairs = [np.prod(np.cos((x[i] - x[j]) / 2) ** 2) for i in range(12) for j in range(i + 1, 12)]
    found = off_diagonal(K)
    wanted = (np.mean(pairs), np.var(pairs), np.min(pairs), np.max(pairs))
    assert (found.mean, found.variance, found.min, found.max) == pytest.approx(wanted, rel=1e-10)
    assert off_diagonal_values(K).numpy() == pytest.approx(np.array(pairs))


def test_the_entropy_is_scipys_and_its_exponential_the_effective_rank():
    spectrum = np.linalg.svd(K.numpy(), compute_uv=False)
    assert spectral_entropy(K) == pytest.approx(scipy.stats.entropy(spectrum))
    assert effective_rank(K) == pytest.approx(math.exp(scipy.stats.entropy(spectrum)))
    assert eigenvalues(K).numpy() == pytest.approx(spectrum)


def test_effective_rank_of_known_matrices():
    blocks = torch.block_diag(*[torch.ones(4, 4)] * 3)  # three groups of equal size
    for matrix, rank in ((torch.eye(7), 7), (torch.ones(7, 7), 1), (blocks, 3)):
        assert effective_rank(matrix) == pytest.approx(rank, abs=1e-6)
        assert effective_rank(5 * matrix) == pytest.approx(rank, abs=1e-6)
    assert effective_rank(torch.ones(1, 1)) == 1


def test_a_matrix_with_negative_eigenvalues_has_the_rank_of_its_singular_values():
    matrix = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # eigenvalues 1 and -1
    assert effective_rank(matrix) == pytest.approx(2)


def test_single_precision_is_computed_in_double_and_without_gradient():
    single = K.float().requires_grad_()
    matrix = check_matrix(single)
    assert matrix.dtype == torch.float64 and not matrix.requires_grad
    assert effective_rank(single) == pytest.approx(effective_rank(K), rel=1e-4)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (K[:5], r"square matrix.*\(5, 12\)"),
        (torch.zeros(0, 0), "n >= 1"),
        (K * torch.nan, "144 of 144 entries are NaN"),
        (K + torch.triu(K), "symmetric"),
        (torch.zeros(3, 3), "zeros has no spectrum"),
    ],
)
def test_what_is_no_kernel_matrix_is_told(matrix, says):
    with pytest.raises(ValueError, match=says):
        effective_rank(matrix)


def test_other_types_are_told():
    for wrong in (K.numpy(), K.to(torch.complex128), (K > 0.5)):
        with pytest.raises(TypeError, match="floating-point torch tensor"):
            off_diagonal(wrong)


def test_one_sample_has_no_pairs():
    with pytest.raises(ValueError, match="no pairs"):
        off_diagonal(torch.ones(1, 1))
