"""A callback may stop a training; what was stopped is a valid record and goes on."""

from __future__ import annotations

import torch

import qrkd_lab as ql
from qrkd_lab.studies.group import find, train_group
from qrkd_lab.studies.records import read_runs
from qrkd_lab.train import Callback, Stopped

SMALL = {"train_size": 128, "validation_size": 100, "qubits": 3, "batch_size": 32}
ARMS = ("kd", "qrkd")


class StopAt(Callback):
    """Ends the lockstep that has a teacher (or has none) after a step of an epoch."""

    stops = True

    def __init__(self, epoch, step, arms=True):
        self.at, self.arms, self.seen = (epoch, step), arms, []

    def begin(self, training):
        self.active = (training.teacher is not None) == self.arms
        self.seen.append((training.learners[0].settings.arm, training.batches))

    def step(self, training):
        if self.active and (training.done + 1, training.step) == self.at:
            raise Stopped


def benchmark_of(epochs, schedule="constant"):
    return ql.load_benchmark("digits", "smoke", epochs=epochs, schedule=schedule, **SMALL)


def train(benchmark, folder, watch=None):
    missing = [benchmark.settings.replace(arm=arm) for arm in ARMS]
    found = []
    try:
        for run in train_group(benchmark, missing, folder, [watch] if watch else []):
            found.append(run)
    except Stopped:
        assert watch is not None
        return found, True
    return found, False


def same(runs, expected):
    assert len(runs) == len(expected)
    for run, other in zip(runs, expected):
        assert (run.key, run.metrics, run.history) == (other.key, other.metrics, other.history)
        weights, expected_weights = run.weights(), other.weights()
        assert all(torch.equal(weights[name], expected_weights[name]) for name in weights)


def test_a_stopped_run_is_the_record_of_its_last_whole_epoch(tmp_path):
    stopped, was = train(benchmark_of(4), tmp_path / "stopped", StopAt(3, 2))
    expected, _ = train(benchmark_of(2), tmp_path / "short")
    assert was and [run.settings["epochs"] for run in stopped] == [2, 2]
    same(stopped, expected)
    assert len(read_runs(tmp_path / "stopped", "digits", "smoke")) == 3, "two arms and the teacher"


def test_what_was_stopped_goes_on_from_its_very_step(tmp_path):
    train(benchmark_of(4), tmp_path / "stopped", StopAt(3, 2))
    watch = Callback()
    seen = []
    watch.begin = lambda training: seen.append(training.batches)
    going_on, _ = train(benchmark_of(4), tmp_path / "stopped", watch)
    expected, _ = train(benchmark_of(4), tmp_path / "whole")
    assert seen == [2 * 4 + 2]
    same(going_on, expected)
    assert not list((tmp_path / "stopped").rglob(".checkpoint*"))


def test_with_a_falling_rate_it_says_after_how_many_epochs_it_was_stopped(tmp_path):
    benchmark = benchmark_of(3, "cosine")
    stopped, _ = train(benchmark, tmp_path, StopAt(2, 1))
    assert [(run.settings["epochs"], run.settings["stop_after"]) for run in stopped] == [(3, 1)] * 2
    asked = benchmark.settings.replace(arm="qrkd", stop_after=1)
    assert find(benchmark, asked, tmp_path).key == stopped[1].key
    again = ql.compare(
        "digits", ARMS, 1, "smoke", runs_dir=tmp_path / "again", progress=False,
        epochs=3, stop_after=1, schedule="cosine", **SMALL,
    )  # fmt: skip
    same([run for run in again.runs if run.settings["arm"] != "teacher"], stopped)


def test_stopped_before_a_whole_epoch_nothing_is_recorded_and_nothing_lost(tmp_path):
    found, was = train(benchmark_of(2), tmp_path, StopAt(1, 3, arms=False))
    assert was and not found and not read_runs(tmp_path, "digits", "smoke")
    found, was = train(benchmark_of(2), tmp_path, first := StopAt(1, 3))
    assert was and not found and len(read_runs(tmp_path, "digits", "smoke")) == 1
    assert first.seen == [("teacher", 3), ("kd", 0)]
    found, was = train(benchmark_of(2), tmp_path)
    assert not was and len(found) == 2


def test_a_callback_that_only_looks_changes_nothing(tmp_path):
    watched, _ = train(benchmark_of(2), tmp_path / "watched", Callback())
    alone, _ = train(benchmark_of(2), tmp_path / "alone")
    same(watched, alone)
