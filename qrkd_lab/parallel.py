"""Jobs side by side: on this machine's cores, or on a Dask cluster, through joblib either way."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import joblib

from qrkd_lab.workers import Outcome, outcomes

__all__ = ["ClusterError", "check_jobs", "each", "pool", "processes", "scheduler_address"]


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
    from qrkd_lab.cluster import cluster_outcomes  # it imports distributed, where that is installed

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


def scheduler_address(scheduler: str | None) -> str | None:
    """A scheduler as it was given, else ``$QRKD_SCHEDULER``; None (or ``""``): this machine."""
    given = os.environ.get("QRKD_SCHEDULER") if scheduler is None else scheduler
    return given or None
