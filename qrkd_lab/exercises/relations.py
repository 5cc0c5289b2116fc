"""Exercises on relations: distances and angles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qrkd_lab import losses, relations
from qrkd_lab.exercises.inputs import coincident, normal
from qrkd_lab.exercises.marking import Answer, Case, mark

__all__ = ["check_pairwise_distances", "check_triplet_angles"]

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
