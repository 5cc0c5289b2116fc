"""What all explorers share: controls at the left, words and pictures at the right, a static copy.

A subclass shows what the present values of its controls say: :meth:`Explorer.see` quickly, while a
slider moves, :meth:`Explorer.see_more` a moment later. In a notebook a thread of the explorer's own
draws, so cells go on and the last picture is always of the last state. Elsewhere (plain Python, a
notebook that is run without a page) everything is drawn at once.
"""

from __future__ import annotations

import atexit
import base64
import html
import inspect
import io
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import log2
from typing import Any
from uuid import uuid4

import ipywidgets as W
import pandas as pd

from qrkd_lab.kernels.quantum import QuantumKernel
from qrkd_lab.teaching.plots.matrices import DPI, RedrawnChart
from qrkd_lab.teaching.plots.style import Chart

__all__ = [
    "Explorer", "Picture", "button", "log_slider", "menu", "slider", "switch", "table", "wrong",
]  # fmt: skip


_CSS = """
.qrkd-faded {opacity: 0.3}
.qrkd-wrong {color: #A50026; font-weight: bold}
.qrkd-explorer img {max-width: 100%; max-height: 505px; height: auto; flex: none;
  object-fit: contain; object-position: left top}
.qrkd-explorer img.qrkd-wide {max-width: none}
.qrkd-explorer .widget-tab-contents {padding: 4px 8px !important}
.qrkd-explorer .widget-readout {min-width: 4em}
.qrkd-explorer .widget-html-content {line-height: 1.35}
.qrkd-explorer p {margin: 0 0 4px}
.qrkd-explorer table {border-collapse: collapse; margin: 4px 0}
.qrkd-explorer :is(th, td) {padding: 2px 10px 2px 0; vertical-align: top; text-align: left}
.qrkd-explorer tbody th {font-weight: normal}
.qrkd-explorer pre {white-space: pre-wrap; padding: 4px 8px; background: rgba(127, 127, 127, 0.12)}
.qrkd-RelationExplorer img {cursor: grab; touch-action: none}
.qrkd-explorer :focus-visible {outline: 2px solid #1976D2 !important; outline-offset: 2px}
.qrkd-alt {position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%)}
"""
# ipywidgets gives a slider's handle no name, an exponent or a place in a list as its value, and a
# picture no alt text. This sets all three in the page, whenever something changes there.
_NAMES = """
const box = this.closest('.qrkd-explorer');
for (const pane of box.querySelectorAll('.qrkd-pane'))  // it may scroll: the keyboard gets there
  [pane.tabIndex, pane.role, pane.ariaLabel] = [0, 'group', 'What the controls show'];
const name = () => {
  for (const row of box.querySelectorAll('.widget-hslider')) {
    const [label, said] = ['.widget-label', '.widget-readout'].map(e => row.querySelector(e));
    const handle = row.querySelector('.noUi-handle');
    handle.setAttribute('aria-label', label.textContent);
    handle.setAttribute('aria-valuetext', said.textContent);
    // a slider over choices would take typing, too, and ignore it
    if (!row.classList.contains('jupyter-widgets')) said.contentEditable = 'false';
    if (said.isContentEditable) said.setAttribute('role', 'textbox');
    said.setAttribute('aria-label', label.textContent);
  }
  for (const said of box.querySelectorAll('.qrkd-alt')) {
    const image = box.querySelector('img.qrkd-' + said.dataset.of);
    if (image) [image.alt, said.hidden] = [said.textContent, true];
  }
};
name();
new MutationObserver(name).observe(box, {
  subtree: true, childList: true, characterData: true, attributeFilter: ['aria-valuenow']});
"""
_MORE, _STILL = 0.2, 0.5  # seconds without a change before the slow pictures, before the still


