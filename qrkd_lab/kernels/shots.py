r"""Kernel matrices as shots leave them, without running a circuit.

An entry estimated from S shots is a share of S tosses, so the matrix can be drawn from the exact
one. A device (``kernel.on(...)``) gives matrices of the same distribution, circuit by circuit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qrkd_lab.checks import at_least_float32, check_features, whole

__all__ = ["sampled"]


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
    """
    shots = whole("shots", shots, 1)
    check_features(kernel, "kernel")
    exact = at_least_float32(kernel.detach().cpu())
    rounding = 1e-9 if kernel.dtype == torch.float64 else max(1e-4, torch.finfo(kernel.dtype).eps)
    if exact.min() < -rounding or exact.max() > 1 + rounding:
        raise ValueError(
            f"kernel: expected probabilities from 0 to 1, got {exact.min():.3g} to "
            f"{exact.max():.3g}"
        )

    def shares(chance: Tensor) -> Tensor:
        chance = chance.clamp(0, 1)
        return torch.binomial(torch.full_like(chance, shots), chance, generator=generator) / shots

    n, m = exact.shape
    if n == m and (exact - exact.T).abs().max() <= rounding:  # of one set with itself
        drawn, (row, column) = exact.clone(), torch.triu_indices(n, n, offset=1)
        drawn[row, column] = drawn[column, row] = shares(exact[row, column])
        unsure = exact.diagonal() < 1 - rounding  # as noise leaves it
        drawn.diagonal()[unsure] = shares(exact.diagonal()[unsure])
    else:
        drawn = shares(exact)
    return drawn.to(kernel.device, kernel.dtype)
