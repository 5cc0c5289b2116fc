"""The bandwidth rule: the largest spread, for any kernel, from the angles alone."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab.kernels import CosineKernel, FidelityKernel, RBFKernel
from qrkd_lab.kernels.encoders import BANDWIDTHS, calibrated, spread

ANGLES = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))


def test_spread_is_the_standard_deviation_over_pairs():
    k = RBFKernel()(ANGLES)
    values = [k[i, j].item() for i in range(40) for j in range(40) if i != j]
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    assert spread(RBFKernel(), ANGLES) == pytest.approx(variance**0.5, rel=1e-4)


@pytest.mark.parametrize(
    "kernel", [RBFKernel(), FidelityKernel("zz", 3), FidelityKernel("angle", 3)], ids=str
)
def test_no_other_bandwidth_spreads_more(kernel):
    chosen = calibrated(kernel, ANGLES)
    best = max(
        spread(type(kernel)(**{**vars_of(kernel), "bandwidth": b}), ANGLES) for b in BANDWIDTHS
    )
    assert spread(chosen, ANGLES) == best > spread(kernel, ANGLES) * 0.999
    assert BANDWIDTHS[0] < chosen.bandwidth < BANDWIDTHS[-1]  # not at the grid's edge


def vars_of(kernel):
    return {name: getattr(kernel, name) for name in kernel.__dataclass_fields__}


def test_scaled_angles_get_the_inverse_bandwidth():
    assert (
        calibrated(RBFKernel(), 2 * ANGLES).bandwidth * 2
        == calibrated(RBFKernel(), ANGLES).bandwidth
    )


def test_what_has_no_bandwidth_is_left_alone():
    assert calibrated(CosineKernel(), ANGLES) == CosineKernel()


def test_two_samples_are_too_few():
    with pytest.raises(ValueError, match="at least 3"):
        calibrated(RBFKernel(), ANGLES[:2])
