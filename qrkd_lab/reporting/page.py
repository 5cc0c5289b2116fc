"""The report as one HTML file: its Markdown, drawn with figures inline, for screen and paper."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping

from PIL import Image

from qrkd_lab.plots.style import Chart

__all__ = ["packed", "page"]

DPI, COLOURS = 132, 64
STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.2rem 4rem; background: #fff;
  color: #1b1b1b; font: 1rem/1.55 system-ui, sans-serif }
h1 { line-height: 1.2 } h2 { margin-top: 2.6rem; border-bottom: 1px solid #ccc }
h3 { margin-top: 2rem } p, li { max-width: 46rem }
a { color: #0b57a4 } code { font-size: .92em; background: #f3f3f3; padding: 0 .2em }
pre { overflow-x: auto; background: #f3f3f3; padding: .6rem .8rem } pre code { padding: 0 }
figure { margin: 1.2rem 0 } img { max-width: 100%; height: auto }
.table { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
td { white-space: nowrap } .words { text-align: left } tbody th { font-weight: 600 }
thead th { border-bottom: 2px solid #888; vertical-align: bottom }
@media print { body { font-size: 9.5pt; max-width: none; padding: 0 } h2, h3 { break-after: avoid }
  figure, table, tr { break-inside: avoid } td { white-space: normal } table { font-size: 7.5pt } }
"""


def page(markdown: str, title: str, figures: Mapping[str, Chart]) -> str:
    """A page that needs nothing but itself.

    Args:
        markdown: the report; an image ``figures/NAME.png`` is drawn from ``figures[NAME]``.
        title: of the window.
        figures: by name.
    """
    import mistune

    class Renderer(mistune.HTMLRenderer):
        """Tables that name their rows and scroll by themselves; figures inside the page."""

        def image(self, text: str, url: str, title: str | None = None) -> str:
            name = url.removeprefix("figures/").removesuffix(".png")
            data = base64.b64encode(packed(figures[name])).decode()
            width = round(figures[name].get_figwidth() * 96)
            alt = html.escape(html.unescape(text), quote=True)
            return f'<img src="data:image/png;base64,{data}" alt="{alt}" width="{width}">'

    draw = mistune.create_markdown(renderer=Renderer(), plugins=["table"])
    renderer = draw.renderer
    renderer.register("table", _table)
    renderer.register("table_cell", _cell)
    renderer.register("table_row", _row)
    body = draw(markdown)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def packed(chart: Chart) -> bytes:
    """The figure as PNG with few colours: a quarter of the size."""
    drawn, small = io.BytesIO(), io.BytesIO()
    chart.savefig(drawn, format="png", dpi=DPI)
    picture = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(small, "png", optimize=True)
    return small.getvalue()


def _table(_renderer: object, text: str) -> str:
    place = '<div class="table" role="region" aria-label="Table" tabindex="0">'
    return f"{place}<table>\n{text}</table></div>\n"


def _row(_renderer: object, text: str) -> str:
    """A row whose first cell is its head."""
    first, end, rest = text.partition("</td>")
    if end and first.lstrip().startswith("<td"):
        text = first.replace("<td", '<th scope="row"', 1) + "</th>" + rest
    return f"<tr>{text}</tr>\n"


def _cell(_renderer: object, text: str, align: str | None = None, head: bool = False) -> str:
    side = ' class="words"' if align == "left" else ""
    return f'<th scope="col"{side}>{text}</th>' if head else f"<td{side}>{text}</td>"
