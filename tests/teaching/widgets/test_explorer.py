"""What all explorers have in common, on one that draws a line."""

from __future__ import annotations

import threading
import time

import pytest

from qrkd_lab.teaching.plots.style import Chart
from qrkd_lab.teaching.widgets.explorer import Explorer, Picture, Sight, menu, slider, still


class Line(Explorer):
    def __init__(self, size=3, colour="red"):
        controls = {"size": slider("Size", size, 1, 5), "colour": menu("Colour", colour, ("red",))}
        self.looks = 0
        super().__init__(controls, [["size", "colour"]], ("line", "more"))

    def see(self):
        self.looks += 1
        size = self.state["size"]
        if size == 5:
            raise ValueError("size 5 is too much <here>\nand a long story")
        if size == 4:
            raise RuntimeError("a mistake of ours")
        return Sight({"line": picture(size)}, f"<p>size {size}</p>")

    def see_more(self):
        return Sight({"more": Picture(b"png", "Something slow.", 10, wide=True)})


def picture(size):
    chart = Chart(2, 2)
    chart.subplots().plot([0, size])
    return Picture.of(chart.finish("A line", f"It rises to {size} from nothing."))


def test_a_changed_control_changes_picture_and_words():
    line = Line()
    line.refresh()
    before = line._images["line"].value
    line.controls["size"].value = 2
    assert line._images["line"].value != before
    assert line._said == "<p>size 2</p>" and "It rises to 2" in line._words.value
    assert line._images["more"].value == b"png" and "qrkd-wide" in line._images["more"]._dom_classes


def test_what_is_wrong_is_said_and_the_pictures_fade_until_it_is_right():
    line = Line()
    line.refresh()
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


def test_changes_together_are_looked_at_once():
    line = Line()
    looks = line.looks
    with line.together():
        line.controls["size"].value = 1
        line.controls["size"].value = 2
    assert line.looks == looks + 1


def test_its_repr_makes_it_again():
    line = Line(size=2)
    line.controls["size"].value = 1
    again = eval(repr(line))
    assert again.state == line.state == {"size": 1, "colour": "red"}


def test_every_control_is_labelled():
    for control in Line().controls.values():
        assert control.description


def test_without_a_browser_it_leaves_pictures_with_alt_text(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **more: shown.append((data, more)))
    line = Line()
    line._ipython_display_()
    (view, _), (left, more) = shown
    assert "application/vnd.jupyter.widget-view+json" in view and view["text/plain"] == repr(line)
    assert more == {"raw": True, "display_id": True}
    assert 'alt="A line. It rises to 3 from nothing."' in left["text/html"]
    assert left["image/png"] and repr(line) in left["text/plain"]
    # while the explorer is alive on the page, the picture is not there twice
    hidden = f".qrkd-still-{line._key} {{display: none}}"
    assert hidden in line.view.children[0].value
    assert f"qrkd-still-{line._key}" in left["text/html"]


class Handle:
    def __init__(self):
        self.stills = []

    def update(self, data, **_):
        self.stills.append(data)


def test_in_a_notebook_slow_pictures_and_still_come_once_the_controls_rest(monkeypatch):
    monkeypatch.setattr("qrkd_lab.teaching.widgets.explorer._in_kernel", lambda: True)
    handle, calls = Handle(), []
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: handle)
    line = Line()
    line._ipython_display_()
    monkeypatch.setattr(line, "see_more", lambda: calls.append(1) or Sight())
    for size in (1, 2, 3):
        line.controls["size"].value = size
    assert line.settle(30)
    assert len(calls) == 1 and "size 3" in handle.stills[-1]["text/html"]
    line._end()
    assert not line._drawer.is_alive()


def test_what_takes_long_does_not_queue_and_ends_at_the_last_state(monkeypatch):
    line, free = Line(), threading.Event()
    monkeypatch.setattr(line, "see", lambda: free.wait(30) and Line.see(line))
    line.draw_in_background()
    for size in (1, 2, 3, 4, 5, 2):  # each would take long
        line.controls["size"].value = size
    free.set()
    assert line.settle(30) and "size 2" in line._said
    assert line.looks <= 2
    line._end()


def test_when_nothing_moves_it_prepares_what_there_is_to_prepare(monkeypatch):
    monkeypatch.setattr("qrkd_lab.teaching.widgets.explorer._IDLE", 0.01)
    line, done, ready = Line(), [], threading.Event()

    def idle():
        done.append(len(done))
        ready.set() if len(done) == 3 else None
        return len(done) < 3

    monkeypatch.setattr(line, "idle", idle)
    line.draw_in_background()
    line.refresh()
    assert ready.wait(30)
    line._end()
    assert done == [0, 1, 2]


def test_while_it_goes_on_and_on_the_still_is_renewed_now_and_then(monkeypatch):
    monkeypatch.setattr("qrkd_lab.teaching.widgets.explorer._AT_LEAST", 0.0)
    line, line_handle = Line(), Handle()
    line._handle = line_handle
    line.draw_in_background()
    for size in (1, 2) * 3:
        line.controls["size"].value = size
        time.sleep(0.1)  # less than what the controls must rest
    assert line_handle.stills
    line._end()


def test_a_still_without_pictures_still_says_something():
    left = still([Picture()], "<p>Nothing yet.</p>", "Line()", "key")
    assert "Nothing yet." in left["text/html"] and "image/png" not in left
    assert left["text/plain"] == "Line()"


def test_the_package_lists_its_explorers():
    from qrkd_lab.teaching import widgets

    assert "KernelExplorer" in dir(widgets)
    with pytest.raises(AttributeError, match="attribute Explorers"):
        _ = widgets.Explorers
