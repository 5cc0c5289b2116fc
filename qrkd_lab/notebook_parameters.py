"""The parameters of a notebook: what its ``parameters`` cell offers, and whether given values fit.

papermill only warns about a name that it does not know and takes any value, so a typo runs for an
hour with the default. Here both stop before the run. The type of a parameter is its annotation,
else the type of its default:

    seed = 0                                    int
    lr = 1e-3                                   float; an int fits too
    arms = ["kd", "rkd"]                        list[str]
    train_size: int | None = None               int or None
    scale: Literal["smoke", "laptop"] = "smoke" one of these

A default of None, or one that is computed, without annotation takes any value.
"""

from __future__ import annotations

import ast
import difflib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import yaml
from nbformat import NotebookNode

from qrkd_lab.storage import can_be_written, runs_folder

__all__ = [
    "NotebookError", "Parameter", "check_parameters", "check_values", "parse_parameters",
    "read_parameters",
]  # fmt: skip

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
    from qrkd_lab.arms import DEFAULT_ARMS

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
    from qrkd_lab.arms import ARMS
    from qrkd_lab.benchmarks import BENCHMARKS, SCALES, benchmark_settings
    from qrkd_lab.benchmarks.registry import is_text
    from qrkd_lab.devices import pick_device
    from qrkd_lab.plane import as_points

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


def parse_parameters(pairs: Iterable[str]) -> dict[str, object]:
    """Values from the command line, ``name=value`` each.

    A value is a JSON literal (or True, False, None), a list or dict of these and of bare words, or
    else text; quotes make text of what would be a number. What only looks like a number (010, 0x10,
    1_000, 1:30) is text wherever it stands.

    Example:
        >>> parse_parameters(["seed=3", "lr=1e-3", "arms=[kd, rkd]", "scale=smoke", "tag='7'"])
        {'seed': 3, 'lr': 0.001, 'arms': ['kd', 'rkd'], 'scale': 'smoke', 'tag': '7'}

    Raises:
        NotebookError: no "=", a name given twice (in a dict too), or a list or dict that does not
            parse or is nested too deeply.
    """
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise NotebookError(f"expected name=value, for example seed=3; got {pair:.60}")
        if key in values:
            raise NotebookError(f"parameter {key!r} is given twice")
        values[key] = _parse_value(key, text.strip())
    return values


def _parse_value(key: str, text: str) -> object:
    if not text.startswith(("[", "{", "'", '"')):
        return _word(text)
    try:
        return _plain(yaml.compose(text, yaml.SafeLoader))
    except RecursionError:
        problem = "it is nested too deeply"
    except (yaml.YAMLError, ValueError) as error:
        problem = str(error)
    raise NotebookError(f"parameter {key!r}: {text:.60} is not a list, dict or string: {problem}")


def _plain(node: yaml.Node) -> object:
    """The value of a parsed list, dict or scalar; YAML's own readings (010 is 8) are left out."""
    if not node.tag.removeprefix("tag:yaml.org,2002:").isalpha():  # a tag of Python, or own
        raise ValueError(f"{node.tag} is not understood")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        pairs = [(_plain(name), _plain(item)) for name, item in node.value]
        names = [name for name, _ in pairs]
        if odd := [name for name in names if not isinstance(name, str) or names.count(name) > 1]:
            raise ValueError(f"expected each name once, and as a word; got {odd[0]!r}")
        return dict(pairs)
    return node.value if node.style else _word(node.value)


def _word(text: str) -> object:
    """The number, boolean or None that a word stands for, or else the word itself."""
    words = {"True": True, "False": False, "None": None}
    try:
        return words[text] if text in words else json.loads(text, parse_constant=str)
    except ValueError:
        return text


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
