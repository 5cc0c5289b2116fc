"""What is wrong with this installation, and what to do: ``python -m qrkd_lab doctor``.

It changes nothing and needs no network. torch is imported in a process of its own, so that a broken
one does not stop the rest.
"""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from qrkd_lab.files import can_be_written, runs_folder

__all__ = ["Finding", "check", "main", "widget_findings"]

_PIP = f"{shlex.quote(sys.executable)} -m pip"
_INSTALL = "make install (or, in the project's folder: pip install -e .)"
_DATA = {  # by name: what shows that the data are there
    "mnist": "MNIST/raw/train-images*",
    "cifar10": "cifar*10*",
    "wikitext2": "wikitext-2/wiki.train.tokens",
    "ptb": "ptb/ptb.train.txt",
    "imdb": "aclImdb/train/pos",
}


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    ok: bool
    found: str  # what is there, in words
    advice: str  # what to do about it where it is not ok
    essential: bool = True  # whether the kit cannot work without; other findings are notes


def check() -> list[Finding]:
    """Everything that is looked at, in the order of the table; takes about ten seconds."""
    findings: list[Finding] = []
    for part in (_packages, _torch, _processes, _folders, widget_findings, _kernel):
        if part is _processes and not findings[-1].ok:
            continue  # a torch that crashes would crash this process too
        try:
            findings += part()
        except Exception as error:  # the rest must still be looked at
            name = part.__name__.strip("_")
            findings.append(Finding(name, False, f"{type(error).__name__}: {error}", _INSTALL))
    return findings


def main() -> int:
    """Print the findings as a table; 1 if something essential is wrong, else 0."""
    findings = check()
    wide = max(len(finding.name) for finding in findings)
    for finding in findings:
        mark = "ok" if finding.ok else ("WRONG" if finding.essential else "note")
        print(f"{mark:<6} {finding.name:<{wide}}  {finding.found}")
        if not finding.ok:
            print(textwrap.indent(finding.advice, " " * (wide + 9) + "-> "))
    wrong = sum(not finding.ok and finding.essential for finding in findings)
    print(f"\n{wrong} thing(s) to mend, above." if wrong else "\nEverything essential is in order.")
    return 1 if wrong else 0


def _version(name: str) -> str:
    """The installed version; "" if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _packages() -> Iterator[Finding]:
    """The qrkd_lab that notebooks import, the Python, and the packages that it needs."""
    if not _version("qrkd-lab"):
        found = "runs from its folder, not installed: notebooks elsewhere cannot import it"
        yield Finding("qrkd-lab", False, found, _INSTALL, essential=False)
        return
    own, code = Path(__file__).resolve().parents[1], "import qrkd_lab; print(qrkd_lab.__path__[0])"
    # -P: not the one in the working directory
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    same = not run.returncode and Path(run.stdout.rstrip("\n")).resolve() == own
    found = f"notebooks import another one, {run.stdout.strip()}, and not {own}"
    if run.returncode:
        found = "notebooks cannot import it: was the project's folder renamed or moved?"
    yield Finding("qrkd-lab", same, f"{own}" if same else found, _INSTALL)
    python, have = metadata.metadata("qrkd-lab")["Requires-Python"], platform.python_version()
    ok = SpecifierSet(python).contains(have, prereleases=True)
    advice = f"Make a new environment with Python {python}."
    yield Finding("Python", ok, f"{have} at {sys.executable}", advice)
    wrong = []
    for each in map(Requirement, metadata.requires("qrkd-lab") or []):
        have = _version(each.name)
        of_extra = each.marker and not each.marker.evaluate({"extra": ""})
        if not of_extra and not (have and each.specifier.contains(have, prereleases=True)):
            wrong.append(
                f"{each.name} {have or 'not installed'} (needed: {each.specifier or 'any'})"
            )
    found = ", ".join(wrong) or "all installed and new enough"
    yield Finding("packages", not wrong, found, _INSTALL)


def _torch() -> Iterator[Finding]:
    """Whether torch and torchvision work; torchvision's compiled part is used, not only loaded."""
    code = "import torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    found = f"{_version('torch')} works with torchvision {_version('torchvision')}"
    if run.returncode:
        found = (run.stderr.strip() or f"Python died: {run.returncode}").splitlines()[-1]
    advice = (
        "Often torch and torchvision were not built for each other (a CPU build beside one for\n"
        "CUDA). Install both in one command, from the same index:\n"
        f"{_PIP} install --force-reinstall torch torchvision"
    )
    yield Finding("torch", not run.returncode, found, advice)


