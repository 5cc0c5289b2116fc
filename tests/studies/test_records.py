"""Records: what goes in comes back, and what was damaged is never counted."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import qrkd_lab as ql
from qrkd_lab.cli import main
from qrkd_lab.files import RecordError, canonical_sha256, file_sha256
from qrkd_lab.studies import records
from qrkd_lab.studies.arms import BENCHMARKS
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.records import (
    PUBLISHED,
    Run,
    find_run,
    has_weights,
    load_run,
    pack_weights,
    publish,
    published_runs,
    published_seeds,
    read_runs,
    read_weights,
    run_key,
    save_run,
)
from tests.hazards import flipped
from tests.studies.made_runs import keep, made_run

RECORD, FILE = "record.json", "weights.safetensors"
WEIGHTS = {"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}


def make_run(arm="qrkd", seed=0, **more):
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


def held_in(path):
    return json.loads((path / RECORD).read_text())


def edit(path, without=(), **changes):
    """Change what a record says, and leave some of it out."""
    kept = {name: value for name, value in held_in(path).items() if name not in without}
    (path / RECORD).write_text(json.dumps(kept | changes))


def settings_of(**changes):
    return dict(make_run(**changes).settings)


# The key


@pytest.mark.parametrize(
    "chosen",
    [{}, {"b": True, "a": None}, {"é 漢": -0.0, "": "é", "x": 5e-324}, {"n": -(10**30), "d": 0.3}],
    ids=str,
)
def test_key_is_the_documented_hash_whatever_the_order(chosen):
    held = {"data": "x", "settings": chosen}
    text = json.dumps(held, sort_keys=True, separators=(",", ":"))
    key = run_key(dict(reversed(chosen.items())), "x")
    assert key == run_key(json.loads(json.dumps(chosen)), "x")
    assert key == hashlib.sha256(text.encode()).hexdigest()[:16]
    assert key not in (run_key(chosen, "y"), run_key(chosen | {"more": None}, "x"))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (math.nan, "settings cannot be recorded: Out of range float"),
        (np.float32(1), "settings cannot be recorded: .* float32"),
        ([1, {"y": math.inf}], "settings cannot be recorded: Out of range float"),
    ],
)
def test_key_refuses_what_json_cannot_hold(value, says):
    with pytest.raises(RecordError, match=says):
        run_key({"x": value}, "ab")


# Round trip


def test_round_trip_through_strict_json_with_the_digests_of_its_files(tmp_path):
    run = make_run()
    path = save_run(run, WEIGHTS, tmp_path)
    assert path == tmp_path / "digits" / "smoke" / f"qrkd-seed0-{run.key}"
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]
    found = load_run(path)
    assert found == run and found.path == path
    assert repr(found) == (
        f"Run(qrkd seed 0, digits smoke, test_accuracy 0.1, 1 epochs, key {run.key})"
    )
    weights = found.weights()
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[name], WEIGHTS[name]) for name in WEIGHTS)
    record = json.loads((path / RECORD).read_text(), parse_constant=pytest.fail)
    assert record["format"] == 2
    assert set(record) == {"format", *records.KINDS, "record_sha256"}
    assert record["weights_sha256"] == file_sha256(path / FILE)
    digest = record.pop("record_sha256")
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(text.encode()).hexdigest()
    DAMAGE["flipped weights"][0](path)
    with pytest.raises(RecordError, match="weights.safetensors was changed"):
        found.weights()  # checked again: they changed after the record was read


def test_what_is_no_record_is_not_saved(tmp_path):
    names = [{"settings": settings_of(benchmark=name)} for name in ("../up", "a/b", "", ".x", 3)]
    for changes, says in (
        (
            {"history": [{"epoch": 1, "kernel": math.nan}]},
            "run cannot be recorded: Out of range float",
        ),
        ({"key": "0" * 16}, "key 0000"),
        *((each, "cannot name a folder|must hold") for each in names),
    ):
        with pytest.raises(RecordError, match=says):
            save_run(replace(make_run(), **changes), WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


# Finding and reading


def test_find_and_read(tmp_path, recwarn):
    assert read_runs(tmp_path / "nowhere") == []
    wanted = [make_run(a, s) for a in ("kd", "qrkd") for s in (0, 2, 10)]
    for run in reversed(wanted):
        save_run(run, WEIGHTS, tmp_path)
    other = make_run(scale="laptop")
    save_run(other, WEIGHTS, tmp_path)
    (tmp_path / "own" / "pictures" / "train").mkdir(parents=True)  # no record
    assert read_runs(tmp_path, "digits", "smoke") == wanted  # 10 after 2
    assert read_runs(tmp_path) == [other, *wanted]
    assert read_runs(tmp_path, benchmark="mnist") == []
    assert find_run(tmp_path, wanted[0].settings, "ab12") == wanted[0]
    assert find_run(tmp_path, make_run("kd", 1).settings, "ab12") is None
    assert find_run(tmp_path, wanted[0].settings, "cd") is None
    assert not recwarn.list


def content(name, change):
    """Replaces a file's content by a function of it."""
    return lambda path: (path / name).write_bytes(change((path / name).read_bytes()))


