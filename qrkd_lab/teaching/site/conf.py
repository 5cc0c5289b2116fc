"""Sphinx's configuration for ``make site``: the course as static pages, from committed outputs.

The sources are README.md, the notebooks and the studies' reports, where they lie. Nothing is
executed, and nothing is fetched: MathJax comes with the package sphinx-mathjax-offline.
"""

import re
import shutil
from importlib.util import find_spec
from operator import methodcaller
from pathlib import Path
from typing import Any

project = "qrkd_lab"
author = "qrkd_lab contributors"
extensions = ["myst_nb"]
root_doc = "README"
include_patterns = ["README.md", "notebooks/*.ipynb", "results/*.md"]
exclude_patterns = [".*", "runs", "build", "dist", "tests", "qrkd_lab"]

nb_execution_mode = "off"
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
myst_heading_slug_func = methodcaller("replace", " ", "-")  # as Jupyter makes them

html_theme = "sphinx_book_theme"
html_title = "Quantum relational knowledge distillation"
html_theme_options = {"secondary_sidebar_items": []}  # each notebook names its own sections
html_context = {"default_mode": "auto"}
html_css_files = ["style.css"]
mathjax_path = "tex-svg-full.js"
mathjax = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax" / mathjax_path
html_static_path = ["style.css", str(mathjax)]


def contents(readme: str) -> str:
    """The table of contents for README, whose own table says what the notebooks are called."""
    course = re.findall(r"^\| (\d\d) \| \[(.+?)\]\((\w+/\w+)\.ipynb\)", readme, re.MULTILINE)
    parts = {
        "Course": [f"{number} {name} <{page}>" for number, name, page in course],
        "Explore": ["notebooks/explore_*"],
        "Look up": [
            *["notebooks/glossary", "notebooks/solutions", "notebooks/reference"],
            *["notebooks/widget_doctor", "results/*"],
        ],
    }
    return "".join(
        "\n".join(["\n", "```{toctree}", ":hidden:", ":glob:", f":caption: {part}", "", *pages])
        + "\n```\n"
        for part, pages in parts.items()
    )


def setup(app: Any) -> None:  # noqa: ANN401
    """Add the table of contents to README, and give the first page the name that servers expect."""

    def add_contents(app: Any, name: str, source: list[str]) -> None:  # noqa: ANN401
        source[0] += contents(source[0]) if name == root_doc else ""

    def copy_first_page(app: Any, error: Exception | None) -> None:  # noqa: ANN401
        if error is None:
            shutil.copyfile(app.outdir / "README.html", app.outdir / "index.html")

    app.connect("source-read", add_contents)
    app.connect("build-finished", copy_first_page)
