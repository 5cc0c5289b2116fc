"""One look at a kernel: all the diagnostics at once, and what they mean in words."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qrkd_lab.checks import check_features, whole
from qrkd_lab.kernels.analysis import (
    OffDiagonal,
    alignment_or,
    check_matrix,
    class_matrix,
    effective_rank,
    kernel_target_alignment,
    off_diagonal,
    r_squared,
)
from qrkd_lab.kernels.classical import Kernel, PolynomialKernel, RBFKernel
from qrkd_lab.kernels.quantum import FidelityKernel

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "Diagnosis", "Fit", "FourierSurrogate", "best_fit", "concentration_table", "diagnose",
    "random_feature_surrogate",
]  # fmt: skip

NEARLY = 0.95  # effective rank over n from which a matrix counts as nearly the identity
GOOD_FIT = 0.9  # R^2 from which the words say "fitted by"


@dataclass(frozen=True)
class Diagnosis:
    """What a kernel matrix sees; shows itself as a small table."""

    samples: int
    off_diagonal: OffDiagonal
    effective_rank: float
    alignment: float | None = None  # with the classes; None without labels
    centred_alignment: float | None = None  # the same, centred (CKA); NaN if K is constant
    fit: Fit | None = None  # the best RBF; None without angles

    @property
    def spectral_entropy(self) -> float:
        """In nats: the logarithm of the effective rank."""
        return math.log(self.effective_rank)

    @property
    def shots(self) -> float:
        """Shots an entry at which shot noise is as large as the spread of the entries.

        An entry k estimated from S shots has variance k (1 - k) / S; taken at the mean value and
        set equal to the variance over pairs. Infinite for a constant matrix.
        """
        mean, variance = self.off_diagonal.mean, self.off_diagonal.variance
        return max(mean * (1 - mean), 0.0) / variance if variance > 0 else math.inf

    @property
    def verdict(self) -> str:
        """What the numbers mean, in a sentence or two."""
        if self.effective_rank > NEARLY * self.samples:
            said = "nearly the identity: each sample only resembles itself"
        elif self.off_diagonal.mean > NEARLY:
            said = "nearly all ones: all samples look alike"
        else:
            spread = math.sqrt(self.off_diagonal.variance)
            said = f"neither identity nor all ones: values spread by {spread:.2f} over pairs"
        if self.fit is None:
            return said
        if self.fit.near_identity:
            return f"{said}; an RBF resembles it only because both are nearly the identity"
        if math.isnan(self.fit.r_squared):
            return f"{said}; all pairs are equally alike, so there is nothing for an RBF to fit"
        fitted = "fitted by" if self.fit.r_squared >= GOOD_FIT else "not fitted by"
        return f"{said}; {fitted} an RBF (R^2 = {self.fit.r_squared:.2f})"

    def _rows(self) -> list[tuple[str, str]]:
        pairs = self.off_diagonal
        rows = [
            ("samples", f"{self.samples}"),
            ("mean over pairs", f"{pairs.mean:.4g}"),
            ("variance over pairs", f"{pairs.variance:.3g}"),
            ("range over pairs", f"{pairs.min:.3g} to {pairs.max:.3g}"),
            ("effective rank", f"{self.effective_rank:.1f} of {self.samples}"),
            ("spectral entropy", f"{self.spectral_entropy:.2f} nats"),
            ("shots per entry", f"{self.shots:.3g}"),
        ]
        if self.alignment is not None:
            rows.append(("alignment with classes", f"{self.alignment:.3f}"))
            rows.append(("the same, centred", f"{self.centred_alignment:.3f}"))
        return [*rows, ("best RBF", str(self.fit).partition(": ")[2])] if self.fit else rows

    def __str__(self) -> str:
        rows = [f"{name:<24}{value}" for name, value in self._rows()]
        return "\n".join([f"Kernel matrix: {self.verdict}.", *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
            for name, value in self._rows()
        )
        caption = f"Kernel matrix: {html.escape(self.verdict)}."
        return f"<table><caption>{caption}</caption><tbody>{body}</tbody></table>"


def diagnose(kernel: Tensor, labels: Tensor | None = None, x: Tensor | None = None) -> Diagnosis:
    """All diagnostics of a kernel matrix, and what they mean in words.

    Args:
        kernel: ``(n, n)``, n >= 2.
        labels: classes ``(n,)``, for the alignments.
        x: the angles ``(n, q)`` that the kernel was given, n >= 3, for its best RBF.

    Example:
        >>> diagnose(torch.eye(4)).verdict
        'nearly the identity: each sample only resembles itself'
    """
    return Diagnosis(
        len(kernel),
        off_diagonal(kernel),
        effective_rank(kernel),
        None if labels is None else kernel_target_alignment(kernel, labels),
        None if labels is None else alignment_or(math.nan, kernel, class_matrix(labels)),
        None if x is None else best_fit(kernel, x),
    )


def concentration_table(
    feature_maps: Sequence[str] = ("angle", "zz", "iqp"),
    qubits: Iterable[int] = (2, 4, 6, 8, 10),
    bandwidths: Iterable[float] = (1.0,),
    samples: int = 64,
    seed: int = 0,
) -> DataFrame:
    """How fidelity kernels concentrate: a row for each feature map, bandwidth and q.

    Args:
        feature_maps: names, or PennyLane quantum functions; not ``amplitude`` (2^q features).
        qubits, bandwidths: numbers of qubits, and factors on the angles.
        samples, seed: of the angles, which are standard normal, as an encoder standardises them;
            q qubits take the first q of each sample.

    Returns:
        Columns ``feature_map``, ``bandwidth``, ``qubits``, ``mean``, ``variance``,
        ``effective_rank``, ``samples``.
    """
    from pandas import DataFrame

    qubits, bandwidths = list(qubits), list(bandwidths)
    most = max(whole("qubits", q, 1) for q in qubits)
    size = (whole("samples", samples, 2), most)
    generator = torch.Generator().manual_seed(seed)
    angles = torch.randn(size, dtype=torch.float64, generator=generator)
    rows = []
    for feature_map in feature_maps:
        name = feature_map if isinstance(feature_map, str) else feature_map.__name__
        for bandwidth in bandwidths:
            for q in qubits:
                with torch.no_grad():
                    matrix = FidelityKernel(feature_map, q, bandwidth=bandwidth)(angles[:, :q])
                pairs, rank = off_diagonal(matrix), effective_rank(matrix)
                rows.append((name, bandwidth, q, pairs.mean, pairs.variance, rank, len(angles)))
    columns = "feature_map bandwidth qubits mean variance effective_rank samples".split()
    return DataFrame(rows, columns=columns)


# ---- fits


# Kernels of a bandwidth b, and scikit-learn's gamma over b^2.
FAMILIES: dict[str, tuple[list[Callable[[float], Kernel]], float]] = {
    "rbf": ([RBFKernel], 0.5),
    "polynomial": ([partial(PolynomialKernel, p) for p in range(1, 7)], 1.0),
}


@dataclass(frozen=True)
class Fit:
    """The member of a classical family that comes nearest to a kernel matrix."""

    family: str
    kernel: Kernel  # ``kernel(x)`` is the matrix on the same angles
    gamma: float  # scikit-learn's: b^2 / 2 (RBF), b^2 (polynomial)
    residual: float  # root of the mean squared difference over pairs i < j
    r_squared: float  # 1 - residual^2 / variance over pairs; NaN where K is constant over pairs
    alignment: float  # CKA of the two matrices; NaN where one is constant
    near_identity: bool  # both matrices are nearly the identity, so a high CKA says nothing
    matrix: Tensor = field(repr=False, compare=False)  # the fitted one (n, n)

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

    by a scan over b and a bounded scalar search around its best point (the polynomial family: for
    each degree from 1 to 6). The diagonal, which is 1 in both, is left out.

    Args:
        kernel: ``(n, n)``, n >= 3.
        x: angles ``(n, q)``, before the kernel's own bandwidth.
        family: ``rbf`` or ``polynomial``.

    Source of the question: Florez Ablan et al., arXiv 2503.05602 (tuned quantum kernels resemble
    RBF kernels).

    Example:
        >>> x = torch.linspace(0, 1, 8, dtype=torch.float64)[:, None]
        >>> round(best_fit(RBFKernel(2.0)(x), x).gamma, 4)
        2.0
    """
    if family not in FAMILIES:
        raise ValueError(f"unknown family {family!r}; choose one of {', '.join(FAMILIES)}")
    wanted = check_matrix(kernel)
    check_features(x, "x")
    if len(x) != len(wanted) or len(x) < 3:
        raise ValueError(
            "expected a matrix (n, n) and angles (n, q) of the same n >= 3 samples, got "
            f"n = {len(wanted)} and {len(x)}"
        )
    x = x.detach().cpu().double()
    makers, factor = FAMILIES[family]
    fits = [_fit_bandwidth(make, wanted, x) for make in makers]
    best = min(fits, key=lambda fit: _mismatch(fit, wanted, x))
    matrix = best(x)
    residual = _mismatch(best, wanted, x) ** 0.5
    ranks = (effective_rank(kernel), effective_rank(matrix))
    return Fit(
        family,
        best,
        factor * best.bandwidth**2,
        residual,
        r_squared(wanted, matrix),
        alignment_or(math.nan, wanted, matrix),
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
    """Mean squared difference over pairs."""
    n = len(x)
    embedded = kernel.embed(kernel.bandwidth * x)
    matrix = kernel.compare(embedded, embedded)
    # Twice the sum over pairs, as both are symmetric; the diagonals are made equal.
    return (matrix - wanted).fill_diagonal_(0).square().sum().item() / (n * (n - 1))


# ---- surrogates


RIDGES = tuple(10.0**power for power in range(-9, 5))  # choices of the ridge, wide on both sides


@dataclass(frozen=True, eq=False)
class FourierSurrogate(Kernel):
    r"""A kernel made of trigonometric features, fitted to another kernel.

    .. math:: k(x, y) = z(x)^T W W^T z(y), \qquad
              z(x) = \big(1, \cos(\omega_1 \cdot x), \sin(\omega_1 \cdot x), \dots\big)

    Positive semi-definite; its diagonal is 1 only as far as the features reach: the rest of a
    sample is what they do not see. Made by :func:`random_feature_surrogate`.
    """

    frequencies: Tensor = field(repr=False)  # omega, (D, q)
    weights: Tensor = field(repr=False)  # W, (2 D + 1, n)

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

    The frequencies :math:`\omega` are drawn from the spectrum of the RBF kernel that fits it best
    (a Gaussian: Bochner's theorem). The weights are a ridge regression,

    .. math:: W = \arg\min_W \lVert Z W - K^{1/2} \rVert_F^2 + \alpha \lVert W \rVert_F^2,

    on the samples given, Z ``(n, 2 D + 1)``, with :math:`\alpha` chosen by leave-one-out error.
    With enough features that fit can be exact; judge it on other samples.

    Args:
        kernel: any kernel on angles, quantum or classical.
        x: angles ``(n, q)`` to fit on, n >= 4.
        features: D >= 1.
        seed: of the draw.

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
        bandwidth = best_fit(matrix, x).kernel.bandwidth
        size = (features, x.shape[1])
        frequencies = bandwidth * torch.randn(size, dtype=x.dtype, generator=generator)
        z = _waves(x, frequencies)  # (n, 2 D + 1)
        values, vectors = torch.linalg.eigh(matrix)
        root = vectors * values.clamp(min=0).sqrt()  # (n, n): K = root root^T
    ridge = RidgeCV(alphas=RIDGES, fit_intercept=False).fit(z.numpy(), root.numpy())
    return FourierSurrogate(frequencies, torch.from_numpy(ridge.coef_.T.copy()))


def _waves(x: Tensor, frequencies: Tensor) -> Tensor:
    """1, cosines and sines: ``(n, q), (D, q) -> (n, 2 D + 1)``."""
    phases = x @ frequencies.T
    return torch.cat([torch.ones_like(x[:, :1]), phases.cos(), phases.sin()], dim=1)
