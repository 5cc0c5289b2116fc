"""The study, reproduced: it goes on whatever stopped it, and what fails takes nothing else down."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from filelock import FileLock

import qrkd_lab as ql
from qrkd_lab import reproduce as module
from qrkd_lab.cli import main
from qrkd_lab.data import DataError
from qrkd_lab.files import RecordError
from qrkd_lab.reproduce import NOTEBOOKS, SEEDS, reproduce
from qrkd_lab.studies.records import read_runs
from qrkd_lab.studies.tune import FILE
from qrkd_lab.teaching.parameters import NotebookError, check_parameters
from tests.hazards import FORKS, alive, elsewhere, wait_for

ARMS = ["scratch", "kd", "rkd", "qrkd"]
STUDY = {"scale": "smoke", "arms": ARMS, "progress": False}
PARAMETERS = f"""
scale = "laptop"
arms = {ARMS}
seeds: int | list[int] = 5
published = True
runs_dir = "runs"
"""
RUNS = len(ARMS) + 1  # of a seed, with its teacher


def lesson(folder, name="digits.ipynb", source="print(seeds)"):
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in (PARAMETERS, source)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)
    return folder / name


@pytest.fixture
def reports(monkeypatch):
    """A stand-in for the report: what it was asked for."""
    asked = []

    def compose(runs, command, tunings, missing):
        asked.append(SimpleNamespace(runs=runs, command=command, tunings=tunings, missing=missing))
        return SimpleNamespace(save=lambda folder: Path(folder, "report.md"))

    monkeypatch.setattr("qrkd_lab.studies.report.compose", compose)
    return asked


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The records of the study, trained once."""
    folder = tmp_path_factory.mktemp("trained")
    ql.compare("digits", seeds=2, runs_dir=folder, **STUDY)
    return folder


