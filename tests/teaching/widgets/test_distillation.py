"""The distillation explorer: start, pause, stop; what it trains are a study's records."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qrkd_lab as ql
from qrkd_lab.studies.records import read_runs
from qrkd_lab.teaching.live import Order, Track
from qrkd_lab.teaching.widgets.distillation import DistillationExplorer, progress
from tests.studies.made_runs import made_run
from tests.teaching.test_live import until

ORDER = Order("digits", "smoke", ("kd",), 0, {})


@pytest.fixture(scope="module")
def made_once(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    made = DistillationExplorer("digits", "smoke", ("kd", "qrkd"), runs_dir=place, qubits=3)
    yield made  # one for all: its process loads PyTorch
    made.training.close()


@pytest.fixture
def explorer(made_once):
    made_once.set_to(benchmark="digits", scale="smoke", arms=("kd", "qrkd"), seed=0, epochs=1)
    return made_once


def buttons(explorer):
    pressed = (explorer._start, explorer._pause, explorer._stop)
    return [button.description for button in pressed if not button.disabled]


def test_it_trains_and_finds_what_it_trained(explorer):
    explorer.refresh()
    assert "Ready: kd, qrkd on digits (smoke), seed 0, 1 epochs" in explorer._said
    assert "arms" in explorer._shown["curves"].alt.lower() and buttons(explorer) == ["Start"]
    explorer.start()
    assert buttons(explorer) == ["Stop"]
    assert explorer.wait(60)
    records = explorer._shown["records"]
    assert "<p>Done.</p>" in explorer._said and "kd seed 0" in records
    assert "validation accuracy" in records and "test accuracy" not in records
    assert "Epoch 1 of 1" in explorer._shown["curves"].alt
    assert "Kernel matrices of qrkd and its teacher" in explorer._shown["matrices"].alt
    explorer.start()
    assert explorer.wait(60) and explorer._shown["records"].count("was on disk") == 2


def test_pause_go_on_stop_and_start_again_with_all_curves(explorer):
    explorer.controls["epochs"].value = 900
    explorer.start()
    until(lambda: explorer.training.track.at >= 1 and not explorer.training.track.of_teacher)
    explorer.training.pause()
    until(lambda: explorer.training.state == "paused" and explorer._pause.description == "Go on")
    until(lambda: "Paused, kd, qrkd: epoch" in explorer._said)
    explorer.controls["seed"].value = 1
    until(lambda: "The controls have changed since" in explorer._said)
    explorer.controls["seed"].value = 0
    explorer.training.pause()
    until(lambda: explorer.training.state == "training")
    explorer.training.stop()
    assert explorer.wait(60) and "Stopped: recorded as runs of" in explorer._said
    assert buttons(explorer) == ["Start"]
    track = explorer.training.track
    runs = read_runs(explorer._places["runs_dir"], "digits", "smoke")
    assert {len(run.history) for run in runs} == {1, len(track.runs[0].history)}
    seen, at = list(track.pulses["kd"]), track.at
    explorer.start()
    until(lambda: explorer.training.track.at > at)
    assert explorer.training.track.pulses["kd"][: len(seen)] == seen, "the curves go on"
    explorer.training.stop()
    assert explorer.wait(60)


def test_what_is_wrong_is_said_at_once_and_what_diverges_inside(explorer):
    for name, wrong, right, said in (
        ("kernel_weight", 0.0, 1.0, "leave the arm out"),
        ("arms", (), ("qrkd",), "choose at least one"),
    ):
        explorer.controls[name].value = wrong
        assert explorer.settle()
        assert "alert" in explorer._words.value and said in explorer._said
        explorer.start()
        assert not explorer.training.busy and said in explorer._said
        explorer.controls[name].value = right
    usual = explorer.state["learning_rate"]
    explorer.controls["learning_rate"].value = 1e9
    explorer.start()
    assert explorer.wait(60) and explorer.training.state == "failed"
    assert "diverged in epoch 1" in explorer._said and "lower learning_rate" in explorer._said
    explorer.controls["learning_rate"].value = usual
    explorer.start()
    assert explorer.wait(60) and explorer.training.state == "done"
    assert "alert" not in explorer._said


def test_another_benchmark_brings_its_own_settings_and_its_repr_makes_it_again():
    explorer = DistillationExplorer("digits", "smoke", ("kd", "qrkd"), qubits=3)
    explorer.set_to(kernel_weight=3.5, seed=2, layers=3)
    assert explorer.state["bandwidth"] is None and "layers=3" in repr(explorer)
    again = eval(repr(explorer))
    assert again.state == explorer.state and again._places == explorer._places
    assert "temperature" not in repr(explorer), "what is the benchmark's own is left out"
    explorer.controls["scale"].value = "laptop"
    assert explorer.state["epochs"] == 30
    explorer.controls["benchmark"].value = "ptb"
    assert (explorer.controls["kd_weight"].value, explorer.state["temperature"]) == (100.0, 1.0)
    assert explorer.state["kernel_weight"] is None, "each arm's own"


def test_arrays_and_models_of_ones_own_are_trained_as_in_a_study(tmp_path):
    class Net(nn.Module):  # as written in a notebook: no file holds it
        def __init__(self, width):
            super().__init__()
            self.body, self.head = nn.Linear(300, width), nn.Linear(width, 1)

        def forward(self, x):
            return self.head(self.body(x).relu())

    x = torch.randn(192, 300)  # more than a pipe takes at once
    parts = [(one, one.sum(1)) for one in x.split([128, 32, 32])]
    mine = ql.Benchmark.from_arrays(
        *parts, teacher=lambda seed: Net(8), student=lambda seed: Net(4), task="regression"
    ).with_settings("smoke", student_size=64, unlabelled=64)
    explorer = DistillationExplorer(mine, "smoke", ("qrkd",), runs_dir=tmp_path / "live", qubits=2)
    explorer.start()
    assert explorer.wait(60) and "<p>Done.</p>" in explorer._said
    assert "validation rmse" in explorer._shown["records"] and explorer.training.track.pulls
    assert "in 1 classes" in explorer._shown["matrices"].alt  # nothing to sort real numbers by
    study = ql.compare(
        mine, ["qrkd"], 1, "smoke", runs_dir=tmp_path / "study", qubits=2, progress=False
    )
    found, expected = explorer.training.track.runs[-1], study.runs[-1]
    assert (found.key, found.metrics) == (expected.key, expected.metrics)
    explorer.training.close()


def test_unknown_names_list_the_choices():
    with pytest.raises(ValueError, match="unknown setting 'weight'; choose from .*kd_weight"):
        DistillationExplorer(weight=1)
    with pytest.raises(ValueError, match="unknown arms 'qkd'; choose from .*qrkd"):
        DistillationExplorer(arms=("qkd",))


@pytest.mark.parametrize(
    "state, track, said",
    [
        ("training", Track(ORDER, ("teacher",), 30, 2.5), "Training the teacher: epoch 2.5 of"),
        ("stopped", Track(ORDER, ("teacher",), 30, 15.0), "a teacher counts when it is whole"),
        ("failed", Track(ORDER, failures=["<b>"]), "&lt;b&gt;"),
    ],
)
def test_each_state_has_its_words(state, track, said):
    assert said in progress(state, track)


def test_stopping_says_what_it_recorded_and_not_what_was_there():
    run = made_run("kd", 0, "digits", "smoke")
    track = Track(ORDER, ("kd",), 30, 2.4, runs=[run])
    assert f"recorded as runs of {len(run.history)} epoch" in progress("stopped", track)
    track.reused.append(run.name)
    assert "nothing new is recorded" in progress("stopped", track)
