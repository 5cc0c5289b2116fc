"""One thread at a time in PennyLane and in torch's tracer: neither takes two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pennylane as qp

__all__ = ["one_at_a_time"]


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Inside, this thread alone makes, draws or runs circuits; others wait until it is done.

    PennyLane notes the gates of all threads in one list, which a drawing in another thread takes
    away for a moment: gates get lost, or a lock is never given back and every later circuit waits
    for ever. So the wait is for PennyLane's own lock, which a recording anywhere holds, also one in
    a reader's cell. May be nested; gates that are made inside belong to no recording outside.
    """
    with qp.queuing.AnnotatedQueue(), qp.QueuingManager.stop_recording():
        yield