def _processes() -> Iterator[Finding]:
    import joblib

    workers = joblib.effective_n_jobs(2) > 1
    advice = (
        "For jobs at the same time, mount /dev/shm so that it can be written; in a container of\n"
        "Docker: --shm-size=1g, and not --read-only without --tmpfs /dev/shm."
    )
    found = "can be started" if workers else "cannot be started: jobs run one after another"
    yield Finding("processes", workers, found, advice, essential=False)


def _folders() -> Iterator[Finding]:
    """Data, records, and where runs are written."""
    from qrkd_lab.data import data_dir
    from qrkd_lab.studies.records import PUBLISHED

    absent = [name for name, place in _DATA.items() if not any(data_dir().glob(place))]
    found = f"{data_dir()}: {'without ' * bool(absent)}{', '.join(absent) or 'all'}"
    advice = "Downloaded when first used; to fetch them now: python -m qrkd_lab data NAME"
    yield Finding("data", not absent, found, advice, essential=False)
    runs = runs_folder().absolute()
    ok = can_be_written(runs)
    advice = "Name a folder of your own in the environment variable QRKD_RUNS_DIR."
    yield Finding("runs", ok, f"{runs}: {'' if ok else 'not '}writable", advice)
    advice = (
        "Notebooks on the benchmarks would train: an installed wheel has no records. Work in a\n"
        f"clone of the project, with {_INSTALL}"
    )
    kit = PUBLISHED.is_dir()
    found = f"{'' if kit else 'there is no '}{PUBLISHED}"
    yield Finding("published records", kit, found, advice, essential=False)


def widget_findings() -> list[Finding]:
    """Whether JupyterLab can draw widgets, as far as this Python can tell."""
    place = Path("share/jupyter/labextensions/@jupyter-widgets/jupyterlab-manager")
    there = (Path(sys.prefix) / place / "package.json").is_file()
    found = f"jupyterlab {_version('jupyterlab')}, ipywidgets {_version('ipywidgets')}"
    if not there:
        found += f"; no {place} in {sys.prefix}: sliders stay invisible"
    advice = (
        f"{_PIP} install --force-reinstall --no-deps jupyterlab_widgets ipywidgets\n"
        "then restart JupyterLab and reload its page."
    )
    findings = [Finding("widgets", there, found, advice)]
    jupyter = shutil.which("jupyter-lab")
    if jupyter and not _same_folder(jupyter):
        found = f"the command on the PATH is another one: {jupyter}"
        advice = "make lab (or activate this environment before: jupyter lab)"
        findings.append(Finding("jupyter lab", False, found, advice, essential=False))
    return findings


def _kernel() -> Iterator[Finding]:
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec("python3")
    # a bare "python" stands for the interpreter that Jupyter itself runs in
    bare = re.fullmatch(r"python[\d.]*", spec.argv[0])
    python = sys.executable if bare else spec.argv[0]
    there = shutil.which(python) is not None
    advice = f"{shlex.quote(sys.executable)} -m ipykernel install --sys-prefix --name python3"
    found = f"runs {python}{'' if there else ', which does not exist'}"
    yield Finding("notebook kernel", there and _same_folder(python), found, advice, not there)


def _same_folder(python: str) -> bool:
    """Whether a program lies in the folder of this Python: in the same environment."""
    return Path(python).absolute().parent == Path(sys.executable).absolute().parent
