"""Exercises on states, kernels and shots."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pennylane.queuing import AnnotatedQueue
from torch import Tensor

from qrkd_lab.kernels.analysis import NothingToAlign, centred, centred_alignment, class_blocks
from qrkd_lab.kernels.quantum import FidelityKernel
from qrkd_lab.losses import relation_loss
from qrkd_lab.teaching.exercises.checker import (
    Answer,
    Case,
    answered,
    coincident,
    mark,
    normal,
    refuse,
    states,
)

__all__ = [
    "check_angle_states",
    "check_angle_variance",
    "check_bandwidth_rule",
    "check_centred_kernel",
    "check_class_blocks",
    "check_exponential_base",
    "check_fidelity_kernel",
    "check_near_but_unlike",
    "check_other_basis",
    "check_shift_map",
    "check_shots_needed",
]


Function = Callable[..., Any]


def check_fidelity_kernel(f: Function | None) -> Answer:
    """Check ``f(states)``: complex (n, 2**q) -> real (n, n), |<i|j>|^2."""
    mistakes = {
        "these are the overlaps, complex: take their absolute square.": lambda u: u @ u.mH,
        "the amplitude is not squared: |<i|j>|^2.": lambda u: (u @ u.mH).abs(),
        "a conjugate is missing: <i|j> conjugates one side (states.conj() or .mH).": (
            lambda u: (u @ u.T).abs() ** 2
        ),
        "a conjugate is missing, and the amplitude is not squared.": lambda u: (u @ u.T).abs(),
        "the real part alone: |z|^2 = Re(z)^2 + Im(z)^2.": lambda u: (u @ u.mH).real ** 2,
        "the real part of the overlap: take its absolute square.": lambda u: (u @ u.mH).real,
        "z * z instead of z * conj(z): take abs() before the square.": lambda u: (u @ u.mH) ** 2,
        "overlap of the probabilities |amplitude|^2: multiply amplitudes, then square.": (
            lambda u: u.abs() ** 2 @ (u.abs() ** 2).T
        ),
    }
    right = "fidelities, real, symmetric, with ones on the diagonal."
    cases = [Case(f"with {n} states of {q} qubits", (states(n, q),)) for n, q in ((5, 2), (2, 3))]
    return mark(f, lambda u: (u @ u.mH).abs() ** 2, cases, mistakes, right, learns=[0])


def check_angle_states(f: Function | None) -> Answer:
    """Check ``f(x)``: angles (n, q) -> states (n, 2**q) of RY(x_i) on each qubit, wire 0 first."""

    def product(x: Tensor, half: float = 2, flip: bool = False) -> Tensor:
        pairs = torch.stack([(x / half).cos(), (x / half).sin()], -1)  # (n, q, 2)
        states = torch.ones(len(x), 1, dtype=x.dtype)
        for qubit in pairs.flip(2 if flip else 0).unbind(1) if flip else pairs.unbind(1):
            states = (states[:, :, None] * qubit[:, None, :]).flatten(1)  # (n, 2^k)
        return states

    mistakes = {
        "RY(x) turns by half its angle: cos(x/2) and sin(x/2).": lambda x: product(x, 1),
        "cosine and sine are swapped: |0> gets the cosine.": lambda x: product(x, flip=True),
        "the qubits are in reverse order: wire 0 is the leftmost factor.": (
            lambda x: product(x.flip(1))
        ),
        "these are probabilities: a state holds amplitudes, their signed roots.": (
            lambda x: product(x) ** 2
        ),
        "a sign is lost: sin(x/2) is negative for negative angles.": lambda x: product(x).abs(),
        "the sine has the wrong sign: RY(x)|0> = cos(x/2)|0> + sin(x/2)|1>.": (
            lambda x: product(-x)
        ),
    }
    cases = [Case(f"with {n} rows of {q} angles", (normal(n, q),)) for n, q in ((4, 3), (2, 1))]
    cases += [Case("with a row of zeros and coincident rows", (coincident(5, 2),))]
    right = "the states of the kit's angle map, one factor a qubit."
    return mark(f, product, cases, mistakes, right, learns=[0])


def check_bandwidth_rule(f: Function | None) -> Answer:
    """Check ``f(matrices, bandwidths)``: (m, n, n), (m,) -> the bandwidth of largest spread."""

    def spread(k: Tensor, diagonal: bool = False) -> Tensor:
        keep = ~torch.eye(k.shape[1], dtype=torch.bool) | diagonal
        return k[:, keep].std(1)

    mistakes = {
        "this is the place in the list: give the bandwidth there.": lambda k, b: spread(k).argmax(),
        "the diagonal is counted: it is 1 for every bandwidth, leave it out.": (
            lambda k, b: b[spread(k, True).argmax()]
        ),
        "this is the largest spread: give the bandwidth where it is.": (
            lambda k, b: spread(k).max()
        ),
        "the diagonal is set to 0 but still counted: leave it out.": (
            lambda k, b: b[(k * (1 - torch.eye(k.shape[1]))).flatten(1).std(1).argmax()]
        ),
        "the smallest spread: take the largest.": lambda k, b: b[spread(k).argmin()],
        "the largest mean: take the largest standard deviation.": (
            lambda k, b: b[k.mean((1, 2)).argmax()]
        ),
    }
    bandwidths = 2.0 ** torch.arange(-5, 4, dtype=torch.float64)
    cases = []
    for n, seed in ((4, 0), (6, 1), (12, 2)):
        d2 = torch.cdist(x := normal(n, 2, seed=seed), x) ** 2
        kernels = torch.exp(-d2 * bandwidths[:, None, None] ** 2)
        cases.append(Case(f"with {n} samples", (kernels, bandwidths)))
    right = "the bandwidth at which kernel values of different samples spread most."
    rule = lambda k, b: b[spread(k).argmax()]  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


def check_shots_needed(f: Function | None) -> Answer:
    """Check ``f(value, error)`` -> shots for a kernel value to have this standard error."""
    mistakes = {
        "rounded down: with this many shots the error is a little too large.": (
            lambda k, e: math.floor(k * (1 - k) / e**2)
        ),
        "a share k of the shots has the variance k(1 - k), not 1.": lambda k, e: math.ceil(e**-2),
        "the variance is k(1 - k), not k.": lambda k, e: math.ceil(k / e**2),
        "the error falls with the root of the shots: square it.": (
            lambda k, e: math.ceil(k * (1 - k) / e)
        ),
        "the root is too much: shots = variance / error^2.": (
            lambda k, e: math.ceil((k * (1 - k)) ** 0.5 / e)
        ),
        "0.25 is the largest variance a share can have: take this value's own, k(1 - k).": (
            lambda k, e: math.ceil(0.25 / e**2)
        ),
        "rounded to the nearest: round up.": lambda k, e: round(k * (1 - k) / e**2),
        "not a whole number: round up.": lambda k, e: k * (1 - k) / e**2,
    }
    pairs = ((0.3, 0.011), (0.9, 0.017), (0.02, 0.013))
    cases = [Case(f"for the value {k} and the error {e}", (k, e)) for k, e in pairs]
    right = "the variance of a share, over the squared error, rounded up."
    rule = lambda k, e: math.ceil(k * (1 - k) / e**2)  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


# ---- circuits


Function_circuits = Callable[..., Any]
TOLERANCE = 1e-4


def check_other_basis(f: Function_circuits | None) -> Answer:
    """Check ``f(angles)``: two angles -> probabilities (4,) of one iqp layer, then H on each qubit.

    Two layers of iqp without further Hadamards have the same probabilities, and count as right.
    """
    rows = torch.tensor([[0.5, 0.7], [1.5, 0.7], [-0.9, 2.0]], dtype=torch.float64)
    states = FidelityKernel("iqp", 2, layers=1).states(rows)
    hadamard = torch.tensor([[1, 1], [1, -1]], dtype=states.dtype) / 2**0.5
    turned = states @ torch.kron(hadamard, hadamard).T
    want = turned.abs().square()
    mistakes = {
        "these are amplitudes: a probability is the absolute square.": turned,
        "the absolute values are not squared.": turned.abs(),
        "nothing changes with the angles: is the Hadamard applied before the square?": (
            states.abs().square()
        ),
        "the Hadamard acts on the first qubit only.": (
            (states @ torch.kron(hadamard, torch.eye(2, dtype=states.dtype)).T).abs().square()
        ),
        "the Hadamard acts on the last qubit only.": (
            (states @ torch.kron(torch.eye(2, dtype=states.dtype), hadamard).T).abs().square()
        ),
        "Hadamards after two layers: take layers=1 (the default of iqp is 2).": (
            (FidelityKernel("iqp", 2).states(rows) @ torch.kron(hadamard, hadamard).T)
            .abs().square()
        ),
    }  # fmt: skip

    def judge(f: Function_circuits) -> str:
        found = torch.stack([_numbers(f(row.clone())) for row in rows])
        if torch.allclose(found, want.to(found.dtype), atol=TOLERANCE):
            return "another basis shows what the first one hid."
        for hint, wrong in mistakes.items():
            if torch.allclose(found, wrong.to(found.dtype), atol=TOLERANCE):
                refuse(hint)
        if torch.allclose(found, found[:1].expand_as(found), atol=TOLERANCE):
            refuse("nothing changes with the angles: is the Hadamard applied before the square?")
        refuse("not the probabilities of one layer of iqp (layers=1) and a Hadamard on each qubit.")

    return answered(f, judge)


def check_shift_map(f: Function_circuits | None) -> Answer:
    """Check a feature map ``f(angles, wires)``, whose fidelity depends on ``x - y`` alone."""
    x, y, shifts = normal(6, 2), normal(6, 2, seed=1), normal(6, 2, seed=2)

    def judge(f: Function_circuits) -> str:
        with AnnotatedQueue() as recorded:
            f(x, range(2))
        if not recorded.queue:
            refuse("your map has no gate so far.", "Not answered yet")
        if any(gate.batch_size not in (None, len(x)) for gate in recorded.queue):
            refuse("that is the i-th sample: the i-th angle of each sample is angles[..., i].")
        kernel = FidelityKernel(f, qubits=2)
        found = kernel(x, y)
        if (found - 1).abs().max() < TOLERANCE:
            refuse(
                "all samples look alike to this map: no gate takes an angle, or it turns phases "
                "only (RZ on |0>)."
            )
        for i in range(2):
            moved = x.clone()
            moved[:, i] += 1.3
            if (kernel(moved, y) - found).abs().max() < TOLERANCE:
                refuse(f"the map does not see angle {i}: both have to matter.")
        if any((kernel(x + s, y + s) - found).abs().max() > TOLERANCE for s in shifts):
            refuse("a shift of both samples by the same amount changed their fidelity.")
        return "only differences matter to this map."

    return answered(f, judge)


def _numbers(value: Any) -> Tensor:  # noqa: ANN401
    """Four numbers, of any type, in double precision."""
    if value is None or value is ...:
        refuse("your function returns nothing so far.", "Not answered yet")
    found = torch.as_tensor(value).detach()
    if found.numel() != 4:
        refuse(f"expected 4 probabilities, got the shape {tuple(found.shape)}.")
    return found.reshape(4).to(torch.complex128)


# ---- concentration


Function_concentration = Callable[..., Any]


def check_angle_variance(f: Function_concentration | None) -> Answer:
    """Check ``f(q)`` -> variance of the angle map's kernel over independent uniform angles."""
    mistakes = {
        "this is the second moment: subtract the square of the mean.": lambda q: (3 / 8) ** q,
        "the mean minus the second moment: square the mean, and turn the order round.": (
            lambda q: 0.5**q - (3 / 8) ** q
        ),
        "the mean is subtracted, not its square.": lambda q: (3 / 8) ** q - 0.5**q,
        "this is the mean.": lambda q: 0.5**q,
        "this is the square of the mean: it is missing in front.": lambda q: 0.25**q,
        "the variance of one qubit to the power q: variances of factors do not multiply; "
        "second moments do.": lambda q: (1 / 8) ** q,
        "the variance of one qubit times q: the kernel is a product, not a sum.": lambda q: q / 8,
        "the standard deviation: give the variance.": (lambda q: ((3 / 8) ** q - 0.25**q) ** 0.5),
        "the wrong sign: second moment minus squared mean.": lambda q: 0.25**q - (3 / 8) ** q,
    }
    cases = [Case(f"with {q} qubits", (q,)) for q in (2, 1, 3, 5)]
    right = "second moment minus squared mean, each a product over qubits."
    return mark(f, lambda q: (3 / 8) ** q - 0.25**q, cases, mistakes, right, numbers=True)


