"""Folders that are whole or not there, never half, whatever interrupts the writing."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from itertools import count, product
from pathlib import Path

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab import files as storage
from qrkd_lab.data import toy
from qrkd_lab.files import (
    RecordError,
    check_writable,
    file_sha256,
    parsed_json,
    read_file,
    replacing,
    runs_folder,
    write_folder,
)
from qrkd_lab.studies.provenance import write_csv
from qrkd_lab.studies.records import (
    Run,
    load_run,
    publish,
    published_runs,
    read_runs,
    run_key,
    save_run,
    scan_runs,
)
from qrkd_lab.studies.report import Report
from tests.hazards import FORKS, disk_that_ends, no_file_longer_than

SMALL = {"arms": ["scratch"], "seeds": 1, "scale": "smoke", "epochs": 1, "teacher_epochs": 1,
         "progress": False}  # fmt: skip
WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


def make_run(seed=0):
    settings = {"benchmark": "digits", "scale": "smoke", "arm": "qrkd", "seed": seed}
    return Run(
        settings=settings, key=run_key(settings, "ab12"), versions={}, device="cpu",
        data={"sha256": "ab12"}, metric={"name": "test_accuracy", "higher_is_better": True},
        parameters=8, history=[], metrics={"test_accuracy": 0.1}, seconds={"train": 1.0},
        finished="",
    )  # fmt: skip


# What lies in a folder


@pytest.mark.parametrize(
    "content",
    [
        b"", b'{"a": NaN}', b"[]", b"\xff",
        b'{"a":' * 9_000 + b"1" + b"}" * 9_000, b'{"a": ' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
def test_json_that_is_not_a_strict_dictionary_is_damage(content):
    with pytest.raises(ValueError, match="cannot be read|holds no dictionary"):
        parsed_json(content)
    assert parsed_json(b'{"a": [1, null, 0.5]}') == {"a": [1, None, 0.5]}


def test_what_the_system_refuses_is_no_damage(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    for read, place in product((file_sha256, read_file), (tmp_path, pipe)):
        with pytest.raises(RecordError, match="is no file.*keep it") as caught:
            read(place)
        assert "damaged" not in str(caught.value) and "elete" not in str(caught.value)


# What interrupts a save


def test_a_folder_is_written_once(tmp_path):
    target = tmp_path / "deep" / "folder"
    assert write_folder(target, {"a": b"1", "b": b"2"}) is True
    assert write_folder(target, {"a": b"other"}) is False
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {"a": b"1", "b": b"2"}
    assert [path.name for path in target.parent.iterdir()] == ["folder"]


def test_a_disk_that_fails_at_any_moment(tmp_path):
    for after in count():
        root = tmp_path / str(after)
        with disk_that_ends(after, errno.EROFS) as refused:
            try:
                save_run(make_run(), WEIGHTS, root)
            except RecordError as error:
                assert "cannot be written" in str(error) and "Read-only file" in str(error)
        left = list(root.glob("digits/smoke/*"))
        assert [load_run(path) for path in left] in ([], [make_run()])
        assert load_run(save_run(make_run(), WEIGHTS, root)) == make_run()
        if not refused:
            break
    assert left and after > 10, "too few calls failed: the test proved little"
    with no_file_longer_than(100_000), pytest.raises(RecordError, match="cannot be written"):
        save_run(make_run(), {"w": torch.zeros(100_000)}, tmp_path / "half way")
    assert not list((tmp_path / "half way" / "digits" / "smoke").iterdir())


def test_two_that_replace_a_file_at_once_do_not_meet(tmp_path):
    """A process number is no name: on a shared disk another machine's process may have it too."""
    path = tmp_path / "file"
    with replacing(path) as slow:
        slow.write(b"slow")
        with replacing(path) as quick:
            quick.write(b"quick")
        assert path.read_bytes() == b"quick"
    assert path.read_bytes() == b"slow" and list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_run(make_run(), WEIGHTS, tmp_path)
    assert not list((tmp_path / "digits" / "smoke").iterdir())


def test_the_first_record_is_kept_and_reported_where_it_is_damaged(tmp_path):
    path = save_run(make_run(), WEIGHTS, tmp_path)
    second = replace(make_run(), metrics={"test_accuracy": 0.9})
    assert save_run(second, WEIGHTS, tmp_path) == path and load_run(path) == make_run()
    (path / "record.json").write_text("{")
    with pytest.raises(RecordError, match="Delete this folder"):
        save_run(make_run(), WEIGHTS, tmp_path)


def race(barrier, root):
    for seed in range(6):
        barrier.wait()
        save_run(make_run(seed), {"w": torch.arange(500_000.0)}, root)


