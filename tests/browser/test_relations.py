"""The relation explorer in a real browser."""

from __future__ import annotations

from pathlib import Path

from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.controls import changed, handle, left_by, menu, readout
from tests.browser.screen import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_relations.ipynb"
BOX = "qrkd-RelationExplorer"


def use_every_kind_of_control(page, box):
    expect(box).to_contain_text("(sheared by 0.80)")
    handle(box, "How far").focus()
    changed(box, lambda: page.keyboard.press("ArrowLeft"))
    expect(box).to_contain_text("(sheared by 0.76)")
    changed(box, lambda: menu(box, "Change").select_option("rotation"))
    expect(box).to_contain_text("distances and angles are blind to it, the kernel sees it.")
    expect(box).to_contain_text("(turned by 86 degrees)")
    changed(box, lambda: menu(box, "Change").select_option("two points coincide"))
    handle(box, "Angle weight").focus()
    changed(box, lambda: page.keyboard.press("ArrowRight"))
    expect(box).to_contain_text("2.1 · ")


def test_it_follows_every_kind_of_control(notebook):
    box = notebook.explorer(BOX)
    use_every_kind_of_control(notebook.page, box)
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []


def test_a_point_moves_by_hand_and_alone(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    menu(box, "Change").select_option("none")
    expect(box).to_contain_text("No point moved")
    changed(box, lambda: menu(box, "Move point").select_option("3"))
    expect(readout(box, "x").first).to_have_text("-0.75")
    handle(box, "y").first.focus()
    changed(box, lambda: page.keyboard.press("ArrowUp"))
    for _ in range(30):
        page.keyboard.press("ArrowUp")
    expect(readout(box, "y").first).to_have_text("-0.2")
    expect(box).to_contain_text("1 of 5 points moved")
    expect(box).to_contain_text("(moved by hand or downhill)")
    notebook.screenshot("explore_relations_by_hand", of=box)
    assert notebook.kernel_errors() == []


def test_showing_where_points_are_never_moves_one(notebook):
    """A slider that reports back what it was told would turn a preset into points by hand."""
    box, page = notebook.explorer(BOX), notebook.page
    for name in ("rotation", "shear", "random places", "reflection"):
        menu(box, "Change").select_option(name)
        handle(box, "How far").focus()
        for key in ["Home", *["ArrowRight"] * 15]:
            page.keyboard.press(key)
        page.wait_for_timeout(500)
        expect(menu(box, "Change").locator("option:checked")).to_have_text(name)
        expect(box).not_to_contain_text("by hand or downhill)")
        expect(readout(box, "How far")).to_have_text("0.75")
    for label, readings in (("Seed", "3"), ("Points", "8")):
        handle(box, label).focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        expect(readout(box, label)).to_have_text(readings)
    page.wait_for_timeout(500)
    expect(menu(box, "Change").locator("option:checked")).to_have_text("reflection")


def test_buttons_lead_downhill_and_back(notebook):
    box = notebook.explorer(BOX)
    changed(box, lambda: menu(box, "Change").select_option("random places"))
    changed(box, lambda: box.get_by_role("button", name="One step downhill").click())
    expect(box).to_contain_text("The last step lowered the loss by")
    for _ in range(2):
        changed(box, lambda: box.get_by_role("button", name="Ten steps").click())
    notebook.screenshot("explore_relations_downhill", of=box)
    changed(box, lambda: box.get_by_role("button", name="Back").click())
    expect(box).to_contain_text("No point moved: every relation is the teacher's.")
    expect(menu(box, "Change").locator("option:checked")).to_have_text("none")
    assert notebook.kernel_errors() == []


def test_what_pulls_nothing_is_said(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    for weight in ("Distance weight", "Angle weight"):
        handle(box, weight).focus()
        changed(box, lambda: page.keyboard.press("Home"))
    expect(box).to_contain_text("All weights are 0: there is no loss, and nothing pulls.")
    box.get_by_role("button", name="Ten steps").click()
    handle(box, "Kernel weight").focus()
    changed(box, lambda: page.keyboard.press("End"))
    expect(box).to_contain_text("(sheared by 0.80)")
    expect(box).to_contain_text("5 · ")
    changed(box, lambda: menu(box, "Change").select_option("collapse to a point"))
    expect(box).to_contain_text("All points are in one place")
    assert notebook.kernel_errors() == []


def test_the_tab_key_goes_through_the_rows(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    menu(box, "Change").focus()
    seen = []
    for _ in range(20):
        seen.append(
            page.evaluate(
                "() => { const e = document.activeElement, row = e.closest('.widget-inline-hbox');"
                " return row ? row.querySelector('label').innerText : e.innerText }"
            )
        )
        page.keyboard.press("Tab")
    names = [name for i, name in enumerate(seen) if i == 0 or seen[i - 1] != name]
    expected = ["Change", "How far (0 to 1)", "Back to the teacher's points"]
    expected += ["Move point", "x", "y", "Distance weight", "Angle weight", "Kernel weight", "Step"]
    assert names[: len(expected)] == expected


def test_saved_and_reopened_it_still_shows_its_picture_and_running_replaces_it(notebook):
    box = notebook.explorer(BOX)
    still = notebook.page.locator(".qrkd-still")
    expect(still).to_be_hidden()
    changed(box, lambda: menu(box, "Change").select_option("rotation"))
    expect(still.locator("code").last).to_contain_text("preset='rotation'")
    again, left = left_by(notebook, "RelationExplorer(preset='rotation')", wide=1000)
    assert "distances and angles are blind" in left.locator("img").first.get_attribute("alt")
    again.screenshot("explore_relations_reopened", of=left)
    again.run_all(seconds=120)
    expect(again.explorer(BOX)).to_contain_text("(sheared by 0.80)")
    expect(again.page.locator(".qrkd-still")).to_be_hidden()


def test_points_of_your_own_and_points_that_are_none(lab):
    sources = [
        "from qrkd_lab.teaching.widgets import RelationExplorer",
        "try:\n    RelationExplorer(points=[[0, 0], [1, 1]])\n"
        "except ValueError as error:\n    print(error)",
        "RelationExplorer(points=[[0, 0], [100, 0], [300, 0], [400, 50]], preset='line')",
    ]
    notebook = lab.open(new_notebook(cells=[*map(new_code_cell, sources)]), name="own.ipynb")
    notebook.run_all(seconds=120)
    assert "points: expected 3 to 20 points" in notebook.outputs()[1][0]["text"]
    box = notebook.explorer(BOX)
    handle(box, "x").first.focus()
    changed(box, lambda: notebook.page.keyboard.press("ArrowRight"))
    expect(box).to_contain_text("(moved by hand or downhill)")
    expect(box.get_by_text("Points", exact=True)).to_have_count(0)
    notebook.screenshot("explore_relations_own", of=box)


def test_the_same_notebook_is_a_dashboard(voila):
    dashboard = voila(NOTEBOOK)
    box = dashboard.explorer(BOX, seconds=120)
    use_every_kind_of_control(dashboard.page, box)
    dashboard.screenshot("explore_relations_voila", of=box)
    assert dashboard.tracebacks() == [] and dashboard.errors == []
