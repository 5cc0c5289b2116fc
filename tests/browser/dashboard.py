"""A notebook as a page of its own, without its code: Voila."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.browser.screen import Screen
from tests.browser.server import Server

FLAGS = [
    "--no-browser",
    "--Voila.ip=127.0.0.1",
    "--port={port}",
    "--token={token}",
    "--show_tracebacks=True",  # else a failing cell is not seen
]


class VoilaServer(Server):
    """Voila of the running interpreter, for one notebook."""

    def __init__(self, folder: Path, notebook: Path) -> None:
        super().__init__("voila", folder, [str(notebook), *FLAGS])


class Dashboard(Screen):
    """The page of a ``VoilaServer``; its notebook has run when ``explorer`` finds the box."""

    def __init__(self, server: VoilaServer, context: Any, seconds: float = 120) -> None:
        super().__init__(context)
        self.page.goto(f"{server.url}/?token={server.token}", timeout=1000 * seconds)

    def tracebacks(self) -> list[str]:
        """The errors of cells that the page shows."""
        red = self.page.locator("[data-mime-type='application/vnd.jupyter.stderr']")
        return [text for text in red.all_inner_texts() if "Traceback" in text]
