"""The device path: an independent route to the same kernel, with shots, noise and a bill."""

from __future__ import annotations

import math

import numpy as np
import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, ProjectedKernel
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS

MAPS, KINDS = tuple(FEATURE_MAPS), (FidelityKernel, ProjectedKernel)


def sample(kernel, n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    d = kernel.features or kernel.qubits
    return torch.randn(n, d, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize(
    ("name", "kind", "device"),
    [
        *((name, kind, "default.qubit") for name in MAPS for kind in KINDS),
        *(
            ("zz", kind, device)
            for kind in KINDS
            for device in ("lightning.qubit", "default.mixed")
        ),
    ],
)
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


@pytest.mark.parametrize(
    ("kind", "within", "across"), [(FidelityKernel, 5 * 4 // 2, 2 * 5), (ProjectedKernel, 15, 21)]
)
def test_circuits_are_counted_as_pennylane_counts_them(kind, within, across):
    kernel, device = kind("angle", qubits=2), qp.device("default.qubit", wires=2)
    x, on_device = sample(kernel, 5), kernel.on(device)
    with qp.Tracker(device) as tracker:
        on_device(x)
        assert on_device.circuits == within == tracker.totals["simulations"]
        on_device(x[:2], x)
    assert on_device.circuits == within + across == tracker.totals["simulations"]


class Turns(qp.operation.Operation):
    """An operation of one's own, given by its gates alone."""

    @staticmethod
    def compute_decomposition(*angles, wires):
        return [qp.RY(angle, wire) for angle, wire in zip(angles, wires, strict=True)]


def rotations(angles, wires):
    for i, wire in enumerate(wires):
        qp.RY(angles[..., i], wire)


def circuit_with(extra=lambda wires: None, turns=rotations):
    """RY on each qubit, CNOT, RX; ``extra`` is called between all of them."""

    def feature_map(angles, wires):
        extra(wires)
        turns(angles, wires)
        extra(wires)
        qp.CNOT(wires)
        extra(wires)
        qp.RX(angles[..., 0], wires[1])
        extra(wires)

    return feature_map


def gate_by_gate(x, y, p):
    """The noisy fidelity with each channel written out by hand."""

    def there(a):
        return [qp.RY(a[0], 0), qp.RY(a[1], 1), qp.CNOT([0, 1]), qp.RX(a[0], 1)]

    noisy = []
    for gate in [*there(x), *map(qp.adjoint, reversed(there(y)))]:
        noisy += [gate, *(qp.DepolarizingChannel(p, wire) for wire in gate.wires)]
    script = qp.tape.QuantumScript(noisy, [qp.probs(wires=[0, 1])])
    return float(qp.execute([script], qp.device("default.mixed", wires=2))[0][0])


def no_gates(wires):
    """What a device runs as nothing: noise must not strike it."""
    qp.Barrier(wires), qp.Snapshot(), qp.WireCut(wires[0])
    qp.Identity(wires), qp.GlobalPhase(0.3), qp.GlobalPhase(0.2, wires[0])
    qp.adjoint(qp.Barrier)(wires), qp.adjoint(qp.Identity)(wires[0])


MAPS_WITH = {
    "gates": circuit_with(),
    "what is no gate": circuit_with(no_gates),
    "adjoint template": circuit_with(
        turns=lambda a, wires: qp.adjoint(qp.AngleEmbedding)(-a, wires, rotation="Y")
    ),
    "own": circuit_with(turns=lambda a, wires: Turns(a[..., 0], a[..., 1], wires=wires)),
}


@pytest.mark.parametrize("name", MAPS_WITH)
def test_noise_strikes_every_gate_once_and_nothing_else(name):
    kernel = FidelityKernel(MAPS_WITH[name], qubits=2)
    x = sample(kernel, 3)
    expected = [[gate_by_gate(a, b, 0.1) for b in x.numpy()] for a in x.numpy()]
    expected = torch.tensor(expected, dtype=x.dtype)
    noisy = kernel.on("default.mixed", noise=np.float32(0.1))
    torch.testing.assert_close(noisy(x[:2], x), expected[:2], atol=1e-7, rtol=0)
    torch.testing.assert_close(noisy(x), torch.triu(expected) + torch.triu(expected, 1).T)
    assert noisy.circuits == 2 * 3 + 6 and (noisy(x).diagonal() < 1).all()  # is run too


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shots": 0}, "shots"),
        ({"shots": True}, "shots"),
        ({"seed": "1"}, "seed"),
        ({"seed": 1, "device": qp.device("default.qubit", wires=1)}, "has been made already"),
        ({"noise": True, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": 0.9, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": math.nan, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": 0.1}, "default.mixed"),
    ],
)
def test_bad_requests_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        FidelityKernel("angle", qubits=1).on(**options)
