"""The command line: ``python -m qrkd_lab COMMAND``; ``-h`` lists the commands, and helps on each.

Whatever can be computed from Python can be computed from here; nothing is decided here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (1: an error in words, 130: interrupted)."""
    arguments = _parser().parse_args(argv)
    try:
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
    parser = argparse.ArgumentParser(prog="python -m qrkd_lab", description=__doc__)
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_compare(commands.add_parser("compare", help="train arms on seeds, print the table"))
    _add_data(commands.add_parser("data", help="fetch and verify data sets"))
    _add_export(commands.add_parser("export", help="write a trained language model for others"))
    _add_publish(commands.add_parser("publish", help="copy records into results/, to be shared"))
    _add_notebook(commands.add_parser("notebook", help="run notebooks without a browser"))
    doctor = commands.add_parser("doctor", help="say what is wrong here, and what to do")
    doctor.set_defaults(command=_doctor)
    return parser


def _add_compare(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.arms import ARMS, DEFAULT_ARMS
    from qrkd_lab.benchmarks import BENCHMARKS, SCALES

    arms = "; ".join(f"{name}: {arm.meaning}" for name, arm in ARMS.items())
    add = parser.add_argument
    add("benchmark", help=f"{', '.join(BENCHMARKS)}, or a folder of images or text")
    add("--arms", nargs="+", default=DEFAULT_ARMS, metavar="ARM", help=arms.replace("%", "%%"))
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=int, default=5, metavar="N",
                       help="how many seeds (default 5)")  # fmt: skip
    seeds.add_argument(
        "--seed", type=int, nargs="+", metavar="SEED", help="these seeds and no other"
    )
    add("--scale", default="laptop", help=f"{', '.join(SCALES)} (default laptop)")
    add("--jobs", type=int, default=1, help="processes; -1: one a core (default 1)")
    add("--reference", help="arm that the others are compared with (default rkd)")
    add("--runs-dir", default="runs", help="folder of the records (default runs)")
    add("--data-dir", help="folder of the data (default $QRKD_DATA_DIR, else the cache)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="settings, e.g. epochs=3")
    add("--published", action="store_true", help="take the records that came with the kit")
    add("--out", help="folder for results.csv, summary.md and figures (default: not written)")
    parser.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    from qrkd_lab.comparison import compare
    from qrkd_lab.notebook_parameters import parse_parameters

    if arguments.reference not in (None, *arguments.arms):
        raise ValueError(
            f"reference {arguments.reference!r} is not among the arms {', '.join(arguments.arms)}"
        )
    overrides = parse_parameters(arguments.set)
    if reserved := {"benchmark", "scale", "arm", "arms", "seed", "seeds"} & set(overrides):
        raise ValueError(f"{min(reserved)} is not set with --set; use the options --scale, ...")
    study = compare(
        arguments.benchmark,
        arguments.arms,
        arguments.seed or arguments.seeds,
        arguments.scale,
        arguments.jobs,
        arguments.runs_dir,
        arguments.data_dir,
        arguments.device,
        published=arguments.published,
        **overrides,
    )
    print(study.summary(arguments.reference))
    if arguments.out:
        print(f"written to {study.save(arguments.out, arguments.reference)}")


def _add_data(parser: argparse.ArgumentParser) -> None:
    names = "digits, mnist, cifar10, wikitext2, ptb, imdb, or a folder of images or text"
    parser.add_argument("names", nargs="+", help=names)
    parser.add_argument("--data-dir", help="default $QRKD_DATA_DIR, else the cache")
    parser.set_defaults(command=_data)


def _data(arguments: argparse.Namespace) -> None:
    from qrkd_lab.benchmarks.registry import is_text
    from qrkd_lab.data import load_images, load_text

    for name in arguments.names:
        load = load_text if is_text(name) else load_images
        print(load(name.removesuffix("-sentiment"), data_dir=arguments.data_dir))


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of a record, e.g. runs/ptb/laptop/kd-...")
    parser.add_argument("folder", type=Path, help="where to, in Hugging Face's format")
    parser.add_argument("--benchmark", help="the folder of data, where the run is of one")
    parser.add_argument("--data-dir", help="default $QRKD_DATA_DIR, else the cache")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> None:
    from qrkd_lab.benchmarks import benchmark_of
    from qrkd_lab.runs import load_run

    run = load_run(arguments.run)
    benchmark = benchmark_of(run, arguments.data_dir, folder=arguments.benchmark)
    print(benchmark.export(run, arguments.folder))


def _add_publish(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.published import PUBLISHED

    parser.add_argument("benchmark", help="as in compare")
    parser.add_argument("--scale", default="laptop", help="default laptop")
    parser.add_argument("--runs-dir", default="runs", help="folder of the records (default runs)")
    parser.add_argument("--out", default=PUBLISHED, help="default results/ beside the package")
    parser.set_defaults(command=_publish)


def _publish(arguments: argparse.Namespace) -> None:
    from qrkd_lab.published import publish
    from qrkd_lab.runs import read_runs

    runs = read_runs(arguments.runs_dir, arguments.benchmark, arguments.scale)
    if not runs:
        raise ValueError(
            f"no runs of {arguments.benchmark} at scale {arguments.scale} in {arguments.runs_dir}"
        )
    print(f"{publish(runs, arguments.out)} of {len(runs)} records copied to {arguments.out}")


def _add_notebook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="notebook")
    parser.add_argument("--out", default="runs", help="folder for the executed copy (default runs)")
    parser.add_argument("-p", "--set", nargs="+", default=[], metavar="NAME=VALUE", dest="set")
    parser.add_argument("--timeout", type=int, help="seconds a cell may take")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (default 1)")
    parser.add_argument(
        "--in-place", action="store_true", help="write the outputs back into the notebook itself"
    )
    parser.set_defaults(command=_notebook)


def _notebook(arguments: argparse.Namespace) -> None:
    from qrkd_lab.notebook_parameters import parse_parameters
    from qrkd_lab.notebook_series import run_series
    from qrkd_lab.notebooks import execute, refresh

    parameters = parse_parameters(arguments.set)
    if len(arguments.notebooks) > 1:
        out = None if arguments.in_place else arguments.out
        run_series(arguments.notebooks, out, parameters, arguments.timeout, arguments.jobs)
        return
    (notebook,) = arguments.notebooks
    # In its own folder, as in JupyterLab, so that relative paths mean the same in both.
    options = {"timeout": arguments.timeout, "cwd": notebook.parent}
    if arguments.in_place:
        refresh(notebook, parameters, **options)
        print(f"outputs written back into {notebook}")
    else:
        print(execute(notebook, arguments.out, parameters, **options))


def _doctor(arguments: argparse.Namespace) -> int:
    from qrkd_lab.doctor import main as doctor

    return doctor()


if __name__ == "__main__":
    sys.exit(main())
