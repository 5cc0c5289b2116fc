"""Controls, all of one make: a label before each, one width, values that come as they are moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import log2
from typing import Any

import ipywidgets as W

__all__ = ["button", "choice", "log_slider", "menu", "number", "row", "several", "slider", "switch"]

_STYLE = {"description_width": "9em"}
_WIDE = "24em"


def slider(label: str, value: float, low: float, high: float, step: float = 1) -> W.ValueWidget:
    """A slider over numbers; whole ones where value, ends and step are whole."""
    _between(label, value, low, high)
    whole = all(isinstance(number, int) for number in (low, high, step))
    if whole and not isinstance(value, int):
        raise ValueError(f"{label.lower()}: expected a whole number, got {value!r}")
    kind = W.IntSlider if whole else W.FloatSlider
    return kind(
        value, min=low, max=high, step=step, description=label, style=_STYLE, layout=_layout()
    )


def log_slider(label: str, value: float, low: float, high: float) -> W.ValueWidget:
    """A slider from ``low`` to ``high``, powers of two; eight steps double the value."""
    _between(label, value, low, high)
    return W.FloatLogSlider(
        value, base=2, min=log2(low), max=log2(high), step=1 / 8, readout_format=".3g",
        description=label, style=_STYLE, layout=_layout(),
    )  # fmt: skip


def number(label: str, value: float, low: float, high: float, step: float = 1) -> W.ValueWidget:
    """A field for a number, to type in or to step; whole ones where value and ends are whole."""
    _between(label, value, low, high)
    whole = all(isinstance(each, int) for each in (value, low, high, step))
    kind = W.BoundedIntText if whole else W.BoundedFloatText
    return kind(
        value, min=low, max=high, step=step, description=label, style=_STYLE, layout=_layout("15em")
    )


def several(label: str, values: Sequence[str], choices: Sequence[str]) -> W.ValueWidget:
    """A list of which several may be chosen: arrows with Ctrl or Shift, or the mouse."""
    for value in values:
        _known(label, value, choices)
    return W.SelectMultiple(
        options=list(choices), value=list(values), rows=min(12, len(choices)), description=label,
        style=_STYLE, layout=_layout(),
    )  # fmt: skip


def choice(label: str, value: Any, values: Sequence[Any]) -> W.ValueWidget:  # noqa: ANN401
    """A slider over a few given values."""
    _known(label, value, values)
    return W.SelectionSlider(
        options=list(values), value=value, description=label, style=_STYLE, layout=_layout()
    )


def menu(
    label: str,
    value: Any,  # noqa: ANN401
    choices: Sequence[Any] | Mapping[str, Any],
) -> W.ValueWidget:
    """A drop-down menu of names, or of texts and the values that they stand for."""
    mapped = isinstance(choices, Mapping)
    _known(label, value, choices.values() if mapped else choices)
    options = list(choices.items() if mapped else choices)
    return W.Dropdown(
        options=options, value=value, description=label, style=_STYLE, layout=_layout()
    )


def switch(label: str, value: bool) -> W.ValueWidget:
    """A box to tick."""
    if not isinstance(value, bool):
        raise ValueError(f"{label.lower()}: expected True or False, got {value!r}")
    return W.Checkbox(value, description=label, indent=False, layout=W.Layout(width="auto"))


def button(label: str, does: Callable[[], object], tip: str = "") -> W.Button:
    """A button that calls a function without arguments."""
    made = W.Button(description=label, tooltip=tip or label, layout=W.Layout(width="auto"))
    made.on_click(lambda _: does())
    return made


def row(*parts: W.Widget) -> W.Box:
    """Controls beside each other, wrapped where the page is narrow."""
    return W.Box(list(parts), layout=W.Layout(flex_flow="row wrap", align_items="center"))


def _known(label: str, value: object, values: Iterable[object]) -> None:
    if value not in (values := list(values)):
        listed = ", ".join(map(str, values))
        raise ValueError(f"unknown {label.lower()} {value!r}; choose from {listed}")


def _between(label: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ValueError(f"{label.lower()}: expected {low:g} to {high:g}, got {value!r}")


def _layout(width: str = _WIDE) -> W.Layout:
    return W.Layout(width=width)
