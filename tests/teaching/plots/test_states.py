"""Pictures of states: what is drawn is what was computed, and wrong input is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.teaching.plots.relations import bloch_spheres, likeness_maps, outcome_curves

pytestmark = pytest.mark.filterwarnings("error")
TURN = torch.linspace(0, torch.pi, 9, dtype=torch.float64)
RY = torch.stack([TURN.sin(), 0 * TURN, TURN.cos()], dim=1)  # (9, 3)


def draws(chart):
    data, _ = chart._repr_mimebundle_()
    return 'alt="' in data["text/html"]


def test_the_path_on_the_sphere_is_the_one_given():
    chart = bloch_spheres({"RY": RY, "half": RY / 2})
    path = chart.axes[0].lines[-1].get_data_3d()
    assert np.array(path).T == pytest.approx(RY.numpy())
    assert chart.axes[1].get_title() == "half\nlength 0.50 to 0.50"
    assert "RY from (0.00, 0.00, 1.00) to (0.00, 0.00, -1.00)" in chart.alt and draws(chart)


@pytest.mark.parametrize("path", [2 * RY, RY[:, :2]])
def test_no_bloch_vector_is_longer_than_one(path):
    with pytest.raises(ValueError, match=r"wrong: expected Bloch vectors \(n, 3\)"):
        bloch_spheres({"wrong": path})


def test_outcomes_are_squared_amplitudes():
    state = torch.stack([(TURN / 2).cos(), 1j * (TURN / 2).sin()], dim=1)
    chart = outcome_curves(TURN, {"RX": state})
    zero, one = (line.get_ydata() for line in chart.axes[0].lines)
    assert zero == pytest.approx(((TURN / 2).cos() ** 2).numpy())
    assert one == pytest.approx(1 - zero) and draws(chart)
    assert [text.get_text() for text in chart.legends[0].get_texts()] == ["0", "1"]


def test_bit_strings_are_numbered_with_wire_0_leftmost():
    state = ql.FidelityKernel("angle", 2).states(torch.tensor([[torch.pi, 0.0]]))
    chart = outcome_curves(torch.zeros(1), {"angle": state})
    shown = {t.get_text(): line for t, line in zip(chart.legends[0].get_texts(),
                                                   chart.axes[0].lines, strict=True)}  # fmt: skip
    assert shown["10"].get_ydata()[0] == pytest.approx(1, abs=1e-6)


def test_states_that_are_none_are_told():
    with pytest.raises(ValueError, match="states of length 1"):
        outcome_curves(TURN, {"a": torch.ones(9, 2)})
    with pytest.raises(ValueError, match=r"expected states \(9, 2\^q\)"):
        outcome_curves(TURN, {"a": torch.ones(9, 3)})
    with pytest.raises(ValueError, match="nothing to draw"):
        outcome_curves(TURN, {})


def test_a_likeness_map_holds_kernel_values_with_x1_to_the_right():
    point = torch.tensor([1.0, 0.5])
    kernel = ql.FidelityKernel("angle", 2)
    chart = likeness_maps({"angle": kernel}, point, reach=2.0)
    image = chart.axes[0].images[0].get_array()  # rows: x2, columns: x1
    line = torch.linspace(-2, 2, 61)
    for i, j in ((0, 0), (5, 40), (60, 20)):
        value = kernel(torch.stack([line[i], line[j]])[None], point[None]).item()
        assert image[j, i] == pytest.approx(value, abs=1e-5)
    assert draws(chart)
    with pytest.raises(ValueError, match="reach"):
        likeness_maps({"angle": kernel}, point, reach=-1.0)
