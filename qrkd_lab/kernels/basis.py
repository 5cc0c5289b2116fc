"""The axis of 2^q basis states: the bits behind an index, phases, and matrices on some wires.

Basis state number b holds the bits of b, wire 0 the leftmost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.relations import no_second_derivative

__all__ = ["Rotate", "kron", "local_index", "matmul", "on_neighbours", "on_wires", "replaced"]


def local_index(wires: Sequence[int], qubits: int) -> np.ndarray:
    """For every basis state, the index of its bits on ``wires`` (wire 0 is the leftmost bit)."""
    basis = np.arange(2**qubits)
    local = np.zeros_like(basis)
    for wire in wires:
        local = 2 * local + (basis >> (qubits - 1 - wire)) % 2
    return local


def replaced(wires: Sequence[int], qubits: int, came_from: np.ndarray) -> np.ndarray:
    """Every basis state with its bits on ``wires``, read as b, replaced by came_from[b]."""
    basis = np.arange(2**qubits)
    bits = came_from[local_index(wires, qubits)]
    for position, wire in enumerate(reversed(wires)):
        place = qubits - 1 - wire
        basis = basis & ~(1 << place) | ((bits >> position) % 2) << place
    return basis


class Rotate(torch.autograd.Function):
    """``state * factor``, factor = exp(i phase): ``(n or 1, 2^q), (n, 2^q) -> (n, 2^q)``.

    One step for what autograd would take a dozen small ones for, forwards and back.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, phase: Tensor, factor: Tensor) -> Tensor:  # noqa: ANN401
        rotated = state * factor
        ctx.one = len(state) == 1
        ctx.save_for_backward(factor, rotated)
        return rotated

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        no_second_derivative()
        factor, rotated = ctx.saved_tensors
        to_state = to_phase = None
        if ctx.needs_input_grad[0]:
            to_state = grad * factor.conj()
            to_state = to_state.sum(0, keepdim=True) if ctx.one else to_state
        if ctx.needs_input_grad[1]:
            to_phase = (grad * rotated.conj()).imag  # d rotated = i rotated d phase
        return to_state, to_phase, None


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, where one may be real and the other complex."""
    if a.dtype != b.dtype:
        dtype = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(dtype), b.to(dtype)
    return a @ b


def kron(a: Tensor, b: Tensor) -> Tensor:
    """Kronecker product of the last two axes; either may have a batch axis in front."""
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], a.shape[-2] * b.shape[-2], -1)


def on_neighbours(matrix: Tensor, state: Tensor, group: tuple[int, int], qubits: int) -> Tensor:
    """A matrix ``(2^g, 2^g)`` or ``(n, 2^g, 2^g)`` on wires group[0] up to group[1]."""
    rows, columns = matrix.shape[-2:]
    right = 2 ** (qubits - group[1])
    if right == 1:
        cube = state.reshape(len(state), -1, columns)
        return matmul(cube, matrix.transpose(-1, -2)).reshape(-1, 2**qubits)
    cube = state.reshape(len(state), -1, columns, right)  # (n, left, 2^g, right)
    if matrix.ndim == 3:
        matrix = matrix[:, None]
    return matmul(matrix, cube).reshape(-1, 2**qubits)


def on_wires(matrix: Tensor, state: Tensor, wires: Sequence[int], qubits: int) -> Tensor:
    """A matrix ``(2^k, 2^k)`` or ``(n, 2^k, 2^k)`` on any k wires of states ``(n, 2^q)``."""
    q, k = qubits, len(wires)
    cube = state.reshape(-1, *[2] * q)
    last = list(range(q - k + 1, q + 1))
    cube = cube.movedim([w + 1 for w in wires], last)
    rows = cube.reshape(len(cube), -1, 2**k)  # (n, 2^(q-k), 2^k)
    rows = matmul(rows, matrix.transpose(-1, -2))
    cube = rows.reshape(-1, *[2] * q).movedim(last, [w + 1 for w in wires])
    return cube.reshape(-1, 2**q)
