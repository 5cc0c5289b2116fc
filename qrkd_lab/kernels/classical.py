"""The base of all kernels, and the classical ones: embed each sample, then compare embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from qrkd_lab.checks import LARGE, NotFinite, check_features, in_float32, positive, whole

__all__ = [
    "CosineKernel", "Kernel", "LaplacianKernel", "PolynomialKernel", "RBFKernel",
    "StretchedRBFKernel", "squared_distances",
]  # fmt: skip


class Kernel:
    """A kernel on angles: ``k(x)`` is ``(n, n)``, ``k(x, y)`` is ``(n, m)``; both differentiable.

    Attributes:
        bandwidth: every input is multiplied by it first. Small values make all samples look alike
            (K -> 1), large ones make each look like itself only (K -> identity).
        chunk: rows embedded at once; None chooses so that an embedding block stays near 128 MiB.
    """

    bandwidth: float = 1.0
    chunk: int | None = None
    embedding_size = 1024  # numbers a row of the embedding holds, to choose ``chunk`` by
    entangles = False  # whether entanglement can be left out and changes the values
    features: int | None = None  # how many angles a sample must have; None: any number

    def embed(self, x: Tensor) -> Tensor:
        """Rows ``(n, m)`` for angles ``(n, q)``, bandwidth already applied."""
        raise TypeError(f"{type(self).__name__} must define embed(x)")

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        """Kernel values ``(n, m)`` of embeddings ``(n, .)`` and ``(m, .)``."""
        raise TypeError(f"{type(self).__name__} must define compare(u, v)")

    @in_float32
    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The kernel matrix of ``x`` with itself, or with ``y``.

        Args:
            x: angles ``(n, q)``.
            y: angles ``(m, q)``; None means ``x``.

        Returns:
            ``(n, n)`` or ``(n, m)``, in the dtype and on the device of ``x``.

        Raises:
            TypeError, ValueError: not a finite float ``(n, q)`` tensor, or another q than expected.
            NotFinite: angles so large that the kernel's own numbers leave the range of their type.
        """
        largest = self.check(x, "x")
        if y is not None:
            largest = max(largest, self.check(y, "y"))
            if y.dtype != x.dtype or y.shape[1] != x.shape[1]:
                raise ValueError(
                    f"x and y must have one dtype and width, got {x.dtype}, {x.shape[1]} and "
                    f"{y.dtype}, {y.shape[1]}"
                )
        most = max(1, 2**24 // self.embedding_size)
        rows = most if self.chunk is None else whole("chunk", self.chunk, 1)
        if max(len(x), 0 if y is None else len(y)) <= rows:
            u = self.embed(x * self.bandwidth)
            matrix = self.compare(u, u if y is None else self.embed(y * self.bandwidth))
        else:
            matrix = self._blockwise(x, x if y is None else y, rows)
        if self.bandwidth * largest > LARGE and not torch.isfinite(matrix).all():
            raise NotFinite(
                f"{self}: angles as large as {largest:.3g} leave the range of {x.dtype} inside it; "
                "standardise them first, as an Encoder does, or use float64"
            )
        return matrix

    def check(self, x: Tensor, name: str = "x") -> float:
        """The largest absolute value; raises unless ``x`` is ``(n, q)`` with this kernel's q."""
        largest = check_features(x, name)
        if self.features is not None and x.shape[1] != self.features:
            raise ValueError(
                f"{name}: {self} takes {self.features} angles a sample, got {x.shape[1]}; "
                "use an Encoder, or a kernel of another size"
            )
        return largest

    def _blockwise(self, x: Tensor, y: Tensor, rows: int) -> Tensor:
        """The same matrix block by block; embeddings are made again rather than kept."""

        def block(a: Tensor, b: Tensor) -> Tensor:
            return self.compare(self.embed(a * self.bandwidth), self.embed(b * self.bandwidth))

        def line(a: Tensor) -> Iterator[Tensor]:
            for low, high in pairwise([*range(0, len(y), rows), len(y)]):
                yield checkpoint(block, a, y[low:high], use_reentrant=False)

        cuts = pairwise([*range(0, len(x), rows), len(x)])
        return torch.cat([torch.cat(list(line(x[low:high])), dim=1) for low, high in cuts])


# ---- classical


FAR = 100.0  # exp(-FAR^2 / 2) is 0 in double precision, too


def squared_distances(u: Tensor, v: Tensor) -> Tensor:
    """``|u_i - v_j|^2``: ``(n, m), (k, m) -> (n, k)``; >= 0, with gradient 0 at coincident rows."""
    return distances(u, v).square()


def distances(u: Tensor, v: Tensor) -> Tensor:
    """``|u_i - v_j|``, from direct differences: exact for near rows far from the origin."""
    return torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class _OfDistances(Kernel):
    """What kernels of the scaled angles' distances share."""

    bandwidth: float = 1.0
    chunk: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "bandwidth", positive("bandwidth", self.bandwidth))

    def embed(self, x: Tensor) -> Tensor:
        return x


