"""The order of the files: a worker takes one after the other, so the longest come first."""

from __future__ import annotations

import pytest

LONGEST = (
    "test_notebook_series.py", "test_survival.py", "test_cluster.py", "test_guards.py",
    "test_live.py", "test_parallel.py", "test_own.py", "test_reproduce.py", "test_compare.py",
    "test_language.py", "test_notebooks.py", "test_docstrings.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))
