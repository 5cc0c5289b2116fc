"""A real Dask cluster on loopback, for the tests: workers to kill, to start late, and to mislead.

A worker obeys what lies in its folder of orders: at a file ``hold-<seed>`` it stops after the
teacher of that seed, until the file is gone, and says its process in ``held-<seed>``; at
``die-<seed>`` its process ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distributed import Client

import qrkd_lab as ql
from tests.hazards import FORKS, wait_for

SMALL = {
    "scale": "smoke", "train_size": 128, "validation_size": 100, "qubits": 2, "progress": False,
}  # fmt: skip


class Cluster:
    """A scheduler of its own, and workers in processes that have everything imported already."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.orders = folder, folder / "orders"
        self.orders.mkdir()
        self.workers: list[Any] = []
        self.honest: list[Any] = []  # those that say what is so, and find what is there
        file = folder / "scheduler.json"
        command = [
            sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port",
            "0", "--no-dashboard", "--scheduler-file", str(file),
        ]  # fmt: skip
        log = (folder / "scheduler.log").open("wb")
        self.scheduler = subprocess.Popen(command, stderr=log, stdout=log)
        wait_for(file.exists)
        self.address = wait_for(lambda: read_address(file))

    def start(self, fake: Mapping[str, str] | None = None, **environment: str) -> Any:  # noqa: ANN401
        """A worker; ``fake``: versions that it says it has."""
        arguments = (self.address, str(self.folder), dict(fake or {}), environment)
        process = FORKS.Process(target=work, args=arguments)
        process.start()
        self.workers = [*self.workers, process]
        if not arguments[2] and not environment:
            self.honest = [*self.honest, process]
        return process

    def have(self, count: int) -> None:
        """So many honest workers, of those that are there and new ones; no order is in force."""
        for path in self.orders.iterdir():
            path.unlink()
        alive = [process for process in self.honest if process.is_alive()]
        for process in set(self.workers) - set(alive[:count]):
            process.kill()
            process.join()
        self.workers = self.honest = alive[:count]
        for _ in range(count - len(alive)):
            self.start()

    def wait_for_workers(self, count: int) -> None:
        """Return when so many are there."""
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=120)

    def order(self, what: str) -> Path:
        """Give the workers an order."""
        path = self.orders / what
        path.touch()
        return path

    def held(self, seed: int) -> int:
        """The process that holds a seed."""
        file = self.orders / f"held-{seed}"
        return int(wait_for(lambda: file.exists() and file.read_text()))

    def compare(self, folder: Path, seeds: Any = 3, **more: Any) -> ql.Study:  # noqa: ANN401
        """A study on the cluster."""
        options = SMALL | {"benchmark": "digits", "arms": ("scratch", "qrkd")} | more
        return ql.compare(seeds=seeds, runs_dir=folder, scheduler=self.address, **options)

    def close(self) -> None:
        """The end of all."""
        self.have(0)
        self.scheduler.kill()
        self.scheduler.wait()


def read_address(file: Path) -> str:
    """The address in a scheduler's file; empty while it is being written."""
    try:
        return json.loads(file.read_text())["address"]
    except ValueError:
        return ""


def work(address: str, folder: str, fake: dict[str, str], environment: dict[str, str]) -> None:
    """A worker's process."""
    os.environ.update(environment)
    from qrkd_lab.studies import compare, parallel

    true = parallel.versions()
    parallel.versions = lambda: true | fake
    compare.train_group = obedient(compare.train_group, Path(folder, "orders"))
    from distributed.cli.dask_worker import main

    log = os.open(Path(folder, f"worker-{os.getpid()}.log"), os.O_CREAT | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    main([
        address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
        "--local-directory", folder,
    ])  # fmt: skip


def obedient(
    train_group: Callable[..., Iterator[Any]], orders: Path
) -> Callable[..., Iterator[Any]]:
    """The training of a seed, with an eye on the orders."""

    def obey(benchmark: ql.Benchmark, missing: list, *more: Any, **options: Any) -> Iterator[Any]:  # noqa: ANN401
        seed = missing[0].seed
        if (orders / f"die-{seed}").exists():
            os._exit(1)
        for result in train_group(benchmark, missing, *more, **options):
            yield result
            if (hold := orders / f"hold-{seed}").exists():
                (orders / f"held-{seed}").write_text(str(os.getpid()))
                wait_for(lambda: not hold.exists())  # noqa: B023

    return obey
