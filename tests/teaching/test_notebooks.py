"""Running notebooks headlessly: tiny ones, made here, run for real."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from queue import Empty

import nbformat
import papermill
import pytest
from jupyter_client.channels import AsyncZMQSocketChannel

from qrkd_lab.teaching.notebooks import (
    LOOK,
    ThisPython,
    execute,
    is_fresh,
    refresh,
    run_series,
    source_digest,
)
from qrkd_lab.teaching.parameters import NotebookError

v4 = nbformat.v4


@pytest.fixture
def write(tmp_path):
    def write(*sources, name="lesson.ipynb", kernel="a-kernel-of-somebody-else"):
        parameters = v4.new_code_cell('seed = 0\nname = "x"')
        parameters.metadata["tags"] = ["parameters"]
        cells = [v4.new_markdown_cell("# Lesson"), parameters, *map(v4.new_code_cell, sources)]
        nb = v4.new_notebook(cells=cells)
        nb.metadata["kernelspec"] = {"name": kernel, "display_name": kernel}
        path = tmp_path / name
        nbformat.write(nb, path)
        return path

    return write


def printed(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(out.get("text", "") for cell in cells for out in cell.get("outputs", []))


def run(path, parameters=None, **options):
    return execute(path, path.parent / "out", parameters, progress=False, **options)


def test_a_reply_whose_wake_up_was_lost_is_found_without_a_limit_of_time(monkeypatch):
    asked = []

    async def lost(self, timeout=None):
        asked.append(timeout)
        assert timeout is not None, "nobody wakes it: it would wait for ever"
        if len(asked) < 3:
            raise Empty
        return {"here": True}

    monkeypatch.setattr(AsyncZMQSocketChannel, "get_msg", lost)
    client = ThisPython().client()
    client.context.destroy()
    shell = object.__new__(client.shell_channel_class)
    assert asyncio.run(shell.get_msg()) == {"here": True} and asked == [LOOK] * 3
    asked.clear()
    with pytest.raises(Empty):
        asyncio.run(shell.get_msg(timeout=0))


def test_runs_in_this_interpreter_and_folder_with_the_parameters(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    misleading = tmp_path / "jupyter" / "kernels" / "python3"
    misleading.mkdir(parents=True)
    (misleading / "kernel.json").write_text('{"argv": ["/no/such/python"], "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    code = "import json, os, sys\nprint(json.dumps([sys.executable, os.getcwd(), seed, name]))"
    path = write(code, name="my {lesson} é.ipynb")
    before = path.read_bytes()
    for seed in (7, 8):  # twice in one process
        out = run(path, {"seed": seed})
        assert out == tmp_path / "out" / path.name
        assert json.loads(printed(out)) == [sys.executable, str(tmp_path), seed, "x"]
    assert path.read_bytes() == before, "the notebook itself is only read"


def test_a_failing_cell_is_named_and_the_copy_stays(write):
    path = write("print('so far')", "\n1 / 0  # oh", "print('never')")
    with pytest.raises(NotebookError) as caught:
        run(path, {"seed": 1})  # with a cell injected
    message = str(caught.value)
    assert "lesson.ipynb stopped in cell 4 of 5 (`1 / 0  # oh`): ZeroDivisionError" in message
    copy = path.parent / "out" / "lesson.ipynb"
    assert str(copy) in message
    assert printed(copy) == "so far\n"


@pytest.mark.parametrize("code, said", [
    ("import os\nos._exit(1)", r"\(`import os`\): its Python process died"),
    ("import time\ntime.sleep(60)", r"\(`import time`\): not done after 2 s"),
])  # fmt: skip
def test_a_dead_kernel_and_a_time_out_are_named(write, code, said):
    with pytest.raises(NotebookError, match=f"cell 3 of 3 {said}"):
        run(write(code), timeout=2)


def test_what_cannot_be_stops_before_the_run(write, tmp_path):
    path = write("open('ran', 'w')")
    with pytest.raises(NotebookError, match=r"did you mean 'seed'\?\). Its parameters:\n    seed"):
        run(path, {"sead": 1}, cwd=path.parent)
    with pytest.raises(NotebookError, match="would overwrite"):
        execute(path, path.parent, progress=False)
    assert not (path.parent / "out").exists() and not (path.parent / "ran").exists()
    (tmp_path / "text.ipynb").write_text("hello")
    nbformat.write(v4.new_notebook(), tmp_path / "plain.ipynb")
    expected = {
        "none.ipynb": "no notebook at",
        "text.ipynb": "not a readable notebook",
        "plain.ipynb": "no parameters cell",
    }
    for name, message in expected.items():
        with pytest.raises(NotebookError, match=message):
            run(tmp_path / name)


def test_refresh_writes_outputs_back_and_nothing_volatile(write, tmp_path, monkeypatch):
    path = write(
        "import ipywidgets\nipywidgets.IntSlider()", "", "print(seed)\nseed", kernel="python3"
    )
    before = nbformat.read(path, as_version=4)
    assert not is_fresh(path)
    refresh(path, {"seed": 3}, progress=False)
    after = nbformat.read(path, as_version=4)
    assert is_fresh(path)
    assert [cell.source for cell in after.cells] == [cell.source for cell in before.cells]
    assert [cell.get("execution_count") for cell in after.cells[1:]] == [1, 2, None, 3]
    assert [out.get("text") for out in after.cells[4].outputs] == ["3\n", None]
    assert after.cells[4].outputs[1].execution_count == 3
    assert after.metadata.pop("qrkd_lab") == {
        "sources": source_digest(after),
        "parameters": {"seed": 3},
    }
    assert after.metadata == before.metadata
    assert [cell.metadata for cell in after.cells] == [cell.metadata for cell in before.cells]
    text = path.read_text()
    assert not [w for w in ("papermill", "widget-view", "T0", "iopub") if w in text]
    refresh(path, {"seed": 3}, progress=False)
    assert path.read_text() == text, "a second refresh changes nothing"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing = write("1 / 0", name="failing.ipynb")
    before = failing.read_bytes()
    with pytest.raises(NotebookError, match="ZeroDivisionError") as caught:
        refresh(failing, progress=False)
    (copy,) = tmp_path.glob("qrkd-lab-*/failing.ipynb")
    assert failing.read_bytes() == before and str(copy) in str(caught.value)


def test_freshness_sees_code_and_reruns_but_not_prose(write):
    path = write("seed")
    nb = nbformat.read(path, as_version=4)
    for number, cell in enumerate(nb.cells[1:], start=1):
        cell.execution_count = number
    nb.metadata["qrkd_lab"] = {"sources": source_digest(nb)}

    def fresh(change):
        changed = nbformat.from_dict(json.loads(json.dumps(nb)))
        change(changed.cells)
        nbformat.write(changed, path)
        return is_fresh(path)

    assert fresh(lambda cells: None)
    assert fresh(lambda cells: cells[0].update(source="# Another title"))
    assert not fresh(lambda cells: cells[2].update(source="seed + 1"))
    assert not fresh(lambda cells: cells.append(v4.new_code_cell("1")))
    assert not fresh(lambda cells: cells.reverse())
    assert not fresh(lambda cells: cells[2].update(execution_count=5)), "run again by hand"
    assert not fresh(lambda cells: cells[2].update(execution_count=None)), "outputs cleared"


@pytest.mark.parametrize("deaths", [1, 2])
def test_a_kernel_whose_port_was_taken_is_started_again(write, tmp_path, monkeypatch, deaths):
    start, tries = papermill.execute_notebook, []

    def die_first(*paths, **options):
        tries.append(paths)
        if len(tries) > deaths:
            return start(*paths, **options)
        shutil.copy(*paths)
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(papermill, "execute_notebook", die_first)
    lesson = write("print(seed)")
    if deaths == 1:
        assert printed(execute(lesson, tmp_path / "out", progress=False)) == "0\n"
    else:
        with pytest.raises(NotebookError, match="before its first cell: no kernel"):
            execute(lesson, tmp_path / "out", progress=False)
    assert len(tries) == 2


def test_a_series_goes_on_after_a_failure_and_names_it(write, tmp_path, capsys):
    lessons = [write("1 / 0", name="a.ipynb"), write("print(seed)", name="b.ipynb")]
    with pytest.raises(NotebookError, match="1 of 2 failed.\na.ipynb stopped in cell 3") as caught:
        run_series(lessons, tmp_path / "out", jobs=2)
    assert "ZeroDivisionError" in str(caught.value)
    assert printed(tmp_path / "out" / "b.ipynb") == "0\n"
    said = capsys.readouterr().err
    assert "a.ipynb: failed" in said and "b.ipynb: " in said
