"""Where the computation runs: ``device="auto"`` picks CUDA, then MPS, then the CPU."""

from __future__ import annotations

import torch

__all__ = ["pick_device"]


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
