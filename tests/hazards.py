"""What can befall a study, for the tests: processes to kill at little cost, disks that fill up.

A process here is a fork of one that has everything imported, so a hundred of them cost no hundred
imports of torch.
"""

from __future__ import annotations

import errno
import io
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any

import pytest

import qrkd_lab as ql
from qrkd_lab.studies.records import Run

SMALL = {
    "scale": "smoke", "train_size": 128, "validation_size": 100, "batch_size": 16, "qubits": 2,
    "epochs": 2, "checkpoint_steps": 1,
}  # fmt: skip
ARMS = ("scratch", "rkd", "shuffled")  # one has a random stream of its own

FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(
    [__name__, "qrkd_lab.studies.compare", "qrkd_lab.kernels", "qrkd_lab.models.cnn", "pennylane",
     "safetensors.torch", "sklearn.datasets", "torch._dynamo", "ipykernel.kernelapp",
     "qrkd_lab.teaching.exercises", "qrkd_lab.teaching.plots.curves", "seaborn",
     "transformers.models.auto.modeling_auto", "transformers.models.gpt2.modeling_gpt2"]
)  # fmt: skip


def wait_for(condition: Callable[[], Any], seconds: float = 120.0) -> Any:  # noqa: ANN401
    """What a condition gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits to be fetched does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def study(folder: Path, seeds: int = 6, **more: Any) -> ql.Study:
    """The study of these tests: a teacher and three arms a seed, saved after every batch."""
    options = SMALL | {"progress": False} | more
    return ql.compare("digits", ARMS, seeds, runs_dir=folder, **options)


def doomed_study(folder: Path, name: str, after: int) -> None:
    """The study, killed at a call of this name (see ``_watched``), after so many others of it."""
    calls = iter(range(after))

    def strike() -> None:
        if next(calls, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    with _watched(strike, name):
        study(folder)


def table(runs: ql.Study | list[Run]) -> dict[str, tuple[dict, list]]:
    """What must not depend on what befell a study: every run's metrics and history."""
    runs = runs.runs if isinstance(runs, ql.Study) else runs
    named = {run.name: (dict(run.metrics), list(run.history)) for run in runs}
    assert len(named) == len(runs), "a run is counted twice"
    return named


def in_fork(function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
    """What the function returns, or raises, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=FORKS) as pool:
        return pool.submit(function, *arguments).result()


@contextmanager
def elsewhere(hold: Callable[..., AbstractContextManager], *arguments: Any) -> Iterator[Any]:  # noqa: ANN401
    """Another process that is inside ``hold(*arguments)``, until it is killed or the block ends."""
    there = FORKS.Event()
    process = FORKS.Process(target=_stay, args=(there, hold, arguments))
    process.start()
    try:
        assert there.wait(60)
        yield process
    finally:
        process.kill()
        process.join()


def _stay(there: Any, hold: Callable[..., AbstractContextManager], arguments: tuple) -> None:  # noqa: ANN401
    with hold(*arguments):
        there.set()
        time.sleep(3600)


class _Stream:
    """An open file; what may strike does so when the first half of a text is written."""

    def __init__(self, stream: IO[bytes], strike: Callable[[], None]) -> None:
        self._stream, self._strike = stream, strike

    def write(self, data: bytes) -> int:
        half = len(data) // 2
        self._stream.write(data[:half])
        self._stream.flush()
        self._strike()
        return half + self._stream.write(data[half:])

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


@contextmanager
def _watched(strike: Callable[[], None], *names: str) -> Iterator[None]:
    """Call ``strike`` before each call of these names of ``os``, "open" and "write" of a file."""

    def striking(call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
            strike()
            return call(*arguments, **named)

        return run

    real = io.open

    def open_(path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:  # noqa: ANN401
        if mode[0] != "r" and "open" in names:
            strike()
        stream = real(path, mode, *more, **named)
        return _Stream(stream, strike) if mode[0] != "r" and "write" in names else stream

    with pytest.MonkeyPatch.context() as patched:
        for name in set(names) - {"open", "write"}:
            patched.setattr(os, name, striking(getattr(os, name)))
        patched.setattr(io, "open", open_)
        yield


@contextmanager
def disk_that_ends(after: int, code: int = errno.ENOSPC) -> Iterator[list[int]]:
    """A disk that takes so many calls (make, open, write, sync, rename), then says it is full.

    Yields:
        A list with an entry for every call that was refused.
    """
    calls, refused = iter(range(after)), []

    def strike() -> None:
        if next(calls, None) is None:
            refused.append(code)
            raise OSError(code, os.strerror(code))

    with _watched(strike, "mkdir", "open", "write", "fsync", "rename", "replace"):
        yield refused


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """A disk that takes so many bytes of each file, then says that the file is too large."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)


def flipped(content: bytes, count: int, seed: int = 0) -> Iterator[bytes]:
    """The content with one bit turned, at ``count`` random places."""
    places = random.Random(seed)
    for _ in range(count):
        changed = bytearray(content)
        changed[places.randrange(len(content))] ^= 1 << places.randrange(8)
        yield bytes(changed)
