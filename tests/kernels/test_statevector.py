"""The batched simulator against PennyLane's default.qubit, and its parts against plain matrices."""

from __future__ import annotations

from functools import partial, reduce

import numpy as np
import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import statevector
from qrkd_lab.kernels.circuits import Gate
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.kernels.statevector import (
    StateVector,
    kron,
    merged,
    on_neighbours,
    on_wires,
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
    ("angle", {}),
    ("angle", {"layers": 3}),
    ("angle", {"layers": 3, "entangle": False}),
    ("zz", {}),
    ("zz", {"layers": 1, "entangle": False}),
    ("iqp", {}),
    ("iqp", {"layers": 3, "entangle": False}),
    ("reuploading", {}),
    ("reuploading", {"layers": 3, "entangle": False, "seed": 7}),
    ("amplitude", {}),
]


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("qubits", [1, 2, 5])
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_feature_maps_agree_with_pennylane(name, options, qubits, dtype, fixed):
    circuit = partial(FEATURE_MAPS[name], **options)
    x = 0.3 * random(3, 2**qubits if name == "amplitude" else qubits, dtype=dtype)
    states = StateVector(circuit, qubits, fixed)(x)
    assert states.dtype == {torch.float32: torch.complex64, torch.float64: torch.complex128}[dtype]
    # In single precision zz's phases, up to 2 pi^2 each, are themselves rounded to 2e-6.
    tolerance = 1e-10 if dtype == torch.float64 else 1e-5 if name == "zz" else 1e-6
    assert (states - reference(circuit, qubits, x)).abs().max() < tolerance


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("qubits", [2, 4])
def test_random_circuits_agree_with_pennylane(qubits, seed, dtype):
    circuit = random_circuit(qubits, seed)
    x = random(3, 4, dtype=dtype, seed=seed)
    tolerance = {torch.float32: 5e-6, torch.float64: 1e-10}[dtype]  # forty gates, each rounded
    found = StateVector(circuit, qubits)(x)
    assert (found - reference(circuit, qubits, x)).abs().max() < tolerance


@pytest.mark.parametrize("qubits", [7, 11])
@pytest.mark.parametrize(
    "name", [*[name for name in FEATURE_MAPS if name != "amplitude"], "random"]
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


@pytest.mark.parametrize("qubits", [3, 8])
def test_a_layer_on_a_basis_state_and_on_some_wires(qubits):
    def circuit(x, wires):
        qp.Y(wires[1])  # i |01>
        qp.RX(x[..., 0], wires=wires[1])
        qp.T(wires=wires[1])
        qp.CNOT([wires[1], wires[-1]])
        qp.SX(wires=wires[0])
        qp.RY(x[..., 1], wires=wires[0])

    x = random(3, 2, dtype=torch.float64)
    assert (StateVector(circuit, qubits)(x) - reference(circuit, qubits, x)).abs().max() < 1e-12


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


def test_equal_phases_of_two_layers_are_computed_once():
    x = torch.zeros(4, 5)
    simulator = StateVector(FEATURE_MAPS["zz"], 5, fixed=True)
    simulator(x)
    ((numbers_of, _, steps),) = simulator._plans.values()
    assert numbers_of(x).thetas.shape == (4, 5 + 10)  # qubits and pairs, not layers times those
    assert len(steps) == 3  # phase, Hadamards, phase


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


def test_half_precision_is_refused():
    with pytest.raises(TypeError, match="float32 or float64"):
        StateVector(FEATURE_MAPS["angle"], 1)(torch.ones(2, 1, dtype=torch.float16))


# Merging


def gate(operation: type, *wires: int) -> Gate:
    return Gate("constant", wires, np.asarray(qp.matrix(operation(wires=wires)), complex))


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([(qp.CZ, 0, 1)], ["phase"]),
        ([(qp.X, 0)], ["layer"]),
        ([(qp.Toffoli, 0, 1, 2)], ["permutation"]),
        ([(qp.CH, 0, 1), (qp.CH, 0, 1)], ["single", "single"]),
        ([(qp.ISWAP, 0, 1)], ["single"]),  # moves basis states, but with a factor i
        ([(qp.Hadamard, 0), (qp.Hadamard, 1), (qp.CZ, 0, 1), (qp.T, 0)], ["layer", "phase"]),
        ([(qp.Hadamard, 0), (qp.CNOT, 1, 2), (qp.SX, 0)], ["layer", "permutation"]),
        ([(qp.Hadamard, 0), (qp.S, 0), (qp.Hadamard, 0)], ["layer", "phase", "layer"]),
    ],
)
def test_gates_that_commute_become_one_fast_step(gates, expected):
    assert [kind for kind, _ in merged([gate(*one) for one in gates])] == expected


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("wires", [range(4), range(2), range(1, 3), range(3, 4)])
def test_a_matrix_on_neighbours_is_the_whole_matrix(wires, batch):
    matrix, state = random(*batch, 2 ** len(wires), 2 ** len(wires)), random(3, 16, seed=1)
    before, after = (torch.eye(2**k, dtype=matrix.dtype) for k in (wires.start, 4 - wires.stop))
    expected = (reduce(kron, (before, matrix, after)) @ state[..., None])[..., 0]
    torch.testing.assert_close(on_neighbours(matrix, state, wires, 4), expected)
    torch.testing.assert_close(on_wires(matrix, state, wires, 4), expected)
