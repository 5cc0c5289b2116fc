"""Find Chromium or Chrome on this machine, or say how to get one.

``python tests/browser/chromium.py`` prints where it is, and exits with 1 where there is none. It
needs nothing but Python, so that it can be asked before anything is installed.
"""

from __future__ import annotations

import os
import shutil
import sys

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
ADVICE = """The browser tests need Chromium or Chrome, and none was found. To get one:
  Debian:           apt-get install -y --no-install-recommends chromium
  macOS and others: install Chrome or Chromium
  anywhere:         QRKD_CHROMIUM=/path/to/it names the one to take"""


def find() -> str | None:
    """The browser that ``QRKD_CHROMIUM`` names, else the first of ``NAMES``, else None."""
    chosen = os.environ.get("QRKD_CHROMIUM")
    return next(filter(None, map(shutil.which, [chosen] if chosen else NAMES)), None)


def advice() -> str:
    """What to do where ``find`` found nothing."""
    chosen = os.environ.get("QRKD_CHROMIUM")
    wrong = f"QRKD_CHROMIUM is {chosen}, which is no program that can be run.\n" if chosen else ""
    return wrong + ADVICE


if __name__ == "__main__":
    print(find() or advice())
    sys.exit(find() is None)
