"""The notebook on widgets in a real browser: the page draws a slider, and the kernel hears it."""

from __future__ import annotations

from pathlib import Path

from tests.browser.screen import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "widget_doctor.ipynb"


def test_the_kernel_hears_of_a_page_that_draws_widgets(lab):
    notebook = lab.open(NOTEBOOK)
    notebook.run_all()
    page = notebook.page
    expect(
        page.get_by_text("The kernel has not heard from this page yet.", exact=True)
    ).to_be_visible()
    page.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("The kernel hears 1: this page draws widgets.")).to_be_visible()
    notebook.screenshot("widget_doctor")
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []
