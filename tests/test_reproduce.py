"""The study, reproduced: it goes on whatever stopped it, and what fails takes nothing else down."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

import qrkd_lab as ql
from qrkd_lab import reproduce as module
from qrkd_lab import reproduce as seed_groups
from qrkd_lab.cli import main
from qrkd_lab.data import DataError
from qrkd_lab.files import RecordError
from qrkd_lab.reproduce import NOTEBOOKS, SEEDS, reproduce
from qrkd_lab.studies.parallel import turn
from qrkd_lab.studies.records import read_runs
from qrkd_lab.studies.tune import FILE
from qrkd_lab.teaching.notebooks import NotebookError, check_parameters
from tests.hazards import elsewhere
from tests.studies.test_orphans import alive, wait_until

ARMS = ["scratch", "rkd"]
STUDY = {"scale": "smoke", "arms": ARMS, "progress": False}
PARAMETERS = f"""
scale = "laptop"
arms = {ARMS}
seeds: int | list[int] = 5
published = True
jobs = 1
runs_dir = "runs"
"""
COMPARES = """
import qrkd_lab as ql
ql.compare("digits", arms, seeds, scale, jobs, runs_dir, progress=False, published=published)
"""


def lesson(folder, name="digits.ipynb", source=COMPARES):
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in (PARAMETERS, source)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / name)
    return folder / name


@pytest.fixture
def reports(monkeypatch):
    """A stand-in for the report: what it was asked for."""
    asked = []

    def write_report(runs, folder, command, tunings=(), missing=()):
        asked.append(SimpleNamespace(runs=runs, command=command, tunings=tunings, missing=missing))
        return Path(folder, "report.md")

    monkeypatch.setitem(
        sys.modules, "qrkd_lab.reporting", SimpleNamespace(write_report=write_report)
    )
    return asked


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """Two benchmarks, digits under two names, and a stand-in for the kernel: notebooks it ran."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    notebooks = {name: lesson(tmp_path, f"{name}.ipynb") for name in ("digits", "mnist")}
    monkeypatch.setattr(module, "NOTEBOOKS", notebooks)
    monkeypatch.setattr(module, "SEEDS", {"digits": 2, "mnist": 1})
    monkeypatch.setattr(
        module, "load_benchmark", lambda _, scale, **__: ql.load_benchmark("digits", scale)
    )
    ran = []

    def execute(notebook, folder, parameters, **_):
        ran.append((notebook.stem, parameters["seeds"]))
        if Path("broken").exists() and notebook.stem in Path("broken").read_text():
            raise NotebookError(f"{notebook.name} stopped in cell 2")
        given = {name: parameters[name] for name in ("scale", "arms", "jobs", "runs_dir", "seeds")}
        ql.compare("digits", progress=False, **given)
        Path(folder, notebook.name).write_text("executed")

    monkeypatch.setattr(seed_groups, "execute", execute)
    return ran


def test_it_ends_in_a_report_on_this_study_and_no_other_run(kernels, reports):
    for other in ({"seeds": [7]}, {"seeds": 1, "epochs": 2}, {"seeds": 1, "arms": ["kd"]}):
        ql.compare("digits", runs_dir="runs", **STUDY | other)
    done = reproduce(["digits"], scale="smoke", jobs=1)
    assert done.failures == () and done.report == Path("runs/reproduce/report.md").absolute()
    assert kernels == [("digits", [0, 1])]
    (report,) = reports
    again = ql.compare("digits", seeds=2, runs_dir="runs", **STUDY)
    assert {run.path.name for run in report.runs} == {run.path.name for run in again.runs}
    assert len(report.runs) == 2 * 3
    assert report.command == "python -m qrkd_lab reproduce digits --scale smoke"
    assert report.missing == []


def test_the_report_gets_the_search_that_chose_the_weights(kernels, reports, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "read_trace", lambda place: place)
    monkeypatch.setattr(module, "PUBLISHED", tmp_path / "results")
    for root in ("runs", "results"):
        place = tmp_path / root / "digits" / "smoke"
        place.mkdir(parents=True)
        (place / FILE).touch()
        reproduce(["digits"], 1, scale="smoke", jobs=1)
        assert reports[-1].tunings == [place], "the kit's own comes first"


def test_a_damaged_search_is_named_and_left_out(kernels, reports, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "PUBLISHED", tmp_path / "results")
    place = tmp_path / "runs" / "digits" / "smoke"
    place.mkdir(parents=True)
    (place / FILE).write_text("{")
    done = reproduce(["digits"], 1, scale="smoke", jobs=1)
    assert done.report and reports[-1].tunings == [] and len(reports[-1].runs) == 3
    (failure,) = done.failures
    assert f"{place / FILE} cannot be read" in failure


