"""Turns: one process at a time, whatever becomes of it."""

from __future__ import annotations

import os

import pytest

import qrkd_lab as ql
from qrkd_lab.job import run_seed
from qrkd_lab.turns import turn
from qrkd_lab.watch import Stopped, Watch
from tests.hazards import FORKS, SMALL, elsewhere

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs the locks of POSIX and a fork")


class Taken(Exception):
    pass


def refuse():
    raise Taken


@pytest.fixture
def other(tmp_path):
    """Another process that has the turn "a"."""
    with elsewhere(turn, tmp_path, "a", refuse) as process:
        yield process


def test_another_process_has_it_and_the_others_are_free(other, tmp_path):
    with pytest.raises(Taken), turn(tmp_path, "a", refuse):
        pass
    with turn(tmp_path, "b", refuse), turn(tmp_path / "elsewhere", "a", refuse):
        pass


def test_a_process_that_ends_or_is_killed_lets_go_of_it(other, tmp_path):
    other.kill()
    other.join()
    with turn(tmp_path, "a", refuse):
        pass


def test_whoever_waits_is_asked_again_and_again_and_gets_it(other, tmp_path):
    asked = []

    def taken():
        asked.append(len(asked))
        if len(asked) == 3:
            other.kill()
            other.join()

    with turn(tmp_path, "a", taken):
        assert asked == [0, 1, 2]


def test_where_there_are_no_locks_everybody_has_every_turn(tmp_path):
    (tmp_path / "file").touch()
    with turn(tmp_path / "file", "a", refuse), turn(tmp_path / "file", "a", refuse):
        pass


# A training


class Slow(Watch):
    """Waits in its first step until it is told to go on."""

    def __init__(self, there, go):
        self.there, self.go = there, go

    def step(self, learners, epoch, step):
        self.there.set()
        self.go.wait()


class Second(Watch):
    """Waits for the other, and would be seen to train."""

    def __init__(self, go=None):
        self.go, self.began, self.notes = go, [], []

    def begin(self, learners, *_):
        self.began.append(learners[0].settings.arm)

    def waiting(self):
        if self.go is None:
            raise Stopped
        self.go.set()

    def note(self, text):
        self.notes.append(text)


def train(folder, watch):
    benchmark = ql.load_benchmark("digits", **SMALL)
    missing = [benchmark.settings.replace(arm=arm) for arm in ("teacher", "scratch", "rkd")]
    return list(run_seed(benchmark, missing, folder, show=False, watch=watch))


@pytest.fixture
def training(tmp_path):
    """Another process that trains, and stands in its first step."""
    there, go = FORKS.Event(), FORKS.Event()
    process = FORKS.Process(target=train, args=(tmp_path, Slow(there, go)))
    process.start()
    assert there.wait(60)
    yield process, go
    process.kill()
    process.join()


def test_what_another_process_trains_is_awaited_and_taken(training, tmp_path):
    second = Second(training[1])
    runs = train(tmp_path, second)
    assert [run.settings["arm"] for run in runs] == ["teacher", "scratch", "rkd"]
    assert second.began == [], "trained once more"
    assert second.notes[0] == (
        f"digits, seed 0: another process is training this into {tmp_path}; its records are awaited"
    )


def test_whoever_waits_for_a_training_can_be_stopped(training, tmp_path):
    with pytest.raises(Stopped):
        train(tmp_path, Second())


def test_one_who_is_killed_in_training_is_not_awaited(training, tmp_path):
    process, _ = training
    process.kill()
    process.join()
    second = Second()
    train(tmp_path, second)
    assert second.began == ["teacher", "scratch"]
