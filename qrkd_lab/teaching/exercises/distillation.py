"""Exercises on gradients: which terms of a loss do not reach the student?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

from qrkd_lab.kernels.analysis import effective_rank, geometric_difference
from qrkd_lab.kernels.classical import Kernel, RBFKernel
from qrkd_lab.kernels.encoders import Encoder, KernelRelation
from qrkd_lab.losses import DistillationLoss, Losses, Outputs, relation_loss
from qrkd_lab.models.gpt2 import tap
from qrkd_lab.teaching.exercises.checker import (
    STEEP,
    Answer,
    Case,
    answered,
    coincident,
    mark,
    normal,
    refuse,
)
from qrkd_lab.teaching.experiments import term_gradients

__all__ = [
    "check_bits_per_byte",
    "check_effective_rank",
    "check_equivalence",
    "check_geometric_difference",
    "check_mean_tap",
    "check_own_kernel",
    "check_own_relation",
    "check_perplexity",
    "check_silent_terms",
    "check_word_perplexity",
]


Function = Callable[..., Any]
SMALL = 1e-3
Trial = tuple[Losses, list[Tensor]]
RIGHT = "every term is asked alone, at all of the student's weights."
ADDED = (
    "backward() adds to .grad, so the gradients of earlier terms are still in it: use "
    "torch.autograd.grad, or set .grad to None between terms."
)
HINTS = {  # what torch says to what the reader should know
    "does not require grad": "a term that is cut off has no graph at all: ask term.requires_grad "
    "first, such a term is silent.",
    "not have been used": "a term need not reach every weight (a relation never reaches the output "
    "layer): allow_unused=True gives None there.",
    "second time": "the terms share one graph: retain_graph=True keeps it for the next term.",
}


def check_silent_terms(f: Function | None) -> Answer:
    """Check ``f(losses, weights)`` -> names of the terms without gradient at every weight.

    ``losses`` is what a :class:`~qrkd_lab.losses.DistillationLoss` returns for one batch,
    ``weights`` the student's parameters as a list.
    """
    if f is None or f is ...:
        return Answer("Not answered yet", "give your function to this check.")
    if not callable(f) or isinstance(f, type):
        return Answer("Not yet", f"expected a function, got {f!r}: leave out the brackets.")
    answers = []
    for name in CASES:
        found = _names(f, name)
        if isinstance(found, Answer):
            return found
        answers.append(found)
    want = [silent(*_trial(name)) for name in CASES]
    if answers == want:
        return Answer("Right", RIGHT)
    for hint, mistake in MISTAKES.items():
        if answers == [mistake(*_trial(name)) for name in CASES]:
            return Answer("Not yet", hint)
    name = next(n for n, a, w in zip(CASES, answers, want, strict=True) if a != w)
    return Answer("Not yet", _difference(name, answers[list(CASES).index(name)]))


def silent(losses: Losses, weights: Sequence[Tensor]) -> set[str]:
    """The right answer."""
    found = term_gradients(losses, weights)
    return {name for name, gradient in found.items() if not gradient.any()}


def _names(f: Function, case: str) -> set[str] | Answer:
    """What the reader's function says of a case, as a set; or the answer that ends the check."""
    losses, weights = _trial(case)
    try:
        found = f(losses, weights)
    except NotImplementedError:
        found = None
    except Exception as error:
        said = f"your function raised {type(error).__name__} {case}"
        hint = next((text for mark, text in HINTS.items() if mark in str(error)), str(error))
        return Answer("Not yet", f"{said}: {hint}")
    if found is None or found is ...:
        return Answer("Not answered yet", "your function returns nothing so far.")
    if isinstance(found, str):
        return Answer("Not yet", f"expected a set of names, got the word {found!r}: use {{...}}.")
    try:
        names = set(found)
    except TypeError:
        return Answer("Not yet", f"expected a set of names, got {found!r}.")
    if names != silent(losses, weights) and any(weight.grad is not None for weight in weights):
        return Answer("Not yet", ADDED)
    return names


