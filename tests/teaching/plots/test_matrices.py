"""Heat maps and panels of kernels: sorted by class, on one scale, the same when drawn again."""

from __future__ import annotations

import io

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


def test_kernel_pca_draws_each_sample_as_its_class():
    scores = kernel_pca(TEACHER)
    texts = plots.kernel_pca_maps({"teacher": scores}, LABELS).axes[0].texts
    assert [t.get_text() for t in texts] == [str(c) for c in LABELS.tolist()]
    assert texts[3].get_position() == pytest.approx(tuple(scores[3].tolist()))


def test_spectra_are_shares_of_the_trace():
    figure = plots.spectra({"zz": 3 * TEACHER, "ones": torch.ones(20, 20)})
    zz, ones = figure.axes[0].lines[:2]
    assert zz.get_ydata() == pytest.approx(np.linalg.eigvalsh(TEACHER.numpy())[::-1] / 9)
    assert len(ones.get_ydata()) == 1  # the rest is rounding
    assert f"zz: effective rank {ql.effective_rank(TEACHER):.1f} of 9" in figure.alt


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
