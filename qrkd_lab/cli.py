"""The command line: ``python -m qrkd_lab COMMAND``; ``-h`` lists the commands, and helps on each.

Whatever can be computed from Python can be computed from here; nothing is decided here.
"""

from __future__ import annotations

import argparse
import io
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "add_compare",
    "add_data",
    "add_export",
    "add_notebook",
    "add_publish",
    "add_report",
    "add_reproduce",
    "add_tune",
    "main",
]


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
    from qrkd_lab.teaching.doctor import main as doctor

    return doctor()


if __name__ == "__main__":
    warnings.formatwarning = lambda message, *_, **__: f"{message}\n"  # no line of our source
    sys.exit(main())


# ---- studies


# One or more values; an option that is given twice has the values of both.
_MANY: Mapping[str, Any] = {"nargs": "+", "action": "extend"}


def add_compare(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.studies.arms import ARMS, BENCHMARKS, SCALES

    arms = "; ".join(f"{name}: {arm.meaning}" for name, arm in ARMS.items())
    add = parser.add_argument
    add("benchmark", help=f"{', '.join(BENCHMARKS)}, or a folder of images or text")
    add("--arms", **_MANY, metavar="ARM", help=arms.replace("%", "%%"))
    _add_seeds(parser, 5, "how many seeds (default 5)")
    add("--scale", default="laptop", help=f"{', '.join(SCALES)} (default laptop)")
    add("--jobs", type=int, default=1, help="processes; -1: one a core (default 1)")
    add("--reference", help="arm that the others are compared with (default rkd)")
    add(
        "--runs-dir", help="folder of the records (default $QRKD_RUNS_DIR, else the project's runs)"
    )
    add("--data-dir", help="folder of the data (default $QRKD_DATA_DIR, else the cache)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    add("--set", **_MANY, default=[], metavar="NAME=VALUE", help="settings, e.g. epochs=3")
    add("--published", action="store_true",
        help="take the records that came with the kit; what they lack is trained")  # fmt: skip
    _add_scheduler(parser)
    add("--out", help="folder for results.csv, summary.md and figures (default: not written)")
    parser.set_defaults(command=_compare)


def _compare(arguments: argparse.Namespace) -> None:
    from qrkd_lab.files import check_writable, expanded
    from qrkd_lab.studies.arms import DEFAULT_ARMS
    from qrkd_lab.studies.compare import compare

    arms = arguments.arms or DEFAULT_ARMS
    if arguments.reference not in (None, *arms):
        raise ValueError(
            f"reference {arguments.reference!r} is not among the arms {', '.join(arms)}"
        )
    overrides = _settings(arguments)
    if arguments.out:
        check_writable(expanded(arguments.out), "out")
    study = compare(
        arguments.benchmark,
        arms,
        arguments.seed or arguments.seeds,
        arguments.scale,
        arguments.jobs,
        arguments.runs_dir,
        arguments.data_dir,
        arguments.device,
        published=arguments.published,
        scheduler=arguments.scheduler,
        **overrides,
    )
    print(study.summary(arguments.reference))
    if arguments.out:
        print(f"written to {study.save(arguments.out, arguments.reference)}")


def add_reproduce(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.studies.arms import SCALES

    add = parser.add_argument
    add("benchmarks", nargs="*", metavar="benchmark",
        help="mnist, cifar10, wikitext2, ptb, imdb (default all)")  # fmt: skip
    _add_seeds(parser, None, "how many seeds (default 5 on images, 3 on text)")
    add("--scale", default="laptop", help=f"{', '.join(SCALES)} (default laptop)")
    add("--arms", **_MANY, metavar="ARM", help="as in compare (default: the notebook's)")
    add("--jobs", type=int, default=2, help="processes; -1: one a core (default 2)")
    add(
        "--runs-dir", help="folder of the records (default $QRKD_RUNS_DIR, else the project's runs)"
    )
    add("--out", help="folder for executed notebooks and report (default reproduce in runs-dir)")
    _add_scheduler(parser)
    parser.set_defaults(command=_reproduce)


def _reproduce(arguments: argparse.Namespace) -> int:
    from qrkd_lab.reproduce import reproduce

    done = reproduce(
        arguments.benchmarks,
        arguments.seed or arguments.seeds,
        arguments.scale,
        arguments.jobs,
        arguments.runs_dir,
        arguments.out,
        arms=arguments.arms,
        scheduler=arguments.scheduler,
    )
    if done.report:
        print(done.report)
    if done.failures:
        said = "\n\n".join(done.failures)
        print(f"\nNot all of the study is there:\n\n{said}", file=sys.stderr)
    return 1 if done.failures else 0


def add_tune(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.studies.arms import CANDIDATES, TUNED

    grid = " ".join(f"{weight:g}" for weight in CANDIDATES)
    add = parser.add_argument
    add("benchmark", help="as in compare")
    add("--arms", **_MANY, metavar="ARM", help=f"default {' '.join(TUNED)}")
    _add_seeds(parser, 2, "how many, others than a study's: 1000, 1001, ... (default 2)")
    add("--scale", default="laptop", help="as in compare")
    add("--weights", type=float, **_MANY, metavar="WEIGHT",
        help=f"candidates of every arm (default {grid})")  # fmt: skip
    add("--epochs", type=int, help="of a candidate (default: a quarter of the scale's)")
    add("--jobs", type=int, default=1, help="processes; -1: one a core (default 1)")
    add("--runs-dir", help="folder of the trace and the teachers, as in compare")
    add("--data-dir", help="folder of the data (default $QRKD_DATA_DIR, else the cache)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default auto)")
    add("--set", **_MANY, default=[], metavar="NAME=VALUE", help="settings, as in compare")
    parser.set_defaults(command=_tune)


def _tune(arguments: argparse.Namespace) -> None:
    from qrkd_lab.studies.arms import CANDIDATES, TUNED
    from qrkd_lab.studies.tune import tune

    trace = tune(
        arguments.benchmark,
        arguments.arms or TUNED,
        arguments.seed or arguments.seeds,
        arguments.scale,
        arguments.weights or CANDIDATES,
        arguments.epochs,
        arguments.jobs,
        arguments.runs_dir,
        arguments.data_dir,
        arguments.device,
        **_settings(arguments),
    )
    print(trace)
    words = ["python", "-m", "qrkd_lab", "compare", arguments.benchmark, "--arms", *trace.chosen]
    words += ["--scale", arguments.scale, "--runs-dir", arguments.runs_dir]
    words += ["--data-dir", arguments.data_dir] if arguments.data_dir else []
    print("A study with it:", shlex.join(words), "--set", trace.as_options())


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Those of ``--set``; what has an option of its own is refused."""
    from qrkd_lab.studies.settings import parse_parameters

    found = parse_parameters(arguments.set)
    if reserved := {*vars(arguments), "arm"} & set(found):
        raise ValueError(f"{min(reserved)} is no setting; see the arguments and options of -h")
    return found


def _add_seeds(parser: argparse.ArgumentParser, default: int | None, help: str) -> None:
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=int, default=default, metavar="N", help=help)
    seeds.add_argument("--seed", type=int, **_MANY, metavar="SEED", help="these seeds and no other")


def _add_scheduler(parser: argparse.ArgumentParser) -> None:
    said = "of a Dask cluster that trains, tcp://HOST:PORT (default: this machine trains)"
    parser.add_argument("--scheduler", help=said)


# ---- files


def add_data(parser: argparse.ArgumentParser) -> None:
    names = "digits, mnist, cifar10, wikitext2, ptb, imdb, or a folder of images or text"
    parser.add_argument("names", nargs="+", help=names)
    parser.add_argument("--data-dir", help="default $QRKD_DATA_DIR, else the cache")
    parser.set_defaults(command=_data)


def _data(arguments: argparse.Namespace) -> None:
    from qrkd_lab.data.images import load_images
    from qrkd_lab.data.text import load_text
    from qrkd_lab.studies.benchmarks import benchmark_settings, is_text

    for name in arguments.names:
        benchmark_settings(name)  # says which names there are
        load = load_text if is_text(name) else load_images
        print(load(name.removesuffix("-sentiment"), data_dir=arguments.data_dir))


def add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of a record, e.g. runs/ptb/laptop/kd-...")
    parser.add_argument("folder", type=Path, help="where to, in Hugging Face's format")
    parser.add_argument("--benchmark", help="the folder of data, where the run is of one")
    parser.add_argument("--data-dir", help="default $QRKD_DATA_DIR, else the cache")
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> None:
    from qrkd_lab.files import writing
    from qrkd_lab.studies.benchmarks import benchmark_of
    from qrkd_lab.studies.records import has_weights, load_run

    run = load_run(arguments.run, weights=False)
    if not has_weights(run):
        run.weights()  # says why there are none, before the data are read
    benchmark = benchmark_of(run, arguments.data_dir, folder=arguments.benchmark)
    with writing(f"the model in {arguments.folder}", "folder"):
        print(benchmark.export(run, arguments.folder))


def add_publish(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.studies.records import PUBLISHED

    parser.add_argument("benchmark", help="as in compare")
    parser.add_argument("--scale", default="laptop", help="default laptop")
    parser.add_argument("--runs-dir", help="folder of the records, as in compare")
    parser.add_argument("--out", default=PUBLISHED, help="default results/ beside the package")
    parser.set_defaults(command=_publish)


def _publish(arguments: argparse.Namespace) -> None:
    from qrkd_lab.files import runs_folder
    from qrkd_lab.studies.provenance import one_kind, taught
    from qrkd_lab.studies.records import publish, read_runs
    from qrkd_lab.studies.tune import FILE, read_tuning

    folder = runs_folder(arguments.runs_dir)
    runs = taught(read_runs(folder, arguments.benchmark, arguments.scale))
    if not runs:
        raise ValueError(f"no runs of {arguments.benchmark} at scale {arguments.scale} in {folder}")
    runs, left_out = one_kind(runs)
    path = Path(folder, arguments.benchmark, arguments.scale, FILE)
    if path.exists():
        print(f"the tuning history: {read_tuning(path).save(arguments.out)}")
    new = publish(runs, arguments.out)
    there = f", {len(runs) - new} are there already" if new < len(runs) else ""
    print(f"{new} of {len(runs)} records copied to {arguments.out}{there}")
    if left_out:
        print(f"{len(left_out)} of other than the default settings left out")


def add_report(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.studies.records import PUBLISHED

    add = parser.add_argument
    add("benchmarks", nargs="*", metavar="benchmark", help="names (default: all there are)")
    add("--runs-dir", default=PUBLISHED, help="folder of the records (default results/)")
    add("--out", help="folder for report.md, report.html, figures/ (default: that of the records)")
    add("--scale", default="laptop", help="default laptop")
    parser.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> None:
    from qrkd_lab.studies.report import report_on

    found = report_on(arguments.runs_dir, arguments.benchmarks, arguments.scale)
    print(found.save(arguments.out or arguments.runs_dir))


# ---- notebooks


def add_notebook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="notebook")
    parser.add_argument("--out", help="folder for the executed copy (default that of the records)")
    parser.add_argument(
        "-p", "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", dest="set"
    )
    parser.add_argument("--timeout", type=int, help="seconds a cell may take")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time (default 1)")
    parser.add_argument(
        "--in-place", action="store_true", help="write the outputs back into the notebook itself"
    )
    parser.set_defaults(command=_notebook)


def _notebook(arguments: argparse.Namespace) -> None:
    from qrkd_lab.files import expanded, runs_folder
    from qrkd_lab.studies.settings import parse_parameters
    from qrkd_lab.teaching.notebooks import execute, refresh, run_series

    parameters = parse_parameters(arguments.set)
    out = None if arguments.in_place else runs_folder(arguments.out)
    if len(arguments.notebooks) > 1:
        run_series(arguments.notebooks, out, parameters, arguments.timeout, arguments.jobs)
        return
    notebook = expanded(*arguments.notebooks)
    # In its own folder, as in JupyterLab, so that relative paths mean the same in both.
    options = {"timeout": arguments.timeout, "cwd": notebook.parent}
    if arguments.in_place:
        refresh(notebook, parameters, **options)
        print(f"outputs written back into {notebook}")
    else:
        print(execute(notebook, out, parameters, **options))
