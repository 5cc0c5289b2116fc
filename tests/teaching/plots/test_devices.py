"""Figures of devices: lines where the formula says, shares, repairs, noise, students."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from qrkd_lab.teaching.plots.kernels import (
    noise_and_contrast,
    psd_repairs,
    shot_errors,
    students_by_shots,
)

pytestmark = pytest.mark.filterwarnings("error")


def title(figure):
    return figure.get_suptitle().replace("\n", " ")


def test_errors_meet_the_spread_where_the_formula_says():
    rows = [(s, who, 0.5 / s**0.5, 0.5 / s**0.5) for s in (10, 100) for who in ("drawn", "device")]
    table = pd.DataFrame(rows, columns=["shots", "source", "error", "expected"])
    figure = shot_errors(table, spread=0.25)
    assert title(figure).startswith("The error is as large as the spread of the entries at about 4")
    axes = figure.axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert axes.lines[0].get_ydata() == pytest.approx([0.5 / 10**0.5, 0.05])
    assert "device, 100 shots: 0.05, formula 0.05" in figure.alt


def test_repairs_are_relative_to_none_on_the_most_samples():
    rows = [
        (n, s, name, n == 8 and s == 10, error / s)
        for n in (4, 8) for s in (10, 100)
        for name, error in (("none", 2.0 * n), ("clip", 1.0 * n))
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["samples", "shots", "repair", "negative", "error"])
    figure = psd_repairs(table)
    assert title(figure) == (
        "At 10 shots 100 % of the matrices of 8 samples have a negative eigenvalue; the best "
        "repair there, clip, leaves 50 % of the error"
    )
    assert figure.axes[1].lines[1].get_ydata() == pytest.approx([0.5, 0.5])
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([0, 0])
    assert "8 samples: 100 % at 10 shots, 0 % at 100 shots" in figure.alt


def test_noise_shows_what_is_left():
    rows = [(0.01, 0.8, 0.7, 0.3, 0.4, 0.99), (0.03, 0.4, 0.25, 0.7, 0.8, 0.95)]
    columns = ["noise", "diagonal", "contrast", "strength", "any_reset", "r_squared"]
    figure = noise_and_contrast(pd.DataFrame(rows, columns=columns))
    assert title(figure).startswith("At 3 % errors a gate, 25 % of the contrast is left")
    assert "R² of at least 0.95" in title(figure)
    assert figure.axes[1].lines[0].get_ydata() == pytest.approx([0.3, 0.7])


def students(counts=(math.nan, 10.0, 1.0)):
    rows = [("detached", math.nan, s, 0.5, 0.7) for s in range(3)]
    rows += [
        (side, count, s, 0.9 - 0.01 * s, 0.8)
        for side in ("teacher", "both") for count in counts for s in range(3)
        if side == "teacher" or not math.isnan(count)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["sides", "shots", "seed", "alignment", "accuracy"])


def test_students_stand_from_exact_to_the_fewest_shots():
    figure = students_by_shots(students())
    ticks = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert ticks == ["exact", "10", "1", "detached"]
    assert "exact 0.89; at 1 shot 0.89 (shots on teacher), 0.89 (shots on both); " in title(figure)
    assert title(figure).endswith("detached 0.50")
    seeds = figure.axes[1].collections[-1] if figure.axes[1].collections else None
    assert seeds is not None and len(figure.axes[1].collections) >= 6  # detached has seeds, too
    assert "teacher, 1 shot: alignment" in figure.alt
    assert "detached, exact: alignment 0.500, accuracy 70.0 %" in figure.alt


@pytest.mark.parametrize("draw", [psd_repairs, noise_and_contrast, students_by_shots])
def test_nothing_is_not_drawn(draw):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(pd.DataFrame())
