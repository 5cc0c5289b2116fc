"""An animation is a small GIF with alt text that ends on its last frame."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from qrkd_lab.teaching.plots.style import Animation, Chart


def frames(count, width=2.0):
    for i in range(count):
        chart = Chart(width, 1.0)
        chart.subplots().imshow([[i, 0], [1, 2]], vmin=0, vmax=3)
        yield chart


def test_it_shows_itself_with_alt_text_and_plays_so_many_times(tmp_path):
    film = Animation(frames(3), 'From "a" to b.', seconds=0.2)
    data = film._repr_mimebundle_()
    assert 'alt="From &quot;a&quot; to b."' in data["text/html"]
    assert data["text/plain"] == 'From "a" to b.'
    gif = base64.b64decode(data["text/html"].split("base64,")[1].split('"')[0])
    image = Image.open(io.BytesIO(gif))
    assert image.format == "GIF" and image.n_frames == film.frames == 3
    assert image.info["loop"] == 4  # repetitions after the first time
    assert image.info["duration"] == 200
    image.seek(2)
    assert image.info["duration"] == 2000
    assert film.save(tmp_path / "film.gif").read_bytes() == gif
    assert "3 frames" in repr(film) and len(gif) < 200_000


def test_a_notebook_takes_it_as_html():
    from IPython.core.formatters import DisplayFormatter

    data, _ = DisplayFormatter().format(Animation(frames(2), "Two frames."))
    assert data["text/html"].startswith("<img src=") and "image/png" not in data


def test_wrong_frames_are_told():
    with pytest.raises(ValueError, match="at least one figure"):
        Animation([], "")
    with pytest.raises(ValueError, match="one size"):
        Animation([*frames(1), *frames(1, width=3.0)], "")
