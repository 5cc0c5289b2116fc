"""The lockstep loop: paired, shared, independent of company, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.devices import one_thread
from qrkd_lab.studies.arms import ARMS, TEACHER
from qrkd_lab.studies.benchmarks import load_benchmark
from qrkd_lab.studies.group import (
    find,
    lockstep,
    make_learner,
    train_group,
)
from qrkd_lab.studies.records import read_runs
from qrkd_lab.tasks import IGNORED
from qrkd_lab.train import Callback, Stopped

SMALL = {"train_size": 192, "validation_size": 100, "epochs": 2, "qubits": 3}


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("digits", scale="smoke", **SMALL)


@pytest.fixture(scope="module")
def teacher(benchmark):
    learner = make_learner(benchmark, benchmark.settings.replace(arm=TEACHER))
    list(lockstep(benchmark, [learner], epochs=3))
    return learner.model.eval()


def trained(benchmark, teacher, arms, **changes):
    learners = [
        make_learner(benchmark, benchmark.settings.replace(arm=a, **changes), teacher) for a in arms
    ]
    with one_thread(torch.device("cpu")):
        list(lockstep(benchmark, learners, teacher, epochs=2))
    return {learner.settings.arm: learner for learner in learners}


@pytest.fixture(scope="module")
def together(benchmark, teacher):
    return trained(benchmark, teacher, ARMS)


@pytest.mark.parametrize("arm", ARMS)
def test_an_arm_is_the_same_alone_as_beside_others_bit_for_bit(benchmark, teacher, together, arm):
    alone = trained(benchmark, teacher, [arm])[arm]
    assert alone.history == together[arm].history
    weights = [learner.model.state_dict() for learner in (alone, together[arm])]
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_all_arms_start_from_one_student(benchmark, teacher):
    first, *others = (
        make_learner(benchmark, benchmark.settings.replace(arm=arm), teacher).model.state_dict()
        for arm in ARMS
    )
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0)


def test_every_arm_ends_elsewhere_but_the_detached_one(together):
    """The detached kernel term is logged and weighted, yet the student is rkd's, to the bit."""
    final = {arm: learner.model.state_dict()["output.weight"] for arm, learner in together.items()}
    equal = {(a, b) for a in ARMS for b in ARMS if a < b and torch.equal(final[a], final[b])}
    assert equal == {("detached", "rkd")}
    assert together["detached"].history[-1]["kernel"] > 0


def test_histories_hold_every_term_by_name(together):
    assert set(together["qrkd"].history[0]) == {
        "epoch", "total", "task", "kd", "distance", "angle", "kernel",
        "train_accuracy", "validation_accuracy", "validation_agreement", "validation_kl",
    }  # fmt: skip
    assert "kernel" not in together["rkd"].history[0] and "kd" not in together["scratch"].history[0]


def test_the_adapter_is_trained_along_and_is_not_part_of_the_student(benchmark, teacher, together):
    fresh = make_learner(benchmark, benchmark.settings.replace(arm="qrkd"), teacher)
    before = fresh.loss.relation.encoder.student_map
    assert not torch.equal(before, together["qrkd"].loss.relation.encoder.student_map)
    assert "student_map" not in "".join(together["qrkd"].model.state_dict())


def test_another_seed_means_another_start_and_another_order(benchmark):
    first, again = (next(iter(benchmark.batches(0, 1, 8)))[1] for _ in range(2))
    assert torch.equal(first, again)
    orders = {
        tuple(next(iter(benchmark.batches(s, e, 64)))[1].tolist()) for s in (0, 1) for e in (1, 2)
    }
    assert len(orders) == 4
    stream = torch.get_rng_state()
    a, b = benchmark.student(0), benchmark.student(1)
    assert not torch.equal(a.output.weight, b.output.weight)
    assert torch.equal(torch.get_rng_state(), stream)  # making models leaves it alone


def test_a_diverging_arm_is_taken_out_and_the_others_do_not_notice(benchmark, teacher, together):
    settings = benchmark.settings
    wild = make_learner(benchmark, settings.replace(arm="scratch", learning_rate=1e30), teacher)
    calm = make_learner(benchmark, settings.replace(arm="kd"), teacher)
    with one_thread(torch.device("cpu")):
        epochs = list(lockstep(benchmark, [wild, calm], teacher, epochs=2))
    assert epochs == [1, 2]
    assert "diverged" in str(wild.failure) and "learning_rate" in str(wild.failure)
    assert calm.failure is None and calm.history == together["kd"].history


