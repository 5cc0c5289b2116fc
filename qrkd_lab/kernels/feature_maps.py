r"""Feature maps: circuits that write a sample's angles into a quantum state, in PennyLane.

Each is a plain PennyLane quantum function ``f(angles, wires, ...)`` with ``angles`` ``(..., q)`` of
torch, NumPy or JAX; the state that it prepares from :math:`|0\dots0\rangle` is the sample's
embedding :math:`|\phi(x)\rangle`. Write your own for :class:`~qrkd_lab.FidelityKernel`:

    >>> def mine(angles, wires):
    ...     for i, wire in enumerate(wires):
    ...         qp.RX(angles[..., i], wires=wire)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pennylane as qp
import torch
from torch import Tensor

from qrkd_lab.kernels.classical import unit_rows

__all__ = ["FEATURE_MAPS", "amplitude", "angle", "iqp", "reuploading", "zz"]


def angle(angles: Tensor, wires: Sequence[int], layers: int = 1, entangle: bool = True) -> None:
    r"""A rotation RY(x_i) on each qubit, in layers with a ring of CNOTs *between* them.

    With one layer, or without entanglement, the state is a product and the fidelity kernel has the
    closed form :math:`\prod_i \cos^2\!\big(L (x_i - y_i) / 2\big)` for L layers. (Entanglers after
    the last layer would cancel in a fidelity, so there are none.)
    """
    for layer in range(layers):
        if layer and entangle:
            _ring(qp.CNOT, wires)
        for i, wire in enumerate(wires):
            qp.RY(angles[..., i], wires=wire)


def zz(angles: Tensor, wires: Sequence[int], layers: int = 2, entangle: bool = True) -> None:
    r"""Havlicek's map: Hadamards, then phases 2 x_i and, for all pairs, 2 (pi - x_i)(pi - x_j).

    .. math:: \left[ e^{-i \sum_{i<j} (\pi - x_i)(\pi - x_j) Z_i Z_j - i \sum_i x_i Z_i}
              H^{\otimes q} \right]^L |0\rangle

    equal to the published circuit of CNOTs and phase gates up to a global phase, which no kernel
    sees. Source: Havlicek et al., Nature 567, 209 (2019).
    """
    products = 2 * _products(math.pi - angles, len(wires))
    _phases(2 * angles, products, wires, layers, entangle)


def iqp(angles: Tensor, wires: Sequence[int], layers: int = 2, entangle: bool = True) -> None:
    r"""Instantaneous quantum polynomial map: Hadamards, then RZ(x_i) and ZZ rotations by x_i x_j.

    .. math:: \left[ e^{-\frac{i}{2} \sum_{i<j} x_i x_j Z_i Z_j - \frac{i}{2} \sum_i x_i Z_i}
              H^{\otimes q} \right]^L |0\rangle

    The same circuit as PennyLane's ``IQPEmbedding``. Source: Havlicek et al., Nature 567, 209
    (2019); Bremner et al., PRL 117, 080501 (2016).
    """
    _phases(angles, _products(angles, len(wires)), wires, layers, entangle)


def _products(angles: Tensor, qubits: int) -> Tensor:
    """x_i x_j of all pairs i < j of the first q: ``(..., d) -> (..., q (q - 1) / 2)``."""
    if angles.shape[-1] < qubits:
        raise IndexError(f"expected an angle for each of {qubits} qubits, got {angles.shape[-1]}")
    i, j = np.triu_indices(qubits, 1)
    if not isinstance(angles, Tensor):
        return angles[..., i] * angles[..., j]
    i, j = (torch.as_tensor(k, device=angles.device) for k in (i, j))
    return angles.index_select(-1, i) * angles.index_select(-1, j)


def _phases(
    single: Tensor, pairs: Tensor, wires: Sequence[int], layers: int, entangle: bool
) -> None:
    """Layers of Hadamards, RZ rotations, and ZZ rotations of all pairs."""
    single, pairs = _columns(single), _columns(pairs) if entangle else ()
    for _ in range(layers):
        for angle, wire in zip(single, wires, strict=False):
            qp.Hadamard(wires=wire)
            qp.RZ(angle, wires=wire)
        for angle, pair in zip(pairs, combinations(wires, 2), strict=False):
            qp.IsingZZ(angle, wires=pair)


def _columns(values: Tensor) -> Sequence[Tensor]:
    """``[..., k]`` for every k in one step: one by one, reading a circuit takes twice as long."""
    if isinstance(values, Tensor):
        return values.unbind(-1)
    return [values[..., k] for k in range(qp.math.shape(values)[-1])]


def reuploading(
    angles: Tensor, wires: Sequence[int], layers: int = 2, entangle: bool = True, seed: int = 0
) -> None:
    r"""Data re-uploading: in each layer RY(x_i), a fixed random rotation, and a ring of CZs.

    The rotations are drawn once from ``seed`` (uniform angles) and are not trained. The ring after
    the last layer cancels in a fidelity, so that one layer alone is there a product. Source:
    Perez-Salinas et al., Quantum 4, 226 (2020).
    """
    fixed = np.random.default_rng(seed).uniform(0, 2 * math.pi, (layers, len(wires), 3))
    for layer in range(layers):
        for i, wire in enumerate(wires):
            qp.RY(angles[..., i], wires=wire)
            qp.Rot(*fixed[layer, i], wires=wire)
        if entangle:
            _ring(qp.CZ, wires)


def amplitude(angles: Tensor, wires: Sequence[int]) -> None:
    r"""The sample's numbers themselves, scaled to length 1, are the :math:`2^q` amplitudes.

    The fidelity kernel is the squared cosine, so there is nothing quantum in it but the name. A
    zero row has no direction and becomes :math:`|0\dots0\rangle`, without gradient.
    """
    if isinstance(angles, Tensor):
        unit = unit_rows(angles)
        # A zero row must be a state too; adding to its first amplitude keeps the others' gradient.
        missing = (unit.detach() == 0).all(-1, keepdim=True)
        first = torch.eye(1, unit.shape[-1], dtype=unit.dtype, device=unit.device)[0]
        unit = unit + missing.to(unit.dtype) * first
    else:  # the same in NumPy, autograd or JAX
        squared = qp.math.sum(angles**2, axis=-1)[..., None]
        long = squared > 1e-12
        lengths = qp.math.sqrt(qp.math.where(long, squared, 1.0))
        unit = qp.math.where(long, angles / lengths, np.eye(1, qp.math.shape(angles)[-1])[0])
    qp.StatePrep(unit, wires=wires, validate_norm=False)


FEATURE_MAPS: dict[str, Callable[..., None]] = {
    "angle": angle,
    "zz": zz,
    "iqp": iqp,
    "reuploading": reuploading,
    "amplitude": amplitude,
}


def _ring(gate: Callable[..., object], wires: Sequence[int]) -> None:
    """The gate on neighbours, closed to a ring from three qubits on."""
    for a, b in zip(wires, wires[1:], strict=False):
        gate(wires=[a, b])
    if len(wires) > 2:
        gate(wires=[wires[-1], wires[0]])
