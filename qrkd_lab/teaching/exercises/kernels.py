"""Exercises on states, kernels and shots."""

from __future__ import annotations

import math

import torch
from pennylane import QNode
from pennylane.operation import Operator
from pennylane.queuing import AnnotatedQueue
from torch import Tensor

from qrkd_lab.kernels.analysis import (
    NothingToAlign,
    centred,
    centred_alignment,
    class_blocks,
    effective_rank,
    geometric_difference,
)
from qrkd_lab.kernels.quantum import FidelityKernel
from qrkd_lab.losses import relation_loss
from qrkd_lab.teaching.exercises.checker import (
    Answer,
    Case,
    Function,
    answered,
    coincident,
    given,
    mark,
    need,
    normal,
    rbf,
    refuse,
)

TOLERANCE = 1e-4


def check_fidelity_kernel(f: Function | None) -> Answer:
    """Check ``f(states)``: complex (n, 2**q) -> real (n, n), |<i|j>|^2."""
    mistakes = {
        "these are the overlaps, complex: take their absolute square.": lambda u: u @ u.mH,
        "the amplitude is not squared: |<i|j>|^2.": lambda u: (u @ u.mH).abs(),
        "the real part alone, or no .abs() before the square: |z|^2 is z.abs() ** 2.":
            lambda u: (u @ u.mH).real ** 2,
        "a conjugate is missing: <i|j> conjugates one side (states.conj() or .mH).":
            lambda u: (u @ u.T).abs() ** 2,
    }  # fmt: skip

    def states(n: int, q: int) -> Tensor:
        raw = torch.complex(normal(n, 2**q), normal(n, 2**q, seed=1))
        return raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True)

    right = "fidelities, real, symmetric, with ones on the diagonal."
    # not smooth: whoever normalises the states once more is right, with another gradient
    cases = [
        Case(f"with {n} states of {q} qubits", (states(n, q),), smooth=False)
        for n, q in ((5, 2), (2, 3))
    ]
    return mark(f, lambda u: (u @ u.mH).abs() ** 2, cases, mistakes, right, gradient=True)


def check_angle_states(f: Function | None) -> Answer:
    """Check ``f(x)``: angles (n, q) -> states (n, 2**q) of RY(x_i) on each qubit, wire 0 first."""

    def product(x: Tensor) -> Tensor:
        pairs = torch.stack([(x / 2).cos(), (x / 2).sin()], -1)  # (n, q, 2)
        found = torch.ones(len(x), 1, dtype=x.dtype)
        for qubit in pairs.unbind(1):
            found = (found[:, :, None] * qubit[:, None, :]).flatten(1)  # (n, 2^k)
        return found

    mistakes = {
        "RY(x) turns by half its angle: cos(x/2) and sin(x/2).": lambda x: product(2 * x),
        "the qubits are in reverse order: wire 0 is the leftmost factor.":
            lambda x: product(x.flip(1)),
        "these are probabilities: a state holds amplitudes, their signed roots.":
            lambda x: product(x) ** 2,
    }  # fmt: skip
    cases = [Case(f"with {n} rows of {q} angles", (normal(n, q),)) for n, q in ((4, 3), (2, 1))]
    cases += [Case("with a row of zeros and coincident rows", (coincident(5, 2),))]
    right = "the states of the kit's angle map, one factor per qubit."
    return mark(f, product, cases, mistakes, right, gradient=True)


def check_bandwidth_rule(f: Function | None) -> Answer:
    """Check ``f(matrices, bandwidths)``: (m, n, n), (m,) -> the bandwidth of largest spread."""

    def spread(k: Tensor) -> Tensor:
        return k[:, ~torch.eye(k.shape[1], dtype=torch.bool)].std(1)

    mistakes = {
        "this is the place in the list: give the bandwidth there.": lambda k, b: spread(k).argmax(),
        "the diagonal is counted: it is 1 for every bandwidth, leave it out.":
            lambda k, b: b[k.flatten(1).std(1).argmax()],
        "zeros in the place of the diagonal count, too: take the other entries by a mask.":
            lambda k, b: b[(k - k * torch.eye(k.shape[1])).flatten(1).std(1).argmax()],
        "this is the largest spread: give the bandwidth where it is.": lambda k, b: spread(k).max(),
    }  # fmt: skip
    bandwidths = 2.0 ** torch.arange(-5, 4, dtype=torch.float64)
    cases = []
    for n, seed in ((4, 4), (6, 1), (12, 2)):  # the largest range is elsewhere in the first
        d2 = torch.cdist(x := normal(n, 2, seed=seed), x) ** 2
        kernels = torch.exp(-d2 * bandwidths[:, None, None] ** 2)
        cases.append(Case(f"with {n} samples", (kernels, bandwidths)))
    right = "the bandwidth at which kernel values of different samples spread most."
    return mark(f, lambda k, b: b[spread(k).argmax()], cases, mistakes, right)


