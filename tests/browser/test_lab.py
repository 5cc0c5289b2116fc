"""The harness itself: what a page, a cell or a callback complains of is noticed."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.screen import Screen


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


def test_errors_of_callbacks_and_cells_time_limits_and_a_dead_kernel_are_noticed(lab):
    cell = "import ipywidgets as W\nb = W.Button(description='Go')\nb.on_click(lambda _: 1 / 0)\nb"
    more = "import os, time\nif os.path.exists('stop'): time.sleep(60)"
    cells = [cell, more, "if os.path.exists('wrong'): 1 / 0",
             "if os.path.exists('die'): os.kill(os.getpid(), 9)"]  # fmt: skip
    notebook = lab.open(new_notebook(cells=[*map(new_code_cell, cells)]))
    notebook.run_all()
    assert notebook.kernel_errors() == []
    notebook.page.get_by_role("button", name="Go").click()
    notebook.page.wait_for_function("window.kernelErrors.length === 1")
    assert "ZeroDivisionError" in notebook.kernel_errors()[0]
    for name, said in (("wrong", r"cell 2: ZeroDivisionError(.|\n)*1 / 0"),
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
