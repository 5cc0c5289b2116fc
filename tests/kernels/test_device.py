"""The device path: an independent route to the same kernel, with shots, noise and a bill."""

from __future__ import annotations

import math

import numpy as np
import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, ProjectedKernel

MAPS = ("angle", "zz", "iqp", "reuploading", "amplitude")


def sample(kernel, n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    d = kernel.features or kernel.qubits
    return torch.randn(n, d, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("device", ["default.qubit", "lightning.qubit", "default.mixed"])
@pytest.mark.parametrize("kind", [FidelityKernel, ProjectedKernel])
@pytest.mark.parametrize("name", MAPS)
def test_without_shots_a_device_gives_the_exact_kernel(name, kind, device):
    kernel = kind(name, qubits=2, bandwidth=0.7)
    x = sample(kernel)
    tolerance = 1e-6 if device == "lightning.qubit" else 1e-10
    on_device = kernel.on(device)
    assert (on_device(x) - kernel(x)).abs().max() < tolerance
    assert (on_device(x[:1], x) - kernel(x[:1], x)).abs().max() < tolerance


def test_shots_scatter_as_the_binomial_law_says():
    kernel = FidelityKernel("zz", qubits=2, bandwidth=0.5)
    x, shots = sample(kernel, 6), 400
    exact = kernel(x)
    estimate = kernel.on(shots=shots, seed=1)(x)
    error = (estimate - exact)[~torch.eye(6, dtype=torch.bool)]
    allowed = (exact * (1 - exact) / shots).sqrt()[~torch.eye(6, dtype=torch.bool)]
    assert error.abs().max() > 0
    assert (error.abs() < 4.5 * allowed + 2 / shots).all()
    again = kernel.on(shots=shots, seed=1)(x)
    assert torch.equal(estimate, again)
    assert not torch.equal(estimate, kernel.on(shots=shots, seed=2)(x))


def test_circuits_are_counted_as_pennylane_counts_them():
    kernel = FidelityKernel("angle", qubits=2)
    device = qp.device("default.qubit", wires=2)
    x = sample(kernel, 5)
    with qp.Tracker(device) as tracker:
        on_device = kernel.on(device)
        on_device(x)
        assert on_device.circuits == 5 * 4 // 2 == tracker.totals["simulations"]
        on_device(x[:2], x)
    assert on_device.circuits == 10 + 2 * 5 == tracker.totals["simulations"]


def test_a_projected_kernel_needs_three_circuits_a_sample():
    kernel = ProjectedKernel("angle", qubits=2)
    on_device = kernel.on()
    on_device(sample(kernel, 5))
    assert on_device.circuits == 15


def test_noise_pulls_the_diagonal_below_one():
    kernel = FidelityKernel("angle", qubits=1)
    x = sample(kernel, 3)
    noisy = kernel.on("default.mixed", noise=0.03)
    k = noisy(x)
    # One RY there, one back, each followed by a channel that keeps 1 - 4p/3 of the Bloch vector.
    kept = (1 - 4 * 0.03 / 3) ** 2
    expected = (1 + kept * (2 * kernel(x) - 1)) / 2
    torch.testing.assert_close(k, expected)
    assert noisy.circuits == 6  # the diagonal is no longer known, so it is run too


class Turns(qp.operation.Operation):
    """An operation of one's own, given by its gates alone."""

    @staticmethod
    def compute_decomposition(*angles, wires):
        return [qp.RY(angle, wire) for angle, wire in zip(angles, wires, strict=True)]


def circuit_with(extra=lambda wires: None, turns=None):
    """RY on each qubit, CNOT, RX; ``extra`` is called between all of them."""

    def feature_map(angles, wires):
        extra(wires)
        if turns is None:
            for i, wire in enumerate(wires):
                qp.RY(angles[..., i], wire)
        else:
            turns(angles, wires)
        extra(wires)
        qp.CNOT(wires)
        extra(wires)
        qp.RX(angles[..., 0], wires[1])
        extra(wires)

    return feature_map


def gate_by_gate(x, y, p):
    """The noisy fidelity from density matrices, written out: a channel after every gate."""

    def on(wire, matrix):
        pair = [np.eye(2), np.eye(2)]
        pair[wire] = matrix
        return np.kron(*pair)

    paulis = [np.array(m) for m in ([[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]])]

    def turn(axis, angle):
        return math.cos(angle / 2) * np.eye(2) - 1j * math.sin(angle / 2) * paulis[axis]

    def gates(a):
        cnot = np.eye(4)[[0, 1, 3, 2]]
        turns = [(on(i, turn(1, a[i])), (i,)) for i in (0, 1)]
        return [*turns, (cnot, (0, 1)), (on(1, turn(0, a[0])), (1,))]

    rho = np.diag([1.0, 0, 0, 0]).astype(complex)
    for gate, wires in [*gates(x), *((g.conj().T, w) for g, w in reversed(gates(y)))]:
        rho = gate @ rho @ gate.conj().T
        for wire in wires:
            errors = [on(wire, pauli) for pauli in paulis]
            rho = (1 - p) * rho + p / 3 * sum(e @ rho @ e for e in errors)
    return rho[0, 0].real


NO_GATES = {
    "none": lambda wires: None,
    "barrier": qp.Barrier,
    "snapshot": lambda wires: qp.Snapshot(),
    "wire cut": lambda wires: qp.WireCut(wires[0]),
    "identity": lambda wires: [qp.Identity(wires), qp.Identity(wires[1])],
    "global phase": lambda wires: [qp.GlobalPhase(0.3), qp.GlobalPhase(0.2, wires[0])],
    "adjoints": lambda wires: [qp.adjoint(qp.Barrier)(wires), qp.adjoint(qp.Identity)(wires[0])],
}
MAPS_WITH = {name: circuit_with(extra) for name, extra in NO_GATES.items()} | {
    "template": circuit_with(turns=lambda a, wires: qp.AngleEmbedding(a, wires, rotation="Y")),
    "adjoint template": circuit_with(
        turns=lambda a, wires: qp.adjoint(qp.AngleEmbedding)(-a, wires, rotation="Y")
    ),
    "own": circuit_with(turns=lambda a, wires: Turns(a[..., 0], a[..., 1], wires=wires)),
}


@pytest.mark.parametrize("name", MAPS_WITH)
def test_noise_strikes_every_gate_once_and_nothing_else(name):
    kernel = FidelityKernel(MAPS_WITH[name], qubits=2)
    x = sample(kernel, 3)
    expected = torch.tensor([[gate_by_gate(a, b, 0.1) for b in x.numpy()] for a in x.numpy()])
    noisy = kernel.on("default.mixed", noise=np.float32(0.1))
    torch.testing.assert_close(noisy(x[:2], x), expected[:2], atol=1e-7, rtol=0)
    torch.testing.assert_close(noisy(x), torch.triu(expected) + torch.triu(expected, 1).T)


def test_a_noise_model_of_pennylane_is_taken_as_it_is():
    flips = qp.NoiseModel({qp.noise.op_eq(qp.RY): lambda op, **_: qp.BitFlip(0.5, wires=op.wires)})
    kernel = FidelityKernel("angle", qubits=1)
    k = kernel.on("default.mixed", noise=flips)(sample(kernel, 2))
    assert k.max() < 1 - 1e-3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shots": 0}, "shots"),
        ({"shots": 10.0}, "shots"),
        ({"shots": True}, "shots"),
        ({"shots": "10"}, "shots"),
        ({"seed": "1"}, "seed"),
        ({"seed": 1, "device": qp.device("default.qubit", wires=1)}, "has been made already"),
        ({"noise": True, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": "0.1", "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": 0.9, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": math.nan, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": 0.1}, "default.mixed"),
    ],
)
def test_bad_requests_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        FidelityKernel("angle", qubits=1).on(**options)


def test_numbers_of_numpy_are_numbers():
    kernel = FidelityKernel("angle", qubits=1)
    x = sample(kernel, 3)
    ours, theirs = (
        kernel.on("default.mixed", shots=kind(50), noise=0.03125, seed=kind(3))(x)
        for kind in (np.int64, int)
    )
    assert torch.equal(ours, theirs)


def test_the_device_kernel_says_what_it_is():
    text = repr(FidelityKernel("angle", qubits=1).on(shots=100))
    assert "100 shots" in text and "default.qubit" in text
