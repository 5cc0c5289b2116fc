"""Run a notebook without a browser, and keep the committed outputs honest.

``execute`` is what ``python -m qrkd_lab notebook`` and ``make demo`` call: a thin coat over
papermill.

1. The parameters are checked against the notebook's ``parameters`` cell *before* anything runs:
   an unknown name or a value of another type stops with the list of what there is.
2. The notebook runs in the very interpreter that calls, whatever kernel its metadata name, and
   in the caller's working directory, as with papermill itself.
3. A failing cell, a dead kernel or a time-out raises ``NotebookError``, which names the cell and
   the cause; the copy stays, as far as it came.

``refresh`` runs a notebook and writes the outputs back into the file itself, with a digest of
its code; ``is_fresh`` tells whether a file's outputs come from exactly its present code cells.

Example:
    >>> from qrkd_lab.notebooks import execute, parse_parameters
    >>> seed = parse_parameters(["seed=3"])
    >>> execute("notebooks/00_quickstart.ipynb", "runs/demo", seed)  # doctest: +SKIP
    PosixPath('runs/demo/00_quickstart.ipynb')
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from traitlets import default

from qrkd_lab.notebook_parameters import NotebookError, check_parameters, parse_parameters
from qrkd_lab.storage import (
    RecordError,
    check_writable,
    expanded,
    write_file,
    writing,
)

__all__ = ["NotebookError", "execute", "is_fresh", "parse_parameters", "refresh", "source_digest"]

_INJECTED = "injected-parameters"  # papermill's tag for the cell that it adds
_MARK = "papermill-error-cell-tag"  # papermill's tag for the notes on top of a failed copy
_WIDGET = "application/vnd.jupyter.widget-view+json"


class ThisPython(AsyncKernelManager):
    """Starts the kernel with ``sys.executable``; no kernel spec found elsewhere takes its place."""

    @property
    def kernel_spec(self) -> KernelSpec:
        """The kernel spec of the calling interpreter, as its ipykernel describes itself.

        It logs nothing: a kernel that is ended by Ctrl-C would log tracebacks of its own end.
        """
        return KernelSpec(**get_kernel_dict(["--log-level=CRITICAL"]))

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
            long, a dead kernel.
    """
    source, out_dir = expanded(notebook).absolute(), expanded(out_dir)
    output = out_dir.absolute() / source.name
    values = check_parameters(source.name, _read(source), parameters or {})
    if timeout is not None and (type(timeout) is not int or timeout < 1):
        raise NotebookError(f"timeout: expected whole seconds, 1 or more, or None; got {timeout!r}")
    if output.resolve() == source.resolve():
        raise NotebookError(
            f"the executed copy of {source.name} would overwrite the notebook itself: choose "
            f"another folder than {out_dir} (refresh() writes outputs back into a notebook)"
        )
    _check_writable(output.parent, "another out_dir, or $QRKD_RUNS_DIR")
    _run(source, output, values, timeout, progress, cwd)
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
    _check_writable(path.parent, "a copy of the notebook elsewhere")
    folder = tempfile.mkdtemp(prefix="qrkd-lab-")
    done = _read(execute(path, folder, parameters, timeout, progress, cwd=cwd))
    nb = _read(path)
    ran = [cell for cell in _code_cells(done) if _INJECTED not in cell.metadata.get("tags", [])]
    for cell, executed in zip(_code_cells(nb), ran, strict=True):
        cell.outputs = executed.outputs
    _tidy(nb)
    nb.metadata["qrkd_lab"] = {"sources": source_digest(nb)}
    if parameters:
        nb.metadata["qrkd_lab"]["parameters"] = dict(parameters)
    with writing(str(path), "a notebook in it"):
        write_file(path, f"{nbformat.writes(nb)}\n".encode())
    shutil.rmtree(folder, ignore_errors=True)
    return path


def _check_writable(folder: Path, option: str) -> None:
    try:
        check_writable(folder, option)
    except RecordError as error:
        raise NotebookError(str(error)) from error


def source_digest(nb: NotebookNode) -> str:
    """sha256 over the code cells' sources, in order; prose may change without a new run."""
    sources = [cell.source for cell in _code_cells(nb)]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def is_fresh(path: str | Path) -> bool:
    """Whether the file's outputs come from one ``refresh`` of exactly its present code cells."""
    nb = _read(expanded(path))
    counts = [cell.execution_count for cell in _code_cells(nb) if cell.source.strip()]
    in_order = counts == list(range(1, len(counts) + 1))
    return in_order and nb.metadata.get("qrkd_lab", {}).get("sources") == source_digest(nb)


