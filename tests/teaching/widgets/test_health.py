"""The widget doctor: words that need no widget, and an answer when the page can draw them."""

from __future__ import annotations

from qrkd_lab.teaching.widgets.health import WidgetDoctor


def test_it_says_what_is_wrong_and_what_to_do_without_any_widget(monkeypatch):
    monkeypatch.setattr("sys.prefix", "/nowhere")
    doctor = WidgetDoctor()
    text, page = str(doctor), doctor._repr_html_()
    assert "WRONG widgets" in text and "jupyterlab_widgets" in text and "jupyterlab_widgets" in page
    assert "WRONG page: none" in text and "make lab" in text
    for seen in ("Loading widget", "Error displaying widget", "broken chain", "VBox(children"):
        assert seen in page


def test_it_leaves_its_words_beside_the_view(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    WidgetDoctor()._ipython_display_()
    assert "application/vnd.jupyter.widget-view+json" in shown[0]
    assert "You see" in shown[1]["text/html"] and shown[1]["text/plain"]


def test_an_answer_of_the_page_is_said_once():
    doctor = WidgetDoctor()
    assert doctor.answered is None and "Waiting" in doctor._words.value
    doctor._player.value = 1
    first = doctor.answered
    assert first >= 0 and "This page draws widgets" in doctor._words.value
    doctor._player.value = 0
    assert doctor.answered == first
