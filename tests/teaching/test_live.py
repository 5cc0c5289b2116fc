"""Training in a process of its own: started, paused, stopped, killed; its records are a study's."""

from __future__ import annotations

import os
import socket
import time

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.losses import Outputs, TeacherBatch
from qrkd_lab.studies.records import read_runs
from qrkd_lab.teaching.live import LiveRun, Order, pulls_of_terms

SMALL = {"train_size": 128, "validation_size": 100, "qubits": 3, "batch_size": 32}


@pytest.fixture(scope="module")
def live():
    made = LiveRun()
    yield made
    if (process := made._process) is not None:
        made.retire()
        assert process.wait(60) == 0, "it ends by itself"
    made.close()


def order(folder, arms=("kd", "qrkd"), **changes):
    return Order("digits", "smoke", tuple(arms), 0, SMALL | changes, runs_dir=folder)


def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "took too long"
        time.sleep(0.005)


def test_it_makes_the_records_of_a_study_and_reuses_them(live, tmp_path):
    live.start(order(tmp_path / "live", epochs=2))
    with pytest.raises(RuntimeError, match="under way"):
        live.start(order(tmp_path / "live"))
    assert live.wait(60) and live.state == "done"
    study = ql.compare("digits", ("kd", "qrkd"), 1, "smoke", runs_dir=tmp_path / "study",
                       progress=False, epochs=2, **SMALL)  # fmt: skip
    expected = {r.key: r.metrics for r in study.runs if r.settings["arm"] != "teacher"}
    assert {run.key: run.metrics for run in live.track.runs} == expected
    assert not live.track.reused
    track = live.track
    assert [len(track.histories[arm]) for arm in ("kd", "qrkd")] == [2, 2]
    assert track.at == track.epochs == 2
    pair = track.matrices["qrkd"]
    assert [matrix.shape for matrix in pair] == [(32, 32)] * 2 and track.labels.shape == (32,)
    assert track.pulls["kd"].keys() == {"task", "kd"}
    assert track.pulls["qrkd"].keys() == {"task", "kd", "distance", "angle", "kernel", "dose"}
    live.start(order(tmp_path / "live", epochs=2))
    assert live.wait(60) and live.state == "done"
    assert live.track.reused == ["kd seed 0", "qrkd seed 0"]
    assert live.track.epochs == 2, "what was on disk is drawn over its own epochs"


def test_pause_waits_go_on_goes_on_and_stop_leaves_a_valid_record(live, tmp_path):
    live.start(order(tmp_path, epochs=500))
    until(lambda: "qrkd" in live.track.arms and live.track.at >= 2)
    live.pause()
    until(lambda: live.state == "paused")
    at = live.track.at
    time.sleep(0.5)
    assert live.track.at == at and live.state == "paused"
    live.pause()
    until(lambda: live.track.at > at)
    live.pause()
    until(lambda: live.state == "paused")
    live.stop()
    assert live.wait(60) and live.state == "stopped"
    runs = read_runs(tmp_path, "digits", "smoke")
    epochs = {run.settings["arm"]: len(run.history) for run in runs}
    assert epochs["kd"] == epochs["qrkd"] >= 2
    assert {r.settings["epochs"] for r in runs if r.settings["arm"] == "kd"} == {epochs["kd"]}


def test_what_goes_wrong_is_said_and_the_next_order_is_carried_out(live, tmp_path):
    (tmp_path / "file").write_text("")
    for folder, changes, said in (
        (tmp_path, {"learning_rate": 1e9}, "diverged in epoch"),
        (tmp_path, {"qubits": 30}, "from 1 to 16, got 30"),
        (tmp_path / "file", {}, "cannot be written"),
    ):
        live.start(order(folder, ("qrkd",), **changes))
        assert live.wait(60) and live.state == "failed"
        assert said in live.track.failures[-1]
    live.start(order(tmp_path, ("kd",)))
    assert live.wait(60) and live.state == "done"


def test_when_the_notebook_is_gone_the_training_stops_and_is_recorded(live, tmp_path):
    live.start(order(tmp_path, ("kd", "scratch"), epochs=100_000))
    until(lambda: live.track.at >= 2 and "kd" in live.track.arms)
    process = live._process
    assert os.getpgid(process.pid) != os.getpgid(0), "an interrupt would reach it"
    with socket.socket(fileno=os.dup(live._pipe.fileno())) as pipe:
        pipe.shutdown(socket.SHUT_RDWR)  # as the system does when a process ends, however it ends
    assert process.wait(60) == 0 and live.wait(60)
    runs = read_runs(tmp_path, "digits", "smoke")
    assert {run.settings["arm"] for run in runs} == {"teacher", "kd", "scratch"}
    assert list(tmp_path.rglob(".checkpoint*"))


