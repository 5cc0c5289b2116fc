"""Where torch computes, and how: devices, threads, global switches, out of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

__all__ = ["OutOfMemory", "default_arithmetic", "memory_advice", "one_thread", "pick_device"]

# torch's switches that change numbers, and their defaults; those of several operations come first.
# Which there are depends on torch's version.
_SWITCHES = (
    (torch.backends, "fp32_precision", "none"),
    (torch.backends.cudnn, "fp32_precision", "none"),
    (torch.backends.cudnn, "allow_tf32", True),
    (getattr(torch.backends.cudnn, "conv", None), "fp32_precision", "tf32"),
    (getattr(torch.backends.cudnn, "rnn", None), "fp32_precision", "tf32"),
    (torch.backends.cuda.matmul, "fp32_precision", "ieee"),
    *(
        (getattr(torch.backends.mkldnn, name, None), "fp32_precision", "ieee")
        for name in ("matmul", "conv", "rnn")
    ),
    (torch.backends.cudnn, "benchmark", False),
    (torch.backends.cudnn, "deterministic", False),
    (torch.backends.mkldnn, "enabled", True),
)


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


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """One CPU thread inside the block, and torch's default arithmetic (:func:`default_arithmetic`).

    It is faster for models this small. The order of additions depends on the number of threads, so
    a fixed number gives the same bits whether a run is alone on the machine or not.
    """
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(1)
        with default_arithmetic(device):
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def default_arithmetic(device: torch.device | None = None) -> Iterator[None]:
    """Inside the block torch computes by its own defaults; the user's switches are put back after.

    A record does not name torch's global switches, so these must not change its numbers: precision
    of float32 products (TF32), choice of algorithms, deterministic mode, default dtype and device,
    autocast, ``no_grad`` and ``inference_mode`` around the call.

    Args:
        device: where is computed, if not on the CPU alone.
    """
    precision = _known(torch.get_float32_matmul_precision)
    with ExitStack() as stack:
        for of, name, value in _SWITCHES:
            if (old := _known(getattr, of, name, None)) not in (None, value):
                stack.callback(setattr, of, name, old)
                setattr(of, name, value)
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_deterministic_debug_mode, torch.get_deterministic_debug_mode())
        torch.set_deterministic_debug_mode(0)
        if precision is not None:
            stack.callback(torch.set_float32_matmul_precision, precision)
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        for kind in {"cpu", "cpu" if device is None else device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        yield


def _known(get: Callable[..., Any], *of: Any) -> Any:  # noqa: ANN401
    """The value of a switch; None where torch says that it was set by another of its names."""
    try:
        return get(*of)
    except RuntimeError:
        return None


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