@dataclass(frozen=True)
class RBFKernel(_OfDistances):
    r"""Gaussian kernel of the scaled angles.

    .. math:: k(x, y) = \exp\left(-\tfrac12 b^2 \lVert x - y \rVert_2^2\right)

    Args:
        bandwidth: b > 0; in the other common convention, gamma = b^2 / 2.
        chunk: see :class:`Kernel`.
    """

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        # Far samples have k = 0 and no gradient, also where their squared distance overflows.
        return torch.exp(-0.5 * distances(u, v).clamp(max=FAR).square())


@dataclass(frozen=True)
class StretchedRBFKernel(Kernel):
    r"""Gaussian kernel in a metric of its own: the fair classical partner of a quantum kernel.

    .. math:: k(x, y) = \exp\left(-\tfrac12 b^2 \lVert A (x - y) \rVert_2^2\right)

    Args:
        stretch: A ``(m, q)``, as nested tuples, so that kernels can be compared.
        bandwidth: b > 0; 1 where A was fitted.
        chunk: see :class:`Kernel`.
    """

    stretch: tuple[tuple[float, ...], ...]
    bandwidth: float = 1.0
    chunk: int | None = None

    @classmethod
    def fitted(cls, kernel: Kernel, angles: Tensor) -> StretchedRBFKernel:
        r"""The one that follows another kernel best on angles ``(n, q)``, n >= 3.

        .. math:: A = \operatorname{argmin}_A \sum_{i \ne j}
                  \left(K_{ij} - e^{-\frac12 \lVert A (x_i - x_j) \rVert^2}\right)^2

        By L-BFGS in float64, from the round Gaussian that fits best.
        """
        check_features(angles, "angles")
        x = angles.detach().double().cpu()
        with torch.no_grad():
            target = kernel(x)

        def misfit(stretch: Tensor) -> Tensor:
            moved = x @ stretch.T
            close = torch.exp(-0.5 * squared_distances(moved, moved))
            return (close - target).fill_diagonal_(0).square().sum() / target.numel()

        round_ones = [torch.eye(x.shape[1], dtype=x.dtype) * 2.0**power for power in range(-7, 3)]
        stretch = min(round_ones, key=misfit).requires_grad_()
        optimizer = torch.optim.LBFGS([stretch], max_iter=200, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = misfit(stretch)
            loss.backward()
            return loss

        optimizer.step(closure)
        return cls(tuple(map(tuple, stretch.tolist())))

    def __post_init__(self) -> None:
        rows = [list(map(float, row)) for row in self.stretch]
        if not rows or not rows[0] or len({len(row) for row in rows}) > 1:
            raise ValueError("stretch: expected rows of equal length, one number per angle")
        object.__setattr__(self, "bandwidth", positive("bandwidth", self.bandwidth))
        object.__setattr__(self, "stretch", tuple(map(tuple, rows)))

    @property
    def features(self) -> int:
        return len(self.stretch[0])

    def embed(self, x: Tensor) -> Tensor:
        return x @ x.new_tensor(self.stretch).T

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        return torch.exp(-0.5 * distances(u, v).clamp(max=FAR).square())

    def __repr__(self) -> str:
        size = f"{len(self.stretch)} x {self.features}"
        return f"StretchedRBFKernel(stretch={size}, bandwidth={self.bandwidth:g})"


@dataclass(frozen=True)
class LaplacianKernel(_OfDistances):
    r"""Laplacian kernel of the scaled angles.

    .. math:: k(x, y) = \exp\left(-b \lVert x - y \rVert_1\right)

    Args:
        bandwidth: b > 0.
        chunk: see :class:`Kernel`.
    """

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
        chunk: see :class:`Kernel`.
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
        chunk: see :class:`Kernel`.
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
    """A power of two near the largest number of each row; dividing a row by it rounds nothing."""
    least = 2**20 * torch.finfo(x.dtype).tiny
    return x.detach().abs().amax(-1, keepdim=True).clamp(min=least).log2().floor().exp2()
