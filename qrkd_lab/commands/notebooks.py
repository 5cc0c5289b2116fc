"""The command ``notebook``: run notebooks without a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_notebook"]


def add_notebook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="notebook")
    parser.add_argument("--out", help="folder for the executed copy (default that of the records)")
    parser.add_argument(
        "-p", "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="set"
    )
    parser.add_argument("--timeout", type=int, help="seconds a cell may take")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (default 1)")
    parser.add_argument(
        "--in-place", action="store_true", help="write the outputs back into the notebook itself"
    )
    parser.set_defaults(command=_notebook)


def _notebook(arguments: argparse.Namespace) -> None:
    from qrkd_lab.notebook_parameters import parse_parameters
    from qrkd_lab.notebook_series import run_series
    from qrkd_lab.notebooks import execute, refresh
    from qrkd_lab.storage import expanded, runs_folder

    parameters = parse_parameters(arguments.set)
    out = None if arguments.in_place else runs_folder(arguments.out)
    if len(arguments.notebooks) > 1:
        run_series(arguments.notebooks, out, parameters, arguments.timeout, arguments.jobs)
        return
    notebook = expanded(*arguments.notebooks)
    # In its own folder, as in JupyterLab, so that relative paths mean the same in both.
    options = {"timeout": arguments.timeout, "cwd": notebook.parent}
    if arguments.in_place:
        refresh(notebook, parameters, **options)
        print(f"outputs written back into {notebook}")
    else:
        print(execute(notebook, out, parameters, **options))
