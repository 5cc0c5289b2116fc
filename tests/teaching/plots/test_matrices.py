"""The gallery: sorted by class, on one scale, titles that the numbers make true."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from qrkd_lab.kernels.analysis import kernel_pca
from qrkd_lab.teaching import plots

pytestmark = pytest.mark.filterwarnings("error")
LABELS = torch.tensor([2, 0, 1, 0, 2, 1, 0, 1, 2])
X = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TEACHER = torch.exp(-(torch.cdist(X, X) ** 2))
STUDENT = TEACHER.clone()
STUDENT[0, 1] = STUDENT[1, 0] = TEACHER[0, 1] + 0.4  # classes 2 and 0


def test_differences_are_student_minus_teacher_sorted_by_class():
    chart = plots.difference_matrices(TEACHER, {"a": TEACHER, "b": STUDENT}, LABELS)
    order = LABELS.argsort(stable=True)
    drawn = np.asarray(chart.axes[1].images[0].get_array())
    assert drawn == pytest.approx((STUDENT - TEACHER)[order][:, order].numpy())
    assert chart.axes[0].images[0].get_clim() == chart.axes[1].images[0].get_clim() == (-1, 1)
    size = (2 * 0.4**2 / 72) ** 0.5
    assert f"a 0.000, b {size:.3f}" in chart.get_suptitle()


def test_blocks_name_the_largest_difference():
    chart = plots.block_matrices(TEACHER, STUDENT, LABELS)
    assert "classes 0 and 2" in chart.get_suptitle()
    apart = np.asarray(chart.axes[2].images[0].get_array())
    assert apart[0, 2] == pytest.approx(0.4 / 9) and apart[1, 1] == 0
    left, middle = (chart.axes[i].images[0].get_clim() for i in (0, 1))
    assert left == middle
    within = TEACHER.clone()
    within[0, 4] = within[4, 0] = 2.0
    assert "within class 2" in plots.block_matrices(TEACHER, within, LABELS).get_suptitle()


def test_kernel_pca_draws_each_sample_as_its_class():
    scores = {"teacher": kernel_pca(TEACHER), "student": kernel_pca(STUDENT)}
    chart = plots.kernel_pca_maps(scores, LABELS)
    texts = chart.axes[0].texts
    assert [t.get_text() for t in texts] == [str(c) for c in LABELS.tolist()]
    assert texts[3].get_position() == pytest.approx(tuple(scores["teacher"][3].tolist()))
    assert texts[1].get_color() == texts[3].get_color() != texts[0].get_color()
    assert chart.axes[0].get_xlim() == chart.axes[1].get_xlim()


def test_component_maps_say_how_like_the_orders_are():
    line = torch.arange(9.0).double()
    first, turned = torch.stack([line, line**2], 1), torch.stack([-line, line], 1)
    other = torch.stack([line % 2, line], 1)
    title = plots.kernel_pca_maps({"a": first, "b": turned, "c": other}, LABELS).get_suptitle()
    assert title == "First component, correlation with that of a: b 1.00, c 0.00"
    flat = {"a": first, "b": 0 * first}
    for scores in ({"a": first}, flat):
        assert "Two components of each" in plots.kernel_pca_maps(scores, LABELS).get_suptitle()


def test_alignment_over_epochs_says_where_it_begins_and_ends():
    rows = [
        {"arm": arm, "seed": seed, "epoch": epoch, "alignment": value * epoch + 0.2}
        for arm, value in (("qrkd", 0.2), ("rkd", 0.1))
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    ]
    chart = plots.alignment_over_epochs(pd.DataFrame(rows))
    assert "begins at 0.20 and ends between 0.40 and 0.60" in chart.get_suptitle()
    assert "qrkd 0.600, rkd 0.400" in chart.alt
    assert len(chart.axes[0].lines) == 2 * 3  # two seeds and a mean an arm


def test_the_film_has_a_frame_an_epoch():
    matrices = torch.stack([torch.eye(9, dtype=torch.float64), STUDENT, TEACHER])
    film = plots.kernel_film(matrices, TEACHER, LABELS, [0, 1, 5], [0.1, 0.8, 1.0], "qrkd")
    assert film.frames == Image.open(io.BytesIO(film.gif)).n_frames == 3
    assert "from 0.10 to 1.00" in film.alt and "qrkd" in film.alt


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: plots.difference_matrices(TEACHER, {}, LABELS), "names to matrices"),
        (lambda: plots.kernel_pca_maps({}, LABELS), "names to scores"),
        (lambda: plots.kernel_pca_maps({"a": X[:4]}, LABELS), r"expected \(9, 2\)"),
        (lambda: plots.alignment_over_epochs(pd.DataFrame()), "a row an arm"),
        (lambda: plots.block_matrices(TEACHER, STUDENT, LABELS[:3]), r"got \(3,\)"),
        (lambda: plots.kernel_film(TEACHER[None], TEACHER, LABELS, [0, 1], [0.0]),
         "1, 2 and 1"),
        (lambda: plots.kernel_film(TEACHER[:0], TEACHER, LABELS, [], []),
         "at least one matrix"),
    ],
)  # fmt: skip
def test_wrong_input_is_told(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()
