"""The report as a whole: written, the same again, and the committed one is that of the records."""

from __future__ import annotations

import re

import pytest

from qrkd_lab.cli import main
from qrkd_lab.files import RecordError
from qrkd_lab.studies import report as module
from qrkd_lab.studies.records import PUBLISHED
from qrkd_lab.studies.report import compose, report_on, write_report
from tests.hazards import disk_that_ends
from tests.studies.records.made_runs import keep, made_run
from tests.studies.reporting.made_studies import BETTER, RKD, SAME, made_runs
from tests.studies.reporting.test_tuned import made_trace


def test_the_committed_report_is_that_of_the_committed_records():
    text = (PUBLISHED / "report.md").read_text(encoding="utf-8")
    found = report_on()
    assert found.markdown == text, "make it again by python -m qrkd_lab report"
    page = (PUBLISHED / "report.html").read_text(encoding="utf-8")
    assert without_pictures(found.html) == without_pictures(page)
    drawn = {path.stem for path in (PUBLISHED / "figures").glob("*.png")}
    assert drawn == set(found.figures)
    files = [PUBLISHED / "report.html", *(PUBLISHED / "figures").iterdir()]
    assert sum(path.stat().st_size for path in files) < 400_000


def without_pictures(page):
    """Fonts, and so the bytes of a picture, differ from machine to machine."""
    return re.sub(r'src="data:[^"]*"', "", page)


def test_a_report_is_written_whole_and_the_same_again(tmp_path):
    runs = made_runs(shuffled=SAME, rbf=RKD, rkd=RKD, qrkd=BETTER)
    runs += made_runs("ptb", rkd=RKD, qrkd=SAME)
    path = write_report(runs, tmp_path / "new", "make all", [made_trace(benchmark="mnist")])
    assert path == tmp_path / "new" / "report.md"
    text = path.read_text(encoding="utf-8")
    assert text == compose(reversed(runs), "make all", [made_trace(benchmark="mnist")]).markdown
    assert "nan" not in text and "    make all" in text
    page = (path.parent / "report.html").read_text(encoding="utf-8")
    assert page.count("<img ") == text.count("](figures/") == 2
    drawn = sorted(each.name for each in (path.parent / "figures").iterdir())
    assert drawn == ["improvements.png", "kernel_arms.png"]


def test_what_was_asked_for_and_is_missing_is_said_on_the_first_page():
    text = compose(
        made_runs(rkd=RKD, qrkd=SAME), "make all", missing=["ptb: 3 of the 3 runs"]
    ).markdown
    assert text.index("Not all that was asked for is here") < text.index("## The claim")
    assert "### Missing runs\n\n- ptb: 3 of the 3 runs\n" in text and "None: every" not in text
    assert "Not all that" not in compose(made_runs(rkd=RKD, qrkd=SAME), "make all").markdown
    text = compose(
        made_runs(rkd=RKD, qrkd=SAME, rbf=RKD) + made_runs("ptb", rkd=RKD, qrkd=SAME), "make all"
    ).markdown
    assert "### Missing runs\n\n- ptb: `rbf`, which other benchmarks have\n" in text


def test_records_and_tunings_are_found_by_the_command(tmp_path, capsys):
    keep(tmp_path, *made_runs(rkd=RKD, qrkd=SAME), *made_runs("ptb", rkd=RKD))
    made_trace(benchmark="mnist").save(tmp_path)
    asked = ["report", "mnist", "--runs-dir", str(tmp_path), "--scale", "smoke"]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "report.md")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "ptb" not in text and "### Weights tried on mnist" in text
    assert f"python -m qrkd_lab report mnist --runs-dir {tmp_path} --scale smoke" in text


def test_an_exercise_in_the_same_folder_is_left_out_and_counted(tmp_path):
    runs = made_runs(rkd=RKD, qrkd=SAME)
    keep(tmp_path, *runs, *[made_run("qrkd", s, "mnist", kernel_weight=3.0) for s in (0, 7)])
    text = report_on(tmp_path, ["mnist"], "smoke").markdown
    said = "- Left out: 2 records on mnist that lie beside these and are not of the benchmark's"
    assert said in text and "An account of 8 training runs" in text
    assert (
        text.split("## Limits")[0]
        == (
            compose(runs, f"python -m qrkd_lab report mnist --runs-dir {tmp_path} --scale smoke")
        ).markdown.split("## Limits")[0]
    )


def test_what_is_not_there_or_damaged_is_said(tmp_path):
    with pytest.raises(ValueError, match="no records of any benchmark at scale laptop"):
        report_on(tmp_path)
    with pytest.raises(ValueError, match="unknown scale 'smok'; choose from smoke, laptop, paper"):
        report_on(tmp_path, scale="smok")
    keep(tmp_path, *made_runs(rkd=RKD))
    with pytest.raises(ValueError, match="no records of ptb at scale smoke"):
        report_on(tmp_path, ["mnist", "ptb"], "smoke")
    trace = made_trace(benchmark="mnist").save(tmp_path)
    trace.write_text(trace.read_text().replace("here", "there"))
    with pytest.warns(UserWarning, match="left out of the report: .*tuning.json was edited"):
        text = report_on(tmp_path, scale="smoke").markdown
    assert "**Not all that was asked for is here**" in text and f"- {trace} was edited" in text


def test_a_damaged_record_is_named_in_the_report(tmp_path):
    keep(tmp_path, *made_runs(rkd=RKD, qrkd=SAME))
    cut = next(tmp_path.glob("mnist/smoke/qrkd-seed1-*/record.json"))
    cut.write_text(cut.read_text()[:100])
    with pytest.warns(UserWarning, match="left out of the results"):
        text = report_on(tmp_path, ["mnist"], "smoke").markdown
    assert "**Not all that was asked for is here**" in text
    assert f"- {cut.parent} is damaged: record.json cannot be read" in text


def test_a_report_that_cannot_be_written_says_what_to_do(tmp_path):
    report = compose(made_runs(rkd=RKD), "make all")
    with disk_that_ends(0), pytest.raises(RecordError, match="No space left on device. Make room"):
        report.save(tmp_path / "out")


def test_two_runs_of_one_arm_and_seed_are_refused():
    runs = made_runs(rkd=RKD, qrkd=SAME)
    with pytest.raises(ValueError, match="expected one run of rkd seed 0, got 2"):
        module.compose([*runs, runs[0]], "make all")
