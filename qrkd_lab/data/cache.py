"""Decoded images and encoded text, kept in files so that a second load takes no time."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
from torch import Tensor

from qrkd_lab.files import expanded, write_file

__all__ = ["CACHE_DIR_VARIABLE", "cache_folder", "keep", "kept"]

CACHE_DIR_VARIABLE = "QRKD_CACHE_DIR"


def cache_folder() -> Path:
    """The folder of the cache: ``$QRKD_CACHE_DIR``, else the user's.

    It need not exist yet, and may be deleted at any time: what it held is made again.
    """
    import pooch

    chosen = os.environ.get(CACHE_DIR_VARIABLE)
    return expanded(chosen).absolute() if chosen else Path(pooch.os_cache("qrkd-lab"))


def kept(file: Path) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """The tensors (memory-mapped) and notes in a file of the cache; None if absent or cut."""
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        return None
    try:
        with safe_open(file, "pt") as held:
            tensors = {name: held.get_tensor(name) for name in held.keys()}
            notes = held.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        warnings.warn(f"{file} is damaged ({error}): reading the data again.", stacklevel=4)
        return None
    return tensors, notes


def keep(file: Path, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write a file of the cache, whole or not at all; a disk that is full costs only time."""
    from safetensors.numpy import save  # older ones for torch know no uint16

    arrays = {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in tensors.items()}
    try:
        write_file(file, save(arrays, notes))
    except OSError as error:
        warnings.warn(
            f"{file} cannot be written ({error}), so the data will be read again. Make room, or "
            f"set {CACHE_DIR_VARIABLE} to a folder of yours.",
            stacklevel=3,
        )
