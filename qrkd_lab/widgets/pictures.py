"""Pictures as widgets and saved notebooks hold them: a PNG, its words, and its width."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass

from PIL import Image

from qrkd_lab.plots.redrawn import DPI, RedrawnChart
from qrkd_lab.plots.style import Chart

__all__ = ["Picture", "still"]


@dataclass(frozen=True)
class Picture:
    """A PNG, what it shows in words, and its width in CSS pixels; a wide one scrolls."""

    png: bytes = b""
    alt: str = ""
    width: int = 0
    wide: bool = False

    @classmethod
    def of(cls, chart: Chart) -> Picture:
        """The picture of a figure, small rather than quick."""
        data, metadata = chart._repr_mimebundle_()
        return cls(base64.b64decode(data["image/png"]), chart.alt, metadata["image/png"]["width"])

    @classmethod
    def quickly(cls, chart: Chart) -> Picture:
        """The same, quick rather than small: for a picture that the next one replaces."""
        drawn, out = io.BytesIO(), io.BytesIO()
        chart.savefig(drawn, format="raw", dpi=96)
        width, height = (int(inches * 96) for inches in chart.get_size_inches())
        image = Image.frombytes("RGBA", (width, height), drawn.getvalue())
        image.convert("RGB").save(out, "png", compress_level=1)
        return cls(out.getvalue(), chart.alt, width)

    @classmethod
    def again(cls, chart: RedrawnChart) -> Picture:
        """The picture of a figure that was drawn before, for another state."""
        return cls(chart.png(), chart.alt, round(chart.get_figwidth() * DPI))

    @property
    def html(self) -> str:
        """As an HTML image, with alt text."""
        return (
            f'<img src="data:image/png;base64,{base64.b64encode(self.png).decode()}" '
            f'alt="{html.escape(self.alt, quote=True)}" '
            f'style="width: {self.width}px; max-width: 100%">'
        )


# JupyterLab shows a widget of an earlier session as an error; beside its still it is only noise.
_QUIET = (
    "<style>.jp-OutputArea:has(.qrkd-still) > .jp-OutputArea-child:has("
    "> .jp-OutputArea-output.jupyter-widgets:not(:has(*))) {display: none}</style>"
)


def still(pictures: list[Picture], words: str, call: str, key: str) -> dict[str, str]:
    """What a saved notebook keeps of an explorer: its pictures, its words, and how to reopen it.

    Args:
        pictures: the first also stands as a bare PNG.
        words: HTML.
        call: Python code that makes the explorer as it stands.
        key: of the explorer; while that is alive on the page, it hides its still.

    Returns:
        MIME type to content, for ``IPython.display.display(..., raw=True)``.
    """
    shown = [picture for picture in pictures if picture.png]
    body = "".join(f"<div>{picture.html}</div>" for picture in shown)
    hint = f"<p>Run the cell for live controls. As it stands: <code>{html.escape(call)}</code></p>"
    data = {
        "text/html": f'<div class="qrkd-still qrkd-still-{key}">{_QUIET}{words}{body}{hint}</div>',
        "text/plain": " ".join([call, *(picture.alt for picture in shown)]),
    }
    if shown:
        data["image/png"] = base64.b64encode(shown[0].png).decode()
    return data
