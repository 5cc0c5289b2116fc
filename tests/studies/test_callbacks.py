"""Checkpoints: a training that was killed goes on as if nothing had happened; progress."""

from __future__ import annotations

import copy
import hashlib
import io
import math
import os
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
from tests.studies.made_runs import places, put

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
    checkpoint = Checkpoint(tmp_path_factory.mktemp("half") / "state.pt", steps=8, key="this")
    run(benchmark, teacher, learners(benchmark, teacher, ("kd", "shuffled")), checkpoint)
    found = at(learners(benchmark, teacher, ("kd", "shuffled")))
    assert checkpoint.resume(found) and (found.done, found.step) == (1, 2)
    return checkpoint


@pytest.fixture(scope="module")
def fresh(benchmark, teacher):
    """Learners that no checkpoint of these tests is to change, and their weights."""
    some = learners(benchmark, teacher, ("kd", "shuffled"))
    return some, copy.deepcopy([one.model.state_dict() for one in some])


def refused(checkpoint, fresh, capsys):
    """What is said of a checkpoint that is not taken up; the learners are as they were."""
    some, weights = fresh
    assert not checkpoint.resume(at(some))
    for one, held in zip(some, weights, strict=True):
        assert one.batches == 0 and not one.optimizer.state_dict()["state"]
        assert all(torch.equal(held[name], now) for name, now in one.model.state_dict().items())
    said = capsys.readouterr().err
    assert f"{checkpoint.path} cannot be read" in said and "begins anew" in said
    return said


def test_a_turned_bit_a_cut_anywhere_or_another_state_is_noticed(half, fresh, tmp_path, capsys):
    whole = half.path.read_bytes()
    lesser = [whole[:size] for size in (0, 1, 64, 65, 200, len(whole) - 1)]
    checkpoint = replace(half, path=tmp_path / "state.pt")
    for content in (*flipped(whole, 50), *lesser, whole + b"0"):
        checkpoint.path.write_bytes(content)
        with pytest.raises(ValueError, match="digest does not match"):
            checkpoint._read()
    refused(checkpoint, fresh, capsys)
    checkpoint.path.write_bytes(whole)  # all shapes would fit
    assert "of another training" in refused(replace(checkpoint, key="other"), fresh, capsys)


def forge(checkpoint, path, value, place):
    """The checkpoint with something else at a path of its content, and the digest of that."""
    state = put(checkpoint._read(), path, value)
    head, about, _ = checkpoint.path.read_bytes().split(b"\n", 2)
    stream = io.BytesIO()
    torch.save(state, stream)
    rest = about + b"\n" + stream.getvalue()
    place.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    return replace(checkpoint, path=place)


def odd(value):
    """What cannot stand in the place of a value, wherever in a state it is."""
    if isinstance(value, torch.Tensor):
        return [None, torch.zeros(99)]
    if isinstance(value, tuple):
        return [None, (1, *value[1:])]
    if isinstance(value, int | float):
        return ["x", True, math.nan]
    return [] if value is None else ["x", None, 3]


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, (str(Path(os.environ["RAN"])),))


KD, KERNEL = ("learners", 0), ("learners", 1)
MOMENT = (*KERNEL, "optimizer", 0)
FORGED = [  # what else cannot be, in places of its own
    (["more"], 1), (["learners"], lambda held: held[:1]),
    (["epoch"], RunsCode()), (["epoch"], 4), (["step"], -1), (["step"], 7),
    ([*KD, "model"], {"w": torch.zeros(3)}), ([*KERNEL, "optimizer", 99], {}),
    (MOMENT, lambda held: {"step": held["step"]}),
    ([*MOMENT, "exp_avg"], lambda x: x.to_sparse()), ([*MOMENT, "exp_avg"], lambda x: x.double()),
    ([*MOMENT, "exp_avg"], lambda x: x.to("meta")), ([*KD, "failure"], 3),
    ([*MOMENT, "step"], torch.tensor(torch.nan)), ([*MOMENT, "step"], torch.tensor(1e30)),
    ([*KERNEL, "shuffle"], lambda x: x[:100]), ([*KERNEL, "shuffle"], torch.ones_like),
    ([*MOMENT, "step"], torch.tensor(-1.0)), ([*KD, "_seen"], torch.tensor(-1)),
    ([*KD, "history"], ["x"]), ([*KD, "batches"], -3), ([*KD, "seconds"], -1.0),
]  # fmt: skip


def test_what_was_forged_is_checked_before_use(half, fresh, tmp_path, capsys, monkeypatch):
    """A digest says that nothing was damaged, not that nobody made it up."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    kinds = {  # one place of each name, of learners and parameters that differ by number
        tuple(name for name in path if isinstance(name, str)): (path, value)
        for path, value in places(half._read())
    }
    cases = [(path, other) for path, value in kinds.values() for other in odd(value)]
    assert len(cases) > 50
    for path, other in (*FORGED, *cases):
        forged = forge(half, path, other, tmp_path / "state.pt")
        assert not forged.resume(at(fresh[0])), (path, other)
        assert "no state of" in capsys.readouterr().err, (path, other)
    refused(forged, fresh, capsys)
    assert not (tmp_path / "ran").exists()


def test_moments_that_share_memory_are_taken_apart(half, benchmark, teacher, tmp_path):
    """The fused optimiser writes to as many places as a parameter has numbers."""
    place, wide = (*MOMENT, "exp_avg"), lambda x: torch.zeros(1).expand(x.shape)
    forged = forge(half, place, wide, tmp_path / "state.pt")
    some = learners(benchmark, teacher, ("kd", "shuffled"))
    assert forged.resume(at(some))
    for parameter, held in some[1].optimizer.state.items():
        assert held["exp_avg"].stride() == parameter.stride()


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


def test_what_is_recorded_needs_no_checkpoint_of_whatever_name(benchmark, teacher, tmp_path):
    """A process killed between two records: what is missing then trains under another name."""
    names = ("scratch", "kd"), ("kd",), ("rkd",)
    all_, rest, other = (
        Checkpoint.of(learners(benchmark, teacher, arms), "ab", tmp_path) for arms in names
    )
    for arms, checkpoint in zip(names, (all_, rest, other)):
        checkpoint.save(at(learners(benchmark, teacher, arms), 1, 1))
    (all_.path.parent / all_.records[0]).mkdir()
    other.remove()
    assert all_.path.exists() and rest.path.exists() and not other.path.exists()
    (rest.path.parent / rest.records[0]).mkdir()
    rest.remove()
    assert not all_.path.exists() and not rest.path.exists()


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
