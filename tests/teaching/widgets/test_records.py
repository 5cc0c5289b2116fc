"""The browser of records: its tables are those of plain functions, and what is wrong is said."""

from __future__ import annotations

import shutil
import threading

import pandas as pd
import pytest

from qrkd_lab.studies import records as published
from qrkd_lab.studies.provenance import run_table
from qrkd_lab.studies.summary import results, summary
from qrkd_lab.teaching.widgets import records
from qrkd_lab.teaching.widgets.records import StudyBrowser
from tests.studies.made_runs import keep, made_run
from tests.teaching.test_live import until

ARMS = ("teacher", "kd", "rkd", "qrkd")


@pytest.fixture(scope="module")
def records_once(tmp_path_factory):
    runs = [made_run(arm, seed) for arm in ARMS for seed in range(3)]
    runs += [made_run("qrkd", seed, kernel_weight=5.0) for seed in range(3)]
    runs += [made_run(arm, seed, "mnist") for arm in ("rkd", "qrkd") for seed in range(3)]
    place = tmp_path_factory.mktemp("once") / "runs"
    keep(place, *runs)
    return place


@pytest.fixture
def root(records_once, tmp_path):
    return str(shutil.copytree(records_once, tmp_path / "runs"))


@pytest.fixture
def kit(tmp_path, monkeypatch):
    """A kit that came with rkd and kd of seeds 0 to 4, on the digits."""
    place = tmp_path / "kit"
    for module in (published, records):
        monkeypatch.setattr(module, "PUBLISHED", place)
    keep(place, *[made_run(arm, seed) for arm in ("teacher", "rkd") for seed in range(5)])


@pytest.fixture
def browser(root):
    made = StudyBrowser(root, published=False, benchmark="digits", scale="smoke")
    made.refresh()
    return made


def part(browser, name):
    where = {"source": browser._source.value, "saved": browser._saved.value}
    return (where | browser._shown)[name]


def choose(browser, **values):
    for name, value in values.items():
        browser.controls[name].value = value
    return browser


def test_the_table_is_the_summary_of_the_chosen_runs_and_settings_are_never_mixed(browser):
    mine = [run for run in browser.runs if run.settings.get("kernel_weight") != 5.0]
    assert len(mine) == len(browser.runs) == 12
    assert summary(results(mine), "rkd")._repr_html_() in part(browser, "table")
    choose(browser, reference="kd", arms=("qrkd",))
    two = [run for run in mine if run.settings["arm"] in ("kd", "qrkd")]
    assert summary(results(two), "kd")._repr_html_() in part(browser, "table")
    assert summary(results(two), "kd").verdict("qrkd") in browser._said
    menu = browser.controls["variant"]
    assert menu.options == ("default settings", "kernel_weight=5")
    choose(browser, variant="kernel_weight=5", arms=ARMS, run="qrkd seed 1")
    assert {run.settings.get("kernel_weight") for run in browser.runs} == {None, 5.0}
    card = part(browser, "run")  # with the lines that make it again
    assert "seeds=[1]" in card and "kernel_weight=5.0" in card and "torch 2.0.0 (here " in card


def test_each_view_is_a_picture_or_a_table_and_no_menu_reads_the_disk(browser, monkeypatch):
    monkeypatch.setattr(records, "scan_runs", lambda *_: pytest.fail("the disk was read"))
    for view, said in (
        ("differences", "minus rkd"), ("scores", "for each arm, one point per seed"),
        ("curves", "over epochs"), ("terms", "terms"), ("benchmarks", "a line per benchmark"),
    ):  # fmt: skip
        choose(browser, view=view)
        picture = browser._shown["picture"]
        assert picture.png and "alert" not in browser._words.value
        assert said in picture.alt or said in part(browser, "table")
    assert "digits" in browser._shown["picture"].alt and "mnist" in browser._shown["picture"].alt
    choose(browser, view="runs")
    assert not browser._shown["picture"].png and browser.tabs.selected_index == 1
    assert part(browser, "table").count("<tr") == 1 + 12
    assert "qrkd seed 2" in part(browser, "table")


def test_own_and_kit_are_told_apart_and_not_mixed_within_a_seed(root, kit):
    browser = StudyBrowser(root, benchmark="digits", scale="smoke")
    browser.refresh()
    assert f"31 records: 21 in {root}, 10 that came with the kit." in part(browser, "source")
    own = {r.settings["seed"] for r in browser.runs if not records._of_kit(r)}
    assert own == {0, 1, 2} and {r.settings["seed"] for r in browser.runs} == {0, 1, 2, 3, 4}
    assert "qrkd and rkd are compared on 3 seeds; not on 3, 4." in part(browser, "table")
    choose(browser, run="rkd seed 4")
    assert "kit/digits/smoke" in part(browser, "run") and "came with the kit" in browser._said
    assert str(published.PUBLISHED) not in part(browser, "run"), "no path of this machine"
    choose(browser, published=False)
    assert {r.settings["seed"] for r in browser.runs} == {0, 1, 2}


