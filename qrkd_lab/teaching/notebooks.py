"""Run notebooks without a browser, and tell whether committed outputs belong to their code.

``execute`` (``python -m qrkd_lab notebook``) is papermill's, with three additions: names of
parameters are checked first, the notebook runs in the calling interpreter, and a failure says in
which cell and why. ``refresh`` writes the outputs back into the file with a digest of its code.

Example:
    >>> from qrkd_lab.teaching.notebooks import execute
    >>> execute("notebooks/00_quickstart.ipynb", "runs/demo", seed)  # doctest: +SKIP
    PosixPath('runs/demo/00_quickstart.ipynb')
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import Empty
from typing import Any

import joblib
import nbformat
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from traitlets import Type, default

from qrkd_lab.files import RecordError, check_writable, expanded, write_file, writing
from qrkd_lab.studies.callbacks import duration
from qrkd_lab.studies.parallel import deaf_to_ctrl_c, pool
from qrkd_lab.teaching.parameters import NotebookError, check_parameters, code_cells

__all__ = ["NotebookError", "execute", "is_fresh", "refresh", "run_series", "source_digest"]


_INJECTED = "injected-parameters"  # papermill's tag for the cell that it adds
_WIDGET = "application/vnd.jupyter.widget-view+json"


LOOK = 0.2  # seconds


class Looking(AsyncZMQSocketChannel):
    """Looks for a message five times a second, as a wake-up can be lost.

    nbclient answers an ``Output`` widget over the socket on which it waits for the end of the
    cell. What came in meanwhile wakes nobody, and the cell would never end.
    """

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            left = max(0.0, end - time.monotonic())
            try:
                return await super().get_msg(min(left, LOOK))
            except Empty:
                if left <= LOOK:
                    raise


class LookingClient(AsyncKernelClient):
    """A client that does not wait for ever for a reply that is there."""

    shell_channel_class = Type(Looking)


class ThisPython(AsyncKernelManager):
    """Starts the kernel with ``sys.executable``; no kernel spec found elsewhere takes its place."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The spec of the calling interpreter; quiet, as a kernel logs how Ctrl-C ended it."""
        return KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]))

    client_factory = Type(LookingClient)

    @default("transport_encryption")  # newer kernels warn without; older managers ignore it
    def _encrypt_if_possible(self) -> str:
        return "auto" if zmq.has("curve") else "disabled"


def execute(
    notebook: str | Path,
    out_dir: str | Path,
    parameters: Mapping[str, object] | None = None,
    timeout: int | None = None,
    progress: bool = True,
    *,
    cwd: str | Path | None = None,
) -> Path:
    """Run ``notebook`` and write the executed copy to ``out_dir/<its name>``.

    Args:
        notebook: the ``.ipynb`` file; it must have a code cell tagged ``parameters``.
        out_dir: folder for the copy; made where missing.
        parameters: values that replace the defaults of the parameters cell.
        timeout: limit in whole seconds for each cell; None: no limit.
        progress: show papermill's progress bar.
        cwd: the notebook's working directory; None: the caller's.

    Returns:
        The path of the executed copy.

    Raises:
        NotebookError: not a readable notebook, a wrong parameter, a cell that failed or took too
            long, a dead kernel; the copy stays, as far as it came.
        RecordError: ``out_dir`` cannot be written.
    """
    source, out_dir = expanded(notebook).absolute(), expanded(out_dir)
    output = out_dir.absolute() / source.name
    values = check_parameters(source.name, _read(source), parameters or {})
    if output.resolve() == source.resolve():
        raise NotebookError(
            f"the executed copy of {source.name} would overwrite the notebook itself: choose "
            f"another folder than {out_dir} (refresh() writes outputs back into a notebook)"
        )
    check_writable(output.parent, "another out_dir, or $QRKD_RUNS_DIR")
    try:
        _run(source, output, values, timeout, progress, cwd)
    except NotebookError as error:
        raise NotebookError(f"{error}\nThe copy, as far as it came: {output}") from error.__cause__
    except OSError as error:
        output.unlink(missing_ok=True)  # it may have been cut off
        raise NotebookError(
            f"{source.name} stopped: {error.filename or output} cannot be written: "
            f"{error.strerror or error}. Make room, or give another folder (out)."
        ) from error
    return out_dir / source.name


def refresh(
    notebook: str | Path,
    parameters: Mapping[str, object] | None = None,
    timeout: int | None = None,
    progress: bool = True,
    *,
    cwd: str | Path | None = None,
) -> Path:
    """Run ``notebook`` and write its outputs back into the file itself.

    Its digest goes into ``metadata.qrkd_lab.sources``, values that replaced defaults into
    ``metadata.qrkd_lab.parameters``, and execution counts run 1, 2, 3, ... What differs from run
    to run without meaning is left out: paths, times, and widget states (a widget's text stays).
    A failed run, or a full disk, leaves the file as it was.

    Args, Raises: as ``execute``.

    Returns:
        The path of the notebook.
    """
    path = expanded(notebook)
    check_writable(path.parent, "a copy of the notebook elsewhere")
    folder = tempfile.mkdtemp(prefix="qrkd-lab-")
    done = _read(execute(path, folder, parameters, timeout, progress, cwd=cwd))
    nb = _read(path)
    ran = [cell for cell in code_cells(done) if _INJECTED not in cell.metadata.get("tags", [])]
    for cell, executed in zip(code_cells(nb), ran, strict=True):
        cell.outputs = executed.outputs
    _tidy(nb)
    nb.metadata["qrkd_lab"] = {"sources": source_digest(nb)}
    if parameters:
        nb.metadata["qrkd_lab"]["parameters"] = dict(parameters)
    with writing(str(path), "a notebook in it"):
        write_file(path, f"{nbformat.writes(nb)}\n".encode())
    shutil.rmtree(folder, ignore_errors=True)
    return path


