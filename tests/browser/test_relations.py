"""The relation explorer in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from qrkd_lab.teaching.widgets import RelationExplorer
from tests.browser.controls import changed, check_layout, handle, left_by, menu, press
from tests.browser.screen import expect
from tests.teaching.widgets.test_relations import shares

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_relations.ipynb"
BOX = "qrkd-RelationExplorer"


def test_all_is_seen_at_once_and_follows_menus_sliders_and_buttons(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    check_layout(notebook, box, "Change", "x", "Angle weight", "Ten steps", "Points", "Seed")
    handle(box, "How far (0 to 1)").focus()
    changed(box, lambda: page.keyboard.press("ArrowLeft"))
    expect(handle(box, "How far (0 to 1)")).to_have_attribute("aria-valuetext", "0.95")
    changed(box, lambda: menu(box, "Change").select_option("rotation"))
    expect(box).to_contain_text("distances and angles are blind to it, the kernel sees it.")
    changed(box, lambda: menu(box, "Change").select_option("random places"))
    changed(box, lambda: press(box, "One step downhill"))
    expect(menu(box, "Change").locator("option:checked")).to_have_text("by hand or downhill")
    for _ in range(2):
        changed(box, lambda: press(box, "Ten steps"))
    notebook.screenshot("explore_relations_downhill", of=box)
    changed(box, lambda: press(box, "Back to the teacher's points"))
    expect(box).to_contain_text("No point moved: every relation is the teacher's.")
    expect(menu(box, "Change").locator("option:checked")).to_have_text("none")
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []


def test_both_sliders_of_a_point_reach_their_ends(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    for key, end in (("End", "2.0"), ("Home", "-2.0")):
        for name in "xy":
            handle(box, name).focus()
            page.keyboard.press(key)
            expect(handle(box, name)).to_have_attribute("aria-valuetext", end)


def test_a_point_is_dragged_with_the_mouse(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    menu(box, "Change").select_option("none")
    expect(box).to_contain_text("No point moved")
    twin = RelationExplorer(points=5)
    twin.refresh()  # the same picture: it says where a point is
    ways = [shares(twin, place) for place in (twin.student[3].tolist(), (0.0, 0.0), (-0.75, 0.5))]
    shown = box.locator("img.qrkd-picture").bounding_box()
    steps = [(shown["x"] + a * shown["width"], shown["y"] + d * shown["height"]) for a, d in ways]
    page.mouse.move(*steps[0])
    page.mouse.down()
    for step in steps[1:]:
        page.mouse.move(*step, steps=10)
    page.mouse.up()
    expect(box).to_contain_text("1 of 5 points moved")
    expect(menu(box, "Move point").locator("option:checked")).to_have_text("3")
    expect(handle(box, "x")).to_have_attribute("aria-valuetext", re.compile(r"-0\.7[3-7]"))
    expect(handle(box, "y")).to_have_attribute("aria-valuetext", re.compile(r"0\.(4[89]|5[0-2]?)"))
    page.mouse.move(*steps[1])
    expect(handle(box, "x")).to_have_attribute("aria-valuetext", re.compile(r"-0\.7[3-7]"))
    assert notebook.kernel_errors() == [] and notebook.errors == []


def test_showing_where_points_are_never_moves_one(notebook):
    """A slider that reports back what it was told would turn a preset into points by hand."""
    box, page = notebook.explorer(BOX), notebook.page
    for name in ("rotation", "random places"):
        menu(box, "Change").select_option(name)
        handle(box, "How far (0 to 1)").focus()
        for key in ["Home", *["ArrowRight"] * 15]:
            page.keyboard.press(key)
        page.wait_for_timeout(500)
        expect(menu(box, "Change").locator("option:checked")).to_have_text(name)
        expect(handle(box, "How far (0 to 1)")).to_have_attribute("aria-valuetext", "0.75")
    for label, value in (("Seed", "3"), ("Points", "8")):
        handle(box, label).focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        expect(handle(box, label)).to_have_attribute("aria-valuetext", value)
    page.wait_for_timeout(500)
    expect(menu(box, "Change").locator("option:checked")).to_have_text("random places")


def test_the_tab_key_goes_down_the_column_and_a_saved_notebook_shows_the_last_state(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    menu(box, "Change").focus()
    seen = []
    for _ in range(20):
        seen.append(
            page.evaluate("""() => { const e = document.activeElement;
          return e.ariaLabel || (e.labels && e.labels[0] || e).innerText }""")
        )
        page.keyboard.press("Tab")
    names = [name for i, name in enumerate(seen) if i == 0 or seen[i - 1] != name]
    expected = ["Change", "How far (0 to 1)", "Back to the teacher's points"]
    expected += ["Move point", "x", "y", "Distance weight", "Angle weight", "Kernel weight", "Step"]
    assert names[: len(expected)] == expected
    still = page.locator(".qrkd-still")
    expect(still).to_be_hidden()
    changed(box, lambda: menu(box, "Change").select_option("rotation"))
    expect(still.locator("code").last).to_contain_text("preset='rotation'")
    again, left = left_by(notebook, "RelationExplorer(preset='rotation')", wide=1000)
    assert "distances and angles are blind" in left.locator("img").first.get_attribute("alt")
    again.screenshot("explore_relations_reopened", of=left)
