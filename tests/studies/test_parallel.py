"""Jobs in processes that may die: nobody's work is lost."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys

import pytest
import torch
from joblib.externals.loky import get_reusable_executor

from qrkd_lab import cli
from qrkd_lab.studies.parallel import _attempt, check_jobs, each, processes
from qrkd_lab.train import Diverged
from tests.hazards import alive, wait_for

posix = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL, fork and the locks of POSIX")


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_task_gets_its_arguments_and_an_error_becomes_a_sentence(jobs):
    assert [processes(*asked) for asked in ((4, 2), (2, 4), (1, 0))] == [2, 2, 1]
    assert list(each(lambda: [os.getpid()], {0: ()}, jobs)) == [(0, [os.getpid()], [])]

    def job(word):
        yield word.upper()
        yield Diverged("it diverged")
        yield 1 / 0

    found = sorted(each(job, {3: ("a",), 4: ("b",)}, jobs))
    failures = ["it diverged", "seed {}: ZeroDivisionError: division by zero"]
    for (seed, made, said), expected in zip(found, ((3, ["A"]), (4, ["B"]))):
        assert (seed, made) == expected and said == [text.format(seed) for text in failures]


@pytest.mark.parametrize("jobs", [0, -2, 1.5, True])
def test_what_is_no_number_of_processes_is_refused(jobs):
    check_jobs(1), check_jobs(-1), check_jobs(200)
    with pytest.raises(ValueError, match="jobs: expected a whole number >= 1, or -1 for"):
        check_jobs(jobs)


class Interrupted(io.BytesIO):
    """A file in the midst of whose writing Ctrl-C is pressed."""

    def write(self, data):
        if self.tell():
            signal.raise_signal(signal.SIGINT)
        return super().write(data)


class Destructor:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)


def raises(error):
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise error from None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    "pressed",
    [
        lambda: torch.save({"weights": torch.zeros(1000)}, Interrupted()),
        lambda: raises(ImportError("cannot import name")),
        lambda: raises(AttributeError("half imported")),
        lambda: Destructor() and None,  # what it raises is printed and forgotten
        lambda: signal.raise_signal(signal.SIGINT),
    ],
    ids=["torch.save", "import", "attribute", "destructor", "plain"],
)
def test_ctrl_c_ends_a_study_whatever_a_library_makes_of_it(pressed, monkeypatch, capsys, request):
    def seed():
        yield 1
        pressed()

    # A shell that starts the tests in the background has Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        _attempt(0, seed, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr("qrkd_lab.teaching.doctor.main", pressed)
    assert cli.main(["doctor"]) == 130
    assert "same command goes on" in capsys.readouterr().err


# What joblib finds where there is no shared memory: no semaphore, so no processes.
NO_SEMAPHORES = """
import _multiprocessing, os
class SemLock(_multiprocessing.SemLock):
    def __new__(cls, *args, **options):
        raise FileNotFoundError("no /dev/shm")
_multiprocessing.SemLock = SemLock
from qrkd_lab.studies.parallel import each
for jobs in (1, 2, -1):
    found = list(each(lambda: [os.getpid()], {3: (), 4: ()}, jobs))
    assert found == [(3, [os.getpid()], []), (4, [os.getpid()], [])], found
"""


def test_where_no_process_can_be_started_the_jobs_are_done_here():
    command = [sys.executable, "-c", NO_SEMAPHORES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@posix
def test_a_process_that_is_killed_is_the_failure_of_the_seeds_that_are_left(tmp_path):
    def job(seed):
        if seed == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return [seed]

    found = {seed: (made, said) for seed, made, said in each(job, {s: (s,) for s in range(4)}, 2)}
    assert found.keys() == {0, 1, 2, 3}
    made, said = found[2]
    assert not made and "seed 2 is not trained, as a process was killed" in said[0]
    assert all(made == [seed] or said for seed, (made, said) in found.items())


@posix
def test_workers_do_not_hear_ctrl_c_and_the_caller_does():
    def job():
        return [signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())]

    get_reusable_executor().shutdown(wait=True)  # workers of other tests were started elsewhere
    assert [heard for _, heard, _ in each(job, {0: (), 1: ()}, 2)] == [[True], [True]]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


ORPHANS = """
import os, sys, time
from qrkd_lab.studies.parallel import each

def work(folder):
    open(os.path.join(folder, str(os.getpid())), "w").close()
    time.sleep(120)

list(each(work, {0: (sys.argv[1],), 1: (sys.argv[1],)}, 2))
"""


@posix
def test_workers_end_when_their_parent_is_killed(tmp_path):
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS, str(tmp_path)])
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    assert all(map(alive, workers)) and parent.pid not in workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for(lambda: not any(map(alive, workers)))
