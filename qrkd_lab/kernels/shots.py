r"""Kernel matrices as shots and noise leave them, without running a circuit.

An entry that is estimated from S shots is a share of S tosses, so a *matrix* from shots can be
drawn from the exact one: fast enough for thousands of matrices, and for training. A device
(``kernel.on(...)``) gives matrices of the same distribution, circuit by circuit.

Source of the noise model and its inverse: Hubregtsen et al., Phys. Rev. A 106, 042431 (2022).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from qrkd_lab.kernels.analysis import check_matrix, off_diagonal_values
from qrkd_lab.kernels.classical import Kernel
from qrkd_lab.kernels.encoders import Encoder, KernelRelation
from qrkd_lab.relations import check_features, whole

__all__ = [
    "Depolarised", "ShotRelation", "clip_spectrum", "fit_depolarised", "sampled",
    "spread_of_shots", "undo_depolarised",
]  # fmt: skip

SIDES = ("teacher", "both")


def sampled(kernel: Tensor, shots: int, generator: torch.Generator | None = None) -> Tensor:
    r"""A kernel matrix as ``shots`` measurements an entry would give it, without gradient.

    .. math:: \hat K_{ij} \sim \operatorname{Binomial}(S, K_{ij}) / S

    A symmetric matrix is taken as that of one set with itself: a pair is drawn once,
    :math:`\hat K_{ij} = \hat K_{ji}`, and a diagonal of 1 stays, as no circuit is run for it. In
    any other matrix, ``kernel(x, y)`` of two sets, each entry is a draw of its own.

    Args:
        kernel: exact matrix ``(n, m)``, values from 0 to 1.
        shots: S >= 1.
        generator: of the draw, on the CPU.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: shots < 1, no matrix, or a value outside 0..1 by more than rounding.
    """
    shots = whole("shots", shots, 1)
    exact, itself, rounding = _probabilities(kernel)
    drawn = exact.clone()
    if itself:
        row, column = torch.triu_indices(len(exact), len(exact), offset=1)
        drawn[row, column] = drawn[column, row] = _shares(exact[row, column], shots, generator)
        unsure = exact.diagonal() < 1 - rounding  # as noise leaves it
        drawn.diagonal()[unsure] = _shares(exact.diagonal()[unsure], shots, generator)
    else:
        drawn = _shares(exact, shots, generator)
    return drawn.to(kernel.device, kernel.dtype)


def _shares(chance: Tensor, shots: int, generator: torch.Generator | None) -> Tensor:
    chance = chance.clamp(0, 1)
    return torch.binomial(torch.full_like(chance, shots), chance, generator=generator) / shots


def _probabilities(kernel: Tensor) -> tuple[Tensor, bool, float]:
    """The matrix on the CPU, in float32 at least; whether it is one set's; what is rounding."""
    check_features(kernel, "kernel")
    exact = kernel.detach().cpu()
    exact = exact if exact.dtype == torch.float64 else exact.float()
    rounding = 1e-9 if kernel.dtype == torch.float64 else max(1e-4, torch.finfo(kernel.dtype).eps)
    if exact.min() < -rounding or exact.max() > 1 + rounding:
        raise ValueError(
            f"kernel: expected probabilities from 0 to 1, got {exact.min():.3g} to "
            f"{exact.max():.3g}"
        )
    square = exact.shape[0] == exact.shape[1]
    return exact, square and bool((exact - exact.T).abs().max() <= rounding), rounding


def clip_spectrum(kernel: Tensor) -> Tensor:
    r"""The nearest positive semi-definite matrix: negative eigenvalues become 0.

    .. math:: K = V \operatorname{diag}(\lambda) V^T \;\to\;
              V \operatorname{diag}(\max(\lambda, 0)) V^T

    Nearest in Frobenius norm (Higham, 1988). The trace grows by what was cut, so the diagonal is no
    longer 1.
    """
    values, vectors = torch.linalg.eigh(check_matrix(kernel))
    return (vectors * values.clamp(min=0)) @ vectors.T


@dataclass(frozen=True)
class Depolarised:
    r"""The noise model :math:`K^{noisy} = (1 - \lambda) K + \lambda 2^{-q}`, fitted.

    Attributes:
        strength: :math:`\lambda`, 0 without noise, 1 where nothing is left.
        r_squared: share of the variance over all entries, the diagonal included, that it explains.
        diagonal: :math:`\lambda` from the diagonal alone, which needs no exact matrix.
    """

    strength: float
    r_squared: float
    diagonal: float


