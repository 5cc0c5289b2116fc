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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import yaml
from nbformat import NotebookNode

__all__ = ["NotebookError", "Parameter", "check_parameters", "parse_parameters", "read_parameters"]

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
            ready[key] = json.loads(json.dumps(value))
        except TypeError as error:
            raise NotebookError(
                f"{name}, parameter {key!r}: expected a number, string, boolean, None, or a list "
                f"or dict of these; got {value!r} ({type(value).__name__})"
            ) from error
        if not offered[key].accepts(ready[key]):
            raise NotebookError(
                f"{name}, parameter {key!r}: expected {offered[key].kind}, got {value!r} "
                f"({type(value).__name__}). Its parameters:{known}"
            )
    _check_choices(name, offered, ready)
    return ready


def _check_choices(
    name: str, offered: Mapping[str, Parameter], values: Mapping[str, object]
) -> None:
    """What the package would refuse in the middle of a run: arms, devices, scales, settings."""
    from qrkd_lab.arms import get_arm
    from qrkd_lab.benchmarks import benchmark_settings
    from qrkd_lab.devices import pick_device

    def chosen(key: str, otherwise: str) -> str:
        default = ast.literal_eval(offered[key].default) if key in offered else otherwise
        return str(values.get(key, default))

    try:
        for arm in values.get("arms", []):
            get_arm(arm)
        if "device" in values:
            pick_device(str(values["device"]))
        benchmark = chosen("benchmark", "digits")
        folder = "/" in benchmark or "\\" in benchmark  # seen from the notebook's own folder
        if {"benchmark", "scale", "settings"} & values.keys() and not folder:
            benchmark_settings(benchmark, chosen("scale", "laptop"), **values.get("settings", {}))
    except (ValueError, TypeError) as error:
        raise NotebookError(f"{name}: {error}") from error


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
