"""Seed groups: a notebook executed once, and no half of one taken for a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from qrkd_lab import reproduce as seed_groups
from qrkd_lab.reproduce import SeedGroup, split_seeds
from qrkd_lab.teaching.notebooks import NotebookError
from tests.hazards import disk_that_ends
from tests.studies.test_orphans import alive, wait_until

PARAMETERS = "scale = 'laptop'\nseeds: int | list[int] = 5\njobs = 1"


def lesson(folder, source="print(seeds)"):
    cells = [nbformat.v4.new_code_cell(text) for text in (PARAMETERS, source)]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / "lesson.ipynb")
    return folder / "lesson.ipynb"


def group_of(folder, seeds=(0, 1, 2), **more):
    parameters = {"scale": "smoke", "seeds": list(seeds)} | more
    return SeedGroup("digits", folder / "lesson.ipynb", parameters, folder / "out")


@pytest.fixture
def kernels(tmp_path, monkeypatch):
    """A notebook, and a stand-in for the kernel that executes it: what was asked of it."""
    lesson(tmp_path)
    asked = []

    def execute(notebook, folder, parameters, **_):
        asked.append(parameters)
        Path(folder, notebook.name).write_text("executed")

    monkeypatch.setattr(seed_groups, "execute", execute)
    return asked


def test_a_finished_group_is_known_again(kernels, tmp_path):
    group = group_of(tmp_path)
    assert group.outcome() is None
    done = group.run(jobs=2)
    assert done.cause == "" and group.outcome() == done
    assert group_of(tmp_path).outcome() == done, "by what it asks for, not by the object"
    assert kernels == [{"scale": "smoke", "seeds": [0, 1, 2], "jobs": 2}]


@pytest.mark.parametrize(
    "harm",
    [
        lambda group: group.copy.unlink(),
        lambda group: group.copy.write_text("half of it"),
        lambda group: (group.folder / "group.json").unlink(),
        lambda group: os.truncate(group.folder / "group.json", 40),
        lambda group: (group.folder / "group.json").write_text("{}"),
        lambda group: lesson(group.notebook.parent, "print(seeds, scale)"),
    ],
    ids=["no copy", "other copy", "no state", "cut state", "empty state", "other code"],
)
def test_what_is_not_whole_or_not_of_this_code_does_not_count(kernels, tmp_path, harm):
    group = group_of(tmp_path)
    group.run()
    harm(group)
    assert group.outcome() is None
    assert group.run() == group.outcome()


def test_another_version_or_other_parameters_are_another_run(kernels, tmp_path, monkeypatch):
    group_of(tmp_path).run()
    others = [group_of(tmp_path, (0, 1)), group_of(tmp_path, scale="paper")]
    assert [other.outcome() for other in others] == [None, None]
    assert len({group.folder for group in (group_of(tmp_path), *others)}) == 3
    monkeypatch.setattr(seed_groups, "versions", lambda: {"qrkd_lab": "99"})
    assert group_of(tmp_path).outcome() is None


@pytest.mark.parametrize(
    "error, said", [(NotebookError("cell 3"), "cell 3"), (OSError("full"), "OSError: full")]
)
def test_a_failure_is_kept_with_its_cause(kernels, tmp_path, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(seed_groups, "execute", fail)
    group = group_of(tmp_path)
    failed = group.run()
    assert failed.cause == said and group.outcome() == failed


@pytest.mark.parametrize("error", [None, NotebookError("cell 3")])
def test_on_a_full_disk_the_cause_is_told_nevertheless(kernels, tmp_path, monkeypatch, error):
    def execute(*_, **__):
        if error:
            raise error

    group = group_of(tmp_path)
    group.run()
    monkeypatch.setattr(seed_groups, "execute", execute)
    with disk_that_ends(1):  # the folder is there
        failed = group.run()
    assert "No space left on device. Make room" in failed.cause
    assert failed.cause.startswith("cell 3") == bool(error)
    assert group.outcome() is None, "it is tried again"


def test_a_run_that_is_interrupted_leaves_no_state_behind(kernels, tmp_path, monkeypatch):
    group = group_of(tmp_path)
    group.run()

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(seed_groups, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        group.run()
    assert group.outcome() is None


WAITS = """
import os, pathlib, time
home = pathlib.Path(os.getcwd())
(home / "part").write_text(str(os.getpid()))
(home / "part").rename(home / "kernel")
if not (home / "go").exists():
    time.sleep(120)
"""
TWICE = """
import contextlib, pathlib, sys
from qrkd_lab.reproduce import SeedGroup
notebook, out = map(pathlib.Path, sys.argv[1:])
group = SeedGroup("digits", notebook, {parameters}, out)
with contextlib.suppress(KeyboardInterrupt):
    group.run()
group.run()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_kernel_ends_with_the_process_that_started_it(tmp_path):
    lesson(tmp_path, WAITS)
    group = group_of(tmp_path)
    script = TWICE.format(parameters=dict(group.parameters))
    # A test run in the background ignores Ctrl-C and hands that down; this process must not.
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(group.notebook), str(group.out)],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for how in (signal.SIGINT, signal.SIGKILL):
        wait_until((tmp_path / "kernel").exists)
        kernel = int((tmp_path / "kernel").read_text())
        (tmp_path / "kernel").unlink()
        assert alive(kernel)
        parent.send_signal(how)
        wait_until(lambda kernel=kernel: not alive(kernel))
        assert group.copy.exists() and group.outcome() is None
    parent.wait(timeout=60)
    (tmp_path / "go").touch()
    assert group.run().cause == "" and group.outcome()


def test_groups_are_large_enough_and_about_equal():
    assert split_seeds(range(5), 5) == [[0, 1, 2, 3, 4]]
    assert split_seeds(range(3), 5) == [[0, 1, 2]]
    assert split_seeds(range(11), 3) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert split_seeds([7, 3], 1) == [[7], [3]]


def test_a_group_is_named_by_its_seeds(tmp_path):
    names = {group_of(tmp_path, seeds).name for seeds in ([0, 1, 2], [4], [4, 9, 5])}
    assert names == {"digits, seeds 0 to 2", "digits, seed 4", "digits, seeds 4, 9, 5"}
