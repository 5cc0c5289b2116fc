"""The batched simulator against PennyLane's default.qubit, and its parts against plain matrices."""

from __future__ import annotations

from functools import partial

import numpy as np
import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import statevector
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.kernels.statevector import (
    StateVector,
)


def reference(circuit, qubits: int, angles: torch.Tensor) -> torch.Tensor:
    """States of PennyLane's simulator, in double precision, of the same angles."""

    @qp.qnode(qp.device("default.qubit", wires=qubits), interface="torch", diff_method="backprop")
    def run(x: torch.Tensor):
        circuit(x, wires=list(range(qubits)))
        return qp.state()

    return torch.stack([run(row) for row in angles.double()])


def random(*shape: int, dtype: torch.dtype = torch.complex128, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


VARIANTS = [
    ("angle", {"layers": 3}),
    ("angle", {"layers": 3, "entangle": False}),
    ("zz", {}),
    ("zz", {"layers": 1, "entangle": False}),
    ("iqp", {"layers": 3}),
    ("reuploading", {}),
    ("reuploading", {"layers": 3, "entangle": False, "seed": 7}),
    ("amplitude", {}),
]


@pytest.mark.parametrize("qubits", [1, 2, 5])
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_feature_maps_agree_with_pennylane(name, options, qubits):
    circuit = partial(FEATURE_MAPS[name], **options)
    x = 0.3 * random(3, 2**qubits if name == "amplitude" else qubits, dtype=torch.float32)
    expected = reference(circuit, qubits, x)
    for fixed in (False, True):
        simulator = StateVector(circuit, qubits, fixed)
        assert (simulator(x.double()) - expected).abs().max() < 1e-10
        # In single precision zz's phases, up to 2 pi^2 each, are themselves rounded to 2e-6.
        single, tolerance = simulator(x), 1e-5 if name == "zz" else 1e-6
        assert single.dtype == torch.complex64 and (single - expected).abs().max() < tolerance
    with pytest.raises(TypeError, match="float32 or float64"):
        simulator(x.half())


ONE = [qp.RX, qp.RY, qp.RZ, qp.PhaseShift, qp.U1]
TWO = [qp.IsingXX, qp.IsingYY, qp.IsingZZ, qp.CRX, qp.CRY, qp.CRZ, qp.ControlledPhaseShift]
FIXED_ONE = [qp.Hadamard, qp.X, qp.Y, qp.Z, qp.S, qp.T, qp.SX]
FIXED_TWO = [qp.CNOT, qp.CZ, qp.SWAP, qp.ISWAP, qp.CY, qp.CH]


def random_circuit(qubits: int, seed: int):
    """A quantum function of 40 random gates; parameters are random expressions of the angles."""

    def circuit(x, wires):
        rng = np.random.default_rng(seed)
        for _ in range(40):
            a, b, c = rng.permutation(qubits)[:3] if qubits > 2 else (*rng.permutation(2), 0)
            i, j = rng.integers(0, x.shape[-1], 2)
            angle = [x[..., i], 2 * x[..., i] - 0.3, x[..., i] * x[..., j], torch.sin(x[..., j])][
                rng.integers(4)
            ]
            kind = rng.integers(8)
            if kind == 0:
                ONE[rng.integers(len(ONE))](angle, wires=wires[a])
            elif kind == 1:
                TWO[rng.integers(len(TWO))](angle, wires=[wires[a], wires[b]])
            elif kind == 2:
                FIXED_ONE[rng.integers(len(FIXED_ONE))](wires=wires[a])
            elif kind == 3:
                FIXED_TWO[rng.integers(len(FIXED_TWO))](wires=[wires[a], wires[b]])
            elif kind == 4:
                qp.Rot(angle, 0.4, x[..., j], wires=wires[a])
            elif kind == 5:
                qp.PauliRot(angle, "XY", wires=[wires[a], wires[b]])
            elif kind == 6 and qubits > 2:
                qp.Toffoli(wires=[wires[a], wires[b], wires[c]])
            else:
                qp.adjoint(qp.RX(angle, wires=wires[b]))

    return circuit


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("qubits", [2, 4])
def test_random_circuits_agree_with_pennylane(qubits, seed):
    circuit = random_circuit(qubits, seed)
    x = random(3, 4, dtype=torch.float32, seed=seed)
    simulator, expected = StateVector(circuit, qubits), reference(circuit, qubits, x)
    assert (simulator(x.double()) - expected).abs().max() < 1e-10
    assert (simulator(x) - expected).abs().max() < 5e-6  # forty gates, each rounded


@pytest.mark.parametrize(
    ("name", "qubits"),
    [("angle", 7), ("iqp", 7), ("random", 7), ("zz", 11), ("reuploading", 11), ("random", 11)],
)
def test_many_qubits_take_other_paths_to_the_same_states_and_gradients(name, qubits, monkeypatch):
    monkeypatch.setattr(statevector, "MOST", 2 * 2**qubits)  # three samples in two passes
    circuit = random_circuit(qubits, 0) if name == "random" else FEATURE_MAPS[name]
    x = (0.5 * random(3, qubits, dtype=torch.float64)).requires_grad_()
    found, expected = StateVector(circuit, qubits)(x), reference(circuit, qubits, x)
    weights = random(*found.shape, seed=1)
    pulls = [torch.autograd.grad((s * weights).real.sum(), x)[0] for s in (found, expected)]
    for mine, theirs in ((found, expected), pulls):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_gradients_of_the_feature_maps(name):
    simulator = StateVector(FEATURE_MAPS[name], 2, fixed=True)
    x = random(3, 4 if name == "amplitude" else 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: torch.view_as_real(simulator(a)), x)


def test_havliceks_circuit_of_cnots_is_the_zz_map():
    def published(x, wires):
        for _ in range(2):
            for i in wires:
                qp.Hadamard(i)
                qp.PhaseShift(2 * x[..., i], wires=i)
            for i in wires:
                for j in wires[i + 1 :]:
                    qp.CNOT([i, j])
                    qp.PhaseShift(2 * (np.pi - x[..., i]) * (np.pi - x[..., j]), wires=j)
                    qp.CNOT([i, j])

    x = random(4, 3, dtype=torch.float64)
    mine, theirs = StateVector(FEATURE_MAPS["zz"], 3)(x), reference(published, 3, x)
    overlaps = (mine.conj() * theirs).sum(1).abs()  # blind to a global phase
    torch.testing.assert_close(overlaps, torch.ones_like(overlaps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"pattern": []}])
def test_pennylanes_iqp_embedding_is_the_iqp_map(options):
    x = random(4, 3, dtype=torch.float64)
    mine = StateVector(partial(FEATURE_MAPS["iqp"], layers=3, entangle=not options), 3)(x)
    template = lambda a, wires: qp.IQPEmbedding(a, wires, n_repeats=3, **options)  # noqa: E731
    assert (mine - reference(template, 3, x)).abs().max() < 1e-12


@pytest.mark.parametrize("fixed", [False, True])
def test_a_plan_made_in_inference_mode_can_be_trained_through(fixed):
    simulator = StateVector(FEATURE_MAPS["zz"], 2, fixed)
    x = random(3, 2, dtype=torch.float64)
    with torch.inference_mode():
        simulator(x)
    leaf = x.clone().requires_grad_()
    simulator(leaf).real.sum().backward()
    assert leaf.grad.abs().max() > 0


def test_changing_a_state_does_not_change_the_simulator():
    simulator = StateVector(lambda x, wires: qp.Hadamard(wires[0]), 1, fixed=True)
    for n in (1, 3):
        states = simulator(torch.zeros(n, 1))
        assert states.shape == (n, 2)
        states *= 0
        assert simulator(torch.zeros(n, 1)).abs().min() > 0.7
