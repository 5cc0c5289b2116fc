"""Published records: read without data and without weights, whole seeds or nothing."""

from __future__ import annotations

import json

import pytest

import qrkd_lab as ql
from qrkd_lab.cli import main
from qrkd_lab.files import RecordError, canonical_sha256, file_sha256
from qrkd_lab.studies import records as published
from qrkd_lab.studies.benchmarks import BENCHMARKS, benchmark_settings
from qrkd_lab.studies.records import has_weights, load_run, publish, published_runs, published_seeds
from tests.studies.records.made_runs import keep, made_run

SMALL = {"scale": "smoke", "train_size": 128, "validation_size": 100, "progress": False}
ARMS = ("scratch", "rkd")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return ql.compare("digits", ARMS, seeds=2, runs_dir=tmp_path_factory.mktemp("runs"), **SMALL)


@pytest.fixture
def shelf(study, tmp_path, monkeypatch):
    """The study's records as if they had come with the kit."""
    assert publish(study.runs, tmp_path) == len(study.runs)
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    monkeypatch.setattr(published_seeds, "__defaults__", (tmp_path,))
    return tmp_path


def forbid_loading(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("published records need no data")

    monkeypatch.setattr("qrkd_lab.studies.compare.load_benchmark", refuse)


def test_a_published_study_needs_no_data_and_says_where_it_is_from(study, shelf, monkeypatch):
    forbid_loading(monkeypatch)
    read = ql.compare("digits", ARMS, seeds=2, published=True, **SMALL)
    assert [run.metrics for run in read.runs] == [run.metrics for run in study.runs]
    assert read.notes[0] == "6 runs came with the kit, trained elsewhere."


def test_by_default_nothing_published_is_taken(shelf, tmp_path):
    own = ql.compare("digits", ARMS, seeds=1, runs_dir=tmp_path / "own", **SMALL)
    assert "0 runs reused, 3 trained" in own.notes[0]


def test_a_seed_is_taken_whole_or_not_at_all(study, shelf, tmp_path):
    more = ("scratch", "rkd", "kd")  # no seed has kd: its students learn from one teacher with it
    mixed = ql.compare("digits", more, seeds=1, published=True, runs_dir=tmp_path / "own", **SMALL)
    assert mixed.notes[0].startswith("0 runs reused, 4 trained")
    third = ql.compare("digits", ARMS, seeds=3, published=True, runs_dir=tmp_path / "own", **SMALL)
    assert third.notes[0].startswith("6 runs came with the kit, trained elsewhere; 0 runs reused")
    assert len(third.runs) == 9


@pytest.mark.parametrize("progress", [True, False])
def test_what_did_not_come_is_said_before_it_is_trained(shelf, tmp_path, capsys, progress):
    small = SMALL | {"progress": progress}
    ql.compare("digits", ARMS, seeds=3, published=True, runs_dir=tmp_path / "own", **small)
    said = capsys.readouterr().err
    at = said.find("digits: 1 of 3 seeds did not come with the kit")
    assert at >= 0 and (not progress or at < said.find("trained in"))
    ql.compare("digits", ARMS, seeds=2, published=True, **small)
    assert "did not come" not in capsys.readouterr().err


def test_an_installation_without_published_records_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("qrkd_lab.studies.compare.PUBLISHED", tmp_path / "results")
    ql.compare("digits", ["scratch"], seeds=[7], published=True, runs_dir=tmp_path, **SMALL)
    assert f"there is no {tmp_path / 'results'}" in capsys.readouterr().err


def test_a_record_without_weights_cannot_be_exported_and_is_not_called_damaged(tmp_path, capsys):
    run = next(run for run in published_runs("ptb") if run.settings["arm"] == "qrkd")
    assert main(["export", str(run.path), str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "was published without its weights" in said and "damaged" not in said
    assert main(["export", str(tmp_path / "none"), str(tmp_path / "out")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said_with_advice(study, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot be written: .* give a folder that can be"):
        publish(study.runs, tmp_path / "file")
    asked = ["compare", "digits", "--arms", "rkd", "--scale", "smoke"]
    assert main([*asked, "--out", str(tmp_path / "file")]) == 1, "before anything is trained"
    assert "give a folder that can be written (out)" in capsys.readouterr().err


def test_other_settings_are_other_runs(shelf):
    asked = benchmark_settings("digits", "smoke", train_size=128, validation_size=100)
    assert set(published_seeds([asked.replace(arm="rkd")], [0, 7])) == {0}
    other = asked.replace(arm="rkd", distance_weight=9.0)
    assert published_seeds([other], [0]) == {}


def test_large_weights_stay_behind_and_the_record_says_so(study, tmp_path):
    publish(study.runs[:1], tmp_path, largest=10)
    (run,) = published_runs(folder=tmp_path)
    assert run.metrics == study.runs[0].metrics and not has_weights(run)
    with pytest.raises(RecordError, match="published without its weights: train it"):
        run.weights()
    with pytest.raises(RecordError, match="missing"):
        load_run(run.path)  # in a folder of one's own runs that is damage


def test_what_was_edited_is_not_read(study, tmp_path):
    publish(study.runs[:1], tmp_path, largest=10)
    (file,) = tmp_path.glob("*/*/*/record.json")
    record = json.loads(file.read_text())
    record["metrics"]["test_accuracy"] = 1.0
    file.write_text(json.dumps(record))
    with pytest.warns(UserWarning, match="was edited"):
        assert published_runs(folder=tmp_path) == []


def test_what_is_published_from_a_folder_of_two_kinds_has_the_default_settings(tmp_path, capsys):
    own = [made_run(arm, seed) for arm in ("rkd", "qrkd") for seed in (0, 1)]
    keep(tmp_path / "runs", *own, made_run("qrkd", 0, kernel_weight=10.0))
    asked = ["publish", "digits", "--scale", "smoke", "--runs-dir", str(tmp_path / "runs")]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    assert "4 of 4 records copied" in (said := capsys.readouterr().out)
    assert "1 of other than the default settings left out" in said
    assert {run.key for run in published_runs(folder=tmp_path / "out")} == {r.key for r in own}


def test_publishing_twice_keeps_what_is_there(study, tmp_path):
    assert publish(study.runs, tmp_path) == 6
    assert publish(study.runs, tmp_path) == 0


KEPT = {  # by benchmark: how many records, and a digest of their places and files
    "cifar10": (65, "95d97f23b2a5ebbe"),
    "imdb": (24, "fc622b36127a6949"),
    "mnist": (65, "bf8438a731ba399d"),
    "ptb": (24, "d92ff4555915befe"),
    "wikitext2": (24, "99f8fe50d5800389"),
}


def test_no_published_record_was_changed():
    """Keys are in the names of the folders: they follow from settings and data, now as then."""
    if not published.PUBLISHED.exists():
        pytest.skip("no results/ beside the package: it is not a checkout")
    found = {}
    for folder in sorted(published.PUBLISHED.glob("*/laptop")):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        held = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
        records = sum(path.name == "record.json" for path in files)
        found[folder.parent.name] = records, canonical_sha256(held)[:16]
    assert found == KEPT


def test_the_records_of_the_kit_are_whole_and_of_its_own_default_settings():
    runs = published_runs()
    if not published.PUBLISHED.exists():
        pytest.skip("no results/ beside the package: it is not a checkout")
    assert len(runs) == len(list(published.PUBLISHED.glob("*/*/*/record.json"))) > 0
    for run in runs:
        name, scale = run.settings["benchmark"], run.settings["scale"]
        asked = benchmark_settings(name, scale, **{})
        own = asked.replace(arm=run.settings["arm"], seed=run.settings["seed"]).effective()
        assert name in BENCHMARKS and dict(run.settings) == own, run.path
