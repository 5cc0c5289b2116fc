"""The files that set the project up agree with each other and with the code."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The distribution of a module, where the names differ.
DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow", "zmq": "pyzmq",
    "importlinter": "import-linter",
}  # fmt: skip
OURS = {"qrkd_lab", "tests", "conftest"}


def bounds(lines):
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(each.name): str(each.specifier) for each in requirements}


def declared():
    return bounds(PROJECT["dependencies"])


def extras():
    names = [name for lines in PROJECT["optional-dependencies"].values() for name in lines]
    return bounds(names)


def imports(folder):
    """Every third-party module imported in a folder, with one file that does it."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        siblings = {each.stem for each in path.parent.glob("*.py")} if folder == "tests" else set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names | OURS | siblings:
                    found[canonicalize_name(DISTRIBUTIONS.get(top, top))] = path
    return found


def test_every_dependency_has_a_lower_bound_and_no_other():
    for name, specifier in (declared() | extras()).items():
        assert re.fullmatch(r">=[\d.]+", specifier), f"{name}{specifier}"


def test_environment_yml_agrees_with_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, last = environment["dependencies"]
    assert environment["name"] == "qrkd-lab"
    assert conda == ["python" + PROJECT["requires-python"], "pip"]
    *lines, project = last["pip"]
    assert project == "-e ."
    test = bounds(PROJECT["optional-dependencies"]["test"])
    assert bounds(lines) == declared() | test


@pytest.mark.parametrize(
    "folder, some, optional",
    [
        ("qrkd_lab", {"torch", "papermill"}, {"dask", "distributed"}),
        ("tests", {"pytest"}, None),
    ],
)
def test_every_import_is_declared(folder, some, optional):
    found = imports(folder)
    assert some <= set(found), "the search itself must find imports"
    known = {*declared(), *(extras() if optional is None else optional)}
    assert not {name: str(path) for name, path in found.items() if name not in known}


@pytest.mark.parametrize("command", [["check"], ["format", "--check", "qrkd_lab", "tests"]])
def test_the_code_is_as_the_linter_wants_it(command):
    run = [sys.executable, "-m", "ruff", *command]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_target_has_help():
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split()
    assert set(TARGETS) < set(phony)
    helped = re.findall(r"^([a-z-]+):.*?## \S", text, re.MULTILINE)
    assert sorted(helped) == sorted(phony)


