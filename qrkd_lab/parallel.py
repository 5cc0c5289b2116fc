"""Jobs side by side: on this machine's cores, or on a Dask cluster, through joblib either way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from numbers import Integral
from typing import Any

import joblib

from qrkd_lab.workers import Outcome, outcomes

__all__ = ["ClusterError", "check_jobs", "each", "processes", "scheduler_address"]


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
        with joblib.parallel_config("loky", inner_max_num_threads=1):
            yield from outcomes(delayed, processes(jobs, len(tasks)))
        return
    from qrkd_lab.cluster import cluster_outcomes  # it imports distributed, where that is installed

    yield from cluster_outcomes(function, tasks, scheduler, check, say or (lambda _: None))


def check_jobs(jobs: int) -> None:
    """Raise ValueError if it is no number of processes."""
    if isinstance(jobs, bool) or not isinstance(jobs, Integral) or jobs < -1 or jobs == 0:
        raise ValueError(f"jobs: expected a whole number >= 1, or -1 for one a core, got {jobs!r}")


def processes(jobs: int, count: int) -> int:
    """How many processes of this machine so many tasks get."""
    return min(joblib.effective_n_jobs(jobs), count) or 1


def scheduler_address(scheduler: str | None) -> str | None:
    """A scheduler as it was given, else ``$QRKD_SCHEDULER``; None (or ``""``): this machine."""
    given = os.environ.get("QRKD_SCHEDULER") if scheduler is None else scheduler
    return given or None
