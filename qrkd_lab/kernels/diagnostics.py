r"""Numbers of one kernel matrix ``(n, n)``: is it nearly the identity, nearly all ones, or neither?

Every diagnostic takes float32 or float64 torch tensors, computes in float64 without gradient, and
returns plain floats or a small frozen record; none knows how the matrix was made. Numbers of two
matrices, and of a matrix and classes, are in :mod:`qrkd_lab.kernels.alignment`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "OffDiagonal",
    "check_matrix",
    "effective_rank",
    "eigenvalues",
    "off_diagonal",
    "off_diagonal_values",
    "spectral_entropy",
]

SYMMETRY = 1e-4  # of the largest entry: float32 products of 2^16 amplitudes stay well below


def check_matrix(kernel: Tensor, name: str = "K") -> Tensor:
    """The matrix in float64, detached, on the CPU, exactly symmetric.

    Raises:
        TypeError: no real floating-point tensor.
        ValueError: not ``(n, n)`` with n >= 1, not finite, or not symmetric.
    """
    if not isinstance(kernel, Tensor) or not kernel.is_floating_point():
        kind = f"a {kernel.dtype} tensor" if isinstance(kernel, Tensor) else type(kernel).__name__
        raise TypeError(
            f"{name}: expected a floating-point torch tensor (n, n), got {kind}; "
            "convert with torch.as_tensor(...).double()"
        )
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel):
        raise ValueError(
            f"{name}: expected a square matrix (n, n) with n >= 1, got {tuple(kernel.shape)}; "
            "a diagnostic takes kernel(x), not kernel(x, y)"
        )
    matrix = kernel.detach().cpu().double()
    if not torch.isfinite(matrix).all():
        bad = int((~torch.isfinite(matrix)).sum())
        raise ValueError(
            f"{name}: {bad} of {matrix.numel()} entries are NaN or infinite; look for them in the "
            "features or angles first"
        )
    apart = (matrix - matrix.T).abs().max().item()
    if apart > SYMMETRY * matrix.abs().max().item():
        raise ValueError(
            f"{name}: expected a symmetric matrix, got entries that differ by {apart:.3g} from "
            "their mirror image; average the two halves, (K + K.T) / 2, if that is shot noise"
        )
    return (matrix + matrix.T) / 2


def off_diagonal_values(kernel: Tensor, name: str = "K") -> Tensor:
    """The n (n - 1) / 2 values over pairs of different samples, row by row, in float64.

    Raises:
        ValueError: fewer than two samples; see also :func:`check_matrix`.
    """
    matrix = check_matrix(kernel, name)
    if len(matrix) < 2:
        raise ValueError(f"{name}: one sample has no pairs; expected n >= 2 samples")
    row, column = torch.triu_indices(len(matrix), len(matrix), offset=1)
    return matrix[row, column]


@dataclass(frozen=True)
class OffDiagonal:
    """Mean, population variance, smallest and largest kernel value over pairs i < j."""

    mean: float
    variance: float
    min: float
    max: float


def off_diagonal(kernel: Tensor) -> OffDiagonal:
    r"""How the values over pairs of different samples are spread.

    .. math:: \bar k = \frac{2}{n(n-1)} \sum_{i<j} K_{ij}, \qquad
              \mathrm{Var} = \frac{2}{n(n-1)} \sum_{i<j} (K_{ij} - \bar k)^2

    A variance that falls exponentially with the number of qubits is *concentration*: more and more
    shots are needed to tell two entries apart. Source: Thanasilp et al., Nat. Commun. 15, 5200
    (2024), arXiv 2208.11060.

    Args:
        kernel: ``(n, n)``, n >= 2.

    Raises:
        TypeError, ValueError: see :func:`off_diagonal_values`.

    Example:
        >>> off_diagonal(torch.eye(3))
        OffDiagonal(mean=0.0, variance=0.0, min=0.0, max=0.0)
    """
    values = off_diagonal_values(kernel)
    variance = values.var(correction=0)
    return OffDiagonal(*(v.item() for v in (values.mean(), variance, values.min(), values.max())))


def eigenvalues(kernel: Tensor) -> Tensor:
    """The eigenvalues ``(n,)`` in float64, largest first."""
    return torch.linalg.eigvalsh(check_matrix(kernel)).flip(0)


def spectral_entropy(kernel: Tensor) -> float:
    r"""Entropy of the normalised spectrum, in nats: 0 (one direction) to log n (all alike).

    .. math:: H = -\sum_i p_i \log p_i, \qquad p_i = \frac{|\lambda_i|}{\sum_j |\lambda_j|}

    with the eigenvalues :math:`\lambda_i`; their absolute values are the singular values, so that
    a matrix estimated from shots, which may have negative ones, has an entropy too.

    Raises:
        ValueError: all entries are 0; see also :func:`check_matrix`.
    """
    sizes = eigenvalues(kernel).abs()
    if not sizes.sum() > 0:
        raise ValueError("K: a matrix of zeros has no spectrum; expected a kernel matrix")
    return torch.special.entr(sizes / sizes.sum()).sum().item() + 0.0


def effective_rank(kernel: Tensor) -> float:
    r"""How many directions the matrix really has: :math:`e^H`, from 1 to n.

    n for the identity (each sample resembles only itself), 1 where all samples look alike. H is
    the :func:`spectral_entropy`. Source: Roy and Vetterli, EUSIPCO 2007.

    Example:
        >>> round(effective_rank(torch.eye(5)), 6), round(effective_rank(torch.ones(5, 5)), 6)
        (5.0, 1.0)
    """
    return math.exp(spectral_entropy(kernel))
