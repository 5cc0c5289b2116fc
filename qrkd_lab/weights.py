"""Weights as safetensors: tied ones are stored once, and a file that was cut is damage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.storage import damaged

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["open_weights", "pack_weights", "read_weights"]


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
    if lost := sorted(set(aliases.values()) - found.keys()):
        raise damaged(path.parent, f"{path.name} lacks the tied weights {', '.join(lost)}")
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
