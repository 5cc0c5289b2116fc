"""Studies on a Dask cluster: the bits of a local one, also where a worker is killed."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading

import pytest
import torch
from distributed import Client, LocalCluster
from torch import nn

import qrkd_lab as ql
from qrkd_lab.studies.compare import StudyError
from qrkd_lab.studies.parallel import ClusterError, differences
from qrkd_lab.studies.records import read_runs
from tests.hazards import table
from tests.studies.made_runs import own_images

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
SMALL = {
    "arms": ("scratch", "qrkd"), "scale": "smoke", "train_size": 128, "validation_size": 100,
    "qubits": 2, "progress": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_study_waits_for_ever():
    def end(*_):
        raise TimeoutError("the study is waiting in vain")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(240)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def local(workers=2):
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0"
    )


@pytest.fixture(scope="module")
def cluster():
    with local() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return table(ql.compare("digits", seeds=3, runs_dir=tmp_path_factory.mktemp("local"), **SMALL))


def test_a_worker_killed_in_the_middle_changes_no_bit(cluster, undisturbed, tmp_path):
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        pids = client.run(os.getpid)
    threading.Timer(3.0, os.kill, (next(iter(pids.values())), signal.SIGKILL)).start()
    there = {"runs_dir": tmp_path, "scheduler": cluster.scheduler_address}
    study = ql.compare("digits", seeds=3, **there, **SMALL)
    assert table(study) == table(read_runs(tmp_path)) == undisturbed
    assert "9 trained" in study.notes[0]
    there["scheduler"] = "tcp://127.0.0.1:9"
    again = ql.compare("digits", seeds=3, **there, **SMALL)
    assert "9 runs reused, 0 trained" in again.notes[0], "what is recorded needs no scheduler"


def test_a_benchmark_and_a_relation_of_ones_own_are_sent_to_the_workers(cluster, tmp_path):
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > 0).long()

    def own(student):
        return ql.Benchmark.from_arrays(
            train=(x[:20], y[:20]), validation=(x[20:30], y[20:30]), test=(x[30:], y[30:]),
            teacher=lambda seed: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)),
            student=student, name="own",
        )  # fmt: skip

    gram = ql.Arm(("kd",), relations={"gram": (lambda f: f @ f.T, 1.0)}, name="gram")
    options = {"arms": [gram], "seeds": 2, "scale": "smoke", "progress": False}
    there = {"scheduler": cluster.scheduler_address}
    study, here = (
        ql.compare(own(lambda seed: nn.Linear(4, 2)), runs_dir=tmp_path / where, **more, **options)
        for where, more in (("there", there), ("here", {}))
    )
    assert table(study) == table(here) and "4 trained" in study.notes[0]
    with pytest.raises(ClusterError, match="cannot be sent to a worker"):
        ql.compare(own(Locked()), runs_dir=tmp_path / "locked", **there, **options)


class Locked:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, seed):
        return nn.Linear(4, 2)


def test_a_teacher_that_is_here_goes_along(cluster, undisturbed, tmp_path):
    ql.compare("digits", seeds=1, runs_dir=tmp_path, **SMALL | {"arms": ("scratch",)})
    finished = {run.name: run.finished for run in read_runs(tmp_path)}
    there = {"runs_dir": tmp_path, "scheduler": cluster.scheduler_address}
    study = ql.compare("digits", seeds=1, **there, **SMALL)
    assert "2 runs reused, 1 trained" in study.notes[0]
    assert table(study).items() <= undisturbed.items()
    assert finished.items() <= {run.name: run.finished for run in study.runs}.items()


def test_other_data_on_a_worker_are_named(cluster, tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    home, other = own_images(tmp_path / "home", 50), own_images(tmp_path / "other", 90)
    monkeypatch.setenv("HOME", home)
    options = SMALL | {"arms": ["scratch"], "train_size": 12, "validation_size": 4, "seeds": 1}
    del options["qubits"]
    with Client(cluster.scheduler_address, set_as_default=False) as client:
        there = {"HOME": other, "QRKD_CACHE_DIR": str(tmp_path / "there")}
        client.run(lambda: os.environ.update(there))
    there = {"runs_dir": tmp_path / "runs", "scheduler": cluster.scheduler_address}
    with pytest.raises(StudyError, match="a worker holds other data of ~/mine: sha256"):
        ql.compare("~/mine", **there, **options)


def test_no_worker_other_versions_and_no_scheduler_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.parallel.PATIENCE", 1.0)
    monkeypatch.setattr("qrkd_lab.studies.parallel.CONNECT", 2.0)
    options = SMALL | {"seeds": 1, "runs_dir": tmp_path}
    with pytest.raises(ValueError, match="expected an address like tcp://host:8786, got 'host'"):
        ql.compare("digits", scheduler="host", **options)
    with local(0) as cluster:
        with pytest.raises(ClusterError, match=f"no worker at {cluster.scheduler_address}. Start"):
            ql.compare("digits", scheduler=cluster.scheduler_address, **options)
        cluster.scale(1)
        monkeypatch.setattr("qrkd_lab.studies.parallel.PATIENCE", 60.0)
        monkeypatch.setattr("qrkd_lab.studies.parallel.differences", lambda *_: "torch 1, here 2")
        with pytest.raises(ClusterError, match="cannot do these jobs: torch 1, here 2. Install"):
            ql.compare("digits", scheduler=cluster.scheduler_address, **options)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(ClusterError, match="no Dask scheduler answers at tcp://127.0.0.1"):
            ql.compare("digits", scheduler=address, **options)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ClusterError, match="pip install"):
        ql.compare("digits", scheduler=address, **options)
    assert not read_runs(tmp_path)


def test_a_scheduler_that_is_lost_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.parallel.CONNECT", 2.0)
    with local(1) as cluster:
        threading.Timer(3.0, cluster.close).start()
        there = {"runs_dir": tmp_path, "scheduler": cluster.scheduler_address}
        with pytest.raises(ClusterError, match="does not answer any more"):
            ql.compare("digits", seeds=1, **there, **SMALL | {"epochs": 10_000})


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
