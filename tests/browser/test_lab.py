"""The harness itself, on a small notebook of plain widgets."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from tests.browser.screen import Screen, expect

WIDGETS = """
import io
import ipywidgets as W
from PIL import Image

slider = W.IntSlider(description="n", value=3, max=9)
choice = W.Dropdown(options=["red", "blue"])
button = W.Button(description="Add")
picture, text = W.Image(format="png"), W.HTML()
added = []


def show(*_):
    data = io.BytesIO()
    Image.new("RGB", (10 + 10 * slider.value, 20), choice.value).save(data, "png")
    picture.value = data.getvalue()
    text.value = f"n = {slider.value}, {choice.value}, added {len(added)}"


def add(_):
    added.append(slider.value)
    show()


slider.observe(show, "value")
choice.observe(show, "value")
button.on_click(add)
show()
space = W.HTML(layout=W.Layout(height="1500px"))
box = W.VBox([slider, choice, button, picture, text, space])
box.add_class("a-box")
box
"""


def made_of(*sources):
    """A notebook of these code cells, with a sentence before them."""
    return new_notebook(cells=[new_markdown_cell("Words."), *map(new_code_cell, sources)])


def use_every_widget(page, box):
    picture = box.locator("img")
    expect(box).to_contain_text("n = 3, red, added 0")
    before = picture.get_attribute("src")
    assert before.startswith("blob:")
    box.locator(".noUi-handle").focus()
    page.keyboard.press("ArrowRight")
    expect(box).to_contain_text("n = 4, red, added 0")
    expect(picture).not_to_have_attribute("src", before)
    expect(picture).to_have_js_property("naturalWidth", 50)
    box.locator("select").select_option("blue")
    expect(box).to_contain_text("n = 4, blue, added 0")
    box.get_by_role("button", name="Add").click()
    expect(box).to_contain_text("n = 4, blue, added 1")


def test_widgets_answer_in_lab_and_a_box_taller_than_the_window_is_shown_whole(lab):
    notebook = lab.open(made_of(WIDGETS))
    notebook.run_all()
    box = notebook.explorer("a-box")
    height = box.bounding_box()["height"]
    with Image.open(notebook.screenshot("widgets", of=box)) as picture:
        assert height > 1500 and picture.height == pytest.approx(height, abs=2)
        assert picture.convert("RGB").getpixel((600, 300)) == (255, 0, 0)
        assert picture.convert("RGB").getpixel((600, picture.height - 10)) == (255, 255, 255)
    use_every_widget(notebook.page, box)
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []


def test_what_a_page_complains_of_and_wants_from_elsewhere_is_kept(context):
    screen = Screen(context)
    with screen.page.expect_event("pageerror"):
        screen.evaluate("""() => {
          console.error('no good');
          setTimeout(() => { throw new Error('worse'); });
          return fetch('http://example.org/').catch(() => 0);
        }""")
    assert screen.errors == ["no good", "worse"]
    assert screen.outside == ["http://example.org/"]


def test_a_dashboard_shows_widgets_and_what_a_cell_raised(voila):
    dashboard = voila(made_of(WIDGETS, "raise ValueError('no such kernel')"))
    use_every_widget(dashboard.page, dashboard.explorer("a-box"))
    expect(dashboard.page.locator("body")).to_contain_text("no such kernel")
    assert "ValueError" in "".join(dashboard.tracebacks()) and dashboard.errors == []


def test_a_saved_notebook_shows_its_outputs_again_without_running(lab):
    notebook = lab.open(made_of("import os\nprint('process', os.getpid())"))
    notebook.run_all()
    process = notebook.outputs()[1][0]["text"].strip()
    saved = notebook.save()
    assert saved.cells[1].outputs[0].text.strip() == process
    again = notebook.reopen()
    expect(again.page.locator(".jp-OutputArea-output")).to_have_text(process)
    assert again.outputs()[1] == saved.cells[1].outputs


def test_errors_of_callbacks_and_cells_time_limits_and_a_dead_kernel_are_noticed(lab):
    cell = "import ipywidgets as W\nb = W.Button(description='Go')\nb.on_click(lambda _: 1 / 0)\nb"
    more = "import os, time\nif os.path.exists('stop'): time.sleep(60)"
    notebook = lab.open(made_of(cell, more, "if os.path.exists('wrong'): 1 / 0",
                                "if os.path.exists('die'): os.kill(os.getpid(), 9)"))  # fmt: skip
    notebook.run_all()
    assert notebook.kernel_errors() == []
    notebook.page.get_by_role("button", name="Go").click()
    notebook.page.wait_for_function("window.kernelErrors.length === 1")
    assert "ZeroDivisionError" in notebook.kernel_errors()[0]
    for name, said in (("wrong", r"cell 3: ZeroDivisionError(.|\n)*1 / 0"),
                       ("die", "Run All answered False")):  # fmt: skip
        place = lab.root / name
        place.touch()
        with pytest.raises(AssertionError, match=said):
            notebook.run_all()
        place.unlink()
    (lab.root / "stop").touch()
    with pytest.raises(Exception, match="not done in 1 seconds"):
        notebook.run_all(seconds=1)
    (lab.root / "stop").unlink()
