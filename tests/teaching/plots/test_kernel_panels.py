"""The kernel panel: drawn again it shows the new kernel, quickly or whole."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.kernels import diagnose
from qrkd_lab.teaching.plots.matrices import KernelPanel, kernel_panel


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
    chart = kernel_panel(matrix, labels, seen, "zz", ["red", "green", "blue"])
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
        kernel_panel(matrix[:10, :10], labels, seen)
    with pytest.raises(ValueError, match="with labels and angles"):
        kernel_panel(matrix, labels, diagnose(matrix, labels))
