"""The same kernel as a quantum device would estimate it: circuit by circuit, with shots and noise.

It shares only the feature map with the batched statevector, so each checks the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np
import pennylane as qp
import torch
from torch import Tensor

from qrkd_lab.checks import whole
from qrkd_lab.kernels.circuits import one_at_a_time
from qrkd_lab.kernels.quantum import ProjectedKernel, QuantumKernel

__all__ = ["DeviceKernel"]


class DeviceKernel:
    r"""A quantum kernel evaluated on a PennyLane device, circuit by circuit, without gradient.

    64 samples on six qubits are 2,016 circuits: a quarter of a minute, and minutes with noise.

    A fidelity is the probability of finding :math:`|0\dots0\rangle` after :math:`U(x)` and then
    :math:`U(y)^\dagger`; a projected kernel measures X, Y and Z of each qubit, three circuits a
    sample. Without noise the diagonal of a fidelity matrix is 1 and is not run.

    Args:
        kernel: the exact kernel.
        device: name of a PennyLane device (``default.qubit``, ``lightning.qubit``,
            ``default.mixed``, a plug-in's) or a device that you made.
        shots: measurements a circuit; None: exact probabilities, where the device can.
        noise: probability of a depolarising error after each gate on each of its qubits (needs a
            mixed-state device, so ``default.mixed``), or a ``pennylane.NoiseModel``. Templates are
            taken apart; what acts on no qubit (``Barrier``, ``Identity``, ...) is no gate.
        seed: of the shots, where the device is given by name.

    Attributes:
        circuits: how many circuits have been executed so far.
    """

    def __init__(
        self,
        kernel: QuantumKernel,
        device: str | Any,  # noqa: ANN401
        shots: int | None,
        noise: float | Any | None,  # noqa: ANN401
        seed: int | None,
    ) -> None:
        self.kernel, self.noise = kernel, _noise_model(noise)
        self.shots = None if shots is None else whole("shots", shots, 1)
        self._gate_by_gate = self.noise is not None and self.noise is not noise
        seeded = {} if seed is None else {"seed": whole("seed", seed, 0)}
        if isinstance(device, str):
            device = qp.device(device, wires=kernel.qubits, **seeded)
        elif seeded:
            raise ValueError(
                f"seed: {device.name!r} has been made already; give the seed to qml.device(...), "
                "or its name to on(...)"
            )
        if self.noise is not None and "mixed" not in device.name:
            raise ValueError(
                f"noise needs a device with mixed states, got {device.name!r}; use "
                "device='default.mixed' or a noisy device of a plug-in without noise="
            )
        self.device = device
        self.circuits = 0

    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The estimated kernel matrix ``(n, n)`` or ``(n, m)``, without gradient.

        Without ``y`` a pair is one circuit, :math:`U(x_i)` first for i < j, and the matrix is
        symmetric. With ``y``, also one equal to ``x``, each entry has a circuit and shots of its
        own; noise need not treat the two orders of a pair alike.
        """
        self.kernel.check(x, "x")
        if y is not None:
            self.kernel.check(y, "y")
        x = x.detach().cpu()
        y = None if y is None else y.detach().cpu()

        with one_at_a_time(), torch.no_grad():
            if isinstance(self.kernel, ProjectedKernel):
                u = self._bloch(x)
                v = u if y is None else self._bloch(y)
                return self.kernel.compare(u, v)
            return self._fidelities(x, y)

    def _fidelities(self, x: Tensor, y: Tensor | None) -> Tensor:
        known = y is None and self.noise is None  # then U(x)^dagger U(x) always ends in |0...0>
        other = x if y is None else y
        first = [i + known if y is None else 0 for i in range(len(x))]
        pairs = [(i, j) for i in range(len(x)) for j in range(first[i], len(other))]
        scripts = [self._overlap(x[i], other[j]) for i, j in pairs]
        matrix = torch.eye(len(x), len(other), dtype=x.dtype)
        for (i, j), probabilities in zip(pairs, self._run(scripts), strict=True):
            matrix[i, j] = float(probabilities[0])
            if y is None:
                matrix[j, i] = matrix[i, j]
        return matrix

    def _bloch(self, x: Tensor) -> Tensor:
        """X, Y and Z of every qubit ``(n, 3q)``."""
        wires = range(self.kernel.qubits)
        scripts = [
            qp.tape.QuantumScript(self._gates(row), [qp.expval(axis(w)) for w in wires], self.shots)
            for row in x
            for axis in (qp.X, qp.Y, qp.Z)
        ]
        values = np.array([np.asarray(result, float) for result in self._run(scripts)])
        return torch.as_tensor(values.reshape(len(x), -1), dtype=x.dtype)

    def _overlap(self, a: Tensor, b: Tensor) -> qp.tape.QuantumScript:
        back = [qp.adjoint(gate) for gate in reversed(self._gates(b))]
        measured = [qp.probs(wires=range(self.kernel.qubits))]
        return qp.tape.QuantumScript(self._gates(a) + back, measured, self.shots)

    def _gates(self, angles: Tensor) -> list[qp.operation.Operator]:
        """The circuit for one sample, without state preparations (or templates, under noise)."""
        todo, gates = self.kernel.gates(angles)[::-1], []
        while todo:
            op = todo.pop()
            template = self._gate_by_gate and not op.has_matrix and op.has_decomposition
            if template or isinstance(op, qp.operation.StatePrepBase):
                todo.extend(reversed(op.decomposition()))
            else:
                gates.append(op)
        return gates

    def _run(self, scripts: list[qp.tape.QuantumScript]) -> Sequence[Any]:
        """What each script measures."""
        after: Callable[[Sequence[Any]], Sequence[Any]] = list
        if scripts and self.noise is not None:
            scripts, after = qp.add_noise(scripts, self.noise)
        self.circuits += len(scripts)
        return after(qp.execute(scripts, self.device, diff_method=None)) if scripts else []

    def __repr__(self) -> str:
        how = "exact probabilities" if self.shots is None else f"{self.shots} shots"
        noisy = "" if self.noise is None else ", noisy"
        return f"{self.kernel} on {self.device.name} ({how}{noisy}, {self.circuits} circuits run)"


def _noise_model(noise: float | Any | None) -> Any | None:  # noqa: ANN401
    """A number as a depolarising channel of that probability after every gate, on each qubit."""
    if noise is None or isinstance(noise, qp.NoiseModel):
        return noise
    if isinstance(noise, bool) or not isinstance(noise, Real) or not 0 <= noise <= 0.75:
        raise ValueError(
            f"noise: expected a probability from 0 to 0.75 or a pennylane.NoiseModel, got {noise!r}"
        )

    @qp.BooleanFn
    def any_gate(op: qp.operation.Operator) -> bool:
        while isinstance(op, qp.ops.Adjoint):
            op = op.base
        return op.has_matrix and not isinstance(op, (qp.Identity, qp.GlobalPhase))

    def channel(op: qp.operation.Operator, **_: object) -> None:
        for wire in op.wires:
            qp.DepolarizingChannel(float(noise), wires=wire)

    return qp.NoiseModel({any_gate: channel})
