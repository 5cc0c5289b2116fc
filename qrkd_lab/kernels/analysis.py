r"""Numbers of kernel matrices: how their values spread, and what they agree with.

All take a kernel matrix ``(n, n)`` and compute in float64 without gradient. They raise a TypeError
or ValueError for what is no finite symmetric matrix, and where two sizes differ.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from qrkd_lab.checks import floating, positive

__all__ = [
    "GeometricDifference", "NothingToAlign", "OffDiagonal", "alignment_or", "centred",
    "centred_alignment", "check_matrix", "class_blocks", "class_matrix", "effective_rank",
    "eigenvalues", "geometric_difference", "kernel_pca", "kernel_target_alignment", "off_diagonal",
    "off_diagonal_values", "r_squared", "spectral_entropy",
]  # fmt: skip


NEGATIVE = 1e-5  # of the largest eigenvalue: what float32 rounding makes of a zero eigenvalue
NOTHING = 1e-10  # of the norm: a centred matrix as small as this is rounding only
SYMMETRY = 1e-4  # of the largest entry: float32 products of 2^16 amplitudes stay well below


class NothingToAlign(ValueError):
    """A matrix that is constant once centred: it tells no sample from another."""


def check_matrix(kernel: Tensor, name: str = "K") -> Tensor:
    """The matrix in float64, detached, on the CPU, exactly symmetric."""
    floating(name, kernel, "(n, n)")
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or not len(kernel):
        raise ValueError(
            f"{name}: expected a square matrix (n, n) with n >= 1, got {tuple(kernel.shape)}; "
            "a diagnostic takes kernel(x), not kernel(x, y)"
        )
    matrix = kernel.detach().cpu().double()
    if bad := int((~torch.isfinite(matrix)).sum()):
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


def _same_size(a: Tensor, b: Tensor, name: str) -> None:
    if len(a) != len(b):
        raise ValueError(f"{name}: expected {len(a)} samples, as K has, got {len(b)}")


# ---- one matrix


def off_diagonal_values(kernel: Tensor, name: str = "K") -> Tensor:
    """The n (n - 1) / 2 values over pairs of different samples, row by row."""
    matrix = check_matrix(kernel, name)
    if len(matrix) < 2:
        raise ValueError(f"{name}: one sample has no pairs; expected n >= 2 samples")
    row, column = torch.triu_indices(len(matrix), len(matrix), offset=1)
    return matrix[row, column]


class OffDiagonal(NamedTuple):
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

    Example:
        >>> off_diagonal(torch.eye(3))
        OffDiagonal(mean=0.0, variance=0.0, min=0.0, max=0.0)
    """
    values = off_diagonal_values(kernel)
    variance = values.var(correction=0)
    return OffDiagonal(*(v.item() for v in (values.mean(), variance, values.min(), values.max())))


def eigenvalues(kernel: Tensor) -> Tensor:
    """The eigenvalues ``(n,)``, largest first."""
    return torch.linalg.eigvalsh(check_matrix(kernel)).flip(0)


def spectral_entropy(kernel: Tensor) -> float:
    r"""Entropy of the normalised spectrum, in nats: 0 (one direction) to log n (all alike).

    .. math:: H = -\sum_i p_i \log p_i, \qquad p_i = \frac{|\lambda_i|}{\sum_j |\lambda_j|}

    The absolute values of the eigenvalues :math:`\lambda_i` are the singular values, so that a
    matrix estimated from shots, which may have negative ones, has an entropy too. A matrix of zeros
    has none: a ValueError.
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


def centred(kernel: Tensor) -> Tensor:
    r"""The kernel of the same samples with their mean moved to the origin.

    .. math:: K^c = HKH, \qquad H = I - \tfrac1n 1 1^T, \qquad
              K^c_{ij} = K_{ij} - \bar K_{i\cdot} - \bar K_{\cdot j} + \bar K

    Returns:
        ``(n, n)``; rows and columns sum to 0.
    """
    matrix = check_matrix(kernel)
    mean = matrix.mean(0)  # (n,): rows and columns alike, as the matrix is symmetric
    return matrix - mean[:, None] - mean[None, :] + mean.mean()


def kernel_pca(kernel: Tensor, components: int = 2) -> Tensor:
    r"""Where each sample lies along the directions in which the kernel's samples spread most.

    .. math:: S_{ik} = \sqrt{\lambda_k}\, v_{ik}, \qquad HKH = \sum_k \lambda_k v_k v_k^T

    Args:
        kernel: ``(n, n)``, positive semi-definite up to rounding.
        components: how many, at most n.

    Returns:
        Scores ``(n, components)``. The sign of a column is arbitrary; its largest entry is made
        positive.

    Source: Schölkopf, Smola, Müller, Neural Computation 10, 1299 (1998).
    """
    matrix = centred(kernel)
    if not 1 <= components <= len(matrix):
        raise ValueError(f"components: expected 1 to n = {len(matrix)}, got {components}")
    values, vectors = torch.linalg.eigh(matrix)
    scores = (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :components]
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    return scores * torch.where(largest < 0, -1.0, 1.0)


# ---- a matrix and the classes


def class_matrix(labels: Tensor) -> Tensor:
    r"""The kernel ``(n, n)`` that knows the classes ``(n,)``.

    .. math:: T_{ij} = 1 \text{ if } y_i = y_j, \text{ else } 0
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels: expected a torch tensor (n,), got {type(labels).__name__}")
    if labels.ndim != 1 or not len(labels) or (labels != labels).any():
        raise ValueError(f"labels: expected (n,), n >= 1, no NaN; got {tuple(labels.shape)}")
    labels = labels.detach().cpu()
    return (labels[:, None] == labels[None, :]).double()  # (n, n)