def test_a_browser_is_found_on_the_path_or_where_it_is_named_or_its_absence_explained(tmp_path):
    """tests/browser/chromium.py, with nothing on the PATH but what this test puts there."""

    def ask(**environment):
        # -S: no site-packages, as before anything is installed
        run = [sys.executable, "-S", str(ROOT / "tests" / "browser" / "chromium.py")]
        env = {"PATH": str(tmp_path), **environment}
        done = subprocess.run(run, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout.strip()

    if sys.platform != "darwin":  # there it looks in /Applications too
        code, text = ask()
        assert code == 1 and "macOS" in text and "QRKD_CHROMIUM=" in text
    for program in (there := tmp_path / "google-chrome", mine := tmp_path / "mine"):
        program.touch()
        program.chmod(0o755)
    assert ask(QRKD_CHROMIUM="") == (0, str(there))
    assert ask(QRKD_CHROMIUM=str(mine)) == (0, str(mine))
    code, text = ask(QRKD_CHROMIUM="/nowhere/chrome")
    assert code == 1 and "QRKD_CHROMIUM is /nowhere/chrome" in text


TARGETS = "install demo notebooks reproduce study test test-browser lab dashboard slides site bench"
TARGETS = [*TARGETS.split(), "doctor", "clean"]


@pytest.mark.skipif(shutil.which("make") is None, reason="GNU make is not installed")
class TestMake:
    """The Makefile in an empty folder, with a stand-in for Python that notes what it is asked."""

    # Every character that a shell or make reads as more than itself.
    HOSTILE = "-a  b'c\"d ($e) $(f) `g` &h; #i * \\j ~ {k} [l] é %m, = !"

    @pytest.fixture
    def folder(self, tmp_path):
        return self.clone(tmp_path / self.HOSTILE)

    def clone(self, folder):
        folder.mkdir()
        shutil.copy(ROOT / "Makefile", folder)
        (folder / "pyproject.toml").touch()
        (folder / "notebooks").mkdir()
        here = shlex.quote(str(folder))
        python = folder / "fake-python"
        python.write_text(
            "#!/bin/sh\n"
            f'printf "%s\\n" "$*" >> {here}/calls\n'
            'if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi\n'
            'if [ "$1" = tests/browser/chromium.py ]; then exec cat browser; fi\n'
            f'if [ "$3" = install ] && [ -f {here}/offline ]; then\n'
            "    echo no network; exit 1\n"
            "fi\n"
            f'if [ "$2 $3" = "pip --version" ]; then [ ! -f {here}/no-pip ]; exit; fi\n'
            f'if [ "$2" = ensurepip ]; then rm {here}/no-pip; fi\n'
            # its last question: is the installed package that of the folder?
            f'case "$2" in *find_spec*) [ ! -f {here}/moved ]; exit;; esac\n'
            f"case \"$2\" in *site*) printf '%s\\n' {here}/runs/site;;"
            f" *runs_folder*) mkdir -p runs/demo && touch runs/demo/summary.md &&"
            f" printf '%s\\n' {here}/runs/demo;; esac\n"
        )
        python.chmod(0o755)
        return folder

    def make(self, folder, *arguments):
        python = f"PYTHON={folder}/fake-python"
        given = () if arguments[:1] in {(), ("clean",)} else (python, "VENV=.venv")
        command = ["make", "-C", str(folder), *given, *arguments]
        # these tests may themselves run under make, which hands its flags on
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        run = subprocess.run(command, capture_output=True, text=True, env=env)
        calls = folder / "calls"
        installs = calls.read_text().count("pip install") if calls.exists() else 0
        return run.returncode, run.stdout + run.stderr, installs

    def test_alone_lists_the_targets_and_without_a_browser_nothing_is_installed(self, folder):
        code, text, installs = self.make(folder)
        assert code == 0 and installs == 0
        assert "make demo" in text and "make doctor" in text
        code, _, installs = self.make(folder, "test-browser")
        assert code != 0 and installs == 0
        assert (folder / "calls").read_text() == "tests/browser/chromium.py\n"

    def test_installs_once_until_pyproject_changes_or_a_target_needs_more(self, folder):
        assert self.make(folder, "install", "TORCH_INDEX=https://here/whl/cpu?a=b&c='d e'")[2] == 1
        assert (
            "--extra-index-url https://here/whl/cpu?a=b&c='d e'" in (folder / "calls").read_text()
        )
        assert self.make(folder, "test")[::2] == (0, 1)
        (folder / "browser").touch()
        assert self.make(folder, "dashboard")[::2] == (0, 2)
        assert self.make(folder, "test-browser")[::2] == (0, 3)
        assert self.make(folder, "test-browser", "dashboard")[::2] == (0, 3)
        later = (folder / ".venv" / ".installed").stat().st_mtime + 10
        os.utime(folder / "pyproject.toml", (later, later))
        assert self.make(folder, "test")[::2] == (0, 4)
        calls = (folder / "calls").read_text()
        assert ".[dashboard]" in calls and ".[browser]" in calls
        assert "-m pytest tests/browser" in calls

    @pytest.mark.parametrize(
        "target, given, asked",
        [
            ("reproduce", [], "--scale laptop --jobs 2"),  # all five
            ("reproduce", ["BENCHMARK=mnist ptb", "SEEDS=10"],
             "mnist ptb --scale laptop --jobs 2 --seeds 10"),
            ("reproduce", ["SEEDS=0 3", "JOBS=1", "ARMS=rkd qrkd", "SCHEDULER=tcp://here:1"],
             "--scale laptop --jobs 1 --seed 0 3 --arms rkd qrkd --scheduler tcp://here:1"),
            ("study", ["STAGE=runs doses", "BENCHMARK=mnist", "SCHEDULER=tcp://here:1", "JOBS=1"],
             "runs doses --jobs 1 --benchmarks mnist --scheduler tcp://here:1"),
        ],
    )  # fmt: skip
    def test_a_target_hands_on_what_it_is_given(self, folder, target, given, asked):
        assert self.make(folder, target, *given)[0] == 0
        *_, last = (folder / "calls").read_text().splitlines()
        assert last == f"-m qrkd_lab {target} {asked}"

    def test_a_cut_off_install_goes_on(self, folder):
        (folder / "offline").touch()
        code, text, _ = self.make(folder, "install")
        assert code != 0 and "no network" in text and "installation failed" in text
        (folder / ".venv" / "mine").touch()
        (folder / "offline").unlink()
        code, text, _ = self.make(folder, "test")
        assert code == 0 and "did not finish" in text
        assert "--ignore-installed" in (folder / "calls").read_text()  # over what is half there
        assert (folder / ".venv" / "mine").exists()
        assert self.make(folder, "test")[::2] == (0, 2)

    @pytest.mark.parametrize("made_by_make", [True, False])
    def test_an_environment_without_a_python_is_left_alone(self, folder, made_by_make):
        if made_by_make:
            self.make(folder, "install")
            (folder / ".venv" / "bin" / "python").unlink()  # the system's, replaced by a newer one
        else:
            (folder / ".venv").mkdir()
        (folder / ".venv" / "mine").touch()
        code, text, _ = self.make(folder, "doctor")
        assert code != 0 and "no Python that runs" in text and "remove or rename" in text
        assert (folder / ".venv" / "mine").exists()

    def test_an_environment_without_pip_or_of_another_folder_is_installed_again(self, folder):
        self.make(folder, "install")
        (folder / ".venv" / ".installed").unlink()
        (folder / "no-pip").touch()  # as in one that uv made
        assert self.make(folder, "test")[::2] == (0, 2)
        assert "-m ensurepip" in (folder / "calls").read_text()
        (folder / "moved").touch()
        code, text, installs = self.make(folder, "test")
        assert (code, installs) == (0, 3) and "of another folder" in text

    @pytest.mark.parametrize("where", ["clone", "home"])
    def test_every_target_takes_every_path_and_removes_nothing(self, folder, where, monkeypatch):
        monkeypatch.setenv("HOME", str(folder))
        given = [f"VENV=~/elsewhere {self.HOSTILE}"] if where == "home" else []
        assert self.make(folder, "install", *given)[0] == 0
        (folder / "browser").touch()
        for name in TARGETS:
            before = set(folder.rglob("*"))
            code, text, _ = self.make(folder, name, *([] if name == "clean" else given))
            assert code == 0, f"{name}: {text}"
            gone = before - set(folder.rglob("*"))
            assert {path.relative_to(folder).parts[0] for path in gone} <= (
                {".venv"} if name == "clean" else set()
            )
        names = {path.name for path in folder.iterdir()}
        there = {f"elsewhere {self.HOSTILE}"} if given else set()
        assert names == there | {
            "Makefile", "pyproject.toml", "notebooks", "fake-python", "calls", "browser", "runs"
        }  # fmt: skip

    @pytest.mark.parametrize(
        "target, name", [("demo", "SACLE"), ("study", "SEEDS"), ("clean", "JOBS")]
    )
    def test_a_variable_that_is_not_read_is_refused(self, folder, target, name):
        code, text, installs = self.make(folder, target, f"{name}=smoke")
        assert code != 0 and installs == 0 and f"make {target} does not read {name}." in text

    def test_demo_hands_on_what_it_is_given(self, folder):
        given = ("SCALE=smoke", "JOBS=1", "SEEDS=3", "DEMO_ARGS=--timeout 9")
        sets = "--set scale=smoke --set jobs=1 --set seeds=3"
        for arguments, asked in (((), ""), (given, f" {sets} --timeout 9")):
            assert self.make(folder, "demo", *arguments)[0] == 0
            *_, last = (folder / "calls").read_text().splitlines()
            assert last.partition(" --out ")[2] == f"{folder}/runs/demo{asked}"

    def test_a_site_is_built_anew_only_where_one_was_built(self, folder):
        (site := folder / "runs" / "site").mkdir(parents=True)
        code, text, _ = self.make(folder, "site")
        assert code != 0 and f"{site} was not made by make site" in text
        (site / ".doctrees").mkdir()  # Sphinx begins with it
        assert self.make(folder, "site", "JOBS=1")[0] == 0
        *_, last = (folder / "calls").read_text().splitlines()
        assert last == f"-m sphinx -q -W -j 1 -c qrkd_lab/teaching/site . {site}"

    def test_an_old_python_is_named(self, folder):
        (folder / "fake-python").write_text(
            '#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\n'
        )
        code, text, _ = self.make(folder, "install")
        assert code != 0 and "Python 3.11 or later is needed" in text and "Python 3.9.2" in text
        assert not (folder / ".venv").exists()
