"""What a training says of itself is true at every stage."""

from __future__ import annotations

import pytest

from qrkd_lab.teaching.live import Order, Track
from qrkd_lab.teaching.widgets.distillation import progress
from tests.studies.records.made_runs import made_run

ORDER = Order("digits", "smoke", ("kd",), 0, {})


@pytest.mark.parametrize(
    "state, track, said",
    [
        ("loading", Track(ORDER), "Starting"),
        ("training", Track(ORDER, ("teacher",), 30, 4, 2.5), "Training the teacher: epoch 2.5 of"),
        ("paused", Track(ORDER, ("kd",), 3, 4, 1.0), "Paused, kd: epoch 1.0 of 3"),
        ("stopped", Track(ORDER, ("kd",)), "Stopped before anything was trained"),
        ("stopped", Track(ORDER, ("teacher",), 30, 4, 15.0), "a teacher counts when it is whole"),
        ("stopped", Track(ORDER, ("kd",), 30, 4, 12.3), "no epoch was completed"),
        ("failed", Track(ORDER, failures=["<b>"]), "&lt;b&gt;"),
        ("done", Track(ORDER, notes=["begins anew"]), "begins anew"),
    ],
)
def test_each_state_has_its_words(state, track, said):
    assert said in progress(state, track)


def test_runs_that_stopping_recorded_are_listed():
    run = made_run("kd", 0, "digits", "smoke")
    text = progress("stopped", Track(ORDER, ("kd",), 30, 4, 2.4, runs=[run]))
    assert f"recorded as runs of {len(run.history)} epoch" in text and "kd seed 0" in text
    reused = progress("stopped", Track(ORDER, ("kd",), 30, 4, 2.4, runs=[run], reused=[run.name]))
    assert "no epoch was completed" in reused and "was on disk" in reused
