"""No orphans: a worker process ends as soon as the process that started it has ended.

One that is killed by ``kill -9``, or for want of memory, cannot take its workers along: they would
train on for hours, unseen, beside those of the study that was started again. So each looks up.

Ctrl-C is for the process that started them: it ends them, and says one sentence. Workers that heard
it too would each print where they were.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from multiprocessing import resource_tracker
from threading import Thread
from typing import Any

__all__ = ["deaf_to_ctrl_c", "watched"]

LOOK = 0.5  # seconds


def watched(parent: int, call: Callable[..., Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401
    """``call(*args, **options)``; a worker of joblib's ends in its midst if ``parent`` ends.

    Args:
        parent: process id of the one that hands out the work. In that process itself, and in those
            that joblib did not start on this machine, nothing is watched.
        call: the work, with its arguments.
    """
    if multiprocessing.current_process().name.startswith("Loky") and os.getpid() != parent:
        _watch(parent)
    return call(*args, **options)


@contextmanager
def deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started in the block do not get SIGINT; this one gets it afterwards."""
    if os.name != "posix":
        yield
        return
    resource_tracker.ensure_running()  # as it starts with the first workers, it unblocks SIGINT
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache  # one thread a process, however many jobs it gets
def _watch(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)  # sys.exit would end this thread alone

    Thread(target=watch, daemon=True).start()
