"""What a study must survive: processes killed at any moment, disks that fail, company."""

from __future__ import annotations

import os
import random
import shutil
import signal
import warnings
from pathlib import Path

import nbformat
import pytest
import torch
from pandas import DataFrame

import qrkd_lab as ql
from qrkd_lab.files import RecordError
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.provenance import write_csv
from qrkd_lab.studies.records import Run, published_runs
from qrkd_lab.studies.report import Report
from qrkd_lab.teaching.notebooks import refresh
from qrkd_lab.teaching.parameters import NotebookError
from qrkd_lab.teaching.plots.style import Chart
from tests.hazards import (
    ARMS,
    FORKS,
    doomed_study,
    in_fork,
    no_file_longer_than,
    study,
    table,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and fork")

RUNS = 6 * (1 + len(ARMS))
MOMENTS = {  # what a study is killed at, and the most that come before: less than two runs have
    "mkdir": 20, "open": 20, "write": 200, "fsync": 20, "replace": 20, "rename": 2, "unlink": 2,
}  # fmt: skip


def whole(folder: Path) -> list[Run]:
    """The records; a torn one would be a warning, and so an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return ql.read_runs(folder)


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file of every record."""
    return {path: path.read_bytes() for path in folder.glob("digits/smoke/[!.]*/*")}


def weights(folder: Path) -> dict[str, bytes]:
    """Every weights file, by the name of its record."""
    held = contents(folder).items()
    return {path.parent.name: content for path, content in held if path.suffix == ".safetensors"}


def hidden(folder: Path) -> list[Path]:
    """What is no record yet."""
    return [*folder.glob("digits/smoke/.*")]


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """The records of a study that nothing befell."""
    folder = tmp_path_factory.mktemp("calm")
    in_fork(study, folder)
    assert len(whole(folder)) == RUNS and not hidden(folder)
    return folder


# Killed


def test_kills_change_no_bit_and_lose_no_record(calm, tmp_path):
    """kill -9 while a folder, a checkpoint or a record is made, written, put in place, removed."""
    chance, kept = random.Random(6), {}
    for name, most in MOMENTS.items():
        process = FORKS.Process(target=doomed_study, args=(tmp_path, name, chance.randrange(most)))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, name
        now = contents(tmp_path)
        assert kept.items() <= now.items(), "a record was lost or changed"
        assert len(whole(tmp_path)) * 2 == len(now)
        kept = now
    assert 0 < len(kept) < 2 * RUNS
    final = in_fork(study, tmp_path)
    assert table(final) == table(whole(tmp_path)) == table(whole(calm))
    assert weights(tmp_path) == weights(calm)


# In company


def at_once(barrier, folder: Path) -> None:
    barrier.wait()
    study(folder)


def test_two_studies_at_once_on_one_folder(calm, tmp_path):
    barrier = FORKS.Barrier(2)
    twins = [FORKS.Process(target=at_once, args=(barrier, tmp_path)) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
        assert twin.exitcode == 0
    assert table(whole(tmp_path)) == table(whole(calm))
    assert not hidden(tmp_path)


def test_a_record_cut_in_half_is_named_and_the_others_stay(calm, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(calm, folder)
    cut = next(folder.glob("digits/smoke/rkd-seed3-*/record.json"))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    before = contents(folder)
    with pytest.raises(RecordError, match=f"{cut.parent} .* Delete this folder and run again"):
        in_fork(study, folder)
    assert contents(folder) == before and not hidden(folder)
    with pytest.warns(UserWarning, match=cut.parent.name):
        assert len(ql.read_runs(folder)) == RUNS - 1
    shutil.rmtree(cut.parent)
    again = in_fork(study, folder)
    assert f"{RUNS - 1} runs reused, 1 trained" in again.notes[0]
    assert table(again) == table(whole(calm))


def _lesson(path: Path) -> None:
    cells = [nbformat.v4.new_code_cell(code) for code in ("seed = 0", "print(20_000 * 'x')")]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def _figure() -> Chart:
    chart = Chart(4, 3)
    chart.subplots().imshow(torch.rand(40, 40, generator=torch.Generator().manual_seed(0)))
    return chart


# What a command or a notebook writes: by name, what writes it into a folder that is there.
WRITERS = {
    "tables and figures": lambda folder: Study(tuple(published_runs("mnist", "laptop"))).save(
        folder
    ),
    "report": lambda folder: Report("# Title\n" * 9000, {"one": _figure()}).save(folder),
    "table of runs": lambda folder: write_csv(
        DataFrame({"a": range(9000)}), folder / f"runs-{len(list(folder.iterdir()))}.csv"
    ),
    "refreshed notebook": lambda folder: refresh(folder / "lesson.ipynb", progress=False),
}


WRITING = (RecordError, NotebookError, ValueError)


@pytest.mark.parametrize("what", WRITERS)
def test_on_a_full_disk_what_was_there_is_there_still(what: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    if what == "refreshed notebook":
        _lesson(folder / "lesson.ipynb")
    WRITERS[what](folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before
    with (
        no_file_longer_than(5_000),
        pytest.raises(WRITING, match="written: File too large") as said,
    ):
        WRITERS[what](folder)
    assert str(folder) in str(said.value) or "lesson.ipynb cannot be" in str(said.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
