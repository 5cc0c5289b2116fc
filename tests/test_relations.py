"""Distances and angles: right by an independent evaluation, and tame where the formulas are not."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.relations import pairwise_distances, triplet_angles

DTYPES = [torch.float32, torch.float64]


def features(n: int, d: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d", [1, 3, 40])
def test_relations_are_the_formulas(dtype, d):
    x = features(6, d, dtype)
    between = (x[None] - x[:, None]).double()  # [j, i] = x_i - x_j
    distances, angles = pairwise_distances(x), triplet_angles(x)
    torch.testing.assert_close(distances.double(), between.norm(dim=-1), atol=1e-6, rtol=1e-6)
    unit = torch.nn.functional.normalize(between, dim=-1)
    torch.testing.assert_close(angles.double(), unit @ unit.mT, atol=2e-5, rtol=0)
    own = torch.eye(6, dtype=torch.bool)
    assert not distances[own].any() and not angles[own].any() and not angles.mT[own].any()


@pytest.mark.parametrize("relation", [pairwise_distances, triplet_angles])
def test_gradients_are_right(relation):
    x = features(5, 4).requires_grad_()
    assert torch.autograd.gradcheck(relation, x)


DEGENERATE = {
    "one row": lambda dtype: features(1, 4, dtype),
    "two rows": lambda dtype: features(2, 4, dtype),
    "two coincident": lambda dtype: torch.cat([features(6, 4, dtype), features(1, 4, dtype)]),
    "zero rows": lambda dtype: torch.cat([features(4, 4, dtype), torch.zeros(3, 4, dtype=dtype)]),
    "all equal": lambda dtype: torch.full((6, 4), 3.7, dtype=dtype),
    "nearly coincident": lambda dtype: torch.cat(
        [features(6, 4, dtype), features(1, 4, dtype) * (1 + 1e-6)]
    ),
    "far from the origin": lambda dtype: features(6, 4, dtype) * 1e-7 + 5.0,
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("relation", [pairwise_distances, triplet_angles])
def test_gradients_stay_finite_and_bounded(relation, case, dtype):
    x = DEGENERATE[case](dtype).requires_grad_()
    value = relation(x)
    assert torch.isfinite(value).all()
    value.sum().backward()
    assert torch.isfinite(x.grad).all()
    # The usual form, which divides by a norm of 1e-12, reaches 1e9 here. (Rows 1e-7 apart are
    # rounding in single precision; in double they are resolved, and slopes of 1e7 are right.)
    resolved = dtype == torch.float64 and case == "far from the origin"
    assert x.grad.abs().max() < (1e9 if resolved else 2e4)


def test_coincident_rows_have_no_angle_and_their_neighbours_keep_theirs():
    x = features(5, 3)
    doubled = torch.cat([x, x[:1]])
    angles = triplet_angles(doubled)
    assert (angles[0, 5] == 0).all() and (angles[5, 0] == 0).all()
    torch.testing.assert_close(angles[:5, :5, :5], triplet_angles(x))


@pytest.mark.parametrize("relation", [pairwise_distances, triplet_angles])
@pytest.mark.parametrize(
    ("bad", "error", "says"),
    [
        (torch.zeros(3), ValueError, "n samples, d features"),
        (torch.zeros(0, 3), ValueError, "n samples, d features"),
        (torch.zeros(3, 2, dtype=torch.int64), TypeError, "floating-point"),
        (torch.tensor([[1.0], [float("nan")]]), ValueError, "1 of 2 rows"),
        (torch.tensor([[float("inf")], [0.0]]), ValueError, "diverged"),
    ],
)
def test_bad_features_are_refused(relation, bad, error, says):
    with pytest.raises(error, match=says):
        relation(bad)
