"""Worker processes that die: what was theirs is done by others, and the one to blame is named."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor

from qrkd_lab.studies.parallel import outcomes

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


def jobs(folder: Path, deaths: dict[int, int]) -> dict:
    """Jobs by seed that are killed so many times before they are done."""

    def job(seed: int) -> tuple[int, list, list]:
        before = len(list(folder.glob(f"{seed}-*")))
        (folder / f"{seed}-{before}").touch()
        if before < deaths.get(seed, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        return seed, [f"run {seed}"], []

    return {seed: joblib.delayed(job)(seed) for seed in range(4)}


def test_a_job_whose_process_was_killed_is_done_again(tmp_path):
    found = sorted(outcomes(jobs(tmp_path, {1: 1}), 2))
    assert found == [(seed, [f"run {seed}"], []) for seed in range(4)]


def test_a_job_that_dies_every_time_is_named_and_the_others_are_done(tmp_path):
    found = sorted(outcomes(jobs(tmp_path, {2: 99}), 2))
    assert [runs for _, runs, _ in found] == [["run 0"], ["run 1"], [], ["run 3"]]
    assert "seed 2: the process that trained it was killed" in found[2][2][0]


def test_one_worker_is_this_process():
    here = {0: joblib.delayed(lambda: (0, [os.getpid()], []))()}
    assert list(outcomes(here, 1)) == [(0, [os.getpid()], [])]


def test_workers_do_not_hear_ctrl_c_and_the_caller_does():
    def job(seed: int) -> tuple[int, list, list]:
        return seed, [signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())], []

    get_reusable_executor().shutdown(wait=True)  # workers of other tests were started elsewhere
    found = list(outcomes({seed: joblib.delayed(job)(seed) for seed in range(2)}, 2))
    assert [heard for _, heard, _ in found] == [[True], [True]]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
