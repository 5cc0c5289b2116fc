"""The slides: which cells they are, and a page that loads nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from qrkd_lab.teaching import slides

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CLASS = ("00", "02", "03", "04", "05", "13")  # the plan of two hours in the glossary
TYPES = {"slide", "subslide", "fragment", "-", "notes"}


LOADS = re.compile(  # what a page loads by itself: a link to click on is nothing of the kind
    r'<link[^>]*\shref="(?!data:)[^"]*|<\w[^>]*\s(?:src|srcset|poster)="(?!data:)[^"]*'
    r"|@import\s+\S+|url\(\s*[\"']?(?!data:|#)[^)]*"
)


@pytest.fixture
def packages(monkeypatch):
    """Stand-ins for the files of reveal.js and MathJax, which come with the extra `site`."""
    asked = []
    monkeypatch.setattr(slides, "_text", lambda place: asked.append(place) or f"/* {place} */")
    return asked


def types(path):
    nb = nbformat.read(path, as_version=4)
    return [cell.metadata.get("slideshow", {}).get("slide_type") for cell in nb.cells]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebooks_of_the_class_are_marked_and_no_other(path):
    marks = [mark for mark in types(path) if mark]
    assert bool(marks) == (path.stem[:2] in CLASS)
    assert set(marks) <= TYPES
    if marks:
        assert types(path)[0] == "slide" and marks.count("slide") == 1
        assert marks[1] == "subslide"


def test_a_deck_loads_nothing_from_outside_of_its_file(tmp_path, packages):
    path = slides.write_slides(tmp_path / "slides.html", [NOTEBOOKS / "00_quickstart.ipynb"])
    html = path.read_text()
    assert LOADS.findall(html) == [] and LOADS.search('<img src="b.png">')
    assert [Path(place).name for place in packages] == [
        "reveal.css", "simple.css", "tex-svg-full.js", "reveal.js", "notes.js"
    ]  # fmt: skip
    assert all(f"/* {place} */" in html for place in packages)
    starts = {"slide", "subslide"} & set(types(NOTEBOOKS / "00_quickstart.ipynb"))
    assert starts == {"slide", "subslide"} and html.count("<section") >= 5


def test_marked_cells_become_slides_and_others_stay_out(tmp_path, packages):
    figure = new_output("display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "F"})
    marked = [
        ("slide", new_markdown_cell("# A title\n\nfor readers only")),
        (None, new_markdown_cell("left out")),
        ("subslide", new_markdown_cell("of the cell before\n\n## A heading\n\n[There](x.ipynb#y)")),
        ("-", new_code_cell("shown = 1")),
        ("subslide", new_code_cell("drawn = 2", outputs=[figure])),
    ]
    for mark, cell in marked:
        cell.metadata = {"slideshow": {"slide_type": mark}} if mark else {}
    nbformat.write(new_notebook(cells=[cell for _, cell in marked]), tmp_path / "07_x.ipynb")
    made = slides.write_slides(tmp_path / "slides.html", [tmp_path / "07_x.ipynb"])
    text = re.sub(r"<[^>]+>", "", made.read_text())
    assert "07 A title" in text and "A heading" in text and "There" in text and "shown" in text
    for absent in ("for readers", "left out", "of the cell before", "drawn"):
        assert absent not in text
    assert made.read_text().count("<section") == 1 + 3  # the notebook and its three slides


def test_notebooks_without_a_mark_are_told(tmp_path):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# One")]), tmp_path / "00_a.ipynb")
    with pytest.raises(ValueError, match="no cell is marked"):
        slides.write_slides(tmp_path / "slides.html", [tmp_path / "00_a.ipynb"])