@dataclass(frozen=True)
class Picture:
    """A PNG, what it shows in words, and its width in CSS pixels; a wide one scrolls."""

    png: bytes = b""
    alt: str = ""
    width: int = 0
    wide: bool = False

    @classmethod
    def of(cls, chart: Chart, quick: bool = False) -> Picture:
        """The picture of a figure; a quick one is coarser, for one that the next replaces."""
        out = io.BytesIO()
        if isinstance(chart, RedrawnChart):
            out.write(chart.png())
        elif quick:
            chart.savefig(out, format="png", dpi=DPI, pil_kwargs={"compress_level": 1})
        else:
            out.write(base64.b64decode(chart._repr_mimebundle_()[0]["image/png"]))
        return cls(out.getvalue(), chart.alt, round(chart.get_figwidth() * DPI))

    @classmethod
    def of_circuit(cls, kernel: QuantumKernel) -> Picture:
        """A kernel's circuit, as wide as its gates need."""
        chart, out, dpi = kernel.draw(), io.BytesIO(), 36
        chart.savefig(out, format="png", dpi=dpi)
        return cls(out.getvalue(), chart.alt, round(chart.get_figwidth() * dpi), wide=True)


class Explorer:
    """Controls, words and pictures; it displays itself as a cell's last value.

    Args:
        controls: argument name to control.
        column: what stands at the left from top to bottom: names of controls, or other widgets.
        pictures, texts: names of the parts at the right, each in a tab if there are several.
    """

    # Shared by all, held while a picture is made; hold it to change several values at once.
    lock = threading.RLock()
    pace = 0.0  # seconds between two pictures at least
    script = ""  # JavaScript for the page, where box is the explorer's element

    def __init__(
        self,
        controls: Mapping[str, W.Widget],
        column: Sequence[str | W.Widget],
        pictures: Sequence[str] = ("picture",),
        texts: Sequence[str] = (),
    ) -> None:
        self.controls = dict(controls)
        self.follow("")
        self._key = uuid4().hex[:8]
        self._images = {name: W.Image(format="png") for name in pictures}
        self._panes = self._images | {name: W.HTML() for name in texts}
        self._shown: dict[str, Picture | str] = {}
        self._said = ""
        self._words = W.HTML().add_class("qrkd-words")
        for name, pane in self._panes.items():
            pane.add_class(f"qrkd-{name}").layout.display = "none"  # until there is something
        for name, control in self.controls.items():
            control.observe(partial(self._moved, name), "value")
        left = [self.controls[one] if isinstance(one, str) else one for one in column]
        for control in (*self.controls.values(), *left):
            control.layout.width = "auto"
            if hasattr(control, "description") and not isinstance(control, W.Button):
                control.style.description_width = "8.6em"
        boxes = [
            W.Box([pane], layout={"overflow": "auto"}).add_class("qrkd-pane")
            for pane in self._panes.values()
        ]
        self.tabs = W.Tab(boxes, titles=[name.capitalize() for name in self._panes])
        shown = self.tabs if len(boxes) > 1 else boxes[0]
        css = f"{_CSS} .qrkd-still-{self._key} {{display: none}}"
        style = f'<style onload="{html.escape(_NAMES + self.script)}">{css}</style>'
        self.view = W.HBox([
            W.VBox(left, layout={"flex": "0 0 300px", "margin": "0 12px 0 0"}),
            W.VBox([self._words, shown], layout={"flex": "1 1 560px", "min_width": "0"}),
            W.HTML(style, layout={"width": "0", "height": "0", "margin": "0"}),
        ], layout={"flex_flow": "row wrap"})  # fmt: skip
        self.view.add_class("qrkd-explorer").add_class(f"qrkd-{type(self).__name__}")
        self._handle: Any = None  # of the still's display
        self._drawer: threading.Thread | None = None
        self._wanted, self._rested, self._ended = threading.Event(), threading.Event(), False
        self._following = False

    def see(self) -> None:
        """Show the present state, quickly enough to follow a slider."""
        raise NotImplementedError

    def see_more(self) -> None:
        """Show what may come a moment after the last change."""

    def follow(self, name: str) -> None:
        """Set what hangs together with the control that has changed; "": with any control."""

    @property
    def state(self) -> dict[str, Any]:
        """The arguments that make an explorer with the values of these controls."""
        return {name: control.value for name, control in self.controls.items()}

    def set_to(self, **values: Any) -> None:  # noqa: ANN401
        """Give several controls a value, and look once."""
        self._following = True  # what a control sets is not followed in turn
        try:
            for name, value in values.items():
                self.controls[name].value = value
                self.follow(name)
        except Exception as error:
            self.complain(error)
        else:
            self.refresh()
        finally:
            self._following = False

    def _moved(self, name: str, _: object) -> None:
        if not self._following:
            self.set_to(**{name: self.controls[name].value})

    def refresh(self) -> None:
        """Look again: now, or where it is drawn in the background, as soon as that is free."""
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

    def show(self, words: str | None = None, stale: bool = False, **parts: Picture | str) -> None:
        """Put words and parts up, from any thread; those that are not given stay.

        Args:
            words: HTML above the parts.
            stale: the pictures that stay are of an earlier state, and the new ones are to come.
            parts: a picture or HTML by name.
        """
        for name, part in parts.items():
            pane, self._shown[name] = self._panes[name], part
            pane.layout.display = None if part and part != Picture() else "none"
            pane.value = part.png if isinstance(part, Picture) else part
            if isinstance(part, Picture):
                pane.layout.width = f"{part.width}px"
                (pane.add_class if part.wide else pane.remove_class)("qrkd-wide")
        self._said = self._said if words is None else words
        described = "".join(
            f'<p class="qrkd-alt" data-of="{name}">{html.escape(part.alt)}</p>'
            for name, part in self._shown.items()
            if isinstance(part, Picture)
        )
        self._words.value = f'<div role="status">{self._said}</div>{described}'
        self._fade(stale)

    def complain(self, error: Exception | str) -> None:
        """Say what is wrong; the pictures stay, faded, as they are not of this state."""
        known = isinstance(error, (str, ValueError, OSError))
        text = str(error) if known else f"{type(error).__name__}: {error}"
        first, _, rest = text.partition("\n")
        more = f"<pre>{html.escape(rest)}</pre>" if rest else ""
        self._said = self._words.value = wrong(first) + more
        self._fade(True)

    def _fade(self, faded: bool) -> None:
        for image in self._images.values():
            (image.add_class if faded else image.remove_class)("qrkd-faded")

    def _look(self, show: Callable[[], None]) -> bool:
        with self.lock:
            try:
                show()
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
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._ended:
                return
            seen = self._look(self.see)
            if self._wanted.wait(self.pace or _MORE):
                time.sleep(self.pace)
                continue
            if seen:
                self._look(self.see_more)
            if self._wanted.wait(_STILL):
                continue
            self.keep()
            self._rested.set()

    def _end(self) -> None:
        """Python ends: no thread may be in the middle of a picture then."""
        self._ended = True
        self._wanted.set()
        self._drawer.join(5)

    def keep(self) -> None:
        """Put what is shown now into the notebook, for when the controls are gone."""
        if self._handle is not None:
            self._handle.update(self.still(), raw=True)

    def still(self) -> dict[str, str]:
        """What a saved notebook keeps: words, pictures, and the call that makes it as it stands.

        Returns:
            MIME type to content. While the explorer lives on the page, it hides this.
        """
        texts = [part for part in self._shown.values() if isinstance(part, str)]
        pictures = [part for part in self._shown.values() if isinstance(part, Picture) and part.png]
        coded = [base64.b64encode(picture.png).decode() for picture in pictures]
        images = [
            f'<img src="data:image/png;base64,{png}" alt="{html.escape(picture.alt, quote=True)}" '
            f'style="width: {picture.width}px; max-width: 100%">'
            for png, picture in zip(coded, pictures, strict=True)
        ]
        body = "".join(f"<div>{part}</div>" for part in images + texts)
        call = f"As it stands: <code>{html.escape(repr(self))}</code>"
        shown = f"{_QUIET}{self._said}{body}<p>Run the cell for live controls. {call}</p>"
        data = {
            "text/html": f'<div class="qrkd-still qrkd-still-{self._key}">{shown}</div>',
            "text/plain": " ".join([repr(self), *(picture.alt for picture in pictures)]),
        }
        return data | ({"image/png": coded[0]} if coded else {})

    def _ipython_display_(self) -> None:
        from IPython import get_ipython
        from IPython.display import display

        self.refresh()  # at once and whole, so that a run without browser leaves everything
        self.settle()
        display({**self.view._repr_mimebundle_(), "text/plain": repr(self)}, raw=True)
        self._handle = display(self.still(), raw=True, display_id=True)
        if hasattr(get_ipython(), "kernel"):
            self.draw_in_background()

    def __repr__(self) -> str:
        default = inspect.signature(type(self).__init__).parameters
        said = ", ".join(
            f"{name}={value!r}"
            for name, value in self.state.items()
            if name not in default or default[name].default != value
        )
        return f"{type(self).__name__}({said})"


