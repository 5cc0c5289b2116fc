"""Studies on a Dask cluster: the bits of a local one, whatever befalls the workers."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from distributed import Client
from torch import nn

import qrkd_lab as ql
from qrkd_lab.studies.compare import StudyError
from qrkd_lab.studies.parallel import ClusterError, _packed, differences
from qrkd_lab.studies.records import read_runs, versions
from tests.dask_cluster import SMALL, Cluster
from tests.hazards import FORKS, table, wait_for
from tests.studies.made_runs import own_images

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and fork")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(autouse=True)
def no_study_waits_for_ever():
    def end(*_):
        raise TimeoutError("the study is waiting in vain")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.parallel.PATIENCE", 3.0)
    monkeypatch.setattr("qrkd_lab.studies.parallel.CONNECT", 2.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    return table(ql.compare("digits", ("scratch", "qrkd"), 3, runs_dir=folder, **SMALL))


@pytest.fixture
def beside():
    """Something that goes on while a study runs; what fails there fails the test."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit


def test_a_worker_killed_in_the_middle_changes_no_bit(cluster, undisturbed, tmp_path, beside):
    cluster.have(3)
    hold = cluster.order("hold-1")

    def kill():
        os.kill(cluster.held(1), signal.SIGKILL)
        hold.unlink()

    killing = beside(kill)
    study = cluster.compare(tmp_path)
    killing.result()
    assert table(study) == table(read_runs(tmp_path)) == undisturbed
    assert "9 trained" in study.notes[0]
    assert not list((cluster.folder / "dask-scratch-space" / "qrkd_lab").iterdir())
    gone = {"runs_dir": tmp_path, "scheduler": "tcp://127.0.0.1:9"} | SMALL
    again = ql.compare("digits", ("scratch", "qrkd"), 3, **gone)
    assert "9 runs reused, 0 trained" in again.notes[0], "what is recorded needs no scheduler"


def test_a_benchmark_and_a_relation_of_ones_own_are_sent_to_the_workers(cluster, tmp_path):
    cluster.have(2)
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()
    own = ql.Benchmark.from_arrays(
        train=(x[:20], y[:20]), validation=(x[20:30], y[20:30]), test=(x[30:], y[30:]),
        teacher=lambda seed: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)),
        student=lambda seed: nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)),
    )  # fmt: skip
    gram = ql.Arm(("kd",), relations={"gram": (lambda f: f @ f.T, 1.0)}, name="gram")
    study, local = (
        ql.compare(own, [gram], 2, "smoke", runs_dir=tmp_path / where, progress=False, **options)
        for where, options in (("there", {"scheduler": cluster.address}), ("here", {}))
    )
    assert table(study) == table(local) and "4 trained" in study.notes[0]
    with pytest.raises(ClusterError, match="cannot be sent to a worker"):
        _packed(threading.Lock())


def test_a_teacher_that_is_here_goes_along(cluster, undisturbed, tmp_path):
    cluster.have(2)
    ql.compare("digits", ("scratch",), 1, runs_dir=tmp_path, **SMALL)
    finished = {run.name: run.finished for run in read_runs(tmp_path)}
    study = cluster.compare(tmp_path, 1)
    assert "2 runs reused, 1 trained" in study.notes[0]
    assert table(study).items() <= undisturbed.items()
    assert finished.items() <= {run.name: run.finished for run in study.runs}.items()


def test_a_seed_that_kills_every_worker_is_named_and_the_others_are_kept(
    cluster, undisturbed, tmp_path
):
    cluster.have(3)
    cluster.order("die-2")
    with pytest.raises(StudyError, match="seed 2: 2 workers died while they trained it") as caught:
        cluster.compare(tmp_path, (0, 2))
    assert len(caught.value.failures) == 1
    kept = table(caught.value.study)
    assert set(kept) == {"teacher seed 0", "scratch seed 0", "qrkd seed 0"}
    assert kept.items() <= undisturbed.items()


def study_until_interrupted(cluster_address, folder):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = SMALL | {"epochs": 10_000}
    ql.compare("digits", ("scratch",), 1, runs_dir=folder, scheduler=cluster_address, **options)


def test_ctrl_c_calls_the_jobs_off(cluster, tmp_path):
    cluster.have(1)
    hold = cluster.order("hold-0")
    caller = FORKS.Process(target=study_until_interrupted, args=(cluster.address, tmp_path))
    caller.start()
    cluster.held(0)
    hold.unlink()
    os.kill(caller.pid, signal.SIGINT)
    caller.join(30)
    assert caller.exitcode == 1  # KeyboardInterrupt
    with Client(cluster.address, set_as_default=False) as client:
        wait_for(lambda: not any(client.run(lambda dask_worker: dask_worker.state.tasks).values()))


