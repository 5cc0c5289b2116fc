"""Properties that every kernel has, quantum or classical; closed forms; refusals."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re

import numpy as np
import pennylane as qp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import laplacian_kernel, polynomial_kernel, rbf_kernel

from qrkd_lab.kernels import (
    CosineKernel,
    FidelityKernel,
    LaplacianKernel,
    PolynomialKernel,
    ProjectedKernel,
    RBFKernel,
    StretchedRBFKernel,
)
from qrkd_lab.kernels.classical import squared_distances
from qrkd_lab.kernels.encoders import calibrated
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS

MAPS = tuple(FEATURE_MAPS)


def rotated(angles, wires):
    """A user's own feature map."""
    for i, wire in enumerate(wires):
        qp.RX(angles[..., i], wires=wire)
        qp.RY(angles[..., i] ** 2, wires=wire)
    qp.CNOT(wires=[wires[0], wires[-1]])


ALL = [
    *(FidelityKernel(name, qubits=3, bandwidth=0.7) for name in MAPS),
    *(FidelityKernel(name, qubits=3, entangle=False) for name in MAPS if name != "amplitude"),
    *(ProjectedKernel(name, qubits=3, bandwidth=0.7) for name in MAPS),
    FidelityKernel(rotated, qubits=3),
    RBFKernel(0.7),
    StretchedRBFKernel(((0.7, 0.0, 0.2), (0.0, 1.5, 0.0))),
    LaplacianKernel(0.7),
    PolynomialKernel(3, 0.7),
    CosineKernel(),
]


def sample(kernel, n: int = 9, dtype=torch.float64, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, kernel.features or 3, dtype=dtype, generator=generator)


def name(kernel):
    """The same in every process, whose functions lie at other addresses."""
    return re.sub(" at 0x[0-9a-f]+", "", str(kernel))


@pytest.mark.parametrize("kernel", ALL, ids=name)
def test_every_kernel_compares_each_two_samples_by_one_positive_function(kernel):
    x = sample(kernel)
    k = kernel(x)
    torch.testing.assert_close(k, k.T)
    torch.testing.assert_close(k.diagonal(), torch.ones(9, dtype=k.dtype))
    assert torch.linalg.eigvalsh(k).min() > -1e-12 and k.max() < 1 + 1e-12
    torch.testing.assert_close(kernel(x.flip(0)), k.flip(0, 1))
    torch.testing.assert_close(kernel(x[:4], x[4:]), k[:4, 4:])
    single = kernel(x.float() / 4)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), kernel(x / 4), atol=2e-5, rtol=0)
    if hasattr(kernel, "bandwidth") and not isinstance(kernel, CosineKernel):
        wider = dataclasses.replace(kernel, bandwidth=2 * kernel.bandwidth)
        torch.testing.assert_close(wider(x), kernel(2 * x))


@pytest.mark.parametrize("kernel", ALL, ids=name)
def test_gradients_are_right(kernel):
    x = sample(kernel, 4).requires_grad_()
    assert torch.autograd.gradcheck(kernel, x)


@pytest.mark.parametrize("kernel", ALL, ids=name)
def test_coincident_and_zero_rows_have_finite_gradients(kernel):
    x = sample(kernel, 5)
    x[1], x[2] = x[0], 0
    x.requires_grad_()
    weights = torch.arange(25.0, dtype=x.dtype).reshape(5, 5)
    (kernel(x) * weights).sum().backward()
    assert torch.isfinite(x.grad).all() and x.grad.abs().max() < 1e3


@pytest.mark.parametrize("kernel", ALL, ids=name)
def test_chunks_give_the_same_matrix_and_gradient(kernel):
    small = dataclasses.replace(kernel, chunk=2)
    x = sample(kernel, 7).requires_grad_()
    y = x.detach().clone().requires_grad_()
    whole, pieces = kernel(x), small(y)
    torch.testing.assert_close(pieces, whole)
    whole.square().sum().backward()
    pieces.square().sum().backward()
    torch.testing.assert_close(y.grad, x.grad)


