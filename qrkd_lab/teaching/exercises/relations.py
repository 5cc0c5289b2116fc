"""Exercises on relations: distances and angles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qrkd_lab import losses, relations
from qrkd_lab.teaching.exercises.checker import Answer, Case, coincident, mark, normal

__all__ = [
    "check_angle_loss",
    "check_distance_loss",
    "check_kd_loss",
    "check_kernel_loss",
    "check_pairwise_distances",
    "check_triplet_angles",
]


Function = Callable[..., Any]


def check_pairwise_distances(f: Function | None, gradient: bool = True) -> Answer:
    """Check ``f(x)``: (n, d) -> (n, n); ``gradient=False`` asks for the values only."""
    mistakes = {
        "these are squared distances: take the root.": lambda x: torch.cdist(x, x) ** 2,
        "these are sums of absolute differences: square, sum, take the root.": (
            lambda x: torch.cdist(x, x, p=1)
        ),
        "the largest difference only: square, sum over features, take the root.": (
            lambda x: torch.cdist(x, x, p=math.inf)
        ),
        "averaged over the d features: the sum of squares goes under the root.": (
            lambda x: torch.cdist(x, x) / x.shape[1] ** 0.5
        ),
        "only the triangle above the diagonal is filled: D is symmetric.": (
            lambda x: torch.cdist(x, x).triu()
        ),
        "only the triangle below the diagonal is filled: D is symmetric.": (
            lambda x: torch.cdist(x, x).tril()
        ),
        "divided by the mean: that belongs to the loss, the relation keeps its unit.": (
            losses.normalised_distances
        ),
        "these are inner products (the Gram matrix), not distances.": lambda x: x @ x.T,
    }
    right = "distances, with a zero diagonal" + _and_bounded(gradient)
    reference, learns = relations.pairwise_distances, [0] if gradient else []
    return mark(f, reference, _features(), mistakes, right, learns)


def check_triplet_angles(f: Function | None, gradient: bool = True) -> Answer:
    """Check ``f(x)``: (n, d) -> (n, n, n), [j, i, k] the cosine at x_j, 0 where undefined."""
    angles = relations.triplet_angles

    def differences(x: Tensor) -> Tensor:
        return x[None, :, :] - x[:, None, :]  # [j, i] = x_i - x_j

    def inner(a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("jid,jkd->jik", a, b)

    unit = F.normalize
    vertex = "the angle sits at the wrong vertex: [j, i, k] is the angle at x_j, the first index"
    mistakes = {
        f"{vertex}; yours is at the second.": lambda x: angles(x).permute(1, 0, 2),
        f"{vertex}; yours is at the last.": lambda x: angles(x).permute(1, 2, 0),
        "this is the angle itself: give its cosine, without arccos.": (
            lambda x: angles(x).clamp(-1, 1).arccos()
        ),
        "inner products without normalisation: divide by both lengths.": (
            lambda x: inner(differences(x), differences(x))
        ),
        "divided by one length only: both differences need length 1.": (
            lambda x: inner(unit(differences(x), dim=2), differences(x))
        ),
        "divided by one length only: both differences need length 1 (here x_i - x_j).": (
            lambda x: inner(differences(x), unit(differences(x), dim=2))
        ),
        "angles seen from the origin: take differences to x_j first.": (
            lambda x: (unit(x, dim=1) @ unit(x, dim=1).T).expand(len(x), -1, -1)
        ),
    }
    right = "cosines at the first index, 0 where undefined" + _and_bounded(gradient)
    return mark(f, angles, _features(), mistakes, right, [0] if gradient else [])


def _features() -> list[Case]:
    cases = [
        Case(f"with {n} samples of {d} features", (normal(n, d),)) for n, d in ((5, 3), (2, 4))
    ]
    return [*cases, Case("with coincident rows", (coincident(6, 3),), smooth=False)]


def _and_bounded(gradient: bool) -> str:
    return ", and a gradient that stays finite at coincident rows." if gradient else "."


# ---- losses


Function_losses = Callable[..., Any]


def check_kd_loss(f: Function_losses | None) -> Answer:
    """Check ``f(student_logits, teacher_logits, temperature)`` -> scalar; see ``ql.kd_loss``."""

    def kl(s: Tensor, t: Tensor, ts: float, tt: float) -> Tensor:
        log = F.log_softmax(s / ts, 1)
        return F.kl_div(log, F.log_softmax(t / tt, 1), log_target=True, reduction="batchmean")

    def soft(z: Tensor, T: float, dim: int = 1) -> Tensor:
        return (z / T).softmax(dim)

    def by_logarithms(s: Tensor, t: Tensor, T: float, dim: int = 1) -> Tensor:
        p, q = soft(t, T, dim), soft(s, T, dim)
        return T**2 * (p * (p.log() - q.log())).sum(1).mean()

    mistakes = {
        "the factor T^2 is missing.": lambda s, t, T: kl(s, t, T, T),
        "the factor is T^2, not T.": lambda s, t, T: T * kl(s, t, T, T),
        "multiply by T^2, do not divide.": lambda s, t, T: kl(s, t, T, T) / T**2,
        "KL the wrong way round: the teacher's probabilities weigh the logarithms.": (
            lambda s, t, T: T**2 * kl(t, s, T, T)
        ),
        "KL the wrong way round, and without T^2.": lambda s, t, T: kl(t, s, T, T),
        "the temperature softens the student only: divide the teacher's logits too.": (
            lambda s, t, T: T**2 * kl(s, t, T, 1)
        ),
        "the temperature softens the teacher only: divide the student's logits too.": (
            lambda s, t, T: T**2 * kl(s, t, 1, T)
        ),
        "no temperature in the softmax: divide both logits by T.": (
            lambda s, t, T: T**2 * kl(s, t, 1, 1)
        ),
        "the temperature is not used at all.": lambda s, t, T: kl(s, t, 1, 1),
        "multiplied by T where the softmax divides by it.": (
            lambda s, t, T: T**2 * kl(s, t, 1 / T, 1 / T)
        ),
        "mean over samples and classes: sum over the classes, average over samples only.": (
            lambda s, t, T: T**2 * kl(s, t, T, T) / s.shape[1]
        ),
        "mean over samples and classes (sum over the classes), and T^2 is missing.": (
            lambda s, t, T: kl(s, t, T, T) / s.shape[1]
        ),
        "softmax over the samples: the classes are dim=1.": (
            lambda s, t, T: by_logarithms(s, t, T, dim=0)
        ),
        "a squared difference of logits: Hinton's loss compares softened probabilities.": (
            lambda s, t, T: F.mse_loss(s, t)
        ),
        "right until a probability is rounded to 0: 0 * log 0 is nan, and a tiny number added to p "
        "changes the loss. Use log_softmax, not the log of softmax.": by_logarithms,
        "sum over the samples: divide by n.": lambda s, t, T: T**2 * kl(s, t, T, T) * len(s),
        "this is the cross-entropy: subtract the teacher's own entropy to get KL, 0 if equal.": (
            lambda s, t, T: -(T**2) * (soft(t, T) * F.log_softmax(s / T, 1)).sum(1).mean()
        ),
        "a logarithm is missing: F.kl_div wants the student's log-probabilities.": (
            lambda s, t, T: T**2 * F.kl_div(soft(s, T), soft(t, T), reduction="batchmean")
        ),
        "the teacher's largest class only: use all its probabilities.": (
            lambda s, t, T: F.cross_entropy(s, t.argmax(1))
        ),
    }
    cases = [
        Case("at T = 4 with 5 samples", (normal(5, 3), normal(5, 3, seed=1), 4.0)),
        Case("at T = 1 with 2 samples", (normal(2, 4), normal(2, 4, seed=1), 1.0)),
        Case("at T = 2 with 7 samples", (normal(7, 10), normal(7, 10, seed=1), 2.0)),
        Case(
            "with logits of several hundreds",
            (800 * normal(3, 3), 800 * normal(3, 3, seed=1), 1.0),
            smooth=False,  # the hint for log 0 needs this
        ),
    ]
    right = "Hinton's loss, with its T^2, and no gradient reaches the teacher."
    return mark(f, losses.kd_loss, cases, mistakes, right, learns=[0], fixed=[1])


def check_distance_loss(f: Function_losses | None) -> Answer:
    """Check ``f(student, teacher)`` -> scalar; see ``ql.distance_loss``."""
    distances, normal = relations.pairwise_distances, losses.normalised_distances
    mistakes = {
        "the distances are not normalised: divide each side by its own mean distance.": (
            _compare(distances)
        ),
        "both sides are divided by the teacher's mean: each needs its own.": lambda s, t: (
            losses.relation_loss(
                *(distances(x) * len(t) * (len(t) - 1) / distances(t).sum() for x in (s, t))
            )
        ),
        "the mean distance counts the n zeros of the diagonal: divide by n(n-1), not n^2.": (
            _compare(lambda x: distances(x) / distances(x).mean())
        ),
        "two means count the diagonal: the mean distance and that of h are over n(n-1).": (
            lambda s, t: F.smooth_l1_loss(
                *(distances(x) / distances(x).mean() for x in (s, t)), reduction="mean"
            )
        ),
        "divided by the largest distance: take the mean.": (
            _compare(lambda x: distances(x) / distances(x).max())
        ),
        "squared distances: take the root first.": (
            _compare(lambda x: _over_mean(distances(x) ** 2))
        ),
    } | _wrong_means(normal, "n(n-1)", "n^2")
    return _check_loss(f, losses.distance_loss, mistakes, "distances up to scale")


def check_angle_loss(f: Function_losses | None) -> Answer:
    """Check ``f(student, teacher)`` -> scalar; see ``ql.angle_loss``."""
    angles = relations.triplet_angles
    mistakes = {
        "angles instead of their cosines: leave arccos out.": (
            _compare(lambda x: angles(x).clamp(-1, 1).arccos())
        ),
        "inner products without normalisation: divide by both lengths.": _compare(
            lambda x: torch.einsum("jid,jkd->jik", x - x[:, None], x - x[:, None])
        ),
    } | _wrong_means(angles, "n(n-1)(n-2)", "n^3")
    return _check_loss(f, losses.angle_loss, mistakes, "the cosines of all triples")


def check_kernel_loss(f: Function_losses | None) -> Answer:
    """Check ``f(student, teacher, kernel)`` -> scalar; ``kernel`` is a function of (n, q)."""

    def kernel(x: Tensor, y: Tensor | None = None) -> Tensor:
        return ((x[:, None] - (x if y is None else y)) / 2).cos().square().prod(-1)  # angle map

    def on(loss: Function_losses) -> Function_losses:
        return lambda s, t, k: loss(s, t)

    mistakes = {
        "the kernel between student and teacher: compare each one's own matrix.": (
            lambda s, t, k: losses.relation_loss(k(s, t), torch.ones(len(s), len(s)).double())
        ),
        "this is a distance of whole matrices (a norm): average over pairs.": (
            lambda s, t, k: torch.linalg.norm(k(s) - k(t))
        ),
    } | {hint: on(loss) for hint, loss in _wrong_means(kernel, "n(n-1)", "n^2").items()}
    cases = [
        Case(f"with {n} samples", (normal(n, 3), normal(n, 3, seed=1), kernel)) for n in (5, 2, 7)
    ]
    right = "kernel matrices compared over different samples; the student feels it."
    return mark(f, losses.kernel_loss, cases, mistakes, right, learns=[0], fixed=[1])


def _check_loss(
    f: Function_losses | None, reference: Function_losses, hints: dict, about: str
) -> Answer:
    """A loss of two batches of features, of different width, far apart and coincident."""
    cases = [
        Case(f"with {n} samples", (3 * normal(n, 3), normal(n, 4, seed=1) ** 3)) for n in (5, 4, 8)
    ]
    same = Case("with coincident rows", (coincident(6, 3), normal(6, 2)), smooth=False)
    right = f"{about}, averaged over different samples; the student feels it, the teacher not."
    return mark(f, reference, [*cases, same], hints, right, learns=[0], fixed=[1])


def _over_mean(distances: Tensor) -> Tensor:
    return distances / (distances.sum() / (len(distances) * (len(distances) - 1)))


def _compare(relation: Function_losses) -> Function_losses:
    """The loss of another relation."""
    return lambda s, t: losses.relation_loss(relation(s), relation(t))


def _wrong_means(
    relation: Function_losses, count: str, all_entries: str
) -> dict[str, Function_losses]:
    """What goes wrong after the relation is right: the mean and Huber's h."""

    def distinct(n: int) -> int:
        return n * (n - 1) * (n - 2 if "n-2" in count else 1)

    def off(s: Tensor, t: Tensor) -> Tensor:
        """The differences over distinct samples alone."""
        u = relation(s) - relation(t)
        same = torch.eye(len(u), dtype=torch.bool)
        same = same[:, :, None] | same[:, None, :] | same if u.ndim == 3 else same
        return u[~same]

    def huber(u: Tensor) -> Tensor:
        return F.smooth_l1_loss(u, torch.zeros_like(u), reduction="sum")

    entries = all_entries.replace("n", "")
    return {
        f"the mean counts entries that compare a sample with itself: divide by {count}, not "
        f"by {all_entries}.": lambda s, t: huber(off(s, t)) / len(s) ** int(entries[1:]),
        f"this is the sum: divide by {count}.": lambda s, t: huber(off(s, t)),
        "squared differences: Huber's h is half of them, and straight beyond 1.": (
            lambda s, t: (off(s, t) ** 2).sum() / distinct(len(s))
        ),
        "half the squared differences everywhere: Huber's h is |u| - 1/2 where |u| > 1.": (
            lambda s, t: (off(s, t) ** 2).sum() / 2 / distinct(len(s))
        ),
        "squared differences over all entries: Huber's h, over different samples only.": (
            lambda s, t: (off(s, t) ** 2).sum() / len(s) ** int(entries[1:])
        ),
        "absolute differences: Huber's h is u^2 / 2 where |u| < 1.": (
            lambda s, t: off(s, t).abs().sum() / distinct(len(s))
        ),
        "absolute differences over all entries: Huber's h, over different samples only.": (
            lambda s, t: off(s, t).abs().sum() / len(s) ** int(entries[1:])
        ),
    }
