"""Jobs on a Dask cluster: every worker that can do them gets one at a time."""

from __future__ import annotations

import pickle
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.studies.parallel import Job, Outcome, attempt
from qrkd_lab.studies.records import versions
from qrkd_lab.train import Callback, Training

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["CalledOff", "ClusterError", "differences", "each_on_cluster", "own_folder"]

CONNECT = 10.0  # seconds for a scheduler to answer
PATIENCE = 30.0  # seconds without any worker that can do the jobs: a nanny starts one in less
LOOK = 0.2  # seconds between two looks at the workers
FETCH = 600.0  # seconds for the records of one seed to come
DEATHS = 2  # workers that may die of one job
CALLED_OFF = 1.0  # seconds between a worker's looks at whether its job is still wanted
_ONE = threading.Lock()  # jobs side by side in one process would not give the same bits


class ClusterError(RuntimeError):
    """A Dask cluster is not there, or has no worker that can do the jobs; says what to do."""


def each_on_cluster(
    function: Job,
    tasks: Mapping[int, tuple[Any, ...]],
    scheduler: str,
    check: Callable[[], None],
    say: Callable[[str], None],
) -> Iterator[Outcome]:
    """:func:`~qrkd_lab.studies.parallel.each` on the workers of a Dask cluster, whenever they come.

    Every worker has at most one job; the job of one that dies goes to another. Close the iterator
    to call the jobs off.

    Args:
        function, tasks: as for ``each``; what a job needs and makes travels with it.
        scheduler: address of the scheduler.
        check: called on a worker before a job; what it raises is why that worker gets none.
        say: told of workers that get no job.

    Raises:
        ClusterError: no scheduler answers, or no worker is left that can do the jobs. All that was
            done has been yielded.
    """
    if not tasks:
        return
    todo, deaths = dict(tasks), Counter()
    running: dict[str, tuple[int, Future]] = {}  # by worker
    refused: dict[str, str] = {}  # why a worker gets no job
    with _connected(scheduler) as client:
        hopeful = time.monotonic()
        while todo or running:
            time.sleep(LOOK)
            if client.status == "closed":
                raise ClusterError(
                    f"the scheduler at {scheduler} does not answer any more. Was it stopped? Start "
                    "it and its workers again, and run the study again: what is recorded is reused."
                )
            try:
                there = client.sync(client.scheduler.identity)["workers"]
            except OSError:  # the client goes on trying to reach its scheduler for a while
                continue
            for worker, (seed, future) in list(running.items()):
                died = worker not in there or future.cancelled()
                if not died and not future.done():
                    continue
                del running[worker]
                result = None if died else _result(future)
                if isinstance(result, tuple):
                    yield result
                elif died and deaths[seed] + 1 == DEATHS:
                    said = f"{DEATHS} workers died while they trained it, the last was {worker}"
                    advice = "Was there too little memory? Their logs may say more."
                    yield seed, [], [f"seed {seed}: {said}. {advice}"]
                else:
                    todo = {seed: tasks[seed]} | todo  # first: its checkpoint may be there
                if died:
                    deaths[seed] += 1
                elif isinstance(result, str):
                    refused[worker] = result
                    say(f"worker {worker} gets no job: {result}")
            refused = {worker: why for worker, why in refused.items() if worker in there}
            free = sorted(there.keys() - running.keys() - refused.keys())
            for worker, seed in zip(free, list(todo), strict=False):
                task = _packed(check, function, todo.pop(seed))
                future = client.submit(_work, versions(), seed, task, workers=[worker], pure=False)
                running[worker] = seed, future
            if running:
                hopeful = time.monotonic()
            elif time.monotonic() - hopeful > PATIENCE:
                raise ClusterError(_nobody(scheduler, refused))


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


def _packed(*job: Any) -> bytes:  # noqa: ANN401
    """A job for another machine; what was written in a notebook goes along as code."""
    import cloudpickle

    try:
        return cloudpickle.dumps(job)
    except (TypeError, pickle.PicklingError) as error:
        raise ClusterError(
            f"these data, models or relations cannot be sent to a worker: {error}; build them in "
            "functions that hold no open file, lock or device, or use jobs= on this machine"
        ) from error


def _result(future: Future) -> Any:  # noqa: ANN401
    """What a task returned; its error as text."""
    try:
        return future.result(FETCH)
    except Exception as error:  # there is no qrkd_lab on that worker, say
        return f"{type(error).__name__}: {error}"


def _nobody(address: str, refused: Mapping[str, str]) -> str:
    if not refused:
        start = f"dask worker {address} --nthreads 1"
        return f"there is no worker at {address}. Start some (`{start}`), and try again."
    told = "".join(f"\n  worker {name}: {why}" for name, why in sorted(refused.items()))
    return f"no worker at {address} can do these jobs:{told}"


# ---- on a worker


def _work(here: Mapping[str, str | None], seed: int, task: bytes) -> Outcome | str:
    """The outcome of a job; or, as text, why this worker cannot do it."""
    if different := differences(here, versions()):
        return f"{different}; install the same there"
    check, function, arguments = pickle.loads(task)  # safe to read where the versions agree
    with _ONE:
        try:
            check()
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return attempt(seed, function, arguments)


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
        if time.monotonic() - self._looked < CALLED_OFF:
            return
        self._looked = time.monotonic()
        task = self._worker.state.tasks.get(self._key)
        if task is None or task.state == "cancelled":
            raise InterruptedError("the job was called off")
