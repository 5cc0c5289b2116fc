"""The figure of the geometric difference draws what the function gives."""

from __future__ import annotations

import pytest
import torch

from qrkd_lab import RBFKernel, geometric_difference
from qrkd_lab.teaching.plots.matrices import regularisation_curve

pytestmark = pytest.mark.filterwarnings("error")
X = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WIDE, NARROW = RBFKernel(0.05)(X), RBFKernel(2.0)(X)


def test_both_sides_are_drawn_at_every_regularisation():
    levels = (1e-6, 1e-3, 1e-1)
    figure = regularisation_curve(WIDE, {"narrow": NARROW, "same": WIDE}, levels)
    found = [geometric_difference(WIDE, NARROW, level) for level in levels]
    left, right = figure.axes
    assert left.lines[0].get_ydata() == pytest.approx([one.value for one in found])
    assert right.lines[0].get_ydata() == pytest.approx([one.training_error for one in found])
    assert left.lines[2].get_ydata()[0] == pytest.approx(12**0.5)
    assert "narrow's geometric difference is decided by the regularisation" in figure.alt


def test_a_stable_difference_is_called_so():
    figure = regularisation_curve(NARROW, {"same": NARROW}, (1e-6, 1e-3))
    assert "hardly depend on the regularisation" in figure.alt


def test_nothing_to_draw_is_told():
    with pytest.raises(ValueError, match="nothing to draw"):
        regularisation_curve(WIDE, {})
