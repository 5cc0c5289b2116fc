"""Figures of a loss from inside: they draw what the table holds and say it in their titles."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from qrkd_lab.teaching.plots.kernels import adapter_alone, term_gradients, unit_gradients

pytestmark = pytest.mark.filterwarnings("error")


def gradient_table():
    rows = []
    for epoch in (0, 1, 2):
        for batch in (0, 1):
            for term, norm, weight in (("task", 2.0, 1.0), ("kd", 8.0, 0.3), ("kernel", 0.1, 1.0)):
                size = norm * (1 + epoch + batch)
                rows.append({"epoch": epoch, "batch": batch, "term": term, "norm": size,
                             "weighted": weight * size, "cosine": 0.5})  # fmt: skip
    return pd.DataFrame(rows)


def test_term_gradients_share_a_scale_and_name_the_strongest():
    chart = term_gradients(gradient_table())
    raw, weighted, cosine = chart.axes
    assert raw.get_ylim() == weighted.get_ylim() and raw.get_yscale() == "log"
    lines = {line.get_label(): line for line in raw.lines}
    assert lines["kd"].get_ydata() == pytest.approx([12.0, 20.0, 28.0])
    assert {line.get_label() for line in cosine.lines} & {"task", "kd", "kernel"} == {
        "kd", "kernel"
    }  # fmt: skip
    assert "kd pulls hardest, 24 times as hard as kernel" in chart.get_suptitle()


def test_adapter_alone_says_what_was_taken_off():
    table = pd.DataFrame(
        {"student": ["a", "a", "b"], "seed": [0, 1, 0], "fresh": [0.1, 0.2, 0.4],
         "fitted": [0.05, 0.05, 0.3]}
    )  # fmt: skip
    chart = adapter_alone(table, 0.08)
    assert "25 to 75 %" in chart.get_suptitle()
    axes = chart.axes[0]
    drawn = np.concatenate([c.get_offsets().data[:, 0] for c in axes.collections])
    assert set(drawn.round(3)) >= {0.1, 0.2, 0.4, 0.05, 0.3}
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b"]
    assert "a 0.1500 to 0.0500" in chart.alt


def test_unit_gradients_count_what_is_moved():
    gradient = torch.zeros(5, 4)
    gradient[:2] = 1.0
    chart = unit_gradients({"truncate": gradient, "adapter": torch.ones(5, 4)})
    heights = [bar.get_height() for bar in chart.axes[0].patches]
    assert heights == pytest.approx([2.0, 2.0, 0.0, 0.0, 0.0])
    assert "truncate 2 of 5, adapter 5 of 5" in chart.alt


@pytest.mark.parametrize(
    "draw",
    [
        lambda: term_gradients(gradient_table()[:0]),
        lambda: adapter_alone(pd.DataFrame(), 0.1),
        lambda: unit_gradients({}),
    ],
)
def test_nothing_to_draw_is_told(draw):
    with pytest.raises(ValueError, match="nothing to draw"):
        draw()
