"""``python -m qrkd_lab``: see :mod:`qrkd_lab.cli`."""

import sys
import warnings

from qrkd_lab.cli import main

if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"  # no line of our source
    sys.exit(main())
