"""Turns: who is the first, whatever becomes of others; what a study and a search say of others."""

from __future__ import annotations

import os
import time

import pytest

import qrkd_lab as ql
from qrkd_lab.studies.group import train_group
from qrkd_lab.studies.parallel import alone, turn
from qrkd_lab.train import Callback
from tests.hazards import FORKS, SMALL, elsewhere

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the locks of POSIX and a fork")


def first(folder, name):
    with turn(folder, name) as mine:
        return mine


def test_another_process_has_it_and_others_are_free(tmp_path):
    with elsewhere(turn, tmp_path, "a"):
        assert not first(tmp_path, "a")
        assert first(tmp_path, "b") and first(tmp_path / "elsewhere", "a")
    assert first(tmp_path, "a")


def test_its_file_goes_with_the_outermost_block(tmp_path):
    with turn(tmp_path, "a"):
        assert first(tmp_path, "a") and list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_process_that_is_killed_lets_go_of_it(tmp_path):
    with elsewhere(turn, tmp_path, "a") as process:
        process.kill()
        process.join()
        assert first(tmp_path, "a")


def test_where_there_are_no_locks_everybody_is_first(tmp_path):
    (tmp_path / "file").touch()
    assert first(tmp_path / "file", "a")


def test_errors_of_the_block_are_the_blocks_own(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KeyError) as error, turn(tmp_path / "file", "a"):
        raise KeyError
    assert error.value.__context__ is None


def test_who_has_to_be_alone_is_refused_until_the_other_has_gone(tmp_path):
    with elsewhere(turn, tmp_path, "a"):
        with pytest.raises(RuntimeError, match="another process sings here"):
            with alone(tmp_path, "a", "sings here"):
                pass
    with alone(tmp_path, "a", "sings here"):
        pass


# A training


class Still(Callback):
    """Stands in the first step, like a training that is paused."""

    def __init__(self, there):
        self.there = there

    def step(self, training):
        self.there.set()
        time.sleep(3600)


class Notes(Callback):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)
        return True


def train(folder, watch, seed=0):
    benchmark = ql.load_benchmark("digits", **SMALL)
    arms = ("teacher", "scratch", "rkd")
    missing = [benchmark.settings.replace(arm=arm, seed=seed) for arm in arms]
    return list(train_group(benchmark, missing, folder, [watch]))


def test_who_trains_what_another_process_trains_is_told_and_need_not_wait(tmp_path):
    there = FORKS.Event()
    process = FORKS.Process(target=train, args=(tmp_path, Still(there)), daemon=True)
    process.start()
    assert there.wait(60)
    told, other_seed = Notes(), Notes()
    runs = train(tmp_path, told)
    train(tmp_path, other_seed, seed=1)
    process.kill()
    process.join()
    assert [run.settings["arm"] for run in runs] == ["teacher", "scratch", "rkd"]
    assert len(told.notes) == 1 and other_seed.notes == [], "the teacher was in the works, no more"
    assert told.notes[0] == (
        f"digits, seed 0: another process is training the same into {tmp_path}. Every run is "
        "recorded once; to save the time, stop one of the two"
    )