def test_a_process_that_is_killed_is_said_and_the_next_one_goes_on(live, tmp_path):
    live.start(order(tmp_path, ("kd",), epochs=400, checkpoint_steps=1))
    until(lambda: live.track.at >= 3 and live.track.arms == ("kd",))
    first = live.track.histories["kd"][0]
    live._process.kill()
    assert live.wait(60) and live.state == "failed"
    assert "has died" in live.track.failures[-1]
    live.start(order(tmp_path, ("kd",), epochs=400, checkpoint_steps=1))
    until(lambda: live.state == "training")
    assert live.track.at > 2, "it goes on from the checkpoint"
    assert live.track.histories["kd"][0] == first, "and so do the curves"
    live.stop()
    assert live.wait(60)


@pytest.mark.parametrize("how", [{"kernel_dose": 0.3}, {"kernel_share": 0.4}])
def test_pulls_are_gradients_at_the_features_and_leave_the_loss_as_it_was(how):
    x, head = torch.randn(8, 5, requires_grad=True), torch.nn.Linear(5, 3)
    kernel = ql.KernelRelation(ql.FidelityKernel("zz", 2), ql.Encoder(5, 5, 2, "truncate"),
                               "shuffled")  # fmt: skip
    loss = ql.DistillationLoss(2.0, 1.0, 2.0, (kernel, 3.0), **how)
    student, teacher = Outputs(head(x), x), Outputs(torch.randn(8, 3), torch.randn(8, 5))
    targets, before = torch.arange(8) % 3, kernel.generator.get_state()
    found = pulls_of_terms(loss, student, TeacherBatch(teacher), targets)
    assert torch.equal(kernel.generator.get_state(), before)
    total, _ = loss(student, teacher, targets)
    plain = ql.DistillationLoss(2.0, 1.0, 2.0)
    _, terms = plain(student, teacher, targets)
    weighted = [({"task": 1.0} | plain.weights)[name] * term for name, term in terms.items()]
    gradients = [torch.autograd.grad(term, x, retain_graph=True)[0] for term in weighted]
    kept = 1 - how.get("kernel_share", 0)
    norms = [gradients[0].norm(), gradients[1].norm(), *(kept * g.norm() for g in gradients[2:])]
    expected = {name: norm.item() for name, norm in zip(terms, norms)}
    assert {name: found[name] for name in terms} == pytest.approx(expected, rel=1e-4)
    rest = torch.autograd.grad(total, x)[0] - gradients[0] - gradients[1]
    classical = gradients[2] + gradients[3]
    assert found["kernel"] == pytest.approx((rest - kept * classical).norm().item(), rel=1e-3)
    assert found["dose"] == pytest.approx(found["kernel"] / classical.norm().item(), rel=1e-4)
    assert found["dose"] == pytest.approx(next(iter(how.values()), found["dose"]), rel=1e-4)


def test_a_relation_of_ones_own_counts_in_the_dose_as_it_does_in_the_loss():
    x = torch.randn(8, 5, requires_grad=True)
    student, teacher = Outputs(x[:, :3] * 2, x), Outputs(torch.randn(8, 3), torch.randn(8, 5))
    relation = ql.KernelRelation(ql.RBFKernel(), ql.Encoder(5, 5, 3))
    own, targets = {"gram": (lambda f: f @ f.T, 2.0)}, torch.arange(8) % 3
    dosed = ql.DistillationLoss(
        distance=1.0, kernel=(relation, 1.0), relations=own, kernel_dose=0.3
    )
    assert pulls_of_terms(dosed, student, TeacherBatch(teacher), targets)["dose"] == pytest.approx(
        0.3, rel=1e-4
    )
    weight = dosed.pulls["kernel_weight"].item()
    plain = ql.DistillationLoss(distance=1.0, kernel=(relation, weight), relations=own)
    found = pulls_of_terms(plain, student, TeacherBatch(teacher), targets)
    assert found["dose"] == pytest.approx(0.3, rel=1e-4)
