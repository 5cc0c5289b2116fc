"""Exercises on what QRKD is made of: terms, gradients, own relations, language, controls."""

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
from qrkd_lab.losses import DistillationLoss, Losses, Outputs, relation_loss, term_gradients
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
    normal,
    rbf,
    refuse,
    slope,
)

TOLERANCE = 1e-6
ROUNDING = 1e-10  # of an eigenvalue in doubles
DEGENERATE = "at coincident or zero rows"

# Losses of one batch, in some of which terms lost their gradient on the way.
LOSSES: dict[str, dict[str, Any]] = {
    "in a loss without fault": {},
    "with a detached kernel and no adapter": {"control": "detached", "encoder": "projection"},
    "with a detached kernel whose adapter learns": {"control": "detached"},
    "with distances and angles cut off": {"cut": ("distance", "angle")},
    "with features multiplied by 0": {"times": 0.0},
    "with terms that move the output layer alone": {"outputs_see": Tensor.detach},
    "with outputs that are nearly 0": {"gain": 1e-6},
}


def _silent(losses: Losses, weights: Sequence[Tensor], below: float = 0.0) -> set[str]:
    """Names of the terms whose gradient at the weights is not larger than ``below``."""
    return {n for n, g in term_gradients(losses, weights).items() if g.norm() <= below}


SILENT_MISTAKES: dict[str, Callable[[Losses, list[Tensor]], set[str]]] = {
    "requires_grad alone is fooled: a detached kernel still asks for a gradient, at its adapter. "
    "Take the gradient at the student's weights.":
        lambda losses, _: {n for n, term in losses.terms.items() if not term.requires_grad},
    "a None or 0 is overlooked: in some of these losses a term is silent and you found none. Ask "
    "each term alone; the total has a gradient whatever happens to one of them.":
        lambda losses, _: set(),
    "you named terms that miss *some* weights: relations never reach the output layer. Silent is "
    "None or 0 at *all* weights.":
        lambda losses, weights: {n for weight in weights for n in _silent(losses, [weight])},
    "a small gradient is not none: ask whether it is 0, not whether it is below some number.":
        lambda losses, weights: _silent(losses, weights, below=1e-3),
}  # fmt: skip

TORCH_SAYS = {  # what torch says, and what the reader should know
    "does not require grad": "a term that is cut off has no graph at all: ask term.requires_grad "
    "first, such a term is silent.",
    "not have been used": "a term need not reach every weight (a relation never reaches the "
    "output layer): allow_unused=True gives None there.",
    "second time": "the terms share one graph: retain_graph=True keeps it for the next term.",
}


def check_silent_terms(f: Function | None) -> Answer:
    """Check ``f(losses, weights)`` -> names of the terms without gradient at every weight.

    ``losses`` is what a :class:`~qrkd_lab.losses.DistillationLoss` returns for one batch,
    ``weights`` the student's parameters as a list.
    """

    def judge(f: Function) -> str:
        want = {case: _silent(*_batch(case)) for case in LOSSES}
        found = {case: _names(f, case, want[case]) for case in LOSSES}
        if found == want:
            return "every term is asked alone, at all of the student's weights."
        for hint, mistake in SILENT_MISTAKES.items():
            if found == {case: mistake(*_batch(case)) for case in LOSSES}:
                refuse(hint)
        case = next(case for case in LOSSES if found[case] != want[case])
        terms = _batch(case)[0].terms
        if unknown := found[case] - set(terms):
            listed = ", ".join(sorted(map(str, unknown)))
            refuse(f"there is no term {listed}; the names are {', '.join(terms)}.")
        if missed := want[case] - found[case]:
            refuse(f"{case} you missed {min(missed)}: it moves no weight of the student.")
        wrong = min(found[case] - want[case])
        refuse(f"{case} you named {wrong}, but its gradient is not 0 at every weight.")

    return answered(f, judge, says=TORCH_SAYS)


