"""Progress: a bar in a terminal, plain lines elsewhere."""

from __future__ import annotations

import io

import pytest

from qrkd_lab.studies.callbacks import Progress, duration
from qrkd_lab.train import Training


class Arm:
    """What progress asks of a learner."""

    failure, seed, history = None, 3, [{"accuracy": 0.91}]

    def __init__(self, name):
        self.name = name

    def means(self):
        return {"task": 0.5}


def shown(stream, done=0, epochs=(1, 2), steps=3):
    """What two epochs of two arms print."""
    progress = Progress("digits", lambda epoch: f"{100 * epoch['accuracy']:.1f}%", stream)
    training = Training([Arm("kd"), Arm("qrkd")], 2, steps, None, done // steps)
    progress.begin(training)
    for epoch in epochs:
        for step in range(1, steps + 1):
            training.done, training.step = epoch - 1, step
            progress.step(training)
        training.done, training.step = epoch, 0
        progress.epoch(training)
    progress.end()
    return stream.getvalue()


def test_without_a_terminal_progress_is_plain_lines():
    said = shown(io.StringIO())
    assert said.count("\n") == 1  # epochs this fast do not flood a log
    assert "digits seed 3: epoch 2/2, kd 91.0%, qrkd 91.0%, took" in said


def test_progress_that_goes_on_after_an_epochs_last_batch_says_how_it_ended():
    said = shown(io.StringIO(), done=6, epochs=(2,), steps=3)
    assert "digits seed 3: epoch 2/2, kd 91.0%, qrkd 91.0%, took" in said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_progress_is_a_bar_that_names_arm_epoch_terms_and_time(monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.callbacks.BAR_SECONDS", -1.0)
    said = shown(Terminal())
    for part in ("digits seed 3", "epoch 1/2", "qrkd: task 0.5", "kd: task 0.5", "left"):
        assert part in said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.44, "0.4 s"), (42.2, "42 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
