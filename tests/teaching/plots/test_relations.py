"""Pictures of relations: what is drawn is what was computed, and wrong input is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.teaching.plots.relations import (
    forces,
    relation_scatter,
    soft_targets,
    what_relations_see,
)

pytestmark = pytest.mark.filterwarnings("error")
SQUARE = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
LOGITS = torch.tensor([[8.0, 4.0, 0.0], [0.0, 1.0, 9.0]])


def draws(chart):
    data, _ = chart._repr_mimebundle_()
    return 'alt="' in data["text/html"]


def test_soft_targets_are_the_softmax_at_each_temperature():
    chart = soft_targets(torch.rand(2, 8, 8), LOGITS, (1.0, 4.0))
    bars = [[bar.get_height() for bar in axes.patches] for axes in chart.axes if axes.patches]
    expected = [(row / T).softmax(0).tolist() for row in LOGITS for T in (1.0, 4.0)]
    assert np.array(bars) == pytest.approx(np.array(expected))
    assert "at T = 4 class 0 0.67, class 1 0.24" in chart.alt and draws(chart)


def test_an_image_carries_its_true_class():
    chart = soft_targets(torch.rand(2, 8, 8), LOGITS, labels=torch.tensor([2, 0]))
    assert [a.get_title() for a in chart.axes if a.images] == ["label 2", "label 0"]
    assert "image 0 (label 2): at T = 1 class 0" in chart.alt and draws(chart)


def test_points_carry_their_losses_to_the_teacher():
    flat = SQUARE * torch.tensor([1.0, 0.1])
    chart = what_relations_see(SQUARE, {"scaled": 3 * SQUARE, "flat": flat})
    titles = [axes.get_title() for axes in chart.axes]
    assert titles[1] == "scaled\ndistance loss 0.000, angle loss 0.000"
    assert f"angle loss {ql.angle_loss(flat, SQUARE):.3f}" in titles[2]
    drawn = chart.axes[2].collections[0].get_offsets()
    assert np.asarray(drawn)[:4] == pytest.approx(flat.numpy()) and draws(chart)


def test_the_teacher_stands_behind_each_student_on_one_scale():
    chart = what_relations_see(SQUARE, {"scaled": 3 * SQUARE, "one place": 0 * SQUARE})
    draws(chart)
    spans = [[*axes.get_xlim(), *axes.get_ylim()] for axes in chart.axes]
    assert spans[1] == pytest.approx(spans[0]) and spans[2] == pytest.approx(spans[0])
    for axes in chart.axes[1:]:
        behind = np.stack(axes.lines[0].get_data(), 1)
        assert behind[:4] == pytest.approx(SQUARE.numpy())
    assert [text.get_text() for text in chart.axes[2].texts] == ["0, 1, 2, 3"]


def test_a_scatter_shows_each_pair_or_triple_once():
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    chart = relation_scatter(x, {"rkd": 2 * x, "flat": torch.zeros(6, 2)})
    points = np.asarray(chart.axes[0].collections[0].get_offsets())
    assert len(points) == 15 and points[:, 1] == pytest.approx(2 * points[:, 0])
    assert "rkd 1.00, flat 0.00" in chart.alt and draws(chart)
    longest = 2 * ql.pairwise_distances(x).max().item()
    for axes in chart.axes:  # one scale, from 0, with the line of equality
        assert axes.get_xlim() == axes.get_ylim() == pytest.approx((0, 1.03 * longest))
        assert np.array_equal(*axes.lines[0].get_data())
    cube = relation_scatter(x, {"rkd": x}, ql.triplet_angles, what="cosine")
    assert len(cube.axes[0].collections[0].get_offsets()) == 6 * 10


def test_forces_point_downhill():
    points = SQUARE.clone().requires_grad_()
    teacher = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    loss = lambda x: ql.distance_loss(x, teacher)  # noqa: E731
    (grad,) = torch.autograd.grad(loss(points), points)
    chart = forces({0: (points, grad), 7: (points - grad, 0 * grad)}, loss)
    first, last = (axes.collections[-1] for axes in chart.axes)
    arrows = np.stack([first.U, first.V], 1)
    ratio = arrows / -grad.numpy()
    assert ratio == pytest.approx(ratio[0, 0]) and ratio[0, 0] > 0
    assert not np.stack([last.U, last.V]).any()
    assert f"step 0: loss {loss(points):.4f}" == chart.axes[0].get_title() and draws(chart)


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: soft_targets(torch.zeros(0, 8, 8), torch.zeros(0, 3)), "at least one image"),
        (lambda: soft_targets(torch.zeros(3, 8, 8), LOGITS), r"\(3, 8, 8\) and \(2, 3\)"),
        (lambda: soft_targets(torch.zeros(2, 8, 8), LOGITS, labels=[1]), "each of 2 images, got 1"),
        (lambda: what_relations_see(SQUARE, {}), "names to points"),
        (lambda: what_relations_see(SQUARE, {"a": SQUARE[:3]}), r"a: expected points \(4, 2\)"),
        (lambda: relation_scatter(SQUARE, {}), "names to features"),
        (lambda: relation_scatter(SQUARE, {"a": SQUARE[:3]}), "a has 3"),
        (lambda: forces({}, ql.pairwise_distances), "steps"),
        (lambda: forces({1: (torch.zeros(3, 3),) * 2}, torch.sum), r"step 1: .*\(3, 3\)"),
    ],
)
def test_wrong_input_is_told(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()
