"""The command line: ``python -m qrkd_lab COMMAND``; ``-h`` lists the commands, and helps on each.

A function per command adds its arguments to a parser, and returns what runs it.
"""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["main"]

Run = Callable[[argparse.Namespace], int | None]


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
    for command in (compare, reproduce, tune, data, export, publish, report, notebook, doctor):
        of_command = commands.add_parser(command.__name__, help=command.__doc__.rstrip("."))
        of_command.set_defaults(command=command(of_command))
    return parser


# Options of several commands. One that is given twice has the values of both.
_MANY: dict[str, Any] = {"nargs": "+", "action": "extend"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "--scale": {"default": "laptop", "help": "smoke, laptop or paper (default laptop)"},
    "--arms": {**_MANY, "metavar": "ARM"},
    "--seed": {**_MANY, "type": int, "metavar": "SEED", "help": "these seeds and no other"},
    "--jobs": {
        "type": int, "default": 1, "help": "processes; -1: one per core (default %(default)s)",
    },
    "--runs-dir": {
        "help": "folder of the records (default $QRKD_RUNS_DIR, else the project's runs)",
    },
    "--data-dir": {"help": "folder of the data (default $QRKD_DATA_DIR, else the cache)"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or mps (default auto)"},
    "--set": {
        **_MANY, "default": [], "metavar": "NAME=VALUE", "help": "settings, e.g. epochs=3",
    },
    "--scheduler": {
        "help": "of a Dask cluster that trains, tcp://HOST:PORT (default: this machine trains)",
    },
}  # fmt: skip


def _add(parser: argparse.ArgumentParser, *names: str, **changes: Any) -> None:  # noqa: ANN401
    """Add options of several commands, with changes for this one."""
    for name in names:
        parser.add_argument(name, **_OPTIONS[name] | changes)


def _add_seeds(parser: argparse.ArgumentParser, default: int | None, help: str) -> None:
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=int, default=default, metavar="N", help=help)
    _add(seeds, "--seed")


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Those of ``--set``; what has an option of its own is refused."""
    from qrkd_lab.studies.settings import parse_parameters

    found = parse_parameters(arguments.set)
    if reserved := {*vars(arguments), "arm"} & set(found):
        raise ValueError(f"{min(reserved)} is no setting; see the arguments and options of -h")
    return found


# ---- studies


def compare(parser: argparse.ArgumentParser) -> Run:
    """train arms on seeds, print the table."""
    from qrkd_lab.studies.arms import ARMS, BENCHMARKS, DEFAULT_ARMS

    arms = "; ".join(f"{name}: {arm.meaning}" for name, arm in ARMS.items())
    parser.add_argument("benchmark", help=f"{', '.join(BENCHMARKS)}, or a folder of images or text")
    _add(parser, "--arms", help=arms.replace("%", "%%"))
    _add_seeds(parser, 5, "how many seeds (default 5)")
    _add(parser, "--scale", "--jobs", "--runs-dir", "--data-dir", "--device", "--set")
    _add(parser, "--scheduler")
    add = parser.add_argument
    add("--reference", help="arm that the others are compared with (default rkd)")
    published = "take the records that came with the kit; what they lack is trained"
    add("--published", action="store_true", help=published)
    add("--out", help="folder for results.csv, summary.md and figures (default: not written)")

    def run(arguments: argparse.Namespace) -> None:
        from qrkd_lab.files import check_writable, expanded
        from qrkd_lab.studies.compare import compare

        arms = arguments.arms or DEFAULT_ARMS
        if arguments.reference not in (None, *arms):
            raise ValueError(
                f"reference {arguments.reference!r} is not among the arms {', '.join(arms)}"
            )
        overrides = _settings(arguments)
        if arguments.out:
            check_writable(expanded(arguments.out), "out")
        names = ("scale", "jobs", "runs_dir", "data_dir", "device", "published", "scheduler")
        given = {name: getattr(arguments, name) for name in names}
        seeds = arguments.seed or arguments.seeds
        study = compare(arguments.benchmark, arms, seeds, **given, **overrides)
        print(study.summary(arguments.reference))
        if arguments.out:
            print(f"written to {study.save(arguments.out, arguments.reference)}")

    return run


def reproduce(parser: argparse.ArgumentParser) -> Run:
    """run the study, write its report."""
    names = "mnist, cifar10, wikitext2, ptb, imdb (default all)"
    parser.add_argument("benchmarks", nargs="*", metavar="benchmark", help=names)
    _add_seeds(parser, None, "how many seeds (default 5 on images, 3 on text)")
    _add(parser, "--arms", help="as in compare (default: the notebook's)")
    _add(parser, "--jobs", default=2)
    _add(parser, "--scale", "--runs-dir", "--scheduler")
    out = "folder for executed notebooks and report (default reproduce in runs-dir)"
    parser.add_argument("--out", help=out)

    def run(arguments: argparse.Namespace) -> int:
        from qrkd_lab.reproduce import reproduce

        names = ("scale", "jobs", "runs_dir", "out", "arms", "scheduler")
        given = {name: getattr(arguments, name) for name in names}
        done = reproduce(arguments.benchmarks, arguments.seed or arguments.seeds, **given)
        if done.report:
            print(done.report)
        if done.failures:
            said = "\n\n".join(done.failures)
            print(f"\nNot all of the study is there:\n\n{said}", file=sys.stderr)
        return 1 if done.failures else 0

    return run


def tune(parser: argparse.ArgumentParser) -> Run:
    """choose each arm's weight on validation data."""
    from qrkd_lab.studies.arms import CANDIDATES, TUNED

    grid = " ".join(f"{weight:g}" for weight in CANDIDATES)
    parser.add_argument("benchmark", help="as in compare")
    _add(parser, "--arms", help=f"default {' '.join(TUNED)}")
    _add_seeds(parser, 2, "how many, others than a study's: 1000, 1001, ... (default 2)")
    _add(parser, "--scale", "--jobs", "--runs-dir", "--data-dir", "--device", "--set")
    candidates = f"candidates of every arm (default {grid})"
    parser.add_argument("--weights", type=float, **_MANY, metavar="WEIGHT", help=candidates)
    epochs = "of a candidate (default: a quarter of the scale's)"
    parser.add_argument("--epochs", type=int, help=epochs)

    def run(arguments: argparse.Namespace) -> None:
        from qrkd_lab.studies.tune import tune

        names = ("scale", "epochs", "jobs", "runs_dir", "data_dir", "device")
        given = {name: getattr(arguments, name) for name in names}
        arms, seeds = arguments.arms or TUNED, arguments.seed or arguments.seeds
        given |= {"weights": arguments.weights or CANDIDATES, **_settings(arguments)}
        history = tune(arguments.benchmark, arms, seeds, **given)
        print(history)
        words = ["python", "-m", "qrkd_lab", "compare", arguments.benchmark]
        words += ["--arms", *history.chosen, "--scale", arguments.scale]
        places = {"--runs-dir": arguments.runs_dir, "--data-dir": arguments.data_dir}
        words += [word for pair in places.items() if pair[1] for word in pair]
        print("A study with it:", shlex.join(words), "--set", history.as_options())

    return run


