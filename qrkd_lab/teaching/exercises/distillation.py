"""Exercises on what QRKD is made of: terms, a training step, own relations, language, controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.kernels.analysis import effective_rank, geometric_difference
from qrkd_lab.kernels.classical import Kernel, RBFKernel
from qrkd_lab.kernels.encoders import Encoder, KernelRelation
from qrkd_lab.losses import (
    DistillationLoss,
    Losses,
    Outputs,
    TeacherBatch,
    relation_loss,
    term_gradients,
)
from qrkd_lab.models.gpt2 import tap
from qrkd_lab.teaching.exercises.checker import (
    Answer,
    Case,
    Function,
    answered,
    bounded,
    coincident,
    given,
    mark,
    need,
    normal,
    rbf,
)

TOLERANCE = 1e-6
ROUNDING = 1e-10  # of an eigenvalue in doubles
DEGENERATE = "at coincident or zero rows"


class Net(nn.Module):
    """Inputs ``(n, 4)`` -> :class:`~qrkd_lab.losses.Outputs`; the same weights each time."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(4, width).double(), nn.Linear(width, 3).double()
        for i, p in enumerate(self.parameters()):
            p.data = normal(*p.shape, seed=seed + i)
        self.with_graph = False

    def forward(self, inputs: Tensor) -> Outputs:
        self.with_graph |= torch.is_grad_enabled()
        features = self.hidden(inputs).tanh()
        return Outputs(self.output(features), features)


# Losses of one batch, in some of which terms lost their gradient on the way.
LOSSES: dict[str, dict[str, Any]] = {
    "in a loss without fault": {},
    "with a detached kernel and no adapter": {"control": "detached", "encoder": "projection"},
    "with a detached kernel whose adapter learns": {"control": "detached"},
    "with distances and angles cut off": {"cut": ("distance", "angle")},
    "with features multiplied by 0": {"times": 0.0},
    "with outputs that are nearly 0": {"gain": 1e-6},
}
TERMS = ("task", "kd", "distance", "angle", "kernel")


def _batch(
    times: float = 1.0, gain: float = 1.0, encoder: str = "adapter", cut: Sequence[str] = (),
    control: str | None = None,
) -> tuple[Losses, list[Tensor]]:  # fmt: skip
    """The loss of one batch and the student's weights; the same numbers each time."""
    net = Net(5, 0)
    logits, features = net(normal(8, 4))
    student = Outputs(gain * logits, features * times)
    relation = KernelRelation(RBFKernel(), Encoder(6, 5, 2, encoder).double(), control)
    loss = DistillationLoss(kd=1.0, distance=1.0, angle=1.0, kernel=(relation, 1000.0))
    taught = Outputs(normal(8, 3, seed=7), normal(8, 6, seed=8))
    terms = loss(student, taught, torch.arange(8) % 3).terms
    terms = {name: term.detach() if name in cut else term for name, term in terms.items()}
    total = sum(({"task": 1.0} | loss.weights)[name] * term for name, term in terms.items())
    return Losses(total, terms), list(net.parameters())


def _silent(losses: Losses, weights: Sequence[Tensor], below: float = 0.0) -> set[str]:
    """Names of the terms whose gradient at the weights is not larger than ``below``."""
    return {n for n, g in term_gradients(losses, weights).items() if g.norm() <= below}


def check_silent_terms(f: Function | None) -> Answer:
    """Check ``f(losses, weights)`` -> names of the terms without gradient at every weight.

    ``losses`` is what a :class:`~qrkd_lab.losses.DistillationLoss` returns for one batch,
    ``weights`` the student's parameters as a list.
    """

    def named(f: Function, case: str) -> list[bool]:
        names = given(f(*_batch(**LOSSES[case])))
        listed = isinstance(names, (set, frozenset, list, tuple))
        need(listed, f"expected a set of names, got {names!r:.40}: use {{...}}.")
        return [term in names for term in TERMS]

    mistakes = {
        "requires_grad alone is fooled: a detached kernel still asks for a gradient, at its "
        "adapter. Take the gradient at the student's weights.":
            lambda losses, _: {n for n, term in losses.terms.items() if not term.requires_grad},
        "a None or 0 is overlooked: in some of these losses a term is silent and you found none. "
        "Ask each alone, by torch.autograd.grad: backward() adds to what is in .grad already.":
            lambda losses, _: set(),
        "you named terms that miss *some* weights: relations never reach the output layer. Silent "
        "is None or 0 at *all* weights.":
            lambda losses, weights: {n for weight in weights for n in _silent(losses, [weight])},
        "a small gradient is not none: ask whether it is 0, not whether it is below some number.":
            lambda losses, weights: _silent(losses, weights, below=1e-3),
    }  # fmt: skip
    order = f"(asked for each of {', '.join(TERMS)})"
    cases = [Case(f"{case} {order}", (case,)) for case in LOSSES]
    right = "every term is asked alone, at all of the student's weights."
    return mark(f, _silent, cases, mistakes, right, call=named)


