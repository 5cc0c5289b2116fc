"""Every example in a docstring runs and prints what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import qrkd_lab

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(qrkd_lab.__path__, "qrkd_lab.")
    if not name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)  # an example may write its runs where it stands
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(module, optionflags=flags)
    assert result.failed == 0