def test_processes_that_save_the_same_run(tmp_path):
    barrier = FORKS.Barrier(3)
    racers = [FORKS.Process(target=race, args=(barrier, tmp_path)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
        assert racer.exitcode == 0
    assert len([*(tmp_path / "digits" / "smoke").iterdir()]) == 6
    assert [run.settings["seed"] for run in read_runs(tmp_path)] == list(range(6))


class TestRunsFolder:
    """Records have one home, wherever one stands."""

    @pytest.fixture
    def clone(self, tmp_path, monkeypatch):
        (tmp_path / "clone" / "notebooks").mkdir(parents=True)
        (tmp_path / "clone" / "notebooks" / "00_quickstart.ipynb").touch()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.delenv("QRKD_RUNS_DIR", raising=False)
        monkeypatch.setattr(storage, "PROJECT", tmp_path / "clone")
        return tmp_path / "clone"

    @pytest.mark.parametrize("where", ["notebooks", "../elsewhere"])
    @pytest.mark.parametrize("chosen", [None, "", "mine", "/absolute", "~/mine"])
    def test_from_every_working_directory(self, clone, monkeypatch, where, chosen):
        monkeypatch.chdir(clone / where)
        monkeypatch.setenv("HOME", "/home/me")
        if chosen is not None:
            monkeypatch.setenv("QRKD_RUNS_DIR", chosen)
        expected = {
            "mine": clone / "mine", "/absolute": Path("/absolute"), "~/mine": Path("/home/me/mine")
        }  # fmt: skip
        home = expected.get(chosen, clone / "runs")
        assert Path(os.path.abspath(runs_folder())) == home
        assert runs_folder("") == runs_folder(None)
        assert runs_folder("given") == Path("given")

    @pytest.mark.parametrize("where", ["clone/notebooks", "elsewhere"])
    def test_of_an_installed_wheel(self, clone, monkeypatch, where):
        """It lies in no project: that of the working directory counts, if there is one."""
        monkeypatch.setattr(storage, "PROJECT", Path(os.sep, "site-packages"))
        monkeypatch.chdir(clone.parent / where)
        home = clone.parent / where if where == "elsewhere" else clone
        assert Path(os.path.abspath(runs_folder())) == home / "runs"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return ql.compare("digits", runs_dir=tmp_path_factory.mktemp("runs"), **SMALL)


class TestHome:
    """A leading ~ is the user's home, in every path that a user can give."""

    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        (tmp_path / "home").mkdir()
        (tmp_path / "here").mkdir()
        monkeypatch.chdir(tmp_path / "here")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        return tmp_path / "home"

    @pytest.mark.parametrize("path", ["~/a/b", Path("~/a/b")])
    def test_what_writes(self, home, study, path, tmp_path):
        run, place = study.runs[0], home / "a" / "b"
        writers = {
            "save_run": lambda: save_run(run, run.weights(), path),
            "study": lambda: study.save(path),
            "compare": lambda: ql.compare("digits", runs_dir=path, **SMALL),
            "publish": lambda: publish([run], path),
            "report": lambda: Report("text", {}).save(path),
            "toy text": lambda: toy.write_toy_text(path, 10),
            "toy reviews": lambda: toy.write_toy_reviews(path, 1),
            "csv": lambda: write_csv(study.results[["arm", "seed"]], path),
        }  # fmt: skip
        for name, write in writers.items():
            write()
            assert place.exists(), name
            place.rename(home / name)
            assert list(Path.cwd().iterdir()) == [], name

    def test_what_reads(self, home, study):
        shutil.copytree(study.runs[0].path.parents[2], home / "runs")
        count, run = len(study.runs), study.runs[0]
        assert len(read_runs("~/runs")) == len(published_runs(folder="~/runs")) == count
        assert len(scan_runs(["~/runs"])[0]) == count
        at = run.path.relative_to(run.path.parents[2])
        assert load_run(f"~/runs/{at}").key == run.key
        again = ql.compare("digits", runs_dir="~/runs", **SMALL)
        assert again.notes[0] == f"{count} runs reused, 0 trained; records in {home}/runs."


def test_a_folder_that_cannot_be_written_is_named_before_anything_long_begins(tmp_path):
    check_writable(tmp_path / "new" / "runs")
    assert list((tmp_path / "new" / "runs").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="file cannot be written: .*runs_dir"):
        check_writable(tmp_path / "file")
    with no_file_longer_than(10_000), pytest.raises(RecordError, match=r"Make room, .*\(out\)"):
        check_writable(tmp_path / "new", "out")
