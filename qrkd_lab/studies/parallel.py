"""Jobs side by side: on this machine's cores, or on a Dask cluster, through joblib either way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import resource_tracker
from numbers import Integral
from pathlib import Path
from threading import Thread
from typing import Any

import joblib
from filelock import FileLock, Timeout

from qrkd_lab.studies.records import versions
from qrkd_lab.train import Callback, Training

__all__ = [
    "CalledOff",
    "ClusterError",
    "alone",
    "call",
    "check_jobs",
    "deaf_to_ctrl_c",
    "differences",
    "each",
    "examine",
    "failure",
    "outcomes",
    "own_folder",
    "pool",
    "processes",
    "turn",
    "watched",
]


class ClusterError(RuntimeError):
    """A Dask cluster is not there, or has no worker that can do the jobs; says what to do."""


def each(
    function: Callable[..., Outcome],
    tasks: Mapping[int, tuple[Any, ...]],
    jobs: int = 1,
    scheduler: str | None = None,
    check: Callable[[], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Iterator[Outcome]:
    """Call a function on the arguments of every seed, and yield what it returns, in any order.

    Close the iterator (``contextlib.closing``) where it may be left early: on a cluster, that
    calls the jobs off.

    Args:
        function: returns its seed, what was made, and failures in words. On a cluster it runs on
            another machine, so that what it needs and what it makes travels with it.
        tasks: the arguments by seed.
        jobs: processes on this machine; -1 is one a core. Not read with a scheduler.
        scheduler: address of a Dask scheduler; None: this machine.
        check: called once on every worker of a cluster before it gets a job; what it raises is why
            the worker gets none.
        say: told of workers that get no job.

    Raises:
        ClusterError: no scheduler answers, or no worker is left that can do the jobs. All that was
            done has been yielded.
    """
    if not tasks:  # nobody is asked for
        return
    if scheduler is None:
        delayed = {seed: joblib.delayed(function)(*of) for seed, of in tasks.items()}
        with pool(jobs, len(tasks)) as workers:
            yield from outcomes(delayed, workers)
        return
    from qrkd_lab.studies.cluster import (
        cluster_outcomes,  # it imports distributed, where that is installed
    )

    yield from cluster_outcomes(function, tasks, scheduler, check, say or (lambda _: None))


def check_jobs(jobs: int) -> None:
    """Raise ValueError if it is no number of processes."""
    if isinstance(jobs, bool) or not isinstance(jobs, Integral) or jobs < -1 or jobs == 0:
        raise ValueError(f"jobs: expected a whole number >= 1, or -1 for one a core, got {jobs!r}")


@contextmanager
def pool(jobs: int, count: int) -> Iterator[int]:
    """Inside, joblib starts so many worker processes, each with one thread; one: none is started.

    Where the system can start none (no shared memory, in some containers), it is one, and that is
    said: whatever is asked for is computed here, one after another.
    """
    workers = processes(jobs, count)
    if jobs != 1 and not can_start_workers():
        warnings.warn(f"jobs={jobs}, but {NO_WORKERS}", stacklevel=3)
    options = {"inner_max_num_threads": 1} if workers > 1 else {}
    with joblib.parallel_config("loky", **options):
        yield workers


NO_WORKERS = (
    "this system can start no worker processes (usually /dev/shm is absent or read-only): "
    "jobs run one after another in this process. The results are the same."
)


def can_start_workers() -> bool:
    """Whether joblib can start processes; it needs semaphores, which need shared memory."""
    with joblib.parallel_config("loky"):
        return joblib.effective_n_jobs(2) > 1


def processes(jobs: int, count: int) -> int:
    """How many processes of this machine so many tasks get."""
    return min(joblib.effective_n_jobs(jobs), count) or 1


# ---- workers


Outcome = tuple[int, list[Any], list[str]]  # seed, runs, failures
Job = tuple[Callable[..., Outcome], tuple[Any, ...], dict[str, Any]]


def outcomes(jobs: Mapping[int, Job], workers: int) -> Iterator[Outcome]:
    """What the jobs return, each as soon as it is done, in any order.

    Args:
        jobs: by seed, from ``joblib.delayed``; each returns its seed, runs and failures.
        workers: processes; with one, the jobs run here.

    Yields:
        The outcome of every job; of one whose process died when nothing ran beside it, no runs and
        a failure in words.
    """
    todo = dict(jobs)
    left = len(todo) + 1
    while 0 < len(todo) < left:
        left = len(todo)
        try:
            for outcome in _parallel(workers, list(todo.values())):
                del todo[outcome[0]]
                yield outcome
        except BrokenProcessPool:
            continue
    for seed, job in todo.items():
        try:
            yield from _parallel(2, [job])  # two, or joblib would run it in this process
        except BrokenProcessPool:
            said = (
                f"seed {seed}: the process that trained it was killed, and again when it was tried "
                "alone. Was there too little memory? Make the batches or the models smaller."
            )
            yield seed, [], [said]


def failure(seed: int, error: BaseException) -> str:
    """An error as an outcome's failure in words."""
    return f"seed {seed}: {type(error).__name__}: {error}"


def _parallel(workers: int, jobs: list[Job]) -> Iterator[Outcome]:
    here = os.getpid()
    tasks = [joblib.delayed(watched)(here, call, *args, **more) for call, args, more in jobs]
    with deaf_to_ctrl_c():  # a generator starts the workers, and waits for none
        return joblib.Parallel(n_jobs=workers, return_as="generator_unordered")(tasks)


# ---- orphans


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


# ---- turns


@contextmanager
def turn(folder: Path, name: str) -> Iterator[bool]:
    """Whether no other process holds the lock of this name; then this one does, through the block.

    The system frees the lock when its process ends, however it does. Its empty file is removed at
    the end of the block; that of a killed process stays and does no harm. Nobody waits. Where there
    are no locks (a file system without them, a folder that cannot be written) everybody is the
    first, and so are all who ask in one process.

    Args:
        folder: made if missing.
        name: of the lock; a file ``.<name>.lock`` in the folder.
    """
    lock = FileLock(folder / f".{name}.lock", timeout=0, thread_local=False, is_singleton=True)
    first = True
    with suppress(OSError, NotImplementedError):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            first = False
    try:
        yield first
    finally:
        if lock.lock_counter == 1:  # else a block around this one holds it too
            with suppress(OSError):
                Path(lock.lock_file).unlink()
        lock.release()


@contextmanager
def alone(folder: Path, name: str, does: str) -> Iterator[None]:
    """Inside the block no other process holds the lock of this name in this folder.

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


# ---- at_worker


LOOK_AT_WORKER = 1.0  # seconds between two looks at whether the job is still wanted
_TURN = threading.Lock()  # jobs side by side in one process would not give the same bits


def examine(here: Mapping[str, str | None], check: bytes | None, mark: str) -> str:
    """Why this worker cannot do the jobs of a study; or "", and the scheduler sends it some.

    Args:
        here: versions at the caller, as :func:`~qrkd_lab.studies.records.versions` gives them.
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


class CalledOff(Callback):
    """Ends a training whose result nobody waits for any more, on Ctrl-C at the caller, say."""

    def __init__(self) -> None:
        from distributed import get_worker

        self._worker = get_worker()
        self._key, self._looked = self._worker.get_current_task(), time.monotonic()

    def step(self, training: Training) -> None:
        if time.monotonic() - self._looked < LOOK_AT_WORKER:
            return
        self._looked = time.monotonic()
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled":
            raise InterruptedError("the job was called off")
