"""What all explorers share, on one that draws a line."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from qrkd_lab.teaching.plots.style import Chart
from qrkd_lab.teaching.widgets.explorer import Explorer, Picture, menu, slider


class Line(Explorer):
    def __init__(self, size=3, colour="red"):
        controls = {"size": slider("Size", size, 1, 5), "colour": menu("Colour", colour, ("red",))}
        self.looks = 0
        super().__init__(controls, ["size", "colour"], ("line", "more"), ("text",))

    def see(self):
        self.looks += 1
        size = self.state["size"]
        if size == 5:
            raise ValueError("size 5 is too much <here>\nand a long story")
        if size == 4:
            raise RuntimeError("a mistake of ours")
        self.show(f"<p>size {size}</p>", line=picture(size), text=f"<b>{size}</b>")

    def see_more(self):
        self.show(more=Picture(b"png", "Something slow.", 10, wide=True))


def picture(size):
    chart = Chart(2, 2)
    chart.subplots().plot([0, size])
    return Picture.of(chart.finish("A line", f"It rises to {size} from nothing."), quick=True)


@pytest.fixture
def line():
    made = Line()
    made.refresh()
    yield made
    if made._drawer is not None:
        made._end()
        assert not made._drawer.is_alive()


class Handle:
    """Of a display in a notebook: what it was updated with."""

    def __init__(self):
        self.stills = []

    def update(self, data, **_):
        self.stills.append(data)


def test_a_changed_control_changes_pictures_texts_and_words(line):
    before = line._images["line"].value
    line.controls["size"].value = 2
    assert line._images["line"].value != before and line._panes["text"].value == "<b>2</b>"
    assert line._said == "<p>size 2</p>" and "It rises to 2" in line._words.value
    assert line._images["more"].value == b"png" and "qrkd-wide" in line._images["more"]._dom_classes
    assert line.tabs.titles == ("Line", "More", "Text")


def test_what_is_wrong_is_said_and_the_pictures_fade_until_it_is_right(line):
    before = line._images["line"].value
    line.controls["size"].value = 5
    assert 'role="alert">size 5 is too much &lt;here&gt;<' in line._words.value
    assert "<pre>and a long story</pre>" in line._said
    assert line._images["line"].value == before
    assert "qrkd-faded" in line._images["line"]._dom_classes
    line.controls["size"].value = 4
    assert "RuntimeError: a mistake of ours" in line._words.value
    line.controls["size"].value = 3
    assert "size 3" in line._words.value and "alert" not in line._words.value
    assert "qrkd-faded" not in line._images["line"]._dom_classes


def test_several_values_are_looked_at_once_and_an_error_of_what_follows_is_said(line, monkeypatch):
    looks = line.looks
    line.set_to(size=1, colour="red")
    assert line.looks == looks + 1 and "size 1" in line._said
    assert eval(repr(line)).state == line.state == {"size": 1, "colour": "red"}
    monkeypatch.setattr(line, "follow", lambda name: 1 / 0)
    line.controls["size"].value = 2
    assert "ZeroDivisionError" in line._said and line.looks == looks + 1


def test_without_a_browser_it_leaves_pictures_with_alt_text(line, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **more: shown.append((data, more)))
    line._ipython_display_()
    (view, _), (left, more) = shown
    assert "application/vnd.jupyter.widget-view+json" in view and view["text/plain"] == repr(line)
    assert more == {"raw": True, "display_id": True}
    assert 'alt="A line. It rises to 3 from nothing."' in left["text/html"]
    assert left["image/png"] and repr(line) in left["text/plain"]
    # while the explorer is alive on the page, the picture is not there twice
    hidden = f".qrkd-still-{line._key} {{display: none}}"
    assert hidden in line.view.children[-1].value
    assert f"qrkd-still-{line._key}" in left["text/html"]
    nothing = Line()
    nothing.complain("Nothing yet.")
    left = nothing.still()
    assert "Nothing yet." in left["text/html"] and "image/png" not in left


def test_in_a_notebook_slow_pictures_and_still_come_once_the_controls_rest(line, monkeypatch):
    handle, calls = Handle(), []
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    line._ipython_display_()
    monkeypatch.setattr(line, "see_more", lambda: calls.append(1))
    for size in (1, 2, 3):
        line.controls["size"].value = size
    assert line.settle(30)
    assert len(calls) == 1 and "size 3" in handle.stills[-1]["text/html"]


def test_what_takes_long_does_not_queue_and_ends_at_the_last_state(line, monkeypatch):
    free, looks = threading.Event(), line.looks
    monkeypatch.setattr(line, "see", lambda: free.wait(30) and Line.see(line))
    line.draw_in_background()
    for size in (1, 2, 3, 4, 5, 2):  # each would take long
        line.controls["size"].value = size
    free.set()
    assert line.settle(30) and "size 2" in line._said
    assert line.looks <= looks + 2