# JupyterLab shows a widget of an earlier session as an error; beside its still it is only noise.
_QUIET = (
    "<style>.jp-OutputArea:has(.qrkd-still) > .jp-OutputArea-child:has("
    "> .jp-OutputArea-output.jupyter-widgets:not(:has(*))) {display: none}</style>"
)


def wrong(text: str) -> str:
    """HTML for something that is wrong."""
    return f'<p class="qrkd-wrong" role="alert">{html.escape(text)}</p>'


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as an HTML table; the first column names the row."""
    frame = pd.DataFrame(rows)
    with pd.option_context("display.max_colwidth", None):
        return frame.set_index(frame.columns[0]).rename_axis(None).to_html(border=0)


# ---- controls


def slider(
    label: str,
    value: float,
    low: float,
    high: float,
    step: float = 1,
    kinds: tuple[type, type] = (W.IntSlider, W.FloatSlider),
) -> W.ValueWidget:
    """A slider over numbers, whole ones where ends and step are whole; or other ``kinds``."""
    _between(label, value, low, high)
    whole = all(isinstance(number, int) for number in (low, high, step))
    if whole and not isinstance(value, int):
        raise ValueError(f"{label.lower()}: expected a whole number, got {value!r}")
    return kinds[not whole](value, min=low, max=high, step=step, description=label)


def log_slider(label: str, value: float, low: float, high: float) -> W.ValueWidget:
    """A slider from ``low`` to ``high``, powers of two; eight steps double the value."""
    _between(label, value, low, high)
    ends = {"base": 2, "min": log2(low), "max": log2(high), "step": 1 / 8}
    return W.FloatLogSlider(value, description=label, readout_format=".3g", **ends)


def menu(
    label: str,
    value: Any,  # noqa: ANN401
    choices: Iterable[Any] | Mapping[str, Any],
    kind: type[W.ValueWidget] = W.Dropdown,
) -> W.ValueWidget:
    """A menu of names, or of texts and the values that they stand for; or another ``kind``."""
    options = dict(choices) if isinstance(choices, Mapping) else {str(one): one for one in choices}
    if value not in options.values():
        listed = ", ".join(map(str, options.values()))
        raise ValueError(f"unknown {label.lower()} {value!r}; choose from {listed}")
    return kind(options=list(options.items()), value=value, description=label)


def switch(label: str, value: bool) -> W.ValueWidget:
    """A box to tick."""
    if not isinstance(value, bool):
        raise ValueError(f"{label.lower()}: expected True or False, got {value!r}")
    return W.Checkbox(value, description=label, indent=False)


def button(label: str, does: Callable[[], object], tip: str = "") -> W.Button:
    """A button that calls a function without arguments."""
    made = W.Button(description=label, tooltip=tip or label, layout={"width": "auto"})
    made.on_click(lambda _: does())
    return made


def _between(label: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise ValueError(f"{label.lower()}: expected {low:g} to {high:g}, got {value!r}")
