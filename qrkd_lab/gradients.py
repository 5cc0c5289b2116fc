"""Gradients term by term: does each term of a loss reach the student, and how hard does it pull?

A check of the total would miss a term without gradient, as the others move the student anyway. So
every term is asked alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from qrkd_lab.objective import Losses, TeacherBatch

if TYPE_CHECKING:
    from qrkd_lab.benchmarks import Benchmark
    from qrkd_lab.learner import Learner

__all__ = ["gradient_rows", "term_gradients"]


def term_gradients(losses: Losses, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
    r"""The gradient of each unweighted term alone, all leaves in one vector.

    .. math:: g_{term} = \nabla_\theta L_{term}

    Args:
        losses: of one batch, from :class:`~qrkd_lab.objective.DistillationLoss`; its graph is kept.
        leaves: what to differentiate by, e.g. ``list(student.parameters())``.

    Returns:
        Name to a vector ``(m,)``, m numbers in all leaves together; zeros where no path leads from
        a term to a leaf.

    Raises:
        ValueError: no leaf, or one that asks for no gradient.

    Example:
        >>> w = torch.tensor([3.0], requires_grad=True)
        >>> losses = Losses(w.sum(), {"task": (w**2).sum(), "kernel": (w.detach() ** 2).sum()})
        >>> term_gradients(losses, [w])
        {'task': tensor([6.]), 'kernel': tensor([0.])}
    """
    leaves = list(leaves)
    if not leaves or not all(leaf.requires_grad for leaf in leaves):
        raise ValueError(
            "leaves: expected tensors that ask for a gradient, e.g. list(student.parameters())"
        )
    found = {}
    for name, term in losses.terms.items():
        parts: Sequence[Tensor | None] = [None] * len(leaves)
        if term.requires_grad:  # else autograd refuses, although the answer is simply: none
            parts = torch.autograd.grad(term, leaves, retain_graph=True, allow_unused=True)
        known = [
            torch.zeros_like(x) if g is None else g for x, g in zip(leaves, parts, strict=True)
        ]
        found[name] = torch.cat([part.flatten() for part in known])
    return found


def gradient_rows(
    benchmark: Benchmark, learner: Learner, teacher: nn.Module, epoch: int, batches: int = 4
) -> Iterator[dict[str, float | int | str]]:
    """Size and direction of each term's gradient at the student's weights, a row a batch and term.

    Nothing is trained and no ``.grad`` is touched, so it may be called between epochs of
    :func:`~qrkd_lab.distill.train`. The batches are the first of the run's own first epoch.

    Yields:
        ``epoch``, ``batch``, ``term``; ``norm``: length of the unweighted term's gradient;
        ``weighted``: times the term's weight (1 for the task); ``cosine``: with the task's gradient
        (NaN where one of the two is 0).
    """
    settings = learner.settings
    weights = {"task": 1.0, **learner.loss.weights}
    chosen = islice(benchmark.batches(settings.seed, 1, settings.batch_size), batches)
    for batch, (inputs, targets) in enumerate(chosen):
        with torch.no_grad():
            taught = TeacherBatch(benchmark.outputs(teacher, inputs))
        losses = learner.loss(benchmark.outputs(learner.model, inputs), taught, targets)
        pulls = term_gradients(losses, list(learner.model.parameters()))
        task = pulls["task"]
        for term, pull in pulls.items():
            norm = pull.norm().item()
            lengths = norm * task.norm().item()
            yield {
                "epoch": epoch, "batch": batch, "term": term, "norm": norm,
                "weighted": weights[term] * norm,
                "cosine": (pull @ task).item() / lengths if lengths > 0 else float("nan"),
            }  # fmt: skip
