"""The widget doctor in a real browser: the page answers, and it says so."""

from __future__ import annotations

from pathlib import Path

from tests.browser.screen import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "widget_doctor.ipynb"


def test_a_page_that_draws_widgets_answers(lab):
    notebook = lab.open(NOTEBOOK)
    expect(notebook.page.get_by_text("This page draws widgets: it")).to_have_count(0)
    notebook.run_all()
    box = notebook.explorer("qrkd-WidgetDoctor")
    expect(box.get_by_role("status")).to_contain_text("This page draws widgets: it answered after")
    expect(notebook.page.get_by_text("Loading widget...")).to_be_visible()  # in the table of words
    notebook.screenshot("widget_doctor")
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []
