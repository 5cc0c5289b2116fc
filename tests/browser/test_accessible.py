"""All explorers without mouse or eyes: axe-core finds nothing serious, and the focus is seen."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook

EXPLORERS = {
    "CircuitExplorer": "",
    "DistillationExplorer": "runs_dir='made'",
    "KernelExplorer": "",
    "RelationExplorer": "",
    "StudyBrowser": "benchmark='mnist', scale='laptop'",
}
RUN = """async box => {
  const found = await axe.run(box, {resultTypes: ['violations']});
  return found.violations.filter(one => ['serious', 'critical'].includes(one.impact)).map(
    one => `${one.id}: ${one.help}: ${one.nodes.map(node => node.html.slice(0, 200)).join(' | ')}`);
}"""
# Whatever can have the focus looks different with it: an outline, a shadow or another border.
UNSEEN = """box => {
  const look = part => ['outline', 'boxShadow', 'border', 'background'].map(
    name => getComputedStyle(part)[name]).join();
  const parts = 'button, input, select, textarea, [role=slider], [role=tab]';
  return [...box.querySelectorAll(parts)].filter(part => {
    if (!part.checkVisibility() || part.disabled || part.tabIndex < 0) return false;
    part.blur();
    const [before, owner] = [look(part), look(part.parentElement)];
    part.focus({focusVisible: true, preventScroll: true});
    const seen = look(part) !== before || look(part.parentElement) !== owner;
    return document.activeElement === part && !seen;
  }).map(part => part.outerHTML.slice(0, 200));
}"""


def test_axe_finds_nothing_serious_and_the_focus_is_seen(lab):
    axe = importlib.util.find_spec("axe_playwright_python")
    if axe is None:
        pytest.skip("axe-core is not installed: pip install 'qrkd-lab[browser]'")
    cells = [
        f"from qrkd_lab.teaching.widgets import {name}\n{name}({arguments})"
        for name, arguments in EXPLORERS.items()
    ]
    notebook = lab.open(new_notebook(cells=[*map(new_code_cell, cells)]))
    notebook.run_all(seconds=180)
    notebook.page.evaluate((Path(axe.origin).parent / "axe.min.js").read_text())
    wrong = {}
    for name in EXPLORERS:
        box = notebook.explorer(f"qrkd-{name}")
        wrong[f"axe, {name}"] = box.evaluate(RUN)
        wrong[f"focus not seen, {name}"] = box.evaluate(UNSEEN)
    assert {name: found for name, found in wrong.items() if found} == {}
    assert notebook.errors == notebook.kernel_errors() == []
