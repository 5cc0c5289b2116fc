"""StudyBrowser in a real JupyterLab: choose, look again, export, and be told what is wrong."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from qrkd_lab.studies.records import published_runs
from tests.browser.screen import expect
from tests.studies.records.made_runs import keep, made_run

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_records.ipynb"
BOX = "qrkd-StudyBrowser"


@pytest.fixture
def records(lab):
    """A folder of records beside the notebook, and the notebook."""
    runs = [made_run(arm, seed) for arm in ("teacher", "rkd", "qrkd") for seed in range(3)]
    runs += [made_run("qrkd", seed, kernel_weight=5.0) for seed in range(3)]
    for old in ("made", "out"):  # Lab's folder outlives a test
        shutil.rmtree(lab.root / old, ignore_errors=True)
    keep(lab.root / "made", *runs)
    source = (
        "from qrkd_lab.teaching.widgets import StudyBrowser\n"
        "StudyBrowser('made', published=False, csv='out/made.csv')"
    )
    cells = [new_markdown_cell("Records."), new_code_cell(source)]
    return lab.open(new_notebook(cells=cells), name="records.ipynb")


def with_the_kit() -> str:
    """What the browser says of the records of MNIST."""
    runs = published_runs("mnist", "laptop")
    return f"{len(runs)} runs of {len({run.settings['arm'] for run in runs})} arms"


def changed(box, old):
    expect(box.locator("img")).not_to_have_attribute("src", old)
    expect(box.locator("img")).to_be_visible()
    return box.locator("img").get_attribute("src")


def test_the_notebook_opens_with_it_and_its_menus_answer(lab):
    notebook = lab.open(NOTEBOOK)
    notebook.run_all()
    box = notebook.explorer(BOX)
    expect(box).to_contain_text(f"mnist at scale laptop, default settings: {with_the_kit()}")
    expect(box).to_contain_text('ql.compare("mnist", arms=["qrkd"], seeds=[0], scale="laptop"')
    notebook.screenshot("explore_records_differences", of=box)
    picture = box.locator("img").get_attribute("src")
    for view in ("Scores by arm", "Learning curves", "Loss terms", "All benchmarks"):
        box.get_by_label("Show").select_option(view)
        picture = changed(box, picture)
    expect(box).to_contain_text(re.compile("One line a benchmark.*cifar10"))
    expect(box.locator("img.qrkd-faded")).to_have_count(0)
    notebook.screenshot("explore_records_benchmarks", of=box)
    box.get_by_label("Show").select_option("Table of runs")
    expect(box.locator("img")).to_be_hidden()
    expect(box).to_contain_text("shuffled seed 4")
    assert notebook.kernel_errors() == [] and notebook.errors == [] and notebook.outside == []


def test_records_that_appear_are_found(lab):
    notebook = lab.open(NOTEBOOK)
    notebook.run_all()
    box = notebook.explorer(BOX)
    box.get_by_role("button", name="Look again").click()
    expect(box).to_contain_text("Since the last look:")
    box.get_by_label("Benchmark").select_option("digits")
    expect(box).to_contain_text("digits at scale smoke, default settings: 9 runs of 3 arms")
    box.get_by_label("Reference").select_option("qrkd")
    expect(box).to_contain_text("rkd and qrkd")
    box.get_by_label("Run", exact=True).select_option("rkd seed 2")
    expect(box).to_contain_text('ql.compare("digits", arms=["rkd"], seeds=[2], scale="smoke"')
    assert notebook.kernel_errors() == [] and notebook.errors == []


def test_settings_arms_and_keyboard(records):
    records.run_all()
    box = records.explorer(BOX)
    expect(box).to_contain_text("9 runs of 3 arms, 3 seeds")
    box.get_by_label("Settings").select_option("kernel_weight=5")
    expect(box).to_contain_text("kernel_weight=5.0, ")
    picture = box.locator("img").get_attribute("src")
    box.get_by_label("Arms").select_option(["teacher"])
    expect(box.get_by_role("alert")).to_contain_text("no other student to compare rkd with")
    expect(box.locator("img.qrkd-faded")).to_have_count(1)
    records.screenshot("explore_records_alert", of=box)
    box.get_by_label("Arms").focus()
    records.page.keyboard.press("End")
    expect(box.get_by_role("alert")).to_have_count(0)
    changed(box, picture)
    records.page.keyboard.press("Tab")
    assert box.get_by_label("Reference").evaluate("e => e === document.activeElement")
    assert records.kernel_errors() == [] and records.errors == []


def test_export_and_wrong_folders(records, lab):
    records.run_all()
    box = records.explorer(BOX)
    save = box.get_by_role("button", name="Save these runs")
    save.click()
    expect(box).to_contain_text("9 runs written to out/made.csv")
    assert len(pd.read_csv(lab.root / "out" / "made.csv")) == 9
    with records.page.expect_download() as download:
        box.get_by_role("link", name="Download the file").click()
    assert Path(download.value.path()).read_bytes() == (lab.root / "out" / "made.csv").read_bytes()
    save.click()
    expect(box.get_by_role("alert")).to_contain_text("out/made-2.csv")
    next((lab.root / "made" / "digits" / "smoke").glob("rkd-seed0*/record.json")).write_text("{")
    box.get_by_role("button", name="Look again").click()
    expect(box.get_by_role("alert")).to_contain_text("1 record or folder could not be read")
    expect(box).to_contain_text("8 runs of 3 arms")
    records.screenshot("explore_records_damaged", of=box)
    field = box.get_by_label("Folder of records")
    field.fill("nowhere")
    field.press("Tab")
    expect(box.get_by_role("alert")).to_contain_text("There are no records here. Train some")
    expect(box).to_contain_text("There is no folder nowhere yet")
    records.screenshot("explore_records_nothing", of=box)
    box.get_by_label("with the records that came with the kit").check()
    expect(box).to_contain_text("came with the kit")
    expect(box.get_by_role("alert")).to_have_count(0)
    assert records.kernel_errors() == [] and records.errors == []


def test_a_saved_notebook_keeps_its_last_state(records):
    records.run_all()
    box = records.explorer(BOX)
    picture = box.locator("img").get_attribute("src")
    box.get_by_label("Show").select_option("Scores by arm")
    changed(box, picture)
    records.page.wait_for_timeout(1500)  # the still follows when nothing has moved for a while
    records.save()
    again = records.reopen()
    still = again.explorer("qrkd-still")
    expect(still).to_contain_text("view='scores'")
    image = still.locator("img")
    expect(image).to_be_visible()
    assert "one point a seed" in image.get_attribute("alt")
    expect(again.page.get_by_text("To train it again")).to_be_visible()
    again.screenshot("explore_records_reopened")
    again.run_all()
    expect(again.explorer(BOX)).to_contain_text("9 runs of 3 arms")
    expect(again.page.locator(".qrkd-still:visible")).to_have_count(0)


def test_it_is_a_dashboard_too(voila):
    dashboard = voila(NOTEBOOK)
    box = dashboard.explorer(BOX, seconds=90)
    expect(box).to_contain_text(with_the_kit())
    picture = box.locator("img").get_attribute("src")
    box.get_by_label("Reference").select_option("scratch")
    changed(box, picture)
    expect(box).to_contain_text("minus scratch")
    dashboard.screenshot("explore_records_dashboard", of=box)
    assert dashboard.tracebacks() == [] and dashboard.errors == []
