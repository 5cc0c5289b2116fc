"""The configuration of the site, which only `make site` builds."""

from __future__ import annotations

import fnmatch
import re
import runpy
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONF = ROOT / "qrkd_lab" / "teaching" / "site" / "conf.py"


@pytest.fixture
def conf(monkeypatch):
    """What conf.py sets, with a stand-in for the package that MathJax comes with."""
    spec = ModuleSpec("sphinx-mathjax-offline", None, origin="/packages/mathjax/__init__.py")
    monkeypatch.setattr("importlib.util.find_spec", {"sphinx-mathjax-offline": spec}.get)
    return runpy.run_path(str(CONF))


def test_every_page_is_once_in_the_table_of_contents(conf):
    contents = conf["contents"]((ROOT / "README.md").read_text())
    entries = re.findall(r"^(?:.*<)?(\w+/[\w*]+)>?$", contents, flags=re.MULTILINE)
    pages = [
        str(path.relative_to(ROOT).with_suffix(""))
        for pattern in conf["include_patterns"]
        for path in ROOT.glob(pattern)
    ]
    assert len(pages) > 24
    for page in set(pages) - {conf["root_doc"]}:
        found = [entry for entry in entries if fnmatch.fnmatch(page, entry)]
        assert len(found) == 1, f"{page}: {found}"
    assert "13 Is it quantum? <notebooks/13_is_it_quantum>" in contents


def test_nothing_is_executed_and_nothing_is_fetched(conf):
    assert conf["nb_execution_mode"] == "off"
    assert conf["myst_heading_slug_func"]("Is it quantum?") == "Is-it-quantum?"
    assert conf["html_static_path"] == [
        "style.css", "/packages/mathjax/static/mathjax/tex-svg-full.js"
    ]  # fmt: skip
    assert conf["mathjax_path"] == "tex-svg-full.js"
    assert "url(" not in CONF.with_name("style.css").read_text()
