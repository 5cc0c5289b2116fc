"""The face of the figures: every name can be had, lazily, and is a function of one module."""

from __future__ import annotations

import importlib
import subprocess
import sys

from qrkd_lab.teaching import plots


def test_every_figure_can_be_had_and_stands_in_one_module():
    names = [name for module in plots._HOMES for name in plots._HOMES[module]]
    assert len(names) == len(set(names)) == len(plots.__all__)
    for module, own in plots._HOMES.items():
        home = importlib.import_module(f"qrkd_lab.teaching.plots.{module}")
        assert set(own) <= set(home.__all__)
        for name in own:
            assert getattr(plots, name) is getattr(home, name)


def test_no_figure_is_hidden_by_a_module_of_its_name():
    assert not set(plots.__all__) & set(plots._HOMES)


def test_importing_the_face_draws_nothing_in():
    code = "import sys; from qrkd_lab.teaching import plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
