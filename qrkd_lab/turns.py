"""Turns: telling, or refusing, when another process does the same in a folder at this moment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

__all__ = ["alone", "turn"]


@contextmanager
def turn(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process is the first with the turn of this name; it keeps it through the block.

    A turn is one byte of the folder's file ``.lock``, locked by the system: a process that ends,
    however it does, lets go of it, and nothing is left to clear away. Where there are no locks (a
    file system without them, a folder that cannot be written, Windows) everybody is the first. So
    are all who ask in one process, whose turns in a folder end with the first of them.

    Args:
        folder: made if missing.
        name: of the turn.
    """
    with ExitStack() as stack:
        yield _first(stack, folder, name)


@contextmanager
def alone(folder: Path, name: str, does: str) -> Iterator[None]:
    """Inside the block no other process has the turn of this name in this folder.

    Args:
        folder, name: as for :func:`turn`.
        does: what the other does and what to do about it, for the message: it begins with a verb.

    Raises:
        RuntimeError: another has it.
    """
    with turn(folder, name) as first:
        if not first:
            raise RuntimeError(f"another process {does}")
        yield


def _first(stack: ExitStack, folder: Path, name: str) -> bool:
    byte = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7])
    try:
        import fcntl

        folder.mkdir(parents=True, exist_ok=True)
        stream = stack.enter_context((folder / ".lock").open("ab"))  # closing it ends the turn
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except BlockingIOError:
        return False
    except (ImportError, OSError):
        pass
    return True
