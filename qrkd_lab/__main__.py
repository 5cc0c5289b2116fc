"""``python -m qrkd_lab``: see :mod:`qrkd_lab.cli`."""

import sys

from qrkd_lab.cli import main

if __name__ == "__main__":
    sys.exit(main())
