r"""Random Fourier features: can a few cosines stand in for a quantum kernel?

A circuit whose angles enter through rotations alone is periodic, and its kernel a Fourier series
with whole frequencies. Where such a series is a short or a smooth one, features
:math:`\cos(\omega \cdot x), \sin(\omega \cdot x)` at randomly drawn :math:`\omega` replace the
circuit. How many are needed is a number that can be measured: :func:`surrogate_gaps`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qrkd_lab.kernels.base import Kernel, whole
from qrkd_lab.kernels.diagnostics import check_matrix, off_diagonal_values
from qrkd_lab.kernels.fits import best_fit

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "FourierSurrogate",
    "frequency_distribution",
    "random_feature_surrogate",
    "surrogate_gaps",
]

GRID = 64  # points on a period: resolves frequencies up to 31, e.g. 31 layers of one rotation
RIDGES = tuple(10.0**power for power in range(-9, 5))  # choices of the ridge, wide on both sides


@dataclass(frozen=True, eq=False)
class FourierSurrogate(Kernel):
    r"""A kernel made of trigonometric features, fitted to another kernel.

    .. math:: k(x, y) = z(x)^T W W^T z(y), \qquad
              z(x) = \big(1, \cos(\omega_1 \cdot x), \sin(\omega_1 \cdot x), \dots\big)

    Positive semi-definite; its diagonal is 1 only as far as the features reach: the rest of a
    sample is what they do not see. Made by :func:`random_feature_surrogate`.

    Attributes:
        frequencies: :math:`\omega`, ``(D, q)``.
        weights: W, ``(2 D + 1, n)``.
        source: where the frequencies were drawn from: ``spectrum`` or ``rbf``.
    """

    frequencies: Tensor = field(repr=False)
    weights: Tensor = field(repr=False)
    source: str

    @property
    def features(self) -> int:
        return self.frequencies.shape[1]

    def embed(self, x: Tensor) -> Tensor:
        frequencies, weights = (t.to(x) for t in (self.frequencies, self.weights))
        return _waves(x, frequencies) @ weights

    def compare(self, u: Tensor, v: Tensor) -> Tensor:
        return u @ v.T


def random_feature_surrogate(
    kernel: Kernel, x: Tensor, features: int = 256, seed: int = 0
) -> FourierSurrogate:
    r"""A classical surrogate of a kernel: random frequencies, weights by least squares.

    The frequencies :math:`\omega` are drawn from the kernel's own Fourier spectrum where it has
    one (:func:`frequency_distribution`), else from the spectrum of the RBF kernel that fits it best
    (a Gaussian: Bochner's theorem). The weights are a ridge regression,

    .. math:: W = \arg\min_W \lVert Z W - K^{1/2} \rVert_F^2 + \alpha \lVert W \rVert_F^2,

    on the samples given, Z ``(n, 2 D + 1)``, with :math:`\alpha` chosen by leave-one-out error.
    With enough features that fit can be exact; judge it on other samples (:func:`surrogate_gaps`).

    Args:
        kernel: any kernel on angles, quantum or classical.
        x: angles ``(n, q)`` to fit on, n >= 4.
        features: D >= 1.
        seed: of the draw.

    Raises:
        ValueError: too few samples or features; see also ``kernel.check``.

    Source: Rahimi and Recht, NIPS 2007; for quantum models: Sweke et al., arXiv 2309.11647.
    """
    features = whole("features", features, 1)
    kernel.check(x)
    if len(x) < 4:
        raise ValueError(f"x: a surrogate needs at least 4 samples to be fitted on, got {len(x)}")
    from sklearn.linear_model import RidgeCV

    x = x.detach().cpu().double()
    with torch.no_grad():
        matrix = check_matrix(kernel(x))
        generator = torch.Generator().manual_seed(whole("seed", seed, 0))
        frequencies, source = _draw(kernel, x, matrix, features, generator)
        z = _waves(x, frequencies)  # (n, 2 D + 1)
        values, vectors = torch.linalg.eigh(matrix)
        root = vectors * values.clamp(min=0).sqrt()  # (n, n): K = root root^T
    ridge = RidgeCV(alphas=RIDGES, fit_intercept=False).fit(z.numpy(), root.numpy())
    return FourierSurrogate(frequencies, torch.from_numpy(ridge.coef_.T.copy()), source)


def frequency_distribution(kernel: Kernel, x: Tensor) -> Tensor | None:
    r"""How a periodic kernel's weight is spread over whole frequencies, for each angle.

    .. math:: p_j(m) = \mathbb E_x\, \frac{1}{M^2} \sum_{s,t} K^{(x,j)}_{st}\,
              e^{-2 \pi i m (s - t) / M}

    with :math:`K^{(x,j)}` the kernel matrix of M = 64 samples that equal x but for angle j, which
    takes the M points of a period. That is the spectrum of the kernel averaged over shifts of one
    angle: never negative, and of sum 1.

    Returns:
        ``(q, 64)``, frequency m in ``torch.fft.fftfreq`` order, in units of the kernel's bandwidth;
        None if the kernel is not periodic in each angle with 2 pi / bandwidth (``zz`` and ``iqp``,
        whose phases hold products of angles, and the classical kernels).
    """
    x = x.detach().cpu().double()
    period = 2 * math.pi / kernel.bandwidth
    some = x[:8]  # the average needs few
    with torch.no_grad():
        for j in range(x.shape[1]):
            moved = some.clone()
            moved[:, j] += period
            if not torch.allclose(kernel(some, moved).diagonal(), kernel(some).diagonal()):
                return None
        return torch.stack([_line_spectrum(kernel, some, j, period) for j in range(x.shape[1])])


def _line_spectrum(kernel: Kernel, x: Tensor, angle: int, period: float) -> Tensor:
    """The spectrum ``(64,)`` along one angle, averaged over samples."""
    points = torch.arange(GRID, dtype=x.dtype) * (period / GRID)
    total = torch.zeros(GRID, dtype=x.dtype)
    for row in x:
        line = row.repeat(GRID, 1)  # (64, q)
        line[:, angle] = points
        matrix = kernel(line).to(torch.complex128)
        total += torch.fft.fft(torch.fft.ifft(matrix, dim=1), dim=0).diagonal().real / GRID
    total = total.clamp(min=0)
    return total / total.sum()


def _draw(
    kernel: Kernel, x: Tensor, matrix: Tensor, features: int, generator: torch.Generator
) -> tuple[Tensor, str]:
    """Frequencies ``(D, q)`` and where they come from."""
    spectrum = frequency_distribution(kernel, x)
    if spectrum is None:
        bandwidth = best_fit(matrix, x).kernel.bandwidth
        size = (features, x.shape[1])
        return bandwidth * torch.randn(size, dtype=x.dtype, generator=generator), "rbf"
    index = torch.multinomial(spectrum, features, replacement=True, generator=generator)  # (q, D)
    whole_numbers = torch.fft.fftfreq(GRID, 1 / GRID, dtype=x.dtype)
    return kernel.bandwidth * whole_numbers[index].T, "spectrum"


def _waves(x: Tensor, frequencies: Tensor) -> Tensor:
    """1, cosines and sines: ``(n, q), (D, q) -> (n, 2 D + 1)``."""
    phases = x @ frequencies.T
    return torch.cat([torch.ones_like(x[:, :1]), phases.cos(), phases.sin()], dim=1)


def surrogate_gaps(
    kernel: Kernel,
    x: Tensor,
    features: Sequence[int] = (4, 16, 64, 256),
    seeds: Sequence[int] = (0, 1, 2),
) -> DataFrame:
    """How far surrogates are from the kernel, on samples that they were not fitted on.

    Every other sample is fitted on, the rest is held out.

    Args:
        kernel: any kernel on angles.
        x: angles ``(n, q)``, n >= 8.
        features: numbers D of frequencies.
        seeds: of the draws.

    Returns:
        A row for each D and seed: ``features``, ``seed``, ``gap`` (root-mean-square difference over
        held-out pairs), ``spread`` (standard deviation of the kernel over the same pairs: the gap
        of a surrogate that only knows the mean), ``r_squared`` = 1 - (gap / spread)^2, ``source``.
    """
    from pandas import DataFrame

    kernel.check(x)
    if len(x) < 8:
        raise ValueError(f"x: expected n >= 8, half to fit on and half to test, got {len(x)}")
    x = x.detach().cpu().double()
    fitted, held_out = x[::2], x[1::2]
    with torch.no_grad():
        wanted = off_diagonal_values(kernel(held_out))
    spread = wanted.std(correction=0).item()
    rows = []
    for count in features:
        for seed in seeds:
            surrogate = random_feature_surrogate(kernel, fitted, count, seed)
            error = off_diagonal_values(surrogate(held_out)) - wanted
            gap = error.square().mean().sqrt().item()
            share = 1 - (gap / spread) ** 2 if spread > 0 else math.nan
            rows.append((count, seed, gap, spread, share, surrogate.source))
    columns = ["features", "seed", "gap", "spread", "r_squared", "source"]
    return DataFrame(rows, columns=columns)
