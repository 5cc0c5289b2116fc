"""The kernel explorer in a real browser."""

from __future__ import annotations

import re
from pathlib import Path

from tests.browser.controls import changed, check_layout, handle, left_by, menu, press
from tests.browser.screen import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_kernels.ipynb"
BOX = "qrkd-KernelExplorer"


def redrawn(box, act):
    changed(box, act, "matrix", wide=100)


def turn_every_kind_of_knob(page, box):
    bandwidth = handle(box, "Bandwidth")
    expect(bandwidth).to_have_attribute("aria-valuetext", "0.0313")
    bandwidth.focus()
    redrawn(box, lambda: page.keyboard.press("ArrowRight"))
    expect(bandwidth).to_have_attribute("aria-valuetext", "0.0341")  # not its exponent
    expect(box).to_contain_text("bandwidth=0.034078")
    redrawn(box, lambda: press(box, "Bandwidth by the rule"))
    expect(box).to_contain_text("bandwidth=0.03125")
    redrawn(box, lambda: menu(box, "Feature map").select_option("angle"))
    expect(box).to_contain_text("ql.FidelityKernel('angle', qubits=6, layers=2")
    redrawn(box, lambda: menu(box, "Feature map").select_option("zz"))
    redrawn(box, lambda: menu(box, "Gates between qubits").click())
    expect(box).to_contain_text("entangle=False")


def test_all_is_seen_at_once_and_follows_every_kind_of_knob(notebook):
    box = notebook.explorer(BOX)
    names = ("Data", "Samples", "Bandwidth", "Bandwidth by the rule", "Seed", "Pin this matrix")
    check_layout(notebook, box, *names)
    notebook.screenshot("explore_kernels", of=box)
    turn_every_kind_of_knob(notebook.page, box)
    press(box, "Circuit")
    expect(box.get_by_role("img", name="Circuit of the feature map zz")).to_be_visible()
    press(box, "Numbers")
    expect(box).to_contain_text("Kernel matrix:")
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []


def test_what_cannot_be_is_said_inside_and_it_stays_usable(notebook):
    box = notebook.explorer(BOX)
    menu(box, "Kernel").select_option("projected")
    expect(box).to_contain_text("ql.ProjectedKernel")
    handle(box, "Shots per entry").focus()
    notebook.page.keyboard.press("ArrowRight")
    expect(box.get_by_role("alert")).to_contain_text("choose exact, or the fidelity kernel")
    expect(box.locator("img.qrkd-matrix")).to_have_class(re.compile("qrkd-faded"))
    redrawn(box, lambda: menu(box, "Kernel").select_option("fidelity"))
    expect(box.get_by_role("alert")).to_have_count(0)
    assert notebook.kernel_errors() == []


def test_dragging_ends_at_the_last_value_which_a_saved_notebook_shows(notebook):
    box, page = notebook.explorer(BOX), notebook.page
    still = page.locator(".qrkd-still")
    expect(still).to_be_hidden()  # while the explorer lives, it is not shown twice
    place = handle(box, "Bandwidth").bounding_box()
    page.mouse.move(place["x"] + 5, place["y"] + 5)
    page.mouse.down()
    for step in range(40):
        page.mouse.move(place["x"] + 5 + 2 * step, place["y"] + 5)
    page.mouse.up()
    expect(handle(box, "Bandwidth")).not_to_have_attribute("aria-valuetext", "0.0313")
    last = float(handle(box, "Bandwidth").get_attribute("aria-valuetext"))
    assert last > 0.1
    said = re.compile(rf"bandwidth={last:.2g}"[:14].replace(".", r"\."))
    expect(box.locator("code").first).to_have_text(said)
    expect(still.locator("code").last).to_contain_text(said)
    again, left = left_by(notebook, "KernelExplorer(")
    again.screenshot("explore_kernels_reopened", of=left)
