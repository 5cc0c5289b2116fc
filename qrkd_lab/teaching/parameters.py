"""A notebook's parameters: what its first code cell offers, and which values can be.

``check_values`` has the one rule for each parameter's name; a notebook calls it right after its
parameters cell.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from qrkd_lab.files import can_be_written, runs_folder

__all__ = ["NotebookError", "check_parameters", "check_values", "read_parameters"]


class NotebookError(RuntimeError):
    """A notebook cannot be run as asked, or its run stopped; the message says where and why."""


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


MOST = 10_000  # seeds and draws: more is a slip of the keyboard


def read_parameters(name: str, nb: NotebookNode) -> dict[str, str]:
    """The parameters that the notebook offers: name to default, as source text, in order.

    papermill's own reading passes over those with a type like ``int | None``.

    Args:
        name: what to call the notebook in an error.
        nb: the notebook.

    Raises:
        NotebookError: no code cell has the tag ``parameters``, or the cell is not plain Python.
    """
    tagged = [cell for cell in code_cells(nb) if "parameters" in cell.metadata.get("tags", [])]
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
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=key)], value=value)
                | ast.AnnAssign(target=ast.Name(id=key), value=ast.expr() as value)
            ):
                found[key] = ast.unparse(value)
    return found


def check_parameters(
    name: str, nb: NotebookNode, values: Mapping[str, object]
) -> dict[str, object]:
    """The values, ready for papermill (tuples as lists), once each has a known name.

    Whether a value can be is checked by the notebook itself, see :func:`check_values`.

    Raises:
        NotebookError: an unknown name (lists every parameter with its default), or a value that
            JSON does not know.
    """
    offered, ready = read_parameters(name, nb), {}
    for key, value in values.items():
        if key not in offered:
            known = "".join(f"\n    {each} = {default}" for each, default in offered.items())
            near = difflib.get_close_matches(key, offered, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise NotebookError(
                f"{name} has no parameter {key!r}{hint}. Its parameters:{known or ' none'}"
            )
        try:
            ready[key] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise NotebookError(
                f"{name}, parameter {key!r}: expected a finite number, string, boolean, None, or a "
                f"list or dict of these; got {_shown(value)}"
            ) from error
    return ready


def check_values(
    *,
    arms_needed: Sequence[str] = (),
    benchmark_kind: str = "any",
    seeds_least: int = 1,
    seed_most: int = 2**32 - 1,
    settings_taken: Sequence[str] = (),
    study: bool = False,
    **values: object,
) -> None:
    """Stop before anything is computed if a notebook's parameter has a value that cannot be.

    A name means the same in all notebooks, so its range stands here, once. A notebook calls this
    right after its parameters cell.

    Args:
        arms_needed: what ``arms`` must contain.
        benchmark_kind: of ``benchmark``: ``images``, ``text``, ``records`` (also a name that only
            records have) or ``any``.
        seeds_least: how many ``seeds`` at least.
        seed_most: the largest ``seed``.
        settings_taken: names that ``settings`` must not contain, as the notebook sets them itself.
        study: whether it is a notebook of ``reproduce``: ``seeds`` may also be a list that says
            which, and ``arms`` must contain those that it compares.
        values: the parameters by name.

    Raises:
        ValueError: names the parameter, what was expected, and what came.

    Example:
        >>> check_values(scale="laptop", seeds=5)
        >>> check_values(scale="laptop", seeds=0)
        Traceback (most recent call last):
        ValueError: parameter 'seeds': expected a whole number from 1 to 10000; got 0 (int)
    """
    from qrkd_lab.studies.arms import DEFAULT_ARMS

    needed = DEFAULT_ARMS if study else arms_needed
    rules = {
        "seeds": _seeds(seeds_least, which=study),
        "seed": _whole(0, seed_most),
        "settings": (
            "settings of the study by name, in a dict",
            lambda v: _settings(v, values, settings_taken),
        ),
        "benchmark": _benchmark(benchmark_kind, values.get("runs_dir")),
        **_rules(needed),
    }
    for name, value in values.items():
        if name not in rules:
            raise ValueError(f"parameter {name!r} has no rule; those that have: {', '.join(rules)}")
        expected, fits = rules[name]
        try:
            right, why = fits(value), ""
        except (ValueError, TypeError) as error:
            right, why = False, f" ({error})"
        if not right:
            raise ValueError(f"parameter {name!r}: expected {expected}{why}; got {_shown(value)}")
    home = runs_folder(values.get("runs_dir"))
    if "runs_dir" in values and not can_be_written(home):
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


Rule = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is that


def _whole(low: int, high: int = MOST) -> Rule:
    return f"a whole number from {low} to {high}", lambda v: _in(v, Integral, low, high)


def _number(low: float, high: float) -> Rule:
    return f"a number from {low:g} to {high:g}", lambda v: _in(v, Real, low, high)


def _in(value: object, kind: type, low: float, high: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


def _seeds(least: int, which: bool) -> Rule:
    """How many; or, in a list, which."""
    expected, fits = _whole(least)
    expected += f" or at least {least} different whole numbers >= 0 in a list" * which
    listed = lambda v: which and len(v) >= least and _several(v, _whole(0, 2**32 - 1)[1])  # noqa: E731
    return expected, lambda v: fits(v) or isinstance(v, list | tuple) and listed(v)


def _several(value: object, fits: Callable[[Any], bool]) -> bool:
    """Whether it is a list of different values, at least one, that fit."""
    listed = isinstance(value, list | tuple) and len(value) > 0
    return listed and all(map(fits, value)) and len(set(value)) == len(value)


def _folder(value: object) -> bool:
    """Whether it is a path to a folder, or to one that can be made."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value).strip():
        return False
    place = Path(os.path.expanduser(value))
    if "\0" in str(place) or max(len(part.encode()) for part in ("", *place.parts)) > 255:
        return False
    there = next((up for up in (place, *place.parents) if os.path.lexists(up)), Path())
    return there.is_dir()


