"""Where the computation runs: ``device="auto"`` picks CUDA, then MPS, then the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["OutOfMemory", "memory_advice", "pick_device"]


class OutOfMemory(RuntimeError):
    """A step needs more memory than there is; the message says what to make smaller."""


@contextmanager
def memory_advice(batch: int, length: int | None = None) -> Iterator[None]:
    """Turn torch's error for a lack of memory into advice.

    Args:
        batch: samples a batch.
        length: tokens a sample, if it is text.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own is a RuntimeError
        said = str(error) or type(error).__name__
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and "can't allocate memory" not in said and "out of memory" not in said:
            raise
        what = f"{batch} samples" if length is None else f"{batch} sequences of {length} tokens"
        shorter = "" if length is None else " or sequence_length"
        raise OutOfMemory(
            f"not enough memory for batches of {what}: use a smaller batch_size{shorter}. With "
            f"batch_size={max(1, batch // 2)} and twice the accumulation the optimiser sees "
            f"as many a step as before; relations are within a batch. ({said.splitlines()[0]})"
        ) from error


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device of a name; ``"auto"`` takes CUDA, else Apple's MPS, else the CPU.

    Raises:
        ValueError: the name is no torch device, or this machine has none of it.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if str(name) == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is none of torch's; try 'auto' or 'cpu'") from error
    if not there.get(device.type, False):
        choices = ", ".join(kind for kind, available in there.items() if available)
        raise ValueError(f"device {name!r} is not available on this machine; here: auto, {choices}")
    return device