def test_the_teacher_is_asked_once_a_batch_for_all_arms_and_not_changed(
    benchmark, teacher, monkeypatch
):
    asked, before = [], copy.deepcopy(teacher.state_dict())
    outputs = type(benchmark).outputs

    def counted(self, model, inputs):
        if model is teacher and len(inputs) <= 64:
            asked.append(1)
        return outputs(self, model, inputs)

    monkeypatch.setattr(type(benchmark), "outputs", counted)
    trained(benchmark, teacher, ["kd", "rkd", "qrkd"])
    assert len(asked) == 2 * 3  # epochs times batches of 64
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


def moves(learner, batches, teacher=None):
    """The gradient at each step of the optimiser over one epoch, and the learner's own batches."""
    seen = []
    parameters = [p for group in learner.optimizer.param_groups for p in group["params"]]

    def look(*_):
        seen.append(torch.cat([p.grad.flatten() for p in parameters]))

    learner.optimizer.register_step_pre_hook(look)
    for inputs, targets in batches:
        learner.step(inputs, targets, teacher)
    learner.end_epoch(1)
    return seen


def pieces(benchmark, sizes, ignored=()):
    """The first training images in batches of these sizes; some targets ignored."""
    inputs, targets = next(iter(benchmark.batches(0, 1, sum(sizes))))
    targets = targets.clone()
    targets[list(ignored)] = IGNORED
    return list(zip(inputs.split(sizes), targets.split(sizes), strict=True))


@pytest.mark.parametrize("ignored", [(), range(7)], ids=["all", "some"])
@pytest.mark.parametrize("sizes", [[8, 8, 8, 8], [16, 16, 9], [16, 16, 16, 5, 16, 3]])
def test_an_accumulated_step_follows_the_mean_over_its_predictions(benchmark, sizes, ignored):
    batches = pieces(benchmark, sizes, ignored)
    settings = benchmark.settings.replace(arm="scratch", accumulation=4)
    found = moves(make_learner(benchmark, settings, None), batches)
    groups = [batches[low : low + 4] for low in range(0, len(batches), 4)]
    whole = [tuple(torch.cat(part) for part in zip(*group, strict=True)) for group in groups]
    expected = moves(make_learner(benchmark, settings.replace(accumulation=1), None), whole)
    assert len(found) == len(expected)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-4, atol=1e-6)
    if len(found) > 1:  # the weights differ by rounding then
        torch.testing.assert_close(found[1], expected[1], rtol=1e-2, atol=1e-4)


def test_a_group_of_nothing_but_ignored_targets_moves_nothing(benchmark):
    settings = benchmark.settings.replace(arm="scratch", accumulation=2)
    learner = make_learner(benchmark, settings, None)
    (gradient,) = moves(learner, pieces(benchmark, [4, 4], range(8)))
    assert (gradient == 0).all() and learner.history[0]["task"] == 0


def test_clip_norm_bounds_student_and_adapter_and_no_adapter_scales_the_student(benchmark, teacher):
    base = benchmark.settings.replace(kernel_weight=1e4, clip_norm=0.5)
    learners = [
        make_learner(benchmark, base.replace(arm=arm), teacher)
        for arm in ("qrkd", "detached", "rkd")
    ]
    norms = []
    for part in (learners[0].model, learners[0].loss):
        learners[0].optimizer.register_step_pre_hook(
            lambda *_, part=part: norms.append(
                torch.cat([p.grad.flatten() for p in part.parameters()]).norm().item()
            )
        )
    with one_thread(torch.device("cpu")):
        list(lockstep(benchmark, learners, teacher, epochs=1))
    assert [max(norms[::2]), max(norms[1::2])] == pytest.approx([0.5, 0.5], rel=1e-4)
    _, detached, rkd = (learner.model.state_dict() for learner in learners)
    assert all(torch.equal(detached[name], rkd[name]) for name in rkd)


def test_an_epochs_means_are_over_the_predictions_that_count(benchmark):
    batches = pieces(benchmark, [8, 8, 8], [0, 1, 2, 3, 4, 20, 21])
    learner = make_learner(
        benchmark, benchmark.settings.replace(arm="scratch", learning_rate=1e-12), None
    )
    moves(learner, batches)
    inputs, targets = (torch.cat(part) for part in zip(*batches, strict=True))
    counted = targets != IGNORED
    logits = learner.model(inputs)[counted]
    right = (logits.argmax(1) == targets[counted]).float().mean().item()
    task = torch.nn.functional.cross_entropy(logits, targets[counted]).item()
    assert learner.history[0]["task"] == pytest.approx(task, rel=1e-4)
    assert learner.history[0]["train_accuracy"] == pytest.approx(right)


