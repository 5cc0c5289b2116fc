"""All explorers without code, in Voila: each is seen at once on a small laptop, and answers."""

from __future__ import annotations

import importlib.util
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.browser.controls import changed, check_layout, handle, menu, press
from tests.browser.dashboard import Dashboard, VoilaServer
from tests.browser.screen import expect
from tests.browser.test_kernels import turn_every_kind_of_knob

OWN = """
import torch
from torch import nn
import qrkd_lab as ql
from qrkd_lab.teaching.widgets import *

x = torch.randn(80, 4)
mine = ql.Benchmark.from_arrays(
    *((one, one[:, :1] + one[:, 1:2] ** 2) for one in x.split([40, 20, 20])), task="regression",
    teacher=lambda seed: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)),
    student=lambda seed: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)),
)
ql.compare(mine, ["rkd", "qrkd"], 2, "smoke", qubits=2, progress=False)
None"""


def train_ones_own(page, box):
    said = box.get_by_role("status")
    expect(said).to_contain_text("Ready: kd, qrkd on mine (smoke), seed 7")
    press(box, "Start")
    expect(said).to_contain_text("Done.", timeout=90_000)
    press(box, "Records")
    expect(box).to_contain_text("validation rmse")


def choose_ones_own(page, box):
    expect(box).to_contain_text("mine at scale smoke, qubits=2: 6 runs of 3 arms, 2 seeds")
    menu(box, "Show").select_option("Scores by arm")
    shown = box.locator("img.qrkd-picture:not(.qrkd-faded)")
    expect(shown).to_have_attribute("alt", re.compile("one point per seed"))


def turn_points(page, box):
    handle(box, "How far (0 to 1)").focus()
    changed(box, lambda: page.keyboard.press("ArrowLeft"))


def write_gates(page, box):
    changed(box, lambda: menu(box, "Gates").fill("RY(x0) 0\nRY(2*x1) 1"), "kernel")


EXPLORERS = {
    "KernelExplorer()": (
        turn_every_kind_of_knob, "Data", "Samples", "Bandwidth", "Beside it", "Pin this matrix",
    ),
    "DistillationExplorer(mine, 'smoke', ('kd', 'qrkd'), seed=7, qubits=2)": (
        train_ones_own, "Start", "Pause", "Stop", "Benchmark", "Arms", "Seed", "Matrices of",
    ),
    "StudyBrowser()": (
        choose_ones_own, "Folder", "Look again", "Benchmark", "Arms", "Show", "Save these runs",
    ),
    "RelationExplorer(preset='shear')": (
        turn_points, "Change", "x", "Angle weight", "Ten steps", "Points", "Seed",
    ),
    "CircuitExplorer()": (
        write_gates, "Begin with", "Gates", "Qubits", "Bandwidth", "Seen from x1",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def dashboard(shared_context, tmp_path_factory):
    if importlib.util.find_spec("voila") is None:
        pytest.skip("Voila is not installed: pip install 'qrkd-lab[dashboard]'")
    folder = tmp_path_factory.mktemp("voila")
    cells = [new_code_cell(source) for source in (OWN, *EXPLORERS)]
    nbformat.write(new_notebook(cells=cells), folder / "notebook.ipynb")
    with VoilaServer(folder, folder / "notebook.ipynb") as server:
        yield Dashboard(server, shared_context, seconds=300)


@pytest.mark.parametrize("call", EXPLORERS, ids=lambda call: call.partition("(")[0])
def test_an_explorer_is_seen_at_once_and_answers(dashboard, call):
    act, *names = EXPLORERS[call]
    box = dashboard.explorer("qrkd-" + call.partition("(")[0], seconds=120)
    check_layout(dashboard, box, *names)
    act(dashboard.page, box)
    expect(box.get_by_role("alert")).to_have_count(0)
    dashboard.screenshot(f"voila_{call.partition('(')[0]}", of=box)
    assert dashboard.tracebacks() == [] and dashboard.errors == []
