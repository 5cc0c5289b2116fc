"""Run many notebooks, some at a time, each in a process of its own; one failure stops no other."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import joblib

from qrkd_lab.notebook_parameters import NotebookError
from qrkd_lab.notebooks import execute, refresh
from qrkd_lab.orphans import deaf_to_ctrl_c
from qrkd_lab.parallel import pool
from qrkd_lab.progress import duration
from qrkd_lab.storage import expanded

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