def test_looking_again_finds_what_was_trained_since_and_names_what_is_damaged(browser, root):
    keep(root, made_run("scratch", 0), made_run("scratch", 1))
    (browser.runs[0].path / "record.json").write_text("{")
    assert "scratch" not in browser.controls["arms"].options
    browser.look_again()
    assert "scratch" in browser.controls["arms"].value, "all were chosen, so all are"
    assert "1 record or folder could not be read" in part(browser, "source")
    assert "Delete this folder and run again" in part(browser, "source")
    assert len(browser.runs) == 13 and browser._shown["picture"].png


def test_nothing_there_is_said_and_the_browser_is_usable_afterwards(tmp_path, root):
    browser = StudyBrowser(tmp_path / "none", published=False, benchmark="digits")
    browser.refresh()
    assert "There are no records here. Train some" in browser._words.value
    assert 'role="alert"' in browser._words.value
    assert "There is no folder" in part(browser, "source")
    choose(browser, runs_dir="~nobody-of-this-name/runs")
    assert "nobody-of-this-name" in part(browser, "source")
    choose(browser, runs_dir=root)
    assert "alert" not in browser._words.value and browser._shown["picture"].png


def test_no_arm_and_no_other_arm_are_said(browser):
    choose(browser, arms=())
    assert "choose at least one under Arms" in browser._words.value and not part(browser, "run")
    choose(browser, arms=("rkd",))
    assert "no other student to compare rkd with" in browser._words.value
    assert part(browser, "table")
    choose(browser, arms=("kd", "rkd"), reference="rkd", arm="qrkd")
    assert "The arm in question, qrkd, is not chosen under Arms." in browser._said
    choose(browser, arms=("kd", "qrkd"), benchmark="mnist")
    assert browser.controls["arms"].value == ("rkd", "qrkd"), "mnist has no kd: all"
    assert "alert" not in browser._words.value


def test_the_file_holds_the_runs_of_the_table(browser, tmp_path):
    path = tmp_path / "new" / "a.csv"
    choose(browser, csv=str(path), arms=("qrkd",))
    browser.save_csv()
    assert "6 runs written to" in part(browser, "saved")
    assert "data:text/csv" in part(browser, "saved")
    pd.testing.assert_frame_equal(
        pd.read_csv(path, keep_default_na=False, na_values=[""])[["arm", "seed", "key"]],
        run_table(browser.runs)[["arm", "seed", "key"]],
    )
    before = path.read_bytes()
    choose(browser, arms=ARMS)
    assert not part(browser, "saved"), "it was of another table"
    browser.save_csv()
    assert "left as it is" in part(browser, "saved") and 'role="alert"' in part(browser, "saved")
    assert path.read_bytes() == before
    choose(browser, arms=(), csv=str(tmp_path / "b.csv"))
    browser.save_csv()
    assert "No arm is chosen" in part(browser, "saved") and not (tmp_path / "b.csv").exists()


def test_its_repr_makes_it_again(browser):
    choose(browser, variant="kernel_weight=5", arms=("teacher", "qrkd"), reference="kd",
           view="curves", run="qrkd seed 2", csv="b.csv")  # fmt: skip
    again = eval(repr(browser))
    again.refresh()
    assert again.state == browser.state and again.runs == browser.runs
    assert again._shown == browser._shown


def test_a_slow_picture_follows_and_a_complaint_is_not_taken_back(browser, monkeypatch):
    def faded():
        return "qrkd-faded" in browser._images["picture"]._dom_classes

    old, gate, more = browser._shown["picture"], threading.Event(), browser.see_more
    monkeypatch.setattr(browser, "see_more", lambda: gate.wait(30) and more())
    browser.draw_in_background()
    choose(browser, view="terms")
    until(faded)
    assert browser._shown["picture"] is old, "the words come first"
    gate.set()
    assert browser.settle() and not faded()
    assert "terms" in browser._shown["picture"].alt
    choose(browser, view="benchmarks")
    choose(browser, arms=())
    assert browser.settle() and faded() and "alert" in browser._words.value
    choose(browser, arms=ARMS)
    assert browser.settle() and "a line per benchmark" in browser._shown["picture"].alt
    browser._end()
