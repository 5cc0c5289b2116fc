"""Corpora for the tests of data: made up, and the user's own."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def real() -> Callable[..., Path]:
    def folder(*path: str) -> Path:
        """The user's data, or a skip."""
        data = os.environ.get("QRKD_DATA_DIR")
        if not data or not Path(data, *path).exists():
            pytest.skip(f"needs {'/'.join(path)} in $QRKD_DATA_DIR, which is not set or lacks it")
        return Path(data)

    return folder


@pytest.fixture
def mine(tmp_path):
    """A folder of seeded nonsense."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mine"
    folder.mkdir()
    words = ["bell", "ring", "singing", "the", "a", "of", ",", "kingdom", "é", "\t"]
    for part, count in (("train", 200), ("valid", 20), ("test", 30)):
        drawn = [" ".join(rng.choice(words, rng.integers(0, 12))) + "\n" for _ in range(count)]
        (folder / f"{part}.txt").write_text("".join(drawn), encoding="utf-8")
    return folder


@pytest.fixture
def reviews(tmp_path):
    """aclImdb with 30 and 20 reviews a class; a review says where it is from."""
    for part, count in (("train", 30), ("test", 20)):
        for kind in ("neg", "pos"):
            folder = tmp_path / "aclImdb" / part / kind
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}_7.txt").write_text(f"{part} {kind} {i}")
    return tmp_path
