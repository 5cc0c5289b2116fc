"""Kernels of notebooks for the tests, as forks: a start costs no import of torch and its like."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from tests.hazards import FORKS, wait_for


class ForkedKernel:
    """A kernel's process, in the form that jupyter_client's ``launch_kernel`` gives it.

    Libraries are imported already; the namespace is as empty as that of any other kernel.
    """

    stdin = stdout = stderr = None

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], **_: Any) -> None:  # noqa: ANN401
        arguments = list(command[command.index("ipykernel_launcher") + 1 :])
        given = (arguments, dict(env), os.getcwd())
        self._process = FORKS.Process(target=_be_a_kernel, args=given)
        self._process.start()
        self.pid = self._process.pid
        wait_for(lambda: os.getpgid(self.pid) == self.pid)  # signals go to the group

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.exitcode

    def wait(self) -> int | None:
        """The exit status, once it has one."""
        self._process.join()
        return self._process.exitcode


def _be_a_kernel(arguments: list[str], environment: dict[str, str], folder: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    import matplotlib
    import torch
    from ipykernel.kernelapp import IPKernelApp

    # Both are read from the environment when a library is imported.
    matplotlib.rcParams["backend"] = "module://matplotlib_inline.backend_inline"
    torch.set_num_threads(1)
    IPKernelApp.launch_instance(arguments)
