"""Checkpoints: a training that was killed goes on as if nothing had happened."""

from __future__ import annotations

import os
from itertools import count

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.checkpoint import Checkpoint
from qrkd_lab.distill import one_thread, train
from qrkd_lab.learner import Diverged, make_learner
from qrkd_lab.storage import RecordError
from tests.hazards import disk_that_ends

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
        list(train(benchmark, some, 2, teacher, show=False, checkpoint=checkpoint))
    return [(one.history, one.model.state_dict()) for one in some]


def same(found, expected):
    for (history, weights), (history_too, weights_too) in zip(found, expected, strict=True):
        assert history == history_too
        assert all(torch.equal(weights[name], weights_too[name]) for name in weights)


@pytest.mark.parametrize("die_at", [1, 3, 6, 9])
def test_what_goes_on_from_a_checkpoint_ends_as_what_was_never_killed(
    benchmark, teacher, tmp_path, monkeypatch, die_at
):
    """All kinds of state: adapters, the shuffle's own stream, half an epoch's sums.

    Twelve batches, saved after every second one.
    """
    expected = run(benchmark, teacher, learners(benchmark, teacher))
    checkpoint = Checkpoint(tmp_path / "state.pt", steps=2)
    save, saved = Checkpoint.save, []

    def until(self, some, epoch, step):
        save(self, some, epoch, step)
        saved.append((epoch, step))
        if len(saved) == die_at:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "save", until)
        if die_at <= 6:
            with pytest.raises(Killed):
                run(benchmark, teacher, learners(benchmark, teacher), checkpoint)
        else:
            run(benchmark, teacher, learners(benchmark, teacher), checkpoint)
    same(run(benchmark, teacher, learners(benchmark, teacher), checkpoint), expected)


def test_it_is_not_saved_between_the_batches_of_one_step(benchmark, teacher, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Checkpoint, "save", lambda self, some, epoch, step: seen.append(step))
    some = learners(benchmark, teacher, ("kd",), accumulation=4)
    run(benchmark, teacher, some, Checkpoint(tmp_path / "state.pt", steps=1))
    assert seen == [4, 0, 4, 0]  # six batches an epoch; the last two are a step of their own


def test_a_number_of_steps_that_does_not_divide_the_epoch_is_kept(benchmark, teacher, tmp_path):
    """Six batches an epoch: saved after 4, 8 and 12, though an epoch begins in between."""
    seen = []
    checkpoint = Checkpoint(tmp_path / "state.pt", steps=4)
    checkpoint.save = lambda some, epoch, step: seen.append((epoch, step))
    run(benchmark, teacher, learners(benchmark, teacher, ("kd",)), checkpoint)
    assert seen == [(1, 4), (2, 2), (2, 6)]


def test_with_accumulation_it_goes_on_as_well(benchmark, teacher, tmp_path):
    fresh = lambda: learners(benchmark, teacher, ("rkd",), accumulation=4)  # noqa: E731
    expected = run(benchmark, teacher, fresh())
    checkpoint = Checkpoint(tmp_path / "state.pt", steps=4)
    some = fresh()
    steps = train(benchmark, some, 2, teacher, show=False, checkpoint=checkpoint)
    with one_thread(CPU):
        next(steps)
    same(run(benchmark, teacher, fresh(), checkpoint), expected)


def test_an_arm_that_diverged_stays_out(benchmark, teacher, tmp_path):
    some = learners(benchmark, teacher, ("scratch", "kd"))
    some[0].failure = Diverged("scratch seed 0 diverged")
    checkpoint = Checkpoint(tmp_path / "state.pt")
    checkpoint.save(some, 2, 0)
    again = learners(benchmark, teacher, ("scratch", "kd"))
    assert checkpoint.restore(again) == (2, 0)
    assert str(again[0].failure) == "scratch seed 0 diverged" and again[1].failure is None


