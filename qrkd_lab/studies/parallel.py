"""Jobs side by side, on this machine's cores or on a Dask cluster."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from itertools import starmap
from multiprocessing import resource_tracker
from numbers import Integral
from typing import TYPE_CHECKING, Any

import joblib

from qrkd_lab.interrupt import ctrl_c_stays
from qrkd_lab.studies.records import versions
from qrkd_lab.train import Diverged

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "ClusterError",
    "check_jobs",
    "deaf_to_ctrl_c",
    "each",
    "each_on_cluster",
    "pool",
    "processes",
]

Outcome = tuple[int, list[Any], list[str]]  # seed, what was made, failures in words
Job = Callable[..., Iterable[Any]]


def each(function: Job, tasks: Mapping[int, tuple[Any, ...]], jobs: int = 1) -> Iterator[Outcome]:
    """Call a function on the arguments of every seed, in this process or in several.

    It gives what it makes, one thing after the other. The outcome of a seed comes as soon as it is
    there, in any order; a ``Diverged``, an error and a process that was killed become failures in
    words.
    """
    if processes(jobs, len(tasks)) == 1:
        return starmap(_attempt, ((seed, function, of) for seed, of in tasks.items()))
    return _in_processes(function, tasks, jobs)


def _in_processes(
    function: Job, tasks: Mapping[int, tuple[Any, ...]], jobs: int
) -> Iterator[Outcome]:
    left, job, caller = set(tasks), joblib.delayed(_attempt), os.getpid()
    calls = [job(seed, function, of, caller) for seed, of in tasks.items()]
    with pool(jobs, len(tasks)) as workers:
        with deaf_to_ctrl_c():  # a generator starts the workers, and waits for none
            found = joblib.Parallel(n_jobs=workers, return_as="generator_unordered")(calls)
        try:
            for outcome in found:
                left.discard(outcome[0])
                yield outcome
        except BrokenProcessPool:
            for seed in sorted(left):
                said = f"seed {seed} is not trained, as a process was killed. Too little memory?"
                yield seed, [], [f"{said} Give fewer jobs, or make batches or models smaller."]


def _attempt(seed: int, function: Job, arguments: tuple, caller: int | None = None) -> Outcome:
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
            time.sleep(0.5)
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

    Where the system can start none (no shared memory, in some containers) it is one.
    """
    workers = processes(jobs, count)
    options = {"inner_max_num_threads": 1} if workers > 1 else {}
    with joblib.parallel_config("loky", **options):
        yield workers


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


# ---- a Dask cluster

CONNECT = 10.0  # seconds for a scheduler to answer
PATIENCE = 30.0  # seconds for a first worker to be there
_ONE = threading.Lock()  # jobs side by side in one process would not give the same bits


class ClusterError(RuntimeError):
    """A Dask cluster is not there, or has no worker that can do the jobs; says what to do."""


def each_on_cluster(
    function: Job, tasks: Mapping[int, tuple[Any, ...]], scheduler: str
) -> Iterator[Outcome]:
    """:func:`~qrkd_lab.studies.parallel.each` on the workers of a Dask cluster.

    The job of a worker that dies goes to another one.

    Raises:
        ClusterError: no scheduler answers, it has no worker or one with other versions than this
            machine, or the scheduler was lost.
    """
    with _connected(scheduler) as client:
        from distributed import as_completed

        try:
            futures = {
                client.submit(_work, seed, function, of, pure=False): seed
                for seed, of in tasks.items()
            }
        except TypeError as error:
            raise ClusterError(
                f"these data, models or relations cannot be sent to a worker: {error}; build them "
                "in functions that hold no open file, lock or device, or use jobs= on this machine"
            ) from error
        for future in as_completed(futures, loop=client.loop):
            try:
                yield future.result()
            except CancelledError as error:
                raise ClusterError(
                    f"the scheduler at {scheduler} does not answer any more. Start it and its "
                    "workers again, and run the study again: what is recorded is reused."
                ) from error
            except Exception as error:  # its workers died, say, or one cannot read the job
                seed = futures[future]
                yield seed, [], [f"seed {seed}: {type(error).__name__}: {error}"]


def _work(seed: int, function: Job, arguments: tuple[Any, ...]) -> Outcome:
    with _ONE:
        return _attempt(seed, function, arguments)


@contextmanager
def _connected(address: str) -> Iterator[Client]:
    """A client of a scheduler that has workers, all of them with this machine's versions."""
    if not re.fullmatch(r"[a-z]+://[^/\s]+:\d+", address):
        raise ValueError(f"scheduler: expected an address like tcp://host:8786, got {address!r}")
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterError(
            "a scheduler needs Dask on this machine: pip install 'qrkd-lab[cluster]', or "
            "pip install dask distributed"
        ) from error
    try:
        client = Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {address} ({error}). Start one with `dask scheduler`, "
            "and give the address that it says; or leave the scheduler out, and the jobs run here."
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise ClusterError(
                f"there is no worker at {address}. Start some (`dask worker {address} --nthreads "
                "1`), and try again."
            ) from error
        here = versions()
        for worker, there in client.run(versions, on_error="return").items():
            said = str(there) if isinstance(there, Exception) else differences(here, there)
            if said:
                raise ClusterError(
                    f"worker {worker} cannot do these jobs: {said}. Install the same there, or "
                    "stop it."
                )
        yield client


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

    pairs = {name: (counts(name, there.get(name)), counts(name, here[name])) for name in here}
    return "; ".join(
        f"{name} {theirs}, here {ours}"
        for name, (theirs, ours) in pairs.items()
        if theirs != ours and name not in ("platform", "cpu")
    )
