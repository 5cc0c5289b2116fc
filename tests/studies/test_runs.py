"""Records: what goes in comes back, and what was damaged is never counted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qrkd_lab.files import RecordError, sealed
from qrkd_lab.studies import records as runs
from qrkd_lab.studies.records import (
    Run,
    find_run,
    load_run,
    read_runs,
    run_key,
    save_run,
    scan_runs,
)
from tests.hazards import NO_FILES, REFUSALS, flipped, refusing

WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


def make_run(arm: str = "qrkd", seed: int = 0, **more: Any) -> Run:  # noqa: ANN401
    settings = {"benchmark": "digits", "scale": "smoke", "arm": arm, "seed": seed} | more
    return Run(
        settings=settings,
        key=run_key(settings, "ab12"),
        versions={"qrkd_lab": "0.1", "torch": "2.14"},
        device="cpu",
        data={"name": "digits", "source": "scikit-learn", "sha256": "ab12"},
        metric={"name": "test_accuracy", "higher_is_better": True},
        parameters=8,
        history=[{"epoch": 1, "task": 2.3, "total": 2.3, "validation_accuracy": 0.1}],
        metrics={"test_accuracy": 0.1},
        seconds={"train": 1.5, "evaluate": 0.5},
        finished="2026-11-23T06:30:00+00:00",
    )


def edit(path: Path, **changes: Any) -> None:  # noqa: ANN401
    record = json.loads((path / "record.json").read_text())
    (path / "record.json").write_text(json.dumps(record | changes))


# The key


def test_key_is_the_documented_hash() -> None:
    import hashlib

    text = '{"data":"ab","settings":{"arm":"kd","weight":0.1}}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert run_key({"weight": 0.1, "arm": "kd"}, "ab") == expected


finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.none() | st.booleans() | st.integers() | finite
flat = st.dictionaries(st.text(max_size=5), values | st.text(max_size=5), max_size=5)


@settings(max_examples=30, deadline=None)
@given(flat)
def test_key_ignores_order_and_survives_json(chosen: dict[str, Any]) -> None:
    turned = dict(reversed(chosen.items()))
    again = json.loads(json.dumps(chosen))
    assert run_key(chosen, "x") == run_key(turned, "x") == run_key(again, "x")


def test_key_follows_every_setting_and_the_data() -> None:
    keys = {
        run_key({"seed": 0, "lr": 0.1}, "a"),
        run_key({"seed": 1, "lr": 0.1}, "a"),
        run_key({"seed": 0, "lr": math.nextafter(0.1, 1)}, "a"),
        run_key({"seed": 0, "lr": 0.1}, "b"),
        run_key({"seed": 0, "lr": None}, "a"),
    }
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "settings.x is nan"),
        (-math.inf, "settings.x is -inf"),
        (np.float32(1), "settings.x is a float32"),
        (Path("a"), "settings.x is a "),
        ([1, {"y": math.inf}], r"settings.x\[1\].y is inf"),
        ({1: 2}, "settings.x is a dict"),
    ],
)
def test_key_refuses_what_json_cannot_hold(value: Any, says: str) -> None:  # noqa: ANN401
    with pytest.raises(RecordError, match=says):
        run_key({"x": value}, "ab")


# Round trip


def test_round_trip(tmp_path: Path) -> None:
    run = make_run()
    path = save_run(run, WEIGHTS, tmp_path)
    assert path == tmp_path / "digits" / "smoke" / f"qrkd-seed0-{run.key}"
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    found = load_run(path)
    assert found == run and found.path == path
    assert found.name == "qrkd seed 0"
    assert repr(found) == (
        f"Run(qrkd seed 0, digits smoke, test_accuracy 0.1, 1 epochs, key {run.key})"
    )
    weights = found.weights()
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)


def test_an_unsaved_run_has_no_weights() -> None:
    with pytest.raises(RecordError, match="not saved"):
        make_run().weights()


def test_record_is_strict_json_of_format_1(tmp_path: Path) -> None:
    path = save_run(make_run(), WEIGHTS, tmp_path)
    record = json.loads((path / "record.json").read_text(), parse_constant=pytest.fail)
    assert record["format"] == 1
    assert set(record) == {"format", "key", "settings", "versions", "device", "data", "metric",
                           "parameters", "history", "metrics", "seconds", "finished",
                           "weights_sha256", "record_sha256"}  # fmt: skip


def test_a_diverged_run_is_refused_by_its_place(tmp_path: Path) -> None:
    run = replace(make_run(), history=[{"epoch": 1, "kernel": math.nan}])
    with pytest.raises(RecordError, match=r"run.history\[0\].kernel is nan"):
        save_run(run, WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_foreign_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="has key 0000"):
        save_run(replace(make_run(), key="0" * 16), WEIGHTS, tmp_path)


@pytest.mark.parametrize("benchmark", ["../up", "a/b", "", ".hidden", None])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, benchmark: str | None) -> None:
    with pytest.raises(RecordError, match="cannot name a folder|must hold"):
        save_run(make_run(benchmark=benchmark), WEIGHTS, tmp_path)


# Finding and reading


def test_find_and_read(tmp_path: Path) -> None:
    assert read_runs(tmp_path / "nowhere") == []
    wanted = [make_run(a, s) for a in ("kd", "qrkd") for s in (0, 2, 10)]
    for run in reversed(wanted):
        save_run(run, WEIGHTS, tmp_path)
    other = make_run(scale="laptop")
    save_run(other, WEIGHTS, tmp_path)
    assert read_runs(tmp_path, "digits", "smoke") == wanted  # 10 after 2
    assert read_runs(tmp_path) == [other, *wanted]
    assert read_runs(tmp_path, benchmark="mnist") == []
    assert find_run(tmp_path, wanted[0].settings, "ab12") == wanted[0]
    assert find_run(tmp_path, make_run("kd", 1).settings, "ab12") is None
    assert find_run(tmp_path, wanted[0].settings, "cd") is None


def cut_json(path: Path) -> None:
    text = (path / "record.json").read_text()
    (path / "record.json").write_text(text[: len(text) // 2])


def nan_json(path: Path) -> None:
    edit(path, metrics={"test_accuracy": math.nan})


def cut_weights(path: Path) -> None:
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[:-4])


def flip_weights(path: Path) -> None:
    content = bytearray((path / "weights.safetensors").read_bytes())
    content[-1] ^= 0x10
    (path / "weights.safetensors").write_bytes(content)


def drop(path: Path, *names: str) -> None:
    record = json.loads((path / "record.json").read_text())
    kept = {name: value for name, value in record.items() if name not in names}
    (path / "record.json").write_text(json.dumps(kept))


DAMAGE = {
    "other metric": (lambda p: edit(p, metrics={"test_accuracy": 0.9}), "edited"),
    "other history": (lambda p: edit(p, history=[]), "edited"),
    "no metrics": (lambda p: edit(p, metrics={}), "no usable metrics"),
    "no history": (lambda p: edit(p, history=None), "no usable history"),
    "odd history": (lambda p: edit(p, history=[1]), "no usable history"),
    "word as metric": (lambda p: edit(p, metrics={"test_accuracy": "x"}), "no usable metrics"),
    "odd metric": (lambda p: edit(p, metric=[]), "no usable metric"),
    "odd name": (lambda p: edit(p, metric={"name": [1]}), "no usable metrics"),
    "odd seconds": (lambda p: edit(p, seconds={"train": None}), "no usable seconds"),
    "odd parameters": (lambda p: edit(p, parameters="8"), "no usable parameters"),
    "odd device": (lambda p: edit(p, device=None), "no usable device"),
    "odd key": (lambda p: edit(p, key=None), "no usable key"),
    "odd benchmark": (lambda p: edit(p, settings=dict(make_run(benchmark=3).settings)), "usable"),
    "odd seed": (lambda p: edit(p, settings=dict(make_run(seed="1").settings)), "usable"),
    "one digest": (lambda p: drop(p, "record_sha256"), "edited"),
    "odd digest": (lambda p: edit(p, weights_sha256=None), "edited"),
    "flipped weights": (flip_weights, "weights.safetensors was changed"),
    "cut": (cut_json, "record.json cannot be read"),
    "nan": (nan_json, "is nan"),
    "list": (lambda p: (p / "record.json").write_text("[]"), "no dictionary"),
    "no record": (lambda p: (p / "record.json").unlink(), "record.json is missing"),
    "no weights": (lambda p: (p / "weights.safetensors").unlink(), "weights.safetensors is miss"),
    "cut weights": (cut_weights, "weights.safetensors was changed or cut"),
    "lacks": (lambda p: edit(p, settings=None), "no usable settings"),
    "other settings": (lambda p: edit(p, settings=dict(make_run(seed=9).settings)), "edited"),
    "other key": (lambda p: edit(p, key="0" * 16), "edited"),
    "other data": (lambda p: edit(p, data={"sha256": "other"}), "edited"),
}


def test_an_edited_record_without_its_digests_is_refused(tmp_path: Path) -> None:
    """It may be one of an early version, and whole: nobody is told to delete it."""
    path = save_run(make_run(), WEIGHTS, tmp_path)
    edit(path, metrics={"test_accuracy": 0.99})
    drop(path, "weights_sha256", "record_sha256")
    with pytest.raises(RecordError, match="has no digests") as caught:
        load_run(path)
    assert "damaged" not in str(caught.value) and "elete" not in str(caught.value)
    with pytest.warns(UserWarning, match="has no digests"):
        assert read_runs(tmp_path) == []


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
def test_a_turned_bit_changes_no_number(tmp_path: Path, name: str) -> None:
    run = make_run()
    path = save_run(run, WEIGHTS, tmp_path)
    whole, kept = (path / name).read_bytes(), 0
    for content in (*flipped(whole, 150), whole[:-1], b"", whole + b"x", whole * 2):
        (path / name).write_bytes(content)
        try:
            found = load_run(path)
        except RecordError:
            continue
        kept += 1
        assert found == run and torch.equal(found.weights()["layer.bias"], WEIGHTS["layer.bias"])
    assert kept < 10, "only white space says nothing"


def test_weights_that_changed_after_their_record_was_read_are_noticed(tmp_path: Path) -> None:
    run = load_run(save_run(make_run(), WEIGHTS, tmp_path))
    flip_weights(run.path)
    with pytest.raises(RecordError, match="weights.safetensors was changed"):
        run.weights()


def forge(path: Path, changes: dict[str, Any]) -> None:
    """Change a record, and give it the digest of what it says now."""
    record = json.loads((path / "record.json").read_text()) | changes
    del record["record_sha256"]
    (path / "record.json").write_text(json.dumps(sealed(record, "record_sha256")))


ODD = {
    "no metric": {"metric": {}},
    "metric without direction": {"metric": {"name": "test_accuracy"}},
    "direction as text": {"metric": {"name": "test_accuracy", "higher_is_better": "yes"}},
    "metric of another name": {"metric": {"name": "x", "higher_is_better": True}},
    "huge metric": {"metrics": {"test_accuracy": 10**400}},
    "truth as metric": {"metrics": {"test_accuracy": True}},
    "metric by a column's name": {"metrics": {"test_accuracy": 0.1, "arm": 0.2}},
    "no seconds": {"seconds": {}},
    "seconds as text": {"seconds": {"train": "1"}},
    "data without hash": {"data": {"name": "digits"}},
    "hash as number": {"data": {"sha256": 3}},
    "source as list": {"data": {"sha256": "ab12", "source": ["x"]}},
    "sizes as text": {"data": {"sha256": "ab12", "train": "many"}},
    "history as text": {"history": ["x"]},
    "history without epoch": {"history": [{"task": 2.3}]},
    "text in history": {"history": [{"epoch": 1, "task": "x"}]},
    "huge epoch": {"history": [{"epoch": 10**30}]},
    "versions as numbers": {"versions": {"torch": 2.1}},
    "huge parameters": {"parameters": 10**30},
    "finished as number": {"finished": 3},
    "no settings": {"settings": {}},
}


@pytest.mark.parametrize("kind", ODD)
def test_one_odd_record_is_left_out_by_name_and_stops_nobody(tmp_path: Path, kind: str) -> None:
    """It is whole by its digests, so nobody is told to delete it."""
    good = make_run(seed=0)
    save_run(good, WEIGHTS, tmp_path)
    path = save_run(make_run(seed=1), WEIGHTS, tmp_path)
    forge(path, ODD[kind])
    with pytest.raises(RecordError, match="cannot be used: record.json has no usable") as caught:
        load_run(path)
    assert str(path) in str(caught.value) and "elete" not in str(caught.value)
    with pytest.warns(UserWarning, match=path.name):
        assert read_runs(tmp_path) == [good]
    found, problems = scan_runs([tmp_path])
    assert found == [good] and path.name in problems[0]
    if kind != "no settings":  # what cannot be read again cannot be written either
        with pytest.raises(RecordError, match="cannot be recorded"):
            save_run(replace(make_run(seed=2), **ODD[kind]), WEIGHTS, tmp_path)


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_stops_nobody(tmp_path: Path, name: str, kind: str) -> None:
    good = make_run(seed=0)
    save_run(good, WEIGHTS, tmp_path)
    path = save_run(make_run(seed=1), WEIGHTS, tmp_path)
    (path / name).unlink()
    NO_FILES[kind](path / name)
    with pytest.warns(UserWarning, match=f"{name} is a {kind}"):
        assert read_runs(tmp_path) == [good]


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
@pytest.mark.parametrize("code", REFUSALS)
def test_a_record_that_may_be_whole_is_named_and_kept(tmp_path: Path, name: str, code: int) -> None:
    run = make_run()
    path = save_run(run, WEIGHTS, tmp_path)
    with refusing(name, code), pytest.warns(UserWarning) as caught:
        assert read_runs(tmp_path) == []
        with pytest.raises(RecordError, match="keep it"):
            find_run(tmp_path, run.settings, "ab12")
    said = str(caught[0].message)
    assert str(path / name) in said and "keep it" in said
    assert "damaged" not in said and "elete" not in said
    assert read_runs(tmp_path) == [run], "it is tried again"


def test_a_folder_that_cannot_be_looked_into_is_named(tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ANN401
    save_run(make_run(), WEIGHTS, tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert len(read_runs(tmp_path)) == 1
    real = os.lstat

    def refuse(path: Any, **named: Any) -> Any:  # noqa: ANN401
        if "qrkd-seed0" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **named)

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(RecordError, match="Permission denied. It may be whole"):
        find_run(tmp_path, make_run().settings, "ab12")


def test_the_digests_are_those_of_the_files(tmp_path: Path) -> None:
    import hashlib

    path = save_run(make_run(), WEIGHTS, tmp_path)
    record = json.loads((path / "record.json").read_text())
    content = (path / "weights.safetensors").read_bytes()
    assert record["weights_sha256"] == hashlib.sha256(content).hexdigest()
    digest = record.pop("record_sha256")
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "change",
    [{"metrics": {}}, {"history": None}, {"settings": None}, {"data": []}, {"parameters": "8"},
     {"settings": {"benchmark": 3, "scale": "smoke", "arm": "kd", "seed": 0}}],
)  # fmt: skip
def test_a_run_of_wrong_types_is_not_saved(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="cannot be recorded|cannot name a folder"):
        save_run(replace(make_run(), **change), WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("versions", [[], "x", None])
def test_another_format_with_odd_versions(tmp_path: Path, versions: Any) -> None:  # noqa: ANN401
    path = save_run(make_run(), WEIGHTS, tmp_path)
    edit(path, format=2, versions=versions)
    with pytest.raises(RecordError, match="of unknown version"):
        load_run(path)


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_named_and_never_counted(tmp_path: Path, kind: str) -> None:
    good, bad = make_run(seed=0), make_run(seed=1)
    save_run(good, WEIGHTS, tmp_path)
    path = save_run(bad, WEIGHTS, tmp_path)
    damage, says = DAMAGE[kind]
    damage(path)
    with pytest.raises(RecordError, match=says) as caught:
        load_run(path)
    assert str(path) in str(caught.value)
    assert "Delete this folder and run again" in str(caught.value)
    with pytest.raises(RecordError, match=says):
        find_run(tmp_path, bad.settings, "ab12")
    with pytest.warns(UserWarning, match=path.name):
        assert read_runs(tmp_path) == [good]


def test_a_renamed_folder_is_refused(tmp_path: Path) -> None:
    path = save_run(make_run(), WEIGHTS, tmp_path)
    moved = path.rename(path.with_name("kd-seed0-0123456789abcdef"))
    with pytest.raises(RecordError, match="edited or moved"):
        load_run(moved)


def test_another_format_names_its_writer(tmp_path: Path) -> None:
    path = save_run(make_run(), WEIGHTS, tmp_path)
    edit(path, format=2, versions={"qrkd_lab": "9.9"})
    with pytest.raises(RecordError, match=r"qrkd_lab 9.9 in format 2; this version reads format 1"):
        load_run(path)


def test_versions_import_nothing_heavy() -> None:
    code = (
        "import sys, qrkd_lab; before = set(sys.modules); "
        "from qrkd_lab.studies.records import versions; print(versions()['torch']); "
        "heavy = {'torch', 'pandas', 'pennylane', 'safetensors'} & (set(sys.modules) - before); "
        "assert not heavy, heavy"
    )
    root = str(Path(runs.__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().split("+")[0] == str(torch.__version__).split("+")[0]
    names = {"qrkd_lab", "python", "platform", "cpu", *runs.LIBRARIES}
    assert set(runs.versions()) == names and "transformers" in names


def test_folders_that_are_no_records_are_passed_over(tmp_path, recwarn):
    (tmp_path / "own" / "pictures" / "train").mkdir(parents=True)
    assert read_runs(tmp_path) == [] and not recwarn.list
    (tmp_path / "own" / "pictures" / ("kd-seed0-" + 16 * "a")).mkdir()
    with pytest.warns(UserWarning, match="left out of the results"):
        assert read_runs(tmp_path) == []
