"""WidgetDoctor: says in words why widgets do not show, where they do not."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import ipywidgets as W
import pandas as pd

from qrkd_lab.teaching.doctor import Finding, widget_findings

__all__ = ["WidgetDoctor"]

TRIES = (0.2, 1, 3, 8, 20)  # seconds after which the page is asked
WHAT_IS_SEEN = {
    "A line like <code>VBox(children=...)</code> or <code>WidgetDoctor()</code>": (
        "This page cannot draw widgets. The server that shows it lacks ipywidgets' extension: it "
        "must be installed where JupyterLab itself is installed, not only where the kernel is. "
        "Start JupyterLab with <code>make lab</code>, and reload the page."
    ),
    "<em>Loading widget...</em> that does not end": (
        "The page was opened before ipywidgets was installed, or its scripts are of another "
        "version. Reload the page; then restart the kernel and run the cell again."
    ),
    "<em>Error displaying widget</em>": (
        "The widget belongs to a kernel that is gone. Run the cell again."
    ),
    "Controls with a broken chain on them": (
        "They were saved with the notebook, and their kernel is gone. Run the cell again."
    ),
    "Only a picture and a sentence": (
        "The notebook was run without a page (papermill, nbconvert), or it is shown where nothing "
        "can run (GitHub). Open it in JupyterLab and run the cell."
    ),
}


class WidgetDoctor:
    """Display it: it tells what the kernel's side finds, and whether this page answers.

    The words do not need widgets; they stand there also where nothing else shows. A hidden player
    is set going: if the page can draw widgets, it sends a number back within a second, and the
    answer appears.
    """

    def __init__(self) -> None:
        self.answered: float | None = None  # seconds until the page answered
        self._started = time.monotonic()
        self._player = W.Play(min=0, max=1, interval=50)
        self._player.layout.display = "none"
        self._player.observe(self._answer, "value")
        self._words = W.HTML('<p role="status">Waiting for this page to answer ...</p>')
        self.view = W.VBox([self._words, self._player]).add_class("qrkd-WidgetDoctor")

    @property
    def findings(self) -> list[Finding]:
        """What can be told from the kernel's side."""
        return [_front_end(), *widget_findings()]

    def _answer(self, *_: object) -> None:
        """The page has sent something back, so it draws widgets."""
        if self.answered is None:
            self.answered = time.monotonic() - self._started
            self._words.value = (
                f'<p role="status">This page draws widgets: it answered after {self.answered:.1f} '
                "s. Every explorer of the kit will work here.</p>"
            )

    def _repr_html_(self) -> str:
        marks = [
            {" ": "✓" if f.ok else "✗", "Seen from the kernel": f.name, "": f.found,
             "What to do": "" if f.ok else f.advice}
            for f in self.findings
        ]  # fmt: skip
        seen = pd.Series(WHAT_IS_SEEN, name="What it means, and what to do").rename_axis("You see")
        with pd.option_context("display.max_colwidth", None):
            found = pd.DataFrame(marks).to_html(index=False, border=0, justify="left")
            meant = seen.reset_index().to_html(index=False, border=0, justify="left", escape=False)
        left = "<style>.qrkd-doctor td {text-align: left !important; white-space: pre-line}</style>"
        return (
            f'{left}<div class="qrkd-doctor">{found}<p>If no sentence that begins with <em>This '
            "page draws widgets</em> appears nearby within some seconds, what do you see in its "
            f"place?</p>{meant}</div>"
        )

    def _ipython_display_(self) -> None:
        from IPython.display import display

        self._started = time.monotonic()
        display({**self.view._repr_mimebundle_(), "text/plain": repr(self)}, raw=True)
        display({"text/html": self._repr_html_(), "text/plain": str(self)}, raw=True)
        with suppress(RuntimeError):  # no event loop: no page either
            for seconds in TRIES:
                asyncio.get_running_loop().call_later(seconds, self._set_going)

    def _set_going(self) -> None:
        """Ask the page to play: it does so once it has drawn the player."""
        if self.answered is None:
            self._player.playing = False
            self._player.playing = True

    def __str__(self) -> str:
        return "\n".join(
            f"{'ok   ' if f.ok else 'WRONG'} {f.name}: {f.found}"
            + ("" if f.ok else f"\n      -> {f.advice}")
            for f in self.findings
        )

    def __repr__(self) -> str:
        return "WidgetDoctor()"


def _front_end() -> Finding:
    """Whether this kernel belongs to a notebook, as far as it can tell."""
    from IPython import get_ipython

    if hasattr(get_ipython(), "kernel"):
        return Finding("page", True, "a Jupyter front end, or a run without one")
    advice = "Open a notebook in JupyterLab: make lab"
    return Finding("page", False, "none: this Python runs without a notebook", advice)
