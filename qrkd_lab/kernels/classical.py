r"""Classical kernels: the controls that a quantum kernel has to beat.

Same interface as the quantum kernels, same inputs. Each has a unit diagonal and values in [0, 1]
(the polynomial one of odd degree in [-1, 1]), so that one weight means the same for all of them.
Values and gradients are right for samples of any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qrkd_lab.kernels.base import Kernel, positive, whole

FAR = 100.0  # exp(-FAR^2 / 2) is 0 in double precision, too

__all__ = ["CosineKernel", "LaplacianKernel", "PolynomialKernel", "RBFKernel", "squared_distances"]


def squared_distances(u: Tensor, v: Tensor) -> Tensor:
    """``|u_i - v_j|^2``: ``(n, m), (k, m) -> (n, k)``; >= 0, with gradient 0 at coincident rows.

    Taken from direct differences, so equal rows are exactly 0 apart and the relative error of all
    others is near the dtype's resolution, however far they lie from the origin; from
    ``|u|^2 + |v|^2 - 2 u v`` it would be an absolute error that grows with ``|u|^2``.
    """
    return distances(u, v).square()


def distances(u: Tensor, v: Tensor) -> Tensor:
    """``|u_i - v_j|``: ``(n, m), (k, m) -> (n, k)``, from direct differences."""
    return torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class RBFKernel(Kernel):
    r"""Gaussian kernel of the scaled angles.

    .. math:: k(x, y) = \exp\left(-\tfrac12 b^2 \lVert x - y \rVert_2^2\right)

    Args:
        bandwidth: b > 0; in the other common convention, gamma = b^2 / 2.
        chunk: see :class:`~qrkd_lab.kernels.base.Kernel`.
    """

    bandwidth: float = 1.0
    chunk: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", positive("bandwidth", self.bandwidth))

    def embed(self, x: Tensor) -> Tensor:
        return x

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        # Far samples have k = 0 and no gradient, also where their squared distance overflows.
        return torch.exp(-0.5 * distances(u, v).clamp(max=FAR).square())


@dataclass(frozen=True)
class LaplacianKernel(Kernel):
    r"""Laplacian kernel of the scaled angles.

    .. math:: k(x, y) = \exp\left(-b \lVert x - y \rVert_1\right)

    Args:
        bandwidth: b > 0.
        chunk: see :class:`~qrkd_lab.kernels.base.Kernel`.
    """

    bandwidth: float = 1.0
    chunk: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", positive("bandwidth", self.bandwidth))

    def embed(self, x: Tensor) -> Tensor:
        return x

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(u, v, p=1))


@dataclass(frozen=True)
class PolynomialKernel(Kernel):
    r"""Polynomial kernel, normalised to a unit diagonal.

    .. math:: k(x, y) = \left(\frac{b^2 x \cdot y + 1}
              {\sqrt{(b^2 \lVert x \rVert^2 + 1)(b^2 \lVert y \rVert^2 + 1)}}\right)^p

    Args:
        degree: p >= 1.
        bandwidth: b > 0.
        chunk: see :class:`~qrkd_lab.kernels.base.Kernel`.
    """

    degree: int = 2
    bandwidth: float = 1.0
    chunk: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", positive("bandwidth", self.bandwidth))
        object.__setattr__(self, "degree", whole("degree", self.degree, 1))

    def embed(self, x: Tensor) -> Tensor:
        # (x, 1) / |(x, 1)|: the inner product of two such rows is the normalised bracket.
        row = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        row = row / sizes(row)
        return row / row.norm(dim=1, keepdim=True)

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        return (u @ v.T) ** self.degree


@dataclass(frozen=True)
class CosineKernel(Kernel):
    r"""Squared cosine: what an amplitude-encoded quantum kernel computes, in one classical line.

    .. math:: k(x, y) = \left(\frac{x \cdot y}{\lVert x \rVert \lVert y \rVert}\right)^2

    A zero row has no direction: its kernel values are 0, with itself too, and so is its gradient.

    Args:
        chunk: see :class:`~qrkd_lab.kernels.base.Kernel`.
    """

    chunk: int | None = None

    def embed(self, x: Tensor) -> Tensor:
        return unit_rows(x)

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        return (u @ v.T).square()


def unit_rows(x: Tensor) -> Tensor:
    """Rows scaled to length 1, ``(n, d) -> (n, d)``; rows of zeros stay so, without gradient."""
    x = x / sizes(x)
    squared = x.square().sum(-1, keepdim=True)
    long = squared > 0
    return torch.where(long, x * torch.where(long, squared, 1.0).rsqrt(), 0.0)


def sizes(x: Tensor) -> Tensor:
    """A power of two near the largest number of each row ``(..., d) -> (..., 1)``.

    A row divided by it has squares that neither overflow nor vanish, and the division rounds
    nothing.
    """
    least = 2**20 * torch.finfo(x.dtype).tiny
    return x.detach().abs().amax(-1, keepdim=True).clamp(min=least).log2().floor().exp2()
