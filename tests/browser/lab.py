"""A real JupyterLab, and a notebook that is open in it."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from tests.browser.screen import VIEW, Screen
from tests.browser.server import Server

SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {
        "fetchNews": "false",
        "checkForUpdates": False,
        "doNotDisturbMode": True,
    },
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    "@jupyterlab/docmanager-extension:plugin": {"autosave": False},
}
FLAGS = [
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port={port}",
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token={token}",
    "--LabApp.expose_app_in_browser=True",  # window.jupyterapp, which the scripts below command
    "--LabApp.extension_manager=readonly",
]
KERNEL = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
# Run All before the kernel is there would ask which kernel to take: hence the two `ready`. An
# exception in a widget's callback shows nowhere in a notebook, but the kernel does send it.
OPEN = """async (path) => {
  const app = window.jupyterapp;
  await app.restored;
  app.shell.collapseLeft();
  const panel = await app.commands.execute('docmanager:open', {path});
  await panel.context.ready;
  await panel.sessionContext.ready;
  window.kernelErrors = [];
  panel.sessionContext.iopubMessage.connect((_, message) => {
    if (message.header.msg_type === 'error') window.kernelErrors.push(message.content);
  });
  app.shell.activateById(panel.id);
  return app.shell.currentWidget.context.path;
}"""
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets.map(
  cell => cell.model.type === 'code' ? cell.model.outputs.toJSON() : [])"""
SAVE = """async () => {
  const context = window.jupyterapp.shell.currentWidget.context;
  await context.save();
  return !context.model.dirty;
}"""


class LabServer(Server):
    """JupyterLab of the running interpreter; ``root`` is the folder that it shows."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "notebooks"
        self.root.mkdir(parents=True)
        overrides = folder / "config" / "labconfig" / "default_setting_overrides.json"
        overrides.parent.mkdir(parents=True)
        overrides.write_text(json.dumps(SETTINGS))
        super().__init__("jupyterlab", folder, [*FLAGS, f"--ServerApp.root_dir={self.root}"])

    def ask(self, method: str, path: str) -> Any:
        """The answer of Jupyter's own interface, with no proxy between."""
        headers = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def stop_kernels(self, path: str | None = None) -> None:
        """Shuts down the kernel of one notebook, or all kernels."""
        for session in self.ask("GET", "/api/sessions"):
            if path in (None, session["path"]):
                self.ask("DELETE", f"/api/sessions/{session['id']}")


class Notebook(Screen):
    """A notebook in a Lab of its own page. ``Lab.open`` makes it; nothing has run yet."""

    SCOPE = ".jp-MainAreaWidget:not(.lm-mod-hidden)"
    EDGES = (90, VIEW["height"] - 24)  # below the tools, above the status

    def __init__(self, lab: Lab, path: str) -> None:
        super().__init__(lab.context)
        self.lab, self.path = lab, path
        server = lab.server
        # a workspace of its own: Lab would bring back what an earlier page had open
        workspace = f"{server.url}/lab/workspaces/{secrets.token_hex(4)}"
        self.page.goto(f"{workspace}?reset&token={server.token}", timeout=60_000)
        self.page.wait_for_function("window.jupyterapp !== undefined", timeout=60_000)
        shown = self.evaluate(OPEN, path)
        assert shown == path, f"Lab shows {shown}, not {path}"

    def run_all(self, seconds: float = 120) -> None:
        """Runs all cells; fails with the cell and its traceback if one raised."""
        done = self.evaluate(RUN, seconds=seconds)
        wrong = [
            f"cell {number}: {readable(each)}"
            for number, outputs in enumerate(self.outputs())
            for each in outputs
            if each["output_type"] == "error"
        ]
        assert not wrong, "\n".join(wrong)
        dialogs = self.page.locator(".jp-Dialog-content").all_inner_texts()
        assert done is True, f"Run All answered {done}; dialogs: {dialogs}"

    def outputs(self) -> list[list[dict[str, Any]]]:
        """The outputs of each cell as the notebook holds them; a Markdown cell has none."""
        return self.evaluate(OUTPUTS)

    def kernel_errors(self) -> list[str]:
        """What the kernel raised since the notebook was opened, in cells and in callbacks alike."""
        return [readable(each) for each in self.evaluate("() => window.kernelErrors")]

    def save(self) -> NotebookNode:
        """Saves, and returns what is in the file now."""
        assert self.evaluate(SAVE) is True, "the notebook has changes after it was saved"
        return nbformat.read(self.lab.root / self.path, as_version=4)

    def reopen(self) -> Notebook:
        """The file again in a new page with a new kernel, without running it. Save before."""
        self.shut_down()
        return self.lab.open(self.lab.root / self.path)

    def shut_down(self) -> None:
        """Closes the page and ends the kernel."""
        self.close()
        self.lab.server.stop_kernels(self.path)


class Lab:
    """Opens notebooks; the fixture ``lab`` is one, and ends all kernels after each test."""

    def __init__(self, server: LabServer, context: Any) -> None:
        self.server, self.context = server, context

    @property
    def root(self) -> Path:
        """The folder that Lab shows, and in which the kernels work."""
        return self.server.root

    def open(self, notebook: Path | str | NotebookNode, name: str = "notebook.ipynb") -> Notebook:
        """Opens a copy of the file, or a notebook made by the test under this name."""
        if isinstance(notebook, NotebookNode):
            notebook.metadata.setdefault("kernelspec", KERNEL)  # without, Lab asks for one
            nbformat.write(notebook, self.root / name)
            return Notebook(self, name)
        source = Path(notebook).resolve()
        if source.parent != self.root.resolve():
            copy_with_images(source, self.root)
        return Notebook(self, source.name)


def copy_with_images(source: Path, folder: Path) -> None:
    """A notebook into a folder, with the pictures that its text shows."""
    shutil.copy(source, folder)
    if (images := source.parent / "images").is_dir():
        shutil.copytree(images, folder / "images", dirs_exist_ok=True)


def readable(error: dict[str, Any]) -> str:
    """The name, message and traceback of an error, without the colours."""
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))
    return f"{error['ename']}: {error['evalue']}\n{trace}"
