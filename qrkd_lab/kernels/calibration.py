r"""A bandwidth for any kernel, chosen by one rule that knows nothing of the student or of accuracy.

With too small a bandwidth all samples look alike (K is all ones), with too large a one each looks
like itself only (K is the identity): both say nothing. The rule takes the bandwidth at which the
kernel's values *spread* most over pairs of different samples,

.. math:: b^* = \arg\max_b \operatorname{std}_{i \ne j} K_b(x_i, x_j),

on the teacher's angles. Where it lies differs by a factor of ten between circuits and moves with
the number of qubits, so a fixed number would silently switch some kernels off; and controls get
theirs by the same rule as the quantum kernel.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from qrkd_lab.kernels.base import Kernel
from qrkd_lab.relations import at_least_float32

__all__ = ["BANDWIDTHS", "calibrated", "spread"]

BANDWIDTHS = tuple(2.0 ** (half / 2) for half in range(-14, 5))  # 0.0078 ... 4, steps of sqrt(2)


def spread(kernel: Kernel, angles: Tensor) -> float:
    """Standard deviation of the kernel's values over pairs of different rows of ``(n, q)``."""
    with torch.no_grad():
        matrix = kernel(at_least_float32(angles))
    different = ~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    return matrix[different].std().item()


def calibrated(kernel: Kernel, angles: Tensor) -> Kernel:
    """The same kernel with the bandwidth of largest spread among :data:`BANDWIDTHS`.

    A kernel without bandwidth (the squared cosine) comes back as it is.

    Args:
        kernel: any kernel.
        angles: of the teacher ``(n, q)``, n >= 3.

    Raises:
        ValueError: fewer than three samples.
    """
    if len(angles) < 3:
        raise ValueError(f"a bandwidth needs at least 3 samples to be chosen on, got {len(angles)}")
    if "bandwidth" not in {field.name for field in dataclasses.fields(kernel)}:
        return kernel
    choices = [dataclasses.replace(kernel, bandwidth=bandwidth) for bandwidth in BANDWIDTHS]
    return max(choices, key=lambda choice: spread(choice, angles))
