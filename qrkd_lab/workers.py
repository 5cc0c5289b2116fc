"""Worker processes of a study: what each job returns, even if a process dies on the way.

A process that the system kills, for want of memory say, breaks the whole pool. What had been done
is recorded; the jobs that were not are given to a new pool. Where nothing gets done any more, each
job goes alone, and the one whose process dies then is the one to blame.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import joblib

from qrkd_lab.orphans import deaf_to_ctrl_c, watched

__all__ = ["failure", "outcomes"]

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