def test_a_report_that_cannot_be_written_is_a_failure_like_others(kernels, reports, monkeypatch):
    def write_report(*_):
        raise RecordError("the report could not be written. Make room.")

    monkeypatch.setattr(sys.modules["qrkd_lab.reporting"], "write_report", write_report)
    Path("broken").write_text("mnist")
    done = reproduce(scale="smoke", jobs=1)
    assert done.report is None and "Make room" in done.failures[-1]
    assert "stopped in cell 2" in done.failures[0]


def test_what_is_finished_is_not_run_again_and_more_seeds_run_alone(kernels, reports, capsys):
    reproduce(["digits"], scale="smoke", jobs=1, group_size=1)
    reproduce(["digits"], 3, scale="smoke", jobs=1, group_size=1)
    assert kernels == [("digits", [seed]) for seed in (0, 1, 2)]
    said = capsys.readouterr().err
    assert "[2 of 3] digits, seed 1: finished before" in said
    assert "[3 of 3] digits, seed 2: done in" in said
    gone = next(Path("runs").glob("digits/smoke/rkd-seed1-*"))
    shutil.rmtree(gone)
    reproduce(["digits"], 3, scale="smoke", jobs=1, group_size=1)
    assert kernels[3:] == [("digits", [1])] and gone.exists(), "its records are part of a group"


def test_a_failure_is_named_takes_nothing_down_and_is_retried_on_demand(kernels, reports, capsys):
    command = ["reproduce", "digits", "mnist", "--scale", "smoke", "--jobs", "1"]
    Path("broken").write_text("digits")
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "digits, seeds 0, 1: digits.ipynb stopped in cell 2" in said
    assert said.count("make reproduce RETRY=1") == 1
    assert kernels == [("digits", [0, 1]), ("mnist", [0])]
    Path("broken").unlink()
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "stopped in cell 2" in said and said.count("make reproduce RETRY=1") == 1
    assert len(kernels) == 2
    assert main([*command, "--retry"]) == 0
    assert kernels[2:] == [("digits", [0, 1])]
    assert main(command) == 0


def test_a_notebook_that_leaves_no_records_has_failed(kernels, reports, monkeypatch):
    monkeypatch.setattr(seed_groups, "execute", lambda notebook, folder, _, **__: Path(
        folder, notebook.name).write_text("executed"))  # fmt: skip
    done = reproduce(["digits"], scale="smoke")
    assert "not all of its runs are recorded" in done.failures[0]
    assert "--retry" not in done.failures[0], "the same command tries it again"
    assert done.report is None and not reports


def test_missing_data_are_said_before_anything_runs(kernels, reports, monkeypatch, capsys):
    def load(name, scale, **_):
        if name == "mnist":
            raise DataError("no images here.")
        assert not kernels or name == "digits"
        return ql.load_benchmark("digits", scale)

    monkeypatch.setattr(module, "load_benchmark", load)
    done = reproduce(scale="smoke", jobs=1)
    assert kernels == [("digits", [0, 1])] and len(done.failures) == 1
    assert "python -m qrkd_lab data mnist" in done.failures[0]
    (lacks,) = reports[-1].missing
    assert lacks.startswith("mnist: 3 of the 3 runs that were asked for are not recorded, of the")
    said = capsys.readouterr().err
    assert 0 <= said.find("no images") < said.find("executing")


@pytest.mark.parametrize("calls", [0, 1])
def test_a_benchmark_that_cannot_be_loaded_takes_no_other_down(
    kernels, reports, monkeypatch, calls
):
    """At first sight, or when its turn comes."""
    seen = []

    def load(name, scale, **_):
        seen.append(name)
        if name == "mnist" and seen.count("mnist") > calls:
            raise OSError("the disk is gone")
        return ql.load_benchmark("digits", scale)

    monkeypatch.setattr(module, "load_benchmark", load)
    done = reproduce(scale="smoke", jobs=1)
    assert kernels == [("digits", [0, 1])]
    assert done.failures == ("mnist is left out: OSError: the disk is gone",)
    assert reports[-1].missing[0].startswith("mnist: 3 of the 3 runs")


