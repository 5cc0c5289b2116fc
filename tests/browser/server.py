"""A web server in a process of its own, which ends with the tests however they end."""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_with_the_parent() -> None:
    """Asks Linux to end this process when its parent is gone, even by kill -9."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


class Server:
    """``python -m <module>`` on loopback, with a token, and with Jupyter's folders all fresh.

    A context manager: it has started when the block begins, and is gone after it.

    Args:
        module: what ``python -m`` runs, in the very interpreter of the tests.
        folder: an empty folder for the server's settings, data and log.
        flags: its command line; ``{port}`` and ``{token}`` are filled in.
    """

    def __init__(self, module: str, folder: Path, flags: list[str]) -> None:
        self.port, self.token = free_port(), secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        filled = [
            flag.replace("{port}", str(self.port)).replace("{token}", self.token) for flag in flags
        ]
        self.command = [sys.executable, "-m", module, *filled]
        # no setting of the user's: neither from the environment nor from the home folder
        kept = {name: each for name, each in os.environ.items() if not name.startswith("JUPYTER")}
        self.env = kept | {
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
            "OMP_NUM_THREADS": "1",
            "QRKD_RUNS_DIR": str(folder / "runs"),  # not the project's own records
        }

    def __enter__(self) -> Server:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self.command,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_the_parent,
            )
        try:
            self.wait_until_it_listens(90)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_it_listens(self, seconds: float) -> None:
        """Returns when a connection succeeds; raises with the end of the log if none does."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        raise RuntimeError(f"{self.command[2]} did not start:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Ends the server, which ends its kernels; what does not go within 15 seconds is killed."""
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(15)