def kernel_target_alignment(kernel: Tensor, labels: Tensor) -> float:
    r"""Cosine between the matrix and the one that knows the classes.

    .. math:: A(K, T) = \frac{\langle K, T \rangle_F}{\lVert K \rVert_F \lVert T \rVert_F}

    with T of :func:`class_matrix`. It is not centred, so a constant matrix does not score 0 (with
    c balanced classes it scores :math:`1 / \sqrt c`); ``centred_alignment(K, class_matrix(y))``
    takes that away and is the one to compare kernels by.

    Args:
        kernel: ``(n, n)``.
        labels: ``(n,)``, any number of classes.

    Returns:
        From 0 to 1, for kernels with values >= 0.

    Source: Cristianini et al., NIPS 2001; for two classes, PennyLane's ``target_alignment`` has -1
    where T has 0.
    """
    matrix, target = check_matrix(kernel), class_matrix(labels)
    _same_size(matrix, target, "labels")
    norm = matrix.norm() * target.norm()
    if not norm > 0:
        raise ValueError("K: a matrix of zeros has no direction to align")
    return ((matrix * target).sum() / norm).item()


def class_blocks(kernel: Tensor, labels: Tensor) -> Tensor:
    r"""Mean kernel value of each pair of classes, over pairs of different samples.

    .. math:: B_{ab} = \operatorname{mean} \{K_{ij} : y_i = a,\; y_j = b,\; i \ne j\}

    Args:
        kernel: ``(n, n)``.
        labels: ``(n,)``; the classes that occur are sorted.

    Returns:
        ``(c, c)``, symmetric; NaN on the diagonal for a class with one sample.
    """
    matrix = check_matrix(kernel)
    if labels.shape != (len(matrix),):
        raise ValueError(f"labels: expected ({len(matrix)},), got {tuple(labels.shape)}")
    labels = labels.detach().cpu()
    member = (labels[:, None] == labels.unique()).double()  # (n, c)
    different = 1 - torch.eye(len(matrix), dtype=torch.float64)
    sums = member.T @ (matrix * different) @ member  # (c, n) (n, n) (n, c)
    return sums / (member.T @ different @ member)


# ---- two matrices


def r_squared(wanted: Tensor, found: Tensor) -> float:
    """The share of a matrix's variance over pairs that another explains; NaN if it has none."""
    values = off_diagonal_values(wanted)
    left, variance = (values - off_diagonal_values(found)).square().mean(), values.var(correction=0)
    return float(1 - left / variance) if variance > 1e-20 else math.nan


def centred_alignment(kernel: Tensor, other: Tensor, debiased: bool = False) -> float:
    r"""Centred kernel alignment (CKA): do two matrices find the same pairs similar?

    .. math:: \mathrm{CKA}(K, L) = \frac{\langle HKH, HLH \rangle_F}
              {\lVert HKH \rVert_F \lVert HLH \rVert_F}, \qquad H = I - \tfrac1n 1 1^T

    1 for equal matrices, whatever their scale or offset; near 1 also for two matrices that are both
    nearly the identity: read it with :func:`off_diagonal`. Source: Cortes, Mohri and Rostamizadeh,
    JMLR 13, 795 (2012); Kornblith et al., ICML 2019.

    **This estimator is biased upwards** where samples are few beside the features: independent
    linear Gram matrices of 64 samples and 768 features score 0.92, not 0. So compare arms by it, on
    the same samples, and do not read its size. ``debiased`` takes the unbiased estimator of HSIC in
    all three places instead, which for independent features is 0 on average: the cosine of the
    off-diagonal entries of :math:`\tilde K` and :math:`\tilde L`,

    .. math:: \tilde K_{ij} = K_{ij} - \frac{r_i + r_j}{n - 2} + \frac{s}{(n - 1)(n - 2)}, \qquad
              r_i = \sum_{j \ne i} K_{ij}, \quad s = \sum_i r_i

    It may be negative. Source: Song et al., JMLR 13, 1393 (2012), eq. 5; Székely and Rizzo, Ann.
    Stat. 42, 2382 (2014); Nguyen, Raghu and Kornblith, ICLR 2021.

    Args:
        kernel, other: ``(n, n)``.
        debiased: the second estimator; needs n >= 4.

    Raises:
        NothingToAlign: a ValueError: a matrix is constant once centred (n = 1, or all samples look
            alike), so that it has no direction; with ``debiased`` also n < 4.

    Example:
        >>> x, y = torch.randn(2, 64, 768, generator=torch.Generator().manual_seed(0))
        >>> matrices = x @ x.T, y @ y.T
        >>> centred_alignment(*matrices) > 0.9, abs(centred_alignment(*matrices, True)) < 0.05
        (True, True)
    """
    pair = (check_matrix(kernel, "K"), check_matrix(other, "L"))
    _same_size(*pair, "L")
    n, unit = len(kernel), []
    if debiased and n < 4:
        raise NothingToAlign(f"debiased: expected n >= 4 samples, got {n}")
    for name, matrix in zip("KL", pair, strict=True):
        if debiased:
            hollow = matrix.clone().fill_diagonal_(0)
            norm, rows = hollow.norm(), hollow.sum(0)
            rest = hollow - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
            rest.fill_diagonal_(0)
        else:
            norm, rest = matrix.norm(), centred(matrix)
        if rest.norm() <= NOTHING * norm:
            raise NothingToAlign(
                f"{name}: nothing is left of it once centred: all samples look alike (or n = 1, "
                "or all in one class), so there is nothing to align"
            )
        unit.append(rest / rest.norm())
    return (unit[0] * unit[1]).sum().item()


