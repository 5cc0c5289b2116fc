"""A figure that is drawn again and again: what stays is rendered once, what moves on top of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from qrkd_lab.plots.style import Chart

if TYPE_CHECKING:
    from matplotlib.artist import Artist

__all__ = ["LiveChart"]

DPI = 96  # a pixel of the picture is a pixel of CSS


class LiveChart(Chart):
    """A chart whose moving artists are drawn in a tenth of the time of the whole.

    A subclass appends to ``moving`` what changes from one picture to the next, and calls
    :meth:`lay_out_again` when something else has changed (the limits of an axis).
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(width, height)
        FigureCanvasAgg(self)
        self.moving: list[Artist] = []
        self._ground: Any = None  # all that stays, as it was rendered

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
        drawn, out = np.asarray(canvas.buffer_rgba())[..., :3], io.BytesIO()
        Image.fromarray(drawn).save(out, "png", compress_level=1)
        return out.getvalue()
