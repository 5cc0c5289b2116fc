"""An explorer without code, in Voila: it is seen at once on a small laptop, and answers."""

from __future__ import annotations

import importlib.util

import pytest

from tests.browser.controls import check_layout
from tests.browser.dashboard import Dashboard, VoilaServer
from tests.browser.lab import copy_with_images
from tests.browser.screen import expect
from tests.browser.test_kernels import BOX, NOTEBOOK, turn_every_kind_of_knob


@pytest.mark.skipif(
    importlib.util.find_spec("voila") is None, reason="needs pip install 'qrkd-lab[dashboard]'"
)
def test_the_kernel_explorer_is_seen_at_once_and_answers(context, tmp_path):
    copy_with_images(NOTEBOOK, tmp_path)
    with VoilaServer(tmp_path, tmp_path / NOTEBOOK.name) as server:
        dashboard = Dashboard(server, context)
        box = dashboard.explorer(BOX, seconds=120)
        check_layout(dashboard, box, "Data", "Samples", "Bandwidth", "Beside it", "Pin this matrix")
        turn_every_kind_of_knob(dashboard.page, box)
        expect(box.get_by_role("alert")).to_have_count(0)
        dashboard.screenshot("voila_KernelExplorer", of=box)
        assert dashboard.tracebacks() == [] and dashboard.errors == []