def test_kernels_are_values_that_can_be_pickled_after_use():
    kernel = FidelityKernel("zz", 3)
    kernel(sample(kernel))
    copy = pickle.loads(pickle.dumps(kernel))
    assert copy == kernel == FidelityKernel("zz", 3) and len({copy, kernel, RBFKernel()}) == 2
    assert torch.equal(copy(sample(kernel)), kernel(sample(kernel)))
    assert "bandwidth=0.5" in repr(FidelityKernel("zz", 4, bandwidth=0.5))


@given(st.integers(1, 3), st.integers(1, 4), st.floats(0.1, 2.0))
@settings(max_examples=15, deadline=None)
def test_angle_without_entanglement_is_a_product_of_cosines(layers, qubits, bandwidth):
    kernel = FidelityKernel("angle", qubits, layers, bandwidth, entangle=False)
    x = sample(kernel, 5)
    halves = layers * bandwidth * (x[:, None] - x[None]) / 2
    torch.testing.assert_close(kernel(x), halves.cos().square().prod(-1))


def test_amplitude_is_the_squared_cosine():
    kernel = FidelityKernel("amplitude", qubits=3)
    x = sample(kernel)
    cosines = torch.nn.functional.cosine_similarity(x[:, None], x[None], dim=-1)
    torch.testing.assert_close(kernel(x), cosines.square())
    torch.testing.assert_close(CosineKernel()(x), cosines.square())


def test_projected_is_the_gaussian_of_reduced_states():
    kernel = ProjectedKernel("reuploading", qubits=3, gamma=0.8)
    x = sample(kernel, 4)
    states = kernel.states(x)
    rho = torch.einsum("ni,nj->nij", states, states.conj()).reshape(4, *[2] * 6)
    reduced = [
        torch.einsum("nabcdbc->nad", rho),
        torch.einsum("nabcaec->nbe", rho),
        torch.einsum("nabcabf->ncf", rho),
    ]
    exponent = sum((r[:, None] - r[None]).abs().square().sum((-1, -2)) for r in reduced)
    torch.testing.assert_close(kernel(x), torch.exp(-0.8 * exponent))


