"""Checkpoints: a training that was killed goes on as if nothing had happened; progress."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.devices import one_thread
from qrkd_lab.files import RecordError
from qrkd_lab.studies.callbacks import Checkpoint, Progress
from qrkd_lab.studies.group import lockstep, make_learner
from qrkd_lab.studies.records import versions
from qrkd_lab.train import Diverged, Training
from tests.hazards import disk_that_ends, flipped

CPU = torch.device("cpu")
SMALL = {"train_size": 192, "validation_size": 100, "epochs": 2, "qubits": 3, "batch_size": 32}


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def benchmark():
    return ql.load_benchmark("digits", "smoke", **SMALL)


@pytest.fixture(scope="module")
def teacher(benchmark):
    return benchmark.teacher(0).eval()


def learners(benchmark, teacher, arms=("scratch", "qrkd", "shuffled"), **changes):
    return [
        make_learner(benchmark, benchmark.settings.replace(arm=a, **changes), teacher) for a in arms
    ]


def run(benchmark, teacher, some, checkpoint=None):
    with one_thread(CPU):
        list(lockstep(benchmark, some, teacher, [checkpoint] if checkpoint else [], epochs=2))
    return [(one.history, one.model.state_dict()) for one in some]


def at(some, epoch=1, step=0, steps=6):
    """A training of two epochs after so many batches of an epoch."""
    return Training(some, 2, steps, None, epoch - 1, step)


def same(found, expected):
    for (history, weights), (history_too, weights_too) in zip(found, expected, strict=True):
        assert history == history_too
        assert all(torch.equal(weights[name], weights_too[name]) for name in weights)


@pytest.mark.parametrize("die_at", [1, 3])
def test_what_goes_on_from_a_checkpoint_ends_as_what_was_never_killed(
    benchmark, teacher, tmp_path, monkeypatch, die_at
):
    """All kinds of state: adapters, the shuffle's own stream, half an epoch's sums.

    Twelve batches, saved after every second one.
    """
    expected = run(benchmark, teacher, learners(benchmark, teacher))
    checkpoint = Checkpoint(tmp_path / "state.pt", steps=2)
    save, saved = Checkpoint.save, []

    def until(self, training):
        save(self, training)
        saved.append(training)
        if len(saved) == die_at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", until)
        with pytest.raises(Killed):
            run(benchmark, teacher, learners(benchmark, teacher), checkpoint)
    same(run(benchmark, teacher, learners(benchmark, teacher), checkpoint), expected)


@pytest.mark.parametrize(
    ("steps", "accumulation", "moments"),
    [
        (4, 1, [(1, 4), (2, 2), (2, 6)]),  # six batches an epoch: 4 does not divide them
        (1, 4, [(1, 4), (2, 0), (2, 4), (3, 0)]),  # the last two are a step of their own
    ],
)
def test_when_it_is_saved(benchmark, teacher, tmp_path, steps, accumulation, moments):
    fresh = lambda: learners(benchmark, teacher, ("rkd",), accumulation=accumulation)  # noqa: E731
    checkpoint, seen = Checkpoint(tmp_path / "state.pt", steps=steps), []
    save = checkpoint.save
    checkpoint.save = lambda training: (
        seen.append((training.done + 1, training.step)),
        len(seen) == 2 and save(training),
    )
    expected = run(benchmark, teacher, fresh(), checkpoint)
    assert seen == moments
    same(run(benchmark, teacher, fresh(), checkpoint), expected)


def test_an_arm_that_diverged_stays_out(benchmark, teacher, tmp_path):
    some = learners(benchmark, teacher, ("scratch", "kd"))
    some[0].failure = Diverged("scratch seed 0 diverged")
    checkpoint = Checkpoint(tmp_path / "state.pt")
    checkpoint.save(at(some, 2))
    again = learners(benchmark, teacher, ("scratch", "kd"))
    assert checkpoint.resume(at(again))
    assert str(again[0].failure) == "scratch seed 0 diverged" and again[1].failure is None


@pytest.fixture(scope="module")
def half(benchmark, teacher, tmp_path_factory):
    """A checkpoint in the midst of the second epoch, of two learners; one has a kernel."""
    checkpoint = Checkpoint(tmp_path_factory.mktemp("half") / "state.pt", steps=8)
    run(benchmark, teacher, learners(benchmark, teacher, ("kd", "shuffled")), checkpoint)
    found = at(learners(benchmark, teacher, ("kd", "shuffled")))
    assert checkpoint.resume(found) and (found.done, found.step) == (1, 2)
    return checkpoint


def test_a_turned_bit_or_a_cut_anywhere_is_noticed(half, benchmark, teacher, tmp_path, capsys):
    whole = half.path.read_bytes()
    lesser = [whole[:size] for size in (0, 1, 64, 65, 200, len(whole) - 1)]
    checkpoint = replace(half, path=tmp_path / "state.pt")
    some = learners(benchmark, teacher, ("kd", "shuffled"))
    for content in (*flipped(whole, 50), *lesser, whole + b"0"):
        checkpoint.path.write_bytes(content)
        assert not checkpoint.resume(at(some)) and some[0].batches == 0
        said = capsys.readouterr().err
        assert f"{checkpoint.path} was cut or changed" in said and "begins anew" in said


def test_a_checkpoint_can_run_no_code(half, benchmark, teacher, tmp_path, monkeypatch):
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    stream = io.BytesIO()
    torch.save({"done": RunsCode()}, stream)
    digest = hashlib.sha256(stream.getvalue()).hexdigest()
    checkpoint = replace(half, path=tmp_path / "state.pt")
    checkpoint.path.write_bytes(f"{digest}\n".encode() + stream.getvalue())
    with pytest.raises(pickle.UnpicklingError):
        checkpoint.resume(at(learners(benchmark, teacher, ("kd",))))
    assert not (tmp_path / "ran").exists()


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, (str(Path(os.environ["RAN"])),))


def test_a_disk_that_fails_at_any_moment_leaves_the_old_state_or_the_new(
    benchmark, teacher, tmp_path
):
    some = learners(benchmark, teacher, ("kd",))
    checkpoint = Checkpoint(tmp_path / "state.pt")
    checkpoint.save(at(some, 1, 1))
    for after in count():
        with disk_that_ends(after) as refused:
            try:
                checkpoint.save(at(some, 2, after))
            except RecordError as error:
                assert "cannot be written" in str(error)
        assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
        found = at(learners(benchmark, teacher, ("kd",)), steps=10**6)
        assert checkpoint.resume(found)
        assert (found.done, found.step) == ((0, 1) if refused else (1, after))
        if not refused:
            break
    assert after > 5, "too few calls failed: the test proved little"
    with pytest.raises(RecordError, match="cannot be written"):
        Checkpoint(tmp_path / "state.pt" / "state.pt").save(at(some, 1, 1))


def test_only_what_changes_numbers_makes_another_checkpoint(
    benchmark, teacher, tmp_path, monkeypatch
):
    here = versions()

    def name(arms=("kd", "rkd"), data="ab", other=(), **changes):
        with monkeypatch.context() as patch:
            patch.setattr("qrkd_lab.studies.callbacks.versions", lambda: here | dict(other))
            return Checkpoint.of(learners(benchmark, teacher, arms, **changes), data, tmp_path).path

    others = [name(("kd",)), name(data="cd"), name(learning_rate=0.1), name(seed=1)]
    others += [name(other={part: "9"}) for part in ("torch", "cpu", "qrkd_lab")]
    assert len({name(), *others}) == 8
    assert name(checkpoint_steps=7) == name(other={"platform": "Linux-99", "python": "9"}) == name()


# ---- progress


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


@pytest.mark.parametrize("resumed", [{}, {"done": 6, "epochs": (2,)}])
def test_without_a_terminal_progress_is_plain_lines(resumed):
    said = shown(io.StringIO(), **resumed)
    assert said.count("\n") == 1  # epochs this fast do not flood a log
    assert "digits seed 3: epoch 2/2, kd 91.0%, qrkd 91.0%, took" in said


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_progress_is_a_bar_that_names_arm_epoch_terms_and_time(monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.callbacks.BAR_SECONDS", -1.0)
    said = shown(Terminal())
    for part in ("digits seed 3", "epoch 1/2", "qrkd: task 0.5", "kd: task 0.5", "left"):
        assert part in said
