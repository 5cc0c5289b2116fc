"""Exercises on relations and losses: distances, angles, and what compares them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qrkd_lab import losses
from qrkd_lab.relations import pairwise_distances, triplet_angles
from qrkd_lab.teaching.exercises.checker import Answer, Case, Function, coincident, mark, normal

FEATURES = [
    Case("with 5 samples of 3 features", (normal(5, 3),)),
    Case("with 2 samples of 4 features", (normal(2, 4),)),
    Case("with coincident rows", (coincident(6, 3),), smooth=False),
]


def check_pairwise_distances(f: Function | None, gradient: bool = True) -> Answer:
    """Check ``f(x)``: (n, d) -> (n, n); ``gradient=False`` asks for the values only."""
    mistakes = {
        "these are squared distances: take the root.": lambda x: torch.cdist(x, x) ** 2,
        "these are sums of absolute differences: square, sum, take the root.":
            lambda x: torch.cdist(x, x, p=1),
        "divided by the mean: that belongs to the loss, the relation keeps its unit.":
            losses.normalised_distances,
    }  # fmt: skip
    right = "distances, with a zero diagonal, and a gradient that stays finite at coincident rows."
    return mark(f, pairwise_distances, FEATURES, mistakes, right, gradient)


def check_triplet_angles(f: Function | None, gradient: bool = True) -> Answer:
    """Check ``f(x)``: (n, d) -> (n, n, n), [j, i, k] the cosine at x_j, 0 where undefined."""

    def products(x: Tensor) -> Tensor:
        e = x[None] - x[:, None]  # [j, i] = x_i - x_j
        return torch.einsum("jid,jkd->jik", e, e)

    mistakes = {
        "the angle sits at the wrong vertex: [j, i, k] is the angle at x_j, the first index; yours "
        "is at the second.": lambda x: triplet_angles(x).permute(1, 0, 2),
        "this is the angle itself: give its cosine, without arccos.":
            lambda x: triplet_angles(x).clamp(-1, 1).arccos(),
        "inner products without normalisation: divide by both lengths.": products,
    }  # fmt: skip
    right = "cosines at the first index, 0 where undefined."
    return mark(f, triplet_angles, FEATURES, mistakes, right, gradient)


def check_kd_loss(f: Function | None) -> Answer:
    """Check ``f(student_logits, teacher_logits, temperature)`` -> scalar; see ``ql.kd_loss``."""

    def kl(s: Tensor, t: Tensor, T: float) -> Tensor:
        log_p, log_q = F.log_softmax(t / T, 1), F.log_softmax(s / T, 1)
        return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")

    def by_logarithms(s: Tensor, t: Tensor, T: float) -> Tensor:
        p, q = (t / T).softmax(1), (s / T).softmax(1)
        return T**2 * (p * (p.log() - q.log())).sum(1).mean()

    mistakes = {
        "the factor T^2 is missing.": kl,
        "KL the wrong way round: the teacher's probabilities weigh the logarithms.":
            lambda s, t, T: T**2 * kl(t, s, T),
        "mean over samples and classes: sum over the classes, average over samples only.":
            lambda s, t, T: T**2 * kl(s, t, T) / s.shape[1],
        "right until a probability is rounded to 0: 0 * log 0 is nan, and a tiny number added to p "
        "changes the loss. Use log_softmax, not the log of softmax.": by_logarithms,
    }  # fmt: skip
    cases = [
        Case(f"at T = {T} with {n} samples", (normal(n, c), normal(n, c, seed=1), T))
        for T, n, c in ((4.0, 5, 3), (1.0, 2, 4), (2.0, 7, 10))
    ]
    # Not smooth, as the hint for log 0 needs: the mistake has no gradient there.
    large = (800 * normal(3, 3), 800 * normal(3, 3, seed=1), 1.0)
    cases.append(Case("with logits of several hundreds", large, smooth=False))
    right = "Hinton's loss, with its T^2, and no gradient reaches the teacher."
    return mark(f, losses.kd_loss, cases, mistakes, right, gradient=True)


def check_distance_loss(f: Function | None) -> Answer:
    """Check ``f(student, teacher)`` -> scalar; see ``ql.distance_loss``."""
    D = pairwise_distances
    mistakes = {
        "the distances are not normalised: divide each side by its own mean distance.":
            lambda s, t: losses.relation_loss(D(s), D(t)),
        "the mean distance counts the n zeros of the diagonal: divide by n(n-1), not n^2.":
            lambda s, t: losses.relation_loss(D(s) / D(s).mean(), D(t) / D(t).mean()),
        **_wrong_means(losses.normalised_distances),
    }  # fmt: skip
    cases = [
        Case("with 5 samples", (3 * normal(5, 3), normal(5, 4, seed=1) ** 3)),
        Case("with 8 samples", (3 * normal(8, 3), normal(8, 4, seed=1) ** 3)),
        Case("with coincident rows", (coincident(6, 3), normal(6, 2)), smooth=False),
    ]
    right = "distances up to scale, averaged over different samples; the student feels it, the "
    right += "teacher not."
    return mark(f, losses.distance_loss, cases, mistakes, right, gradient=True)


def check_kernel_loss(f: Function | None) -> Answer:
    """Check ``f(student, teacher, kernel)`` -> scalar; ``kernel`` is a function of (n, q)."""

    def kernel(x: Tensor, y: Tensor | None = None) -> Tensor:
        return ((x[:, None] - (x if y is None else y)) / 2).cos().square().prod(-1)  # angle map

    mistakes = {
        "the kernel between student and teacher: compare each one's own matrix.":
            lambda s, t, k: losses.relation_loss(k(s, t), torch.ones(len(s), len(s)).double()),
        "this is a distance of whole matrices (a norm): average over pairs.":
            lambda s, t, k: torch.linalg.norm(k(s) - k(t)),
        **_wrong_means(kernel),
    }  # fmt: skip
    cases = [
        Case(f"with {n} samples", (normal(n, 3), normal(n, 3, seed=1), kernel)) for n in (5, 2, 7)
    ]
    right = "kernel matrices compared over different samples; the student feels it."
    return mark(f, losses.kernel_loss, cases, mistakes, right, gradient=True)


def _wrong_means(relation: Function) -> dict[str, Function]:
    """What goes wrong after the relation is right: the mean of Huber's h."""

    def total(s: Tensor, t: Tensor) -> Tensor:
        return F.smooth_l1_loss(relation(s), relation(t), reduction="sum")  # the diagonal gives 0

    return {
        "the mean counts entries that compare a sample with itself: divide by n(n-1), not by n^2.":
            lambda s, t, *_: total(s, t) / len(s) ** 2,
        "this is the sum: divide by n(n-1).": lambda s, t, *_: total(s, t),
    }  # fmt: skip
