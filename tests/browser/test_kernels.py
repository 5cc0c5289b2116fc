"""The kernel explorer in a real browser: JupyterLab, and Voila."""

from __future__ import annotations

import re
from pathlib import Path

from tests.browser.controls import changed, handle, left_by, menu, readout
from tests.browser.screen import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_kernels.ipynb"
BOX = "qrkd-KernelExplorer"


def picture(box, name="kernel"):
    return box.locator(f"img.qrkd-{name}")


def redrawn(box, act):
    changed(box, act, "kernel", wide=100)


def turn_every_kind_of_knob(page, box):
    handle(box, "Bandwidth").focus()
    redrawn(box, lambda: page.keyboard.press("ArrowRight"))
    expect(box).to_contain_text("bandwidth=0.034078")
    redrawn(box, lambda: box.get_by_role("button", name="Bandwidth by the rule").click())
    expect(box).to_contain_text("bandwidth=0.03125")
    maps = menu(box, "Feature map")
    redrawn(box, lambda: maps.select_option("angle"))
    expect(box).to_contain_text("ql.FidelityKernel('angle', qubits=6, layers=2")
    redrawn(box, lambda: maps.select_option("zz"))
    redrawn(box, lambda: box.locator("input[type=checkbox]").click())
    expect(box).to_contain_text("entangle=False")


def test_it_follows_every_kind_of_knob(notebook):
    box = notebook.explorer(BOX)
    expect(picture(box)).to_be_visible()
    expect(picture(box, "circuit")).to_be_visible()
    notebook.screenshot("explore_kernels", of=box)
    turn_every_kind_of_knob(notebook.page, box)
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []


def test_what_cannot_be_is_said_inside_and_it_stays_usable(notebook):
    box = notebook.explorer(BOX)
    shots, kernels = handle(box, "Shots"), menu(box, "Kernel").first
    kernels.select_option("projected")
    expect(box).to_contain_text("ql.ProjectedKernel")
    shots.focus()
    notebook.page.keyboard.press("ArrowRight")
    expect(box.get_by_role("alert")).to_contain_text("choose exact, or the fidelity kernel")
    expect(picture(box)).to_have_class(re.compile("qrkd-faded"))
    notebook.screenshot("explore_kernels_wrong", of=box)
    redrawn(box, lambda: kernels.select_option("fidelity"))
    expect(box.get_by_role("alert")).to_have_count(0)
    assert notebook.kernel_errors() == []


def test_dragging_ends_at_the_last_value(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    bandwidth = handle(box, "Bandwidth")
    bandwidth.scroll_into_view_if_needed()
    place = bandwidth.bounding_box()
    page.mouse.move(place["x"] + 5, place["y"] + 5)
    page.mouse.down()
    for step in range(40):
        page.mouse.move(place["x"] + 5 + 2 * step, place["y"] + 5)
    page.mouse.up()
    shown = readout(box, "Bandwidth")
    expect(shown).not_to_have_text("0.0313")
    last = float(shown.inner_text())
    assert last > 0.1
    said = re.compile(rf"bandwidth={last:.2g}"[:14].replace(".", r"\."))
    expect(box.locator("code").first).to_have_text(said)


def test_saved_and_reopened_it_still_shows_its_picture_and_running_replaces_it(notebook):
    box = notebook.explorer(BOX)
    still = notebook.page.locator(".qrkd-still")
    expect(still).to_be_hidden()  # while the explorer lives, it is not shown twice
    redrawn(box, lambda: menu(box, "Feature map").select_option("iqp"))
    expect(still.locator("code").last).to_contain_text("feature_map='iqp'")
    again, left = left_by(notebook, "feature_map='iqp'")
    again.screenshot("explore_kernels_reopened", of=left)
    again.run_all(seconds=120)
    expect(picture(again.explorer(BOX))).to_be_visible()
    expect(again.page.locator(".qrkd-still")).to_be_hidden()


def test_the_same_notebook_is_a_dashboard(voila):
    dashboard = voila(NOTEBOOK)
    box = dashboard.explorer(BOX, seconds=120)
    expect(picture(box)).to_be_visible()
    turn_every_kind_of_knob(dashboard.page, box)
    dashboard.screenshot("explore_kernels_voila", of=box)
    assert dashboard.tracebacks() == [] and dashboard.errors == []
