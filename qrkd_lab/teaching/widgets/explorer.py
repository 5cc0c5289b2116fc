"""What all explorers have in common: controls, pictures, a sentence; a still when they are gone.

An explorer is a state (the values of its controls) and two functions of it:
:meth:`Explorer.see` for what must answer while a slider moves, and :meth:`Explorer.see_more` for
what may come a moment later. Both may raise: what they say then stands in the explorer, and the
last pictures stay, faded.

In a notebook the pictures are drawn by a thread of the explorer's own. A control that moves only
says that there is something to draw; so whatever was moved meanwhile, and however long a picture
takes, the next one is of the last state, and the notebook's cells go on. Elsewhere (plain Python,
a notebook that is run without a page) everything is drawn at once.
"""

from __future__ import annotations

import atexit
import base64
import html
import inspect
import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import log2
from typing import Any
from uuid import uuid4

import ipywidgets as W
from PIL import Image

from qrkd_lab.teaching.plots.matrices import DPI, RedrawnChart
from qrkd_lab.teaching.plots.style import Chart

__all__ = [
    "Explorer",
    "Picture",
    "Sight",
    "button",
    "choice",
    "log_slider",
    "menu",
    "number",
    "row",
    "several",
    "slider",
    "still",
    "switch",
]


_CSS = (
    ".qrkd-explorer .qrkd-faded {opacity: 0.3}"
    ".qrkd-explorer .qrkd-wrong {color: #A50026; font-weight: bold}"
    ".qrkd-explorer img {max-width: 100%; height: auto; flex: none}"
    ".qrkd-explorer .qrkd-alt {position: absolute; width: 1px; height: 1px; overflow: hidden;"
    " clip-path: inset(50%)}"
    ".qrkd-explorer img.qrkd-wide {max-width: none}"  # its box scrolls
)
# seconds without a change before the slow pictures, before the still, before what can be prepared
_MORE, _STILL, _IDLE = 0.2, 0.5, 0.5
_AT_LEAST = 3.0  # seconds after which the still is renewed, though nothing rests


@dataclass(frozen=True)
class Sight:
    """What there is to see.

    Attributes:
        pictures: by name; those that are not named stay.
        words: HTML; None: those that are there stay.
        stale: the pictures that stay are of an earlier state, and the new ones are to come.
    """

    pictures: Mapping[str, Picture] = field(default_factory=dict)
    words: str | None = None
    stale: bool = False