def test_work_goes_to_workers_that_come_late(cluster, undisturbed, tmp_path, beside):
    cluster.have(1)
    first, second = cluster.order("hold-0"), cluster.order("hold-1")

    def help_late():
        os.kill(cluster.held(0), signal.SIGKILL)  # nobody is left, and seed 0 has nobody to go to
        cluster.workers[0].join()
        (cluster.orders / "held-0").unlink()
        cluster.start()
        cluster.held(0)
        cluster.start()  # while the other is busy
        cluster.held(1)
        second.unlink()
        wait_for(lambda: {run.settings["seed"] for run in read_runs(tmp_path)} == {1, 2})
        first.unlink()

    helping = beside(help_late)
    study = cluster.compare(tmp_path)
    helping.result()
    assert table(study) == undisturbed


def test_workers_that_cannot_do_it_are_named_and_get_nothing(
    cluster, tmp_path, monkeypatch, capsys, impatient
):
    cluster.have(0)
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    home, other = own_images(tmp_path / "home", 50), own_images(tmp_path / "other", 90)
    monkeypatch.setenv("HOME", home)
    cluster.start({"torch": "2.9.1", "python": "3.9.1"}, HOME=home)
    cluster.start(HOME=other)
    cluster.start(HOME=str(tmp_path))
    cluster.wait_for_workers(3)
    options = {
        "benchmark": "~/mine", "arms": ("scratch",), "train_size": 12, "validation_size": 4,
        "scale": "smoke", "progress": True,
    }  # fmt: skip
    with pytest.raises(ClusterError, match="can do these jobs") as caught:
        cluster.compare(tmp_path / "runs", **options)
    said = str(caught.value)
    ours = versions()["torch"].partition("+")[0]
    assert f"torch 2.9.1, here {ours}; python 3.9, here " in said
    assert "it holds other data of ~/mine: sha256" in said
    assert "unknown benchmark '~/mine'" in said
    assert said.count("worker tcp://") == 3
    assert capsys.readouterr().err.count("gets no job: ") == 3
    cluster.start(HOME=home)
    cluster.wait_for_workers(4)
    study = cluster.compare(tmp_path / "runs", **options)
    assert "6 trained" in study.notes[0]


def test_no_worker_and_no_scheduler_are_said(cluster, tmp_path, impatient, monkeypatch):
    cluster.have(0)
    with pytest.raises(ValueError, match="expected an address like tcp://host:8786, got 'host'"):
        ql.compare("digits", seeds=1, runs_dir=tmp_path, scheduler="host", **SMALL)
    with pytest.raises(ClusterError, match=f"no worker at {cluster.address}. Start some"):
        cluster.compare(tmp_path)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        there = {"scheduler": f"tcp://127.0.0.1:{nobody.getsockname()[1]}", **SMALL}
        with pytest.raises(ClusterError, match="no Dask scheduler answers at tcp://127.0.0.1"):
            ql.compare("digits", seeds=1, runs_dir=tmp_path, **there)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="pip install"):
        ql.compare("digits", seeds=1, runs_dir=tmp_path, **there)
    assert not read_runs(tmp_path)


def test_a_scheduler_that_is_lost_is_named_once(tmp_path, beside, monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.parallel.CONNECT", 2.0)
    cluster = Cluster(tmp_path)

    def lose():
        cluster.held(0)
        cluster.scheduler.kill()

    try:
        cluster.have(1)
        cluster.order("hold-0")
        losing = beside(lose)
        with pytest.raises(ClusterError, match=f"{cluster.address} does not answer any more"):
            cluster.compare(tmp_path / "runs", 2)
        losing.result()
    finally:
        cluster.close()


HERE = {"qrkd_lab": "0.1.0", "torch": "2.14.1+cpu", "python": "3.11.9", "cpu": "AVX2"}


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, ""),
        ({"torch": "2.14.1+cu128", "python": "3.11.2", "cpu": None}, ""),
        ({"python": "3.12.9"}, "python 3.12, here 3.11"),
        ({"torch": None}, "torch not installed, here 2.14.1"),
        ({"qrkd_lab": "0.2", "torch": "3.0"}, "qrkd_lab 0.2, here 0.1.0; torch 3.0, here 2.14.1"),
    ],
)
def test_versions_that_matter_are_compared(other, says):
    assert differences(HERE, HERE | other) == says
