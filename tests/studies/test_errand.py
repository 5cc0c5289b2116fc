"""Records as parcels: whole, checked, and not lost without a word."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest

from qrkd_lab.files import RecordError, sealed
from qrkd_lab.studies.compare import Recipe, away, pack, receive, unpack
from tests.hazards import flipped
from tests.studies.records.made_runs import keep, made_run


@pytest.fixture
def run(tmp_path):
    return keep(tmp_path / "there", made_run("teacher", 3))[0]


def test_a_record_is_the_same_after_its_way(run, tmp_path):
    arrived = unpack(pack(run), tmp_path / "here")
    assert arrived == run
    assert arrived.path == tmp_path / "here" / run.path.relative_to(tmp_path / "there")
    assert arrived.weights().keys() == run.weights().keys()


def test_a_record_that_was_damaged_on_its_way_is_refused(run, tmp_path):
    parcel = pack(run)
    cut = {name: content[:-1] for name, content in parcel.files.items()}
    with pytest.raises(RecordError, match="damaged"):
        unpack(dataclasses.replace(parcel, files=cut), tmp_path / "here")


def forged(run, **changes):
    """The files of a record that says something else, with the digest of that."""
    record = json.loads((run.path / "record.json").read_text()) | changes
    del record["record_sha256"]
    return {"record.json": json.dumps(sealed(record, "record_sha256")).encode()}


BAD = {
    "up": lambda parcel, run: {"place": "../../out"},
    "absolute": lambda parcel, run: {"place": "/digits/smoke/x"},
    "elsewhere": lambda parcel, run: {"place": parcel.place.replace("digits", "mnist")},
    "no text": lambda parcel, run: {"place": None},
    "no files": lambda parcel, run: {"files": None},
    "a path": lambda parcel, run: {"files": parcel.files | {"../../out": b"x"}},
    "an absolute path": lambda parcel, run: {"files": parcel.files | {"/out": b"x"}},
    "another file": lambda parcel, run: {"files": parcel.files | {"more": b"x"}},
    "no weights": lambda parcel, run: {"files": {"record.json": parcel.files["record.json"]}},
    "text for bytes": lambda parcel, run: {"files": dict.fromkeys(parcel.files, "x")},
    "empty": lambda parcel, run: {"files": dict.fromkeys(parcel.files, b"")},
    "other weights": lambda parcel, run: {"files": parcel.files | {"weights.safetensors": b"x"}},
    "other seed": lambda parcel, run: {
        "files": parcel.files | forged(run, settings={**run.settings, "seed": 9})
    },
    "no metric": lambda parcel, run: {"files": parcel.files | forged(run, metric={})},
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_nothing_is_written_before_all_is_checked(run, tmp_path, kind):
    parcel = pack(run)
    before = sorted(tmp_path.rglob("*"))
    bad = dataclasses.replace(parcel, **BAD[kind](parcel, run))
    with pytest.raises(RecordError, match="came damaged .*Nothing was written") as caught:
        unpack(bad, tmp_path / "here")
    assert "elete" not in str(caught.value) and sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
def test_a_turned_bit_changes_no_number(run, tmp_path, name):
    parcel, home = pack(run), tmp_path / "here"
    for content in flipped(parcel.files[name], 60):
        bad = dataclasses.replace(parcel, files=parcel.files | {name: content})
        try:
            assert unpack(bad, home) == run
        except RecordError:
            assert not home.exists()
        shutil.rmtree(home, ignore_errors=True)


def test_what_else_lies_beside_a_record_stays_behind(run):
    (run.path / ".DS_Store").write_text("x")
    assert pack(run).files.keys() == {"record.json", "weights.safetensors"}


def test_the_record_of_another_seed_is_not_taken(run, tmp_path):
    runs, lost = receive(4, [pack(run)], tmp_path / "here")
    assert not runs and "nobody asked for" in lost[0]


def test_a_folder_that_cannot_be_written_takes_no_other_seed_down(run, tmp_path):
    (tmp_path / "here").write_text("a file")
    runs, lost = receive(3, [run, pack(run)], tmp_path / "here")
    assert runs == [run]
    assert len(lost) == 1 and lost[0].startswith("seed 3: a record that was trained elsewhere")


def test_a_teacher_that_is_here_goes_along_with_its_seed_only(run, tmp_path):
    recipe = Recipe("digits", "smoke", "data", "auto", {})
    tasks = away(recipe, {3: ["settings"], 4: ["others"]}, [run], tmp_path)
    assert {seed: held for seed, (_, _, held, _) in tasks.items()} == {3: [pack(run)], 4: []}
    shutil.rmtree(run.path)
    away(recipe, {4: ["others"]}, [run], tmp_path)  # what no seed needs is not read
    assert all(sent.data_dir.is_absolute() for sent, *_ in tasks.values())