def check_shots_needed(f: Function | None) -> Answer:
    """Check ``f(value, error)`` -> shots for a kernel value to have this standard error."""
    mistakes = {
        "rounded down: with this many shots the error is a little too large.":
            lambda k, e: math.floor(k * (1 - k) / e**2),
        "a share k of the shots has the variance k(1 - k), not 1.": lambda k, e: math.ceil(e**-2),
        "the error falls with the root of the shots: square it.":
            lambda k, e: math.ceil(k * (1 - k) / e),
        "not a whole number: round up.": lambda k, e: k * (1 - k) / e**2,
    }  # fmt: skip
    pairs = ((0.3, 0.011), (0.9, 0.017), (0.02, 0.013))
    cases = [Case(f"for the value {k} and the error {e}", (k, e)) for k, e in pairs]
    right = "the variance of a share, over the squared error, rounded up."
    return mark(f, lambda k, e: math.ceil(k * (1 - k) / e**2), cases, mistakes, right)


def check_other_basis(f: Function | None) -> Answer:
    """Check ``f(angles)``: two angles -> probabilities (4,) of one iqp layer, then H on each qubit.

    Two layers of iqp without further Hadamards have the same probabilities, and count as right.
    """
    H = torch.tensor([[1, 1], [1, -1]], dtype=torch.complex128) / 2**0.5

    def layers(x: Tensor, count: int) -> Tensor:
        return FidelityKernel("iqp", 2, layers=count).states(x[None])[0]

    def turned(x: Tensor) -> Tensor:
        return torch.kron(H, H) @ layers(x, 1)

    mistakes = {
        "these are amplitudes: a probability is the absolute square.": turned,
        "the absolute values are not squared.": lambda x: turned(x).abs(),
        "nothing changes with the angles: is the Hadamard applied before the square?":
            lambda x: torch.full((4,), 0.25),
        "the Hadamards stand before the layer, and undo its own: apply them after it.":
            lambda x: torch.eye(4)[0],
        "the Hadamard acts on one qubit alone: torch.kron(H, H) acts on both.":
            lambda x: (torch.kron(H, torch.eye(2)) @ layers(x, 1)).abs().square(),
        "these are two layers, and Hadamards after them: take layers=1.":
            lambda x: (torch.kron(H, H) @ layers(x, 2)).abs().square(),
    }  # fmt: skip
    rows = ((0.5, 0.7), (1.5, 0.7), (-0.9, 2.0))
    cases = [Case(f"at {row}", (torch.tensor(row, dtype=torch.float64),)) for row in rows]
    right = "another basis shows what the first one hid."
    return mark(f, lambda x: turned(x).abs().square(), cases, mistakes, right)


def check_shift_map(f: Function | None) -> Answer:
    """Check a feature map ``f(angles, wires)``, whose fidelity depends on ``x - y`` alone."""
    x, y, shift = normal(6, 2), normal(6, 2, seed=1), normal(2, seed=2)

    def judge(f: Function) -> str:
        need(not isinstance(f, QNode), "a feature map is a plain function: leave out @qp.qnode.")
        with AnnotatedQueue() as recorded:
            f(x, range(2))
        if not recorded.queue:
            refuse("your map has no gate so far.", "Not answered yet")
        need(
            all(isinstance(gate, Operator) for gate in recorded.queue),
            "a feature map only calls gates: leave out qp.state(), qp.probs() and the like.",
        )
        need(
            all(gate.batch_size in (None, len(x)) for gate in recorded.queue),
            "that is the i-th sample: the i-th angle of each sample is angles[..., i].",
        )
        kernel = FidelityKernel(f, qubits=2)

        def change(a: Tensor, b: Tensor) -> float:
            return (kernel(a, b) - kernel(x, y)).abs().max().item()

        for i, axis in enumerate(torch.eye(2, dtype=x.dtype)):
            need(
                change(x + 1.3 * axis, y) > TOLERANCE,
                f"the map does not see angle {i}: both have to matter (RZ on |0> turns a phase "
                "only).",
            )
        need(
            change(x + shift, y + shift) < TOLERANCE,
            "a shift of both samples by the same amount changed their fidelity.",
        )
        return "only differences matter to this map."

    return answered(f, judge)


