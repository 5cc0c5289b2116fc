"""The controls of an explorer on the page, found by their label, and its pictures."""

from __future__ import annotations

from typing import Any

from tests.browser.screen import expect


def handle(box: Any, label: str) -> Any:
    """What a slider is moved by."""
    return box.locator(".widget-inline-hbox", has_text=label).locator(".noUi-handle")


def readout(box: Any, label: str) -> Any:
    """What a slider says that it stands at."""
    return box.locator(".widget-inline-hbox", has_text=label).locator(".widget-readout")


def menu(box: Any, label: str) -> Any:
    """A drop-down menu."""
    return box.locator(".widget-dropdown", has_text=label).locator("select")


def changed(box: Any, act: Any, picture: str = "picture", wide: int = 1000) -> None:
    """Do something, and wait until the picture is another one, loaded, of this width at least."""
    shown = box.locator(f"img.qrkd-{picture}")
    before = shown.get_attribute("src")
    act()
    expect(shown).not_to_have_attribute("src", before)
    expect(shown).to_have_js_property("complete", True)
    assert shown.evaluate("image => image.naturalWidth") > wide


def left_by(notebook: Any, *words: str, wide: int = 500) -> tuple[Any, Any]:
    """Save and reopen without running: the notebook, and the still that it shows with words."""
    notebook.save()
    again = notebook.reopen()
    still = again.page.locator(".qrkd-still")
    expect(still).to_be_visible()
    for text in words:
        expect(still).to_contain_text(text)
    assert still.locator("img").first.evaluate("image => image.naturalWidth") > wide
    expect(again.page.get_by_text("Error displaying widget")).to_be_hidden()
    return again, still
