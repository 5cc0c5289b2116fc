"""What a worker of a cluster says about itself; the rest needs one (test_cluster.py)."""

from __future__ import annotations

import pytest

from qrkd_lab.studies.parallel import call, differences

MACHINE = {"platform": "Linux-6", "cpu": "AVX2"}
HERE = {"qrkd_lab": "0.1.0", "torch": "2.14.1+cpu", "python": "3.11.9"} | MACHINE


def test_machine_build_and_patch_of_python_do_not_count():
    assert differences(HERE, HERE) == ""
    there = HERE | {"torch": "2.14.1+cu128", "python": "3.11.2"}
    assert differences(HERE, there | {"platform": "macOS-15", "cpu": None}) == ""


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"torch": "2.9.1"}, "torch 2.9.1, here 2.14.1"),
        ({"python": "3.12.9"}, "python 3.12, here 3.11"),
        ({"torch": None}, "torch not installed, here 2.14.1"),
        ({"qrkd_lab": "0.2", "torch": "3.0"}, "qrkd_lab 0.2, here 0.1.0; torch 3.0, here 2.14.1"),
    ],
)
def test_a_difference_is_named(other, says):
    assert differences(HERE, HERE | other) == says


def test_an_error_of_a_job_becomes_a_sentence():
    assert call((3, lambda a: (3, [a], []), ("run",))) == (3, ["run"], [])
    seed, made, failures = call((3, lambda: 1 / 0, ()))
    assert (seed, made, failures) == (3, [], ["seed 3: ZeroDivisionError: division by zero"])
