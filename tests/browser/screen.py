"""A page of the browser with a notebook or a dashboard in it, as a reader sees it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

try:
    from playwright.sync_api import BrowserContext, Locator, Page, expect
except ImportError:  # conftest.py then skips every test, and says what to install
    expect = None

PICTURES = Path(__file__).parents[2] / "runs" / "browser"
VIEW = {"width": 1366, "height": 768}  # of a small laptop


class Screen:
    """One page: what it shows, what it complains of, and pictures of it.

    Attributes:
        page: Playwright's page, for everything that has no method here.
        errors: what the page's scripts raised or wrote to the console as an error, so far.
        outside: addresses that the page wanted from another machine; none is ever reached.
    """

    SCOPE = "body"  # where a box can be
    EDGES = (0, VIEW["height"])  # between which a part of it is seen

    def __init__(self, context: BrowserContext) -> None:
        self.errors: list[str] = []
        self.outside: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_viewport_size(VIEW)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._hear)
        self.page.on("request", self._see)

    def _hear(self, message: Any) -> None:
        if message.type == "error" and not self._is_outside(message.location.get("url", "")):
            self.errors.append(message.text)

    def _see(self, request: Any) -> None:
        if self._is_outside(request.url):
            self.outside.append(request.url)

    @staticmethod
    def _is_outside(url: str) -> bool:
        return re.match(r"(http|ws)s?://(?!127\.0\.0\.1:)", url) is not None

    def evaluate(self, function: str, argument: Any = None, seconds: float = 60) -> Any:
        """What a JavaScript function of one argument returns; a promise is awaited for so long.

        Raises:
            playwright.sync_api.Error: The function raised, or the time is over.
        """
        return self.page.evaluate(
            f"""([argument, seconds]) => Promise.race([
              (async () => ({function})(argument))(),
              new Promise((_, fail) => setTimeout(
                () => fail(new Error(`not done in ${{seconds}} seconds`)), 1000 * seconds))])""",
            [argument, seconds],
        )

    def explorer(self, css_class: str, seconds: float = 30) -> Locator:
        """The one visible box with this class, scrolled into view: ``box.add_class(css_class)``.

        Look for parts within it, ``explorer("my-box").locator("select")``, so that a second box
        of the same kind does not answer.
        """
        box = self.page.locator(f"{self.SCOPE} .{css_class}:visible")
        expect(box).to_have_count(1, timeout=1000 * seconds)
        box.scroll_into_view_if_needed()
        return box

    def screenshot(self, name: str, of: Locator | None = None) -> Path:
        """Leaves ``runs/browser/<name>.png``: the window, or the whole of one element ``of`` it."""
        path = PICTURES / f"{name}.png"
        if of is None:
            self.page.screenshot(path=path)
            return path
        box = of.bounding_box()
        assert box is not None, f"nothing to take a picture of: {of}"
        tall = VIEW["height"] + int(box["height"])  # an element cannot be taken beyond its window
        try:
            self.page.set_viewport_size({**VIEW, "height": tall})
            of.screenshot(path=path)
        finally:
            self.page.set_viewport_size(VIEW)
        return path

    def close(self) -> None:
        """Closes the page; for a notebook, its kernel stays."""
        self.page.close()