def _difference(case: str, found: set[str]) -> str:
    losses, weights = _trial(case)
    want = silent(losses, weights)
    if unknown := found - set(losses.terms):
        listed = ", ".join(map(str, sorted(unknown, key=str)))
        return f"there is no term {listed}; the names are {', '.join(losses.terms)}."
    if missed := want - found:
        return f"{case} you missed {', '.join(sorted(missed))}: it moves no weight of the student."
    wrong = ", ".join(sorted(found - want))
    return f"{case} you named {wrong}, but its gradient is not 0 at every weight."


class _Cut(DistillationLoss):
    """A loss in which some terms lost their gradient on the way; the mistake to be found."""

    cut: tuple[str, ...] = ()

    def forward(self, student: Outputs, teacher: Outputs, targets: Tensor) -> Losses:
        whole = super().forward(student, teacher, targets)
        blind = super().forward(Outputs(*(x.detach() for x in student)), teacher, targets)
        pick = {n: (blind if n in self.cut else whole).terms[n] for n in whole.terms}
        weights = {"task": 1.0, **self.weights}
        return Losses(sum(weights[n] * term for n, term in pick.items()), pick)


CASES: dict[str, dict[str, Any]] = {
    "in a loss without fault": {},
    "with a detached kernel and no adapter": {"control": "detached", "encoder": "projection"},
    "with a detached kernel whose adapter learns": {"control": "detached"},
    "with distances and angles cut off": {"cut": ("distance", "angle")},
    "with features multiplied by 0": {"times": 0.0},
    "with terms that move the output layer alone": {"outputs_see": Tensor.detach},
    "with outputs that are nearly 0": {"gain": 1e-6},
}


def _trial(case: str) -> Trial:
    """A small student, one batch, and the loss of a case; the same numbers each time."""
    options = CASES[case]
    hidden, output = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
    for i, p in enumerate([*hidden.parameters(), *output.parameters()]):
        p.data = normal(*p.shape, seed=i)
    features = hidden(normal(8, 4)).tanh()
    seen = features * options.get("times", 1.0)
    encoder = Encoder(6, 5, 2, options.get("encoder", "adapter")).double()
    relation = KernelRelation(RBFKernel(), encoder, options.get("control"))
    loss = _Cut(kd=1.0, distance=1.0, angle=1.0, kernel=(relation, 1000.0))
    loss.cut = options.get("cut", ())
    teacher = Outputs(normal(8, 3, seed=7), normal(8, 6, seed=8))
    logits = options.get("gain", 1.0) * output(options.get("outputs_see", lambda x: x)(features))
    losses = loss(Outputs(logits, seen), teacher, torch.arange(8) % 3)
    return losses, [*hidden.parameters(), *output.parameters()]


def _at(index: int) -> Function:
    """Only one of the weights is asked."""
    return lambda losses, weights: silent(losses, [weights[index]])


MISTAKES: dict[str, Function] = {
    "requires_grad alone is fooled: a detached kernel still asks for a gradient, at its adapter. "
    "Take the gradient at the student's weights.": lambda losses, _: {
        name for name, term in losses.terms.items() if not term.requires_grad
    },
    "a None or 0 is overlooked: in some of these losses a term is silent and you found none. Ask "
    "each term alone; the total has a gradient whatever happens to one of them.": (
        lambda losses, _: set()
    ),
    "only the last weight is asked: relations never reach the output layer. A term is silent if "
    "its gradient is None or 0 at all weights.": _at(-1),
    "only the first weight is asked: a term may reach the later layers alone.": _at(0),
    "you named terms that miss *some* weights: relations never reach the output layer. Silent is "
    "None or 0 at *all* weights.": lambda losses, weights: {
        name for name in losses.terms if any(name in silent(losses, [weight]) for weight in weights)
    },
    "a small gradient is not none: ask whether it is 0, not whether it is below some number.": (
        lambda losses, weights: {
            name
            for name, gradient in term_gradients(losses, weights).items()
            if gradient.norm() < SMALL
        }
    ),
    "None alone is looked for: features times 0 give a gradient, and it is 0.": (
        lambda losses, weights: {
            name
            for name, term in losses.terms.items()
            if not term.requires_grad
            or all(
                g is None
                for g in torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            )
        }
    ),
    "these are the terms that do have a gradient: give the others.": (
        lambda losses, weights: set(losses.terms) - silent(losses, weights)
    ),
}


# ---- own


