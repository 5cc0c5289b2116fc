"""Figures of kernels: spectra and fitted bases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, RBFKernel, effective_rank
from qrkd_lab.teaching.plots.kernels import concentration, spectra

pytestmark = pytest.mark.filterwarnings("error")
X = torch.randn(20, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ZZ = FidelityKernel("zz", 3)
QUBITS = (2, 4, 6)
TABLE = pd.DataFrame(
    [
        {"feature_map": name, "bandwidth": b, "qubits": q, "variance": 0.3 * base**q}
        for name, b, base in (("zz", 1.0, 0.25), ("zz", 0.1, 0.5), ("angle", 1.0, 0.75))
        for q in QUBITS
    ]
)


def title(figure):
    return figure.get_suptitle().replace("\n", " ").replace("\u00a0", " ")


def test_spectra_are_shares_of_the_trace_with_the_rank_in_the_legend():
    figure = spectra({"rbf": RBFKernel(0.5)(X), "zz": 3 * ZZ(X), "ones": torch.ones(20, 20)})
    drawn = {line.get_label().split(":")[0]: line for line in figure.axes[0].lines}
    assert drawn["zz"].get_ydata() == pytest.approx(np.linalg.eigvalsh(ZZ(X).numpy())[::-1] / 20)
    assert len(drawn["ones"].get_ydata()) == 1  # the rest is rounding
    assert f"zz: effective rank {effective_rank(ZZ(X)):.1f} of 20" in figure.alt
    assert title(figure).startswith("Effective ranks from 1.0 to ")


def test_concentration_recovers_the_base_of_each_line():
    figure = concentration(TABLE)
    assert title(figure) == (
        "Each further qubit multiplies the variance of zz (b = 1) by 0.25, of angle (b = 1) by 0.75"
    )
    dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert dashed[1].get_ydata()[[0, -1]] == pytest.approx([0.3 * 0.5**2, 0.3 * 0.5**6])
    legend = [text.get_text().replace("\u00a0", " ") for text in figure.legends[0].get_texts()]
    assert "zz (b = 0.1): × 0.50 a qubit" in legend


def test_a_colour_is_a_map_and_a_marker_a_kernel():
    both = TABLE.assign(kernel=["fidelity"] * 3 + ["projected"] * 3 + ["fidelity"] * 3)
    figure = concentration(both)
    assert "of zz (fidelity) by 0.25, of angle (fidelity) by 0.75" in title(figure)
    points = [line for line in figure.axes[0].lines if line.get_linestyle() == "None"]
    colours, marks = ([getattr(p, f"get_{what}")() for p in points] for what in ("color", "marker"))
    assert colours[0] == colours[1] != colours[2] and marks[0] == marks[2] != marks[1]


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: concentration(TABLE[:0]), "table with rows"),
        (lambda: spectra({}), "names to matrices"),
    ],
)
def test_wrong_input_is_told(draw, says):
    with pytest.raises(ValueError, match=says):
        draw()