def right_step(
    student: nn.Module,
    teacher: nn.Module,
    loss: DistillationLoss,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    zero: bool = True,
    move: bool = True,
    graph: bool = False,
    of: Callable[[Losses], Tensor] = lambda losses: losses.total,
) -> Tensor:
    """One step as the exercise wants it; the last four make the typical mistakes."""
    with torch.set_grad_enabled(graph):
        taught = TeacherBatch(teacher(inputs))
    total = of(loss(student(inputs), taught, targets))
    if zero:
        optimizer.zero_grad()
    total.backward()
    if move:
        optimizer.step()
    return total.detach()


def check_training_step(f: Function | None) -> Answer:
    """Check ``f(student, teacher, loss, optimizer, inputs, targets)`` -> the total loss.

    ``student(inputs)`` and ``teacher(inputs)`` give :class:`~qrkd_lab.losses.Outputs`;
    ``loss(said, taught, targets)`` gives ``total, terms``. Each call is one step of the optimiser,
    for the student and the loss's adapter.
    """

    def trained(f: Function, steps: int) -> Tensor:
        student, teacher = Net(5, 0), Net(6, 10)
        relation = KernelRelation(RBFKernel(), Encoder(6, 5, 2).double())
        loss = DistillationLoss(kd=0.5, distance=1.0, angle=2.0, kernel=(relation, 3.0))
        parameters = [*student.parameters(), *loss.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.05)  # Adam would hide a factor before the loss
        totals = []
        for step in range(steps):
            inputs, targets = normal(8, 4, seed=20 + step), torch.arange(8) % 3
            total = given(f(student, teacher, loss, optimizer, inputs, targets))
            totals.append(float(torch.as_tensor(total).detach()))
        weights = [p.detach().flatten() for p in parameters]
        return torch.cat([*weights, torch.tensor([*totals, teacher.with_graph])])

    mistakes = {
        "no weight has moved: total.backward(), then optimizer.step().":
            lambda *args: right_step(*args, move=False),
        "the gradients of earlier batches are still there: call optimizer.zero_grad() in each "
        "step.":
            lambda *args: right_step(*args, zero=False),
        "the terms are added without their weights: use the total that the loss returns.":
            lambda *args: right_step(*args, of=lambda losses: sum(losses.terms.values())),
        "only the task is learnt: use the total, not the term of the task alone.":
            lambda *args: right_step(*args, of=lambda losses: losses.terms["task"]),
        "the teacher builds a graph that nobody needs: ask it under torch.no_grad().":
            lambda *args: right_step(*args, graph=True),
    }  # fmt: skip
    cases = [Case("after 3 steps (first the weights, then the totals)", (3,))]
    right = "after 3 steps student and adapter have the right weights."
    return mark(f, right_step, cases, mistakes, right, call=trained)


def check_own_relation(f: Function | None) -> Answer:
    """Check ``f(x)``: features (n, d) -> a relation (n, n), whatever it measures.

    Asked: the same numbers each time, symmetric, the same for samples in another order, telling
    samples apart, finite at coincident and zero rows, and a gradient that is finite and bounded
    there; a relational loss of equal features is then 0, and moves the student elsewhere.
    """

    def judge(f: Function) -> str:
        for n, d in ((6, 3), (5, 8)):
            x = normal(n, d)
            R = _matrix(f(x.clone()), (n, n), f"for {n} samples of {d} features")
            same = _close(R, f(x.clone()))
            need(same, "two calls with the same features give different numbers: fix the seed.")
            need(
                _close(R, R.T), "not symmetric: [i, j] and [j, i] must say the same; average them."
            )
            order = torch.arange(n).roll(1)
            need(
                _close(f(x[order]), R[order][:, order]),
                "samples in another order give other numbers, not the same ones in that order: an "
                "entry must depend on the two samples (and the batch as a whole), not on the row.",
            )
            off = R[~torch.eye(n, dtype=torch.bool)]
            need(off.std() > TOLERANCE, "all pairs get the same number: it tells no samples apart.")
        _learnable(lambda s: relation_loss(f(s), f(normal(6, 4, seed=1))), normal(6, 3))
        _matrix(f(coincident(6, 3)), (6, 6), DEGENERATE)
        _learnable(lambda s: (f(s) * normal(6, 6, seed=3)).sum(), coincident(6, 3))
        return "symmetric, in the order of the samples, finite, and a student can learn from it."

    return answered(f, judge)