Function_own = Callable[..., Any]
TOLERANCE = 1e-6
ROUNDING = 1e-10  # of an eigenvalue in doubles


def check_own_relation(f: Function_own | None) -> Answer:
    """Check ``f(x)``: features (n, d) -> a relation (n, n), whatever it measures.

    Asked: the same numbers each time, symmetric, the same for samples in another order, telling
    samples apart, finite at coincident and zero rows, and a gradient that is finite and bounded
    there; a relational loss of equal features is then 0, and moves the student elsewhere.
    """
    return answered(f, _relation)


def _relation(f: Function_own) -> str:
    for n, d in ((6, 3), (5, 8)):
        x = normal(n, d)
        R = _matrix(f(x.clone()), (n, n), f"for {n} samples of {d} features")
        _finite(R, f"for {n} samples of {d} features")
        if not _close(R, f(x.clone())):
            refuse("two calls with the same features give different numbers: fix what is random.")
        if not _close(R, R.T):
            refuse("not symmetric: [i, j] and [j, i] must say the same; average the two.")
        order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
        if not _close(f(x[order]), R[order][:, order]):
            refuse(
                "samples in another order give other numbers, not the same ones in that order: an "
                "entry must depend on the two samples (and the batch as a whole), not on the row."
            )
        off = R[~torch.eye(n, dtype=torch.bool)]
        if (off - off[0]).abs().max() < TOLERANCE:
            refuse("all pairs get the same number: such a relation tells no samples apart.")
        if relation_loss(f(x.clone()), R).abs() > TOLERANCE:
            refuse("the loss of a student that equals its teacher is not 0.")
    slope = _slope(lambda s: relation_loss(f(s), f(normal(6, 4, seed=1))), normal(6, 3))
    _bounded(slope)
    if not slope.abs().max() > 0:
        refuse("the gradient at the student is 0 everywhere: rounding, ranking or a clamp?")
    x = coincident(6, 3)
    _finite(_matrix(f(x.clone()), (6, 6), "at coincident rows"), "at coincident or zero rows")
    weights = normal(6, 6, seed=3)
    _bounded(_slope(lambda s: (f(s) * weights).sum(), x))
    return (
        "symmetric, in step with the order of the samples, finite, and a student can learn from it."
    )


def check_own_kernel(kernel: Kernel | None) -> Answer:
    """Check a ``Kernel`` of your own, e.g. ``MyKernel(bandwidth=1)``.

    Asked: symmetric, positive semi-definite, 1 on the diagonal; ``k(x, y)`` that agrees with
    ``k(x)``; a gradient that is finite and bounded, at coincident rows too; and that a
    ``KernelRelation`` takes it.
    """
    return answered(kernel, _kernel, function=False)


def _kernel(kernel: Kernel) -> str:
    if not isinstance(kernel, Kernel):
        if callable(kernel) and not isinstance(kernel, type):
            _matrix(kernel(normal(3, 4)), (3, 3), "for 3 samples")  # not even begun?
        refuse(
            f"expected a Kernel, e.g. MyKernel(), got {getattr(kernel, '__name__', repr(kernel))}: "
            "derive your class from qrkd_lab.kernels.Kernel, and give an object of it."
        )
    q = kernel.features or getattr(kernel, "qubits", 4)
    for n, seed in ((6, 0), (9, 1)):
        x, y = 0.7 * normal(n, q, seed=seed), 0.7 * normal(5, q, seed=seed + 5)
        K = _matrix(kernel(x), (n, n), f"for {n} samples")
        _finite(K, f"for {n} samples")
        if not _close(K, K.T):
            refuse("not symmetric: k(x, y) = k(y, x) is what makes it a kernel.")
        if not _close(K.diagonal(), torch.ones(n)):
            at = K.diagonal()[(K.diagonal() - 1).abs().argmax()]
            refuse(f"the diagonal is not 1 but e.g. {at:.3g}: divide by sqrt(k(x, x) k(y, y)).")
        both = torch.cat([x, y])
        if not _close(kernel(both)[:n, n:], _matrix(kernel(x, y), (n, 5), "for k(x, y)")):
            refuse("k(x, y) is not the block of k on all samples: does an entry see the batch?")
    K = kernel(normal(40, q, seed=4))
    smallest = torch.linalg.eigvalsh(K.detach())[0].item()
    if smallest < -(ROUNDING if K.dtype == torch.float64 else TOLERANCE) * len(K):
        refuse(
            f"not positive semi-definite: an eigenvalue of {smallest:.2g} on 40 samples; symmetric "
            "likenesses are not enough. Sums and products of kernels, and inner products of "
            "embeddings, are always safe."
        )
    if (K - K.mean()).abs().max() < TOLERANCE:
        refuse("all pairs get the same number: such a kernel tells no samples apart.")
    weights = normal(6, 6, seed=3)
    for x in (normal(6, q), coincident(6, q)):
        slope = _slope(lambda s: (kernel(s) * weights).sum(), x)
        _bounded(slope)
        if not slope.abs().max() > 0:
            refuse("the gradient is 0 everywhere: rounding, ranking or a clamp?")
    named = {part.name for part in fields(kernel)} if is_dataclass(kernel) else set()
    x = normal(6, q)
    if "bandwidth" not in named and not _close(kernel(x), kernel(2 * x)):
        refuse(
            "bandwidth must be a field: @dataclass(frozen=True) and bandwidth: float = 1.0, or it "
            "cannot be calibrated."
        )
    KernelRelation(kernel, Encoder(q + 2, q + 3, q))  # hashable, a Kernel, q angles
    return "a kernel: symmetric, positive semi-definite, 1 on the diagonal, and differentiable."


