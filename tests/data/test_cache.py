"""The cache: what was kept comes back, and damage is never trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from qrkd_lab.data.cache import cache_folder, keep, kept

TENSORS = {
    "ids": torch.from_numpy(np.arange(900, dtype=np.uint16)),
    "wide": torch.from_numpy(np.arange(3, dtype=np.uint32)),
    "pixels": torch.arange(6, dtype=torch.uint8).view(1, 2, 3),
}


def test_the_folder_is_that_of_the_variable_else_the_users(monkeypatch):
    monkeypatch.setenv("QRKD_CACHE_DIR", "~/x")
    assert cache_folder() == Path.home() / "x"
    monkeypatch.setenv("QRKD_CACHE_DIR", "")
    assert cache_folder().name == "qrkd-lab"


def test_what_was_kept_comes_back_and_is_replaced_by_what_is_kept_next(tmp_path):
    file = tmp_path / "deep" / "a.safetensors"
    assert kept(file) is None
    keep(file, TENSORS, {"said": "é"})
    tensors, notes = kept(file)
    assert notes == {"said": "é"} and tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert np.array_equal(tensor.numpy(), TENSORS[name].numpy())
    keep(file, {"other": torch.ones(1)}, {})
    assert [*kept(file)[0]] == ["other"] and np.array_equal(tensors["ids"].numpy(), range(900))
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("left", [-9, 0])
def test_a_cut_file_is_told_and_not_taken(tmp_path, left):
    keep(file := tmp_path / "a", TENSORS, {"said": "words"})
    file.write_bytes(file.read_bytes()[:left])
    with pytest.warns(UserWarning, match="is damaged .*reading the data again"):
        assert kept(file) is None