DAMAGE = {
    "other metric": (lambda p: edit(p, metrics={"test_accuracy": 0.9}), "edited"),
    "other settings": (lambda p: edit(p, settings=settings_of(seed=9)), "edited"),
    "one digest": (lambda p: edit(p, ["record_sha256"]), "edited"),
    "odd digest": (lambda p: edit(p, weights_sha256=None), "edited"),
    "nan": (lambda p: edit(p, metrics={"test_accuracy": math.nan}), "NaN is no number"),
    "cut": (content(RECORD, lambda held: held[: len(held) // 2]), "record.json cannot be read"),
    "list": (content(RECORD, lambda _: b"[]"), "no dictionary"),
    "no weights": (lambda p: (p / FILE).unlink(), "weights.safetensors is miss"),
    "flipped weights": (
        content(FILE, lambda held: held[:-1] + bytes([held[-1] ^ 16])), "safetensors was changed",
    ),
}  # fmt: skip
ODD = {
    "no metrics": {"metrics": {}},
    "metric without direction": {"metric": {"name": "test_accuracy"}},
    "metric of another name": {"metric": {"name": "x", "higher_is_better": True}},
    "metric that is text": {"metrics": {"test_accuracy": "0.1"}},
    "data without hash": {"data": {"name": "digits"}},
    "history without epoch": {"history": [{"task": 2.3}]},
    "seed as text": {"settings": settings_of(seed="1")},
    "no device": {"device": None},
}


@pytest.mark.parametrize("name", [RECORD, FILE])
def test_a_turned_bit_changes_no_number(tmp_path, name):
    run = make_run()
    path = save_run(run, WEIGHTS, tmp_path)
    whole, kept = (path / name).read_bytes(), 0
    for content in (*flipped(whole, 80), whole[:-1], b"", whole + b"x", whole * 2):
        (path / name).write_bytes(content)
        try:
            found = load_run(path)
        except RecordError:
            continue
        kept += 1
        assert found == run and torch.equal(found.weights()["layer.bias"], WEIGHTS["layer.bias"])
    assert kept < 10, "only white space says nothing"


@pytest.mark.parametrize("kind", ODD)
def test_a_run_that_lacks_something_is_not_recorded(tmp_path, kind):
    with pytest.raises(RecordError, match="cannot be recorded|must hold"):
        save_run(replace(make_run(), **ODD[kind]), WEIGHTS, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [RECORD, FILE])
def test_what_cannot_be_read_is_named_kept_and_stops_nobody(tmp_path, name, monkeypatch):
    good, run = make_run(seed=0), make_run(seed=1)
    save_run(good, WEIGHTS, tmp_path)
    path, read = save_run(run, WEIGHTS, tmp_path), Path.read_bytes

    def refuse(self):
        if self == path / name:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    with monkeypatch.context() as patch, pytest.warns(UserWarning) as caught:
        patch.setattr(Path, "read_bytes", refuse)
        assert read_runs(tmp_path) == [good]
    said = str(caught[0].message)
    assert str(path / name) in said and "keep it" in said
    assert "damaged" not in said and "elete" not in said
    assert read_runs(tmp_path) == [good, run], "it is tried again"


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_named_and_never_counted(tmp_path, kind):
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


def test_what_may_be_whole_is_refused_with_other_advice_than_to_delete_it(tmp_path):
    path = save_run(make_run(), WEIGHTS, tmp_path)
    before = (path / RECORD).read_bytes()
    edit(path, format=3)
    with pytest.raises(RecordError, match="format 3, where this version has format 2.* move it"):
        load_run(path)
    (path / RECORD).write_bytes(before)
    with pytest.raises(RecordError, match="edited or moved"):
        load_run(path.rename(path.with_name("kd-seed0-0123456789abcdef")))


# Weights


def test_awkward_weights_come_back_equal(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    tied = {"wte": base, "head": base, "turned": base.T, "row": base[1], "none": torch.zeros(0)}
    tied["half"] = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(pack_weights(tied))
    weights = read_weights(path)
    assert weights.keys() == tied.keys()
    assert all(torch.equal(weights[n], t) and weights[n].dtype == t.dtype for n, t in tied.items())
    with safe_open(path, "pt") as file:
        assert ("wte" in file.keys()) != ("head" in file.keys()), "stored once"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecordError, match="missing or cut .* Delete this folder and run again"):
        read_weights(path)


# Published records


SIZES = {"train_size": 64, "validation_size": 100}
SMALL = SIZES | {"scale": "smoke", "progress": False}
ARMS = ("scratch", "rkd")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return ql.compare("digits", ARMS, seeds=2, runs_dir=tmp_path_factory.mktemp("runs"), **SMALL)


@pytest.fixture
def kit(study, tmp_path, monkeypatch):
    """The study's records as if they had come with the kit."""
    assert publish(study.runs, tmp_path) == len(study.runs) == 6
    assert publish(study.runs, tmp_path) == 0, "what is there is kept"
    monkeypatch.setattr(published_seeds, "__defaults__", (tmp_path,))
    return tmp_path


def test_a_published_study_needs_no_data_and_says_where_it_is_from(study, kit, monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.compare.load_benchmark", pytest.fail)
    read = ql.compare("digits", ARMS, seeds=2, published=True, **SMALL)
    assert [run.metrics for run in read.runs] == [run.metrics for run in study.runs]
    assert read.notes[0] == "6 runs came with the kit, trained elsewhere."
    asked = benchmark_settings("digits", "smoke", **SIZES)
    assert set(published_seeds([asked.replace(arm="rkd")], [0, 7])) == {0}
    assert published_seeds([asked.replace(arm="rkd", distance_weight=9.0)], [0]) == {}


def test_a_seed_is_taken_whole_or_not_at_all(kit, tmp_path, capsys, monkeypatch):
    def noted(arms=ARMS, seeds=1, published=True):
        options = SMALL | {"runs_dir": tmp_path / "own", "published": published}
        return ql.compare("digits", arms, seeds, **options).notes[0]

    # no seed has kd: its students learn from one teacher with it
    assert noted((*ARMS, "kd")).startswith("0 runs reused, 4 trained")
    assert noted(seeds=3).startswith("6 runs came with the kit, trained elsewhere; 0 runs reused")
    assert "digits: 1 of 3 seeds did not come with the kit" in capsys.readouterr().err
    assert "came with the kit" not in noted(published=False)
    noted(seeds=2)
    assert "did not come" not in capsys.readouterr().err
    monkeypatch.setattr("qrkd_lab.studies.compare.PUBLISHED", tmp_path / "results")
    noted(["scratch"], [7])
    assert f"there is no {tmp_path / 'results'}" in capsys.readouterr().err


def test_large_weights_stay_behind_and_the_record_says_so(study, tmp_path, capsys):
    publish(study.runs[:1], tmp_path, largest=10)
    (run,) = published_runs(folder=tmp_path)
    assert run.metrics == study.runs[0].metrics and not has_weights(run)
    with pytest.raises(RecordError, match="published without its weights: train it"):
        run.weights()
    with pytest.raises(RecordError, match="missing"):
        load_run(run.path)  # in a folder of one's own runs that is damage
    assert main(["export", str(run.path), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "was published without its weights" in said and "damaged" not in said
    edit(run.path, metrics={"test_accuracy": 1.0})
    with pytest.warns(UserWarning, match="was edited"):
        assert published_runs(folder=tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said_with_advice(study, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot be written: .* give a folder that can be"):
        publish(study.runs, tmp_path / "file")
    asked = ["compare", "digits", "--arms", "rkd", "--scale", "smoke"]
    assert main([*asked, "--out", str(tmp_path / "file")]) == 1, "before anything is trained"
    assert "give a folder that can be written (out)" in capsys.readouterr().err


def test_what_is_published_from_a_folder_of_two_kinds_has_the_default_settings(tmp_path, capsys):
    own = [made_run(arm, seed) for arm in ("rkd", "qrkd") for seed in (0, 1)]
    keep(tmp_path / "runs", *own, made_run("qrkd", 0, kernel_weight=10.0))
    asked = ["publish", "digits", "--scale", "smoke", "--runs-dir", str(tmp_path / "runs")]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    assert "4 of 4 records copied" in (said := capsys.readouterr().out)
    assert "1 of other than the default settings left out" in said
    assert {run.key for run in published_runs(folder=tmp_path / "out")} == {r.key for r in own}


KEPT = {  # by benchmark and scale: how many records, and a digest of their places and files
    "cifar10/few-labels": (377, "49b4c2b48097ba71"),
    "cifar10/laptop": (65, "05c56875ac8753d2"),
    "doses/mnist/few-labels": (290, "24f81acb39749c4d"),
    "imdb/laptop": (24, "cff63615b3596a4a"),
    "mnist/few-labels": (377, "6147e14d7c3b4ba0"),
    "mnist/laptop": (65, "7895c0c49b3a456e"),
    "ptb/laptop": (24, "5fe65438502e207f"),
    "wikitext2/laptop": (24, "e47d2c0db7514222"),
}


@pytest.mark.skipif(not PUBLISHED.exists(), reason="it is not a checkout")
def test_no_published_record_was_changed():
    """Keys are in the names of the folders: they follow from settings and data, now as then."""
    found = {}
    for folder in sorted({path.parent for path in PUBLISHED.glob("**/teacher-*")}):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        held = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
        count = sum(path.name == RECORD for path in files)
        found[folder.relative_to(PUBLISHED).as_posix()] = count, canonical_sha256(held)[:16]
    assert found == KEPT


@pytest.mark.skipif(not PUBLISHED.exists(), reason="it is not a checkout")
def test_the_records_of_the_kit_are_whole_and_of_its_own_default_settings():
    runs = published_runs()
    assert len(runs) == sum(count for place, (count, _) in KEPT.items() if place[:5] != "doses")
    for run in runs:
        name, scale, arm, seed = (run.settings[n] for n in ("benchmark", "scale", "arm", "seed"))
        own = benchmark_settings(name, scale).replace(arm=arm, seed=seed).effective()
        assert name in BENCHMARKS and dict(run.settings) == own, run.path
