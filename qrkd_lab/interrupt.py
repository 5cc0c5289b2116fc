"""Ctrl-C that stays Ctrl-C, whatever a library makes of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["ctrl_c_stays"]


@contextmanager
def ctrl_c_stays() -> Iterator[None]:
    """After Ctrl-C in the block it ends with KeyboardInterrupt, whatever a library made of it.

    ``torch.save``, for one, raises a RuntimeError instead; a destructor prints and goes on.
    """
    pressed, before = threading.Event(), signal.getsignal(signal.SIGINT)

    def note(*arguments: Any) -> None:  # noqa: ANN401
        pressed.set()
        before(*arguments)

    # Only the main thread is told of signals; where Ctrl-C is ignored it stays so.
    noting = callable(before) and threading.current_thread() is threading.main_thread()
    if noting:
        signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception as error:
        if pressed.is_set():
            raise KeyboardInterrupt from error
        raise
    finally:
        if noting:
            signal.signal(signal.SIGINT, before)
    if pressed.is_set():
        raise KeyboardInterrupt
