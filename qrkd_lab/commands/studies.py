"""Commands that train: ``compare``, ``tune`` and ``reproduce``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["add_compare", "add_reproduce", "add_tune"]

# One or more values; an option that is given twice has the values of both.
_MANY: Mapping[str, Any] = {"nargs": "+", "action": "extend"}


def add_compare(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.arms import ARMS
    from qrkd_lab.benchmarks import BENCHMARKS, SCALES

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
    from qrkd_lab.arms import DEFAULT_ARMS
    from qrkd_lab.comparison import compare
    from qrkd_lab.storage import check_writable, expanded

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
    from qrkd_lab.benchmarks import SCALES

    add = parser.add_argument
    add("benchmarks", nargs="*", metavar="benchmark",
        help="mnist, cifar10, wikitext2, ptb, imdb (default all)")  # fmt: skip
    _add_seeds(parser, None, "how many seeds (default 5 on images, 3 on text)")
    add("--scale", default="laptop", help=f"{', '.join(SCALES)} (default laptop)")
    add("--arms", **_MANY, metavar="ARM", help="as in compare (default: the notebook's)")
    add("--jobs", type=int, default=2, help="processes; -1: one a core (default 2)")
    add("--group-size", type=int, default=5, metavar="K",
        help="seeds that a notebook shows, at least (default 5)")  # fmt: skip
    add(
        "--runs-dir", help="folder of the records (default $QRKD_RUNS_DIR, else the project's runs)"
    )
    add("--out", help="folder for executed notebooks and report (default reproduce in runs-dir)")
    add("--retry", action="store_true", help="try again what failed before")
    _add_scheduler(parser)
    parser.set_defaults(command=_reproduce)


def _reproduce(arguments: argparse.Namespace) -> int:
    from qrkd_lab.reproduce import reproduce

    if arguments.scheduler is not None:  # the notebooks' kernels inherit it
        os.environ["QRKD_SCHEDULER"] = arguments.scheduler
    done = reproduce(
        arguments.benchmarks,
        arguments.seed or arguments.seeds,
        arguments.scale,
        arguments.jobs,
        arguments.runs_dir,
        arguments.out,
        arms=arguments.arms,
        group_size=arguments.group_size,
        retry=arguments.retry,
    )
    if done.report:
        print(done.report)
    if done.failures:
        said = "\n\n".join(done.failures)
        print(f"\nNot all of the study is there:\n\n{said}", file=sys.stderr)
    return 1 if done.failures else 0


def add_tune(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.arms import CANDIDATES, TUNED

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
    from qrkd_lab.arms import CANDIDATES, TUNED
    from qrkd_lab.tuning import tune

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
    from qrkd_lab.notebook_parameters import parse_parameters

    found = parse_parameters(arguments.set)
    if reserved := {*vars(arguments), "arm"} & set(found):
        raise ValueError(f"{min(reserved)} is no setting; see the arguments and options of -h")
    return found


def _add_seeds(parser: argparse.ArgumentParser, default: int | None, help: str) -> None:
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seeds", type=int, default=default, metavar="N", help=help)
    seeds.add_argument("--seed", type=int, **_MANY, metavar="SEED", help="these seeds and no other")


def _add_scheduler(parser: argparse.ArgumentParser) -> None:
    said = "of a Dask cluster that trains, tcp://HOST:PORT (default $QRKD_SCHEDULER, else this "
    parser.add_argument("--scheduler", help=f"{said}machine)")