def fit_depolarised(noisy: Tensor, exact: Tensor, qubits: int) -> Depolarised:
    r"""How well does one number describe the noise? Least squares over all entries.

    .. math:: \hat\lambda = \arg\min_\lambda \sum_{i \le j}
              \big( K^{noisy}_{ij} - (1 - \lambda) K_{ij} - \lambda 2^{-q} \big)^2

    Args:
        noisy, exact: matrices ``(n, n)``.
        qubits: q.

    Raises:
        ValueError: matrices of two sizes, or ones that are not of one set with itself.
    """
    if noisy.shape != exact.shape:
        raise ValueError(
            f"noisy and exact: expected one size, got {tuple(noisy.shape)} and {tuple(exact.shape)}"
        )
    row, column = torch.triu_indices(len(exact), len(exact))
    given, wanted = (check_matrix(m)[row, column] for m in (noisy, exact))
    rest = wanted - 2.0**-qubits
    strength = (rest * (wanted - given)).sum() / rest.square().sum()
    residual = (given - wanted + strength * rest).square().sum()
    total = (given - given.mean()).square().sum()
    return Depolarised(
        strength.item(), (1 - residual / total).item(), _from_diagonal(noisy, qubits)
    )


def undo_depolarised(noisy: Tensor, qubits: int) -> Tensor:
    r"""Mitigation: the model solved for K, with :math:`\lambda` from the measured diagonal.

    .. math:: \hat\lambda = \frac{1 - \overline{K^{noisy}_{ii}}}{1 - 2^{-q}}, \qquad
              \hat K = \frac{K^{noisy} - \hat\lambda 2^{-q}}{1 - \hat\lambda}

    It divides by :math:`1 - \hat\lambda`, and shot noise with it.

    Raises:
        ValueError: the mean diagonal is at most :math:`2^{-q}`: nothing is left to be restored;
            or the matrix is not one of one set with itself, whose diagonal would be 1.
    """
    check_matrix(noisy, "noisy")
    strength = _from_diagonal(noisy, qubits)
    if strength >= 1:
        raise ValueError(
            f"noisy: the mean diagonal is at most 2^-{qubits}, as of a state without information; "
            "nothing can be restored: use less noise or fewer gates"
        )
    return (noisy - strength * 2.0**-qubits) / (1 - strength)


def _from_diagonal(noisy: Tensor, qubits: int) -> float:
    return ((1 - noisy.diagonal().mean()) / (1 - 2.0**-qubits)).item()


class ShotRelation(KernelRelation):
    """A kernel relation whose matrices come from shots; the gradient is that of the exact kernel.

    With ``sides="teacher"`` only the target is noisy, which is exactly what shots do to it. With
    ``"both"`` the student's matrix has noisy *values* and the exact matrix's *slope*
    (straight-through): a device would have to estimate the slope from shots, too, so this is a
    lower bound of the harm.

    Args:
        kernel, encoder: as :class:`~qrkd_lab.kernels.encoders.KernelRelation`.
        shots: an entry; a new draw in each batch.
        sides: ``teacher`` or ``both``.
        seed: of the draws.

    Raises:
        ValueError: shots < 1, or other sides.
    """

    def __init__(
        self, kernel: Kernel, encoder: Encoder, shots: int, sides: str = "teacher", seed: int = 0
    ) -> None:
        super().__init__(kernel, encoder)
        if sides not in SIDES:
            raise ValueError(f"unknown sides {sides!r}; choose one of {', '.join(SIDES)}")
        self.shots, self.sides = whole("shots", shots, 1), sides
        self._generator = torch.Generator().manual_seed(whole("seed", seed, 0))

    def teacher(self, features: Tensor) -> Tensor:
        return sampled(super().teacher(features), self.shots, self._generator)

    def student(self, features: Tensor) -> Tensor:
        exact = super().student(features)
        if self.sides == "teacher":
            return exact
        return exact + (sampled(exact, self.shots, self._generator) - exact).detach()

    @property
    def teacher_key(self) -> Hashable:
        """Its own for each relation: two relations draw their own shots."""
        return (super().teacher_key, self.shots, id(self))


def spread_of_shots(kernel: Tensor, shots: int) -> float:
    r"""Expected root-mean-square error of what is drawn: :math:`\sqrt{\overline{K (1 - K)} / S}`.

    The mean is over pairs of different samples for a symmetric matrix ``(n, n)`` of one set, and
    over all entries for ``kernel(x, y)`` of two.
    """
    _, itself, _ = _probabilities(kernel)
    values = off_diagonal_values(kernel) if itself else kernel.detach().cpu().double()
    values = values.clamp(0, 1)
    return math.sqrt((values * (1 - values)).mean().item() / whole("shots", shots, 1))
