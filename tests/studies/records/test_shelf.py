"""A shelf reads each record once, and says what it cannot read."""

from __future__ import annotations

import json
import os
import shutil

from qrkd_lab.studies import provenance as module
from qrkd_lab.studies.provenance import Shelf
from tests.studies.records.made_runs import keep, made_run


def test_what_was_read_is_not_read_again(tmp_path, monkeypatch):
    keep(tmp_path, *[made_run(arm, seed) for arm in ("kd", "rkd") for seed in (1, 0)])
    shelf, reads = Shelf(), []
    load = module.load_run
    monkeypatch.setattr(module, "load_run", lambda *a, **k: reads.append(a) or load(*a, **k))
    first = shelf.look([tmp_path])
    assert [run.name for run in first.runs] == [
        "kd seed 0",
        "kd seed 1",
        "rkd seed 0",
        "rkd seed 1",
    ]
    assert (first.new, len(reads)) == (4, 4)
    again = shelf.look([tmp_path])
    assert again.runs == first.runs and (again.new, again.gone, len(reads)) == (0, 0, 4)
    keep(tmp_path, made_run("qrkd"))
    shutil.rmtree(first.runs[0].path)
    third = shelf.look([tmp_path])
    assert (third.new, third.gone, len(third.runs), len(reads)) == (1, 1, 4, 5)


def test_a_record_that_is_changed_is_read_again_and_refused(tmp_path):
    good, bad = keep(tmp_path, made_run("kd"), made_run("rkd"))
    shelf = Shelf()
    assert not shelf.look([tmp_path]).problems
    record = json.loads((bad.path / "record.json").read_text())
    record["metrics"]["test_accuracy"] = 0.99
    (bad.path / "record.json").write_text(json.dumps(record))
    found = shelf.look([tmp_path])
    assert [run.key for run in found.runs] == [good.key]
    (said,) = found.problems
    assert "edited" in said and "Delete this folder and run again" in said
    (bad.path / "record.json").unlink()
    assert "cannot be read" in shelf.look([tmp_path]).problems[0]


def test_weights_may_be_missing_but_not_cut(tmp_path):
    one, two = keep(tmp_path, made_run("kd"), made_run("rkd"))
    (one.path / "weights.safetensors").unlink()
    (two.path / "weights.safetensors").write_bytes(b"cut")
    found = Shelf().look([tmp_path])
    assert [run.name for run in found.runs] == ["kd seed 0"] and len(found.problems) == 1


def test_folders_that_are_no_records_are_passed_over(tmp_path):
    (tmp_path / "own" / "digits" / "train").mkdir(parents=True)
    (tmp_path / "demo").mkdir()
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "digits" / "smoke" / ".kd-seed0-hidden").mkdir(parents=True)
    keep(tmp_path, made_run())
    found = Shelf().look([tmp_path])
    assert len(found.runs) == 1 and not found.problems


def test_missing_and_unreadable_folders(tmp_path, monkeypatch):
    keep(tmp_path / "runs", made_run(), made_run(benchmark="mnist"))
    (tmp_path / "file").write_text("no folder")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("mnist"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(module.os, "scandir", refuse)
    found = Shelf().look([tmp_path / "runs", tmp_path / "none", tmp_path / "file"])
    assert [run.settings["benchmark"] for run in found.runs] == ["digits"]
    assert found.missing == (tmp_path / "none",)
    assert "mnist cannot be read (Permission denied)" in found.problems[0]
    assert "file cannot be read (Not a directory)" in found.problems[1]


def test_folders_keep_their_order(tmp_path):
    keep(tmp_path / "z", made_run("rkd"))
    keep(tmp_path / "a", made_run("kd"), made_run("rkd"))
    found = Shelf().look([tmp_path / "z", tmp_path / "a"])
    assert [(r.path.parents[2].name, r.settings["arm"]) for r in found.runs] == [
        ("z", "rkd"), ("a", "kd"), ("a", "rkd")
    ]  # fmt: skip
