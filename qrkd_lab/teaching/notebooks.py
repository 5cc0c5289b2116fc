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
    >>> from qrkd_lab.teaching.notebooks import execute
    >>> execute("notebooks/00_quickstart.ipynb", "runs/demo", seed)  # doctest: +SKIP
    PosixPath('runs/demo/00_quickstart.ipynb')
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import html
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import nbformat
import torch
import zmq
from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode
from traitlets import default

from qrkd_lab.data.fetch import DataError
from qrkd_lab.files import (
    RecordError,
    can_be_written,
    check_writable,
    expanded,
    runs_folder,
    write_file,
    writing,
)
from qrkd_lab.studies.parallel import deaf_to_ctrl_c, pool
from qrkd_lab.studies.progress import duration

if TYPE_CHECKING:
    from qrkd_lab.studies.benchmarks import ImageBenchmark

__all__ = [
    "Missing",
    "NotebookError",
    "Parameter",
    "check_parameters",
    "check_values",
    "execute",
    "if_there",
    "images_at_hand",
    "is_fresh",
    "read_parameters",
    "refresh",
    "run_series",
    "source_digest",
]


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


# ---- notebook_parameters


MOST = 10_000  # seeds and draws: more is a slip of the keyboard
_ANYWHERE = ("benchmark", "scale", "arms", "device", "settings")  # without a check of its own, too

_TYPES: dict[str, tuple[type, ...]] = {
    "bool": (bool,),
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "list": (list,),
    "tuple": (list,),  # a notebook takes what JSON knows: lists
    "dict": (dict,),
    "None": (type(None),),
}


class NotebookError(RuntimeError):
    """A notebook cannot be run as asked, or its run stopped; the message says where and why."""


@dataclass(frozen=True)
class Parameter:
    """``name: kind = default`` of the parameters cell, as source text; kind "" is any type."""

    name: str
    kind: str
    default: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind or 'any'} = {self.default}"

    def accepts(self, value: object) -> bool:
        """Whether ``value`` fits the type."""
        return not self.kind or _fits(ast.parse(self.kind, mode="eval").body, value)


def read_parameters(name: str, nb: NotebookNode) -> dict[str, Parameter]:
    """The parameters that the notebook offers, by name, in order.

    Args:
        name: what to call the notebook in an error.
        nb: the notebook.

    Raises:
        NotebookError: no code cell has the tag ``parameters``, or the cell is not plain Python.
    """
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if not tagged:
        raise NotebookError(
            f"{name} has no parameters cell: give its first code cell the tag 'parameters' "
            "(JupyterLab: property inspector, top right, 'Cell tags')"
        )
    try:
        body = ast.parse(tagged[0].source).body
    except SyntaxError as error:
        message = f"the parameters cell of {name} is not plain Python: {error}"
        raise NotebookError(message) from error
    found = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is None or len(targets) != 1 or not isinstance(targets[0], ast.Name):
            continue
        annotation = getattr(node, "annotation", None)
        kind = ast.unparse(annotation) if annotation is not None else _kind_of(value)
        found[targets[0].id] = Parameter(targets[0].id, kind, ast.unparse(value))
    return found


