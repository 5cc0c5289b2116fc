"""Relations: what a batch of features says about every two, or three, of its samples.

The two of RKD are pairwise distances and triplet angles. The third of QRKD, a kernel matrix, is in
:mod:`qrkd_lab.kernels`. One of your own is any function of features.

Rows that coincide happen in practice (dead ReLUs), and the textbook formulas have infinite slopes
there; here gradients are always finite and bounded. Distances and angles raise a TypeError or
ValueError for what is no finite floating-point ``(n, d)``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.checks import (
    check_features,
    floating,
    in_float32,
    no_second_derivative,
    positive,
    with_room,
)

__all__ = [
    "CLASSICAL", "Relation", "normalised_distances", "own_relations", "pairwise_distances",
    "triplet_angles",
]  # fmt: skip

# Two rows nearer than this fraction of the batch's root-mean-square distance count as coincident:
# an angle at such a pair is noise, and its slope, which grows like 1 / distance, would swamp the
# batch. The gradient of an angle is thereby at most about 1e3 / (root-mean-square distance).
COINCIDENT = 1e-3


@in_float32
def pairwise_distances(x: Tensor) -> Tensor:
    r"""Euclidean distance between every two samples of a batch.

    .. math:: D_{ij} = \lVert x_i - x_j \rVert_2

    The gradient at coincident rows, where the formula has none, is 0; elsewhere each distance has
    a gradient of length 1.

    Args:
        x: features ``(n, d)``.

    Returns:
        ``(n, n)``, symmetric, zero diagonal, in the units of ``x``.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, eq. 5-6.

    Example:
        >>> pairwise_distances(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[0., 5.],
                [5., 0.]])
    """
    wide = with_room(x, check_features(x))
    # Direct differences: exact for near rows, where |x|^2 + |y|^2 - 2xy would cancel.
    return torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist").to(x)


@in_float32
def normalised_distances(x: Tensor) -> Tensor:
    """Distances ``(n, d) -> (n, n)`` divided by their mean over pairs; 0 where rows coincide."""
    largest = check_features(x)
    rounding = max(8 * torch.finfo(x.dtype).eps * largest, torch.finfo(x.dtype).tiny)
    distances = pairwise_distances(with_room(x, largest))
    pairs = max(len(x) * (len(x) - 1), 1)
    return (distances / (distances.sum() / pairs).clamp_min(rounding)).to(x)


@in_float32
def triplet_angles(x: Tensor) -> Tensor:
    r"""Cosine of the angle at every sample between every two others.

    .. math:: A_{jik} = \cos \angle x_i x_j x_k
              = \frac{\langle x_i - x_j,\; x_k - x_j \rangle}
                     {\lVert x_i - x_j \rVert\, \lVert x_k - x_j \rVert}

    The numerator is taken from the Gram matrix :math:`G = X X^\top` as
    :math:`G_{ik} - G_{ij} - G_{jk} + G_{jj}`, so that no ``(n, n, d)`` tensor of differences is
    ever built: the cost is O(n^2 d + n^3) instead of O(n^3 d).

    Args:
        x: features ``(n, d)``.

    Returns:
        ``(n, n, n)`` without unit, in [-1, 1] up to rounding (in float32 up to some 3e-7 outside:
        clamp before ``arccos``); entry ``[j, i, k]`` is the angle *at* ``x_j``. It is 0, with no
        gradient, where it is undefined: i = j, k = j, or rows nearer to each other than 1/1000 of
        the batch's root-mean-square distance.

    Source: Park et al., "Relational Knowledge Distillation", CVPR 2019, eq. 8-9.

    Example:
        >>> corner = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> triplet_angles(corner)[0, 1, 2]
        tensor(0.)
    """
    given, x = x, with_room(x, check_features(x))
    # Differences below the resolution of x itself are rounding, whatever the others are.
    resolution = (8 * torch.finfo(given.dtype).eps) ** 2 * x.detach().square().sum(1).mean()
    x = x - x.mean(0)  # angles do not see a shift; small numbers cancel less
    gram = x @ x.T
    norms = gram.diagonal()
    squared = norms[:, None] + norms - 2 * gram  # (n, n)
    apart = squared > COINCIDENT**2 * squared.detach().mean() + resolution
    inverse = torch.where(apart, torch.where(apart, squared, 1.0).rsqrt(), 0.0)
    return _CosineFromGram.apply(gram, inverse).to(given)


class _CosineFromGram(torch.autograd.Function):
    """A[j, i, k] = (G_ik - G_ij - G_jk + G_jj) r_ji r_jk, 2 to 4 times as fast as autograd's."""

    @staticmethod
    def forward(ctx: Any, gram: Tensor, inverse: Tensor) -> Tensor:  # noqa: ANN401
        cosine = gram.unsqueeze(0) - gram.unsqueeze(2)  # [j, i, k] = G_ik - G_ji
        cosine += (gram.diagonal().unsqueeze(1) - gram).unsqueeze(1)  # + G_jj - G_jk
        cosine *= inverse.unsqueeze(2)
        cosine *= inverse.unsqueeze(1)
        ctx.save_for_backward(inverse, cosine)
        return cosine

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        no_second_derivative()
        inverse, cosine = ctx.saved_tensors
        # dA / d log r_ji = A, once as the row i and once as the column k.
        cube = grad * cosine
        by_log = cube.sum(2) + cube.sum(1)
        grad_inverse = torch.where(inverse > 0, by_log / torch.where(inverse > 0, inverse, 1.0), 0)
        torch.mul(grad, inverse.unsqueeze(2), out=cube)  # dL / d numerator[j, i, k]
        cube *= inverse.unsqueeze(1)
        over_k, over_i = cube.sum(2), cube.sum(1)  # (j, i), (j, k)
        grad_gram = cube.sum(0) - over_k - over_i + torch.diag(over_k.sum(1))
        return grad_gram, grad_inverse