# ---- files


def data(parser: argparse.ArgumentParser) -> Run:
    """fetch and verify data sets."""
    names = "digits, mnist, cifar10, wikitext2, ptb, imdb, or a folder of images or text"
    parser.add_argument("names", nargs="+", help=names)
    _add(parser, "--data-dir")

    def run(arguments: argparse.Namespace) -> None:
        from qrkd_lab.data.images import load_images
        from qrkd_lab.data.text import load_text
        from qrkd_lab.studies.benchmarks import benchmark_settings, is_text

        for name in arguments.names:
            benchmark_settings(name)  # says which names there are
            load = load_text if is_text(name) else load_images
            print(load(name.removesuffix("-sentiment"), data_dir=arguments.data_dir))

    return run


def export(parser: argparse.ArgumentParser) -> Run:
    """write a trained language model for others."""
    parser.add_argument("run", type=Path, help="folder of a record, e.g. runs/ptb/laptop/kd-...")
    parser.add_argument("folder", type=Path, help="where to, in Hugging Face's format")
    parser.add_argument("--benchmark", help="the folder of data, where the run is of one")
    _add(parser, "--data-dir")

    def run(arguments: argparse.Namespace) -> None:
        from qrkd_lab.files import writing
        from qrkd_lab.studies.benchmarks import benchmark_of
        from qrkd_lab.studies.records import has_weights, load_run

        run = load_run(arguments.run, weights=False)
        if not has_weights(run):
            run.weights()  # says why there are none, before the data are read
        benchmark = benchmark_of(run, arguments.data_dir, folder=arguments.benchmark)
        with writing(f"the model in {arguments.folder}", "folder"):
            print(benchmark.export(run, arguments.folder))

    return run


