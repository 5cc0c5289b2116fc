"""The command line: ``python -m qrkd_lab COMMAND``; ``-h`` lists the commands and their options."""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qrkd_lab.interrupt import ctrl_c_stays
from qrkd_lab.studies.arms import ARMS, BENCHMARKS, CANDIDATES, DEFAULT_ARMS

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status (1: an error in words, 130: interrupted)."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # ± where the output's encoding has none: \xb1
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = argparse.Namespace(traceback=False)
    try:
        arguments = _parser().parse_args(argv)
        with ctrl_c_stays():
            return arguments.run(arguments) or 0
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
    for run in (compare, reproduce, study, tune, data, export, publish, report, notebook, doctor):
        command = commands.add_parser(run.__name__, help=run.__doc__.rstrip(".").lower())
        command.set_defaults(run=run)
        for name, changes in _ARGUMENTS[run.__name__].items():
            if name == "--seeds":  # or which
                seeds = command.add_mutually_exclusive_group()
                seeds.add_argument(name, type=int, metavar="N", **changes)
                seeds.add_argument("--seed", type=int, **_MANY, metavar="SEED", help="only these")
            else:
                flags = ["-p", name] if run is notebook and name == "--set" else [name]
                command.add_argument(*flags, **_COMMON.get(name, {}) | changes)
    return parser


