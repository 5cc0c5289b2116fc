"""Jobs on a Dask cluster, through joblib's own Dask backend, with a look at who does them.

Before its first job a worker is examined (``examine``): one that passes
gets a resource, a mark of this study, which every job asks for; so Dask sends jobs to such workers
only, whenever they join. No more jobs are given to Dask than there are such workers: one that
waited behind another on a worker that dies would be blamed for the death as well.
"""

from __future__ import annotations

import asyncio
import pickle
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import joblib
from joblib._dask import DaskDistributedBackend

from qrkd_lab.studies.parallel import ClusterError, Outcome, call, examine, failure
from qrkd_lab.studies.records import versions

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "cluster_outcomes",
]


CONNECT = 10.0  # seconds for a scheduler to answer
PATIENCE = 30.0  # seconds without any worker that can do the jobs: a nanny starts one in less
LOOK = 0.2  # seconds between two looks at the workers


def cluster_outcomes(
    function: Callable[..., Outcome],
    tasks: Mapping[int, tuple[Any, ...]],
    scheduler: str,
    check: Callable[[], None] | None,
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """What :func:`~qrkd_lab.studies.parallel.each` does where there is a scheduler."""
    with _connected(scheduler) as client:
        backend = _Backend(client, scheduler, check, say)
        jobs = (joblib.delayed(call)((seed, function, of)) for seed, of in tasks.items())
        with joblib.parallel_config(backend):
            parallel = joblib.Parallel(
                n_jobs=-1, batch_size=1, pre_dispatch="all", return_as="generator_unordered"
            )
            yield from (outcome for outcome in parallel(jobs) if outcome is not None)
        if backend.given_up is not None:
            raise backend.given_up


@contextmanager
def _connected(address: str) -> Iterator[Client]:
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
        yield client


@dataclass(eq=False)
class _Job:
    """A job between joblib and Dask."""

    batch: Any  # joblib's, of one call
    callback: Callable[[Any], None]
    out: bool = False  # Dask has it

    @property
    def seed(self) -> int:
        return self.batch.items[0][1][0][0]


class _Backend(DaskDistributedBackend):
    """joblib's Dask backend, with an eye on the workers, and no job that is waited for in vain.

    joblib hears of a job only when it has a result. Here one that Dask has given up for good ends
    in a sentence, and so do all when there is no worker left.
    """

    def __init__(
        self,
        client: Client,
        address: str,
        check: Callable[[], None] | None,
        say: Callable[[str], None],
    ) -> None:
        self.mark = f"qrkd-{uuid.uuid4().hex[:12]}"
        super().__init__(client=client, resources={self.mark: 1})
        self.address, self.say = address, say
        self.check = None if check is None else pickle.dumps(check)
        self.jobs: list[_Job] = []  # neither done nor given up
        self.fit: set[str] = set()  # workers that get jobs
        self.refused: dict[str, str] = {}  # workers that get none, and why
        self.examined: dict[str, asyncio.Task[None]] = {}  # workers that are just being examined
        self.given_up: ClusterError | None = None
        self._attending = False

    def effective_n_jobs(self, n_jobs: int) -> int:
        """Never 1, with which joblib would do the jobs here, whatever the workers are just now."""
        return 2

    def start_call(self) -> None:
        super().start_call()
        self._attending = True
        self.client.loop.add_callback(self._attend)

    def stop_call(self) -> None:
        self._attending = False
        super().stop_call()

    def submit(self, func: Any, callback: Callable[[Any], None] | None = None) -> _Job:  # noqa: ANN401
        """Take a job from joblib; it goes to Dask when a worker is free."""
        self.jobs.append(_Job(func, callback or (lambda _: None)))
        return self.jobs[-1]

    async def _attend(self) -> None:
        """Look after workers and jobs until joblib has all results."""
        hopeful = time.monotonic()
        try:
            while self._attending:
                if self.client.status == "closed":
                    self._give_up(ClusterError(self._gone()))
                    return
                await self._look()
                self._release()
                if self.fit or self.examined or not self.jobs:
                    hopeful = time.monotonic()
                elif time.monotonic() - hopeful > PATIENCE:
                    self._give_up(ClusterError(self._nobody()))
                await asyncio.sleep(LOOK)
        except Exception as error:  # nobody else would notice, and joblib would wait for ever
            self._give_up(ClusterError(f"{self.address}: {type(error).__name__}: {error}"))

    async def _look(self) -> None:
        """Who is there; who is new is examined."""
        try:
            there = (await self.client.scheduler.identity())["workers"]
        except OSError:  # the client goes on trying to reach its scheduler for a while
            there = {}
        self.fit = {name for name, about in there.items() if about["resources"].get(self.mark)}
        self.refused = {name: why for name, why in self.refused.items() if name in there}
        for name in self.examined.keys() - there.keys():
            self.examined.pop(name).cancel()
        for name in there.keys() - self.fit - self.refused.keys() - self.examined.keys():
            self.examined[name] = asyncio.create_task(self._examine(name))

    async def _examine(self, worker: str) -> None:
        future = self.client.submit(
            examine, versions(), self.check, self.mark, workers=[worker], pure=False, priority=1
        )
        try:
            why = await future
        except Exception as error:  # there is no qrkd_lab there, say
            why = f"{type(error).__name__}: {error}"
        self.examined.pop(worker, None)
        if why:
            self.refused[worker] = why
            self.say(f"worker {worker} gets no job: {why}")

    def _release(self) -> None:
        """Give Dask as many jobs as there are workers for them."""
        waiting = [job for job in self.jobs if not job.out]
        for job in waiting[: max(0, len(self.fit) - (len(self.jobs) - len(waiting)))]:
            job.out = True
            future = super().submit(job.batch, partial(self._done, job))
            future.add_done_callback(partial(self._failed, job))

    def _failed(self, job: _Job, future: Future[Any]) -> None:
        """Where joblib leaves it at that: an error of the job's future."""
        if (error := future.exception()) is not None:
            self._done(job, error)

    def _done(self, job: _Job, result: Any) -> None:  # noqa: ANN401
        """Tell joblib, once."""
        if job in self.jobs:
            if isinstance(result, BaseException) and self.client.status != "running":
                self._give_up(ClusterError(self._gone()))  # with the connection goes every job
                return
            self.jobs.remove(job)
            if isinstance(result, BaseException):
                result = [(job.seed, [], [_sentence(job.seed, result)])]
            job.callback(result)
            self._release()

    def _give_up(self, why: ClusterError) -> None:
        self.given_up, self.fit = why, set()
        for job in list(self.jobs):
            self._done(job, [None])

    def _gone(self) -> str:
        return (
            f"the scheduler at {self.address} does not answer any more. Was it stopped? Start it "
            "and its workers again, and run the study again: what is recorded is reused."
        )

    def _nobody(self) -> str:
        """Why no job gets done, and what to do."""
        if self.client.status != "running":
            return self._gone()
        if not self.refused:
            start = f"dask worker {self.address} --nthreads 1"
            return f"there is no worker at {self.address}. Start some (`{start}`), and try again."
        told = "".join(f"\n  worker {name}: {why}" for name, why in sorted(self.refused.items()))
        return f"no worker at {self.address} can do these jobs:{told}"


def _sentence(seed: int, error: BaseException) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return (
            f"seed {seed}: {error.allowed_failures + 1} workers died while they trained it, the "
            f"last was {error.last_worker.address}. Was there too little memory? Their logs may "
            "say more."
        )
    return failure(seed, error)
