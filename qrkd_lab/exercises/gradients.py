"""Exercises on gradients: which terms of a loss do not reach the student?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer
from qrkd_lab.gradients import term_gradients
from qrkd_lab.kernels import Encoder, KernelRelation, RBFKernel
from qrkd_lab.objective import DistillationLoss, Losses, Outputs

__all__ = ["check_silent_terms"]

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

    ``losses`` is what a :class:`~qrkd_lab.objective.DistillationLoss` returns for one batch,
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
