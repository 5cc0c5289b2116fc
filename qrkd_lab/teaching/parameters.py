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


def read_parameters(name: str, nb: NotebookNode) -> dict[str, str]:
    """The parameters that the notebook offers: name to default, as source text, in order.

    Args:
        name: what to call the notebook in an error.
        nb: the notebook.

    Raises:
        NotebookError: no code cell has the tag ``parameters``.
    """
    for cell in code_cells(nb):
        if "parameters" in cell.metadata.get("tags", []):
            lines = [ast.unparse(line) for line in ast.parse(cell.source).body]
            pairs = [line.split(" = ", 1) for line in lines if " = " in line]
            return {name.partition(":")[0]: default for name, default in pairs}
    raise NotebookError(
        f"{name} has no parameters cell: give its first code cell the tag 'parameters' "
        "(JupyterLab: property inspector, top right, 'Cell tags')"
    )


def check_parameters(
    name: str, nb: NotebookNode, values: Mapping[str, object]
) -> dict[str, object]:
    """The values, ready for papermill (tuples as lists), once each has a known name.

    Whether a value can be is checked by the notebook itself, see :func:`check_values`.

    Raises:
        NotebookError: an unknown name (lists every parameter with its default), or a value that
            JSON does not know.
    """
    offered = read_parameters(name, nb)
    if unknown := [key for key in values if key not in offered]:
        known = "".join(f"\n    {each} = {default}" for each, default in offered.items())
        near = difflib.get_close_matches(unknown[0], offered, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise NotebookError(
            f"{name} has no parameter {unknown[0]!r}{hint}. Its parameters:{known or ' none'}"
        )
    try:
        return json.loads(json.dumps(dict(values), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise NotebookError(
            f"{name}: expected parameters that are finite numbers, strings, booleans, None, or "
            f"lists or dicts of these; got {dict(values)!r:.200}"
        ) from error


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

    rules = _rules(DEFAULT_ARMS if study else arms_needed, benchmark_kind, values)
    rules |= {
        "seeds": _seeds(seeds_least, which=study),
        "seed": _number(Integral, 0, seed_most),
        "settings": (
            "settings of the study by name, in a dict",
            lambda v: _settings(v, values, settings_taken),
        ),
    }
    for name, value in values.items():
        expected, fits = rules[name]
        try:
            right, why = fits(value), ""
        except (ValueError, TypeError, AttributeError) as error:
            right, why = False, f" ({error})"
        if not right:
            got = f"{value!r:.80} ({type(value).__name__})"
            raise ValueError(f"parameter {name!r}: expected {expected}{why}; got {got}")
    home = runs_folder(values.get("runs_dir"))
    if "runs_dir" in values and not can_be_written(home):
        warnings.warn(
            f"{home.absolute()} cannot be written: what is on record can be read, but nothing is "
            "trained. Give a folder of your own, as runs_dir or as $QRKD_RUNS_DIR.",
            stacklevel=2,
        )


MOST = 10_000  # seeds and draws: more is a slip of the keyboard
Rule = tuple[str, Callable[[Any], bool]]  # what is expected, and whether a value is that


def _rules(arms_needed: Sequence[str], kind: str, values: Mapping[str, Any]) -> dict[str, Rule]:
    """By name, what is expected and whether a value is that."""
    from qrkd_lab.devices import pick_device
    from qrkd_lab.studies.arms import ARMS, SCALES
    from qrkd_lab.teaching.plane import as_points

    path = (
        "the path of a folder, or of one that can be made, or None",
        lambda v: v is None or _folder(v),
    )
    needed = f" with {', '.join(arms_needed)}" if arms_needed else ""
    return {
        "scale": (f"a scale; choose from {', '.join(SCALES)}", lambda v: v in SCALES),
        "arms": (
            f"a list of different arms{needed}; choose from {', '.join(ARMS)}",
            lambda v: _several(v, ARMS.__contains__) and set(arms_needed) <= set(v),
        ),
        "benchmark": _benchmark(kind, values.get("runs_dir")),
        "other": _benchmark("images"),
        "published": ("True or False", lambda v: isinstance(v, bool)),
        "jobs": (
            "a whole number of processes from 1 to 1000, or -1 for one a core",
            lambda v: _number(Integral, -1, 1000)[1](v) and v != 0,
        ),
        "device": ("a device", lambda v: isinstance(v, str) and bool(pick_device(v))),
        **dict.fromkeys(("runs_dir", "out_dir", "data_dir"), path),
        "reviews": (
            "a folder that holds aclImdb, or None",
            lambda v: v is None or _folder(v) and (Path(v).expanduser() / "aclImdb").is_dir(),
        ),
        "notebook": ("the name of a notebook, NAME.ipynb", lambda v: v.endswith(".ipynb")),
        "points": (
            "a whole number from 3 to 8, or points [[x, y], ...]",
            lambda v: _number(Integral, 3, 8)[1](v) or isinstance(v, list) and len(as_points(v)),
        ),
        "draws": _number(Integral, 30, MOST),
        "margin": _number(Real, 1e-3, 100),  # per cent
        "shots_a_second": _number(Real, 1e-3, 1e15),
        "shot_price": _number(Real, 0, 1e9),
        "circuit_price": _number(Real, 0, 1e9),
    }


def _number(kind: type, low: float, high: float) -> Rule:
    what = "a whole number" if kind is Integral else "a number"
    return (
        f"{what} from {low:.16g} to {high:.16g}",
        lambda v: isinstance(v, kind) and not isinstance(v, bool) and low <= v <= high,
    )


def _seeds(least: int, which: bool) -> Rule:
    """How many; or, in a list, which."""
    (expected, counts), (_, seed) = _number(Integral, least, MOST), _number(Integral, 0, 2**32 - 1)
    if not which:
        return expected, counts
    expected += f" or at least {least} different whole numbers >= 0 in a list"
    return expected, lambda v: counts(v) or _several(v, seed, least)


def _several(value: object, fits: Callable[[Any], bool], least: int = 1) -> bool:
    """Whether it is a list of different values that fit, ``least`` or more."""
    listed = isinstance(value, list | tuple) and len(value) >= least
    return listed and all(map(fits, value)) and len(set(value)) == len(value)


def _folder(value: object) -> bool:
    """Whether it is a path to a folder, or to one that can be made."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value).strip():
        return False
    place = Path(value).expanduser()
    return next(up for up in (place, *place.absolute().parents) if os.path.lexists(up)).is_dir()


def _benchmark(kind: str, runs: object = None) -> Rule:
    """A benchmark of this kind: by name, a folder, or a name that has records."""
    from qrkd_lab.studies.arms import BENCHMARKS
    from qrkd_lab.studies.benchmarks import is_text

    def of_kind(name: str) -> bool:
        return kind not in ("images", "text") or is_text(name) == (kind == "text")

    named = [name for name in BENCHMARKS if of_kind(name)]
    if kind == "text":
        named.remove("imdb-sentiment")

    def fits(value: object) -> bool:
        if not isinstance(value, str) or value in BENCHMARKS or not _folder(value):
            return value in named
        recorded = kind == "records" and (runs_folder(runs) / value).is_dir()
        return recorded or Path(value).expanduser().is_dir() and of_kind(value)

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
