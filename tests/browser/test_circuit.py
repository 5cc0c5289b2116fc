"""The circuit explorer in a real browser: gates are typed, and the picture follows."""

from __future__ import annotations

from pathlib import Path

from tests.browser.controls import changed, check_layout, left_by, menu, press
from tests.browser.screen import expect

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "explore_circuit.ipynb"
BOX = "qrkd-CircuitExplorer"


def test_gates_are_typed_and_the_picture_follows(notebook):
    box = notebook.explorer(BOX)
    check_layout(notebook, box, "Begin with", "Gates", "Qubits", "Bandwidth", "Seen from x1")
    expect(box.get_by_role("status")).to_contain_text("A stretched RBF")
    notebook.screenshot("explore_circuit", of=box)
    gates = menu(box, "Gates")
    changed(box, lambda: gates.fill("RY(x0) 0\nRY(2*x1) 1"), "kernel")
    gates.press("End")
    changed(box, lambda: gates.press_sequentially("\nCZ 0 1\nRX(x0*x1) each"), "kernel")
    gates.fill("RY(x0) 0\nRY(x7) 1")
    expect(box.get_by_role("alert")).to_contain_text("line 2, 'RY(x7) 1': x7: a sample has")
    changed(box, lambda: menu(box, "Begin with").select_option("iqp"), "kernel")
    expect(box.get_by_role("alert")).to_have_count(0)
    expect(gates).to_have_value("repeat 2\nH each\nRZ(x) each\nRZZ(x*y) pairs")
    press(box, "Language")
    expect(box).to_contain_text("everything below, twice")
    press(box, "Circuit")
    expect(box.get_by_role("img", name="4 Hadamard, 4 RZ, 2 IsingZZ")).to_be_visible()
    still = notebook.page.locator(".qrkd-still")
    expect(still.locator("code").last).to_contain_text("CircuitExplorer(gates='repeat 2")
    assert notebook.errors == notebook.outside == notebook.kernel_errors() == []
    left_by(notebook, "CircuitExplorer(gates='repeat 2")