def source_digest(nb: NotebookNode) -> str:
    """sha256 over the code cells' sources, in order; prose may change without a new run."""
    sources = [cell.source for cell in code_cells(nb)]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def is_fresh(path: str | Path) -> bool:
    """Whether the file's outputs come from one ``refresh`` of exactly its present code cells."""
    nb = _read(expanded(path))
    counts = [cell.execution_count for cell in code_cells(nb) if cell.source.strip()]
    in_order = counts == list(range(1, len(counts) + 1))
    return in_order and nb.metadata.get("qrkd_lab", {}).get("sources") == source_digest(nb)


def _read(path: Path) -> NotebookNode:
    """The notebook at ``path``, or a NotebookError that says why it is none."""
    try:
        nb = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"no notebook at {path}") from None
    except Exception as error:  # nbformat raises many kinds for a file that is not a notebook
        raise NotebookError(f"{path} is not a readable notebook (.ipynb): {error}") from error
    return nb


def _run(
    source: Path,
    output: Path,
    values: dict[str, object],
    timeout: int | None,
    progress: bool,
    cwd: str | Path | None,
) -> None:
    """The one call of papermill; its failures become a NotebookError."""
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    # It takes a name for unknown where it cannot read its type (int | list); ours were checked.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, output)]
    run = partial(
        papermill.execute_notebook,
        *paths,
        parameters=values,
        kernel_name="python3",
        language="python",
        progress_bar=progress,
        execution_timeout=timeout,
        kernel_manager_class=ThisPython,
        cwd=cwd,
    )
    try:
        try:
            run()
        except RuntimeError as error:
            if isinstance(error, DeadKernelError):
                raise
            run()  # no kernel: another process may have taken its ports; new ones are chosen
    except (PapermillExecutionError, CellTimeoutError, RuntimeError) as error:
        if isinstance(error, PapermillExecutionError):
            cause = f"{error.ename}: {error.evalue}"
        elif isinstance(error, CellTimeoutError):
            cause = f"not done after {timeout} s"
        elif isinstance(error, DeadKernelError):
            cause = "its Python process died (killed, or out of memory?)"
        else:  # of jupyter_client: the kernel did not start
            cause = f"no kernel ({error})"
        raise NotebookError(f"{source.name} stopped {_where(output)}: {cause}") from error


def _where(path: Path) -> str:
    """Where the run of a copy stopped."""
    added = {_INJECTED, "papermill-error-cell-tag"}  # papermill's tags for the cells that it adds
    own = [cell for cell in _read(path).cells if not added & {*cell.metadata.get("tags", [])}]
    started = [i for i, c in enumerate(own) if c.metadata.get("papermill", {}).get("start_time")]
    if not started:
        return "before its first cell"
    first = (own[started[-1]].source.strip().splitlines() or [""])[0].strip()
    return f"in cell {started[-1] + 1} of {len(own)} (`{first}`)"


def _tidy(nb: NotebookNode) -> None:
    """Drop what changes from run to run without meaning."""
    for key in ("papermill", "widgets"):
        nb.metadata.pop(key, None)
    number = 0
    for cell in nb.cells:
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        if cell.cell_type != "code":
            continue
        number += bool(cell.source.strip())
        cell.execution_count = number if cell.source.strip() else None
        for output in cell.outputs:
            output.get("data", {}).pop(_WIDGET, None)
            if "execution_count" in output:
                output.execution_count = number


def run_series(
    notebooks: Sequence[str | Path],
    out_dir: str | Path | None = None,
    parameters: Mapping[str, object] | None = None,
    timeout: int | None = None,
    jobs: int = 1,
) -> list[Path]:
    """Run notebooks, each in its own folder as in JupyterLab; a line on standard error for each.

    Args:
        notebooks: the files.
        out_dir: folder for the executed copies; None: outputs are written back into the files.
        parameters: values for every one of them.
        timeout: limit in whole seconds for each cell; None: no limit.
        jobs: processes; each and its kernel compute with one thread.

    Returns:
        The executed notebooks, in the order given.

    Raises:
        NotebookError: some failed; the message names notebook, cell and cause of each. The others
            are done.
    """
    paths = [expanded(notebook) for notebook in notebooks]
    done, failures = [], []
    with pool(jobs, len(paths)) as workers:
        tasks = (joblib.delayed(_one)(path, out_dir, parameters, timeout) for path in paths)
        parallel = joblib.Parallel(n_jobs=workers, batch_size=1, return_as="generator")
        with deaf_to_ctrl_c():  # a generator starts the workers, and waits for none
            outcomes = parallel(tasks)
        for executed, seconds, failure in outcomes:
            done.append(executed)
            failures += [failure] if failure else []
            outcome = "failed" if failure else duration(seconds)
            print(f"{executed.name}: {outcome}", file=sys.stderr, flush=True)
    if failures:
        raise NotebookError("\n".join([f"{len(failures)} of {len(paths)} failed.", *failures]))
    return done


def _one(
    path: Path,
    out_dir: str | Path | None,
    parameters: Mapping[str, object] | None,
    timeout: int | None,
) -> tuple[Path, float, str]:
    """The executed copy of a notebook, its seconds, and what went wrong or ""."""
    started, failure = time.monotonic(), ""
    options = {"progress": False, "cwd": path.parent}
    try:
        if out_dir is None:
            refresh(path, parameters, timeout, **options)
        else:
            path = execute(path, out_dir, parameters, timeout, **options)
    except (NotebookError, RecordError) as error:
        failure = str(error)
    return path, time.monotonic() - started, failure
