"""Where jobs run, as it was asked for; on a cluster: test_cluster.py, dying: test_workers.py."""

from __future__ import annotations

import subprocess
import sys

import pytest

from qrkd_lab.studies import parallel
from qrkd_lab.studies.parallel import check_jobs, each, processes


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_gets_its_arguments(jobs):
    found = each(lambda seed, word: (seed, [word], []), {3: (3, "a"), 4: (4, "b")}, jobs)
    assert sorted(found) == [(3, ["a"], []), (4, ["b"], [])]


@pytest.mark.parametrize("scheduler", [None, "tcp://127.0.0.1:9"])
def test_nothing_to_do_needs_nobody(scheduler):
    assert list(each(None, {}, scheduler=scheduler)) == []


@pytest.mark.parametrize("jobs", [0, -2, 1.5, True, "2", None])
def test_what_is_no_number_of_processes_is_refused(jobs):
    check_jobs(1), check_jobs(-1), check_jobs(200)
    with pytest.raises(ValueError, match="jobs: expected a whole number >= 1, or -1 for"):
        check_jobs(jobs)


# What joblib finds where there is no shared memory: no semaphore, so no processes.
NO_SEMAPHORES = """
import _multiprocessing, os, warnings
class SemLock(_multiprocessing.SemLock):
    def __new__(cls, *args, **options):
        raise FileNotFoundError("no /dev/shm")
_multiprocessing.SemLock = SemLock
from qrkd_lab.studies.parallel import can_start_workers, each
assert not can_start_workers()
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    found = list(each(lambda seed: (seed, [os.getpid()], []), {3: (3,), 4: (4,)}, {jobs}))
assert found == [(3, [os.getpid()], []), (4, [os.getpid()], [])], found
print(*{str(warning.message) for warning in said})
"""


@pytest.mark.parametrize("jobs", [1, 2, -1])
def test_where_no_process_can_be_started_the_jobs_are_done_here(jobs):
    code = NO_SEMAPHORES.replace("{jobs}", str(jobs))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = "" if jobs == 1 else f"jobs={jobs}, but {parallel.NO_WORKERS}"
    assert done.stdout.strip() == said


def test_no_more_processes_than_tasks():
    assert (processes(4, 2), processes(2, 4), processes(1, 0)) == (2, 2, 1)