def test_a_damaged_record_does_not_count(kernels, reports):
    reproduce(["digits"], scale="smoke", jobs=1)
    record = next(Path("runs").glob("digits/smoke/rkd-seed1-*/record.json"))
    os.truncate(record, 100)
    done = reproduce(["digits"], scale="smoke", jobs=1)
    assert "is damaged" in done.failures[0]
    assert len(reports[-1].runs) == 2 * 3 - 1


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"benchmarks": ["nmist"]}, "unknown benchmark 'nmist'; choose from mnist, cifar10"),
        ({"scale": "small"}, "unknown scale 'small'"),
        ({"arms": ["qrdk"]}, "unknown arm 'qrdk'"),
        ({"arms": ["rkd", "qrkd"]}, "arms: scratch, kd must be among them"),
        ({"seeds": 0}, "seeds: expected a count"),
        ({"group_size": 0}, "group_size"),
        ({"jobs": 0}, "jobs: expected a whole number >= 1"),
    ],
)
def test_what_cannot_be_stops_before_anything_is_made(tmp_path, monkeypatch, wrong, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    with pytest.raises(ValueError, match=said):
        reproduce(**wrong)
    assert not list(tmp_path.iterdir())


def test_two_at_once_in_one_folder_are_told_apart(kernels, reports, tmp_path, capsys):
    (tmp_path / "runs" / "reproduce").mkdir(parents=True)
    with elsewhere(turn, tmp_path / "runs" / "reproduce", "reproduce"):
        assert main(["reproduce", "digits", "--scale", "smoke"]) == 1
    assert "another process reproduces into" in capsys.readouterr().err
    assert not kernels


@pytest.mark.parametrize("scheduler, device", [("", "auto"), ("tcp://127.0.0.1:1", "cpu")])
def test_runs_are_looked_for_as_the_notebook_trains_them(monkeypatch, tmp_path, scheduler, device):
    """On a GPU text has a precision of its own, and with it other runs."""
    seen = []

    def load(_, scale, device="cpu"):
        seen.append(device)
        return ql.load_benchmark("digits", scale)

    monkeypatch.setenv("QRKD_SCHEDULER", scheduler)
    monkeypatch.setattr(module, "load_benchmark", load)
    module._part("mnist", "smoke", None, 1, tmp_path).load()
    assert seen == [device]


def test_the_scheduler_reaches_the_kernels(kernels, reports, monkeypatch):
    monkeypatch.setenv("QRKD_SCHEDULER", "")
    seen = []
    monkeypatch.setattr(module, "reproduce", lambda *_, **__: seen.append(
        os.environ["QRKD_SCHEDULER"]) or SimpleNamespace(report=None, failures=()))  # fmt: skip
    main(["reproduce", "digits"])
    main(["reproduce", "digits", "--scheduler", "tcp://127.0.0.1:1"])
    assert seen == ["", "tcp://127.0.0.1:1"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebooks_of_the_course_take_what_a_group_asks(name, tmp_path):
    part = module._part(name, "smoke", None, 7, tmp_path)
    assert set(part.arms) >= {"scratch", "kd", "rkd", "qrkd", "rbf", "no_entanglement", "shuffled"}
    assert SEEDS[name] >= 3, "an interval needs three"
    groups = part.groups(3, tmp_path)
    assert [group.parameters["seeds"] for group in groups] == [[0, 1, 2, 3], [4, 5, 6]]
    for group in groups:
        asked = {**group.parameters, "jobs": 2}
        nb = nbformat.read(group.notebook, as_version=4)
        assert check_parameters(group.notebook.name, nb, asked) == asked


# Real processes


SCRIPT = """
import pathlib
from qrkd_lab import reproduce
reproduce.NOTEBOOKS["digits"] = pathlib.Path("digits.ipynb").absolute()
reproduce.reproduce(["digits"], 1, "smoke", 1)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_killed_in_the_midst_the_same_command_goes_on(tmp_path, monkeypatch, reports, capsys):
    """All of its processes end with it, and the numbers are those of an undisturbed study."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    source = f"import os\nopen('kernel', 'w').write(str(os.getpid()))\n{COMPARES}"
    monkeypatch.setitem(module.NOTEBOOKS, "digits", lesson(tmp_path, source=source))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], start_new_session=True)
    wait_until(lambda: (tmp_path / "kernel").exists() and (tmp_path / "kernel").read_text())
    kernel = int((tmp_path / "kernel").read_text())
    wait_until(lambda: any(tmp_path.glob("runs/digits/smoke/*")))
    time.sleep(random.Random(0).uniform(0, 0.5))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not alive(kernel))
    assert reproduce(["digits"], 1, "smoke", 1).failures == ()
    assert "digits, seed 0: done in" in capsys.readouterr().err, "it was not over before"
    undisturbed = ql.compare("digits", seeds=1, runs_dir="other", **STUDY).runs
    assert len(reports[0].runs) == len(read_runs("runs")) == len(undisturbed)
    for run, other in zip(reports[0].runs, undisturbed):
        assert run.path.name == other.path.name
        assert (run.metrics, run.history) == (other.metrics, other.history)
