r"""Numbers of two kernel matrices: does a kernel see the classes, and is it like another kernel?"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qrkd_lab.kernels.base import flag, positive
from qrkd_lab.kernels.diagnostics import check_matrix
from qrkd_lab.kernels.views import centred

__all__ = [
    "GeometricDifference",
    "NothingToAlign",
    "centred_alignment",
    "class_matrix",
    "geometric_difference",
    "kernel_target_alignment",
]

NEGATIVE = 1e-5  # of the largest eigenvalue: what float32 rounding makes of a zero eigenvalue
NOTHING = 1e-10  # of the norm: a centred matrix as small as this is rounding only


class NothingToAlign(ValueError):
    """A matrix that is constant once centred: it tells no sample from another."""


def class_matrix(labels: Tensor, signed: bool = False) -> Tensor:
    r"""The kernel that knows the classes, ``(n, n)`` in float64.

    .. math:: T_{ij} = 1 \text{ if } y_i = y_j, \text{ else } 0
              \quad (\text{with signed, for two classes: else } -1)

    Raises:
        TypeError: no tensor.
        ValueError: not ``(n,)``, NaN, or ``signed`` with other than two classes.
    """
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels: expected a torch tensor (n,), got {type(labels).__name__}")
    if labels.ndim != 1 or not len(labels) or (labels != labels).any():
        raise ValueError(f"labels: expected (n,), n >= 1, no NaN; got {tuple(labels.shape)}")
    labels = labels.detach().cpu()
    found = len(labels.unique())
    if flag("signed", signed) and found != 2:
        raise ValueError(f"signed: -1 and +1 are for two classes, got {found}; leave it out")
    same = (labels[:, None] == labels[None, :]).double()  # (n, n)
    return 2 * same - 1 if signed else same


def kernel_target_alignment(kernel: Tensor, labels: Tensor, signed: bool = False) -> float:
    r"""Cosine between the matrix and the one that knows the classes.

    .. math:: A(K, T) = \frac{\langle K, T \rangle_F}{\lVert K \rVert_F \lVert T \rVert_F}

    with T of :func:`class_matrix`. It is not centred, so a constant matrix does not score 0 (with
    c balanced classes it scores :math:`1 / \sqrt c`); ``centred_alignment(K, class_matrix(y))``
    takes that away and is the one to compare kernels by.

    Args:
        kernel: ``(n, n)``.
        labels: ``(n,)``, any number of classes.
        signed: T = y y^T with labels of -1 and +1, for two classes: the convention of Cristianini
            et al. (NIPS 2001) and of PennyLane's ``target_alignment`` without rescaling.

    Returns:
        From 0 (or -1 if ``signed``) to 1, for kernels with values >= 0.

    Raises:
        TypeError, ValueError: see :func:`~qrkd_lab.kernels.diagnostics.check_matrix` and
            :func:`class_matrix`.
    """
    matrix, target = check_matrix(kernel), class_matrix(labels, signed)
    _same_size(matrix, target, "labels")
    norm = matrix.norm() * target.norm()
    if not norm > 0:
        raise ValueError("K: a matrix of zeros has no direction to align")
    return ((matrix * target).sum() / norm).item()


def centred_alignment(kernel: Tensor, other: Tensor, debiased: bool = False) -> float:
    r"""Centred kernel alignment (CKA): do two matrices see the same likenesses?

    .. math:: \mathrm{CKA}(K, L) = \frac{\langle HKH, HLH \rangle_F}
              {\lVert HKH \rVert_F \lVert HLH \rVert_F}, \qquad H = I - \tfrac1n 1 1^T

    1 for equal matrices, whatever their scale or offset. Two matrices that are both nearly the
    identity score near 1 too, though they agree on nothing but that: read it with
    :func:`off_diagonal`. Source: Cortes, Mohri and Rostamizadeh, JMLR 13, 795 (2012); Kornblith et
    al., ICML 2019.

    **This estimator is biased upwards** where samples are few beside the features: independent
    linear Gram matrices of 64 samples and 768 features score 0.92, not 0. ``debiased`` takes the
    unbiased estimator of HSIC in all three places instead, which for independent features is 0 on
    average. It is the cosine of the off-diagonal entries of :math:`\tilde K` and :math:`\tilde L`,

    .. math:: \tilde K_{ij} = K_{ij} - \frac{r_i + r_j}{n - 2} + \frac{s}{(n - 1)(n - 2)}, \qquad
              r_i = \sum_{j \ne i} K_{ij}, \quad s = \sum_i r_i

    and may be negative. The diagonal does not enter. Source: Song et al., JMLR 13, 1393 (2012),
    eq. 5; Székely and Rizzo, Ann. Stat. 42, 2382 (2014); Nguyen, Raghu and Kornblith, ICLR 2021.

    What the kit's records and figures call CKA or alignment is the biased one, on a number of
    samples that is the same for all arms: compare arms by it, and do not read its size.

    Args:
        kernel, other: ``(n, n)``.
        debiased: the second estimator; needs n >= 4.

    Raises:
        NothingToAlign: a ValueError: a matrix is constant once centred (n = 1, or all samples look
            alike), so that it has no direction; with ``debiased`` also n < 4.
        ValueError: sizes differ; see also :func:`~qrkd_lab.kernels.diagnostics.check_matrix`.

    Example:
        >>> x, y = torch.randn(2, 64, 768, generator=torch.Generator().manual_seed(0))
        >>> matrices = x @ x.T, y @ y.T
        >>> centred_alignment(*matrices) > 0.9, abs(centred_alignment(*matrices, True)) < 0.05
        (True, True)
    """
    pair = (check_matrix(kernel, "K"), check_matrix(other, "L"))
    _same_size(*pair, "L")
    if debiased and len(kernel) < 4:
        raise NothingToAlign(f"debiased: expected n >= 4 samples, got {len(kernel)}")
    unit = []
    for name, matrix in zip("KL", pair, strict=True):
        if debiased:
            matrix = matrix.clone().fill_diagonal_(0)  # noqa: PLW2901
        rest = _without_rows(matrix) if debiased else centred(matrix)
        if rest.norm() <= NOTHING * matrix.norm():
            raise NothingToAlign(
                f"{name}: nothing is left of it once centred: all samples look alike (or n = 1, "
                "or all in one class), so there is nothing to align"
            )
        unit.append(rest / rest.norm())
    return (unit[0] * unit[1]).sum().item()


def _without_rows(matrix: Tensor) -> Tensor:
    """A matrix with zero diagonal whose rows are made to sum to 0, without touching that."""
    n, rows = len(matrix), matrix.sum(0)
    rest = matrix - (rows[:, None] + rows) / (n - 2) + rows.sum() / ((n - 1) * (n - 2))
    return rest.fill_diagonal_(0)


@dataclass(frozen=True)
class GeometricDifference:
    """What :func:`geometric_difference` found.

    Attributes:
        value: g; near 1: no advantage possible; compare with ``bound``.
        training_error: the training side, 0 if nothing was regularised away.
        regularisation: lambda, in units of the mean eigenvalue.
        bound: sqrt(n), the size of g at which an advantage is possible.
    """

    value: float
    training_error: float
    regularisation: float
    bound: float


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
    :math:`K_C` on any labels with :math:`y^T K_Q^{-1} y = 1`. Without :math:`\lambda` g is
    :math:`\sqrt{\lVert \sqrt{K_Q} K_C^{-1} \sqrt{K_Q} \rVert}` and explodes with an ill-conditioned
    :math:`K_C`; with it, a small g counts only if the training side is small too. g is not
    symmetric, and a large g is a possibility, no promise.

    Args:
        classical, quantum: :math:`K_C` and :math:`K_Q`, ``(n, n)``, positive semi-definite.
        regularisation: :math:`\lambda > 0`; the mean eigenvalue of either matrix is 1.

    Raises:
        ValueError: sizes differ, trace not > 0, a clearly negative eigenvalue, or lambda not > 0;
            see also :func:`~qrkd_lab.kernels.diagnostics.check_matrix`.

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
    return GeometricDifference(value, training, float(regularisation), math.sqrt(len(c_values)))


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


def _same_size(a: Tensor, b: Tensor, name: str) -> None:
    if len(a) != len(b):
        raise ValueError(f"{name}: expected {len(a)} samples, as K has, got {len(b)}")
