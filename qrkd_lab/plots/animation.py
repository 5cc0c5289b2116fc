"""A short animation that shows itself in a saved notebook: a GIF inside an <img> with alt text."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from qrkd_lab.storage import (
    expanded,
    write_file,
    writing,
)

__all__ = ["Animation"]


class Animation:
    """Figures of one size as frames of a GIF; plays ``loops`` times, then stands on its last frame.

    A GIF needs neither a kernel nor a script, so it plays in a saved notebook and on the web. It
    has no place in print: draw some of its frames beside it.

    Args:
        figures: the frames, one after the other; each is drawn when its turn comes.
        alt: what a reader who does not see it should know.
        seconds: a frame.
        rest: seconds of the last frame.
        loops: how often it plays; 0: for ever.
        dpi: pixels an inch.

    Raises:
        ValueError: no frame, or frames of different sizes.
    """

    def __init__(
        self,
        figures: Iterable[Figure],
        alt: str,
        seconds: float = 0.25,
        rest: float = 2.0,
        loops: int = 5,
        dpi: int = 72,
    ) -> None:
        frames = [_drawn(figure, dpi) for figure in figures]
        if not frames:
            raise ValueError("expected at least one figure to make a frame of, got none.")
        if len(sizes := {frame.size for frame in frames}) > 1:
            raise ValueError(f"expected frames of one size, got {sorted(sizes)} pixels.")
        self.alt, self.frames, self.size = alt, len(frames), frames[0].size
        # One palette for all frames, taken from the last: colours then mean the same in each.
        palette = frames[-1].quantize(64, dither=Image.Dither.NONE)
        packed = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
        file = io.BytesIO()
        packed[0].save(
            file, "gif", save_all=True, append_images=packed[1:], optimize=True,
            duration=[1000 * seconds] * (len(packed) - 1) + [1000 * rest],
            **({} if loops == 1 else {"loop": max(0, loops - 1)}),
        )  # fmt: skip
        self.gif = file.getvalue()

    def save(self, path: str | Path) -> Path:
        """Write the GIF to a file, or replace it.

        Raises:
            RecordError: it cannot be written, or the disk is full; what was there is there still.
        """
        place = expanded(path)
        with writing(str(place), "path"):
            write_file(place, self.gif)
        return place

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:  # noqa: ANN401
        data = base64.b64encode(self.gif).decode()
        alt = html.escape(self.alt, quote=True)
        image = f'<img src="data:image/gif;base64,{data}" alt="{alt}" width="{self.size[0]}">'
        return {"text/html": image, "text/plain": self.alt}

    def __repr__(self) -> str:
        return f"Animation({self.frames} frames, {len(self.gif) // 1000} kB: {self.alt})"


def _drawn(figure: Figure, dpi: int) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return Image.open(file).convert("RGB")