_MANY: dict[str, Any] = {"nargs": "+", "action": "extend"}  # given twice, it has the values of both
_COMMON: dict[str, dict[str, Any]] = {
    "benchmark": {"help": "as in compare"},
    "benchmarks": {"nargs": "*", "metavar": "benchmark"},
    "--arms": {**_MANY, "metavar": "ARM"},
    "--scale": {"default": "laptop", "help": "smoke, laptop or paper (default laptop)"},
    "--jobs": {"type": int, "default": 1, "help": "processes; -1: one per core (default 1)"},
    "--runs-dir": {"help": "of the records (default $QRKD_RUNS_DIR, else the project's runs)"},
    "--data-dir": {"help": "of the data (default $QRKD_DATA_DIR, else the cache)"},
    "--device": {"default": "auto", "help": "auto, cpu, cuda or mps (default auto)"},
    "--set": {**_MANY, "default": [], "metavar": "NAME=VALUE", "help": "settings, e.g. epochs=3"},
    "--scheduler": {"help": "tcp://HOST:PORT of a Dask cluster that trains (default: none)"},
}
_ARMS = "; ".join(f"{name}: {arm.meaning}" for name, arm in ARMS.items()).replace("%", "%%")
_RESULTS = "default results/ beside the package"
# What each command takes: arguments and options, with what is special about them here.
_ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "compare": {
        "benchmark": {"help": f"{', '.join(BENCHMARKS)}, or a folder of images or text"},
        "--arms": {"help": _ARMS},
        "--seeds": {"default": 5, "help": "how many seeds (default 5)"},
        "--scale": {}, "--jobs": {}, "--runs-dir": {}, "--data-dir": {}, "--device": {},
        "--set": {}, "--scheduler": {},
        "--reference": {"help": "arm that the others are compared with (default rkd)"},
        "--published": {
            "action": "store_true",
            "help": "take the records that came with the kit; what they lack is trained",
        },
        "--out": {"help": "folder for results.csv, summary.md and figures (default: none)"},
    },
    "reproduce": {
        "benchmarks": {"help": "mnist, cifar10, wikitext2, ptb, imdb (default all)"},
        "--seeds": {"help": "how many seeds (default 5 on images, 3 on text)"},
        "--arms": {"help": "as in compare (default: the notebook's)"},
        "--scale": {}, "--runs-dir": {}, "--scheduler": {},
        "--jobs": {"default": 2, "help": "processes; -1: one per core (default 2)"},
        "--out": {"help": "folder for notebooks and report (default reproduce in runs-dir)"},
    },
    "study": {
        "stages": {
            "nargs": "*", "metavar": "stage",
            "help": "weights, dose, admission, runs, doses (default runs and doses), or report",
        },
        "--benchmarks": {
            **_MANY, "metavar": "BENCHMARK",
            "help": "mnist, cifar10; with all labels also wikitext2, ptb, imdb (default all)",
        },
        "--scale": {
            "default": "few-labels", "help": "few-labels or all-labels (default few-labels)",
        },
        "--runs-dir": {}, "--jobs": {}, "--scheduler": {},
    },
    "tune": {
        "benchmark": {},
        "--seeds": {"default": 3, "help": "how many: 1000, 1001, ... (default 3)"},
        "--scale": {}, "--jobs": {}, "--runs-dir": {}, "--data-dir": {}, "--device": {},
        "--set": {},
        "--weights": {
            **_MANY, "type": float, "metavar": "WEIGHT",
            "help": f"candidates of both arms (default {' '.join(map('{:g}'.format, CANDIDATES))})",
        },
    },
    "data": {
        "names": {
            "nargs": "+",
            "help": "digits, mnist, cifar10, wikitext2, ptb, imdb, or a folder of images or text",
        },
        "--data-dir": {},
    },
    "export": {
        "record": {"type": Path, "help": "folder of a record, e.g. runs/ptb/laptop/kd-..."},
        "folder": {"type": Path, "help": "where to, in Hugging Face's format"},
        "--benchmark": {"help": "the folder of data, where the run is of one"},
        "--data-dir": {},
    },
    "publish": {
        "benchmark": {}, "--scale": {}, "--runs-dir": {},
        "--out": {"help": _RESULTS},
    },
    "report": {
        "benchmarks": {"help": "names (default: all there are)"},
        "--runs-dir": {"help": f"of the records, {_RESULTS}"},
        "--scale": {},
        "--out": {"help": "for report.md, report.html, figures/ (default: that of the records)"},
    },
    "notebook": {
        "notebooks": {"nargs": "+", "type": Path, "metavar": "notebook"},
        "--out": {"help": "folder for the executed copy (default that of the records)"},
        "--set": {"help": "parameters"},
        "--timeout": {"type": int, "help": "seconds a cell may take"},
        "--jobs": {"help": "notebooks at a time (default 1)"},
        "--in-place": {"action": "store_true", "help": "write the outputs back into the notebook"},
    },
    "doctor": {},
}  # fmt: skip


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Arguments by name, and the seeds: how many, or which."""
    found = {name: getattr(arguments, name) for name in ("scale", "jobs", "runs_dir", *names)}
    return found | {"seeds": arguments.seed or arguments.seeds}


def _settings(arguments: argparse.Namespace) -> dict[str, object]:
    """Those of ``--set``; what has an option of its own is refused."""
    from qrkd_lab.studies.settings import parse_parameters

    found = parse_parameters(arguments.set)
    if reserved := {*vars(arguments), "arm"} & set(found):
        raise ValueError(f"{min(reserved)} is no setting; see the arguments and options of -h")
    return found


# ---- studies


def compare(arguments: argparse.Namespace) -> None:
    """Train arms on seeds, print the table."""
    from qrkd_lab.files import check_writable, expanded
    from qrkd_lab.studies.compare import compare

    arms = arguments.arms or DEFAULT_ARMS
    if arguments.reference not in (None, *arms):
        raise ValueError(
            f"reference {arguments.reference!r} is not among the arms {', '.join(arms)}"
        )
    options = _given(arguments, "data_dir", "device", "published", "scheduler")
    options |= _settings(arguments)
    if arguments.out:
        check_writable(expanded(arguments.out), "out")
    study = compare(arguments.benchmark, arms, **options)
    print(study.summary(arguments.reference))
    if arguments.out:
        print(f"written to {study.save(arguments.out, arguments.reference)}")


def reproduce(arguments: argparse.Namespace) -> int:
    """Run the study, write its report."""
    from qrkd_lab.reproduce import reproduce

    done = reproduce(arguments.benchmarks, **_given(arguments, "out", "arms", "scheduler"))
    if done.report:
        print(done.report)
    if done.failures:
        said = "\n\n".join(done.failures)
        print(f"\nNot all of the study is there:\n\n{said}", file=sys.stderr)
    return 1 if done.failures else 0


def study(arguments: argparse.Namespace) -> None:
    """Train the stages of the study that results/PLAN.md describes."""
    from qrkd_lab.files import expanded
    from qrkd_lab.studies.records import PUBLISHED
    from qrkd_lab.studies.study import findings, study

    if arguments.stages == ["report"]:
        place = expanded(arguments.runs_dir or PUBLISHED)
        print(findings(place).save(place, "study"))
        return
    study(
        arguments.stages or ("runs", "doses"), arguments.benchmarks, arguments.jobs,
        arguments.runs_dir, arguments.scheduler, arguments.scale,
    )  # fmt: skip


def tune(arguments: argparse.Namespace) -> None:
    """Choose each arm's weight on validation data."""
    from qrkd_lab.studies.provenance import set_words
    from qrkd_lab.studies.tune import tune

    options = _given(arguments, "data_dir", "device") | _settings(arguments)
    history = tune(arguments.benchmark, weights=arguments.weights or CANDIDATES, **options)
    print(history)
    words = ["python", "-m", "qrkd_lab", "compare", arguments.benchmark]
    words += ["--scale", arguments.scale]
    places = {"--runs-dir": arguments.runs_dir, "--data-dir": arguments.data_dir}
    words += [word for pair in places.items() if pair[1] for word in pair]
    print("A study with it:", shlex.join(words), *set_words(history.settings))