def check_own_kernel(kernel: Kernel | None) -> Answer:
    """Check a :class:`~qrkd_lab.kernels.classical.Kernel` of your own, e.g. ``MyKernel()``.

    Asked: symmetric, positive semi-definite, 1 on the diagonal; ``k(x, y)`` that agrees with
    ``k(x)``; a gradient that is finite and bounded, at coincident rows too; and that a
    ``KernelRelation`` takes it.
    """

    def judge(kernel: Kernel) -> str:
        if not isinstance(kernel, Kernel):
            given(kernel(normal(3, 4)))  # not even begun?
        need(
            isinstance(kernel, Kernel),
            "expected a Kernel, e.g. MyKernel(): derive your class from qrkd_lab.kernels.Kernel, "
            "and give an object of it.",
        )
        q, n = kernel.features or getattr(kernel, "qubits", 4), 6
        x, y = 0.7 * normal(n, q), 0.7 * normal(5, q, seed=5)
        K, across = (
            _matrix(kernel(x), (n, n), "for k(x)"),
            _matrix(kernel(x, y), (n, 5), "for k(x, y)"),
        )
        need(_close(K, K.T), "not symmetric: k(x, y) = k(y, x) is what makes it a kernel.")
        need(
            _close(K.diagonal(), torch.ones(n)),
            f"the diagonal is not 1 but e.g. {K[0, 0]:.3g}: divide by sqrt(k(x, x) k(y, y)).",
        )
        need(
            _close(kernel(torch.cat([x, y]))[:n, n:], across),
            "k(x, y) is not the block of k on all samples: does an entry see the batch?",
        )
        K = kernel(normal(40, q, seed=4)).detach()
        least = torch.linalg.eigvalsh(K)[0].item()
        need(
            least > -(ROUNDING if K.dtype == torch.float64 else TOLERANCE) * len(K),
            f"not positive semi-definite: an eigenvalue of {least:.2g} on 40 samples; symmetric "
            "values are not enough. Sums and products of kernels, and inner products of "
            "embeddings, are always safe.",
        )
        need(
            (K - K.mean()).abs().max() > TOLERANCE,
            "all pairs get the same number: it tells no samples apart.",
        )
        for x in (normal(6, q), coincident(6, q)):
            _learnable(lambda s: (kernel(s) * normal(6, 6, seed=3)).sum(), x)
        named = {part.name for part in fields(kernel)} if is_dataclass(kernel) else set()
        need(
            "bandwidth" in named or _close(kernel(x), kernel(2 * x)),
            "bandwidth must be a field: @dataclass(frozen=True) and bandwidth: float = 1.0, or it "
            "cannot be calibrated.",
        )
        KernelRelation(kernel, Encoder(q + 2, q + 3, q))  # hashable, a Kernel, q angles
        return "a kernel: symmetric, positive semi-definite, 1 on the diagonal, and differentiable."

    return answered(kernel, judge)


def _matrix(value: Any, shape: tuple[int, int], where: str) -> Tensor:  # noqa: ANN401
    need(isinstance(given(value), Tensor), f"expected a torch tensor, got {value!r:.40}.")
    shapes = f"expected {shape}, got {tuple(value.shape)}"
    need(value.shape == shape, f"wrong shape {where}: {shapes}.")
    need(value.isfinite().all(), f"not finite {where}: 0/0, log 0, or a number too large for exp?")
    return value.detach()