def _names(f: Function, case: str, want: set[str]) -> set[str]:
    """What the reader's function says of a batch, as a set."""
    losses, weights = _batch(case)
    found = given(f(losses, weights))
    if isinstance(found, str):
        refuse(f"expected a set of names, got the word {found!r}: use {{...}}.")
    try:
        names = set(found)
    except TypeError:
        refuse(f"expected a set of names, got {found!r}.")
    if names != want and any(weight.grad is not None for weight in weights):
        refuse(
            "backward() adds to .grad, so the gradients of earlier terms are still in it: use "
            "torch.autograd.grad, or set .grad to None between terms."
        )
    return names


def _batch(case: str) -> tuple[Losses, list[Tensor]]:
    """A small student, one batch, and the loss of a case; the same numbers each time."""
    options = {"times": 1.0, "gain": 1.0, "encoder": "adapter", "cut": ()} | LOSSES[case]
    hidden, output = nn.Linear(4, 5).double(), nn.Linear(5, 3).double()
    weights = [*hidden.parameters(), *output.parameters()]
    for i, p in enumerate(weights):
        p.data = normal(*p.shape, seed=i)
    features = hidden(normal(8, 4)).tanh()
    logits = options["gain"] * output(options.get("outputs_see", lambda x: x)(features))
    student = Outputs(logits, features * options["times"])
    encoder = Encoder(6, 5, 2, options["encoder"]).double()
    relation = KernelRelation(RBFKernel(), encoder, options.get("control"))
    loss = DistillationLoss(kd=1.0, distance=1.0, angle=1.0, kernel=(relation, 1000.0))
    teacher = Outputs(normal(8, 3, seed=7), normal(8, 6, seed=8))
    targets = torch.arange(8) % 3
    whole = loss(student, teacher, targets).terms
    blind = loss(Outputs(*(x.detach() for x in student)), teacher, targets).terms
    terms = {name: (blind if name in options["cut"] else whole)[name] for name in whole}
    total = sum(({"task": 1.0} | loss.weights)[name] * term for name, term in terms.items())
    return Losses(total, terms), weights


def check_own_relation(f: Function | None) -> Answer:
    """Check ``f(x)``: features (n, d) -> a relation (n, n), whatever it measures.

    Asked: the same numbers each time, symmetric, the same for samples in another order, telling
    samples apart, finite at coincident and zero rows, and a gradient that is finite and bounded
    there; a relational loss of equal features is then 0, and moves the student elsewhere.
    """

    def judge(f: Function) -> str:
        for n, d in ((6, 3), (5, 8)):
            x, where = normal(n, d), f"for {n} samples of {d} features"
            R = _matrix(f(x.clone()), (n, n), where)
            if not _close(R, f(x.clone())):
                refuse("two calls with the same features give different numbers: fix the seed.")
            if not _close(R, R.T):
                refuse("not symmetric: [i, j] and [j, i] must say the same; average the two.")
            order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
            if not _close(f(x[order]), R[order][:, order]):
                refuse(
                    "samples in another order give other numbers, not the same ones in that order: "
                    "an entry must depend on the two samples (and the batch as a whole), not on "
                    "the row."
                )
            off = R[~torch.eye(n, dtype=torch.bool)]
            if (off - off[0]).abs().max() < TOLERANCE:
                refuse("all pairs get the same number: such a relation tells no samples apart.")
        _learnable(lambda s: relation_loss(f(s), f(normal(6, 4, seed=1))), normal(6, 3))
        x = coincident(6, 3)
        _matrix(f(x.clone()), (6, 6), DEGENERATE)
        bounded(slope(lambda s: (f(s) * normal(6, 6, seed=3)).sum(), x), DEGENERATE)
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
            if callable(kernel) and not isinstance(kernel, type):
                _matrix(kernel(normal(3, 4)), (3, 3), "for 3 samples")  # not even begun?
            got = getattr(kernel, "__name__", repr(kernel))
            refuse(
                f"expected a Kernel, e.g. MyKernel(), got {got}: derive your class from "
                "qrkd_lab.kernels.Kernel, and give an object of it."
            )
        q = kernel.features or getattr(kernel, "qubits", 4)
        for n, seed in ((6, 0), (9, 1)):
            x, y = 0.7 * normal(n, q, seed=seed), 0.7 * normal(5, q, seed=seed + 5)
            K = _matrix(kernel(x), (n, n), f"for {n} samples")
            if not _close(K, K.T):
                refuse("not symmetric: k(x, y) = k(y, x) is what makes it a kernel.")
            if not _close(K.diagonal(), torch.ones(n)):
                at = K.diagonal()[(K.diagonal() - 1).abs().argmax()]
                refuse(f"the diagonal is not 1 but e.g. {at:.3g}: divide by sqrt(k(x, x) k(y, y)).")
            across = _matrix(kernel(x, y), (n, 5), "for k(x, y)")
            if not _close(kernel(torch.cat([x, y]))[:n, n:], across):
                refuse("k(x, y) is not the block of k on all samples: does an entry see the batch?")
        K = kernel(normal(40, q, seed=4)).detach()
        smallest = torch.linalg.eigvalsh(K)[0].item()
        if smallest < -(ROUNDING if K.dtype == torch.float64 else TOLERANCE) * len(K):
            refuse(
                f"not positive semi-definite: an eigenvalue of {smallest:.2g} on 40 samples; "
                "symmetric likenesses are not enough. Sums and products of kernels, and inner "
                "products of embeddings, are always safe."
            )
        if (K - K.mean()).abs().max() < TOLERANCE:
            refuse("all pairs get the same number: such a kernel tells no samples apart.")
        for x in (normal(6, q), coincident(6, q)):
            _learnable(lambda s: (kernel(s) * normal(6, 6, seed=3)).sum(), x)
        named = {part.name for part in fields(kernel)} if is_dataclass(kernel) else set()
        x = normal(6, q)
        if "bandwidth" not in named and not _close(kernel(x), kernel(2 * x)):
            refuse(
                "bandwidth must be a field: @dataclass(frozen=True) and bandwidth: float = 1.0, or "
                "it cannot be calibrated."
            )
        KernelRelation(kernel, Encoder(q + 2, q + 3, q))  # hashable, a Kernel, q angles
        return "a kernel: symmetric, positive semi-definite, 1 on the diagonal, and differentiable."

    return answered(kernel, judge, function=False)


