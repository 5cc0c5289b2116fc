"""The batched simulator against PennyLane's default.qubit, on maps and random circuits."""

from __future__ import annotations

from functools import partial

import numpy as np
import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.kernels.statevector import CircuitError, StateVector

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-10}


def reference(circuit, qubits: int, angles: torch.Tensor) -> torch.Tensor:
    """States of PennyLane's simulator, in double precision, of the same angles."""

    @qp.qnode(qp.device("default.qubit", wires=qubits), interface="torch", diff_method="backprop")
    def run(x: torch.Tensor):
        circuit(x, wires=list(range(qubits)))
        return qp.state()

    return torch.stack([run(row) for row in angles.double()])


def up_to_phase(states: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest deviation of the density matrices, which is blind to a global phase."""
    mine = torch.einsum("ni,nj->nij", states, states.conj())
    theirs = torch.einsum("ni,nj->nij", expected, expected.conj())
    return (mine - theirs).abs().max().item()


def angles_for(n: int, d: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


VARIANTS = [
    (name, options)
    for name, options in [
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
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("qubits", [1, 2, 5])
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_feature_maps_agree_with_pennylane(name, options, qubits, dtype):
    circuit = partial(FEATURE_MAPS[name], **options)
    x = 0.3 * angles_for(3, 2**qubits if name == "amplitude" else qubits, dtype)
    states = StateVector(circuit, qubits, fixed=True)(x)
    assert states.dtype == {torch.float32: torch.complex64, torch.float64: torch.complex128}[dtype]
    # In single precision zz's phases, up to 2 pi^2 each, are themselves rounded to 2e-6.
    tolerance = 1e-5 if name == "zz" and dtype == torch.float32 else TOLERANCE[dtype]
    assert (states - reference(circuit, qubits, x)).abs().max() < tolerance


ONE = [qp.RX, qp.RY, qp.RZ, qp.PhaseShift, qp.U1]
TWO = [qp.IsingXX, qp.IsingYY, qp.IsingZZ, qp.CRX, qp.CRY, qp.CRZ, qp.ControlledPhaseShift]
FIXED_ONE = [qp.Hadamard, qp.X, qp.Y, qp.Z, qp.S, qp.T, qp.SX]
FIXED_TWO = [qp.CNOT, qp.CZ, qp.SWAP, qp.ISWAP, qp.CY]


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


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("qubits", [2, 4])
def test_random_circuits_agree_with_pennylane(qubits, seed, dtype, fixed):
    circuit = random_circuit(qubits, seed)
    x = angles_for(3, 4, dtype, seed)
    states = StateVector(circuit, qubits, fixed)(x)
    tolerance = {torch.float32: 5e-6, torch.float64: 1e-10}[dtype]  # forty gates, each rounded
    assert (states - reference(circuit, qubits, x)).abs().max() < tolerance


@pytest.mark.parametrize("name", FEATURE_MAPS)
def test_the_published_gates_and_the_fused_ones_have_one_gradient(name):
    d = 4 if name == "amplitude" else 2
    simulator = StateVector(FEATURE_MAPS[name], 2, fixed=True)
    x = angles_for(3, d, torch.float64).requires_grad_()
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

    x = angles_for(4, 3, torch.float64)
    mine = StateVector(FEATURE_MAPS["zz"], 3)(x)
    assert up_to_phase(mine, reference(published, 3, x)) < 1e-12


@pytest.mark.parametrize("options", [{}, {"pattern": []}])
def test_pennylanes_iqp_embedding_is_the_iqp_map(options):
    x = angles_for(4, 3, torch.float64)
    mine = StateVector(partial(FEATURE_MAPS["iqp"], layers=3, entangle=not options), 3)(x)

    def template(a, wires):
        qp.IQPEmbedding(a, wires=wires, n_repeats=3, **options)

    assert (mine - reference(template, 3, x)).abs().max() < 1e-12
    assert (mine - StateVector(template, 3)(x)).abs().max() < 1e-12


@pytest.mark.parametrize("fixed", [False, True])
def test_factors_of_angles_are_kept_also_zero_and_negative_ones(fixed):
    def circuit(x, wires):
        qp.RX(0 * x[..., 0], wires=0)
        qp.RY(-3 * (2 * x[..., 0]), wires=0)
        qp.RY(x[..., 0], wires=1)
        qp.IsingXX(0 * x[..., 1], wires=[0, 1])
        qp.IsingXX(-0.5 * x[..., 1], wires=[0, 1])

    x = angles_for(4, 2, torch.float64)
    assert (StateVector(circuit, 2, fixed)(x) - reference(circuit, 2, x)).abs().max() < 1e-12


def test_templates_and_state_preparation_are_taken_apart():
    def circuit(x, wires):
        qp.BasisState(np.array([1, 0, 1]), wires=wires)
        qp.AngleEmbedding(x, wires=wires, rotation="X")
        qp.StronglyEntanglingLayers(np.full((1, 3, 3), 0.3), wires=wires)
        qp.Barrier(wires=wires)
        qp.QFT(wires=wires)

    x = angles_for(2, 3, torch.float64)
    assert (StateVector(circuit, 3)(x) - reference(circuit, 3, x)).abs().max() < 1e-10


def test_amplitude_embedding_of_pennylane_works_as_a_feature_map():
    def circuit(x, wires):
        qp.AmplitudeEmbedding(x, wires=wires, normalize=True)
        qp.RY(x[..., 0], wires=wires[0])

    x = angles_for(3, 4, torch.float64)
    assert (StateVector(circuit, 2)(x) - reference(circuit, 2, x)).abs().max() < 1e-10


def test_a_circuit_without_angles_gives_the_same_state_for_all():
    simulator = StateVector(lambda x, wires: qp.Hadamard(wires[0]), 2, fixed=True)
    states = simulator(torch.zeros(3, 2))
    assert states.shape == (3, 4)
    torch.testing.assert_close(states[0], states[2])


def test_equal_phases_of_two_layers_are_computed_once():
    x = torch.zeros(4, 5)
    simulator = StateVector(FEATURE_MAPS["zz"], 5, fixed=True)
    circuit, _, stages = simulator._plan(x)
    thetas, _, _ = circuit.numbers(x)
    assert thetas.shape == (4, 5 + 10)  # qubits and pairs, not layers times those
    assert len(stages) == 3  # phase, Hadamards, phase


@pytest.mark.parametrize(
    ("circuit", "says"),
    [
        (lambda x, wires: qp.RX(x[:, 0], wires=5), "wire 5"),
        (lambda x, wires: qp.expval(qp.Z(0)), "must not measure"),
        (lambda x, wires: qp.RX(x[:, 0] if x[0, 0] > 0 else -x[:, 0], wires=0), "values"),
        (lambda x, wires: qp.RX(x[0, 0].item(), wires=0), "values"),
        (lambda x, wires: (qp.X(0), qp.BasisState(np.array([1]), wires=[0])), "must come first"),
        (lambda x, wires: qp.AmplitudeDamping(0.1, wires=0), "neither a matrix"),
        (lambda x, wires: qp.measure(0), "must not measure"),
        (lambda x, wires: qp.RY(np.sin(x.numpy()[..., 0]), wires=0), "values .* NumPy"),
        (lambda x, wires: qp.RY(x.tolist()[0], wires=0), "values"),
        (lambda x, wires: qp.RY(x[..., 0] - x[..., 0].mean(), wires=0), "depend on other samples"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(circuit, says):
    with pytest.raises(CircuitError, match=says):
        StateVector(circuit, 2)(torch.ones(2, 2))


@pytest.mark.parametrize("fixed", [False, True])
def test_expressions_of_different_constants_stay_apart(fixed):
    def circuit(x, wires):
        qp.RX(1 - x[..., 0], wires=0)
        qp.RX(2 - x[..., 1], wires=1)
        qp.RY(x[..., -1] ** 2, wires=0)
        qp.RY(x[..., -2] ** 3, wires=1)
        qp.RZ(torch.full((1,), 0.3, dtype=x.dtype), wires=0)
        qp.RY(torch.stack([x[..., 0], x[..., 1]]).sum(0), wires=1)

    x = angles_for(5, 2, torch.float64)
    expected = reference(circuit, 2, x).squeeze(1)  # the angle of shape (1,) is a batch there
    assert (StateVector(circuit, 2, fixed)(x) - expected).abs().max() < 1e-10


@pytest.mark.parametrize("fixed", [False, True])
def test_a_plan_made_in_inference_mode_can_be_trained_through(fixed):
    simulator = StateVector(FEATURE_MAPS["zz"], 2, fixed)
    x = angles_for(3, 2, torch.float64)
    with torch.inference_mode():
        simulator(x)
    leaf = x.clone().requires_grad_()
    simulator(leaf).real.sum().backward()
    assert leaf.grad.abs().max() > 0


def test_changing_a_state_does_not_change_the_simulator():
    simulator = StateVector(lambda x, wires: qp.Hadamard(wires[0]), 1, fixed=True)
    for n in (1, 3):
        states = simulator(torch.zeros(n, 1))
        states *= 0
        assert simulator(torch.zeros(n, 1)).abs().min() > 0.7


def test_half_precision_is_refused():
    with pytest.raises(TypeError, match="float32 or float64"):
        StateVector(FEATURE_MAPS["angle"], 1)(torch.ones(2, 1, dtype=torch.float16))