def check_angle_variance(f: Function | None) -> Answer:
    """Check ``f(q)`` -> variance of the angle map's kernel over independent uniform angles."""
    mistakes = {
        "this is the second moment: subtract the square of the mean.": lambda q: (3 / 8) ** q,
        "the mean is subtracted, not its square.": lambda q: (3 / 8) ** q - 0.5**q,
        "the variance of one qubit to the power q: variances of factors do not multiply; second "
        "moments do.": lambda q: (1 / 8) ** q,
        "this is the standard deviation: the variance has no root.":
            lambda q: ((3 / 8) ** q - 0.25**q) ** 0.5,
    }  # fmt: skip
    cases = [Case(f"with {q} qubits", (q,)) for q in (2, 1, 3, 5)]
    right = "second moment minus squared mean, each a product over qubits."
    return mark(f, lambda q: (3 / 8) ** q - 0.25**q, cases, mistakes, right)


def check_exponential_base(f: Function | None) -> Answer:
    """Check ``f(qubits, variances)``: (m,), (m,) -> base of the exponential, by least squares."""

    def slope(x: Tensor, y: Tensor) -> Tensor:
        x, y = x - x.mean(), y - y.mean()
        return (x * y).sum() / (x * x).sum()

    mistakes = {
        "this is the exponential of the intercept: np.polyfit gives the slope first.":
            lambda q, v: (v.log().mean() - slope(q, v.log()) * q.mean()).exp(),
        "the exponential has another base than the logarithm.":
            lambda q, v: slope(q, v.log10()).exp(),
        "only the first and the last variance count here: fit a line to all.":
            lambda q, v: (v[-1] / v[0]) ** (1 / (q[-1] - q[0])),
        "this is the slope, the logarithm of the base: take its exponential.":
            lambda q, v: slope(q, v.log()),
        "the fit is of the variances themselves: a line fits their logarithms.":
            lambda q, v: slope(q, v).exp(),
        "the step is taken as one qubit: divide by the qubits' own distances.":
            lambda q, v: slope(torch.arange(len(q), dtype=q.dtype), v.log()).exp(),
    }  # fmt: skip
    cases = []
    rows = (((2, 4, 6, 8), 0.4), ((1, 2, 5), 0.8), ((3, 6, 9, 10), 0.1))
    for seed, (qubits, base) in enumerate(rows):
        q = torch.tensor(qubits, dtype=torch.float64)
        noise = (0.3 * normal(len(q), seed=seed)).exp()
        cases.append(Case(f"with qubits {qubits}", (q, 0.2 * base**q * noise)))
    right = "the exponential of the least-squares slope of log variance on qubits."
    return mark(f, lambda q, v: slope(q, v.log()).exp(), cases, mistakes, right)


def check_centred_kernel(f: Function | None) -> Answer:
    """Check ``f(K)``: kernel matrix (n, n) -> HKH; see ``qrkd_lab.kernels.analysis.centred``."""
    mistakes = {
        "the mean of each row is taken off, that of each column is not: H stands on both sides.":
            lambda k: k - k.mean(1, keepdim=True),
        "the mean of each column is taken off, that of each row is not: H stands on both sides.":
            lambda k: k - k.mean(0),
        "K.mean(1) has shape (n,) and is taken off as a row: keepdim=True makes it a column.":
            lambda k: k - k.mean(0) - k.mean(1) + k.mean(),
        "the overall mean is taken off twice, with the rows and with the columns: add it once.":
            lambda k: k - k.mean(0) - k.mean(1, keepdim=True),
    }  # fmt: skip
    cases = [Case(f"with {n} samples", (rbf(n),)) for n in (5, 3, 8)]
    return mark(f, centred, cases, mistakes, "HKH: every row and every column sums to 0.")


def check_class_blocks(f: Function | None) -> Answer:
    """Check ``f(K, labels)``: (n, n), (n,) -> (c, c), the mean over pairs of different samples."""

    def sums(k: Tensor, y: Tensor) -> Tensor:
        member = (y[:, None] == y.unique()).to(k.dtype)
        return member.T @ k @ member

    def sizes(y: Tensor) -> Tensor:
        counts = y.unique(return_counts=True)[1].double()
        return counts[:, None] * counts

    mistakes = {
        "a sample is compared with itself: leave the diagonal of K out.":
            lambda k, y: sums(k, y) / sizes(y),
        "the diagonal is set to 0 but still counted: divide by the number of pairs that are left.":
            lambda k, y: sums(k.fill_diagonal_(0), y) / sizes(y),
        "these are sums: divide by the number of pairs.": lambda k, y: sums(k.fill_diagonal_(0), y),
    }  # fmt: skip
    rows = ([2, 0, 0, 2, 1, 1, 0], [5, 3, 3, 5, 5], [1, 0, 2, 1, 0, 2, 2, 0])
    cases = [
        Case(f"with {len(y)} samples in {len(set(y))} classes", (rbf(len(y)), torch.tensor(y)))
        for y in rows
    ]
    right = "mean values over pairs of different samples, one block per pair of classes."
    return mark(f, class_blocks, cases, mistakes, right)


