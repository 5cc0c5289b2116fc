"""Bars of years on a log scale, with the number at each."""

from __future__ import annotations

import pandas as pd
import pytest

from qrkd_lab.teaching.plots.kernels import cost_bars

pytestmark = pytest.mark.filterwarnings("error")


def test_bars_are_the_years_and_say_them():
    first = pd.DataFrame({"years": [2.0, 500.0]}, index=["digits", "mnist"])
    figure = cost_bars({"fidelity": first, "projected": first / 20}, rate=1000.0)
    title = figure.get_suptitle().replace("\n", " ")
    assert (
        title == "One student takes from 2 (digits) to 5e+02 (mnist) years with the fidelity kernel"
    )
    axes = figure.axes[0]
    assert [patch.get_width() for patch in axes.patches] == [2, 500, 0.1, 25]
    texts = [text.get_text() for text in axes.texts]
    assert "0.1" in texts and "25" in texts and "a century" in texts and "an hour" not in texts
    assert axes.get_xscale() == "log" and "1,000 shots a second" in axes.get_xlabel()
    assert "projected, mnist: 25 years" in figure.alt
    with pytest.raises(ValueError, match="nothing to draw"):
        cost_bars({}, rate=1.0)
