"""The parts of an explorer on the page, found by the names that they have for everybody."""

from __future__ import annotations

import re
from typing import Any

from tests.browser.screen import expect

WITHOUT_NAME = """box => [...box.querySelectorAll(
    'button, input, select, [role=slider], [contenteditable=true], img')].filter(part =>
  part.checkVisibility() && !(part.getAttribute('aria-label') || part.alt || part.title ||
    part.textContent.trim() && part.localName === 'button' ||
    [...part.labels || []].some(label => label.textContent.trim())))
  .map(part => part.outerHTML.slice(0, 200))"""


def handle(box: Any, label: str) -> Any:
    """What a slider is moved by."""
    return box.get_by_role("slider", name=label, exact=True)


def menu(box: Any, label: str) -> Any:
    """A drop-down menu, or a field."""
    return box.get_by_label(label, exact=True)


def press(box: Any, name: str) -> None:
    """Click a button, or a tab."""
    tab, button = (box.get_by_role(role, name=name, exact=True) for role in ("tab", "button"))
    tab.or_(button).click()


def changed(box: Any, act: Any, picture: str = "picture", wide: int = 1000) -> None:
    """Do something, and wait until the picture is another one, loaded, of this width at least."""
    shown = box.locator(f"img.qrkd-{picture}")
    before = shown.get_attribute("src")
    act()
    expect(shown).not_to_have_attribute("src", before)
    expect(shown).to_have_js_property("complete", True)
    assert shown.evaluate("image => image.naturalWidth") > wide


def check_layout(screen: Any, box: Any, *names: str) -> None:
    """All has a name and is seen at once, the controls at the left, sliders as wide as a column.

    Args:
        screen: the notebook, or the dashboard.
        box: the explorer.
        names: of what is to be seen beside its pictures: of sliders, menus, fields and buttons.
    """
    assert box.evaluate(WITHOUT_NAME) == []
    shown = box.locator("img:visible").last
    expect(shown).to_have_attribute("alt", re.compile(".{40}"))
    box.evaluate("box => box.scrollIntoView({block: 'end'})")
    picture, whole, (top, end) = shown.bounding_box(), box.bounding_box(), screen.EDGES
    assert whole["height"] < 640, "taller than what a small laptop shows of a notebook"
    for name in names:
        part = box.get_by_label(name, exact=True).or_(box.get_by_role("button", name=name))
        place = part.first.bounding_box()
        assert top < place["y"] and place["y"] + place["height"] < end, name
        assert place["x"] + place["width"] < picture["x"], f"{name} is not left of the picture"
    assert top < picture["y"] and picture["y"] + picture["height"] < end
    for slider in box.locator(".widget-hslider:visible").all():
        assert slider.bounding_box()["width"] > 240
    over_choices = box.locator(".widget-hslider:not(.jupyter-widgets) .widget-readout")
    for readout in over_choices.all():
        expect(readout).to_have_attribute("contenteditable", "false")


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
