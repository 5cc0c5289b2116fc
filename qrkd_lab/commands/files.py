"""Commands about what lies on the disk: ``data``, ``export``, ``publish``, ``report``."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_data", "add_export", "add_publish", "add_report"]


def add_data(parser: argparse.ArgumentParser) -> None:
    names = "digits, mnist, cifar10, wikitext2, ptb, imdb, or a folder of images or text"
    parser.add_argument("names", nargs="+", help=names)
    parser.add_argument("--data-dir", help="default $QRKD_DATA_DIR, else the cache")
    parser.set_defaults(command=_data)


def _data(arguments: argparse.Namespace) -> None:
    from qrkd_lab.benchmarks.registry import benchmark_settings, is_text
    from qrkd_lab.data import load_images, load_text

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
    from qrkd_lab.benchmarks import benchmark_of
    from qrkd_lab.published import has_weights
    from qrkd_lab.runs import load_run
    from qrkd_lab.storage import writing

    run = load_run(arguments.run, weights=False)
    if not has_weights(run):
        run.weights()  # says why there are none, before the data are read
    benchmark = benchmark_of(run, arguments.data_dir, folder=arguments.benchmark)
    with writing(f"the model in {arguments.folder}", "folder"):
        print(benchmark.export(run, arguments.folder))


def add_publish(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.published import PUBLISHED

    parser.add_argument("benchmark", help="as in compare")
    parser.add_argument("--scale", default="laptop", help="default laptop")
    parser.add_argument("--runs-dir", help="folder of the records, as in compare")
    parser.add_argument("--out", default=PUBLISHED, help="default results/ beside the package")
    parser.set_defaults(command=_publish)


def _publish(arguments: argparse.Namespace) -> None:
    from qrkd_lab.published import publish, publish_trace
    from qrkd_lab.records.kinds import one_kind, taught
    from qrkd_lab.runs import read_runs
    from qrkd_lab.storage import runs_folder
    from qrkd_lab.trace import FILE, read_trace

    folder = runs_folder(arguments.runs_dir)
    runs = taught(read_runs(folder, arguments.benchmark, arguments.scale))
    if not runs:
        raise ValueError(f"no runs of {arguments.benchmark} at scale {arguments.scale} in {folder}")
    runs, left_out = one_kind(runs)
    path = Path(folder, arguments.benchmark, arguments.scale, FILE)
    if path.exists():
        print(f"the trace of the tuning: {publish_trace(read_trace(path), arguments.out)}")
    new = publish(runs, arguments.out)
    there = f", {len(runs) - new} are there already" if new < len(runs) else ""
    print(f"{new} of {len(runs)} records copied to {arguments.out}{there}")
    if left_out:
        print(f"{len(left_out)} of other than the default settings left out")


def add_report(parser: argparse.ArgumentParser) -> None:
    from qrkd_lab.published import PUBLISHED

    add = parser.add_argument
    add("benchmarks", nargs="*", metavar="benchmark", help="names (default: all there are)")
    add("--runs-dir", default=PUBLISHED, help="folder of the records (default results/)")
    add("--out", help="folder for report.md, report.html, figures/ (default: that of the records)")
    add("--scale", default="laptop", help="default laptop")
    parser.set_defaults(command=_report)


def _report(arguments: argparse.Namespace) -> None:
    from qrkd_lab.reporting import report_on

    found = report_on(arguments.runs_dir, arguments.benchmarks, arguments.scale)
    print(found.save(arguments.out or arguments.runs_dir))
