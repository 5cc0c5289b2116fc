"""The command line: ``python -m qrkd_lab COMMAND``; ``-h`` lists the commands, and helps on each.

Whatever can be computed from Python can be computed from here; nothing is decided here.
"""

from __future__ import annotations

import argparse
import io
import sys
import warnings
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (1: an error in words, 130: interrupted)."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # ± where the output's encoding has none: \xb1
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = argparse.Namespace(traceback=False)
    try:
        arguments = _parser().parse_args(argv)
        return arguments.command(arguments) or 0
    except KeyboardInterrupt:
        print(
            "\nInterrupted. Finished runs are recorded; the same command goes on.", file=sys.stderr
        )
        return 130
    except (ValueError, TypeError, RuntimeError, OSError) as error:
        if arguments.traceback:
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    from qrkd_lab.commands.files import add_data, add_export, add_publish, add_report
    from qrkd_lab.commands.notebooks import add_notebook
    from qrkd_lab.commands.studies import add_compare, add_reproduce, add_tune

    parser = argparse.ArgumentParser(prog="python -m qrkd_lab", description=__doc__)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="command")
    add_compare(commands.add_parser("compare", help="train arms on seeds, print the table"))
    add_reproduce(commands.add_parser("reproduce", help="run the study, write its report"))
    add_tune(commands.add_parser("tune", help="choose each arm's weight on validation data"))
    add_data(commands.add_parser("data", help="fetch and verify data sets"))
    add_export(commands.add_parser("export", help="write a trained language model for others"))
    add_publish(commands.add_parser("publish", help="copy records into results/, to be shared"))
    add_report(commands.add_parser("report", help="what all records say together, as a page"))
    add_notebook(commands.add_parser("notebook", help="run notebooks without a browser"))
    doctor = commands.add_parser("doctor", help="say what is wrong here, and what to do")
    doctor.set_defaults(command=_doctor)
    return parser


def _doctor(arguments: argparse.Namespace) -> int:
    from qrkd_lab.doctor import main as doctor

    return doctor()


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"  # no line of our source
    sys.exit(main())
