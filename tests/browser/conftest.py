"""Tests in a real browser: ``make test-browser``, or ``python -m pytest tests/browser``.

Plain ``pytest`` does not enter this folder: ``norecursedirs`` in pyproject.toml leaves it out.

Fixtures:
    lab: opens notebooks in a real JupyterLab (``tests.browser.lab.Lab``).
    notebook: the module's ``NOTEBOOK``, executed, in a page that its tests share.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.browser.lab import Lab, LabServer
from tests.browser.screen import PICTURES

HERE = Path(__file__).parent
ARGUMENTS = [
    "--headless=new",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no test needs a network
]


def missing():
    """Why no browser test can run here, and what to do; empty if they can."""
    if chromium.find() is None:
        return chromium.advice()
    if importlib.util.find_spec("playwright") is None:
        return "Playwright is not installed: pip install 'qrkd-lab[browser]'"
    return ""


def pytest_collection_modifyitems(items):
    reason = missing()
    for item in items:
        if reason and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test leaves a picture of each page that it had open."""
    report = yield
    name = "FAILED-" + re.sub(r"[^\w.-]+", "-", item.name)
    if report.when == "setup":
        for old in [*PICTURES.glob(f"{name}.png"), *PICTURES.glob(f"{name}-[0-9].png")]:
            old.unlink(missing_ok=True)
    context = item.funcargs.get("shared_context")
    if report.failed and context:
        for number, page in enumerate(context.pages):
            path = PICTURES / f"{name}{f'-{number + 1}' if number else ''}.png"
            try:
                page.screenshot(path=path, timeout=10_000)
                report.sections.append(("picture", str(path)))
            except Exception as error:  # the test's own failure is the one to read
                report.sections.append(("no picture", str(error)))
    return report


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=20_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shared_context(browser):
    # one for all tests: its cache spares every page after the first the loading of Lab's scripts
    with browser.new_context() as context:
        context.set_default_timeout(20_000)
        yield context


@pytest.fixture
def context(shared_context):
    yield shared_context
    for page in shared_context.pages:
        page.close()


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory):
    with LabServer(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def lab(lab_server, context):
    """Opens notebooks: ``notebook = lab.open("notebooks/x.ipynb")``, ``notebook.run_all()``, ..."""
    shutil.rmtree(lab_server.root.parent / "runs", ignore_errors=True)  # another test's
    yield Lab(lab_server, context)
    lab_server.stop_kernels()


@pytest.fixture(scope="module")
def opened(request, lab_server, shared_context):
    """``NOTEBOOK`` of the module, in one page and kernel: to start them takes the longest."""
    return Lab(lab_server, shared_context).open(request.module.NOTEBOOK)


@pytest.fixture
def notebook(opened):
    """The same, with an explorer that no test has touched yet. Comes before tests with ``lab``."""
    opened.run_all(seconds=120)
    return opened