def check_exponential_base(f: Function_concentration | None) -> Answer:
    """Check ``f(qubits, variances)``: (m,), (m,) -> base of the exponential, by least squares."""

    def slope(x: Tensor, y: Tensor) -> Tensor:
        x, y = x - x.mean(), y - y.mean()
        return (x * y).sum() / (x * x).sum()

    def through_ends(q: Tensor, v: Tensor) -> Tensor:
        return (v[-1] / v[0]) ** (1 / (q[-1] - q[0]))

    def intercept(q: Tensor, v: Tensor) -> Tensor:
        return v.log().mean() - slope(q, v.log()) * q.mean()

    mistakes = {
        "this is the slope, the logarithm of the base: take its exponential.": (
            lambda q, v: slope(q, v.log())
        ),
        "the fit is of the variances themselves: a line fits their logarithms.": slope,
        "the fit is of the variances themselves: a line fits their logarithms; and no exponential "
        "belongs there.": lambda q, v: slope(q, v).exp(),
        "the step is taken as one qubit: divide by the qubits' own distances.": (
            lambda q, v: slope(torch.arange(len(q), dtype=q.dtype), v.log()).exp()
        ),
        "only the first and the last point are used: fit all of them.": through_ends,
        "only the first and the last point are used, and the step between points is taken as one "
        "qubit: fit all of them, on the qubits.": (
            lambda q, v: (v[-1] / v[0]) ** (1 / (len(q) - 1))
        ),
        "this is one over the base: mind the sign of the slope.": (
            lambda q, v: (-slope(q, v.log())).exp()
        ),
        "this is the line at no qubits, its intercept: the base is in the slope.": (
            lambda q, v: intercept(q, v).exp()
        ),
        "this is the line's intercept: the base is in the slope.": intercept,
        "the fit goes through the origin: let the line have an intercept.": (
            lambda q, v: ((q * v.log()).sum() / (q * q).sum()).exp()
        ),
        "a logarithm to another base than the exponential: use the same for both.": (
            lambda q, v: slope(q, v.log10()).exp()
        ),
        "the mean ratio of neighbours: fit a line to all logarithms instead.": (
            lambda q, v: (v[1:] / v[:-1]).mean()
        ),
        "qubits and variances are swapped in the fit.": lambda q, v: slope(v.log(), q).exp(),
    }
    cases = []
    for qubits, base, seed in (
        ((2, 4, 6, 8), 0.4, 0),
        ((1, 2, 5), 0.8, 1),
        ((3, 6, 9, 10), 0.1, 2),
    ):
        q = torch.tensor(qubits, dtype=torch.float64)
        noise = (0.3 * normal(len(q), seed=seed)).exp()
        cases.append(Case(f"with qubits {qubits}", (q, 0.2 * base**q * noise)))
    right = "the exponential of the least-squares slope of log variance on qubits."
    rule = lambda q, v: slope(q, v.log()).exp()  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


