"""Checkpoints: a training that was killed goes on as if nothing had happened."""

from __future__ import annotations

import copy
import hashlib
import io
import os
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.devices import one_thread
from qrkd_lab.files import RecordError
from qrkd_lab.studies.callbacks import Checkpoint
from qrkd_lab.studies.group import lockstep, make_learner
from qrkd_lab.studies.records import versions
from qrkd_lab.train import Diverged, Training
from tests.hazards import NO_FILES, REFUSALS, disk_that_ends, flipped, refusing

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


@pytest.mark.parametrize("die_at", [1, 3, 6])
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
    for content in (*flipped(whole, 150), *lesser, whole + b"0"):
        checkpoint.path.write_bytes(content)
        with pytest.raises(ValueError, match="digest does not match"):
            checkpoint._read()
    refused(checkpoint, fresh, capsys)
    checkpoint.path.write_bytes(whole)  # all shapes would fit
    assert "of another training" in refused(replace(checkpoint, key="other"), fresh, capsys)


def forge(checkpoint, change, place):
    """The checkpoint with another content, and the digest of that."""
    state = change(copy.deepcopy(checkpoint._read()))
    head, about, _ = checkpoint.path.read_bytes().split(b"\n", 2)
    stream = io.BytesIO()
    torch.save(state, stream)
    rest = about + b"\n" + stream.getvalue()
    place.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    return replace(checkpoint, path=place)


def put(*where, value):
    """A change of one place in a checkpoint's content; a function gets what was there."""

    def change(state):
        held = state
        for name in where[:-1]:
            held = held[name]
        held[where[-1]] = value(held[where[-1]]) if callable(value) else value
        return state

    return change


MOMENT = ("learners", 1, "optimizer", 0)
FORGED = {
    "no dictionary": lambda state: [state],
    "another key": lambda state: state | {"more": 1},
    "one learner": put("learners", value=lambda held: held[:1]),
    "odd learner": put("learners", 0, value=None),
    "epoch as text": put("epoch", value="4"),
    "epoch as truth": put("epoch", value=True),
    "epoch 0": put("epoch", value=0),
    "epoch beyond": put("epoch", value=4),
    "step below 0": put("step", value=-1),
    "step beyond": put("step", value=7),
    "step as float": put("step", value=1.0),
    "long moment": put(*MOMENT, "exp_avg", value=torch.zeros(10**6)),
    "short moment": put(*MOMENT, "exp_avg_sq", value=torch.zeros(1)),
    "double moment": put(*MOMENT, "exp_avg", value=lambda x: x.double()),
    "sparse moment": put(*MOMENT, "exp_avg", value=lambda x: x.to_sparse()),
    "moment without content": put(*MOMENT, "exp_avg", value=lambda x: x.to("meta")),
    "list as moment": put(*MOMENT, "exp_avg", value=lambda x: x.tolist()),
    "no moment": lambda state: (state["learners"][1]["optimizer"][0].pop("exp_avg"), state)[1],
    "another parameter": lambda state: (state["learners"][1]["optimizer"].update({99: {}}), state)[
        1
    ],
    "steps of a vector": put(*MOMENT, "step", value=torch.ones(3)),
    "steps nan": put(*MOMENT, "step", value=torch.tensor(torch.nan)),
    "steps below 1": put(*MOMENT, "step", value=torch.tensor(-1.0)),
    "steps without end": put(*MOMENT, "step", value=torch.tensor(1e30)),
    "weights of another model": put("learners", 0, "model", value={"w": torch.zeros(3)}),
    "no weights": put("learners", 0, "model", value=None),
    "adapter": put("learners", 1, "loss", value={}),
    "random state cut": put("learners", 1, "shuffle", value=lambda x: x[:100]),
    "random state gone": put("learners", 1, "shuffle", value=None),
    "random state as text": put("learners", 1, "shuffle", value="x"),
    "random state of ones": put("learners", 1, "shuffle", value=torch.ones_like),
    "sums of another length": put("learners", 0, "_sums", value=torch.zeros(99)),
    "counts of a vector": put("learners", 0, "_seen", value=torch.ones(3)),
    "counts below 0": put("learners", 0, "_seen", value=torch.tensor(-1)),
    "sums as text": put("learners", 0, "_sums", value="x"),
    "history nan": put("learners", 0, "history", 0, "total", value=float("nan")),
    "history as text": put("learners", 0, "history", value="x"),
    "history of numbers": put("learners", 0, "history", value=["x"]),
    "seconds": put("learners", 0, "seconds", value="1"),
    "seconds below 0": put("learners", 0, "seconds", value=-1.0),
    "batches": put("learners", 0, "batches", value=3.5),
    "batches below 0": put("learners", 0, "batches", value=-3),
    "names": put("learners", 0, "_names", value=lambda names: (1, *names[1:])),
    "failure": put("learners", 0, "failure", value=3),
    "code": lambda state: state | {"epoch": RunsCode()},
}


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, (str(Path(os.environ["RAN"])),))


@pytest.mark.parametrize("kind", FORGED)
def test_what_was_forged_is_checked_before_use(half, fresh, tmp_path, capsys, monkeypatch, kind):
    """A digest says that nothing was damaged, not that nobody made it up."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    forged = forge(half, FORGED[kind], tmp_path / "state.pt")
    assert "no state of" in refused(forged, fresh, capsys)
    assert not (tmp_path / "ran").exists()


def test_moments_that_share_memory_are_taken_apart(half, benchmark, teacher, tmp_path):
    """The fused optimiser writes to as many places as a parameter has numbers."""
    wide = put(*MOMENT, "exp_avg", value=lambda x: torch.zeros(1).expand(x.shape))
    forged = forge(half, wide, tmp_path / "state.pt")
    some = learners(benchmark, teacher, ("kd", "shuffled"))
    assert forged.resume(at(some))
    for parameter, held in some[1].optimizer.state.items():
        assert held["exp_avg"].stride() == parameter.stride()


@pytest.mark.parametrize("code", REFUSALS)
def test_a_file_that_may_be_whole_is_kept(half, fresh, code):
    with refusing(half.path.name, code), pytest.raises(RecordError) as caught:
        half.resume(at(fresh[0]))
    said = str(caught.value)
    assert os.strerror(code) in said and "keep it" in said
    assert "damaged" not in said and "elete" not in said
    assert half.path.exists()


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_named_and_nobody_waits_for_it(fresh, tmp_path, kind):
    checkpoint = Checkpoint(tmp_path / ".checkpoint-1.pt")
    NO_FILES[kind](checkpoint.path)
    with pytest.raises(RecordError, match=f"is a {kind}.*where a file is expected"):
        checkpoint.resume(at(fresh[0]))
    Checkpoint(tmp_path / ".checkpoint-2.pt").remove()
    assert os.path.lexists(checkpoint.path)


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


def test_finished_runs_leave_no_checkpoint(tmp_path):
    ql.compare("digits", ("kd",), 1, "smoke", runs_dir=tmp_path, progress=False, checkpoint_steps=1)
    assert not list(tmp_path.rglob("*.pt*"))
