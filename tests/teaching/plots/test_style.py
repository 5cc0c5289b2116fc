"""The look of figures: each shows itself with alt text, and everyone can tell the arms apart."""

from __future__ import annotations

import base64
import importlib
import io
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.markers import MarkerStyle
from PIL import Image

from qrkd_lab.studies.arms import ARMS, TEACHER
from qrkd_lab.teaching import plots
from qrkd_lab.teaching.plots.style import (
    ARM_COLOURS,
    ARM_MARKERS,
    Animation,
    Chart,
    arm_style,
    described,
)

pytestmark = pytest.mark.filterwarnings("error")


def test_a_chart_carries_its_title_and_description():
    chart = Chart(4, 3).finish("A title that is much longer than the chart is wide", "All of it.")
    assert "\n" in chart.get_suptitle()
    data, extra = chart._repr_mimebundle_()
    assert data["text/plain"] == chart.alt == extra["image/png"]["alt"]
    assert chart.alt == "A title that is much longer than the chart is wide. All of it."
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert (extra["image/png"]["width"], extra["image/png"]["height"]) == (384, 288)


def test_a_figure_made_in_a_cell_is_shown_once_with_its_alt_text():
    figure, axes = plt.subplots()
    for whole in (figure, axes):
        data, _ = described(whole, "Said & seen.")._repr_mimebundle_()
        assert 'alt="Said &amp; seen."' in data["text/html"] and data["image/png"]
    assert not plt.get_fignums()


# Colours


def simulate(colour: str, matrix: list[list[float]]) -> np.ndarray:
    """CIE L*a*b* of a colour as seen with a deficiency (Machado et al. 2009, severity 1)."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(matrix) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


SIGHT = {
    "normal": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.mark.parametrize("sight", SIGHT)
def test_the_main_arms_are_told_apart_by_everyone(sight):
    main = ("teacher", "scratch", "kd", "rkd_only", "rkd", "qrkd")
    seen = {arm: simulate(ARM_COLOURS[arm], SIGHT[sight]) for arm in main}
    nearest = {
        pair: np.linalg.norm(seen[pair[0]] - seen[pair[1]]) for pair in combinations(main, 2)
    }
    assert min(nearest.values()) > 15, min(nearest, key=nearest.get)
    everyone = [simulate(colour, SIGHT[sight]) for colour in ARM_COLOURS.values()]
    assert min(np.linalg.norm(a - b) for a, b in combinations(everyone, 2)) > 8


def test_each_arm_has_its_own_colour_and_marker():
    arms = {TEACHER, *ARMS}
    assert set(ARM_COLOURS) == set(ARM_MARKERS) == arms
    assert len(set(ARM_COLOURS.values())) == len(set(ARM_MARKERS.values())) == len(arms)
    assert all(MarkerStyle(marker).is_filled() for marker in ARM_MARKERS.values())
    assert arm_style("qrkd") == {"color": "#D55E00", "marker": "o"}
    assert arm_style("my arm") == arm_style("my arm") and arm_style("my arm")["color"]


def frames(count, width=2.0):
    for i in range(count):
        chart = Chart(width, 1.0)
        chart.subplots().imshow([[i, 0], [1, 2]], vmin=0, vmax=3)
        yield chart


def test_it_shows_itself_with_alt_text_and_plays_so_many_times():
    film = Animation(frames(3), 'From "a" to b.', seconds=0.2)
    data = film._repr_mimebundle_()
    assert 'alt="From &quot;a&quot; to b."' in data["text/html"]
    assert data["text/plain"] == 'From "a" to b.'
    gif = base64.b64decode(data["text/html"].split("base64,")[1].split('"')[0])
    image = Image.open(io.BytesIO(gif))
    assert image.format == "GIF" and image.n_frames == 3
    assert image.info["loop"] == 4  # repetitions after the first time
    assert image.info["duration"] == 200
    image.seek(2)
    assert image.info["duration"] == 2000
    assert len(gif) < 200_000


def test_every_figure_can_be_had_and_stands_in_one_module():
    names = [name for module in plots._HOMES for name in plots._HOMES[module]]
    assert len(names) == len(set(names)) == len(plots.__all__)
    for module, own in plots._HOMES.items():
        home = importlib.import_module(f"qrkd_lab.teaching.plots.{module}")
        assert set(own) <= set(home.__all__)
        for name in own:
            assert getattr(plots, name) is getattr(home, name)
