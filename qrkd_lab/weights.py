"""Weights as safetensors: tied ones are stored once; and whether they are those of a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.storage import damaged, unreadable

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["odd_tensors", "pack_weights", "read_weights"]


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
    """The tensors by name that :func:`pack_weights` packed, on the CPU, tied ones again twice.

    Raises:
        RecordError: the file is missing or cut, so that its folder is damaged; or it cannot be
            read.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
            aliases = file.metadata() or {}
    except (FileNotFoundError, SafetensorError) as error:
        raise damaged(path.parent, f"{path.name} is missing or cut ({error})") from error
    except (OSError, MemoryError) as error:
        raise unreadable(path, error) from error
    if lost := sorted(set(aliases.values()) - found.keys()):
        raise damaged(path.parent, f"{path.name} lacks the tied weights {', '.join(lost)}")
    return found | {alias: found[name] for alias, name in aliases.items()}


def odd_tensors(found: Any, expected: Mapping[str, Tensor]) -> str:  # noqa: ANN401
    """What in ``found`` is not a tensor of the expected name, type and shape; empty if all are.

    To be asked before anything is copied: an optimiser trusts the sizes of its tensors.
    """
    from torch import Tensor

    if not isinstance(found, Mapping) or found.keys() != expected.keys():
        got = sorted(map(str, found)) if isinstance(found, Mapping) else found
        return f"expected {', '.join(sorted(expected)) or 'nothing'}, got {got!r:.200}"
    for name, tensor in expected.items():
        kind = (tensor.dtype, tensor.shape, tensor.layout)
        one = found[name]
        is_one = isinstance(one, Tensor) and not one.is_meta
        if not is_one or (one.dtype, one.shape, one.layout) != kind:
            got = f"{one.dtype} {tuple(one.shape)}" if is_one else repr(one)
            return f"{name}: expected {tensor.dtype} {tuple(tensor.shape)}, got {got:.200}"
    return ""