def publish(parser: argparse.ArgumentParser) -> Run:
    """copy records into results/, to be shared."""
    from qrkd_lab.studies.records import PUBLISHED

    parser.add_argument("benchmark", help="as in compare")
    _add(parser, "--scale", "--runs-dir")
    parser.add_argument("--out", default=PUBLISHED, help="default results/ beside the package")

    def run(arguments: argparse.Namespace) -> None:
        from qrkd_lab.files import runs_folder
        from qrkd_lab.studies.provenance import one_kind, taught
        from qrkd_lab.studies.records import publish, read_runs
        from qrkd_lab.studies.tune import FILE, read_tuning

        folder, name, scale = runs_folder(arguments.runs_dir), arguments.benchmark, arguments.scale
        runs = taught(read_runs(folder, name, scale))
        if not runs:
            raise ValueError(f"no runs of {name} at scale {scale} in {folder}")
        runs, left_out = one_kind(runs)
        path = Path(folder, name, scale, FILE)
        if path.exists():
            print(f"the tuning history: {read_tuning(path).save(arguments.out)}")
        new = publish(runs, arguments.out)
        there = f", {len(runs) - new} are there already" if new < len(runs) else ""
        print(f"{new} of {len(runs)} records copied to {arguments.out}{there}")
        if left_out:
            print(f"{len(left_out)} of other than the default settings left out")

    return run


def report(parser: argparse.ArgumentParser) -> Run:
    """what all records say together, as a page."""
    from qrkd_lab.studies.records import PUBLISHED

    names = "names (default: all there are)"
    parser.add_argument("benchmarks", nargs="*", metavar="benchmark", help=names)
    _add(parser, "--runs-dir", default=PUBLISHED, help="of the records (default results/)")
    _add(parser, "--scale")
    out = "folder for report.md, report.html, figures/ (default: that of the records)"
    parser.add_argument("--out", help=out)

    def run(arguments: argparse.Namespace) -> None:
        from qrkd_lab.studies.report import report_on

        found = report_on(arguments.runs_dir, arguments.benchmarks, arguments.scale)
        print(found.save(arguments.out or arguments.runs_dir))

    return run


# ---- notebooks and machine


def notebook(parser: argparse.ArgumentParser) -> Run:
    """run notebooks without a browser."""
    add = parser.add_argument
    add("notebooks", nargs="+", type=Path, metavar="notebook")
    add("--out", help="folder for the executed copy (default that of the records)")
    add("-p", "--set", **_MANY, default=[], metavar="NAME=VALUE", dest="set")
    add("--timeout", type=int, help="seconds a cell may take")
    _add(parser, "--jobs", help="notebooks at a time (default 1)")
    in_place = "write the outputs back into the notebook itself"
    add("--in-place", action="store_true", help=in_place)

    def run(arguments: argparse.Namespace) -> None:
        from qrkd_lab.files import expanded, runs_folder
        from qrkd_lab.studies.settings import parse_parameters
        from qrkd_lab.teaching.notebooks import execute, refresh, run_series

        parameters = parse_parameters(arguments.set)
        out = None if arguments.in_place else runs_folder(arguments.out)
        if len(arguments.notebooks) > 1:
            run_series(arguments.notebooks, out, parameters, arguments.timeout, arguments.jobs)
            return
        path = expanded(*arguments.notebooks)
        # In its own folder, as in JupyterLab, so that relative paths mean the same in both.
        options = {"timeout": arguments.timeout, "cwd": path.parent}
        if arguments.in_place:
            refresh(path, parameters, **options)
            print(f"outputs written back into {path}")
        else:
            print(execute(path, out, parameters, **options))

    return run


def doctor(parser: argparse.ArgumentParser) -> Run:
    """say what is wrong here, and what to do."""

    def run(arguments: argparse.Namespace) -> int:
        from qrkd_lab.teaching.doctor import main

        return main()

    return run

