"""From a slider to the new picture: milliseconds, measured in the browser; ``make bench`` asks.

A key is pressed on the slider's handle; the clock stops when the browser has painted the picture
that answers: its ``load`` event, and the frame after it.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from nbformat.v4 import new_code_cell, new_notebook

from tests.browser import chromium
from tests.browser.lab import Lab, LabServer

PRESS = """async ([box, key, times]) => {
  const image = document.querySelector(`${box} img.qrkd-matrix`);
  const handle = [...document.querySelectorAll(`${box} .widget-inline-hbox`)]
    .find(row => row.innerText.startsWith('Bandwidth')).querySelector('.noUi-handle');
  const frame = () => new Promise(done => requestAnimationFrame(done));
  const rest = ms => new Promise(done => setTimeout(done, ms));
  const taken = [];
  for (let i = 0; i < times; i++) {
    const shown = new Promise(done => image.addEventListener('load', done, {once: true}));
    const start = performance.now();
    handle.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
    await shown;
    await frame();
    taken.push(performance.now() - start);
    await rest(60);
  }
  return taken;
}"""


def slider_to_picture(qubits: int, moves: int = 30, samples: int = 64) -> list[float]:
    """Seconds of each of ``moves`` steps of the bandwidth slider, in a real JupyterLab."""
    from playwright.sync_api import sync_playwright

    cell = (
        "from qrkd_lab.teaching.widgets import KernelExplorer\n"
        f"KernelExplorer(n={samples}, qubits={qubits}, bandwidth=0.03125)"
    )
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))
        server = held.enter_context(LabServer(folder))
        browser = held.enter_context(sync_playwright()).chromium.launch(
            executable_path=chromium.find(), args=["--headless=new", "--disable-gpu"]
        )
        held.callback(browser.close)
        context = held.enter_context(browser.new_context())
        notebook = Lab(server, context).open(new_notebook(cells=[new_code_cell(cell)]))
        notebook.run_all()
        box = notebook.explorer("qrkd-KernelExplorer")
        box.locator("img.qrkd-circuit").wait_for(state="attached", timeout=30_000)
        press = [".qrkd-KernelExplorer", "ArrowRight", moves]
        notebook.evaluate(PRESS, [press[0], "ArrowRight", 3], seconds=60)
        return [taken / 1000 for taken in notebook.evaluate(PRESS, press, seconds=120)]
