"""What all explorers have in common: controls, pictures, a sentence; a still when they are gone.

An explorer is a state (the values of its controls) and two functions of it:
:meth:`Explorer.see` for what must answer while a slider moves, and :meth:`Explorer.see_more` for
what may come a moment later. Both may raise: what they say then stands in the explorer, and the
last pictures stay, faded.

The values that a browser sends while the kernel is busy do not queue up: ipywidgets keeps the last
one of each control until the one before is done with.
"""

from __future__ import annotations

import asyncio
import html
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import ipywidgets as W

from qrkd_lab.widgets.pictures import Picture, still

__all__ = ["Explorer", "Sight"]

_CSS = (
    ".qrkd-explorer .qrkd-faded {opacity: 0.3}"
    ".qrkd-explorer .qrkd-wrong {color: #A50026; font-weight: bold}"
    ".qrkd-explorer img {max-width: 100%; height: auto; flex: none}"
    ".qrkd-explorer .qrkd-alt {position: absolute; width: 1px; height: 1px; overflow: hidden;"
    " clip-path: inset(50%)}"
    ".qrkd-explorer img.qrkd-wide {max-width: none}"  # its box scrolls
)
_MORE, _STILL = 0.2, 0.5  # seconds without a change before the slow pictures, and before the still


@dataclass(frozen=True)
class Sight:
    """What there is to see: pictures by name, and a paragraph of HTML."""

    pictures: Mapping[str, Picture] = field(default_factory=dict)
    words: str | None = None  # None: those that are there stay


class Explorer:
    """Controls on top, a sentence, pictures; it displays itself as a cell's last value.

    Args:
        controls: argument name to control; what the user sets, in the order of the Tab key.
        rows: how the controls stand: lists of names, or widgets of any kind.
        pictures: names of the pictures, from top to bottom.
    """

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._held = 0
        for control in self.controls.values():
            control.observe(self.refresh, "value")

    def see(self) -> Sight:
        """What the present state shows, quick enough to follow a slider."""
        raise NotImplementedError

    def see_more(self) -> Sight:
        """What may come a moment after the last change."""
        return Sight()

    @property
    def state(self) -> dict[str, Any]:
        """The arguments that make an explorer with the values of these controls."""
        return {name: control.value for name, control in self.controls.items()}

    def refresh(self, *_: object) -> None:
        """Look again; the pictures that take longer follow when the controls rest."""
        if self._held:
            return
        if self._look(self.see):
            self.later("more", _MORE, lambda: self._look(self.see_more))
        else:  # what is still to come from the state before would unfade its pictures
            self.later("more", 0, lambda: None)

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
        self._fade(False)
        self.later("still", _STILL, self.keep)

    def complain(self, error: Exception | str) -> None:
        """Say what is wrong; the pictures stay, faded, as they are not of this state."""
        known = isinstance(error, (str, ValueError))
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self._said = f'<p class="qrkd-wrong" role="alert">{html.escape(text)}</p>'
        self._words.value = self._said
        self._fade(True)
        self.later("still", _STILL, self.keep)

    def _look(self, function: Callable[[], Sight]) -> bool:
        try:
            self.show(function())
        except Exception as error:  # whatever it is, the notebook goes on
            self.complain(error)
            return False
        return True

    def _fade(self, faded: bool) -> None:
        for image in self._images.values():
            (image.add_class if faded else image.remove_class)("qrkd-faded")

    def _row(self, parts: Sequence[str] | W.Widget) -> W.Widget:
        from qrkd_lab.widgets.controls import row

        if isinstance(parts, W.Widget):
            return parts
        return row(*(self.controls[part] if isinstance(part, str) else part for part in parts))

    @property
    def live(self) -> bool:
        """Whether it is on a page with a running kernel, where things may come later."""
        return self._loop is not None and self._loop.is_running()

    def later(self, name: str, seconds: float, function: Callable[[], object]) -> None:
        """Call it when nothing has asked for it again for so long; at once outside of Jupyter."""
        if not self.live:
            function()
            return

        def wait() -> None:
            if name in self._timers:
                self._timers[name].cancel()
            self._timers[name] = self._loop.call_later(seconds, function)

        self._loop.call_soon_threadsafe(wait)

    def keep(self) -> None:
        """Put what is shown now into the notebook, for when the controls are gone."""
        if self._handle is not None:
            self._handle.update(self._still(), raw=True)

    def _still(self) -> dict[str, str]:
        return still(list(self._shown.values()), self._said, repr(self), self._key)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self.refresh()  # at once and whole, so that a run without browser leaves everything
        data = self.view._repr_mimebundle_()
        data = data[0] if isinstance(data, tuple) else data
        display({**data, "text/plain": repr(self)}, raw=True)
        self._handle = display(self._still(), raw=True, display_id=True)
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # no event loop: plain IPython
            self._loop = None

    def __repr__(self) -> str:
        default = inspect.signature(type(self).__init__).parameters
        said = ", ".join(
            f"{name}={value!r}"
            for name, value in self.state.items()
            if name not in default or default[name].default != value
        )
        return f"{type(self).__name__}({said})"
