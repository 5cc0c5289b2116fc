"""Folders that are either whole or not there, and the strict JSON and weights that lie in them.

A folder is written under a hidden name beside its final place, forced to the disk, and only then
renamed. So a killed process, a full disk or a second process that writes the same folder never
leave half of one; and what was damaged later is refused with a :class:`RecordError`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "RecordError", "damaged", "open_weights", "pack_weights", "plain", "read_json", "read_weights",
    "write_folder",
]  # fmt: skip

STALE_SECONDS = 24 * 3600  # no save takes a day: an older temporary folder is a dead process's


class RecordError(RuntimeError):
    """A run's record cannot be written, or cannot be trusted; the message says what to do."""


def damaged(folder: Path, what: str) -> RecordError:
    """The error that says what is wrong with a folder, and what to do."""
    return RecordError(f"{folder} is damaged: {what}. Delete this folder and run again.")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write a folder of files so that it is there whole or not at all.

    Args:
        folder: its final place; the folders above it are made if missing.
        files: content by file name.

    Returns:
        False if the folder was there already (another process was first) and was left alone.

    Raises:
        OSError: the disk is full or read-only. Nothing is left behind then.
    """
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder.parent)
        hidden.mkdir()
        for name, content in files.items():
            (hidden / name).write_bytes(content)
        for path in (*(hidden / name for name in files), hidden):
            _sync(path)
        written = _rename(hidden, folder)
        _sync(folder.parent)
    finally:  # gone already when the rename succeeded
        shutil.rmtree(hidden, ignore_errors=True)
    return written


def _sync(path: Path) -> None:
    """Force a file or folder to the disk (on Windows neither can be opened for that)."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _rename(hidden: Path, folder: Path) -> bool:
    try:
        os.rename(hidden, folder)
    except OSError:
        if not folder.exists():
            raise
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what killed processes left; an entry may vanish while we look."""
    for path in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def plain(value: Any, where: str) -> Any:  # noqa: ANN401
    """A copy made of plain JSON values only; anything else is refused by its place.

    Raises:
        RecordError: something in ``value`` is no JSON, or not finite; names it, from ``where`` on.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise RecordError(f"{where} is {value}: a record holds finite numbers. Did it diverge?")
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise RecordError(
        f"{where} is a {type(value).__name__} ({value!r:.60}): a record holds None, bool, int, "
        "float, str, lists and dictionaries with str keys. Convert it, e.g. with float()."
    )


def read_json(path: Path) -> dict[str, Any]:
    """The dictionary in a file of strict JSON.

    Raises:
        RecordError: the file is missing, cut or holds something else: its folder is damaged.
    """
    try:
        record = plain(json.loads(path.read_bytes()), "record")
    except (OSError, ValueError, RecursionError, RecordError) as error:
        raise damaged(path.parent, f"{path.name} cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise damaged(path.parent, f"{path.name} holds no dictionary")
    return record


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as the content of a safetensors file; tied ones are stored once, with an alias."""
    from safetensors.torch import save

    first: dict[Any, str] = {}  # where a tensor lies -> its first name
    aliases: dict[str, str] = {}  # safetensors' own custom: a tied name -> the name that is stored
    for name, tensor in weights.items():
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and (owner := first.setdefault(memory, name)) != name:
            aliases[name] = owner
    kept = {name: weights[name].detach().cpu() for name in weights if name not in aliases}
    return save({n: t.clone().contiguous() for n, t in kept.items()}, metadata=aliases or None)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name that :func:`pack_weights` packed, on the CPU, tied ones again twice."""
    with open_weights(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}
        aliases = file.metadata() or {}
    return found | {alias: found[name] for alias, name in aliases.items()}


@contextmanager
def open_weights(path: Path, framework: str) -> Iterator[Any]:
    """The open weights; opening checks that the header is whole and covers the file's length.

    Raises:
        RecordError: the file is missing or cut: its folder is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise damaged(path.parent, f"{path.name} is missing or cut ({error})") from error
