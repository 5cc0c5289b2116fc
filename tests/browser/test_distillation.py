"""The distillation explorer in a real browser: Start, Pause, Stop; cells go on meanwhile."""

from __future__ import annotations

import re

from nbformat.v4 import new_code_cell, new_notebook

from qrkd_lab.studies.records import read_runs
from tests.browser.controls import changed, check_layout, press
from tests.browser.screen import expect

BOX = "qrkd-DistillationExplorer"
MAKE = "from qrkd_lab.teaching.widgets import DistillationExplorer\nDistillationExplorer({})"
RUN = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  let text = "";
  const future = kernel.requestExecute({code: "print(6 * 7)"});
  future.onIOPub = m => { if (m.header.msg_type === "stream") text += m.content.text; };
  await future.done;
  return text;
}"""


def test_start_pause_go_on_stop_and_start_again_while_cells_go_on(lab, tmp_path):
    cell = MAKE.format(f"runs_dir={str(tmp_path / 'runs')!r}, epochs=1000")
    notebook = lab.open(new_notebook(cells=[new_code_cell(cell)]))
    notebook.run_all()
    box = notebook.explorer(BOX)
    said = box.get_by_role("status")
    expect(said).to_contain_text("Ready: scratch, kd, rkd, qrkd on digits")
    expect(box.get_by_role("button", name="Stop")).to_be_disabled()
    press(box, "Start")
    expect(said).to_contain_text("Training the teacher", timeout=60_000)
    expect(said).to_contain_text("Training scratch, kd, rkd, qrkd: epoch", timeout=60_000)
    changed(box, lambda: None, "curves")
    check_layout(notebook, box, "Pause", "Stop", "Benchmark", "Arms", "Seed", "Matrices of")
    assert notebook.evaluate(RUN) == "42\n"
    press(box, "Matrices")
    expect(box.get_by_role("img", name="Kernel matrices of")).to_be_visible()
    press(box, "Curves")
    expect(said).to_contain_text(re.compile(r"epoch \d\d\."), timeout=90_000)
    bars = re.compile("Which term moves the student.*dose: qrkd")
    expect(box.locator("img.qrkd-curves")).to_have_attribute("alt", bars)
    notebook.screenshot("explore_distillation", of=box)
    press(box, "Pause")
    expect(said).to_contain_text("Paused, scratch, kd, rkd, qrkd: epoch")
    where = said.inner_text()
    notebook.page.wait_for_timeout(1000)
    assert said.inner_text() == where
    press(box, "Go on")
    expect(said).to_contain_text("Training scratch")
    press(box, "Stop")
    expect(said).to_contain_text("Stopped: recorded as runs of")
    recorded = {run.settings["arm"]: len(run.history) for run in read_runs(tmp_path / "runs")}
    assert recorded.keys() == {"teacher", "scratch", "kd", "rkd", "qrkd"}
    assert recorded["qrkd"] == recorded["kd"] >= 1
    press(box, "Start")
    expect(said).to_contain_text("Training scratch, kd, rkd, qrkd: epoch")
    assert float(re.search(r"epoch ([\d.]+) of", said.inner_text())[1]) >= recorded["kd"]
    curves = box.get_by_role("img", name=re.compile(r"^Epoch \d+ of 1000"))
    expect(curves).to_be_visible()
    drawn = re.search(r"Epoch (\d+) of", curves.get_attribute("alt"))[1]
    assert int(drawn) >= recorded["kd"]  # all epochs so far
    press(box, "Stop")
    expect(said).to_contain_text("Stopped")
    assert notebook.errors == notebook.kernel_errors() == []