def _matrix(value: Any, shape: tuple[int, int], where: str) -> Tensor:  # noqa: ANN401
    if not isinstance(given(value), Tensor):
        refuse(f"expected a torch tensor, got {type(value).__name__}.")
    if value.shape != shape:
        refuse(f"wrong shape {where}: expected {shape}, got {tuple(value.shape)}.")
    if not value.isfinite().all():
        refuse(f"not finite {where}: 0/0, log 0, or a number too large for exp?")
    return value.detach()


def _learnable(of: Callable[[Tensor], Tensor], x: Tensor) -> None:
    gradient = slope(of, x)
    bounded(gradient, DEGENERATE)
    if not gradient.any():
        refuse("the gradient is 0 everywhere: rounding, ranking or a clamp?")


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
        "a sign is missing: H = -sum p log p.": lambda k: (-entropy(k)).exp(),
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
        "the root is missing: this is g^2.": lambda c, q, r: g(c, q, r) ** 2,
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
        "a mean of the batches' perplexities: average -log p over all tokens, then take exp.":
            lambda b: torch.stack([torch.exp(-x.mean()) for x in b]).mean(),
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
        "the mean over words of -log p: the perplexity is its exp.":
            lambda log_p, text: -log_p.sum() / words(text),
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
        "the bits of the whole text: divide by its number of bytes.": lambda p, text: bits(p),
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
        "padding is summed, although you divide by the real tokens.":
            lambda h, n: h.sum(1) / n[:, None],
        "this is the last real token alone (the tap 'last').": lambda h, n: tap(h, "last", n),
    }  # fmt: skip
    cases = [
        Case(f"with lengths {lengths}", (normal(len(lengths), 5, 3), torch.tensor(lengths)))
        for lengths in ([5, 2, 3], [4, 5])
    ]
    right = "real tokens only, each review by its own length; the gradient passes."
    return mark(f, mean, cases, mistakes, right, learns=[0])


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