def _learnable(of: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Refuse a scalar function of features whose gradient is not there, finite and bounded."""
    value = of(x.requires_grad_())
    need(value.requires_grad, "no gradient reaches the features: .detach(), .item(), .numpy()?")
    (gradient,) = torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True)
    bounded(gradient, DEGENERATE)
    need(gradient.any(), "the gradient is 0 everywhere: rounding, ranking or a clamp?")


def _close(a: Tensor, b: Tensor) -> bool:
    a, b = a.detach().double(), b.detach().double()
    return a.shape == b.shape and torch.allclose(a, b, 1e-4, TOLERANCE)


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

    def g(c: Tensor, q: Tensor, r: float, scale: bool = True) -> Tensor:
        c, q = (k * (len(k) / k.trace()) if scale else k for k in (c, q))
        inverse = torch.linalg.inv(c + r * torch.eye(len(c)))
        return torch.linalg.matrix_norm(root(q) @ inverse @ c @ inverse @ root(q), ord=2).sqrt()

    mistakes = {
        "the two kernels are swapped: the classical one is inverted.": lambda c, q, r: g(q, c, r),
        "the traces are not scaled: multiply each matrix by n / trace first.":
            lambda c, q, r: g(c, q, r, scale=False),
        "not regularised: add lambda to the diagonal of the scaled classical matrix.":
            lambda c, q, r: g(c, q, 0.0),
    }  # fmt: skip
    cases = [
        Case(f"with {n} samples and lambda = {r}", (2 * rbf(n, 0.6, 3), rbf(n, 1.3, 3), r))
        for n, r in ((5, 0.1), (8, 0.02))
    ]
    right = "the regularised geometric difference, with both traces scaled to n."
    return mark(f, lambda c, q, r: geometric_difference(c, q, r).value, cases, mistakes, right)


def check_perplexity(f: Function | None) -> Answer:
    """Check ``f(batches)`` -> perplexity; a list of natural log-probabilities ``(m_i,)``."""

    def nll(batches: Sequence[Tensor]) -> Tensor:
        return -torch.cat(list(batches)).mean()

    mistakes = {
        "this is the mean of -log p: the perplexity is its exp.": nll,
        "2 to the mean: the logarithms are natural, so exp undoes them.": lambda b: 2 ** nll(b),
        "a mean over batches: the last one is shorter, so add up over tokens, then divide.":
            lambda b: torch.stack([-x.mean() for x in b]).mean().exp(),
    }  # fmt: skip
    cases = [
        Case(f"with batches of {sizes}", ([_log_p(m, i) for i, m in enumerate(sizes)],))
        for sizes in ((6, 6, 2), (5, 1), (4, 4))
    ]
    right = "every token counts once, whatever batch it came in."
    return mark(f, lambda b: torch.exp(nll(b)), cases, mistakes, right)


def check_word_perplexity(f: Function | None) -> Answer:
    """Check ``f(log_p, text)`` -> perplexity per word; each line has one word more, its end."""

    def words(text: str) -> int:
        return len(text.split()) + text.count("\n")

    mistakes = {
        "this is per token: the sum is divided by the number of words.":
            lambda log_p, text: torch.exp(-log_p.mean()),
        "the ends are missing: each line ends, and that is predicted too.":
            lambda log_p, text: torch.exp(-log_p.sum() / len(text.split())),
        "these are spaces: 'a  b' has two words; use text.split().":
            lambda log_p, text: torch.exp(-log_p.sum() / (text.count(" ") + 1 + text.count("\n"))),
    }  # fmt: skip
    right = "the same sum as per token, over a number that no tokenizer changes."
    rule = lambda log_p, text: torch.exp(-log_p.sum() / words(text))  # noqa: E731
    return mark(f, rule, _texts(), mistakes, right)


def check_bits_per_byte(f: Function | None) -> Answer:
    """Check ``f(log_p, text)`` -> bits that the model needs for a byte of UTF-8."""

    def bits(log_p: Tensor) -> Tensor:
        return -log_p.sum() / math.log(2)

    mistakes = {
        "these are nats: a bit is a factor of 2, so divide by log 2.":
            lambda log_p, text: -log_p.sum() / len(text.encode()),
        "per character: a letter with an accent takes two bytes; use text.encode().":
            lambda log_p, text: bits(log_p) / len(text),
        "per token: divide by the number of bytes.": lambda log_p, text: bits(log_p) / len(log_p),
    }  # fmt: skip
    right = "what an arithmetic coder that trusts the model would write."
    rule = lambda log_p, text: bits(log_p) / len(text.encode())  # noqa: E731
    return mark(f, rule, _texts(), mistakes, right)


def check_mean_tap(f: Function | None) -> Answer:
    """Check ``f(hidden, lengths)``: (n, t, d), (n,) -> (n, d), means over the real tokens."""

    def mean(h: Tensor, lengths: Tensor) -> Tensor:
        return tap(h, "mean", lengths)

    mistakes = {
        "padding counts: leave out positions from each row's length on.": lambda h, n: h.mean(1),
        "these are sums: divide each by its number of real tokens.":
            lambda h, n: mean(h, n) * n[:, None],
        "this is the last real token alone (the tap 'last').": lambda h, n: tap(h, "last", n),
    }  # fmt: skip
    cases = [
        Case(f"with lengths {lengths}", (normal(len(lengths), 5, 3), torch.tensor(lengths)))
        for lengths in ([5, 2, 3], [4, 5])
    ]
    right = "real tokens only, each review by its own length; the gradient passes."
    return mark(f, mean, cases, mistakes, right, gradient=True)


def _log_p(count: int, seed: int = 0) -> Tensor:
    return -0.2 - normal(count, seed=seed).abs()


def _texts() -> list[Case]:
    texts = {
        "the cat sat\non the mat\n": 11,
        "na\u00efve caf\u00e9\n": 5,
        "one\n\ntwo words\nthree  more\n": 9,
    }
    return [
        Case(f"for the text {text!r} in {tokens} tokens", (_log_p(tokens), text))
        for text, tokens in texts.items()
    ]
