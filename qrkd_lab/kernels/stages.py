"""The few batched operations that a circuit's gates are merged into before they are replayed.

A stage maps states ``(n, 2^q)`` to states, and is made of all the gates it could take up:
:mod:`~qrkd_lab.kernels.schedule` says which.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.kernels.basis import (
    Rotate,
    kron,
    local_index,
    matmul,
    on_neighbours,
    on_wires,
    replaced,
)
from qrkd_lab.kernels.circuit import Gate

__all__ = ["Layer", "Permutation", "Phase", "Single", "Stage"]

GROUP = 4  # one-qubit gates multiplied out together: 16 x 16 matrices
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
            entries = np.diagonal(gate.matrix)[local_index(gate.wires, self.qubits)]
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
            state = Rotate.apply(state, *made[self.key])
        return state if self.fixed is None else state * self.fixed


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
            axes = [1j * gate.matrix / (g or 1) for gate, g in zip(turning, scales, strict=True)]
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
                    matrix = own if matrix is self.identity else matmul(own, matrix)
            product = matrix if product is None else kron(product, matrix)
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
                state = on_neighbours(self.ready[group], state, group, self.qubits)
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
            state = on_neighbours(self._product(group, turned), state, group, self.qubits)
        return state


class Permutation(Stage):
    """Gates that permute basis states (CNOT, SWAP, Toffoli): one index into the state."""

    def takes(self, gate: Gate) -> bool:
        if gate.kind != "constant":
            return False
        ones = np.isclose(gate.matrix, 1)
        return bool(np.allclose(gate.matrix, ones) and (ones.sum(0) == 1).all())

    def compile(self) -> None:
        index = np.arange(2**self.qubits)
        for gate in self.gates:
            came_from = np.abs(gate.matrix).argmax(1)  # new[row] = old[came_from[row]]
            step = replaced(gate.wires, self.qubits, came_from)
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
            values, vectors = np.linalg.eigh(gate.matrix)
            self.values = self.tensor(values)
            self.vectors = self.tensor(vectors).to(self.like.dtype)
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
            phases = thetas[:, gate.column, None] * self.values  # (n, 2^k)
            turned = torch.complex(phases.cos(), phases.sin())
            matrix = (self.vectors * turned[:, None]) @ self.vectors.mH
        else:
            matrix = self.matrix if gate.kind == "constant" else matrices[gate.column]
        return on_wires(matrix, state, gate.wires, self.qubits)


def _pick(thetas: Tensor, columns: list[int]) -> Tensor:
    return thetas if columns == list(range(thetas.shape[1])) else thetas[:, columns]
