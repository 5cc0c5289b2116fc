"""The doctor sees each broken state, says what to do, and is not stopped by any of them."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from qrkd_lab.teaching import doctor
from qrkd_lab.teaching.doctor import Finding

NMS = "RuntimeError: operator torchvision::nms does not exist"


@pytest.fixture
def works(monkeypatch):
    """Every library works, without the seconds that a real import takes."""
    monkeypatch.setattr(doctor, "_probe", lambda code: None)


def named(findings, start):
    return next(each for each in findings if each.name.startswith(start))


def test_sees_everything_that_it_should(works):
    names = [each.name.split()[0] for each in doctor.check()]
    looked = (
        "Python qrkd-lab packages torch torchvision transformers pennylane CPU CUDA MPS processes"
    )
    more = {"data:", "runs", "published", "disk", "widgets", "notebook", 'device="auto"'}
    assert set(looked.split()) | more <= set(names)


def test_old_python_and_old_and_missing_packages(monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.9.1")
    real = metadata.version

    def version(name):
        if name == "pooch":
            raise metadata.PackageNotFoundError(name)
        return "0.44.0" if name == "pennylane" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    findings = list(doctor._packages())
    assert not findings[0].ok and findings[0].essential and ">=3.11" in findings[0].advice
    old, missing = named(findings, "pennylane"), named(findings, "pooch")
    assert not old.ok and "0.44.0; needed: >=0.45" in old.found
    assert not missing.ok and "not installed" in missing.found
    assert f"{shlex.quote(sys.executable)} -m pip install 'pooch>=" in missing.advice
    assert not named(findings, "packages").ok


def test_reads_the_installed_package_and_skips_its_extras(monkeypatch):
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    needs = ["numpy>=999", 'no-such-thing>=1; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    assert [each.name for each in doctor._packages() if not each.ok] == ["packages", "numpy"]


def test_not_installed_is_a_note(monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "metadata", absent)
    finding = named(doctor._packages(), "qrkd-lab")
    assert not finding.ok and not finding.essential and "make install" in finding.advice


@pytest.mark.parametrize("state, said", [
    ("as it should be", ""),
    ("another clone", "notebooks import another one"),
    ("a folder that was renamed", "cannot import it: was the project's folder renamed"),
])  # fmt: skip
def test_which_package_notebooks_import(tmp_path, monkeypatch, state, said):
    monkeypatch.setattr(metadata, "metadata", lambda name: {"Requires-Python": ">=3.11"})
    monkeypatch.setenv("PYTHONPATH", str(Path(doctor.__file__).parents[2]))
    if state == "another clone":
        (tmp_path / "qrkd_lab").mkdir()
        (tmp_path / "qrkd_lab" / "__init__.py").touch()
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    elif state == "a folder that was renamed":
        monkeypatch.setattr(sys, "executable", shutil.which("false"))
    finding = named(doctor._packages(), "qrkd-lab")
    assert finding.ok is (not said) and said in finding.found
    assert finding.essential and "make install" in finding.advice or finding.ok


def test_a_system_without_shared_memory_is_named(monkeypatch):
    assert named(doctor._machine(), "processes").ok
    monkeypatch.setattr("qrkd_lab.studies.parallel.can_start_workers", lambda: False)
    finding = named(doctor._machine(), "processes")
    assert not finding.ok and "one after another" in finding.found and "/dev/shm" in finding.advice


def test_an_installation_without_published_records_is_named(tmp_path, monkeypatch):
    assert named(doctor._folders(), "published").ok
    monkeypatch.setattr("qrkd_lab.studies.records.PUBLISHED", tmp_path / "none")
    finding = named(doctor._folders(), "published")
    assert not finding.ok and not finding.essential and "would train" in finding.advice


def test_commands_to_paste_are_quoted():
    run = "import sys; sys.executable = '/a b/python'; from qrkd_lab.teaching import doctor as d"
    done = subprocess.run(
        [sys.executable, "-c", f"{run}; print(d._PIP)"], capture_output=True, text=True
    )
    assert done.stdout == "'/a b/python' -m pip\n"


@pytest.mark.parametrize("error", [NMS, "OSError: libc10.so: undefined symbol: _ZN3c10"])
def test_torchvision_for_another_torch(monkeypatch, error):
    fails = {doctor._PROBES["torchvision"]: error}
    monkeypatch.setattr(doctor, "_probe", fails.get)
    findings = list(doctor._libraries())
    finding = named(findings, "torchvision")
    assert not finding.ok and finding.essential and error in finding.found
    install = f"{shlex.quote(sys.executable)} -m pip install --force-reinstall torch torchvision"
    assert install in finding.advice
    assert "same index" in finding.advice
    assert [each.ok for each in findings] == [True, False, True, True]


def test_a_broken_torch_stops_nothing_else(monkeypatch):
    monkeypatch.setattr(doctor, "_probe", lambda code: NMS if "torch" in code else None)
    monkeypatch.setattr(doctor, "_machine", lambda: pytest.fail("would import the broken torch"))
    findings = doctor.check()
    assert "--force-reinstall torch" in named(findings, "torch ").advice
    assert named(findings, "torchvision").advice == "Mend torch first."
    assert named(findings, "notebook kernel")


def test_a_probe_tells_what_went_wrong(tmp_path, monkeypatch):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise RuntimeError({NMS.partition(': ')[2]!r})")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert doctor._probe("import torchvision") == NMS
    assert doctor._probe("import json") is None
    assert "signal 9" in doctor._probe("import os; os.kill(os.getpid(), 9)")


def test_a_check_that_crashes_becomes_a_finding(works, monkeypatch):
    def _folders():
        yield Finding("data", True, "there")
        raise OSError("disk on fire")

    monkeypatch.setattr(doctor, "_folders", _folders)
    findings = doctor.check()
    finding = named(findings, "folders")
    assert not finding.ok and "disk on fire" in finding.found
    assert named(findings, "data") and named(findings, "notebook kernel")


def test_data_and_a_runs_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def found():
        return {f.name.removeprefix("data: "): f for f in doctor._folders()}

    monkeypatch.setenv("QRKD_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    assert found()["runs"].ok
    for name in ("mnist", "cifar10", "wikitext2", "ptb", "imdb"):
        finding = found()[name]
        assert not finding.ok and not finding.essential
        assert f"qrkd_lab data {name}" in finding.advice
    for place in ("MNIST/raw/train-images-idx3-ubyte", "cifar10_jpeg/train", "ptb/ptb.train.txt"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "runs").write_text("a file")
    seen = found()
    assert seen["ptb"].ok and "official" in seen["mnist"].found
    assert seen["cifar10"].ok and "not the official" in seen["cifar10"].found
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert "official files" in found()["cifar10"].found
    runs = seen["runs"]
    assert not runs.ok and runs.essential and "not writable" in runs.found
    assert "QRKD_RUNS_DIR" in runs.advice


def test_widgets_without_their_extension(tmp_path, monkeypatch):
    assert named(doctor.widget_findings(), "widgets").ok
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    finding = named(doctor.widget_findings(), "widgets")
    assert not finding.ok and "jupyterlab_widgets" in finding.advice


def test_another_jupyter_on_the_path(tmp_path, monkeypatch):
    other = tmp_path / "jupyter-lab"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    finding = named(doctor.widget_findings(), "jupyter lab")
    assert not finding.ok and not finding.essential and str(other) in finding.found


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
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    elsewhere = kernel(str(other))
    assert not elsewhere.ok and not elsewhere.essential


def test_main_prints_a_table_and_the_status(monkeypatch, capsys):
    good = Finding("torch 2.6", True, "works", "never shown")
    note = Finding("data: mnist", False, "not there", "fetch it", essential=False)
    monkeypatch.setattr(doctor, "check", lambda: [good, note])
    assert doctor.main() == 0
    text = capsys.readouterr().out
    assert "never shown" not in text and "-> fetch it" in text and "note   data: mnist" in text
    monkeypatch.setattr(doctor, "check", lambda: [good, Finding("runs", False, "x", "do y")])
    assert doctor.main() == 1
    assert "WRONG  runs" in capsys.readouterr().out


def test_a_server_of_another_python_is_named(monkeypatch):
    code, pipe = "print('started', flush=True); input()", subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as server:
        server.stdout.readline()  # a process that only just begins has no command line yet
        monkeypatch.setenv("JPY_PARENT_PID", str(server.pid))
        if not Path(f"/proc/{server.pid}/cmdline").exists():
            server.stdin.close()
            pytest.skip("this system does not tell how a process was started")
        assert named(doctor.widget_findings(), "server").ok
        monkeypatch.setattr(sys, "executable", "/elsewhere/bin/python")
        finding = named(doctor.widget_findings(), "server")
        assert not finding.ok and "jupyterlab_widgets" in finding.advice
        server.stdin.close()
    monkeypatch.setenv("JPY_PARENT_PID", "0")
    assert "server" not in [finding.name for finding in doctor.widget_findings()]
