"""The widget doctor: words that need no widget, and an answer when the page can draw them."""

from __future__ import annotations

from qrkd_lab.teaching.widgets.health import WidgetDoctor


def test_its_words_need_no_widget_and_say_what_to_do(monkeypatch):
    monkeypatch.setattr("sys.prefix", "/nowhere")
    shown, doctor = [], WidgetDoctor()
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    doctor._ipython_display_()
    view, words = shown
    assert "application/vnd.jupyter.widget-view+json" in view
    text, page = words["text/plain"], words["text/html"]
    assert "WRONG widgets" in text and "jupyterlab_widgets" in text and "jupyterlab_widgets" in page
    assert "WRONG page: none" in text and "make lab" in text
    for seen in ("Loading widget", "Error displaying widget", "broken chain", "VBox(children"):
        assert seen in page


def test_an_answer_of_the_page_is_said_once():
    doctor = WidgetDoctor()
    assert doctor.answered is None and "Waiting" in doctor._words.value
    doctor._player.value = 1
    first = doctor.answered
    assert first >= 0 and "This page draws widgets" in doctor._words.value
    doctor._player.value = 0
    assert doctor.answered == first
