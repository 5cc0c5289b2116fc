"""Own feature maps, as PennyLane users write them, against PennyLane's device; and threads."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, ProjectedKernel
from qrkd_lab.kernels.circuits import CircuitError, one_at_a_time
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.kernels.statevector import StateVector

WEIGHTS = np.array([0.3, -0.7, 1.1])
TENSOR = torch.tensor(WEIGHTS)


def batch(n: int = 4, d: int = 3, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.8 * torch.randn(n, d, dtype=torch.float64, generator=generator)


def expected(feature_map, qubits: int, x: torch.Tensor) -> torch.Tensor:
    """The states of PennyLane's device, sample by sample."""
    run = qp.QNode(
        lambda a: (feature_map(a, list(range(qubits))), qp.state())[1],
        qp.device("default.qubit", wires=qubits),
    )
    return torch.stack([torch.as_tensor(run(row)) for row in x.detach()])


def turned(gate):
    """A gate of three angles where every qubit can show what it does."""

    def feature_map(a, wires):
        qp.Hadamard(0)
        qp.RX(0.4, 1)
        qp.RY(a[..., 2], 2)
        gate(a[..., 0], a[..., 1], a[..., 2])
        qp.Hadamard(1)

    return feature_map


def unitary(a, b):
    hermitian = torch.stack([torch.stack([a, b], -1), torch.stack([b, -a], -1)], -2)
    return torch.linalg.matrix_exp(1j * hermitian)


def eight(a):
    return torch.cat([a, a * a, a[..., :2]], -1)


H2 = 0.3 * qp.X(0) + 0.4 * qp.Z(1) @ qp.X(0)
TWO = "IsingXY PSWAP SingleExcitation SingleExcitationMinus CPhaseShift01 FermionicSWAP".split()


GATES = {
    **{name: lambda a, b, c, name=name: getattr(qp, name)(a, [0, 1]) for name in TWO},
    "CRot": lambda a, b, c: qp.CRot(a, WEIGHTS[0], c, [0, 1]),
    "Rot of mixed numbers": lambda a, b, c: qp.Rot(a, TENSOR[0], qp.numpy.array(0.3), 0),
    "PauliRot": lambda a, b, c: qp.PauliRot(a, "XIY", [2, 1, 0]),
    "GlobalPhase": lambda a, b, c: qp.ctrl(qp.GlobalPhase(a), control=[0]),
    "QubitUnitary": lambda a, b, c: qp.QubitUnitary(unitary(a, b), 0),
    "ControlledQubitUnitary": lambda a, b, c: qp.ControlledQubitUnitary(unitary(a, b), [0, 1]),
    "DiagonalQubitUnitary": lambda a, b, c: qp.DiagonalQubitUnitary(
        torch.exp(1j * torch.stack([a, b], -1)), 0
    ),
    "SpecialUnitary": lambda a, b, c: qp.SpecialUnitary(torch.stack([a, b, c], -1), 0),
    "ctrl": lambda a, b, c: qp.ctrl(qp.RX(a, 0), control=[2, 1], control_values=[1, 0]),
    "pow": lambda a, b, c: qp.pow(qp.RX(a, 0), 2.5),
    "evolve": lambda a, b, c: qp.evolve(qp.X(0) @ qp.Z(1), a),
    "evolve of angles": lambda a, b, c: qp.evolve(a * qp.X(0) + b * qp.Z(1), 1.0),
    "TrotterProduct": lambda a, b, c: qp.TrotterProduct(H2, a),
    "Select": lambda a, b, c: qp.Select([qp.RX(a, 2), qp.RY(b, 2)], [0]),
}
TEMPLATES = {
    "class": qp.AngleEmbedding,
    "NumPy's scalars": lambda a, w: [qp.RY(WEIGHTS[i] * a[..., i], i) for i in w],
    "IQPEmbedding": lambda a, w: qp.IQPEmbedding(a, w, n_repeats=2, pattern=[[0, 2], [1, 2]]),
    "QAOAEmbedding": lambda a, w: qp.QAOAEmbedding(a, np.full((2, 6), 0.3), w),
    "StronglyEntanglingLayers": lambda a, w: qp.StronglyEntanglingLayers(
        torch.stack([a, 2 * a, a * a], -1)[None], w
    ),
    "padded": lambda a, w: qp.AmplitudeEmbedding(a, w, pad_with=0.5, normalize=True),
    "StatePrep": lambda a, w: qp.StatePrep(
        torch.nn.functional.normalize(eight(a), dim=-1), w, validate_norm=True
    ),
    "one by one": lambda a, w: [qp.RX(a[i], i) for i in range(len(a))],
    "in place": lambda a, w: qp.AngleEmbedding(a.mul_(2), w),
    "unit": lambda a, w: qp.IQPEmbedding(a.sort(-1).values / a.norm(dim=-1, keepdim=True), w),
    "prepared": lambda a, w: (
        qp.BasisState(np.array([1, 0, 1]), w),
        qp.AngleEmbedding(a, w),
        qp.StronglyEntanglingLayers(np.full((1, 3, 3), 0.3), w),
        qp.Barrier(w),
        qp.QFT(w),
    ),
    "factors": lambda a, w: (
        qp.RX(0 * a[..., 0], 0),
        qp.RY(-3 * (2 * a[..., 0]), 0),
        qp.IsingXX(-0.5 * a[..., 1], [0, 1]),
        qp.IsingXX(1 - a[..., -1] ** 2, [1, 2]),
    ),
    "a built-in map on some of the qubits": lambda a, w: (
        FEATURE_MAPS["zz"](a, w[:2]),
        FEATURE_MAPS["iqp"](a, w[1:], layers=1),
    ),
    "where": lambda a, w: qp.RX(torch.where(a[..., 0] > 0, a[..., 0], a[..., 1]), 0),
}
MAPS = {name: turned(gate) for name, gate in GATES.items()} | TEMPLATES


@pytest.mark.parametrize("name", MAPS)
def test_states_and_gradients_are_pennylanes(name):
    x = batch()
    simulator = StateVector(MAPS[name], 3)
    theirs = expected(MAPS[name], 3, x.clone())
    assert (simulator(x) - theirs).abs().max() < 1e-10
    assert (simulator(x.float()) - theirs).abs().max() < 1e-5
    leaf = x[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: torch.view_as_real(simulator(a)), leaf)


@pytest.mark.parametrize("kind", [FidelityKernel, ProjectedKernel])
@pytest.mark.parametrize("d", [1, 9])
def test_a_users_map_takes_any_number_of_angles(d, kind):
    def dense(a, wires):
        for i in range(d):
            (qp.RY, qp.RZ)[i % 2](a[..., i], wires[i // 2 % 3])
        qp.CNOT([0, 1])

    kernel = kind(dense, qubits=3)
    x = batch(5, d)
    torch.testing.assert_close(kernel(x), kernel.on()(x))
    assert "RY" in kernel.draw(features=d).alt
    with pytest.raises(CircuitError, match=f"samples of {d} angles"):
        kind(lambda a, w: qp.RX(a[..., d], 0), qubits=3)(x)


class Deep:
    depth = 1

    def __call__(self, a, wires):
        for _ in range(self.depth):
            qp.AngleEmbedding(a, wires)
            qp.CNOT([0, 1])


ARRAY, MATRIX, MOVED, DEEP = WEIGHTS.copy(), np.eye(2), TENSOR.clone(), Deep()
CHANGES = {
    "fixed gate": (
        lambda a, w: (qp.RY(ARRAY[0], 0), qp.CRX(a[..., 0], [0, 1]), qp.RZ(a[..., 1], 1)),
        lambda: ARRAY.__iadd__(0.7),
    ),
    "matrix": (
        lambda a, w: (qp.QubitUnitary(MATRIX, 0), qp.CRX(a[..., 0], [0, 1])),
        lambda: MATRIX.__setitem__(slice(None), [[0, 1], [1, 0]]),
    ),
    "tensor": (lambda a, w: qp.AngleEmbedding(MOVED * a, w), lambda: MOVED.mul_(2)),
    "attribute": (DEEP, lambda: setattr(DEEP, "depth", 3)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_numbers_of_a_users_map_are_those_of_the_call(name):
    feature_map, change = CHANGES[name]
    kernel, x = FidelityKernel(feature_map, qubits=3), batch()
    before = kernel(x)
    change()
    assert (kernel(x) - before).abs().max() > 1e-3
    torch.testing.assert_close(kernel(x), kernel.on()(x))


def test_gradients_reach_a_users_own_tensors():
    def value(weights):
        def feature_map(a, wires):
            qp.AngleEmbedding(weights * a, wires)
            qp.IsingXY(weights[0], [0, 1])
            qp.Rot(weights[1], a[..., 0], weights[2], 0)
            qp.RX(a[..., 1], 0)

        return FidelityKernel(feature_map, qubits=3)(batch())

    assert torch.autograd.gradcheck(value, TENSOR.clone().requires_grad_())


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize(
    "over_the_batch",
    [
        lambda a: a - a[..., :1].mean(),
        lambda a: a / a.norm(),
        lambda a: a.sort(0).values,
        lambda a: a * (1 + a.argmax(0)),
    ],
)
def test_what_depends_on_other_samples_is_refused(over_the_batch, n):
    kernel = FidelityKernel(lambda a, w: qp.IQPEmbedding(over_the_batch(a), w), qubits=3)
    with pytest.raises(CircuitError, match="depend on other samples"):
        kernel(batch(n))


def test_a_map_may_be_defined_on_a_part_of_the_line():
    kernel = FidelityKernel(lambda a, w: [qp.RX(2 * torch.arccos(a[..., i]), i) for i in w], 2)
    x = 0.9 * torch.tensor([[1.0, 1.02], [1.04, 1.05], [1.01, 1.09]], dtype=torch.float64)
    torch.testing.assert_close(kernel(x), kernel.on()(x))
    x[1, 0] = 1.3
    with pytest.raises(CircuitError, match="sample 1: .* NaN"):
        kernel(x)


DEVICE = qp.device("default.qubit", wires=3)


def gates(a, wires):
    qp.AngleEmbedding(a, wires)
    qp.CNOT([0, 1])


QNODES = {
    "of angles and wires": qp.QNode(lambda a, w: (gates(a, w), qp.expval(qp.Z(0)))[1], DEVICE),
    "of angles": qp.QNode(lambda a: (gates(a, range(3)), qp.state())[1], DEVICE),
    "two measurements": qp.QNode(
        lambda a, wires=(0, 1, 2): (gates(a, wires), [qp.expval(qp.Z(i)) for i in wires])[1], DEVICE
    ),
    "a function of angles": lambda a: gates(a, range(3)),
    "a function with wires by name": lambda a, *, wires: gates(a, wires),
}


@pytest.mark.parametrize("name", QNODES)
def test_a_qnode_is_its_gates(name):
    kernel, plain = FidelityKernel(QNODES[name], qubits=3), FidelityKernel(gates, qubits=3)
    x = batch()
    torch.testing.assert_close(kernel(x), plain(x))
    torch.testing.assert_close(kernel.on()(x), plain(x))
    state = qp.QNode(lambda a: (kernel.circuit(a), qp.state())[1], DEVICE)
    torch.testing.assert_close(state(x[0]), plain.states(x[:1])[0])
    assert kernel.draw().alt


@pytest.mark.parametrize(
    ("feature_map", "says"),
    [
        (lambda a, w: None, "queues no gates"),
        (lambda a, w: [qp.Hadamard(i) for i in w], "no gate of the feature map depends on"),
        (lambda a, w: qp.BasisEmbedding((a > 0).long(), w), "BasisEmbedding takes bits.*RX"),
        (lambda a, w: qp.MottonenStatePreparation(eight(a), w), "^MottonenStatePreparation needs"),
        (lambda a, w: qp.AngleEmbedding(a * WEIGHTS, w), "values.*torch.as_tensor"),
        (lambda a, w: qp.RX(a[..., 0].detach().numpy(), 0), "values.*NumPy"),
        (lambda a, w: qp.RX(float(a[0]), 0), r"values.*float\(\)"),
        (lambda a, w: qp.RX(a[0], 0) if a[0] > 0 else None, "values.*`if`"),
        (lambda a, w: qp.AngleEmbedding(a + torch.rand(3), w), "draws random numbers"),
        (lambda a, w: qp.AmplitudeEmbedding(eight(a), w), "squared length .* normalise"),
        (lambda a, w: qp.RX(a, 0), "3 parameters where it takes one"),
        (lambda a, w: (qp.RX(a[..., 0], 0), qp.measure(0)), "must not measure"),
        (lambda a, w: qp.AmplitudeDamping(a[..., 0], 0), "AmplitudeDamping has neither"),
        (lambda a, w: qp.RX(a[..., 0], wires=5), "wire 5"),
        (lambda a, w: FEATURE_MAPS["zz"](a[..., :2], w), "fails on samples of 3 angles"),
        (lambda a, w: (qp.X(0), qp.BasisState(np.array([1]), [0])), "must come first"),
        (qp.transforms.merge_rotations(QNODES["of angles"]), "has transforms"),
    ],
)
def test_what_has_no_right_value_is_refused_in_words(feature_map, says):
    for x in (batch(), batch().requires_grad_()):
        with pytest.raises(ValueError, match=says):
            FidelityKernel(feature_map, qubits=3)(x)


@pytest.fixture
def hurried():
    """Threads take turns a hundred times as often."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


def test_threads_that_read_draw_and_run_circuits_do_not_stop_each_other(hurried):
    x = batch(2)

    def read():
        for layers in range(11, 16):
            matrix = FidelityKernel("iqp", 3, layers=layers)(x)
            torch.testing.assert_close(matrix.diagonal(), torch.ones(2, dtype=x.dtype))

    def draw():
        for _ in range(3):
            assert "3 Hadamard" in FidelityKernel("zz", 3, layers=1).draw().alt

    def run():
        kernel = FidelityKernel("angle", 3)
        for _ in range(5):
            torch.testing.assert_close(kernel.on()(x), kernel(x))

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for work in (read, draw, run)]:
            done.result(300)


def test_gates_made_inside_belong_to_no_recording_outside():
    with qp.queuing.AnnotatedQueue() as outside:
        qp.Hadamard(0)
        with one_at_a_time(), one_at_a_time():
            qp.PauliX(0)
            FidelityKernel("iqp", 3, layers=31)(batch())
        qp.Hadamard(1)
    gates = qp.tape.QuantumScript.from_queue(outside).operations
    assert [gate.name for gate in gates] == ["Hadamard", "Hadamard"]
