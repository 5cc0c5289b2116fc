"""A figure that is drawn again and again: what stays is rendered once, what moves on top of it."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from qrkd_lab.plots.diagnostics import COLOURS
from qrkd_lab.plots.style import ARM_COLOURS, Chart

if TYPE_CHECKING:
    from matplotlib.artist import Artist

__all__ = ["DPI", "RedrawnChart"]

DPI = 96  # a pixel of the picture is a pixel of CSS


class RedrawnChart(Chart):
    """A chart whose moving artists are drawn in a tenth of the time of the whole.

    A subclass names with :meth:`moves` what changes from one picture to the next, and calls
    :meth:`lay_out_again` when something else has changed (the limits of an axis).
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(width, height)
        FigureCanvasAgg(self)
        self.moving: list[Artist] = []
        self._ground: Any = None  # all that stays, as it was rendered

    def moves(self, *artists: Artist) -> None:
        """These change from picture to picture; the layout does not depend on them."""
        for artist in artists:
            artist.set_in_layout(False)
            self.moving.append(artist)

    def lay_out_again(self) -> None:
        """Render what stays anew, at the next picture."""
        self._ground = None
        self.set_layout_engine("constrained")

    def png(self) -> bytes:
        """The picture as a PNG, quickly; the first call, and after a change of layout, is slow."""
        canvas = self.canvas
        if self._ground is None:
            self.set_dpi(DPI)
            for artist in self.moving:
                artist.set_animated(True)  # left out of what is rendered once
            canvas.draw()
            self.set_layout_engine("none")
            self._ground = canvas.copy_from_bbox(self.bbox)
        canvas.restore_region(self._ground)
        for artist in self.moving:
            (artist.axes or self).draw_artist(artist)
        drawn, out = canvas.buffer_rgba(), io.BytesIO()
        size = drawn.shape[1], drawn.shape[0]
        image = Image.frombuffer("RGBA", size, drawn, "raw", "RGBA", 0, 1).convert("RGB")
        flat = image.quantize(palette=_palette(), dither=Image.Dither.NONE)
        flat.save(out, "png", compress_level=1)
        return out.getvalue()


@lru_cache(1)
def _palette() -> Image.Image:
    """256 colours that the kit's figures are made of: choosing them anew takes too long.

    The heat map's, greys, and each colour of a line in ten strengths, for its smooth edges.
    """
    heat = colormaps["cividis"](np.linspace(0, 1, 112))[:, :3]
    greys = np.linspace(0, 1, 24)[:, None].repeat(3, 1)
    lines = list(dict.fromkeys(c.upper() for c in (*ARM_COLOURS.values(), *COLOURS)))[:12]
    strength = np.linspace(0.1, 1, 10)[None, :, None]
    mixed = 1 - strength * (1 - np.array([to_rgb(c) for c in lines])[:, None, :])
    colours = np.concatenate([heat, greys, mixed.reshape(-1, 3)])
    flat = Image.new("P", (1, 1))
    flat.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    return flat
