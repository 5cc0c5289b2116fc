"""Run many notebooks, some at a time, each in a process of its own; one failure stops no other."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib

from qrkd_lab.notebook_parameters import NotebookError
from qrkd_lab.notebooks import execute, refresh
from qrkd_lab.progress import duration

__all__ = ["run_series"]


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
    paths = [Path(notebook) for notebook in notebooks]
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        tasks = (joblib.delayed(_one)(path, out_dir, parameters, timeout) for path in paths)
        results = joblib.Parallel(n_jobs=jobs, batch_size=1)(tasks)
    failed = [said for _, said in results if said]
    if failed:
        raise NotebookError("\n".join([f"{len(failed)} of {len(paths)} failed.", *failed]))
    return [path for path, _ in results]


def _one(
    path: Path,
    out_dir: str | Path | None,
    parameters: Mapping[str, object] | None,
    timeout: int | None,
) -> tuple[Path, str]:
    """The executed notebook and "", or the notebook and what went wrong."""
    started, options = time.monotonic(), {"progress": False, "cwd": path.parent}
    try:
        if out_dir is None:
            path = refresh(path, parameters, timeout, **options)
        else:
            path = execute(path, out_dir, parameters, timeout, **options)
    except NotebookError as error:
        print(f"{path.name}: failed", file=sys.stderr, flush=True)
        return path, str(error)
    print(f"{path.name}: {duration(time.monotonic() - started)}", file=sys.stderr, flush=True)
    return path, ""
