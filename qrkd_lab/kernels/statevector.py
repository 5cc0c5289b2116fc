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

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.kernels.circuit import Circuit, CircuitError, Gate, evaluate, read
from qrkd_lab.kernels.schedule import schedule
from qrkd_lab.kernels.stages import Stage

__all__ = ["StateVector"]

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class StateVector:
    """The states that a PennyLane quantum function prepares, for a whole batch of angles.

    Args:
        circuit: a PennyLane quantum function ``f(angles, wires)`` of gates that have a matrix or a
            decomposition. It is called in every call, with the angles of one sample, ``(d,)``.
        qubits: q, the number of wires.
        fixed: the function never changes, takes batches, and computes in torch: it is called once
            for each shape of angles, and replayed from then on.

    Example:
        >>> import pennylane as qp
        >>> bell = StateVector(lambda x, wires: (qp.RY(x[..., 0], wires=0), qp.CNOT([0, 1])), 2)
        >>> bell(torch.tensor([[torch.pi / 2]])).real
        tensor([[0.7071, 0.0000, 0.0000, 0.7071]])
    """

    def __init__(self, circuit: Callable[..., object], qubits: int, fixed: bool = False) -> None:
        self.circuit, self.qubits, self.fixed = circuit, qubits, fixed
        self._plans: dict[object, tuple[Circuit | None, Tensor, list[Stage]]] = {}
        self._checked: set[object] = set()  # shapes

    def __call__(self, angles: Tensor) -> Tensor:
        """States ``(n, 2^q)``, complex of the precision of ``angles`` ``(n, d)``, wire 0 first.

        Raises:
            CircuitError: see :func:`~qrkd_lab.kernels.circuit.evaluate`; or a sample's amplitudes
                are NaN or not of length 1.
            TypeError: the angles are neither float32 nor float64.
        """
        if angles.dtype not in COMPLEX:
            raise TypeError(f"angles: expected float32 or float64, got {angles.dtype}")
        if self.fixed:
            circuit, start, stages = self._plan(angles)
            return self._run(start, stages, *circuit.numbers(angles), len(angles))
        shape = (angles.shape, angles.dtype, angles.device)
        found = evaluate(self.circuit, self.qubits, angles, check=shape not in self._checked)
        self._checked.add(shape)
        key = (found.key, found.state is None, angles.dtype, angles.device)
        if key not in self._plans:
            if len(self._plans) >= 8:  # the gates' constants change from call to call
                self._plans.clear()
            self._plans[key] = self._made(None, found.gates, found.state is not None, angles)
        _, start, stages = self._plans[key]
        numbers = (found.thetas, found.matrices, found.state)
        return _normalised(self._run(start, stages, *numbers, len(angles)))

    def _run(
        self,
        start: Tensor,
        stages: list[Stage],
        thetas: Tensor | None,
        matrices: list[Tensor],
        prepared: Tensor | None,
        n: int,
    ) -> Tensor:
        state = start if prepared is None else prepared.to(start.dtype)
        matrices = [matrix.to(start.dtype) for matrix in matrices]
        made: dict[object, Any] = {}  # a phase that two stages share is computed once
        state = reduce(lambda s, stage: stage(s, thetas, matrices, made), stages, state)
        if state is start:  # no angle in it: a copy, since the start is kept
            return start.repeat(n, 1)
        return state if len(state) == n else state.repeat(n, 1)

    def _plan(self, angles: Tensor) -> tuple[Circuit, Tensor, list[Stage]]:
        """Of a fixed circuit."""
        key = (angles.shape, angles.dtype, angles.device)
        if key not in self._plans:
            if len(self._plans) >= 64:  # shapes vary in a batch loop by one or two, not by many
                self._plans.clear()
            with torch.inference_mode(False), torch.no_grad():
                circuit = read(self.circuit, self.qubits, angles)
            self._plans[key] = self._made(circuit, circuit.gates, circuit.prepares, angles)
        return self._plans[key]

    def _made(
        self, circuit: Circuit | None, gates: tuple[Gate, ...], prepares: bool, like: Tensor
    ) -> tuple[Circuit | None, Tensor, list[Stage]]:
        """The stages of these gates, and the state before the first one that moves."""
        with torch.inference_mode(False), torch.no_grad():
            start = torch.zeros(1, 2**self.qubits, dtype=COMPLEX[like.dtype], device=like.device)
            start[0, 0] = 1
            stages = schedule(gates, self.qubits, start)
            while stages and stages[0].constant and not prepares:
                start = stages.pop(0)(start, None, [], {})
        return circuit, start, stages


def _normalised(states: Tensor) -> Tensor:
    """The states, or an error that names a sample whose amplitudes are none."""
    lengths = states.detach().abs().square().sum(1)
    wrong = ~((lengths - 1).abs() < 1e-3)  # NaN too
    if wrong.any():
        i = wrong.nonzero()[0].item()
        length = lengths[i].item()
        raise CircuitError(
            f"the feature map makes no quantum state of sample {i}: "
            + (
                f"its amplitudes have the squared length {length:.4g} instead of 1; normalise "
                "them (normalize=True), and use unitary matrices only"
                if math.isfinite(length)
                else "an angle of a gate is NaN or infinite; keep the angles where the function is "
                "defined (arccos: -1 to 1, log: above 0)"
            )
        )
    return states
