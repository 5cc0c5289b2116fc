r"""Does a kernel of single qubits escape where the fidelity of whole states concentrates?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch

from qrkd_lab.kernels.base import Kernel, whole
from qrkd_lab.kernels.diagnostics import off_diagonal
from qrkd_lab.kernels.quantum import FidelityKernel, ProjectedKernel

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

__all__ = ["global_and_projected", "shots_to_resolve"]


def global_and_projected(
    feature_maps: Sequence[str] = ("iqp", "zz"),
    qubits: Iterable[int] = (2, 4, 6, 8, 10),
    bandwidth: float = 1.0,
    samples: int = 64,
    seed: int = 0,
) -> DataFrame:
    """Variance over pairs and shots, of the fidelity and of the projected kernel.

    Args:
        feature_maps: names, or PennyLane quantum functions.
        qubits: numbers of qubits.
        bandwidth: of both kernels.
        samples, seed: of standard normal angles, whose first q columns are taken.

    Returns:
        Columns ``feature_map``, ``kernel`` (``fidelity`` or ``projected``), ``bandwidth``,
        ``qubits``, ``mean``, ``variance``, ``shots`` of :func:`shots_to_resolve`.
    """
    from pandas import DataFrame

    qubits = [whole("qubits", q, 1) for q in qubits]
    generator = torch.Generator().manual_seed(seed)
    size = (whole("samples", samples, 3), max(qubits))
    angles = torch.randn(size, dtype=torch.float64, generator=generator)
    rows = []
    for feature_map in feature_maps:
        map_name = feature_map if isinstance(feature_map, str) else feature_map.__name__
        for name, kind in (("fidelity", FidelityKernel), ("projected", ProjectedKernel)):
            for q in qubits:
                kernel, x = kind(feature_map, q, bandwidth=bandwidth), angles[:, :q]
                with torch.no_grad():
                    pairs = off_diagonal(kernel(x))
                shots = shots_to_resolve(kernel, x)
                rows.append((map_name, name, bandwidth, q, pairs.mean, pairs.variance, shots))
    columns = "feature_map kernel bandwidth qubits mean variance shots"
    return DataFrame(rows, columns=columns.split())


def shots_to_resolve(kernel: Kernel, x: Tensor) -> float:
    r"""Shots a circuit at which shot noise is as large as the spread of what is measured.

    A fidelity kernel measures each entry k, with variance :math:`k (1 - k) / S`; a projected kernel
    measures each component r of a Bloch vector, with variance :math:`(1 - r^2) / S`:

    .. math:: S_F = \frac{\bar k (1 - \bar k)}{\operatorname{Var}_{i<j} K_{ij}}, \qquad
              S_P = \frac{1 - \overline{r^2}}{\overline{\operatorname{Var}_i\, r_i}}

    the means of the second over components. What a Gaussian makes of the components afterwards
    costs no shot, so its :math:`\gamma` does not matter.

    Args:
        kernel: a fidelity or a projected kernel.
        x: angles ``(n, q)``, n >= 2.

    Returns:
        Infinity where nothing varies.
    """
    with torch.no_grad():
        if isinstance(kernel, ProjectedKernel):
            vectors = kernel.embed(kernel.bandwidth * x)  # (n, 3q)
            noise = (1 - vectors.square()).mean().item()
            signal = vectors.var(0, correction=0).mean().item()
        else:
            pairs = off_diagonal(kernel(x))
            noise, signal = max(pairs.mean * (1 - pairs.mean), 0.0), pairs.variance
    return noise / signal if signal > 0 else math.inf
