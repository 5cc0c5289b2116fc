"""StudyBrowser in a real JupyterLab: choose, look again, export, and be told what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
from nbformat.v4 import new_code_cell, new_notebook

from qrkd_lab.studies.records import published_runs
from tests.browser.controls import changed, check_layout, left_by, menu, press
from tests.browser.screen import expect
from tests.studies.made_runs import keep, made_run

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_records.ipynb"
BOX = "qrkd-StudyBrowser"


def test_all_is_seen_at_once_and_its_menus_answer(notebook):
    box = notebook.explorer(BOX)
    runs = published_runs("mnist", "laptop")
    arms = len({run.settings["arm"] for run in runs})
    expect(box).to_contain_text(f"default settings: {len(runs)} runs of {arms} arms")
    names = ("Folder", "Look again", "Benchmark", "Settings", "Arms", "Show", "Save these runs")
    check_layout(notebook, box, *names)
    notebook.screenshot("explore_records", of=box)
    for view in ("Scores by arm", "Learning curves", "Loss terms", "All benchmarks"):
        changed(box, lambda view=view: menu(box, "Show").select_option(view), wide=500)
    expect(box.locator("img.qrkd-faded")).to_have_count(0)
    press(box, "Table")
    expect(box).to_contain_text(re.compile("better by.*mnist.*cifar10", re.DOTALL))
    menu(box, "Show").select_option("Table of runs")
    expect(box).to_contain_text("shuffled seed 4")
    press(box, "Look again")
    menu(box, "Benchmark").select_option("digits")  # which a cell below has trained
    expect(box).to_contain_text("digits at scale smoke, default settings: 9 runs of 3 arms")
    menu(box, "Reference").select_option("qrkd")
    expect(box).to_contain_text("rkd and qrkd")
    menu(box, "Run").select_option("rkd seed 2")
    press(box, "Run")
    expect(box).to_contain_text('ql.compare("digits", arms=["rkd"], seeds=[2], scale="smoke"')
    assert notebook.kernel_errors() == [] and notebook.errors == [] and notebook.outside == []


def test_keyboard_export_damage_and_a_saved_notebook(lab):
    runs = [made_run(arm, seed) for arm in ("teacher", "rkd", "qrkd") for seed in range(3)]
    keep(lab.root / "made", *runs, *(made_run("qrkd", seed, kernel_weight=5.0) for seed in (0, 1)))
    source = (
        "from qrkd_lab.teaching.widgets import StudyBrowser\n"
        "StudyBrowser('made', published=False, csv='out/made.csv')"
    )
    notebook = lab.open(new_notebook(cells=[new_code_cell(source)]), name="records.ipynb")
    notebook.run_all()
    box = notebook.explorer(BOX)
    expect(box).to_contain_text("9 runs of 3 arms, 3 seeds")
    menu(box, "Arms").select_option(["teacher"])
    expect(box.get_by_role("alert")).to_contain_text("no other student to compare rkd with")
    expect(box.locator("img.qrkd-faded")).to_have_count(1)
    menu(box, "Arms").focus()
    notebook.page.keyboard.press("End")
    expect(box.get_by_role("alert")).to_have_count(0)
    notebook.page.keyboard.press("Tab")
    assert menu(box, "Reference").evaluate("e => e === document.activeElement")
    menu(box, "Arms").select_option(["teacher", "rkd", "qrkd"])

    press(box, "Save these runs")
    expect(box).to_contain_text("9 runs written to out/made.csv")
    assert len(pd.read_csv(lab.root / "out" / "made.csv")) == 9
    with notebook.page.expect_download() as download:
        box.get_by_role("link", name="Download the file").click()
    assert Path(download.value.path()).read_bytes() == (lab.root / "out" / "made.csv").read_bytes()
    press(box, "Save these runs")
    expect(box.get_by_role("alert")).to_contain_text("left as it is")

    changed(box, lambda: menu(box, "Show").select_option("Scores by arm"), wide=500)
    still = notebook.page.locator(".qrkd-still")
    expect(still.locator("code").last).to_contain_text("view='scores'")
    again, left = left_by(notebook, "view='scores'", "To train it again")
    assert "one point per seed" in left.locator("img").first.get_attribute("alt")
    assert again.kernel_errors() == [] and again.errors == []
