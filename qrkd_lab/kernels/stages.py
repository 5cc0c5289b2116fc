"""The few batched operations that a circuit's gates are merged into before they are replayed.

A stage maps states ``(n, 2^q)`` to states. :func:`schedule` moves each gate to the earliest stage
that can take it up, past gates it commutes with, so that a circuit of hundreds of gates becomes a
handful of stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.kernels.circuit import Gate

__all__ = ["Layer", "Permutation", "Phase", "Single", "Stage", "schedule"]

GROUP = 4  # one-qubit gates multiplied out together: 16 x 16 matrices, the fastest size measured
WHOLE = 6  # constant layers on up to this many qubits are one matrix


class Stage:
    """One batched operation; ``gates`` are those merged into it, in their order."""

    def __init__(self, qubits: int, like: Tensor) -> None:
        self.qubits, self.like = qubits, like
        self.gates: list[Gate] = []

    def takes(self, gate: Gate) -> bool:
        """Whether ``gate`` may be merged into this stage, coming after all gates in it."""
        return False

    def compile(self) -> None:
        """Called once, when the last gate has been merged: make the constant tables."""

    @property
    def constant(self) -> bool:
        """No gate of this stage depends on the angles."""
        return all(gate.kind == "constant" for gate in self.gates)

    @property
    def diagonal(self) -> bool:
        return all(gate.diagonal for gate in self.gates)

    def commutes(self, gate: Gate) -> bool:
        """Whether ``gate`` may be moved past this stage: disjoint wires, or both diagonal."""
        mine = {wire for own in self.gates for wire in own.wires}
        return mine.isdisjoint(gate.wires) or (gate.diagonal and self.diagonal)

    def tensor(self, array: np.ndarray) -> Tensor:
        """A constant on the states' device, in their precision, real where it is real."""
        dtype = self.like.dtype
        if not np.iscomplexobj(array) or not array.imag.any():
            array, dtype = array.real, self.like.real.dtype
        return torch.as_tensor(array.copy(), dtype=dtype, device=self.like.device)

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define __call__")


class Phase(Stage):
    """Diagonal gates: ``state * exp(i Theta E)``, E ``(r, 2^q)`` the diagonals of generators."""

    def takes(self, gate: Gate) -> bool:
        return gate.diagonal

    def compile(self) -> None:
        table: dict[int, np.ndarray] = {}
        fixed = np.ones(2**self.qubits, complex)
        for gate in self.gates:
            entries = np.diagonal(gate.matrix)[_local_index(gate.wires, self.qubits)]
            if gate.kind == "constant":
                fixed = fixed * entries
            else:
                table[gate.column] = table.get(gate.column, 0) + entries.real
        self.columns = sorted(table)
        self.fixed = None if np.allclose(fixed, 1) else self.tensor(fixed)
        if self.columns:
            eigenvalues = np.stack([table[column] for column in self.columns])
            self.eigenvalues = self.tensor(eigenvalues)
            self.key = (tuple(self.columns), eigenvalues.tobytes())

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        if self.columns:
            if self.key not in made:
                phase = _pick(thetas, self.columns) @ self.eigenvalues
                with torch.no_grad():
                    made[self.key] = phase, torch.complex(phase.cos(), phase.sin())
            state = _Rotate.apply(state, *made[self.key])
        return state if self.fixed is None else state * self.fixed


class _Rotate(torch.autograd.Function):
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
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:  # noqa: ANN401
        factor, rotated = ctx.saved_tensors
        to_state = to_phase = None
        if ctx.needs_input_grad[0]:
            to_state = grad * factor.conj()
            to_state = to_state.sum(0, keepdim=True) if ctx.one else to_state
        if ctx.needs_input_grad[1]:
            to_phase = (grad * rotated.conj()).imag  # d rotated = i rotated d phase
        return to_state, to_phase, None


