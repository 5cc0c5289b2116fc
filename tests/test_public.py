"""The public face: names, laziness, the command line, progress, devices."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import nbformat
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.__main__ import main
from qrkd_lab.devices import pick_device
from qrkd_lab.progress import Progress, duration


def test_every_public_name_can_be_had():
    for name in ql.__all__:
        assert getattr(ql, name) is not None
        assert name in dir(ql)


def test_an_unknown_name_lists_the_names():
    with pytest.raises(AttributeError, match="FidelityKernel"):
        ql.FidelityKernal  # noqa: B018


@pytest.mark.parametrize("command", ["import qrkd_lab", "main(['-h'])", "main(['tune', '-h'])"])
def test_neither_the_package_nor_the_command_line_s_help_imports_anything_heavy(command):
    heavy = (
        "torch", "torchvision", "pennylane", "transformers", "ipywidgets", "matplotlib", "pandas",
    )  # fmt: skip
    code = (
        "import atexit, sys; from qrkd_lab.__main__ import main;"
        f"atexit.register(lambda: print([m for m in {heavy} if m in sys.modules])); {command}"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"


def test_losses_and_relations_need_no_pennylane():
    code = (
        "import sys; sys.modules['pennylane'] = None; import torch, qrkd_lab as ql;"
        "x = torch.randn(4, 3); print(float(ql.angle_loss(x, x) + ql.distance_loss(x, x)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(out.stdout) == pytest.approx(0, abs=1e-6)


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
        (["compare", "digits", "--arms", "nothing"], "choose from scratch"),
        (["compare", "digits", "--set", "epochs=many"], "epochs: expected a whole number"),
        (["compare", "digits", "--set", "epochs"], "name=value"),
        (
            ["compare", "digits", "--set", "epochs=many", "--set", "train_size=128"],
            "epochs: expected",
        ),
        (["compare", "digits", "--arms", "nothing", "--arms", "rkd"], "choose from scratch"),
        (["compare", "digits", "--seed", "-1", "--seed", "1"], "seed"),
        (["tune", "digits", "--weights", "-1", "--weights", "1"], "-1"),
        (["compare", "digits", "--set", "jobs=2"], "jobs is no setting"),
        (["tune", "digits", "--set", "epochs=3"], "epochs is no setting; see the arguments"),
        (["data", "nothing"], "choose from digits, mnist, cifar10, wikitext2, ptb, imdb"),
        (["notebook", "nothing.ipynb"], "nothing.ipynb"),
        (["notebook", "nothing.ipynb", "-p", "scale", "-p", "seed=1"], "name=value"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line_of_advice(arguments, says, capsys):
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert says in said and "Traceback" not in said


def test_traceback_on_demand():
    with pytest.raises(ValueError, match="choose from digits"):
        main(["--traceback", "compare", "nothing"])


def test_data_on_the_command_line(capsys):
    assert main(["data", "digits"]) == 0
    assert "1 x 8 x 8" in capsys.readouterr().out


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
    assert "word: str" in capsys.readouterr().err


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="none of torch's"):
        pick_device("gpu0")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="not available on this machine"):
            pick_device("cuda")


def test_without_a_terminal_progress_is_plain_lines():
    log = io.StringIO()
    progress = Progress("digits seed 0", epochs=2, batches=3, stream=log)
    for epoch in (1, 2):
        for _ in range(3):
            progress.batch(epoch)
        progress.epoch(epoch, {"kd": "91.0%", "qrkd": "92.0%"})
    progress.close()
    assert log.getvalue().count("\n") == 1  # epochs this fast do not flood a log
    assert "digits seed 0: epoch 2/2, kd 91.0%, qrkd 92.0%, took" in log.getvalue()


def test_progress_that_goes_on_after_an_epochs_last_batch_says_how_it_ended():
    log = io.StringIO()
    progress = Progress("digits seed 0", epochs=2, batches=3, stream=log)
    progress.resume(6)
    progress.epoch(2, {"kd": "91.0%"})
    assert "digits seed 0: epoch 2/2, kd 91.0%, took" in log.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_progress_is_a_bar_that_names_arm_epoch_terms_and_time(monkeypatch):
    monkeypatch.setattr("qrkd_lab.progress.BAR_SECONDS", 0.0)
    screen = Terminal()
    progress = Progress("mnist seed 3", epochs=2, batches=4, stream=screen)
    for _ in range(4):
        assert progress.due
        progress.batch(1, {"kd": {"task": 0.5}, "qrkd": {"task": 0.4, "kernel": 0.01}})
    progress.epoch(1, {"kd": "91.0%"})
    progress.close()
    shown = screen.getvalue()
    for part in ("mnist seed 3", "epoch 1/2", "qrkd: task 0.4 kernel 0.01", "kd: task 0.5", "left"):
        assert part in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.44, "0.4 s"), (42.2, "42 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