def test_a_damaged_file_is_named_and_training_begins_anew(benchmark, teacher, tmp_path, capsys):
    some = learners(benchmark, teacher, ("kd",))
    checkpoint = Checkpoint(tmp_path / "state.pt")
    checkpoint.save(some, 1, 3)
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:200])
    assert checkpoint.restore(learners(benchmark, teacher, ("kd",))) == (1, 0)
    assert "state.pt cannot be read" in capsys.readouterr().err


def test_a_file_of_another_shape_begins_anew_or_says_to_delete_it(
    benchmark, teacher, tmp_path, capsys
):
    checkpoint = Checkpoint(tmp_path / "state.pt")
    torch.save({"something": "else"}, checkpoint.path)
    assert checkpoint.restore(learners(benchmark, teacher, ("kd",))) == (1, 0)
    assert "state.pt cannot be read" in capsys.readouterr().err
    torch.save({"epoch": 1, "step": 1, "learners": [{"model": {}}]}, checkpoint.path)
    with pytest.raises(RecordError, match="state.pt is no state of this training.*delete it"):
        checkpoint.restore(learners(benchmark, teacher, ("kd",)))


def test_a_file_that_would_run_code_is_not_loaded(benchmark, teacher, tmp_path, capsys):
    class Bad:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"epoch": Bad()}, tmp_path / "state.pt")
    checkpoint = Checkpoint(tmp_path / "state.pt")
    assert checkpoint.restore(learners(benchmark, teacher, ("kd",))) == (1, 0)
    assert not (tmp_path / "ran").exists() and "cannot be read" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said(benchmark, teacher, tmp_path):
    (tmp_path / "file").write_text("in the way")
    checkpoint = Checkpoint(tmp_path / "file" / "state.pt")
    with pytest.raises(RecordError, match="cannot be written"):
        checkpoint.save(learners(benchmark, teacher, ("kd",)), 1, 1)


def test_a_disk_that_fails_at_any_moment_leaves_the_old_state_or_the_new(
    benchmark, teacher, tmp_path
):
    some, old = learners(benchmark, teacher, ("kd",)), (1, 1)
    checkpoint = Checkpoint(tmp_path / "state.pt")
    checkpoint.save(some, *old)
    for after in count():
        with disk_that_ends(after) as refused:
            try:
                checkpoint.save(some, 2, after)
            except RecordError as error:
                assert "cannot be written" in str(error)
        assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
        found = checkpoint.restore(learners(benchmark, teacher, ("kd",)))
        assert found == (old if refused else (2, after))
        if not refused:
            break
    assert after > 5, "too few calls failed: the test proved little"


def test_what_is_recorded_needs_no_checkpoint_of_whatever_name(benchmark, teacher, tmp_path):
    """A process killed between two records: what is missing then trains under another name."""
    names = ("scratch", "kd"), ("kd",), ("rkd",)
    all_, rest, other = (
        Checkpoint.of(learners(benchmark, teacher, arms), "ab", tmp_path) for arms in names
    )
    for arms, checkpoint in zip(names, (all_, rest, other)):
        checkpoint.save(learners(benchmark, teacher, arms), 1, 1)
    (all_.path.parent / all_.records[0]).mkdir()
    other.remove()
    assert all_.path.exists() and rest.path.exists() and not other.path.exists()
    (rest.path.parent / rest.records[0]).mkdir()
    rest.remove()
    assert not all_.path.exists() and not rest.path.exists()


def test_other_runs_data_or_settings_have_another_checkpoint(benchmark, teacher, tmp_path):
    def name(arms=("kd", "rkd"), data="ab", **changes):
        some = learners(benchmark, teacher, arms, **changes)
        return Checkpoint.of(some, data, tmp_path).path

    names = [name(), name(("kd",)), name(data="cd"), name(learning_rate=0.1), name(seed=1)]
    assert len(set(names)) == 5 and name() == names[0]
    assert name(checkpoint_steps=7) == names[0]


def test_finished_runs_leave_no_checkpoint(tmp_path):
    ql.compare("digits", ("kd",), 1, "smoke", runs_dir=tmp_path, progress=False, checkpoint_steps=1)
    assert not list(tmp_path.rglob("*.pt*"))