@pytest.fixture
def executed(trained, tmp_path, monkeypatch):
    """Two benchmarks, digits under two names, and a stand-in for the kernel: what it ran."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    notebooks = {name: lesson(tmp_path, f"{name}.ipynb") for name in ("digits", "mnist")}
    monkeypatch.setattr(module, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(module, "SEEDS", {"digits": 2, "mnist": 1})

    def compare(name, *more, **options):
        return ql.compare("digits", *more, progress=False, **options)

    monkeypatch.setattr(module, "compare", compare)
    ran = []

    def execute(notebook, folder, parameters, **_):
        ran.append((notebook.stem, parameters["seeds"], parameters.get("device")))
        if Path("broken").exists() and notebook.stem in Path("broken").read_text():
            raise NotebookError(f"{notebook.name} stopped in cell 2")
        assert not parameters["published"] and parameters["arms"] == ARMS

    monkeypatch.setattr(module, "execute", execute)
    return ran


def test_it_ends_in_a_report_on_this_study_and_no_other_run(executed, reports):
    for other in ({"seeds": [7]}, {"seeds": 1, "epochs": 2}, {"seeds": 1, "arms": ["rbf"]}):
        ql.compare("digits", runs_dir="runs", **STUDY | other)
    done = reproduce(["digits"], scale="smoke", jobs=1)
    assert done.failures == () and done.report == Path("runs/reproduce/report.md").absolute()
    assert executed == [("digits", [0, 1], None)]
    (report,) = reports
    again = ql.compare("digits", seeds=2, runs_dir="runs", **STUDY)
    assert {run.path.name for run in report.runs} == {run.path.name for run in again.runs}
    assert len(report.runs) == 2 * RUNS and report.missing == []
    assert report.command == "python -m qrkd_lab reproduce digits --scale smoke"


def test_the_report_gets_the_search_that_chose_the_weights(
    executed, reports, monkeypatch, tmp_path
):
    monkeypatch.setattr(module, "read_tuning", lambda place: place)
    monkeypatch.setattr(module, "PUBLISHED", tmp_path / "results")
    for root in ("runs", "results"):
        place = tmp_path / root / "digits" / "smoke"
        place.mkdir(parents=True, exist_ok=True)
        (place / FILE).touch()
        reproduce(["digits"], 1, scale="smoke", jobs=1)
        assert reports[-1].tunings == [place], "the kit's own comes first"


def test_a_damaged_search_is_named_and_left_out(executed, reports, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PUBLISHED", tmp_path / "results")
    place = tmp_path / "runs" / "digits" / "smoke"
    (place / FILE).write_text("{")
    done = reproduce(["digits"], 1, scale="smoke", jobs=1)
    assert done.report and reports[-1].tunings == [] and len(reports[-1].runs) == RUNS
    (failure,) = done.failures
    assert str(place / FILE) in failure


def test_a_report_that_cannot_be_written_is_a_failure_like_others(executed, monkeypatch):
    def save(*_):
        raise RecordError("the report could not be written. Make room.")

    report = SimpleNamespace(save=save)
    monkeypatch.setattr("qrkd_lab.studies.report.compose", lambda *_, **__: report)
    Path("broken").write_text("mnist")
    done = reproduce(scale="smoke", jobs=1)
    assert done.report is None and "Make room" in done.failures[-1]
    assert "stopped in cell 2" in done.failures[0]


def test_a_failure_is_named_takes_nothing_down_and_is_tried_again(executed, reports, capsys):
    command = ["reproduce", "digits", "mnist", "--scale", "smoke", "--jobs", "1"]
    Path("broken").write_text("digits")
    assert main(command) == 1
    assert "digits: digits.ipynb stopped in cell 2" in capsys.readouterr().err
    assert [name for name, *_ in executed] == ["digits", "mnist"]
    assert len(reports[0].runs) == 3 * RUNS, "the runs of a notebook that stopped count"
    Path("broken").unlink()
    assert main(command) == 0
    assert [name for name, *_ in executed[2:]] == ["digits", "mnist"]


def test_what_cannot_be_loaded_takes_no_other_down(executed, reports, monkeypatch):
    compare = module.compare

    def load(name, *more, **options):
        if name == "mnist":
            raise DataError("no images here.")
        return compare(name, *more, **options)

    monkeypatch.setattr(module, "compare", load)
    done = reproduce(scale="smoke", jobs=1)
    assert executed == [("digits", [0, 1], None)] and done.failures == ("mnist: no images here.",)
    assert reports[-1].missing == ["mnist: no images here."]


def test_a_damaged_record_is_named_and_others_go_on(executed, reports):
    reproduce(["digits"], scale="smoke", jobs=1)
    record = next(Path("runs").glob("digits/smoke/rkd-seed1-*/record.json"))
    os.truncate(record, 100)
    done = reproduce(["digits", "mnist"], [0], scale="smoke", jobs=1)
    assert done.failures == (), "seed 1 is not asked for"
    done = reproduce(["digits"], scale="smoke", jobs=1)
    assert str(record.parent) in done.failures[0] and done.report is None


def test_seeds_that_failed_are_named_and_the_others_reported(executed, reports, monkeypatch):
    whole = ql.compare("digits", seeds=1, runs_dir="runs", **STUDY)

    def compare(*_, **__):
        raise module.StudyError(["seed 1: killed"], whole)

    monkeypatch.setattr(module, "compare", compare)
    done = reproduce(["digits"], scale="smoke")
    assert done.failures == ("digits: seed 1: killed",) and not executed
    assert len(reports[0].runs) == RUNS and reports[0].missing == ["digits: seed 1: killed"]


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"benchmarks": ["nmist"]}, "unknown benchmark 'nmist'; choose from mnist, cifar10"),
        ({"arms": ["rkd", "qrkd"]}, "arms: scratch, kd must be among them"),
        ({"seeds": 0}, "seeds: expected a count"),
        ({"jobs": 0}, "jobs: expected a whole number >= 1"),
    ],
)
def test_what_cannot_be_stops_before_anything_is_made(tmp_path, monkeypatch, wrong, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    with pytest.raises(ValueError, match=said):
        reproduce(**wrong)
    assert not list(tmp_path.iterdir())


def test_two_at_once_in_one_folder_are_told_apart(executed, reports, tmp_path, capsys):
    (tmp_path / "runs" / "reproduce").mkdir()
    with elsewhere(FileLock, tmp_path / "runs" / "reproduce" / ".reproduce.lock"):
        assert main(["reproduce", "digits", "--scale", "smoke"]) == 1
    assert "another process reproduces into" in capsys.readouterr().err
    assert not executed


def test_a_scheduler_trains_and_the_notebook_finds_its_runs(executed, reports, monkeypatch):
    """On a GPU text has a precision of its own, and with it other runs."""
    asked = []

    def compare(*_, scheduler, **options):
        asked.append(scheduler)
        return ql.compare("digits", seeds=1, runs_dir="runs", **STUDY)

    monkeypatch.setattr(module, "compare", compare)
    main(["reproduce", "digits", "--seeds", "1", "--scheduler", "tcp://127.0.0.1:1"])
    assert asked == ["tcp://127.0.0.1:1"] and executed == [("digits", [0], "cpu")]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebooks_of_the_course_take_what_they_are_asked(name):
    arms, seeds = module._asked(name, "smoke", None, 7)
    assert set(arms) >= {"scratch", "kd", "rkd", "qrkd", "rbf", "no_entanglement", "shuffled"}
    assert SEEDS[name] >= 3, "an interval needs three"
    nb = nbformat.read(NOTEBOOKS[name], as_version=4)
    asked = {
        "scale": "smoke", "arms": arms, "seeds": seeds, "published": False,
        "device": "cpu",
    }  # fmt: skip
    assert check_parameters(NOTEBOOKS[name].name, nb, asked) == asked


def reproduce_there(folder):
    os.setsid()
    os.chdir(folder)
    os.environ["QRKD_RUNS_DIR"] = str(folder / "runs")
    module.NOTEBOOKS["digits"] = folder / "digits.ipynb"
    reproduce(["digits"], 1, "smoke", 1)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_in_the_midst_the_same_command_goes_on(tmp_path, monkeypatch, reports):
    """All of its processes end with it, and the numbers are those of an undisturbed study."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    source = "import os, time\nopen('kernel', 'w').write(str(os.getpid()))\ntime.sleep(3600)"
    monkeypatch.setitem(module.NOTEBOOKS, "digits", lesson(tmp_path, source=source))
    process = FORKS.Process(target=reproduce_there, args=(tmp_path,))
    process.start()
    wait_for(lambda: (tmp_path / "kernel").exists() and (tmp_path / "kernel").read_text())
    kernel = int((tmp_path / "kernel").read_text())
    time.sleep(random.Random(0).uniform(0, 0.5))
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    wait_for(lambda: not alive(kernel))
    lesson(tmp_path)
    assert reproduce(["digits"], 1, "smoke", 1).failures == ()
    undisturbed = ql.compare("digits", seeds=1, runs_dir="other", **STUDY).runs
    assert len(reports[0].runs) == len(read_runs("runs")) == len(undisturbed)
    for run, other in zip(reports[0].runs, undisturbed, strict=True):
        assert run.path.name == other.path.name
        assert (run.metrics, run.history) == (other.metrics, other.history)
