"""Pictures of images: the right ones in the right column, of any kind and size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qrkd_lab.data import Images
from qrkd_lab.teaching.plots.relations import class_samples

pytestmark = pytest.mark.filterwarnings("error")


def make_images(classes: int, channels: int, count: int = 24) -> Images:
    labels = torch.arange(count) % classes
    pixels = torch.zeros(count, channels, 6, 5, dtype=torch.uint8)
    return Images(pixels + labels.to(torch.uint8).view(-1, 1, 1, 1), labels)


@pytest.mark.parametrize(("channels", "kind"), [(1, "grey"), (3, "colour")])
def test_a_column_a_class(channels: int, kind: str) -> None:
    chart = class_samples(make_images(3, channels), ["cat", "dog", "ship"], each=2)
    assert [axes.get_title() for axes in chart.axes[:3]] == ["cat", "dog", "ship"]
    shown = [np.asarray(axes.images[0].get_array()).max() for axes in chart.axes]
    assert shown == [0, 1, 2, 0, 1, 2]
    assert chart.alt.startswith(f"24 {kind} images of 6 x 5 pixels in 3 classes")


def test_more_classes_than_fit_and_fewer_images_than_asked() -> None:
    chart = class_samples(make_images(12, 1), [str(k) for k in range(12)], each=5)
    assert len(chart.axes) == 50 and "in 12 classes" in chart.alt
    assert sum(bool(axes.images) for axes in chart.axes) == 20