# ---- views


Function_views = Callable[..., Any]


def _kernel(n: int) -> Tensor:
    """An RBF kernel matrix of seeded samples; its rows have different means."""
    x = normal(n, 2)
    return torch.exp(-(torch.cdist(x, x) ** 2))


def check_centred_kernel(f: Function_views | None) -> Answer:
    """Check ``f(K)``: kernel matrix (n, n) -> HKH; see ``qrkd_lab.kernels.analysis.centred``."""
    mistakes = {
        "the mean of each row is taken off, that of each column is not: H stands on both sides.": (
            lambda k: k - k.mean(1, keepdim=True)
        ),
        "the mean of each column is taken off, that of each row is not: H stands on both sides.": (
            lambda k: k - k.mean(0)
        ),
        "the overall mean alone is taken off: rows must sum to 0, each of them.": (
            lambda k: k - k.mean()
        ),
        "K.mean(1) has shape (n,) and is taken off as a row: keepdim=True makes it a column.": (
            lambda k: k - k.mean(0) - k.mean(1) + k.mean()
        ),
        "the overall mean was taken off twice: add it once.": (
            lambda k: k - k.mean(0) - k.mean(1, keepdim=True)
        ),
        "the overall mean is taken off a third time: its sign is plus.": (
            lambda k: k - k.mean(0) - k.mean(1, keepdim=True) - k.mean()
        ),
        "sums instead of means: H = I - (ones)/n.": (
            lambda k: k - k.sum(0) - k.sum(1, keepdim=True) + k.sum()
        ),
        "the trace is scaled to 1 as well: centring does not change the scale.": (
            lambda k: centred(k) / centred(k).trace()
        ),
    }
    cases = [Case(f"with {n} samples", (_kernel(n),)) for n in (5, 3, 8)]
    right = "HKH: every row and every column sums to 0."
    return mark(f, centred, cases, mistakes, right)