def test_classical_kernels_are_scikit_learns():
    x = sample(RBFKernel(), 4).numpy()
    polynomial = polynomial_kernel(x, degree=3, gamma=0.49, coef0=1)
    norms = np.sqrt(polynomial.diagonal())
    for kernel, expected in [
        (RBFKernel(0.7), rbf_kernel(x, gamma=0.49 / 2)),
        (LaplacianKernel(0.7), laplacian_kernel(x, gamma=0.7)),
        (PolynomialKernel(3, 0.7), polynomial / norms / norms[:, None]),
    ]:
        torch.testing.assert_close(kernel(torch.from_numpy(x)), torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FidelityKernel("zzz"), "choose one of angle, zz"),
        (lambda: FidelityKernel(qubits=17), "1 to 16"),
        (lambda: FidelityKernel(layers=0), "layers"),
        (lambda: FidelityKernel(bandwidth=math.nan), "bandwidth"),
        (lambda: FidelityKernel("amplitude", entangle=False), "no option 'entangle'"),
        (lambda: ProjectedKernel(gamma=-1.0), "gamma"),
        (lambda: RBFKernel(bandwidth=-1.0), "bandwidth"),
        (lambda: PolynomialKernel(degree=0), "degree"),
        (lambda: FidelityKernel(qubits=True), "1 to 16"),
        (lambda: RBFKernel(chunk=0)(torch.zeros(2, 2)), "chunk"),
        (lambda: RBFKernel()(torch.ones(3, 2), torch.ones(3, 2).double()), "one dtype and width"),
        (lambda: FidelityKernel("amplitude", 2)(torch.ones(5, 3)), "4 angles a sample, got 3"),
        (lambda: RBFKernel()(torch.full((2, 2), torch.nan)), "NaN"),
    ],
)
def test_bad_options_and_angles_are_refused(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def looser(angles, wires, entangle=True):
    """A user's map whose gates between qubits come last."""
    qp.RY(angles[..., 0], wires=wires[0])
    qp.RX(angles[..., 1], wires=wires[1])
    if entangle:
        qp.CZ(wires=wires[:2])


@pytest.mark.parametrize(
    ("kernel", "entangles"),
    [
        (FidelityKernel("zz"), True),
        (FidelityKernel("zz", qubits=1), False),
        (FidelityKernel("zz", layers=1, bandwidth=1e-3), True),
        (FidelityKernel("angle", layers=2), True),
        (ProjectedKernel("angle"), False),
        (FidelityKernel("reuploading", layers=1), False),
        (ProjectedKernel("reuploading", layers=1), True),
        (FidelityKernel("reuploading", layers=2), True),
        (FidelityKernel("amplitude", qubits=2), False),
        (FidelityKernel(looser, qubits=2), False),
        (ProjectedKernel(looser, qubits=2), True),
    ],
    ids=lambda case: name(case),
)
def test_a_kernel_knows_whether_entanglement_can_be_left_out(kernel, entangles):
    assert kernel.entangles is entangles


@pytest.mark.parametrize("map_name", MAPS)
def test_circuits_take_pennylanes_own_angles_and_have_their_gradients(map_name):
    kernel = FidelityKernel(map_name, qubits=2, bandwidth=0.7)
    rows = sample(kernel, 3)
    rows[1] = 0
    state = qp.QNode(lambda a: (kernel.circuit(a), qp.state())[1], qp.device("default.qubit"))
    for kind in (np.float32, qp.numpy.array, list, np.ndarray.tolist):
        for x in (rows, rows[0]):
            found = torch.as_tensor(np.array(state(kind(x.numpy()))))
            expected = kernel.states(x.reshape(-1, rows.shape[1])).reshape(found.shape)
            assert (found - expected).abs().max() < 1e-5
    cost = qp.QNode(
        lambda a: (kernel.circuit(a), qp.expval(qp.Z(0)))[1], qp.device("default.qubit", wires=2),
        diff_method="backprop",
    )  # fmt: skip
    x = qp.numpy.array(sample(kernel, 1)[0].numpy(), requires_grad=True)
    steps = 1e-5 * np.eye(len(x))
    numeric = [(cost(x + step) - cost(x - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(qp.grad(cost)(x), numeric, atol=1e-7)


@pytest.mark.parametrize(("scale", "shift"), [(1e-3, 0.0), (1e3, 1e4)])
def test_squared_distances_are_right_in_single_precision_at_any_scale(scale, shift):
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)) * scale + shift
    found = squared_distances(x, x)
    assert torch.equal(found.diagonal(), torch.zeros(64))
    direct = (x.double()[:, None] - x.double()).square().sum(-1)
    torch.testing.assert_close(found.double(), direct, rtol=2e-6, atol=0)
    assert torch.equal(RBFKernel()(x).diagonal(), torch.ones(64))
    assert torch.equal(RBFKernel(chunk=20)(x).diagonal(), torch.ones(64))


def test_a_stretched_gaussian_follows_what_it_is_fitted_to():
    stretch = ((0.5, 0.1, 0.0), (0.0, 1.5, 0.0), (0.0, 0.0, 0.2))
    x, own = sample(RBFKernel(), 40), StretchedRBFKernel(stretch)
    torch.testing.assert_close(own(x), RBFKernel()(x @ torch.tensor(stretch).double().T))
    torch.testing.assert_close(StretchedRBFKernel.fitted(own, x)(x), own(x), atol=1e-3, rtol=0)
    zz = calibrated(FidelityKernel("zz", qubits=3), x)
    misfit = [(kernel(x) - zz(x)).square().mean().item() for kernel in (
        StretchedRBFKernel.fitted(zz, x), *(RBFKernel(2.0**power) for power in range(-7, 3)),
    )]  # fmt: skip
    assert misfit[0] < 0.8 * min(misfit[1:])
    with pytest.raises(ValueError, match="rows of equal length"):
        StretchedRBFKernel(((1.0,), (1.0, 2.0)))