def _benchmark(kind: str, runs: object = None) -> Rule:
    """A benchmark of this kind: by name, a folder, or a name that has records."""
    from qrkd_lab.studies.arms import BENCHMARKS
    from qrkd_lab.studies.benchmarks import is_text

    kinds = {
        "images": [name for name in BENCHMARKS if not is_text(name)],
        "text": [name for name in BENCHMARKS if is_text(name) and name != "imdb-sentiment"],
    }
    named = kinds.get(kind, list(BENCHMARKS))

    def fits(value: object) -> bool:
        if not isinstance(value, str) or not _folder(value):
            return False
        if value in BENCHMARKS:
            return value in named
        if kind == "records" and (runs_folder(runs) / value).is_dir():
            return True
        there = os.path.isdir(os.path.expanduser(value))
        return there and (kind not in kinds or is_text(value) == (kind == "text"))

    return f"a benchmark; choose from {', '.join(named)}, or give a folder", fits


def _settings(value: object, values: Mapping[str, Any], taken: Sequence[str]) -> bool:
    """Whether all arms can be trained with these settings."""
    from qrkd_lab.studies.benchmarks import benchmark_settings

    if not isinstance(value, dict):
        return False
    if own := {"benchmark", "scale", "arm", "seed", *taken} & value.keys():
        raise ValueError(f"{min(own)} is set by the notebook itself")
    name, scale = values.get("benchmark", "digits"), values.get("scale", "laptop")
    base = benchmark_settings(name, scale, **value)
    return all(base.replace(arm=arm) for arm in values.get("arms", ()))


def _rules(arms_needed: Sequence[str]) -> dict[str, Rule]:
    """By name, what is the same in every notebook."""
    from qrkd_lab.devices import pick_device
    from qrkd_lab.studies.arms import ARMS, SCALES
    from qrkd_lab.teaching.plane import as_points

    path = (
        "the path of a folder, or of one that can be made, or None",
        lambda v: v is None or _folder(v),
    )
    needed = f" with {', '.join(arms_needed)}" if arms_needed else ""
    return {
        "jobs": (
            "a whole number of processes from 1 to 1000, or -1 for one a core",
            lambda v: _in(v, Integral, 1, 1000) or _in(v, Integral, -1, -1),
        ),
        "draws": _whole(30),
        "margin": _number(1e-3, 100),  # per cent
        "shots_a_second": _number(1e-3, 1e15),
        "shot_price": _number(0, 1e9),
        "circuit_price": _number(0, 1e9),
        "points": (
            "a whole number from 3 to 8, or points [[x, y], ...]",
            lambda v: _in(v, Integral, 3, 8) or isinstance(v, list | tuple) and len(as_points(v)),
        ),
        "scale": (f"a scale; choose from {', '.join(SCALES)}", lambda v: v in SCALES),
        "other": _benchmark("images"),
        "arms": (
            f"a list of different arms{needed}; choose from {', '.join(ARMS)}",
            lambda v: _several(v, lambda arm: arm in list(ARMS)) and set(arms_needed) <= set(v),
        ),
        "device": ("a device", lambda v: isinstance(v, str) and bool(pick_device(v))),
        "published": ("True or False", lambda v: isinstance(v, bool)),
        **dict.fromkeys(("runs_dir", "out_dir", "data_dir"), path),
        "reviews": (
            "a folder that holds aclImdb, or None",
            lambda v: v is None or _folder(v) and (Path(v).expanduser() / "aclImdb").is_dir(),
        ),
        "notebook": (
            "the name of a notebook, NAME.ipynb",
            lambda v: isinstance(v, str) and v.endswith(".ipynb"),
        ),
    }