def alignment_or(nothing: float, kernel: Tensor, other: Tensor) -> float:
    """The :func:`centred_alignment`, or the number given where there is nothing to align."""
    try:
        return centred_alignment(kernel, other)
    except NothingToAlign:
        return nothing


class GeometricDifference(NamedTuple):
    """What :func:`geometric_difference` found."""

    value: float  # g; near 1: no advantage possible
    training_error: float  # the training side, 0 if nothing was regularised away
    regularisation: float  # lambda, in units of the mean eigenvalue
    bound: float  # sqrt(n), the size of g at which an advantage is possible


def geometric_difference(
    classical: Tensor, quantum: Tensor, regularisation: float = 1e-3
) -> GeometricDifference:
    r"""How much larger a model a classical kernel may need for what a quantum kernel learns easily.

    .. math::

        g = \sqrt{\left\lVert \sqrt{K_Q} \sqrt{K_C} (K_C + \lambda I)^{-2} \sqrt{K_C} \sqrt{K_Q}
            \right\rVert_\infty}, \qquad
        g_\mathrm{train} = \lambda \sqrt{\left\lVert \sqrt{K_Q} (K_C + \lambda I)^{-2} \sqrt{K_Q}
            \right\rVert_\infty}

    with the spectral norm (the largest eigenvalue) and both traces scaled to n. They are the
    largest weight norm, and the largest norm of the residual, of kernel ridge regression with
    :math:`K_C` on any labels with :math:`y^T K_Q^{-1} y = 1`. Without :math:`\lambda` g explodes
    with an ill-conditioned :math:`K_C`; with it, a small g counts only if the training side is
    small too. g is not symmetric, and a large g is a possibility, no promise.

    Args:
        classical, quantum: :math:`K_C` and :math:`K_Q`, ``(n, n)``, positive semi-definite.
        regularisation: :math:`\lambda > 0`; the mean eigenvalue of either matrix is 1.

    Source: Huang et al., "Power of data in quantum machine learning", Nat. Commun. 12, 2631 (2021),
    and its supplement.
    """
    regularisation = positive("regularisation", regularisation)
    c_values, c_vectors = _spectrum(classical, "classical")
    q_values, q_vectors = _spectrum(quantum, "quantum")
    _same_size(c_vectors, q_vectors, "quantum")
    # In K_C's eigenbasis (K_C + l)^-2 and K_C are diagonal; ||A A^T|| = ||A||^2 for both forms.
    root = (c_vectors.T @ q_vectors) * q_values.sqrt()  # (n, n): sqrt(K_Q), turned on both sides
    damped = root / (c_values + regularisation)[:, None]
    value = torch.linalg.matrix_norm(c_values.sqrt()[:, None] * damped, ord=2).item()
    training = regularisation * torch.linalg.matrix_norm(damped, ord=2).item()
    return GeometricDifference(value, training, regularisation, math.sqrt(len(c_values)))


def _spectrum(kernel: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Eigenvalues, with the mean of 1 and none negative, and eigenvectors."""
    matrix = check_matrix(kernel, name)
    trace = matrix.trace().item()
    if not trace > 0:
        raise ValueError(f"{name}: expected a kernel matrix with trace > 0, got trace {trace:.3g}")
    values, vectors = torch.linalg.eigh(matrix * (len(matrix) / trace))
    if values[0] < -NEGATIVE * values[-1]:
        raise ValueError(
            f"{name}: expected a positive semi-definite matrix, got an eigenvalue of "
            f"{values[0].item():.3g} beside {values[-1].item():.3g}; a matrix from shots can be "
            "repaired with pennylane.kernels.threshold_matrix"
        )
    return values.clamp(min=0), vectors