def check_near_but_unlike(f: Function | None) -> Answer:
    """Check ``f()``: two kernel matrices (n, n), n >= 10, with a small loss and a small CKA."""

    def judge(f: Function) -> str:
        pair = [torch.as_tensor(m).double() for m in given(f())]
        need(len(pair) == 2, f"expected two matrices, K and L, got {len(pair)}: return K, L.")
        shapes, n = [tuple(m.shape) for m in pair], len(pair[0])
        need(shapes == 2 * [(n, n)], f"expected two matrices of one size (n, n), got {shapes}.")
        need(n >= 10, f"expected at least 10 samples, got {n}.")
        for name, m in zip("KL", pair, strict=True):
            need((m - m.T).abs().max() < 1e-6, f"{name} is not symmetric, or not finite.")
            one = (m.diagonal() - 1).abs().max() < 1e-6
            need(one, f"the diagonal of {name} is not 1: every sample is wholly like itself.")
            low = torch.linalg.eigvalsh(m).min().item()
            need(low > -1e-6, f"{name} has the negative eigenvalue {low:.3g}: no kernel gives it.")
        loss = relation_loss(*pair).item()
        need(loss < 1e-3, f"the kernel loss is {loss:.4f}, not below 0.001: press both together.")
        try:
            cka = centred_alignment(*pair)
        except NothingToAlign as error:
            refuse(f"the CKA cannot be had: {error}")
        need(cka < 0.5, f"the CKA is {cka:.2f}, not below 0.5: what is left must disagree.")
        return "hardly any loss, and little that they agree on."

    return answered(f, judge)


def check_effective_rank(f: Function | None) -> Answer:
    """Check ``f(K)``: a kernel matrix (n, n) -> e^H, H the entropy of its eigenvalues' shares."""

    def entropy(k: Tensor, share: bool = True) -> Tensor:
        p = torch.linalg.eigvalsh(k).clamp(min=0)
        return torch.special.entr(p / p.sum() if share else p).sum()

    mistakes = {
        "this is the entropy H: the effective rank is e^H.": entropy,
        "the eigenvalues are not shares yet: divide them by their sum.":
            lambda k: entropy(k, share=False).exp(),
        "this is the rank: it counts every eigenvalue above rounding alike.":
            torch.linalg.matrix_rank,
        "this is 1 / sum p^2, another count of directions: e^H has H = -sum p log p.":
            lambda k: 1 / (torch.linalg.eigvalsh(k) / k.trace()).square().sum(),
        "log2 with e^H: take the natural logarithm.": lambda k: (entropy(k) / math.log(2)).exp(),
    }  # fmt: skip
    cases = [Case(f"with {n} samples", (rbf(n, scale, 3),)) for n, scale in ((5, 1), (8, 0.4))]
    ones = torch.ones(4, 4, dtype=torch.float64)
    cases.append(Case("where all samples look alike (0 log 0 counts as 0)", (ones,)))
    right = "e^H of the eigenvalues' shares, from 1 (all alike) to n (the identity)."
    return mark(f, effective_rank, cases, mistakes, right)


def check_geometric_difference(f: Function | None) -> Answer:
    """Check ``f(K_C, K_Q, regularisation)`` -> g; see :func:`qrkd_lab.geometric_difference`."""

    def root(k: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(k)
        return (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def g(c: Tensor, q: Tensor, r: float, scale: bool = True, order: int | str = 2) -> Tensor:
        c, q = (k * (len(k) / k.trace()) if scale else k for k in (c, q))
        inverse = torch.linalg.inv(c + r * torch.eye(len(c)))
        inner = root(q) @ inverse @ c @ inverse @ root(q)
        return torch.linalg.matrix_norm(inner, ord=order).sqrt()

    mistakes = {
        "the two kernels are swapped: the classical one is inverted.": lambda c, q, r: g(q, c, r),
        "the traces are not scaled: multiply each matrix by n / trace first.":
            lambda c, q, r: g(c, q, r, scale=False),
        "not regularised: add lambda to the diagonal of the scaled classical matrix.":
            lambda c, q, r: g(c, q, 0.0),
        "this is g squared: g has a root around the norm.": lambda c, q, r: g(c, q, r) ** 2,
        "this is the Frobenius norm: take the largest eigenvalue, ord=2.":
            lambda c, q, r: g(c, q, r, order="fro"),
    }  # fmt: skip
    cases = [
        Case(f"with {n} samples and lambda = {r}", (2 * rbf(n, 0.6, 3), rbf(n, 1.3, 3), r))
        for n, r in ((5, 0.1), (8, 0.02))
    ]
    right = "the regularised geometric difference, with both traces scaled to n."
    return mark(f, lambda c, q, r: geometric_difference(c, q, r).value, cases, mistakes, right)
