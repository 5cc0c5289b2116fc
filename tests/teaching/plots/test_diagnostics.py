"""Figures of kernel matrices: they draw the numbers and their titles say them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, RBFKernel, best_fit, effective_rank
from qrkd_lab.teaching.plots.kernels import just_an_rbf, off_diagonal_histogram, spectra
from qrkd_lab.teaching.plots.style import ARM_COLOURS

pytestmark = pytest.mark.filterwarnings("error")
X = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
RBF, ZZ = RBFKernel(0.5)(X), FidelityKernel("zz", 3)(X)
EYE, ONES = torch.eye(20), torch.ones(20, 20)


def texts(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_spectra_are_shares_of_the_trace_with_the_rank_in_the_legend():
    figure = spectra({"rbf": RBF, "zz": 3 * ZZ, "ones": ONES})
    drawn = {line.get_label().split(":")[0]: line for line in figure.axes[0].lines}
    wanted = np.linalg.eigvalsh(ZZ.numpy())[::-1] / 20
    assert drawn["zz"].get_ydata() == pytest.approx(wanted)
    assert len(drawn["ones"].get_ydata()) == 1  # the rest is rounding
    assert drawn["rbf"].get_color() == ARM_COLOURS["rbf"]
    assert f"zz: effective rank {effective_rank(ZZ):.1f} of 20" in texts(figure)
    title = f"ones has 1.0 effective directions, zz has {effective_rank(ZZ):.1f}"
    assert figure.get_suptitle() == title and figure.alt.startswith(title)


def test_the_histogram_shows_each_kernel_on_one_scale():
    figure = off_diagonal_histogram({"rbf": RBF, "eye": EYE})
    values = RBF.numpy()[np.triu_indices(20, 1)]
    heights, edges, _ = figure.axes[0].patches[0].get_data()
    assert heights == pytest.approx(np.histogram(values, edges)[0] / len(values))
    assert heights.sum() == pytest.approx(1)
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert f"rbf spread by {values.std():.2f}" in figure.get_suptitle()
    assert "of eye by 0.00" in figure.get_suptitle().replace("\n", " ")


def test_pairs_are_drawn_against_the_fit():
    fit = best_fit(ZZ, X)
    figure = just_an_rbf(ZZ, fit)
    pairs = np.triu_indices(20, 1)
    points = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert points == pytest.approx(np.stack([fit.matrix.numpy()[pairs], ZZ.numpy()[pairs]], axis=1))
    assert f"CKA = {fit.alignment:.3f}" in figure.alt


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (RBF, "RBF explains 100 %"),
        (EYE, "both nearly the identity"),
        (ONES, "equally alike"),
        (FidelityKernel("angle", 3, bandwidth=3.0)(X), "explains"),
    ],
)
def test_the_title_says_what_the_fit_means(matrix, says):
    assert says in just_an_rbf(matrix, best_fit(matrix, X)).alt


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: spectra({}), "names to matrices"),
        (lambda: spectra({"a": RBF[:3]}), "square"),
        (lambda: off_diagonal_histogram({}), "names to matrices"),
        (lambda: off_diagonal_histogram({"a": RBF * torch.nan}), "a: 400 of 400"),
        (lambda: just_an_rbf(RBF[:9, :9], best_fit(RBF, X)), "fit of 9 samples, got 20"),
    ],
)
def test_wrong_input_is_told(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()
