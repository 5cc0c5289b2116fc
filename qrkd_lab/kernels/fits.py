r"""Is it just an RBF? The member of a classical family that comes nearest to a kernel matrix.

If a kernel with one number to choose gives the same matrix, the circuit was not needed for it. The
fitted kernel is a :class:`~qrkd_lab.kernels.base.Kernel` like any other, so it can take the quantum
kernel's place in a distillation too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qrkd_lab.kernels.alignment import NothingToAlign, centred_alignment
from qrkd_lab.kernels.base import Kernel
from qrkd_lab.kernels.classical import (
    CosineKernel,
    LaplacianKernel,
    PolynomialKernel,
    RBFKernel,
)
from qrkd_lab.kernels.diagnostics import check_matrix, effective_rank, off_diagonal_values
from qrkd_lab.relations import check_features

__all__ = ["FAMILIES", "NEARLY", "Fit", "best_fit"]

FAMILIES: dict[str, tuple[Callable[[float], Kernel], ...]] = {
    "rbf": (RBFKernel,),
    "laplacian": (LaplacianKernel,),
    "polynomial": tuple(
        lambda bandwidth, degree=degree: PolynomialKernel(degree, bandwidth)
        for degree in range(1, 7)
    ),
    "cosine": (lambda bandwidth: CosineKernel(),),
}
NEARLY = 0.95  # effective rank over n from which a matrix counts as nearly the identity


@dataclass(frozen=True)
class Fit:
    """The member of a classical family that comes nearest to a kernel matrix.

    Attributes:
        family: its name.
        kernel: the fitted kernel; ``kernel(x)`` is the matrix on the same angles.
        gamma: in scikit-learn's convention: b^2 / 2 (RBF), b (Laplacian), b^2 (polynomial), NaN
            (cosine).
        residual: root of the mean squared difference over pairs i < j.
        r_squared: 1 - residual^2 / variance over pairs; NaN where K is constant over pairs.
        alignment: CKA of the two matrices; NaN where one is constant.
        near_identity: both matrices are nearly the identity, so a high CKA says nothing.
        matrix: the fitted matrix ``(n, n)``.
    """

    family: str
    kernel: Kernel
    gamma: float
    residual: float
    r_squared: float
    alignment: float
    near_identity: bool
    matrix: Tensor = field(repr=False, compare=False)

    def __str__(self) -> str:
        degree = getattr(self.kernel, "degree", None)
        which = f"{self.family}" + ("" if degree is None else f" of degree {degree}")
        said = (
            f"best {which}: gamma = {self.gamma:.3g}, R^2 = {self.r_squared:.3f}, "
            f"CKA = {self.alignment:.3f}, residual = {self.residual:.2g}"
        )
        if self.near_identity:
            said += "; both matrices are nearly the identity, so the CKA says nothing"
        elif math.isnan(self.r_squared):
            said += "; all pairs are equally alike, so gamma says nothing"
        return said


def best_fit(kernel: Tensor, x: Tensor, family: str = "rbf") -> Fit:
    r"""The classical kernel on the same angles that comes nearest to a matrix.

    .. math:: b^* = \arg\min_b \sum_{i<j} \big( K_{ij} - k_b(x_i, x_j) \big)^2

    by a scan over b on a logarithmic grid and a bounded scalar search around its best point (the
    polynomial family: for each degree from 1 to 6). The diagonal, which is 1 in both, is left out:
    it would make any two near-identities agree. The angles are those given to the kernel, before
    its own bandwidth.

    Args:
        kernel: ``(n, n)``, n >= 3.
        x: angles ``(n, q)``.
        family: ``rbf``, ``laplacian``, ``polynomial`` or ``cosine`` (nothing to choose).

    Raises:
        TypeError: not a float tensor.
        ValueError: unknown family (lists them), fewer than 3 samples, other sizes, or all samples
            equal; see also :func:`~qrkd_lab.kernels.diagnostics.check_matrix`.

    Source of the question: Florez Ablan et al., arXiv 2503.05602 (tuned quantum kernels resemble
    RBF kernels).

    Example:
        >>> x = torch.linspace(0, 1, 8, dtype=torch.float64)[:, None]
        >>> round(best_fit(RBFKernel(2.0)(x), x).gamma, 4)
        2.0
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; choose one of {', '.join(FAMILIES)}")
    wanted, x = check_matrix(kernel), _angles(x, len(kernel), at_least=3)
    if family != "laplacian" and x.shape[1] > len(x):
        x = _turned(x)
    if family == "cosine":
        best: Kernel = CosineKernel()
    else:
        fits = [_fit_bandwidth(make, wanted, x) for make in FAMILIES[family]]
        best = min(fits, key=lambda fit: _mismatch(fit, wanted, x))
    matrix = best(x)
    residual = _mismatch(best, wanted, x) ** 0.5
    variance = off_diagonal_values(kernel).var(correction=0).item()
    ranks = (effective_rank(kernel), effective_rank(matrix))
    return Fit(
        family,
        best,
        _gamma(best),
        residual,
        1 - residual**2 / variance if variance > 1e-20 else math.nan,
        _alignment(kernel, matrix),
        min(ranks) > NEARLY * len(x),
        matrix,
    )


