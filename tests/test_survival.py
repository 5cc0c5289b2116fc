"""What a study must survive: processes killed at any moment, disks that fail, company."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import warnings
from collections import Counter
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import nbformat
import psutil
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from pandas import DataFrame

import qrkd_lab as ql
from qrkd_lab.cli import main
from qrkd_lab.files import RecordError
from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.compare import Study, StudyError
from qrkd_lab.studies.provenance import write_csv
from qrkd_lab.studies.records import Run, published_runs
from qrkd_lab.studies.report import Report
from qrkd_lab.teaching.notebooks import execute, refresh
from qrkd_lab.teaching.parameters import NotebookError
from qrkd_lab.teaching.plots.style import Animation, Chart
from tests.hazards import (
    ARMS,
    FORKS,
    command,
    in_fork,
    no_file_longer_than,
    remount,
    slow_study,
    study,
    table,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL and fork")

RUNS = 6 * (1 + len(ARMS))
KILLS = 40
FEW = ("scratch", "rkd")  # need no PennyLane, whose import makes workers slow to start


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


def hidden(folder: Path) -> dict[Path, int]:
    """What is no record yet, and when it was written; it may vanish while we look."""
    found = {}
    for path in folder.glob("digits/smoke/.*"):
        with suppress(FileNotFoundError):
            found[path] = path.stat().st_mtime_ns
    return found


def at_work(process: BaseProcess, folder: Path, before: dict[Path, int]) -> None:
    """Wait until a process has begun to train, or is done."""
    while hidden(folder) == before and process.is_alive():
        time.sleep(0.002)


@pytest.fixture(scope="module")
def calm(tmp_path_factory) -> Path:
    """The records of a study that nothing befell."""
    folder = tmp_path_factory.mktemp("calm")
    in_fork(study, folder)
    assert len(whole(folder)) == RUNS and not hidden(folder)
    return folder


# Killed


def phase(before: dict[Path, int], after: dict[Path, int], news: int) -> str:
    """What a process was doing when it was killed, from what it left behind."""
    new = [path.name for path, when in after.items() if before.get(path) != when]
    if any(name.endswith(".pt") for name in new) and not any(n.endswith("tmp") for n in new):
        return "training"
    if any(name.endswith(".tmp") for name in new):
        return "saving" if any(".pt." in name for name in new) else "recording"
    return "between records" if news else "starting"


def test_kills_change_no_bit_and_lose_no_record(calm, tmp_path):
    """kill -9 at random moments after the start, or after the first sign of work.

    They come the earlier the more of the study is done already. One that gets through nevertheless
    is compared, and another one takes the next kills.
    """
    moments, patience, found = random.Random(6), 0.1, Counter()
    folder, kept = tmp_path / "0", {}
    while found.total() < KILLS:
        before = hidden(folder)
        process = FORKS.Process(target=slow_study, args=(folder,))
        process.start()
        if moments.random() < 0.7:
            at_work(process, folder, before)
        time.sleep(moments.uniform(0, patience))
        process.kill()
        process.join()
        now = contents(folder)
        assert kept.items() <= now.items(), "a record was lost or changed"
        assert len(whole(folder)) * 2 == len(now)
        if through := process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0 and table(whole(folder)) == table(whole(calm))
            assert weights(folder) == weights(calm)
            folder, now = tmp_path / str(found.total()), {}
        else:
            found[phase(before, hidden(folder), len(now) - len(kept))] += 1
        kept = now
        ahead = through or len(now) / 2 / RUNS > found.total() / KILLS
        patience *= 0.9 if ahead else 1.1  # or no kill would ever be early enough again
    print(dict(found))
    assert all(found[name] for name in ("starting", "training", "saving", "recording"))
    final = in_fork(study, folder)
    assert table(final) == table(whole(folder)) == table(whole(calm))
    assert weights(folder) == weights(calm)
    for path in hidden(folder):  # a day later
        os.utime(path, (time.time() - 90_000,) * 2)
    in_fork(study, folder, 7)
    assert not hidden(folder)


def shell(arguments: list[str]) -> None:
    """The command line, in a process group of its own, as a shell starts it."""
    os.setsid()
    code = main(arguments)
    get_reusable_executor().shutdown()  # a fork would wait until its idle workers have had enough
    raise SystemExit(code)


def started(folder: Path) -> tuple[psutil.Process, list[psutil.Process]]:
    """The study on two workers, when one of them has begun to train, and the workers."""
    before = hidden(folder)
    process = FORKS.Process(target=shell, args=(command(folder, FEW, "--jobs", "2"),))
    process.start()
    seen = psutil.Process(process.pid)
    at_work(process, folder, before)
    workers = [one for one in seen.children() if "popen_loky" in " ".join(one.cmdline())]
    assert len(workers) == 2
    return process, workers


def test_workers_may_be_killed_with_their_parent_and_without(calm, tmp_path):
    process, _ = started(tmp_path)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    before, runs = contents(tmp_path), whole(tmp_path)
    assert len(before) == 2 * len(runs)
    process, workers = started(tmp_path)
    workers[0].kill()
    process.join()
    assert process.exitcode == 0 and before.items() <= contents(tmp_path).items()
    expected = [run for run in whole(calm) if run.settings["arm"] in (TEACHER, *FEW)]
    assert table(whole(tmp_path)) == table(expected)


# In company


def at_once(barrier, arguments: list[str]) -> None:
    barrier.wait()
    raise SystemExit(main(arguments))


def test_two_studies_at_once_on_one_folder(calm, tmp_path):
    barrier = FORKS.Barrier(2)
    arguments = (barrier, command(tmp_path, ARMS))
    twins = [FORKS.Process(target=at_once, args=arguments) for _ in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
        assert twin.exitcode == 0
    assert table(whole(tmp_path)) == table(whole(calm))
    assert not hidden(tmp_path)


# Disks


def small_disk(folder: Path) -> tuple[str, int, list[str], dict, str, str]:
    """The study on a disk that fills up, is made larger, and is read-only in the end."""
    remount(folder, "size=320k", first=True)
    with pytest.raises(StudyError) as full:
        study(folder)
    there, rest = len(whole(folder)), [path.suffix for path in hidden(folder)]
    remount(folder, "size=64m")
    done = table(study(folder))
    remount(folder, "ro")
    note = study(folder).notes[0]
    with pytest.raises(RecordError) as locked:
        study(folder, 7)
    return str(full.value), there, rest, done, note, str(locked.value)


def test_a_disk_that_fills_up_and_one_that_cannot_be_written(calm, tmp_path):
    try:
        full, there, rest, done, note, locked = in_fork(small_disk, tmp_path)
    except PermissionError as error:
        pytest.skip(f"this account may mount no disk: {error}")
    assert "No space left on device. Make room" in full
    assert f"{there} runs are recorded and will be reused" in full
    assert 0 < there < RUNS
    assert set(rest) <= {".pt"}  # whole checkpoints of what failed; nothing that is half written
    assert done == table(whole(calm))
    assert f"{RUNS} runs reused, 0 trained" in note
    assert "Read-only file system. Make room, or give a folder that can be written" in locked


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


def _lesson(path: Path) -> Path:
    cells = [nbformat.v4.new_code_cell(code) for code in ("seed = 0", "print(20_000 * 'x')")]
    cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


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
    "animation": lambda folder: Animation([_figure()], "A figure.").save(folder / "film.gif"),
    "table of runs": lambda folder: write_csv(
        DataFrame({"a": range(9000)}), folder / f"runs-{len(list(folder.iterdir()))}.csv"
    ),
    "executed notebook": lambda folder: execute(
        _lesson(folder.parent / "lesson.ipynb"), folder, progress=False
    ),
    "refreshed notebook": lambda folder: refresh(folder / "lesson.ipynb", progress=False),
}


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
        pytest.raises(
            (RecordError, NotebookError, ValueError), match="written: File too large"
        ) as said,
    ):
        WRITERS[what](folder)
    assert str(folder) in str(said.value) or "lesson.ipynb cannot be" in str(said.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
