"""Weights in safetensors: they come back as they were, and what was cut is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from qrkd_lab.files import RecordError
from qrkd_lab.studies.records import pack_weights, read_weights


def test_awkward_weights_come_back_equal(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tied = {"wte": base, "head": base, "turned": base.T, "row": base[1], "none": torch.zeros(0)}
    tied["half"] = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pack_weights(tied))
    weights = read_weights(path)
    assert weights.keys() == tied.keys()
    assert all(torch.equal(weights[n], t) and weights[n].dtype == t.dtype for n, t in tied.items())
    stored = 12 + 12 + 4  # wte, turned and row; head is not stored a second time
    assert path.stat().st_size < stored * 4 + 4 + 12 * 4 + 512
    with safe_open(path, "pt") as file:
        assert ("wte" in file.keys()) != ("head" in file.keys())


def test_a_file_that_was_cut_is_damage(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pack_weights({"w": torch.ones(9)})[:-1])
    with pytest.raises(RecordError, match="missing or cut .* Delete this folder and run again"):
        read_weights(path)