class Explorer:
    """Controls on top, a sentence, pictures; it displays itself as a cell's last value.

    Args:
        controls: argument name to control; what the user sets, in the order of the Tab key.
        rows: how the controls stand: lists of names, or widgets of any kind.
        pictures: names of the pictures, from top to bottom.

    Attributes:
        lock: held while a picture is made, one for all explorers; hold it to change together what a
            picture is made of.
        pace: seconds between two pictures at least.
    """

    lock = threading.RLock()
    pace = 0.0

    def __init__(
        self,
        controls: Mapping[str, W.Widget],
        rows: Sequence[Sequence[str] | W.Widget],
        pictures: Sequence[str] = ("picture",),
    ) -> None:
        self.controls = dict(controls)
        self._key = uuid4().hex[:8]
        self._shown: dict[str, Picture] = {name: Picture() for name in pictures}
        self._said = ""
        self._images = {name: W.Image(format="png") for name in pictures}
        for name, image in self._images.items():
            image.add_class(f"qrkd-{name}")
            image.layout.display = "none"  # until there is something to show
        self._words = W.HTML().add_class("qrkd-words")
        style = W.HTML(f"<style>{_CSS} .qrkd-still-{self._key} {{display: none}}</style>")
        style.layout.display = "none"
        shown = [W.Box([image], layout={"overflow": "auto"}) for image in self._images.values()]
        self.view = W.VBox([style, *map(self._row, rows), self._words, *shown])
        self.view.add_class("qrkd-explorer").add_class(f"qrkd-{type(self).__name__}")
        self._handle: Any = None  # of the still's display
        self._drawer: threading.Thread | None = None
        self._wanted, self._rested, self._ended = threading.Event(), threading.Event(), False
        self._held = 0
        for control in self.controls.values():
            control.observe(self.refresh, "value")

    def see(self) -> Sight:
        """What the present state shows, quick enough to follow a slider."""
        raise NotImplementedError

    def see_more(self) -> Sight:
        """What may come a moment after the last change."""
        return Sight()

    def idle(self) -> bool:
        """Prepare something while nothing is asked for; whether there is more to prepare."""
        return False

    @property
    def state(self) -> dict[str, Any]:
        """The arguments that make an explorer with the values of these controls."""
        return {name: control.value for name, control in self.controls.items()}

    def refresh(self, *_: object) -> None:
        """Look again: now, or where it is drawn in the background, as soon as that is free."""
        if self._held:
            return
        if self._drawer is not None:
            self._rested.clear()
            self._wanted.set()
        elif self._look(self.see):
            self._look(self.see_more)

    def settle(self, seconds: float = 60.0) -> bool:
        """Wait until the last state is drawn and kept; False if it takes longer."""
        end = time.monotonic() + seconds
        while self._drawer is not None and (self._wanted.is_set() or not self._rested.is_set()):
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True

    @contextmanager
    def together(self) -> Iterator[None]:
        """Several controls change inside the block, and are looked at once."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.refresh()

    def show(self, sight: Sight) -> None:
        """Put pictures and words up; may be called from any thread."""
        for name, picture in sight.pictures.items():
            image = self._images[name]
            image.value = picture.png
            image.layout.width = f"{picture.width}px"
            image.layout.display = None if picture.png else "none"
            (image.add_class if picture.wide else image.remove_class)("qrkd-wide")
            self._shown[name] = picture
        if sight.words is not None:
            self._said = sight.words
        described = html.escape(" ".join(picture.alt for picture in self._shown.values()))
        self._words.value = (  # an image widget has no alt text: it stands here, for who listens
            f'<div role="status">{self._said}</div><div class="qrkd-alt">{described}</div>'
        )
        self._fade(sight.stale)

    def complain(self, error: Exception | str) -> None:
        """Say what is wrong; the pictures stay, faded, as they are not of this state."""
        known = isinstance(error, (str, ValueError))
        text = str(error) if known else f"{type(error).__name__}: {error}"
        first, _, rest = text.partition("\n")
        more = f"<pre>{html.escape(rest)}</pre>" if rest else ""
        self._said = f'<p class="qrkd-wrong" role="alert">{html.escape(first)}</p>{more}'
        self._words.value = self._said
        self._fade(True)

    def _look(self, function: Callable[[], Sight]) -> bool:
        with self.lock:
            try:
                self.show(function())
            except Exception as error:  # whatever it is, the notebook goes on
                self.complain(error)
                return False
            return True

    def draw_in_background(self) -> None:
        """From now on a thread of its own draws."""
        if self._drawer is None:
            self._rested.set()
            self._drawer = threading.Thread(target=self._draw, daemon=True)
            self._drawer.start()
            atexit.register(self._end)

    def _draw(self) -> None:
        """Draw whenever something is wanted; when nothing is, what is slow, and the still."""
        kept = 0.0
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._ended:
                return
            seen = self._look(self.see)
            if time.monotonic() - kept > _AT_LEAST:  # somebody may save while it goes on
                kept = self.keep()
            if self._wanted.wait(self.pace or _MORE):
                time.sleep(self.pace)
                continue
            if seen:
                self._look(self.see_more)
            if self._wanted.wait(_STILL):
                continue
            kept = self.keep()
            self._rested.set()
            while not self._wanted.wait(_IDLE) and self.idle():
                pass

    def _end(self) -> None:
        """Python ends: no thread may be in the middle of a picture then."""
        self._ended = True
        self._wanted.set()
        self._drawer.join(5)

    def _fade(self, faded: bool) -> None:
        for image in self._images.values():
            (image.add_class if faded else image.remove_class)("qrkd-faded")

    def _row(self, parts: Sequence[str] | W.Widget) -> W.Widget:
        if isinstance(parts, W.Widget):
            return parts
        return row(*(self.controls[part] if isinstance(part, str) else part for part in parts))

    def keep(self) -> float:
        """Put what is shown now into the notebook, for when the controls are gone; the time."""
        if self._handle is not None:
            self._handle.update(self._still(), raw=True)
        return time.monotonic()

    def _still(self) -> dict[str, str]:
        return still(list(self._shown.values()), self._said, repr(self), self._key)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self.refresh()  # at once and whole, so that a run without browser leaves everything
        self.settle()
        display({**self.view._repr_mimebundle_(), "text/plain": repr(self)}, raw=True)
        self._handle = display(self._still(), raw=True, display_id=True)
        if _in_kernel():
            self.draw_in_background()

    def __repr__(self) -> str:
        default = inspect.signature(type(self).__init__).parameters
        said = ", ".join(
            f"{name}={value!r}"
            for name, value in self.state.items()
            if name not in default or default[name].default != value
        )
        return f"{type(self).__name__}({said})"


def _in_kernel() -> bool:
    """Whether this Python is the kernel of a notebook."""
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


# ---- controls


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


# ---- pictures


@dataclass(frozen=True)
class Picture:
    """A PNG, what it shows in words, and its width in CSS pixels; a wide one scrolls."""

    png: bytes = b""
    alt: str = ""
    width: int = 0
    wide: bool = False

    @classmethod
    def of(cls, chart: Chart) -> Picture:
        """The picture of a figure, small rather than quick."""
        data, metadata = chart._repr_mimebundle_()
        return cls(base64.b64decode(data["image/png"]), chart.alt, metadata["image/png"]["width"])

    @classmethod
    def quickly(cls, chart: Chart) -> Picture:
        """The same, quick rather than small: for a picture that the next one replaces."""
        drawn, out = io.BytesIO(), io.BytesIO()
        chart.savefig(drawn, format="raw", dpi=96)
        width, height = (int(inches * 96) for inches in chart.get_size_inches())
        image = Image.frombytes("RGBA", (width, height), drawn.getvalue())
        image.convert("RGB").save(out, "png", compress_level=1)
        return cls(out.getvalue(), chart.alt, width)

    @classmethod
    def again(cls, chart: RedrawnChart) -> Picture:
        """The picture of a figure that was drawn before, for another state."""
        return cls(chart.png(), chart.alt, round(chart.get_figwidth() * DPI))

    @property
    def html(self) -> str:
        """As an HTML image, with alt text."""
        return (
            f'<img src="data:image/png;base64,{base64.b64encode(self.png).decode()}" '
            f'alt="{html.escape(self.alt, quote=True)}" '
            f'style="width: {self.width}px; max-width: 100%">'
        )


# JupyterLab shows a widget of an earlier session as an error; beside its still it is only noise.
_QUIET = (
    "<style>.jp-OutputArea:has(.qrkd-still) > .jp-OutputArea-child:has("
    "> .jp-OutputArea-output.jupyter-widgets:not(:has(*))) {display: none}</style>"
)


def still(pictures: list[Picture], words: str, call: str, key: str) -> dict[str, str]:
    """What a saved notebook keeps of an explorer: its pictures, its words, and how to reopen it.

    Args:
        pictures: the first also stands as a bare PNG.
        words: HTML.
        call: Python code that makes the explorer as it stands.
        key: of the explorer; while that is alive on the page, it hides its still.

    Returns:
        MIME type to content, for ``IPython.display.display(..., raw=True)``.
    """
    shown = [picture for picture in pictures if picture.png]
    body = "".join(f"<div>{picture.html}</div>" for picture in shown)
    hint = f"<p>Run the cell for live controls. As it stands: <code>{html.escape(call)}</code></p>"
    data = {
        "text/html": f'<div class="qrkd-still qrkd-still-{key}">{_QUIET}{words}{body}{hint}</div>',
        "text/plain": " ".join([call, *(picture.alt for picture in shown)]),
    }
    if shown:
        data["image/png"] = base64.b64encode(shown[0].png).decode()
    return data
