"""The distillation explorer in a real browser: Start, Pause, Stop; cells go on meanwhile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_notebook

from qrkd_lab.studies.records import read_runs
from tests.browser.controls import left_by
from tests.browser.screen import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_distillation.ipynb"
BOX = "qrkd-DistillationExplorer"
MAKE = "from qrkd_lab.teaching.widgets import DistillationExplorer\nDistillationExplorer({})"


def made(*arguments):
    return new_notebook(cells=[new_code_cell(MAKE.format(", ".join(arguments)))])


def press(box, name):
    box.get_by_role("button", name=name, exact=True).click()


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_start_pause_go_on_stop_and_the_record_is_there(lab, runs):
    notebook = lab.open(made(f"runs_dir={str(runs)!r}", "epochs=1000"))
    notebook.run_all()
    box = notebook.explorer(BOX)
    expect(box.get_by_role("status")).to_contain_text("Ready: scratch, kd, rkd, qrkd on digits")
    expect(box.get_by_role("button", name="Stop")).to_be_disabled()
    press(box, "Start")
    expect(box.get_by_role("status")).to_contain_text("Training the teacher", timeout=60_000)
    expect(box.get_by_role("status")).to_contain_text("Training scratch, kd, rkd, qrkd: epoch",
                                                      timeout=60_000)  # fmt: skip
    expect(box.locator("img.qrkd-matrices")).to_be_visible()
    before = box.locator("img.qrkd-arms").get_attribute("src")
    expect(box.locator("img.qrkd-arms")).not_to_have_attribute("src", before)
    expect(box.get_by_role("status")).to_contain_text(re.compile(r"epoch \d\d\."),
                                                      timeout=90_000)  # fmt: skip
    notebook.screenshot("explore_distillation", of=box)
    press(box, "Pause")
    expect(box.get_by_role("status")).to_contain_text("Paused, scratch, kd, rkd, qrkd: epoch")
    said = box.get_by_role("status").inner_text()
    notebook.page.wait_for_timeout(1000)
    assert box.get_by_role("status").inner_text() == said
    press(box, "Go on")
    expect(box.get_by_role("status")).to_contain_text("Training scratch")
    press(box, "Stop")
    expect(box.get_by_role("status")).to_contain_text("Stopped: recorded as runs of")
    expect(box.locator("table")).to_contain_text("qrkd seed 0")
    notebook.screenshot("explore_distillation_stopped", of=box)
    recorded = {run.settings["arm"]: len(run.history) for run in read_runs(runs)}
    assert recorded.keys() == {"teacher", "scratch", "kd", "rkd", "qrkd"}
    assert recorded["qrkd"] == recorded["kd"] >= 1
    assert notebook.errors == notebook.kernel_errors() == []


def test_cells_go_on_while_it_trains(lab, runs):
    notebook = lab.open(made(f"runs_dir={str(runs)!r}", "epochs=1000", "arms=('kd',)"))
    notebook.run_all()
    box = notebook.explorer(BOX)
    press(box, "Start")
    expect(box.get_by_role("status")).to_contain_text("Training kd: epoch", timeout=60_000)
    answer = notebook.evaluate(
        """async () => {
          const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
          let text = "";
          const future = kernel.requestExecute({code: "print(6 * 7)"});
          future.onIOPub = m => { if (m.header.msg_type === "stream") text += m.content.text; };
          await future.done;
          return text;
        }"""
    )
    assert answer == "42\n"
    expect(box.get_by_role("status")).to_contain_text("Training kd: epoch")
    press(box, "Stop")
    expect(box.get_by_role("status")).to_contain_text("Stopped")


def test_its_notebook_trains_says_what_is_wrong_and_keeps_its_picture(lab):
    notebook = lab.open(NOTEBOOK)
    notebook.run_all(seconds=180)
    box = notebook.explorer(BOX)
    weight = box.locator(".widget-text", has_text="of the kernel").locator("input")
    weight.fill("0")
    weight.press("Enter")
    expect(box.get_by_role("alert")).to_contain_text("leave the arm out")
    weight.fill("2")
    weight.press("Enter")
    expect(box.get_by_role("alert")).to_have_count(0)
    box.locator(".widget-select-multiple select").select_option(["kd", "qrkd"])
    expect(box.get_by_role("status")).to_contain_text("Ready: kd, qrkd")
    press(box, "Start")
    expect(box.get_by_role("status")).to_contain_text("Done.", timeout=90_000)
    expect(box.locator("table")).to_contain_text("kd seed 0")
    press(box, "Start")
    expect(box.locator("table")).to_contain_text("was on disk")
    still = notebook.page.locator(".qrkd-still")
    expect(still).to_contain_text("Done.")
    expect(still.locator("code").last).to_contain_text("kernel_weight=2.0")
    left_by(notebook, "qrkd seed 0")
    assert notebook.errors == []