class Layer(Stage):
    """One-qubit gates on any wires, multiplied out over groups of neighbouring qubits."""

    def takes(self, gate: Gate) -> bool:
        return len(gate.wires) == 1

    def compile(self) -> None:
        size = self.qubits if self.constant and self.qubits <= WHOLE else GROUP
        cuts = pairwise([*range(0, self.qubits, size), self.qubits])
        touched = {gate.wires[0] for gate in self.gates}
        self.groups = [(a, b) for a, b in cuts if touched & set(range(a, b))]
        turning = [gate for gate in self.gates if gate.kind == "rotation"]
        self.columns = [gate.column for gate in turning]
        if turning:
            # G^2 = g^2: e^{i theta G} = cos(g theta) + sin(g theta) (i G / g)
            scales = [abs((gate.matrix @ gate.matrix)[0, 0]) ** 0.5 for gate in turning]
            axes = [1j * gate.matrix / g for gate, g in zip(turning, scales, strict=True)]
            self.scales, self.axes = self.tensor(np.array(scales)), self.tensor(np.stack(axes))
        self.identity = self.tensor(np.eye(2))
        self.fixed = {id(g): self.tensor(g.matrix) for g in self.gates if g.kind == "constant"}
        self.ready = {
            group: self._product(group, {}).to(self.like.dtype).mT.contiguous().mT
            for group in self.groups
            if self.constant
        }

    def _product(self, group: tuple[int, int], turned: dict[int, Tensor]) -> Tensor:
        """The Kronecker product of a group's gates: ``(2^g, 2^g)`` or ``(n, 2^g, 2^g)``."""
        product = None
        for wire in range(*group):
            matrix = self.identity
            for gate in self.gates:
                if gate.wires[0] == wire:
                    own = turned[id(gate)] if id(gate) in turned else self.fixed[id(gate)]
                    matrix = own if matrix is self.identity else _matmul(own, matrix)
            product = matrix if product is None else _kron(product, matrix)
        return product

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        if self.ready:
            for group in self.groups:
                state = _apply(self.ready[group], state, group, self.qubits)
            return state
        turned: dict[int, Tensor] = {}
        if self.columns:
            angle = (_pick(thetas, self.columns) * self.scales)[..., None, None]  # (n, r, 1, 1)
            rotations = angle.cos() * self.identity + angle.sin() * self.axes  # (n, r, 2, 2)
            turning = [gate for gate in self.gates if gate.kind == "rotation"]
            turned = {id(g): r for g, r in zip(turning, rotations.unbind(1), strict=True)}
        for gate in self.gates:
            if gate.kind == "matrix":
                turned[id(gate)] = matrices[gate.column]
        for group in self.groups:
            state = _apply(self._product(group, turned), state, group, self.qubits)
        return state


class Permutation(Stage):
    """Gates that permute basis states (CNOT, SWAP, Toffoli): one index into the state."""

    def takes(self, gate: Gate) -> bool:
        return _permutes(gate)

    def compile(self) -> None:
        index = np.arange(2**self.qubits)
        for gate in self.gates:
            came_from = np.abs(gate.matrix).argmax(1)  # new[row] = old[came_from[row]]
            step = _replace(gate.wires, self.qubits, came_from)
            index = index[step]
        self.index = torch.as_tensor(index, device=self.like.device)

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        return state.index_select(1, self.index)


class Single(Stage):
    """Any other gate on k wires, applied alone: ``(2^k, 2^k)`` or ``(n, 2^k, 2^k)``."""

    def takes(self, gate: Gate) -> bool:
        return not self.gates

    def compile(self) -> None:
        (gate,) = self.gates
        if gate.kind == "rotation":
            self.scale = abs((gate.matrix @ gate.matrix)[0, 0]) ** 0.5
            self.axis = self.tensor(1j * gate.matrix / self.scale)
            self.identity = self.tensor(np.eye(len(gate.matrix)))
        elif gate.kind == "constant":
            self.matrix = self.tensor(gate.matrix)

    def __call__(
        self,
        state: Tensor,
        thetas: Tensor | None,
        matrices: list[Tensor],
        made: dict[object, Any],
    ) -> Tensor:
        (gate,) = self.gates
        if gate.kind == "rotation":
            angle = (thetas[:, gate.column] * self.scale)[:, None, None]
            matrix = angle.cos() * self.identity + angle.sin() * self.axis
        else:
            matrix = self.matrix if gate.kind == "constant" else matrices[gate.column]
        q, k = self.qubits, len(gate.wires)
        cube = state.reshape(-1, *[2] * q)
        last = list(range(q - k + 1, q + 1))
        cube = cube.movedim([w + 1 for w in gate.wires], last)
        rows = cube.reshape(len(cube), -1, 2**k)  # (n, 2^(q-k), 2^k)
        rows = _matmul(rows, matrix.transpose(-1, -2))
        cube = rows.reshape(-1, *[2] * q).movedim(last, [w + 1 for w in gate.wires])
        return cube.reshape(-1, 2**q)


