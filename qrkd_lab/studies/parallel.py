"""Jobs side by side on this machine's cores, and locks between processes."""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import resource_tracker
from numbers import Integral
from pathlib import Path
from typing import Any

import joblib
from filelock import FileLock, Timeout

from qrkd_lab.interrupt import ctrl_c_stays
from qrkd_lab.train import Diverged

__all__ = [
    "NO_WORKERS",
    "attempt",
    "can_start_workers",
    "check_jobs",
    "deaf_to_ctrl_c",
    "each",
    "lock",
    "pool",
    "processes",
]

Outcome = tuple[int, list[Any], list[str]]  # seed, what was made, failures in words
Job = Callable[..., Iterable[Any]]
NO_WORKERS = (
    "this system can start no worker processes (usually /dev/shm is absent or read-only): "
    "jobs run one after another in this process. The results are the same."
)
LOOK = 0.5  # seconds between two looks at whether the parent process is alive


def each(function: Job, tasks: Mapping[int, tuple[Any, ...]], jobs: int = 1) -> Iterator[Outcome]:
    """Call a function on the arguments of every seed, in this process or in several.

    Args:
        function: gives what it makes, one thing after the other; a ``Diverged`` among them, and an
            error, become failures in words.
        tasks: the arguments by seed.
        jobs: processes; -1: one per core.

    Yields:
        The outcome of every seed as soon as it is there, in any order. A seed whose process was
        killed is tried again, at last alone; then it has a failure in words.
    """
    if not tasks:
        return
    todo, left = dict(tasks), len(tasks) + 1
    with pool(jobs, len(tasks)) as workers:
        while 0 < len(todo) < left:  # as long as some are done
            left = len(todo)
            with suppress(BrokenProcessPool):
                for outcome in _parallel(function, todo, workers):
                    del todo[outcome[0]]
                    yield outcome
        for seed, arguments in todo.items():
            try:  # with two workers joblib does not run it in this process
                yield from _parallel(function, {seed: arguments}, 2)
            except BrokenProcessPool:
                said = (
                    f"seed {seed}: the process that trained it was killed, and again when it was "
                    "tried alone. Was there too little memory? Make the batches or the models "
                    "smaller."
                )
                yield seed, [], [said]


def _parallel(function: Job, tasks: Mapping[int, tuple], workers: int) -> Iterator[Outcome]:
    job, caller = joblib.delayed(attempt), os.getpid()
    calls = [job(seed, function, of, caller) for seed, of in tasks.items()]
    with deaf_to_ctrl_c():  # a generator starts the workers, and waits for none
        return joblib.Parallel(n_jobs=workers, return_as="generator_unordered")(calls)


def attempt(
    seed: int, function: Job, arguments: tuple[Any, ...], caller: int | None = None
) -> Outcome:
    """The outcome of one seed; an error becomes a sentence, so that other seeds go on.

    A worker process that ``caller`` started ends with it.
    """
    if os.getppid() == caller:
        _end_with(caller)
    made, failures = [], []
    try:
        with ctrl_c_stays():
            for result in function(*arguments):
                if isinstance(result, Diverged):
                    failures.append(str(result))
                else:
                    made.append(result)
    except Exception as error:
        failures.append(f"seed {seed}: {type(error).__name__}: {error}")
    return seed, made, failures


@cache  # one thread per process
def _end_with(parent: int) -> None:
    """End this worker, also in the middle of a job, when the process that started it ends."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(LOOK)
        os._exit(1)  # sys.exit would end this thread alone

    threading.Thread(target=watch, daemon=True).start()


# ---- processes


def check_jobs(jobs: int) -> None:
    """Raise ValueError if it is no number of processes."""
    if isinstance(jobs, bool) or not isinstance(jobs, Integral) or jobs < -1 or jobs == 0:
        raise ValueError(f"jobs: expected a whole number >= 1, or -1 for one a core, got {jobs!r}")


def processes(jobs: int, count: int) -> int:
    """How many processes of this machine so many tasks get."""
    return min(joblib.effective_n_jobs(jobs), count) or 1


@contextmanager
def pool(jobs: int, count: int) -> Iterator[int]:
    """Inside, joblib starts so many workers, each with one thread; with one it starts none.

    Where the system can start none (no shared memory, in some containers), it is one, with a
    warning.
    """
    workers = processes(jobs, count)
    if jobs != 1 and not can_start_workers():
        warnings.warn(f"jobs={jobs}, but {NO_WORKERS}", stacklevel=3)
    options = {"inner_max_num_threads": 1} if workers > 1 else {}
    with joblib.parallel_config("loky", **options):
        yield workers


def can_start_workers() -> bool:
    """Whether joblib can start processes; it needs semaphores, which need shared memory."""
    with joblib.parallel_config("loky"):
        return joblib.effective_n_jobs(2) > 1


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


# ---- locks


@contextmanager
def lock(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process got the lock of this name, which it then holds through the block.

    Nobody waits. The system frees the lock when its process ends, however it does. Where there are
    no locks (a file system without them, a folder that cannot be written) everybody gets it, and so
    do all who ask in one process.

    Args:
        folder: made if missing.
        name: of the lock; its file is ``.<name>.lock`` in the folder, removed at the end.
    """
    file = FileLock(folder / f".{name}.lock", timeout=0, thread_local=False, is_singleton=True)
    got = True
    with suppress(OSError, NotImplementedError):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file.acquire()
        except Timeout:
            got = False
    try:
        yield got
    finally:
        if file.lock_counter == 1:  # else a block around this one holds it too
            with suppress(OSError):
                Path(file.lock_file).unlink()
        file.release()
