"""Records as parcels: whole, checked, and not lost without a word."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from qrkd_lab.errand import away, pack, receive, unpack
from qrkd_lab.recipe import Recipe
from qrkd_lab.runs import RecordError
from tests.records.made_runs import keep, made_run


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