def schedule(gates: Sequence[Gate], qubits: int, like: Tensor) -> list[Stage]:
    """Merge gates into stages, each gate into the earliest stage it can be moved to.

    Args:
        gates: in circuit order.
        qubits: q.
        like: a state, for dtype and device of the constants.

    Returns:
        Stages to be called one after the other.
    """
    stages: list[Stage] = []
    for gate in gates:
        home = None
        for stage in reversed(stages):
            if type(stage) is _kind(gate) and stage.takes(gate):
                home = stage
            if not stage.commutes(gate):
                break
        if home is None:
            home = _kind(gate)(qubits, like)
            stages.append(home)
        home.gates.append(gate)
    for stage in stages:
        stage.compile()
    return stages


def _kind(gate: Gate) -> type[Stage]:
    if gate.diagonal:
        return Phase
    if len(gate.wires) == 1:
        return Layer
    return Permutation if _permutes(gate) else Single


def _permutes(gate: Gate) -> bool:
    if gate.kind != "constant":
        return False
    ones = np.isclose(gate.matrix, 1)
    return bool(np.allclose(gate.matrix, ones) and (ones.sum(0) == 1).all())


def _local_index(wires: Sequence[int], qubits: int) -> np.ndarray:
    """For every basis state, the index of its bits on ``wires`` (wire 0 is the leftmost bit)."""
    basis = np.arange(2**qubits)
    local = np.zeros_like(basis)
    for wire in wires:
        local = 2 * local + (basis >> (qubits - 1 - wire)) % 2
    return local


def _replace(wires: Sequence[int], qubits: int, came_from: np.ndarray) -> np.ndarray:
    """Every basis state with its bits on ``wires``, read as b, replaced by came_from[b]."""
    basis = np.arange(2**qubits)
    bits = came_from[_local_index(wires, qubits)]
    for position, wire in enumerate(reversed(wires)):
        place = qubits - 1 - wire
        basis = basis & ~(1 << place) | ((bits >> position) % 2) << place
    return basis


def _pick(thetas: Tensor, columns: list[int]) -> Tensor:
    return thetas if columns == list(range(thetas.shape[1])) else thetas[:, columns]


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b, where one may be real and the other complex."""
    if a.dtype != b.dtype:
        dtype = torch.promote_types(a.dtype, b.dtype)
        a, b = a.to(dtype), b.to(dtype)
    return a @ b


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """Kronecker product of the last two axes; either may have a batch axis in front."""
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    return product.reshape(*product.shape[:-4], a.shape[-2] * b.shape[-2], -1)


def _apply(matrix: Tensor, state: Tensor, group: tuple[int, int], qubits: int) -> Tensor:
    """A matrix on the neighbouring qubits ``group``."""
    rows, columns = matrix.shape[-2:]
    right = 2 ** (qubits - group[1])
    if right == 1:
        cube = state.reshape(len(state), -1, columns)
        return _matmul(cube, matrix.transpose(-1, -2)).reshape(-1, 2**qubits)
    cube = state.reshape(len(state), -1, columns, right)  # (n, left, 2^g, right)
    if matrix.ndim == 3:
        matrix = matrix[:, None]
    return _matmul(matrix, cube).reshape(-1, 2**qubits)
