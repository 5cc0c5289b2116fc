"""The device path: an independent route to the same kernel, with shots, noise and a bill."""

from __future__ import annotations

import math

import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, ProjectedKernel

MAPS = ("angle", "zz", "iqp", "reuploading", "amplitude")


def sample(kernel, n: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, kernel.features, dtype=torch.float64, generator=generator)


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


def test_a_noise_model_of_pennylane_is_taken_as_it_is():
    flips = qp.NoiseModel({qp.noise.op_eq(qp.RY): lambda op, **_: qp.BitFlip(0.5, wires=op.wires)})
    kernel = FidelityKernel("angle", qubits=1)
    k = kernel.on("default.mixed", noise=flips)(sample(kernel, 2))
    assert k.max() < 1 - 1e-3


def test_more_shots_come_closer():
    kernel = FidelityKernel("iqp", qubits=2, bandwidth=0.5)
    x = sample(kernel, 5)
    rough, fine = (
        (kernel.on(shots=shots, seed=3)(x) - kernel(x)).norm().item() for shots in (20, 20_000)
    )
    assert fine < rough / 5


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shots": 0}, "shots"),
        ({"shots": 10.0}, "shots"),
        ({"noise": 0.9, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": math.nan, "device": "default.mixed"}, "0 to 0.75"),
        ({"noise": 0.1}, "default.mixed"),
    ],
)
def test_bad_requests_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        FidelityKernel("angle", qubits=1).on(**options)


def test_the_device_kernel_says_what_it_is():
    text = repr(FidelityKernel("angle", qubits=1).on(shots=100))
    assert "100 shots" in text and "default.qubit" in text