@pytest.mark.parametrize("changes", [{"batch_size": 1}, {"epoch_size": 2}])
def test_too_few_samples_for_a_term_are_refused_before_training(benchmark, teacher, changes):
    with pytest.raises(ValueError, match="the angle term compares 3 samples"):
        benchmark.settings.replace(arm="qrkd", **changes)
    alone = benchmark.settings.replace(arm="kd", **changes)  # needs no pairs
    assert make_learner(benchmark, alone, teacher).distils
    tiny = load_benchmark("digits", "smoke", **(SMALL | {"train_size": 2}))
    with pytest.raises(ValueError, match="the angle term compares 3 samples of a batch"):
        make_learner(tiny, tiny.settings.replace(arm="rkd"), teacher)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_loop_runs_on_cuda():
    on_gpu = load_benchmark("digits", "smoke", device="cuda", **SMALL)
    learners = trained(on_gpu, on_gpu.teacher(0).eval(), ["qrkd"])
    assert learners["qrkd"].failure is None


# Callbacks may stop a training; what was stopped is a valid record and goes on

STOPPED = {"train_size": 128, "validation_size": 100, "qubits": 3, "batch_size": 32}


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
    return ql.load_benchmark("digits", "smoke", epochs=epochs, schedule=schedule, **STOPPED)


def stoppable(benchmark, folder, watch=None):
    missing = [benchmark.settings.replace(arm=arm) for arm in ("kd", "qrkd")]
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
        torch.testing.assert_close(run.weights(), other.weights(), rtol=0, atol=0)


def test_a_stopped_run_is_the_record_of_its_last_whole_epoch(tmp_path):
    stopped, was = stoppable(benchmark_of(4), tmp_path / "stopped", StopAt(3, 2))
    expected, _ = stoppable(benchmark_of(2), tmp_path / "short")
    assert was and [run.settings["epochs"] for run in stopped] == [2, 2]
    same(stopped, expected)
    assert len(read_runs(tmp_path / "stopped", "digits", "smoke")) == 3, "two arms and the teacher"


def test_what_was_stopped_goes_on_from_its_very_step(tmp_path):
    stoppable(benchmark_of(4), tmp_path / "stopped", StopAt(3, 2))
    watch = Callback()
    seen = []
    watch.begin = lambda training: seen.append(training.batches)
    going_on, _ = stoppable(benchmark_of(4), tmp_path / "stopped", watch)
    expected, _ = stoppable(benchmark_of(4), tmp_path / "whole")
    assert seen == [2 * 4 + 2]
    same(going_on, expected)
    assert not list((tmp_path / "stopped").rglob(".checkpoint*"))


def test_with_a_falling_rate_it_says_after_how_many_epochs_it_was_stopped(tmp_path):
    benchmark = benchmark_of(3, "cosine")
    stopped, _ = stoppable(benchmark, tmp_path, StopAt(2, 1))
    assert [(run.settings["epochs"], run.settings["stop_after"]) for run in stopped] == [(3, 1)] * 2
    asked = benchmark.settings.replace(arm="qrkd", stop_after=1)
    assert find(benchmark, asked, tmp_path).key == stopped[1].key
    again = ql.compare(
        "digits", ("kd", "qrkd"), 1, "smoke", runs_dir=tmp_path / "again", progress=False,
        epochs=3, stop_after=1, schedule="cosine", **STOPPED,
    )  # fmt: skip
    same([run for run in again.runs if run.settings["arm"] != "teacher"], stopped)


def test_stopped_before_a_whole_epoch_nothing_is_recorded_and_nothing_lost(tmp_path):
    found, was = stoppable(benchmark_of(2), tmp_path, StopAt(1, 3, arms=False))
    assert was and not found and not read_runs(tmp_path, "digits", "smoke")
    found, was = stoppable(benchmark_of(2), tmp_path, first := StopAt(1, 3))
    assert was and not found and len(read_runs(tmp_path, "digits", "smoke")) == 1
    assert first.seen == [("teacher", 3), ("kd", 0)]
    found, was = stoppable(benchmark_of(2), tmp_path)
    assert not was and len(found) == 2