# ---- files


def data(arguments: argparse.Namespace) -> None:
    """Fetch and verify data sets."""
    from qrkd_lab.data.images import load_images
    from qrkd_lab.data.text import load_text
    from qrkd_lab.studies.benchmarks import benchmark_settings, is_text

    for name in arguments.names:
        benchmark_settings(name)  # says which names there are
        load = load_text if is_text(name) else load_images
        print(load(name.removesuffix("-sentiment"), data_dir=arguments.data_dir))


def export(arguments: argparse.Namespace) -> None:
    """Write a trained language model for others."""
    from qrkd_lab.files import writing
    from qrkd_lab.studies.benchmarks import benchmark_of
    from qrkd_lab.studies.records import has_weights, load_run

    run = load_run(arguments.record, weights=False)
    if not has_weights(run):
        run.weights()  # says why there are none, before the data are read
    benchmark = benchmark_of(run, arguments.data_dir, folder=arguments.benchmark)
    with writing(f"the model in {arguments.folder}", "folder"):
        print(benchmark.export(run, arguments.folder))


def publish(arguments: argparse.Namespace) -> None:
    """Copy records into results/, to be shared."""
    from qrkd_lab.files import runs_folder
    from qrkd_lab.studies.provenance import one_kind
    from qrkd_lab.studies.records import PUBLISHED, publish, read_runs
    from qrkd_lab.studies.tune import FILE, read_tuning

    folder, name, scale = runs_folder(arguments.runs_dir), arguments.benchmark, arguments.scale
    out = arguments.out or PUBLISHED
    runs = read_runs(folder, name, scale)
    if not runs:
        raise ValueError(f"no runs of {name} at scale {scale} in {folder}")
    runs, left_out = one_kind(runs)
    path = Path(folder, name, scale, FILE)
    if path.exists():
        print(f"the tuning history: {read_tuning(path).save(out)}")
    new = publish(runs, out)
    there = f", {len(runs) - new} are there already" if new < len(runs) else ""
    print(f"{new} of {len(runs)} records copied to {out}{there}")
    if left_out:
        print(f"{len(left_out)} of other than the default settings left out")


def report(arguments: argparse.Namespace) -> None:
    """What all records say together, as a page."""
    from qrkd_lab.studies.records import PUBLISHED
    from qrkd_lab.studies.report import report_on

    folder = arguments.runs_dir or PUBLISHED
    found = report_on(folder, arguments.benchmarks, arguments.scale)
    print(found.save(arguments.out or folder))


# ---- notebooks and machine


def notebook(arguments: argparse.Namespace) -> None:
    """Run notebooks without a browser."""
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


def doctor(arguments: argparse.Namespace) -> int:
    """Say what is wrong here, and what to do."""
    from qrkd_lab.teaching.doctor import main

    return main()
