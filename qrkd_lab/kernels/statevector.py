r"""All states of a batch at once: a PennyLane circuit replayed as a few torch operations.

The states are exact and differentiable. What makes it fast is that a gate is never applied alone:

- runs of diagonal gates become one phase :math:`e^{i \Theta E}`, with the angles
  :math:`\Theta` ``(n, r)`` times a constant table of eigenvalues E ``(r, 2^q)``;
- layers of one-qubit gates become Kronecker products over groups of neighbouring qubits, applied
  as matrix products;
- permutations of basis states (X, CNOT, SWAP, Toffoli) become one index;
- everything before the first angle is computed when the circuit is read.

PennyLane's devices are the reference that this simulator is tested against.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.kernels.circuit import Circuit, read
from qrkd_lab.kernels.schedule import schedule
from qrkd_lab.kernels.stages import Stage

__all__ = ["StateVector"]

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class StateVector:
    """The states that a PennyLane quantum function prepares, for a whole batch of angles.

    Args:
        circuit: a PennyLane quantum function ``f(angles, wires)`` of gates that have a matrix.
        qubits: q, the number of wires.

    Example:
        >>> import pennylane as qp
        >>> bell = StateVector(lambda x, wires: (qp.RY(x[..., 0], wires=0), qp.CNOT([0, 1])), 2)
        >>> bell(torch.tensor([[torch.pi / 2]])).real
        tensor([[0.7071, 0.0000, 0.0000, 0.7071]])
    """

    def __init__(self, circuit: Callable[..., object], qubits: int) -> None:
        self.circuit, self.qubits = circuit, qubits
        self._plans: dict[object, tuple[Circuit, Tensor, list[Stage]]] = {}

    def __call__(self, angles: Tensor) -> Tensor:
        """States ``(n, 2^q)``, complex of the precision of ``angles`` ``(n, d)``, wire 0 first.

        Raises:
            CircuitError: see :func:`~qrkd_lab.kernels.circuit.read`.
            TypeError: the angles are neither float32 nor float64.
        """
        circuit, start, stages = self._plan(angles)
        thetas, matrices, prepared = circuit.numbers(angles)
        state = start if prepared is None else prepared.to(start.dtype)
        matrices = [matrix.to(start.dtype) for matrix in matrices]
        made: dict[object, Any] = {}  # a phase that two stages share is computed once
        state = reduce(lambda s, stage: stage(s, thetas, matrices, made), stages, state)
        if state is start:  # no angle in it: a copy, since the start is kept
            return start.repeat(len(angles), 1)
        return state if len(state) == len(angles) else state.repeat(len(angles), 1)

    def _plan(self, angles: Tensor) -> tuple[Circuit, Tensor, list[Stage]]:
        if angles.dtype not in COMPLEX:
            raise TypeError(f"angles: expected float32 or float64, got {angles.dtype}")
        key = (angles.shape, angles.dtype, angles.device)
        if key not in self._plans:
            if len(self._plans) >= 64:  # shapes vary in a batch loop by one or two, not by many
                self._plans.clear()
            with torch.inference_mode(False), torch.no_grad():
                self._plans[key] = self._made(angles)
        return self._plans[key]

    def _made(self, angles: Tensor) -> tuple[Circuit, Tensor, list[Stage]]:
        circuit = read(self.circuit, self.qubits, angles)
        zero = torch.zeros(1, 2**self.qubits, dtype=COMPLEX[angles.dtype], device=angles.device)
        zero[0, 0] = 1
        stages = schedule(circuit.gates, self.qubits, zero)
        start = zero.clone()
        while stages and stages[0].constant and not circuit.prepares:
            start = stages.pop(0)(start, None, [], {})
        return circuit, start, stages
