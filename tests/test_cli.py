"""The command line: what it prints, in any encoding, and mistakes in one line."""

from __future__ import annotations

import io
import re

import nbformat
import pytest

from qrkd_lab.cli import main


def test_compare_on_the_command_line(tmp_path, capsys):
    status = main(
        ["compare", "digits", "--arms", "scratch", "rkd", "--seeds", "2", "--scale", "smoke",
         "--runs-dir", str(tmp_path / "runs"), "--out", str(tmp_path / "out"),
         "--set", "train_size=128", "epochs=1"]
    )  # fmt: skip
    said = capsys.readouterr()
    assert status == 0
    assert re.search(r"rkd +2 ", said.out) and "reference" in said.out
    assert (
        "2 seeds" in said.out or "interval" in said.out
    )  # too few for an interval, and it says so
    assert (tmp_path / "out" / "summary.md").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["compare", "nothing"], "choose from digits"),
        (["compare", "digits", "--set", "epochs"], "name=value"),
        (
            ["compare", "digits", "--set", "epochs=many", "--set", "train_size=128"],
            "epochs: expected",
        ),
        (["compare", "digits", "--arms", "nothing", "--arms", "rkd"], "choose from scratch"),
        (["compare", "digits", "--seed", "-1", "--seed", "1"], "seed"),
        (["tune", "digits", "--weights", "-1", "--weights", "1"], "-1"),
        (["compare", "digits", "--set", "jobs=2"], "jobs is no setting"),
        (["tune", "digits", "--set", "scale=paper"], "scale is no setting; see the arguments"),
        (["data", "nothing"], "choose from digits, mnist, cifar10, wikitext2, ptb, imdb"),
        (["notebook", "nothing.ipynb"], "nothing.ipynb"),
        (["notebook", "nothing.ipynb", "-p", "scale", "-p", "seed=1"], "name=value"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_of_advice(arguments, says, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said
    if arguments == ["compare", "nothing"]:
        with pytest.raises(ValueError, match=says):
            main(["--traceback", *arguments])


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "utf-8"])
def test_output_of_any_encoding(monkeypatch, encoding):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("qrkd_lab.teaching.doctor.main", lambda: print("98.1 ± 0.2 → 漢"))
    assert main(["doctor"]) == 0
    out.flush()
    said = "98.1 ± 0.2 → 漢".encode(encoding, "backslashreplace")
    assert out.buffer.getvalue().strip() == said


def test_a_notebook_on_the_command_line_runs_in_its_own_folder(tmp_path, capsys):
    nb = nbformat.v4.new_notebook()
    parameters = nbformat.v4.new_code_cell("word = 'no'", metadata={"tags": ["parameters"]})
    written = nbformat.v4.new_code_cell("open('here.txt', 'w').write(word)")
    nb.cells = [parameters, written]
    (tmp_path / "folder").mkdir()
    nbformat.write(nb, tmp_path / "folder" / "tiny.ipynb")
    source, out = str(tmp_path / "folder" / "tiny.ipynb"), str(tmp_path / "out")
    assert main(["notebook", source, "--out", out, "--set", "word=yes"]) == 0
    assert (tmp_path / "folder" / "here.txt").read_text() == "yes"
    assert (tmp_path / "out" / "tiny.ipynb").exists()
    assert main(["notebook", source, "--out", out, "--set", "words=yes"]) == 1
    assert "word = 'no'" in capsys.readouterr().err
