"""A notebook's parameters: what its first code cell offers, and which values can be.

``check_values`` has the one rule for each parameter's name. A notebook calls it right after its
parameters cell; ``check_parameters`` reads the same call before a kernel is started.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from qrkd_lab.files import can_be_written, runs_folder

__all__ = ["NotebookError", "Parameter", "check_parameters", "check_values", "read_parameters"]


class NotebookError(RuntimeError):
    """A notebook cannot be run as asked, or its run stopped; the message says where and why."""


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in nb.cells if cell.cell_type == "code"]


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


@dataclass(frozen=True)
class Parameter:
    """``name: kind = default`` of the parameters cell, as source text; kind "" is any type."""

    name: str
    kind: str
    default: str

    def __str__(self) -> str:
        return f"{self.name}: {self.kind or 'any'} = {self.default}"


def read_parameters(name: str, nb: NotebookNode) -> dict[str, Parameter]:
    """The parameters that the notebook offers, by name, in order.

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
            case ast.Assign(targets=[ast.Name(id=key)], value=value):
                found[key] = Parameter(key, _kind_of(value), ast.unparse(value))
            case ast.AnnAssign(target=ast.Name(id=key), annotation=kind, value=ast.expr() as value):
                found[key] = Parameter(key, ast.unparse(kind), ast.unparse(value))
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
        kind = offered[key].kind
        try:
            ready[key] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise NotebookError(
                f"{name}, parameter {key!r}: expected a finite number, string, boolean, None, or a "
                f"list or dict of these; got {_shown(value)}"
            ) from error
        if kind and not _fits(ast.parse(kind, mode="eval").body, ready[key]):
            raise NotebookError(
                f"{name}, parameter {key!r}: expected {kind}, got {_shown(value)}. "
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
    for cell in code_cells(nb):
        if "check_values(" not in cell.source:
            continue
        with suppress(SyntaxError, ValueError):  # then it is not read here, and runs there
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("check_values"):
                    given = {word.arg: word.value for word in node.keywords}
                    names = {key: v.id for key, v in given.items() if isinstance(v, ast.Name)}
                    limits = given.keys() - names.keys()
                    return names, {key: ast.literal_eval(given[key]) for key in limits}
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
    from qrkd_lab.studies.arms import DEFAULT_ARMS

    needed = DEFAULT_ARMS if study else arms_needed
    rules = _rules(
        values, here, needed, benchmark_kind, seeds_least, seed_most, settings_taken, study
    )
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
    if not here or "runs_dir" not in values:
        return
    home = runs_folder(values["runs_dir"])
    if not can_be_written(home):
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


def _whole(value: object, low: int = 1, high: int = MOST) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high


def _number(value: object, low: float, high: float) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high


def _several(value: object, fits: Callable[[Any], bool]) -> bool:
    """Whether it is a list of different values, at least one, that fit."""
    listed = isinstance(value, list | tuple) and len(value) > 0
    return listed and all(map(fits, value)) and len(set(value)) == len(value)


def _folder(value: object, here: bool) -> bool:
    """Whether it is a path to a folder, or to one that can be made."""
    if not isinstance(value, str | os.PathLike) or not os.fspath(value).strip():
        return False
    place = Path(os.path.expanduser(value))
    if "\0" in str(place) or max(len(part.encode()) for part in ("", *place.parts)) > 255:
        return False
    there = next((up for up in (place, *place.parents) if os.path.lexists(up)), Path())
    return not (here or place.is_absolute()) or os.path.isdir(there)


def _benchmark(value: object, named: Sequence[str], kind: str, runs: object, here: bool) -> bool:
    """Whether it is a benchmark of this kind: one in ``named``, a folder, or one with records."""
    from qrkd_lab.studies.arms import BENCHMARKS
    from qrkd_lab.studies.benchmarks import is_text

    if not isinstance(value, str) or not _folder(value, here):
        return False
    if value in BENCHMARKS:
        return value in named
    if kind == "records" and os.path.isdir(runs_folder(runs) / value):
        return True
    if not os.path.isdir(os.path.expanduser(value)):
        return not here and ("/" in value or "\\" in value)  # seen from the notebook's folder
    return kind in ("any", "records") or is_text(value) == (kind == "text")


def _settings(value: object, values: Mapping[str, Any], taken: Sequence[str], here: bool) -> bool:
    """Whether all arms can be trained with these settings."""
    from qrkd_lab.studies.arms import BENCHMARKS
    from qrkd_lab.studies.benchmarks import benchmark_settings

    if not isinstance(value, dict):
        return False
    if own := {"benchmark", "scale", "arm", "seed", *taken} & value.keys():
        raise ValueError(f"{min(own)} is set by the notebook itself")
    name = values.get("benchmark", "digits")
    if not (name in BENCHMARKS or here):
        return True  # a folder: it is looked at in the notebook
    base = benchmark_settings(name, values.get("scale", "laptop"), **value)
    return all(base.replace(arm=arm) for arm in values.get("arms", ()))


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
    """By a parameter's name: what is expected, in words, and whether a value is that."""
    from qrkd_lab.devices import pick_device
    from qrkd_lab.studies.arms import ARMS, BENCHMARKS, SCALES
    from qrkd_lab.studies.benchmarks import is_text
    from qrkd_lab.teaching.plane import as_points

    kinds = {
        "images": [name for name in BENCHMARKS if not is_text(name)],
        "text": [name for name in BENCHMARKS if is_text(name) and name != "imdb-sentiment"],
    }

    def of_kind(kind: str) -> tuple[str, Callable[[Any], bool]]:
        named, runs = kinds.get(kind, list(BENCHMARKS)), values.get("runs_dir")
        expected = f"a benchmark; choose from {', '.join(named)}, or give a folder"
        return expected, lambda v: _benchmark(v, named, kind, runs, here)

    def which(value: object) -> bool:
        seeds = _several(value, lambda seed: _whole(seed, 0, 2**32 - 1))
        return study and seeds and len(value) >= seeds_least

    def reviews(value: str) -> bool:
        return not here or os.path.isdir(os.path.join(os.path.expanduser(value), "aclImdb"))

    path = (
        "the path of a folder, or of one that can be made, or None",
        lambda v: v is None or _folder(v, here),
    )
    price = ("a number from 0 to 1e+09", lambda v: _number(v, 0, 1e9))
    or_list = f" or at least {seeds_least} different whole numbers >= 0 in a list" * study
    needed = f" with {', '.join(arms_needed)}" if arms_needed else ""
    return {
        "seeds": (
            f"a whole number from {seeds_least} to {MOST}{or_list}",
            lambda v: _whole(v, seeds_least) or which(v),
        ),
        "seed": (f"a whole number from 0 to {seed_most}", lambda v: _whole(v, 0, seed_most)),
        "jobs": (
            "a whole number of processes from 1 to 1000, or -1 for one a core",
            lambda v: _whole(v, 1, 1000) or _whole(v, -1, -1),
        ),
        "draws": (f"a whole number from 30 to {MOST}", lambda v: _whole(v, 30)),
        "margin": ("a number from 0.001 to 100", lambda v: _number(v, 1e-3, 100)),  # per cent
        "shots_a_second": ("a number from 0.001 to 1e+15", lambda v: _number(v, 1e-3, 1e15)),
        "shot_price": price,
        "circuit_price": price,
        "points": (
            "a whole number from 3 to 8, or points [[x, y], ...]",
            lambda v: _whole(v, 3, 8) or isinstance(v, list | tuple) and len(as_points(v)) > 0,
        ),
        "scale": (f"a scale; choose from {', '.join(SCALES)}", lambda v: v in SCALES),
        "benchmark": of_kind(benchmark_kind),
        "other": of_kind("images"),
        "arms": (
            f"a list of different arms{needed}; choose from {', '.join(ARMS)}",
            lambda v: _several(v, lambda arm: arm in list(ARMS)) and set(arms_needed) <= set(v),
        ),
        "device": ("a device", lambda v: isinstance(v, str) and bool(pick_device(v))),
        "published": ("True or False", lambda v: isinstance(v, bool)),
        **dict.fromkeys(("runs_dir", "out_dir", "data_dir"), path),
        "reviews": (
            "a folder that holds aclImdb, or None",
            lambda v: v is None or _folder(v, here) and reviews(v),
        ),
        "notebook": (
            "the name of a notebook, NAME.ipynb",
            lambda v: isinstance(v, str) and v.endswith(".ipynb"),
        ),
        "settings": (
            "settings of the study by name, in a dict",
            lambda v: _settings(v, values, settings_taken, here),
        ),
    }


def _kind_of(value: ast.expr) -> str:
    """The type of a default, as text; "" where it says nothing."""
    try:
        default = ast.literal_eval(value)
    except ValueError:
        return ""
    if default is None:
        return ""
    kind, inner = type(default).__name__, set()
    if isinstance(default, list | tuple):
        inner = {type(item).__name__ for item in default}
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