# ---- as terms of a loss


@dataclass(frozen=True)
class Relation:
    """A function of features as a term compares it; a kernel's is a ``KernelRelation``.

    Args:
        name: of the term.
        of: ``(n, d)`` of any width d -> ``(n, n)`` or ``(n, n, n)``, differentiable; the same for
            the teacher's features and the student's.

    Raises:
        TypeError, ValueError: when it is used, if the function gives no such tensor, or one that no
            gradient goes through.

    Example:
        >>> Relation("gram", lambda x: x @ x.T).teacher(torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """

    name: str
    of: Callable[[Tensor], Tensor]
    control = None  # as of a kernel's relation

    def teacher(self, features: Tensor) -> Tensor:
        """Of the teacher's features, without gradient."""
        with torch.no_grad():
            return self._of(features)

    def compared(self, features: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The student's relation, differentiable, and what it is compared with."""
        return self._of(features), teacher

    @property
    def teacher_key(self) -> Hashable:
        """Equal for relations whose teacher's side is the same, so that it is computed once."""
        return self.name, id(self.of)

    @in_float32
    def _of(self, features: Tensor) -> Tensor:
        n, found = len(features), self.of(features)
        floating(f"relation {self.name!r}", found, "(n, n) or (n, n, n)")
        if found.shape not in ((n, n), (n, n, n)):
            raise ValueError(
                f"relation {self.name!r}: expected (n, n) or (n, n, n) of features (n, d), got "
                f"{tuple(found.shape)} of {tuple(features.shape)}"
            )
        if torch.is_grad_enabled() and features.requires_grad and not found.requires_grad:
            raise ValueError(
                f"relation {self.name!r}: no gradient reaches the features, so no student learns "
                "from it: compute with torch alone, without .detach(), .numpy() or no_grad"
            )
        return found.to(features.dtype)


CLASSICAL = {
    name: Relation(name, of)
    for name, of in {"distance": normalised_distances, "angle": triplet_angles}.items()
}
TAKEN = ("task", "kd", "distance", "angle", "kernel", "total", "epoch")  # in a history
PREFIXES = ("kernel_", "train_", "validation_", "distance_", "angle_")  # of other numbers there


def own_relations(given: Mapping[str, Any]) -> dict[str, tuple[Relation, float]]:
    """Relations of a user's own with their weights, from ``{name: (function, weight)}``.

    Each name is that of a term: a word that nothing else in a history has.

    Raises:
        TypeError, ValueError: what is no such mapping, name, function or weight.

    Example:
        >>> own_relations({"gram": (lambda x: x @ x.T, 10)})["gram"][1]
        10.0
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"relations: expected {{name: (function, weight)}}, got {given!r:.100}")
    found = {}
    for name, pair in given.items():
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not callable(pair[0]):
            raise TypeError(
                f"relation {name!r}: expected (function of features, weight), e.g. "
                f"{{'cosine': (cosine, 10.0)}}, got {pair!r:.100}"
            )
        word = str(name)
        if not word.isidentifier() or word in TAKEN or word.startswith(PREFIXES):
            raise ValueError(
                f"relation {name!r}: expected a name of letters, digits and _ that no other number "
                f"of a history has, such as {', '.join(TAKEN)}"
            )
        found[word] = Relation(word, pair[0]), positive(f"weight of {name}", pair[1])
    return found