def _fit_bandwidth(make: Callable[[float], Kernel], wanted: Tensor, x: Tensor) -> Kernel:
    """The kernel of one family with the bandwidth of least squares."""
    from scipy.optimize import minimize_scalar

    scale = torch.pdist(x).square().mean().sqrt().item()  # root-mean-square distance
    if not scale > 0:
        raise ValueError("x: all samples have the same angles, so no bandwidth can be told")
    grid = torch.linspace(math.log(1e-3 / scale), math.log(1e3 / scale), 121).tolist()
    errors = [_mismatch(make(math.exp(point)), wanted, x) for point in grid]
    at = min(range(len(grid)), key=errors.__getitem__)
    bounds = (grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)])
    found = minimize_scalar(
        lambda point: _mismatch(make(math.exp(point)), wanted, x),
        bounds=bounds,
        method="bounded",
        options={"xatol": 1e-9},
    )
    return make(math.exp(found.x if found.fun < errors[at] else grid[at]))


@torch.no_grad()
def _mismatch(kernel: Kernel, wanted: Tensor, x: Tensor) -> float:
    """Mean squared difference over pairs; asked for some hundred bandwidths, so nothing else."""
    n = len(x)
    embedded = kernel.embed(kernel.bandwidth * x)
    matrix = kernel.compare(embedded, embedded)
    # Twice the sum over pairs, as both are symmetric; the diagonals are made equal.
    return (matrix - wanted).fill_diagonal_(0).square().sum().item() / (n * (n - 1))


def _alignment(kernel: Tensor, matrix: Tensor) -> float:
    try:
        return centred_alignment(kernel, matrix)
    except NothingToAlign:
        return math.nan


def _turned(x: Tensor) -> Tensor:
    """The same n points in n coordinates: a rotation keeps all distances and inner products."""
    left, size, _ = torch.linalg.svd(x, full_matrices=False)
    return left * size


def _gamma(kernel: Kernel) -> float:
    powers = {RBFKernel: (0.5, 2), LaplacianKernel: (1.0, 1), PolynomialKernel: (1.0, 2)}
    factor, power = powers.get(type(kernel), (math.nan, 1))
    return factor * kernel.bandwidth**power


def _angles(x: Tensor, samples: int, at_least: int) -> Tensor:
    check_features(x, "x")
    if len(x) != samples or samples < at_least:
        raise ValueError(
            f"expected a matrix (n, n) and angles (n, q) of the same n >= {at_least} samples, got "
            f"n = {samples} and {len(x)}"
        )
    return x.detach().cpu().double()