def _code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def _read(path: Path) -> NotebookNode:
    """The notebook at ``path``, or a NotebookError that says why it is none."""
    try:
        nb = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"no notebook at {path}") from None
    except Exception as error:  # nbformat raises many kinds for a file that is not a notebook
        raise NotebookError(f"{path} is not a readable notebook (.ipynb): {error}") from error
    language = nb.metadata.get("kernelspec", {}).get("language") or "python"
    if language.lower() != "python":
        raise NotebookError(f"{path.name} is a notebook in {language}; only Python can be run")
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

    _mend_output_widget()
    # It takes a name for unknown where it cannot read its type (int | list); ours were checked.
    logging.getLogger("papermill").setLevel(logging.ERROR)
    # It writes after every cell; the copy of an earlier run stays whole until this one is over.
    part = output.with_name(f".{os.getpid()}-{output.name}") if output.exists() else output
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, part)]
    try:
        papermill.execute_notebook(
            *paths,
            parameters=values,
            kernel_name="python3",
            language="python",
            progress_bar=progress,
            execution_timeout=timeout,
            kernel_manager_class=ThisPython,
            cwd=cwd,
        )
    except PapermillExecutionError as error:
        cause, index = f"{error.ename}: {error.evalue}", error.cell_index
        raise NotebookError(_stopped(source, part, output, cause, index)) from error
    except CellTimeoutError as error:
        cause = f"not done after {timeout} s"
        raise NotebookError(_stopped(source, part, output, cause)) from error
    except DeadKernelError as error:
        cause = "its Python process died (killed, or out of memory?)"
        raise NotebookError(_stopped(source, part, output, cause)) from error
    except RuntimeError as error:  # jupyter_client: the kernel did not start
        raise NotebookError(_stopped(source, part, output, f"no kernel ({error})")) from error
    except OSError as error:
        part.unlink(missing_ok=True)  # it may have been cut off
        raise NotebookError(
            f"{source.name} stopped: {error.filename or output} cannot be written: "
            f"{error.strerror or error}. Make room, or give another folder (out)."
        ) from error
    finally:
        if part != output and part.exists():
            os.replace(part, output)


def _stopped(source: Path, part: Path, output: Path, cause: str, index: int | None = None) -> str:
    """Say where the run stopped and why, and in a ``part`` that was cut off, on top, too.

    papermill marks a failed cell in its copy; one that was cut off looks complete there.

    Args:
        source: the notebook.
        part: the copy, as far as it came; it becomes ``output``.
        output: where the copy will be.
        cause: why.
        index: the cell in the copy; None: the last started.
    """
    nb = _read(part)
    cells = [cell for cell in nb.cells if _MARK not in cell.metadata.get("tags", [])]
    records = [cell.metadata.get("papermill", {}) for cell in cells]
    started = [i for i, record in enumerate(records) if record.get("start_time")]
    at = index if index is not None else (started[-1] if started else None)
    injected = [i for i, cell in enumerate(cells) if _INJECTED in cell.metadata.get("tags", [])]
    where = "before its first cell"
    if at is not None:
        number = at + 1 - sum(i <= at for i in injected)
        first = next((line.strip() for line in cells[at].source.splitlines() if line.strip()), "")
        where = f"in cell {number} of {len(cells) - len(injected)} (`{first}`)"
    message = f"{source.name} stopped {where}: {cause}"
    if index is None:
        note = nbformat.v4.new_markdown_cell(f"**{message}**")
        note.metadata["tags"] = [_MARK]
        nb.cells.insert(0, note)
        write_file(part, f"{nbformat.writes(nb)}\n".encode())
    return f"{message}\nThe copy, as far as it came: {output}"


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


def _mend_output_widget() -> None:
    """Keep an ``ipywidgets.Output`` from stalling the run (nbclient issue 312).

    nbclient's stand-in for the widget sends on the shell socket while another task waits on it,
    and the waiting task can miss its wake-up. Asking pyzmq to look at the socket once more after
    each send cures it. Both calls are private: where a release has lost one, nothing is changed.
    """
    from nbclient.output_widget import OutputWidget

    publish = getattr(OutputWidget, "_publish_msg", None)
    if publish is None or getattr(publish, "wakes", False):
        return

    def publish_and_wake(self: OutputWidget, *args: object, **kwargs: object) -> None:
        publish(self, *args, **kwargs)
        socket = getattr(self.kernel_client.shell_channel, "socket", None)
        wake = getattr(socket, "_schedule_remaining_events", None)
        if wake is not None:
            wake()

    publish_and_wake.wakes = True
    OutputWidget._publish_msg = publish_and_wake
