"""The doctor sees each broken state, says what to do, and is not stopped by any of them."""

from __future__ import annotations

import json
import shutil
import sys
from importlib import metadata
from pathlib import Path

import pytest

from qrkd_lab.teaching import doctor
from qrkd_lab.teaching.doctor import Finding

NMS = "RuntimeError: operator torchvision::nms does not exist"


def named(findings, start):
    return next(each for each in findings if each.name.startswith(start))


def program(path):
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_a_check_that_crashes_is_named_and_stops_no_other(monkeypatch):
    def _processes():
        raise OSError("disk on fire")

    monkeypatch.setattr(doctor, "_torch", lambda: [Finding("torch", True, "", "")])
    monkeypatch.setattr(doctor, "_processes", _processes)
    findings = doctor.check()
    assert {"Python", "torch", "data", "notebook"} <= {each.name.split()[0] for each in findings}
    assert "disk on fire" in named(findings, "processes").found


def test_old_python_and_old_and_missing_packages_but_not_those_of_extras(monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    needs = ["numpy>=999", "no-such-thing>=1", 'another>=1; extra == "test"', "pandas"]
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    _, python, packages = doctor._packages()
    assert not python.ok and ">=3.11" in python.advice
    assert not packages.ok and "no-such-thing not installed (needed: >=1)" in packages.found
    assert "needed: >=999" in packages.found and "another" not in packages.found


@pytest.mark.parametrize("state, said", [
    ("as it should be", ""),
    ("not installed", "runs from its folder, not installed"),
    ("another clone", "notebooks import another one"),
    ("a folder that was renamed", "cannot import it: was the project's folder renamed"),
])  # fmt: skip
def test_which_package_notebooks_import(tmp_path, monkeypatch, state, said):
    monkeypatch.setattr(doctor, "_version", lambda _: "" if state == "not installed" else "1")
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    monkeypatch.setattr(metadata, "requires", lambda name: [])
    monkeypatch.setenv("PYTHONPATH", str(Path(doctor.__file__).parents[2]))
    if state == "another clone":
        (tmp_path / "qrkd_lab").mkdir()
        (tmp_path / "qrkd_lab" / "__init__.py").touch()
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    elif state == "a folder that was renamed":
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
    finding = named(doctor._packages(), "qrkd-lab")
    assert finding.ok is (not said) and said in finding.found
    assert "make install" in finding.advice
    assert finding.essential is (state != "not installed")


def test_torchvision_for_another_torch_and_a_torch_that_crashes(tmp_path, monkeypatch):
    (tmp_path / "torchvision.py").write_text(f"raise RuntimeError({NMS.partition(': ')[2]!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_processes", lambda: pytest.fail("would import the broken torch"))
    found = named(doctor.check(), "torch")
    assert not found.ok and found.found == NMS and "same index" in found.advice
    (tmp_path / "torchvision.py").write_text("import os; os.kill(os.getpid(), 9)")
    assert "Python died" in next(doctor._torch()).found


def test_data_records_and_a_runs_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def found():
        return {each.name: each for each in doctor._folders()}

    monkeypatch.setenv("QRKD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    assert found()["runs"].ok and found()["published records"].ok
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.train.txt").touch()
    (tmp_path / "cifar10_jpeg").mkdir()
    (tmp_path / "runs").write_text("a file")
    monkeypatch.setattr("qrkd_lab.studies.records.PUBLISHED", tmp_path / "none")
    seen = found()
    assert seen["data"].found.endswith("without mnist, wikitext2, imdb")
    assert "qrkd_lab data NAME" in seen["data"].advice
    assert [name for name, each in seen.items() if each.essential] == ["runs"]
    assert "not writable" in seen["runs"].found and "QRKD_RUNS_DIR" in seen["runs"].advice
    assert "there is no" in seen["published records"].found


def test_widgets_without_their_extension_and_another_jupyter_on_the_path(tmp_path, monkeypatch):
    assert named(doctor.widget_findings(), "widgets").ok
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    other = program(tmp_path / "jupyter-lab")
    widgets, jupyter = doctor.widget_findings()
    assert not widgets.ok and widgets.essential and "jupyterlab_widgets" in widgets.advice
    assert not jupyter.ok and not jupyter.essential and other in jupyter.found


def test_a_kernel_of_another_python(tmp_path, monkeypatch):
    folder = tmp_path / "kernels" / "python3"
    folder.mkdir(parents=True)
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))

    def kernel(python):
        spec = {"argv": [python, "-m", "ipykernel_launcher"], "display_name": "Python 3"}
        (folder / "kernel.json").write_text(json.dumps(spec))
        return next(doctor._kernel())

    assert kernel("python").ok
    assert kernel(sys.executable).ok
    gone = kernel(str(tmp_path / "gone" / "python"))
    assert not gone.ok and gone.essential and "ipykernel install" in gone.advice
    elsewhere = kernel(program(tmp_path / "python"))
    assert not elsewhere.ok and not elsewhere.essential


def test_main_prints_a_table_and_the_status(monkeypatch, capsys):
    good = Finding("torch", True, "works", "never shown")
    note = Finding("data", False, "not there", "fetch it", essential=False)
    monkeypatch.setattr(doctor, "check", lambda: [good, note])
    assert doctor.main() == 0
    text = capsys.readouterr().out
    assert "never shown" not in text and "-> fetch it" in text and "note   data" in text
    monkeypatch.setattr(doctor, "check", lambda: [good, Finding("runs", False, "x", "do y")])
    assert doctor.main() == 1
    assert "WRONG  runs" in capsys.readouterr().out
