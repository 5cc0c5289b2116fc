"""Studies: reused, resumed, saved, honest about failures; records that travel; recipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

import qrkd_lab as ql
from qrkd_lab.cli import main
from qrkd_lab.studies.compare import StudyError
from qrkd_lab.studies.group import train_group
from qrkd_lab.studies.provenance import reproduce
from qrkd_lab.studies.records import pack, read_runs, unpack
from qrkd_lab.teaching.plots import scores
from tests.hazards import table
from tests.studies.made_runs import keep as store
from tests.studies.made_runs import made_run, own_images

SMALL = {
    "scale": "smoke", "train_size": 128, "validation_size": 100, "qubits": 2, "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return ql.compare("digits", seeds=3, runs_dir=tmp_path_factory.mktemp("runs"), **SMALL)


def test_a_study_has_a_row_a_run_and_a_paired_table(undisturbed):
    assert len(undisturbed.results) == 3 * 5  # the teacher is an arm of the table
    summary = undisturbed.summary()
    assert list(summary.frame.index) == ["teacher", "scratch", "kd", "rkd", "qrkd"]
    by_hand = undisturbed.results.pivot(index="seed", columns="arm", values="test_accuracy")
    expected = (by_hand["qrkd"] - by_hand["rkd"]).mean()
    assert summary.frame.loc["qrkd", "difference"] == pytest.approx(expected)


def test_runs_that_exist_are_reused_and_it_says_so(undisturbed):
    root = undisturbed.runs[0].path.parents[2]
    again = ql.compare("digits", seeds=3, runs_dir=root, **SMALL)
    assert "15 runs reused, 0 trained" in again.notes[0]
    assert table(again) == table(undisturbed)
    more = ql.compare("digits", seeds=4, runs_dir=root, **SMALL)
    assert "15 runs reused, 5 trained" in more.notes[0]


def test_a_kernel_setting_makes_new_qrkd_runs_only(undisturbed):
    root = undisturbed.runs[0].path.parents[2]
    other = ql.compare("digits", seeds=1, runs_dir=root, **SMALL, bandwidth=0.5)
    assert "4 runs reused, 1 trained" in other.notes[0]


def test_what_only_other_arms_cannot_have_is_no_reason_to_refuse(tmp_path):
    options = SMALL | {"batch_size": 2, "train_size": 20, "angle_weight": 0.0}
    study = ql.compare("digits", ["scratch"], 1, runs_dir=tmp_path, **options)
    run = study.runs[-1]
    assert run.settings["batch_size"] == 2 and run.settings["arm"] == "scratch"
    assert ql.benchmark_of(run).settings.batch_size == 2
    assert "batch_size=2" in reproduce(run).python


def test_ctrl_c_stops_and_says_how_to_go_on(tmp_path):
    command = [sys.executable, "-m", "qrkd_lab", "compare", "digits", "--seeds", "200"]
    options = ["--scale", "smoke", "--runs-dir", str(tmp_path), "--set", "train_size=128"]
    # A test run in the background ignores Ctrl-C and hands that down; this process must not.
    process = subprocess.Popen(
        [*command, *options],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while not read_runs(tmp_path):  # a record.json in a hidden folder is not one yet
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "same command goes on" in said and "Traceback" not in said
    assert read_runs(tmp_path)


def test_ctrl_c_is_one_line_also_while_the_commands_are_imported(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("qrkd_lab.cli._parser", interrupted)
    assert main(["doctor"]) == 130
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_one_diverging_arm_leaves_the_others_alone(undisturbed, tmp_path):
    with pytest.raises(StudyError, match="rkd seed 0 diverged") as caught:
        ql.compare(
            "digits", ("scratch", "rkd"), seeds=1, runs_dir=tmp_path, kd_weight=3e38, **SMALL
        )
    kept = table(caught.value.study)
    assert "2 runs are recorded and will be reused" in str(caught.value)
    assert set(kept) == {"teacher seed 0", "scratch seed 0"}
    assert kept["scratch seed 0"] == table(undisturbed)["scratch seed 0"]


def test_what_another_process_recorded_meanwhile_is_taken(undisturbed, tmp_path):
    b = ql.load_benchmark("digits", **{k: v for k, v in SMALL.items() if k != "progress"})
    missing = [b.settings.replace(arm=arm) for arm in ("teacher", "kd")]
    first = [run.name for run in train_group(b, missing, tmp_path)]
    finished = {run.name: run.finished for run in read_runs(tmp_path)}
    again = list(train_group(b, missing, tmp_path))
    assert [run.name for run in again] == first == ["teacher seed 0", "kd seed 0"]
    assert {run.name: run.finished for run in again} == finished


def test_changed_images_are_noticed_in_the_same_session(tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    options = {
        "runs_dir": tmp_path / "runs", "scale": "smoke", "validation_size": 4, "train_size": 12,
        "progress": False,
    }  # fmt: skip
    seen = []
    for shade in (50, 90):
        own_images(tmp_path, shade)
        study = ql.compare(str(tmp_path / "mine"), ("scratch",), 1, **options)
        seen.append(study.runs[0].data["sha256"])
    assert seen[0] != seen[1]


def test_saving_writes_table_and_figures(undisturbed, tmp_path, monkeypatch):
    seen, draw = [], scores.paired_differences
    monkeypatch.setattr(
        scores, "paired_differences", lambda found: seen.append(found.reference) or draw(found)
    )
    folder = undisturbed.save(tmp_path / "out", "kd")
    names = {"results.csv", "summary.md", "scores.png", "learning_curves.png", "differences.png"}
    assert {path.name for path in folder.iterdir()} == names and seen == ["kd"]
    written = (folder / "summary.md").read_text(encoding="utf-8")
    assert written == undisturbed.summary("kd").to_markdown() + "\n"
    saved = pd.read_csv(folder / "results.csv")
    assert len(saved) == len(undisturbed.runs)
    assert list(saved.columns) == [name for name in undisturbed.results if name != "run"]
    with pytest.raises(ValueError, match="kd, rkd"):
        undisturbed.save(tmp_path / "other", "rbf")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"benchmark": "mnits"}, "unknown benchmark 'mnits'; choose from digits, mnist"),
        ({"arms": ("rkd", "qkrd")}, "unknown arm 'qkrd'"),
        ({"arms": ()}, "at least one"),
        ({"scale": "desktop"}, "choose from smoke, laptop, paper"),
        ({"seeds": 0}, "seeds"),
        ({"device": "tpu"}, "device"),
        ({"epoch": 3}, "unknown setting 'epoch'"),
        ({"kernel_weight": 0.0}, "leave the arm out"),
        ({"seed": 7}, "seed is not set as a setting"),
        ({"jobs": 0}, "jobs"),
        ({"arms": ("qrkd",), "train_size": 2}, "angle term compares 3 samples"),
        (
            {"arms": ("qrkd",), "encoder": "truncate", "qubits": 6, "student_widths": (5, 2, 4)},
            "fewer than",
        ),
        ({"arms": ("rbf",), "kernel": "rbf"}, "arm 'rbf' would equal 'qrkd'"),
    ],
)
def test_mistakes_are_named_before_anything_is_computed(options, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        ql.compare(**{"benchmark": "digits", "runs_dir": tmp_path, **SMALL, **options})
    assert not list(tmp_path.iterdir())


# ---- records that travel


@pytest.fixture
def run(tmp_path):
    return store(tmp_path / "there", made_run("teacher", 3))[0]


def test_a_record_is_the_same_after_its_way(run, tmp_path):
    (run.path / ".DS_Store").write_text("x")  # what else lies there stays behind
    assert pack(run).keys() == {"record.json", "weights.safetensors"}
    arrived = unpack(pack(run), tmp_path / "here")
    assert arrived == run
    assert arrived.path == tmp_path / "here" / run.path.relative_to(tmp_path / "there")
    assert arrived.weights().keys() == run.weights().keys()
