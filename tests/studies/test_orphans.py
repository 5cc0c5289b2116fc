"""Workers do not outlive the process that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from qrkd_lab.studies.parallel import watched

SCRIPT = """
import os, sys, time, joblib
from qrkd_lab.studies.parallel import watched

def work(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(120)

jobs = [joblib.delayed(watched)(os.getpid(), work, sys.argv[1])] * 2
joblib.Parallel(n_jobs=2)(jobs)
"""


def alive(pid) -> bool:
    """Whether the process runs; one that has ended and waits to be fetched does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return state.stdout.strip()[:1] not in ("", "Z")


def wait_until(true, seconds=120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_workers_end_when_their_parent_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)])
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert all(map(alive, workers)) and parent.pid not in workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(map(alive, workers)))


def test_in_the_process_that_hands_out_the_work_nothing_is_watched():
    before = threading.active_count()
    assert watched(os.getpid(), divmod, 7, 2) == (3, 1)
    assert watched(0, int, "11", base=2) == 3, "and in one that joblib did not start"
    assert threading.active_count() == before
