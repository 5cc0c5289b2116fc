"""Heat maps and panels of kernels: sorted by class, on one scale, the same when drawn again."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.kernels import diagnose
from qrkd_lab.kernels.analysis import kernel_pca
from qrkd_lab.teaching import plots
from qrkd_lab.teaching.plots.matrices import KernelPanel, kernel_matrices

pytestmark = pytest.mark.filterwarnings("error")

LABELS = torch.tensor([2, 0, 1, 0, 2, 1, 0, 1, 2])
X = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
TEACHER = torch.exp(-(torch.cdist(X, X) ** 2))
STUDENT = TEACHER.clone()
STUDENT[0, 1] = STUDENT[1, 0] = TEACHER[0, 1] + 0.4  # classes 2 and 0


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


def test_spectra_are_shares_of_the_trace_with_the_rank_in_the_legend():
    figure = plots.spectra({"zz": 3 * TEACHER, "ones": torch.ones(20, 20)})
    drawn = {line.get_label().split(":")[0]: line for line in figure.axes[0].lines}
    assert drawn["zz"].get_ydata() == pytest.approx(np.linalg.eigvalsh(TEACHER.numpy())[::-1] / 9)
    assert len(drawn["ones"].get_ydata()) == 1  # the rest is rounding
    assert f"zz: effective rank {ql.effective_rank(TEACHER):.1f} of 9" in figure.alt
    assert figure.get_suptitle().startswith("Effective ranks from 1.0 to ")


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: plots.kernel_pca_maps({}, LABELS), "names to scores"),
        (lambda: plots.kernel_pca_maps({"a": X[:4]}, LABELS), r"expected \(9, 2\)"),
        (lambda: plots.spectra({}), "names to matrices"),
        (lambda: kernel_matrices({}, LABELS), "names to matrices"),
        (lambda: kernel_matrices({"a": X}, LABELS), r"labels \(9,\) and a \(9, 2\)"),
        (lambda: kernel_matrices({"a": TEACHER}, LABELS[:, None]), r"labels \(9, 1\)"),
        (lambda: kernel_matrices({"a": TEACHER * math.nan}, LABELS), "a holds values that are"),
        (lambda: kernel_matrices({"a": np.zeros((0, 0))}, []), "one n > 0"),
    ],
)
def test_wrong_input_is_told(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()


THREE = torch.arange(30) % 3
KERNEL = torch.exp(-torch.cdist(x := THREE[:, None] + torch.linspace(0, 1, 30)[:, None], x))


def test_kernels_are_sorted_share_a_scale_and_mark_classes():
    shuffle = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    labels = THREE[shuffle]
    mixed = KERNEL[shuffle][:, shuffle]
    figure = kernel_matrices({"a": mixed, "b": 3 * mixed}, labels, class_names="xyz")
    first, second = figure.axes[:2]
    order = np.argsort(labels.numpy(), kind="stable")
    drawn = np.asarray(first.images[0].get_array())
    assert drawn == pytest.approx(mixed.numpy()[order][:, order])
    assert first.images[0].get_clim() == second.images[0].get_clim() == (0.0, 3.0)
    assert [t.get_text() for t in first.get_xticklabels()] == ["x", "y", "z"]
    edges = sorted({float(line.get_ydata()[0]) for line in first.lines[::2]})
    assert edges == [9.5, 19.5]
    same = labels[:, None] == labels[None, :]
    off = ~torch.eye(30, dtype=torch.bool)
    within, between = mixed[same & off].mean(), mixed[~same].mean()
    assert f"within {within:.2f}, between {between:.2f}" in first.get_title()
    assert f"a {within - between:+.2f}, b {3 * (within - between):+.2f}" in figure.get_suptitle()


def test_what_students_have_too_much_or_too_little_is_beside_them():
    few = torch.arange(30) % 10 == 0
    matrices = {"teacher": KERNEL, "rkd": KERNEL, "qrkd": KERNEL - 0.3 * few * few[:, None]}
    figure = kernel_matrices(matrices, THREE, "a title", minus="teacher")
    heads = [axes.get_title() for axes in figure.axes[:5]]
    assert heads[3:] == ["rkd − teacher\nmean size 0.000", "qrkd − teacher\nmean size 0.003"]
    equal, less = (axes.images[0] for axes in figure.axes[3:5])
    assert not equal.get_array().any() and less.get_array().min() == pytest.approx(-0.3)
    assert equal.get_clim() == less.get_clim() == pytest.approx((-0.3, 0.3))


@pytest.mark.parametrize(("names", "turned"), [(["cat", "dog"], 0), (["a very long name"] * 2, 90)])
def test_long_names_of_classes_stand_upright(names, turned):
    chart = kernel_matrices({"K": torch.eye(4)}, [0, 0, 1, 1], class_names=names)
    labels = chart.axes[0].get_xticklabels()
    assert [label.get_rotation() for label in labels] == [turned] * 2


@pytest.fixture(scope="module")
def case():
    x = torch.randn(24, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(24) % 3
    matrix = ql.FidelityKernel("zz", 3, bandwidth=0.3)(x)
    other = ql.FidelityKernel("angle", 3, bandwidth=0.8)(x)
    return labels, [(k, diagnose(k, labels, x)) for k in (matrix, other)]


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_drawn_again_it_equals_a_new_one(case):
    labels, ((first, seen), (second, seen_too)) = case
    used, new = KernelPanel(labels), KernelPanel(labels)
    before = used.draw_kernel(first, seen, "zz").png()
    again = pixels(used.draw_kernel(second, seen_too, "angle").png())
    fresh = pixels(new.draw_kernel(second, seen_too, "angle").png())
    assert np.abs(pixels(before) - fresh).mean() > 1
    assert np.abs(again - fresh).mean() < 0.5  # a title's width may move the panels by a pixel


def test_it_says_what_it_shows(case):
    labels, ((matrix, seen), _) = case
    chart = KernelPanel(labels, ["red", "green", "blue"]).draw_kernel(matrix, seen, "zz")
    assert seen.verdict in chart.alt and "effective rank" in chart.alt
    assert chart._said[2].get_text() == f"pair by pair\nR² = {seen.fit.r_squared:.2f}"
    order = np.argsort(labels.numpy(), kind="stable")
    np.testing.assert_allclose(chart._images[0].get_array(), matrix[order][:, order])
    np.testing.assert_allclose(chart._images[1].get_array(), seen.fit.matrix[order][:, order])
    drawn = io.BytesIO()
    chart.savefig(drawn, format="png", dpi=50)
    assert pixels(drawn.getvalue()).std() > 10


def test_a_diagnosis_of_another_matrix_is_refused(case):
    labels, ((matrix, seen), _) = case
    with pytest.raises(ValueError, match="24 samples, got 10"):
        KernelPanel(labels).draw_kernel(matrix[:10, :10], seen)
    with pytest.raises(ValueError, match="with labels and angles"):
        KernelPanel(labels).draw_kernel(matrix, diagnose(matrix, labels))
