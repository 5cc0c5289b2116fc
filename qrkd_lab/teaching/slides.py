"""Slides of the two-hour class: cells of the notebooks in one HTML file that needs nothing else.

``make slides`` runs this module. Which cells are slides is marked in their own metadata, as
JupyterLab's property inspector does it (*Slide Type*): ``slide`` begins a notebook, ``subslide`` a
slide, ``fragment`` appears at the next click, ``-`` stands on the same slide, ``notes`` only in
the speaker's view (key S). A cell without a mark is left out.

nbconvert makes the HTML. reveal.js comes with the package sphinx-revealjs, MathJax with
sphinx-mathjax-offline (the extra ``site``).

Example:
    >>> from qrkd_lab.teaching.slides import write_slides
    >>> write_slides("slides.html")  # doctest: +SKIP
    PosixPath('slides.html')
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import nbformat
from nbconvert import SlidesExporter
from nbformat import NotebookNode

from qrkd_lab.files import PROJECT, RecordError, expanded, runs_folder, write_file, writing

__all__ = ["write_slides"]

_REVEAL = "sphinx_revealjs/_static/revealjs"

# nbconvert's template loads jQuery, require.js, Mermaid and MathJax 2; slides need none of them.
_TEMPLATE = """
{% extends "index.html.j2" %}
{% block html_head_js %}
<meta name="viewport" content="width=device-width, initial-scale=1">
{% endblock %}
{% block html_head_js_mathjax %}
<script>MathJax = {tex: {inlineMath: [["$", "$"]]}};</script>
<script src="sphinx-mathjax-offline/static/mathjax/tex-svg-full.js"></script>
{% endblock %}
{% block footer_js %}
<style>
.reveal { font-size: 24px; }
.reveal .slides { text-align: left; }
.reveal h1 { font-size: 2.5em; }
.reveal h2 { font-size: 1.6em; }
.reveal .jp-InputPrompt, .reveal .jp-OutputPrompt { display: none; }
.reveal .jp-RenderedHTMLCommon { font-family: inherit; font-size: 1em; line-height: 1.35; }
.reveal pre { font-size: 16px; line-height: 1.3; width: auto; box-shadow: none; }
.reveal .jp-OutputArea img { display: block; margin: 0 auto; max-height: 500px; zoom: 1.25; }
.reveal .jp-OutputArea img { object-fit: contain; }
</style>
<script src="REVEAL/dist/reveal.js"></script>
<script src="REVEAL/plugin/notes/notes.js"></script>
<script>
Reveal.initialize({
    width: 1280, height: 800, margin: 0.03, hash: true, slideNumber: "c/t", transition: "none",
    scrollLayout: "compact",
    plugins: [RevealNotes],
});
</script>
{% endblock %}
""".replace("REVEAL/", f"{_REVEAL}/")


def write_slides(
    path: str | Path | None = None, notebooks: Sequence[str | Path] | None = None
) -> Path:
    """Write the slides of some notebooks into one HTML file.

    Args:
        path: the file; None: ``slides.html`` in the folder of the runs.
        notebooks: the ``.ipynb`` files, in the order of the class; None: the numbered ones of the
            course. A notebook without marks gives no slides.

    Returns:
        The path of the file.

    Raises:
        ValueError: no cell is marked.
        ModuleNotFoundError: the extra ``site`` is not installed.
        RecordError: the file cannot be written.
    """
    path = runs_folder() / "slides.html" if path is None else expanded(path)
    if notebooks is None:
        notebooks = sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb"))
    exporter = SlidesExporter(raw_template=_TEMPLATE, reveal_url_prefix=_REVEAL)
    html, _ = exporter.from_notebook_node(_deck(notebooks))
    with writing(str(path), "the path of a file"):
        write_file(path, _inlined(html).encode())
    return path


def _deck(notebooks: Sequence[str | Path]) -> NotebookNode:
    """One notebook of all marked cells."""
    cells = []
    for path in map(Path, notebooks):
        nb = nbformat.read(path, as_version=4)
        marked = [c for c in nb.cells if "slide_type" in c.metadata.get("slideshow", {})]
        for cell in marked:
            cell.id = f"{path.stem}-{cell.id}"
            if cell is nb.cells[0]:  # its first line is the title, the rest is for readers
                title = cell.source.splitlines()[0].lstrip("# ")
                cell.source = f"# {path.stem[:2]} {title}"
            # What stands before its heading belongs to the cell before.
            cell.source = re.sub(r"^.*^(?=## )", "", cell.source, flags=re.M | re.S)
            cell.source = re.sub(r"\[([^\]]+)\]\([^)]*\.(?:ipynb|md)[^)]*\)", r"\1", cell.source)
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", ())):
                cell.metadata.transient = {"remove_source": True}  # the figure alone
        cells += marked
    if not cells:
        raise ValueError("no cell is marked as a slide (metadata.slideshow.slide_type)")
    nb.cells, nb.metadata.title = cells, "qrkd_lab"
    return nb


def _inlined(html: str) -> str:
    """The page with its stylesheets and scripts inside."""
    sheet = r'<link [^>]*href="([^"]+)"[^>]*>'
    html = re.sub(sheet, lambda found: f"<style>{_text(found[1])}</style>", html)
    script = r'<script src="([^"]+)">\s*</script>'
    return re.sub(script, lambda found: f"<script>{_text(found[1])}</script>", html)


def _text(place: str) -> str:
    """A file of an installed package, without the fonts that a stylesheet asks for."""
    package, _, rest = place.partition("/")
    found = find_spec(package)
    if found is None:
        raise ModuleNotFoundError(f"{package} is not installed: pip install 'qrkd-lab[site]'")
    text = (Path(found.origin).parent / rest).read_text()
    return re.sub(r"@import .*?;", "", text) if rest.endswith(".css") else text


if __name__ == "__main__":
    try:
        print("The slides:", write_slides())
    except (ValueError, ModuleNotFoundError, RecordError) as error:
        sys.exit(str(error))