def check_class_blocks(f: Function_views | None) -> Answer:
    """Check ``f(K, labels)``: (n, n), (n,) -> (c, c), the mean over pairs of different samples."""

    def blocks(k: Tensor, y: Tensor, classes: Tensor | None = None) -> Tensor:
        member = (y[:, None] == (y.unique() if classes is None else classes)).to(k.dtype)
        return member.T @ k @ member

    def sizes(y: Tensor) -> Tensor:
        counts = y.unique(return_counts=True)[1].double()
        return counts[:, None] * counts

    def appearance(k: Tensor, y: Tensor) -> Tensor:
        seen = torch.tensor(list(dict.fromkeys(y.tolist())))
        place = torch.searchsorted(y.unique(), seen)
        return class_blocks(k, y)[place][:, place]

    def hollow(k: Tensor) -> Tensor:
        return k - torch.diag(k.diagonal())

    mistakes = {
        "a sample is compared with itself: leave the diagonal of K out.": (
            lambda k, y: blocks(k, y) / sizes(y)
        ),
        "the diagonal is set to 0 but still counted: divide by the number of pairs that are left, "
        "m(m-1) within a class of m.": lambda k, y: blocks(hollow(k), y) / sizes(y),
        "these are sums: divide by the number of pairs.": lambda k, y: blocks(hollow(k), y),
        "these are sums, with the diagonal: average over different samples.": blocks,
        "the classes are in the order in which they appear: sort them.": appearance,
        "divided by n^2: each block has a number of pairs of its own.": (
            lambda k, y: blocks(hollow(k), y) / len(y) ** 2
        ),
    }
    cases = []
    for labels in ([2, 0, 0, 2, 1, 1, 0], [5, 3, 3, 5, 5], [1, 0, 2, 1, 0, 2, 2, 0]):
        y = torch.tensor(labels)
        cases.append(
            Case(f"with {len(y)} samples in {len(y.unique())} classes", (_kernel(len(y)), y))
        )
    right = "mean values over pairs of different samples, a block a pair of classes."
    return mark(f, class_blocks, cases, mistakes, right)


