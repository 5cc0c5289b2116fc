"""Heat maps of kernels: sorted by class, on one scale, with the contrast that the title names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from qrkd_lab.teaching.plots.matrices import kernel_matrices

pytestmark = pytest.mark.filterwarnings("error")
LABELS = torch.arange(30) % 3
KERNEL = torch.exp(-torch.cdist(x := LABELS[:, None] + torch.linspace(0, 1, 30)[:, None], x))


def test_kernels_are_sorted_share_a_scale_and_mark_classes() -> None:
    shuffle = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    labels = LABELS[shuffle]
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


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda: kernel_matrices({}, LABELS), "names to matrices"),
        (
            lambda: kernel_matrices({"a": KERNEL[:5]}, LABELS),
            r"labels \(30,\) and a \(5, 30\)",
        ),
        (lambda: kernel_matrices({"a": KERNEL}, LABELS[:, None]), r"labels \(30, 1\)"),
        (
            lambda: kernel_matrices({"a": KERNEL * math.nan}, LABELS),
            "a holds values that are",
        ),
        (lambda: kernel_matrices({"a": np.zeros((0, 0))}, []), "one n > 0"),
    ],
)
def test_wrong_input_is_told(draw: Any, says: str) -> None:  # noqa: ANN401
    with pytest.raises(ValueError, match=says):
        draw()


@pytest.mark.parametrize(("names", "turned"), [(["cat", "dog"], 0), (["a very long name"] * 2, 90)])
def test_long_names_of_classes_stand_upright(names, turned):
    chart = kernel_matrices({"K": torch.eye(4)}, [0, 0, 1, 1], class_names=names)
    labels = chart.axes[0].get_xticklabels()
    assert [label.get_rotation() for label in labels] == [turned] * 2
