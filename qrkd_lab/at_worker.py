"""What runs in a worker of a Dask cluster: the examination before its first job, and each job."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qrkd_lab.learner import Learner
from qrkd_lab.runs import versions
from qrkd_lab.watch import Watch
from qrkd_lab.workers import Outcome, failure

__all__ = ["CalledOff", "call", "differences", "examine", "own_folder"]

LOOK = 1.0  # seconds between two looks at whether the job is still wanted
_TURN = threading.Lock()  # jobs side by side in one process would not give the same bits


def examine(here: Mapping[str, str | None], check: bytes | None, mark: str) -> str:
    """Why this worker cannot do the jobs of a study; or "", and the scheduler sends it some.

    Args:
        here: versions at the caller, as :func:`~qrkd_lab.runs.versions` gives them.
        check: a pickled function without arguments, which may load data; what it raises is the
            reason. It is unpickled when the versions are known to agree.
        mark: the resource that jobs of this study ask for, and that the worker gets.
    """
    if different := differences(here, versions()):
        return f"{different}; install the same there"
    try:
        if check is not None:
            with _TURN:
                pickle.loads(check)()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    _get(mark)
    return ""


def differences(here: Mapping[str, str | None], there: Mapping[str, str | None]) -> str:
    """Which versions differ, in words; the machine, a build and a patch of Python do not count.

    Example:
        >>> differences({"torch": "2.14.1+cpu", "python": "3.11.9"},
        ...             {"torch": "2.9.1", "python": "3.11.2"})
        'torch 2.9.1, here 2.14.1'
    """

    def counts(name: str, version: str | None) -> str:
        if version is None:
            return "not installed"
        public = version.partition("+")[0]
        return ".".join(public.split(".")[:2]) if name == "python" else public

    told = []
    for name in (name for name in here if name not in ("platform", "cpu")):
        ours, theirs = counts(name, here[name]), counts(name, there.get(name))
        if ours != theirs:
            told.append(f"{name} {theirs}, here {ours}")
    return "; ".join(told)


def _get(mark: str) -> None:
    """Give this worker a resource, and let the scheduler look again at jobs that wait for it."""
    from distributed import Status, get_worker
    from distributed.utils import sync

    worker = get_worker()

    async def get() -> None:
        await worker.set_resources(**{mark: 1})
        if worker.status == Status.running:
            # A scheduler looks for jobs that no worker could do when a worker comes or wakes up.
            worker.status = Status.paused
            worker.status = Status.running

    sync(worker.loop, get)


def call(task: tuple[int, Callable[..., Outcome], tuple[Any, ...]]) -> Outcome:
    """One job: the seed, and a function with its arguments; an error becomes a sentence.

    They come as one tuple, for what joblib can reference weakly, it may scatter: such arguments die
    with the worker that holds them, and the job could not be done again.
    """
    seed, function, arguments = task
    with _TURN:
        try:
            return function(*arguments)
        except Exception as error:
            return seed, [], [failure(seed, error)]


def own_folder(name: str) -> Path:
    """A folder on this worker's machine that a later worker there finds again."""
    from distributed import get_worker

    return Path(get_worker().local_directory).parent / "qrkd_lab" / name


class CalledOff(Watch):
    """Ends a training whose result nobody waits for any more, on Ctrl-C at the caller, say."""

    def __init__(self) -> None:
        from distributed import get_worker

        self._worker = get_worker()
        self._key, self._looked = self._worker.get_current_task(), time.monotonic()

    def step(self, learners: Sequence[Learner], epoch: int, step: int) -> None:
        if time.monotonic() - self._looked < LOOK:
            return
        self._looked = time.monotonic()
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled":
            raise InterruptedError("the job was called off")