def check_near_but_unlike(f: Function_views | None) -> Answer:
    """Check ``f()``: two kernel matrices (n, n), n >= 10, with a small loss and a small CKA."""
    if f is None or f is ...:
        return Answer("Not answered yet", "give your function to this check.")
    if not callable(f) or isinstance(f, type):
        return Answer("Not yet", f"expected a function, got {f!r}: leave out the brackets.")
    try:
        pair = f()
    except NotImplementedError:
        pair = None
    except Exception as error:
        return Answer("Not yet", f"your function raised {type(error).__name__}: {error}")
    if pair is None or pair is ...:
        return Answer("Not answered yet", "your function returns nothing so far.")
    fault = _fault(pair)
    right = Answer("Right", "hardly any loss, and little that they agree on.")
    return Answer("Not yet", fault) if fault else right


def _fault(pair: object) -> str:
    """What keeps these from being the two kernels that are asked for; empty: nothing."""
    if not isinstance(pair, (tuple, list)) or not all(isinstance(m, Tensor) for m in pair):
        return f"expected two matrices (K, L), got {type(pair).__name__}."
    shapes = [tuple(m.shape) for m in pair]
    if len(pair) != 2 or len(shapes[0]) != 2 or len({*shapes[0], *shapes[1]}) != 1:
        return f"expected two matrices of one size (n, n), got {shapes}."
    if len(pair[0]) < 10:
        return f"expected at least 10 samples, got {len(pair[0])}."
    for name, given in zip("KL", pair, strict=True):
        m = given.detach().double()
        if not m.isfinite().all():
            return f"{name} has values that are not finite."
        if (m - m.T).abs().max() > 1e-6:
            return f"{name} is not symmetric: K(x, y) is K(y, x)."
        if (m.diagonal() - 1).abs().max() > 1e-6:
            return f"the diagonal of {name} is not 1: every sample is wholly like itself."
        if (low := torch.linalg.eigvalsh(m).min().item()) < -1e-6:
            return f"{name} has the negative eigenvalue {low:.3g}: no kernel can give it."
    if (loss := relation_loss(*(m.detach().double() for m in pair)).item()) >= 1e-3:
        return f"the kernel loss is {loss:.4f}, not below 0.001: press both towards one value."
    try:
        cka = centred_alignment(*pair)
    except NothingToAlign as error:
        return f"the CKA cannot be had: {error}"
    if cka >= 0.5:
        return f"the CKA is {cka:.2f}, not below 0.5: what is left must disagree."
    return ""
