"""The committed notebooks: fresh outputs, small cells, alt text, and a headless run."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import nbformat
import pytest

from qrkd_lab.notebooks import execute, is_fresh

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS][0] == "00_quickstart"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_belong_to_the_present_cells(path):
    assert is_fresh(path), f"{path.name} is stale: python -m qrkd_lab notebook {path} --in-place"
    assert path.stat().st_size < 1_000_000


def code_lines(cell) -> list[str]:
    return [line for line in cell.source.splitlines() if line.strip()]


def test_cells_are_small_and_embedded_in_prose(notebook):
    kinds = [cell.cell_type for cell in notebook.cells]
    assert all(pair != ("code", "code") for pair in zip(kinds, kinds[1:]))
    sizes = [len(code_lines(cell)) for cell in notebook.cells if cell.cell_type == "code"]
    assert statistics.median(sizes) <= 6 and max(sizes) <= 20
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    assert words >= 5 * sum(sizes)


def test_one_title_and_ordered_headings(notebook):
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:]))


def test_links_inside_lead_somewhere(notebook):
    text = "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    titles = {t.strip().replace(" ", "-") for t in re.findall(r"^#+ (.+)$", text, flags=re.M)}
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in titles
    for target in re.findall(r"\]\(([\w./-]+\.ipynb)\)", text):
        assert (FOLDER / target).exists()


def test_every_figure_has_alt_text_and_no_cell_warns(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert "Warning" not in output.get("text", "")
            if "image/png" in output.get("data", {}):
                assert re.search(r'alt="[^"]{20,}"', output["data"].get("text/html", ""))


def test_the_quickstart_runs_headlessly(tmp_path):
    out = execute(
        FOLDER / "00_quickstart.ipynb",
        tmp_path,
        {"scale": "smoke", "seeds": 3, "jobs": 1, "runs_dir": str(tmp_path / "runs"),
         "out_dir": str(tmp_path / "out")},
        timeout=300,
        progress=False,
    )  # fmt: skip
    assert out.exists()
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"summary.md", "results.csv", "scores.png", "differences.png"} <= written