def _matrix(value: Any, shape: tuple[int, int], where: str) -> Tensor:  # noqa: ANN401
    if value is None or value is ...:
        refuse("your function returns nothing so far.", "Not answered yet")
    if not isinstance(value, Tensor):
        refuse(f"expected a torch tensor, got {type(value).__name__}.")
    if value.shape != shape:
        refuse(f"wrong shape {where}: expected {shape}, got {tuple(value.shape)}.")
    return value.detach()


def _finite(value: Tensor, where: str) -> None:
    if not value.isfinite().all():
        refuse(f"not finite {where}: 0/0, log 0, or a number too large for exp?")


def _slope(of: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    x = at.clone().requires_grad_()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of .item() and the like, and so do we
        value = of(x)
    if not value.requires_grad:
        refuse(
            "no gradient reaches the features: the result was cut off from them (.detach(), "
            ".item(), .numpy(), no_grad or torch.tensor(...))."
        )
    (slope,) = torch.autograd.grad(value, x, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope


def _bounded(slope: Tensor) -> None:
    if not slope.isfinite().all():
        refuse(
            "the gradient is not finite at coincident or zero rows (the diagonal counts): a root, "
            "norm or quotient of 0 has an infinite slope. Guard it before the root."
        )
    if slope.abs().max() > STEEP:
        refuse(
            f"the gradient reaches {slope.abs().max():.0e} at coincident or zero rows: something "
            "is divided by almost 0."
        )


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.detach().double(), b.detach().double()
    return a.shape == b.shape and torch.allclose(a, b, 1e-4, TOLERANCE)


# ---- controls


Function_controls = Callable[..., Any]


def check_effective_rank(f: Function_controls | None) -> Answer:
    """Check ``f(K)``: a kernel matrix (n, n) -> e^H, H the entropy of its eigenvalues' shares."""

    def shares(k: Tensor) -> Tensor:
        values = torch.linalg.eigvalsh(k).clamp(min=0)
        return values / values.sum()

    def entropy(p: Tensor) -> Tensor:
        return torch.special.entr(p).sum()

    mistakes = {
        "this is the entropy H: the effective rank is e^H.": lambda k: entropy(shares(k)),
        "the eigenvalues are not shares yet: divide them by their sum.": lambda k: entropy(
            torch.linalg.eigvalsh(k).clamp(min=0)
        ).exp(),
        "a sign is missing: H = -sum p log p.": lambda k: (-entropy(shares(k))).exp(),
        "two bases: H in nats (natural logarithm) belongs to e^H, H in bits to 2^H.": lambda k: (
            entropy(shares(k)) / math.log(2)
        ).exp(),
        "two bases: H in nats belongs to e^H, not to 2^H.": lambda k: 2 ** entropy(shares(k)),
        "the eigenvalues are squared: take their shares as they are.": lambda k: entropy(
            shares(k) ** 2 / (shares(k) ** 2).sum()
        ).exp(),
        "this is the participation ratio (sum)^2 / sum of squares: a relative, not this one.": (
            lambda k: 1 / (shares(k) ** 2).sum()
        ),
        "this is the rank: it counts every eigenvalue above rounding alike.": (
            torch.linalg.matrix_rank
        ),
        "the entropy of the entries: take the eigenvalues.": lambda k: entropy(
            k.abs() / k.abs().sum()
        ).exp(),
        "the entropy of the diagonal: take the eigenvalues.": lambda k: entropy(
            k.diagonal() / k.trace()
        ).exp(),
    }
    cases = [
        Case(f"with {n} samples", (_controls_kernel(n, scale),)) for n, scale in ((5, 1), (8, 0.4))
    ]
    ones = torch.ones(4, 4, dtype=torch.float64)
    cases.append(Case("where all samples look alike (0 log 0 counts as 0)", (ones,)))
    right = "e^H of the eigenvalues' shares, from 1 (all alike) to n (the identity)."
    return mark(f, effective_rank, cases, mistakes, right, numbers=True)


def check_geometric_difference(f: Function_controls | None) -> Answer:
    """Check ``f(K_C, K_Q, regularisation)`` -> g; see :func:`qrkd_lab.geometric_difference`."""

    def scaled(k: Tensor) -> Tensor:
        return k * (len(k) / k.trace())

    def g2(c: Tensor, q: Tensor, r: float, **change: Any) -> Tensor:  # noqa: ANN401
        if change.get("scale", True):
            c, q = scaled(c), scaled(q)
        inverse = torch.linalg.inv(change.get("damped", c + r * torch.eye(len(c))))
        middle = change.get("middle", lambda: inverse @ c @ inverse)()
        inner = _root(q) @ middle @ _root(q)
        return torch.linalg.matrix_norm(inner, ord=change.get("norm", 2))

    def other_root(c: Tensor, q: Tensor, r: float, root: Callable[[Tensor], Tensor]) -> Tensor:
        c, q = scaled(c), scaled(q)
        inverse = torch.linalg.inv(c + r * torch.eye(len(c)))
        return torch.linalg.matrix_norm(root(q) @ root(c) @ inverse, ord=2)

    def usual(c: Tensor, q: Tensor, r: float) -> Tensor:
        c = scaled(c)
        return g2(c, q, r, middle=lambda: torch.linalg.inv(c + r * torch.eye(len(c)))).sqrt()

    mistakes = {
        "the two kernels are swapped: the classical one is inverted.": (
            lambda c, q, r: g2(q, c, r).sqrt()
        ),
        "the root is missing: this is g^2.": g2,
        "the Frobenius norm: take the largest eigenvalue (ord=2).": (
            lambda c, q, r: g2(c, q, r, norm="fro").sqrt()
        ),
        "the trace norm: take the largest eigenvalue (ord=2).": (
            lambda c, q, r: g2(c, q, r, norm="nuc").sqrt()
        ),
        "the traces are not scaled: multiply each matrix by n / trace first.": (
            lambda c, q, r: g2(c, q, r, scale=False).sqrt()
        ),
        "not regularised: add lambda to the diagonal of the scaled classical matrix.": (
            lambda c, q, r: g2(c, q, 0.0).sqrt()
        ),
        "one inverse of K_C + lambda: regularised, it is sqrt(K_C) (K_C + lambda)^-2 sqrt(K_C).": (
            usual
        ),
        "the largest row sum: ||.||_inf here is the largest eigenvalue (ord=2).": (
            lambda c, q, r: g2(c, q, r, norm=math.inf).sqrt()
        ),
        "the root of the entries: take the matrix root, by eigenvalues.": (
            lambda c, q, r: other_root(c, q, r, torch.sqrt)
        ),
        "a Cholesky factor is not the symmetric root: sqrt(K) sqrt(K) = K.": (
            lambda c, q, r: other_root(c, q, r, torch.linalg.cholesky)
        ),
        "lambda is added before the scaling: scale the traces first.": (
            lambda c, q, r: g2(c, q, r, damped=scaled(c + r * torch.eye(len(c)))).sqrt()
        ),
        "the traces are scaled to 1: scale both to n.": (
            lambda c, q, r: g2(c / c.trace(), q / q.trace(), r, scale=False).sqrt()
        ),
        "this is the training side, without sqrt(K_C).": lambda c, q, r: (
            geometric_difference(c, q, r).training_error
        ),
    }
    cases = [
        Case(
            f"with {n} samples and lambda = {r}",
            (2 * _controls_kernel(n, 0.6), _controls_kernel(n, 1.3), r),
        )
        for n, r in ((5, 0.1), (8, 0.02))
    ]
    right = "the regularised geometric difference, with both traces scaled to n."
    rule = lambda c, q, r: geometric_difference(c, q, r).value  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


def check_equivalence(f: Function_controls | None) -> Answer:
    """Check ``f(differences, margin)``: (S,), a number -> p of two one-sided t-tests (TOST)."""

    def sides(d: np.ndarray, m: float, **change: Any) -> tuple[float, float]:  # noqa: ANN401
        error = d.std(ddof=change.get("ddof", 1)) / change.get("root", len(d) ** 0.5)
        law = change.get("law", stats.t(len(d) - 1))
        return law.sf((d.mean() + m) / error), law.sf((m - d.mean()) / error)

    mistakes = {
        "the smaller of the two: both tests must reject, so the larger p counts.": (
            lambda d, m: min(sides(d, m))
        ),
        "the two p are added: the larger one counts.": lambda d, m: sum(sides(d, m)),
        "the mean of the two p: the larger one counts.": lambda d, m: sum(sides(d, m)) / 2,
        "S degrees of freedom: one is spent on the mean, S - 1 are left.": (
            lambda d, m: max(sides(d, m, law=stats.t(len(d))))
        ),
        "the wrong tails: small p where the mean lies far inside the margin.": (
            lambda d, m: 1 - max(sides(d, m))
        ),
        "the wrong tails: each test asks whether the mean lies on the margin's inner side.": (
            lambda d, m: 1 - min(sides(d, m))
        ),
        "two-sided tests: each of the two is one-sided.": lambda d, m: 2 * max(sides(d, m)),
        "this is the t-test of 'no difference': its large p proves nothing.": (
            lambda d, m: stats.ttest_1samp(d, 0).pvalue
        ),
        "the normal law is for many seeds: Student's t with S - 1 degrees of freedom.": (
            lambda d, m: max(sides(d, m, law=stats.norm))
        ),
        "the standard deviation divides by S - 1 (ddof=1), not by S.": (
            lambda d, m: max(sides(d, m, ddof=0))
        ),
        "the spread of one seed: the mean's is smaller by the root of S.": (
            lambda d, m: max(sides(d, m, root=1))
        ),
        "the upper side only: test the lower one too, and take the larger p.": (
            lambda d, m: sides(d, m)[1]
        ),
        "the lower side only: test the upper one too, and take the larger p.": (
            lambda d, m: sides(d, m)[0]
        ),
    }
    source = np.random.default_rng(0)
    cases = []
    for seeds, mean, margin in ((5, 0.1, 0.4), (10, -0.2, 0.5), (4, 0.3, 0.35)):
        d = source.normal(0, 0.3, seeds)
        d += mean - d.mean()
        cases.append(Case(f"with {seeds} seeds and a margin of {margin}", (d, margin)))
    right = "the larger p of two one-sided t-tests."
    return mark(f, lambda d, m: max(sides(d, m)), cases, mistakes, right, numbers=True)


def _controls_kernel(n: int, scale: float) -> Tensor:
    """An RBF matrix of normal angles, well conditioned."""
    return torch.exp(-scale * torch.cdist(x := normal(n, 3), x) ** 2)


def _root(k: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(k)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


# ---- language


Function_language = Callable[..., Any]
TEXTS = ("the cat sat\non the mat\n", "na\u00efve caf\u00e9\n", "one\n\ntwo words\nthree  more\n")


def check_perplexity(f: Function_language | None) -> Answer:
    """Check ``f(batches)`` -> perplexity; a list of natural log-probabilities ``(m_i,)``."""

    def means(batches: Sequence[Tensor]) -> Tensor:
        return torch.stack([-log_p.mean() for log_p in batches])

    def nll(batches: Sequence[Tensor]) -> Tensor:
        return -torch.cat(list(batches)).mean()

    mistakes = {
        "this is the mean of -log p: the perplexity is its exp.": nll,
        "these are bits: the logarithms are natural, so take exp, and divide by nothing.": (
            lambda b: nll(b) / math.log(2)
        ),
        "2 to the mean: the logarithms are natural, so exp undoes them.": lambda b: 2 ** nll(b),
        "10 to the mean: the logarithms are natural, so exp undoes them.": lambda b: 10 ** nll(b),
        "the sign is lost: average -log p, so that a perplexity is 1 or more.": (
            lambda b: torch.exp(-nll(b))
        ),
        "a mean over batches: the last one is shorter, so add up over tokens, then divide.": (
            lambda b: torch.exp(means(b).mean())
        ),
        "a mean of the batches' perplexities: average -log p over all tokens, then take exp.": (
            lambda b: torch.exp(means(b)).mean()
        ),
        "a mean of 1 / p: average the logarithms first, then take exp.": (
            lambda b: torch.exp(-torch.cat(list(b))).mean()
        ),
        "1 over the mean probability: average the logarithms first, then take exp.": (
            lambda b: 1 / torch.cat(list(b)).exp().mean()
        ),
        "the first batch only.": lambda b: torch.exp(-b[0].mean()),
        "a sum over all tokens: divide it by their number before exp.": (
            lambda b: torch.exp(-torch.cat(list(b)).sum())
        ),
        "divided by the number of batches: divide by the number of tokens.": (
            lambda b: torch.exp(-torch.cat(list(b)).sum() / len(b))
        ),
        "exp is missing, and this is a mean over batches: average over all tokens.": (
            lambda b: means(b).mean()
        ),
    }
    cases = [
        Case(f"with batches of {sizes}", ([_log_p(m, i) for i, m in enumerate(sizes)],))
        for sizes in ((6, 6, 2), (5, 1), (4, 4))
    ]
    right = "every token counts once, whatever batch it came in."
    rule = lambda b: torch.exp(nll(b))  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


def check_word_perplexity(f: Function_language | None) -> Answer:
    """Check ``f(log_p, text)`` -> perplexity per word; each line has one word more, its end."""

    def per(count: Callable[[str], int]) -> Function_language:
        return lambda log_p, text: torch.exp(-log_p.sum() / count(text))

    def words(text: str) -> int:
        return len(text.split()) + text.count("\n")

    mistakes = {
        "this is per token: the sum is divided by the number of words.": (
            lambda log_p, text: torch.exp(-log_p.mean())
        ),
        "the ends are missing: each line ends, and that is predicted too.": (
            per(lambda text: len(text.split()))
        ),
        "these are spaces: 'a  b' has two words; use text.split().": (
            per(lambda text: len(text.split(" ")) + text.count("\n"))
        ),
        "this is per character.": per(len),
        "per token, times tokens a word: the ratio belongs into the exponent.": (
            lambda log_p, text: torch.exp(-log_p.mean()) * len(log_p) / words(text)
        ),
        "the ratio is upside down: the exponent is multiplied by tokens a word.": (
            lambda log_p, text: torch.exp(-log_p.mean() * words(text) / len(log_p))
        ),
        "the mean over words of -log p: the perplexity is its exp.": (
            lambda log_p, text: -log_p.sum() / words(text)
        ),
        "the sign is lost: average -log p, so that a perplexity is 1 or more.": (
            lambda log_p, text: torch.exp(log_p.sum() / words(text))
        ),
        "2 to the mean: the logarithms are natural, so exp undoes them.": (
            lambda log_p, text: 2 ** (-log_p.sum() / words(text))
        ),
        "one end for the whole text: each line has its own.": per(lambda t: len(t.split()) + 1),
        "one end too many: the last line break ends a line and begins none.": (
            per(lambda text: len(text.split()) + len(text.split("\n")))
        ),
        "this is per byte: the sum is divided by the number of words.": (
            per(lambda text: len(text.encode()))
        ),
        "the mean over tokens, divided once more: divide the sum by the number of words.": (
            lambda log_p, text: torch.exp(-log_p.mean() / words(text))
        ),
    }
    right = "the same sum as per token, over a number that no tokenizer changes."
    return mark(f, per(words), _texts(), mistakes, right, numbers=True)


def check_bits_per_byte(f: Function_language | None) -> Answer:
    """Check ``f(log_p, text)`` -> bits that the model needs for a byte of UTF-8."""

    def bits(log_p: Tensor) -> Tensor:
        return -log_p.sum() / math.log(2)

    mistakes = {
        "these are nats: a bit is a factor of 2, so divide by log 2.": (
            lambda log_p, text: -log_p.sum() / len(text.encode())
        ),
        "multiplied by log 2: divide.": (
            lambda log_p, text: -log_p.sum() * math.log(2) / len(text.encode())
        ),
        "per character: a letter with an accent takes two bytes; use text.encode().": (
            lambda log_p, text: bits(log_p) / len(text)
        ),
        "per token: divide by the number of bytes.": lambda log_p, text: bits(log_p) / len(log_p),
        "this is a perplexity per byte: bits are its logarithm to base 2.": (
            lambda log_p, text: torch.exp(-log_p.sum() / len(text.encode()))
        ),
        "the bits of the whole text: divide by its number of bytes.": (
            lambda log_p, text: bits(log_p)
        ),
        "per word: divide by the number of bytes.": (
            lambda log_p, text: bits(log_p) / len(text.split())
        ),
        "the mean over tokens, divided once more: divide the sum by the number of bytes.": (
            lambda log_p, text: bits(log_p) / len(log_p) / len(text.encode())
        ),
    }
    right = "what an arithmetic coder that trusts the model would write."
    rule = lambda log_p, text: bits(log_p) / len(text.encode())  # noqa: E731
    return mark(f, rule, _texts(), mistakes, right, numbers=True)


def check_mean_tap(f: Function_language | None) -> Answer:
    """Check ``f(hidden, lengths)``: (n, t, d), (n,) -> (n, d), means over the real tokens."""

    def real(hidden: Tensor, lengths: Tensor) -> Tensor:
        return (torch.arange(hidden.shape[1]) < lengths[:, None])[..., None]  # (n, t, 1)

    mistakes = {
        "padding counts: leave out positions from each row's length on.": lambda h, n: h.mean(1),
        "divided by t: each row has its own number of real tokens.": (
            lambda h, n: torch.where(real(h, n), h, 0).mean(1)
        ),
        "these are sums: divide each by its number of real tokens.": (
            lambda h, n: torch.where(real(h, n), h, 0).sum(1)
        ),
        "padding is summed, although you divide by the real tokens.": (
            lambda h, n: h.sum(1) / n[:, None]
        ),
        "this is the last real token alone (the tap 'last').": (
            lambda h, n: h[torch.arange(len(h)), n - 1]
        ),
        "one token too few: the last real one belongs to the mean.": (
            lambda h, n: tap(h, "mean", n - 1)
        ),
        "one token too many: position n, counted from 0, is padding already.": (
            lambda h, n: tap(h, "mean", (n + 1).clamp(max=h.shape[1]))
        ),
        "cut to the shortest: each row has its own number of real tokens.": (
            lambda h, n: h[:, : int(n.min())].mean(1)
        ),
        "padding is at the end: take each row's first tokens, not its last.": (
            lambda h, n: tap(h.flip(1), "mean", n)
        ),
        "one mean over all reviews: give a row each.": (
            lambda h, n: tap(h, "mean", n).mean(0).expand(len(h), -1)
        ),
    }
    cases = [
        Case(f"with lengths {lengths}", (normal(len(lengths), 5, 3), torch.tensor(lengths)))
        for lengths in ([5, 2, 3], [4, 5])
    ]
    right = "real tokens only, each review by its own length; the gradient passes."
    rule = lambda h, n: tap(h, "mean", n)  # noqa: E731
    return mark(f, rule, cases, mistakes, right, learns=[0])


def _log_p(count: int, seed: int = 0) -> Tensor:
    return -0.2 - normal(count, seed=seed).abs()


def _texts() -> list[Case]:
    counts = (11, 5, 9)  # tokens
    return [
        Case(f"for the text {text!r} in {count} tokens", (_log_p(count), text))
        for text, count in zip(TEXTS, counts, strict=True)
    ]
