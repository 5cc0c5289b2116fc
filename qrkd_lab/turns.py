"""Turns: what only one process at a time should do in a folder; the others wait, or are told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["turn"]


@contextmanager
def turn(folder: Path, name: str, taken: Callable[[], None]) -> Iterator[None]:
    """Inside the block no other process has the turn of this name in this folder.

    A turn is one byte of the folder's file ``.lock``, locked by the system: a process that ends,
    however it does, lets go of it, and nothing is left to clear away. Where there are no locks (a
    file system without them, a folder that cannot be written, Windows) everybody has every turn.
    Threads of one process are not told apart.

    Args:
        folder: made if missing.
        name: of the turn.
        taken: called again and again while another process has it; may sleep, may raise.
    """
    try:
        import fcntl

        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / ".lock").open("ab")
    except (ImportError, OSError):
        yield
        return
    byte = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    with stream:  # closing it ends the turn
        while True:
            try:
                fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except (BlockingIOError, PermissionError):  # by the system, one or the other
                taken()
            except OSError:
                break
            else:
                break
        yield