def check_parameters(
    name: str, nb: NotebookNode, values: Mapping[str, object]
) -> dict[str, object]:
    """The values, ready for papermill (tuples as lists), once each has a known name and fits.

    Raises:
        NotebookError: names what is wrong, and every parameter with its type and default.
    """
    offered = read_parameters(name, nb)
    known = "".join(f"\n    {parameter}" for parameter in offered.values()) or " none"
    ready = {}
    for key, value in values.items():
        if key not in offered:
            near = difflib.get_close_matches(key, offered, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise NotebookError(f"{name} has no parameter {key!r}{hint}. Its parameters:{known}")
        try:
            ready[key] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise NotebookError(
                f"{name}, parameter {key!r}: expected a finite number, string, boolean, None, or a "
                f"list or dict of these; got {_shown(value)}"
            ) from error
        if not offered[key].accepts(ready[key]):
            raise NotebookError(
                f"{name}, parameter {key!r}: expected {offered[key].kind}, got {_shown(value)}. "
                f"Its parameters:{known}"
            )
    _check_early(name, nb, offered, ready)
    return ready


def _check_early(
    name: str, nb: NotebookNode, offered: Mapping[str, Parameter], values: Mapping[str, object]
) -> None:
    """What the notebook's own check would refuse, said before a kernel is started."""
    known = dict(values)
    for key in offered.keys() - values.keys():
        with suppress(ValueError):  # one that is computed is known to the notebook only
            known[key] = ast.literal_eval(offered[key].default)
    asked = [key for key in _ANYWHERE if known.get(key)] if values.keys() & set(_ANYWHERE) else []
    variables, limits = _own_check(nb) or ({key: key for key in asked}, {})
    chosen = {key: known[variable] for key, variable in variables.items() if variable in known}
    try:
        check_values(**limits, **chosen, here=False)
    except ValueError as error:
        raise NotebookError(f"{name}: {error}") from error


def _own_check(nb: NotebookNode) -> tuple[dict[str, str], dict[str, Any]] | None:
    """The notebook's call of ``check_values``: a variable for each parameter, and its limits."""
    for cell in nb.cells:
        if cell.cell_type != "code" or "check_values(" not in cell.source:
            continue
        with suppress(SyntaxError, ValueError):  # then it is not read here, and runs there
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("check_values"):
                    given = {word.arg: word.value for word in node.keywords}
                    names = {key: v.id for key, v in given.items() if isinstance(v, ast.Name)}
                    return names, {
                        key: ast.literal_eval(v) for key, v in given.items() if key not in names
                    }
    return None


def check_values(
    *,
    arms_needed: Sequence[str] = (),
    benchmark_kind: str = "any",
    seeds_least: int = 1,
    seed_most: int = 2**32 - 1,
    settings_taken: Sequence[str] = (),
    study: bool = False,
    here: bool = True,
    **values: object,
) -> None:
    """Stop before anything is computed if a notebook's parameter has a value that cannot be.

    A name means the same in all notebooks, so its range stands here, once. A notebook calls this
    right after its parameters cell; ``python -m qrkd_lab notebook`` reads the same call before it
    starts a kernel.

    Args:
        arms_needed: what ``arms`` must contain.
        benchmark_kind: of ``benchmark``: ``images``, ``text``, ``records`` (also a name that only
            records have) or ``any``.
        seeds_least: how many ``seeds`` at least.
        seed_most: the largest ``seed``.
        settings_taken: names that ``settings`` must not contain, as the notebook sets them itself.
        study: whether it is a notebook of ``reproduce``: ``seeds`` may also be a list that says
            which, and ``arms`` must contain those that it compares.
        here: whether relative paths are seen from this folder; False: they are not looked up.
        values: the parameters by name.

    Raises:
        ValueError: names the parameter, what was expected, and what came.

    Example:
        >>> check_values(scale="laptop", seeds=5)
        >>> check_values(scale="laptop", seeds=0)
        Traceback (most recent call last):
        ValueError: parameter 'seeds': expected a whole number from 1 to 10000; got 0 (int)
    """
    from qrkd_lab.studies.settings import DEFAULT_ARMS

    needed = DEFAULT_ARMS if study else arms_needed
    rules = _rules(
        values, here, needed, benchmark_kind, seeds_least, seed_most, settings_taken, study
    )
    for name, value in values.items():
        if name not in rules:
            raise ValueError(f"parameter {name!r} has no rule; those that have: {', '.join(rules)}")
        expected, fits = rules[name]
        try:
            problem = "" if fits(value) else f"expected {expected}"
        except (ValueError, TypeError) as error:
            problem = f"expected {expected} ({error})"
        if problem:
            raise ValueError(f"parameter {name!r}: {problem}; got {_shown(value)}")
    if not here or "runs_dir" not in values:
        return
    if not can_be_written(home := runs_folder(values["runs_dir"])):
        warnings.warn(
            f"{home.absolute()} cannot be written: what is on record can be read, but nothing is "
            "trained. Give a folder of your own, as runs_dir or as $QRKD_RUNS_DIR.",
            stacklevel=2,
        )


def _shown(value: object) -> str:
    """A value and its type, for an error."""
    try:
        text = repr(value)
    except ValueError:  # an int of more than 4,300 digits
        text = "a very large number"
    return f"{text:.80} ({type(value).__name__})"


def _rules(
    values: Mapping[str, Any],
    here: bool,
    arms_needed: Sequence[str],
    benchmark_kind: str,
    seeds_least: int,
    seed_most: int,
    settings_taken: Sequence[str],
    study: bool,
) -> dict[str, tuple[str, Callable[[Any], bool]]]:
    """For each parameter's name what is expected, in words, and whether a value is that."""
    from qrkd_lab.devices import pick_device
    from qrkd_lab.studies.benchmarks import BENCHMARKS, SCALES, benchmark_settings, is_text
    from qrkd_lab.studies.settings import ARMS
    from qrkd_lab.teaching.experiments import as_points

    kinds = {
        "images": [name for name in BENCHMARKS if not is_text(name)],
        "text": [name for name in BENCHMARKS if is_text(name) and name != "imdb-sentiment"],
    }

    def whole(value: object, low: int, high: int) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high

    def number(value: object, low: float, high: float) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high

    def listed(value: object) -> bool:
        return isinstance(value, list | tuple) and len(value) > 0

    def folder(value: object) -> bool:
        if not isinstance(value, str | os.PathLike) or not os.fspath(value).strip():
            return False
        place = Path(os.path.expanduser(value))
        if "\0" in str(place) or max(len(part.encode()) for part in ("", *place.parts)) > 255:
            return False
        there = next((up for up in (place, *place.parents) if os.path.lexists(up)), Path())
        return not (here or place.is_absolute()) or os.path.isdir(there)

    def benchmark(value: object, kind: str = "any") -> bool:
        if not isinstance(value, str) or not folder(value):
            return False
        if value in BENCHMARKS:
            return value in kinds.get(kind, BENCHMARKS)
        if kind == "records" and os.path.isdir(runs_folder(values.get("runs_dir")) / value):
            return True
        if not os.path.isdir(os.path.expanduser(value)):
            return not here and ("/" in value or "\\" in value)  # seen from the notebook's folder
        return kind not in kinds or is_text(value) == (kind == "text")

    def settings(value: object) -> bool:
        name, scale = values.get("benchmark", "digits"), values.get("scale", "laptop")
        if not isinstance(value, dict):
            return False
        if taken := {"benchmark", "scale", "arm", "seed", *settings_taken} & value.keys():
            raise ValueError(f"{min(taken)} is set by the notebook itself")
        if not (name in BENCHMARKS or here):
            return True  # a folder: it is looked at in the notebook
        base = benchmark_settings(name, scale, **value)
        return all(base.replace(arm=arm) for arm in values.get("arms", ()))

    words = ", ".join
    some = f"a whole number from {seeds_least} to {MOST}"
    which = f" or at least {seeds_least} different whole numbers >= 0 in a list" * study
    of = {"any": BENCHMARKS, "records": BENCHMARKS} | kinds
    path = "the path of a folder, or of one that can be made"
    return {
        "scale": (f"a scale; choose from {words(SCALES)}", lambda v: v in SCALES),
        "benchmark": (
            f"a benchmark; choose from {words(of[benchmark_kind])}, or give a folder",
            lambda v: benchmark(v, benchmark_kind),
        ),
        "other": (
            f"a benchmark; choose from {words(kinds['images'])}, or give a folder",
            lambda v: benchmark(v, "images"),
        ),
        "arms": (
            f"a list of different arms{' with ' * bool(arms_needed)}{words(arms_needed)}; "
            f"choose from {words(ARMS)}",
            lambda v: listed(v) and all(arm in list(ARMS) for arm in v)
            and set(arms_needed) <= set(v) and len(set(v)) == len(v),
        ),
        "seeds": (
            some + which,
            lambda v: whole(v, seeds_least, MOST) or study and listed(v)
            and len(v) >= seeds_least and all(whole(seed, 0, 2**32 - 1) for seed in v)
            and len(set(v)) == len(v),
        ),
        "seed": (f"a whole number from 0 to {seed_most}", lambda v: whole(v, 0, seed_most)),
        "jobs": (
            "a whole number of processes from 1 to 1000, or -1 for one a core",
            lambda v: whole(v, 1, 1000) or whole(v, -1, -1),
        ),
        "device": ("a device", lambda v: isinstance(v, str) and bool(pick_device(v))),
        "published": ("True or False", lambda v: isinstance(v, bool)),
        **dict.fromkeys(
            ("runs_dir", "out_dir", "data_dir"),
            (f"{path}, or None", lambda v: v is None or folder(v)),
        ),
        "reviews": (
            "a folder that holds aclImdb, or None",
            lambda v: v is None or folder(v)
            and (not here or os.path.isdir(os.path.expanduser(Path(v, "aclImdb")))),
        ),
        "notebook": (
            "the name of a notebook, NAME.ipynb",
            lambda v: isinstance(v, str) and v.endswith(".ipynb"),
        ),
        "settings": ("settings of the study by name, in a dict", settings),
        "margin": ("a number of per cent from 0.001 to 100", lambda v: number(v, 1e-3, 100)),
        "draws": (f"a whole number from 30 to {MOST}", lambda v: whole(v, 30, MOST)),
        "shots_a_second": ("a number from 0.001 to 1e15", lambda v: number(v, 1e-3, 1e15)),
        "shot_price": ("a number from 0 to 1e9", lambda v: number(v, 0, 1e9)),
        "circuit_price": ("a number from 0 to 1e9", lambda v: number(v, 0, 1e9)),
        "points": (
            "a whole number from 3 to 8, or points [[x, y], ...]",
            lambda v: whole(v, 3, 8) or listed(v) and len(as_points(v)) > 0,
        ),
    }  # fmt: skip


def _kind_of(value: ast.expr) -> str:
    """The type of a default, as text; "" where it says nothing."""
    try:
        default = ast.literal_eval(value)
    except ValueError:
        return ""
    if default is None:
        return ""
    kind = type(default).__name__
    inner = (
        {type(item).__name__ for item in default} if isinstance(default, list | tuple) else set()
    )
    return f"{kind}[{inner.pop()}]" if len(inner) == 1 else kind


def _fits(kind: ast.expr, value: object) -> bool:
    """Whether ``value`` fits an annotation; one that is not understood fits everything."""
    match kind:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _fits(left, value) or _fits(right, value)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            entries = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return value in [ast.literal_eval(entry) for entry in entries]
        case ast.Subscript(value=ast.Name(id="Optional"), slice=inner):
            return value is None or _fits(inner, value)
        case ast.Subscript(value=ast.Name(id="list" | "tuple") as base, slice=inner):
            item = inner.elts[0] if isinstance(inner, ast.Tuple) else inner
            return _fits(base, value) and all(_fits(item, entry) for entry in value)
        case ast.Subscript(value=base):
            return _fits(base, value)
        case ast.Constant(value=None):
            return value is None
        case ast.Name(id=name) if name in _TYPES:
            return type(value) in _TYPES[name]
    return True


# ---- notebook_series


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
    with pool(jobs, len(paths)) as workers:
        tasks = (
            joblib.delayed(_one)(index, path, out_dir, parameters, timeout)
            for index, path in enumerate(paths)
        )
        parallel = joblib.Parallel(n_jobs=workers, batch_size=1, return_as="generator_unordered")
        with deaf_to_ctrl_c():  # a generator starts the workers, and waits for none
            outcomes = parallel(tasks)
        said = {}
        for index, executed, seconds, failure in outcomes:
            paths[index] = executed
            said |= {index: failure} if failure else {}
            outcome = "failed" if failure else duration(seconds)
            print(f"{executed.name}: {outcome}", file=sys.stderr, flush=True)
    if said:
        failures = [said[index] for index in sorted(said)]
        raise NotebookError("\n".join([f"{len(failures)} of {len(paths)} failed.", *failures]))
    return paths


def _one(
    index: int,
    path: Path,
    out_dir: str | Path | None,
    parameters: Mapping[str, object] | None,
    timeout: int | None,
) -> tuple[int, Path, float, str]:
    """The place of a notebook, its executed copy, its seconds, and what went wrong or ""."""
    started, options = time.monotonic(), {"progress": False, "cwd": path.parent}
    try:
        if out_dir is None:
            executed = refresh(path, parameters, timeout, **options)
        else:
            executed = execute(path, out_dir, parameters, timeout, **options)
    except NotebookError as error:
        return index, path, time.monotonic() - started, str(error)
    return index, executed, time.monotonic() - started, ""


# ---- at_hand


@dataclass(frozen=True)
class Missing:
    """Stands for something that is not at hand, and says why when it is displayed."""

    reason: str

    def __repr__(self) -> str:
        return f"Not shown: {self.reason}"

    def _repr_html_(self) -> str:
        return f"<p><strong>Not shown:</strong> {html.escape(self.reason)}</p>"


def images_at_hand(
    benchmark: str,
    scale: str = "laptop",
    data_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
    **overrides: Any,  # noqa: ANN401
) -> ImageBenchmark | Missing:
    """The benchmark if its images are on this machine; nothing is downloaded.

    Args:
        benchmark, scale, data_dir, device, overrides: see
            :func:`~qrkd_lab.studies.benchmarks.load_benchmark`.

    Raises:
        ValueError: unknown names, a language benchmark, or settings out of range.

    Example:
        >>> images_at_hand("digits", "smoke").settings.benchmark
        'digits'
    """
    from qrkd_lab.data.images import load_images
    from qrkd_lab.studies.benchmarks import is_text, load_benchmark

    if is_text(benchmark):
        raise ValueError(f"{benchmark} is a benchmark of language: it has no images")
    try:
        load_images(benchmark, data_dir=data_dir, download=False)  # no network from here on
        return load_benchmark(benchmark, scale, data_dir, device, **overrides)
    except DataError:
        return Missing(
            f"the images of {benchmark} are not on this machine, or not whole. Get them with "
            f"python -m qrkd_lab data {benchmark} and run the notebook again."
        )


def if_there(value: Any, then: Callable[[Any], Any]) -> Any:  # noqa: ANN401
    """``then(value)``, or the value itself where it is :class:`Missing`.

    Example:
        >>> if_there(2, lambda x: x + 1)
        3
        >>> if_there(Missing("no images here."), lambda x: x + 1)
        Not shown: no images here.
    """
    return value if isinstance(value, Missing) else then(value)
