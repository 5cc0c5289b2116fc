"""The report of a study over several benchmarks: composed from its records, and written."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qrkd_lab.benchmarks.scales import check_scale
from qrkd_lab.plots.style import Chart
from qrkd_lab.published import PUBLISHED
from qrkd_lab.records.kinds import one_kind, taught
from qrkd_lab.reporting.answer import answer, glance
from qrkd_lab.reporting.benchmarks import by_benchmark
from qrkd_lab.reporting.kernels import what_kernels_did
from qrkd_lab.reporting.limits import limits, words
from qrkd_lab.reporting.markdown import count
from qrkd_lab.reporting.page import packed, page
from qrkd_lab.reporting.provenance import what_ran
from qrkd_lab.reporting.studies import sort_runs
from qrkd_lab.reporting.tuned import weights_used
from qrkd_lab.runs import Run, read_runs
from qrkd_lab.storage import RecordError, expanded, write_file, writing
from qrkd_lab.trace import FILE, Trace, read_trace

__all__ = ["Report", "compose", "report_on", "write_report"]

TITLE = "Does a quantum kernel help a small student?"
NAME = "report"


@dataclass(frozen=True, repr=False)
class Report:
    """A report that is not written yet.

    Attributes:
        markdown: the text; the same records give the same bytes.
        figures: by name; the text refers to them as ``figures/NAME.png``.
    """

    markdown: str
    figures: Mapping[str, Chart]

    @property
    def html(self) -> str:
        """One file with all figures in it."""
        return page(self.markdown, TITLE, self.figures)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``report.md``, ``report.html`` and ``figures/`` into a folder; returns the first.

        Raises:
            RecordError: the folder cannot be written, or the disk is full; a file that was there
                is there still.
        """
        place = expanded(folder)
        text = place / f"{NAME}.md"
        with writing(f"the report in {place}", "out"):
            for name, chart in self.figures.items():
                write_file(place / "figures" / f"{name}.png", packed(chart))
            write_file(place / f"{NAME}.html", self.html.encode())
            write_file(text, self.markdown.encode())
        return text


def compose(
    runs: Iterable[Run],
    command: str,
    tunings: Sequence[Trace] = (),
    left_out: Sequence[Run] = (),
    missing: Sequence[str] = (),
) -> Report:
    """The report on some records.

    Args:
        runs: of any benchmarks, arms and seeds; an arm and seed once.
        command: that wrote the report, as it is typed.
        tunings: traces of the benchmarks whose weights were tuned.
        left_out: runs that lie beside them and are of other settings; they are counted.
        missing: what was asked for and is not among the runs, in words.

    Raises:
        ValueError: no runs, several scales of a benchmark, or two runs of one arm and seed.
    """
    studies = sort_runs(runs)
    seen, figures = glance(studies)
    each, more = by_benchmark(studies)
    kernels, drawn = what_kernels_did(studies)
    held = sum(len(study.runs) for study in studies.values())
    parts = [
        f"# {TITLE}",
        f"An account of {count(held, 'training run')} on {count(len(studies), 'benchmark')}. Every "
        "number, verdict and sentence about them is computed from the records; the same records "
        "give the same text.",
        *(["**Not all that was asked for is here**: see *Missing runs*."] if missing else []),
        *answer(studies),
        *seen,
        *words(studies),
        *each,
        *kernels,
        *weights_used(studies, tunings),
        *what_ran(studies, command, missing),
        *limits(studies, tunings, left_out),
    ]
    return Report("\n\n".join(parts) + "\n", figures | more | drawn)


def write_report(
    runs: Iterable[Run],
    folder: str | os.PathLike[str],
    command: str,
    tunings: Sequence[Trace] = (),
    missing: Sequence[str] = (),
) -> Path:
    """Compose a report and write it; see :func:`compose` and :meth:`Report.save`.

    Example:
        >>> write_report(study.runs, "out", "make reproduce")          # doctest: +SKIP
        PosixPath('out/report.md')
    """
    return compose(runs, command, tunings, missing=missing).save(folder)


def report_on(
    root: str | os.PathLike[str] = PUBLISHED,
    benchmarks: Sequence[str] = (),
    scale: str = "laptop",
) -> Report:
    """The report on the records and tunings of one scale under a folder, weights unread.

    Where a benchmark has several records of an arm and seed, its own settings decide which count,
    and the report says how many were left out; see :func:`~qrkd_lab.records.kinds.one_kind`.
    Records and tunings that are damaged or cannot be read are left out too, and named in it.

    Args:
        root: of the records.
        benchmarks: names; none: all there are.
        scale: of the records.

    Raises:
        ValueError: an unknown scale; no records of one of the benchmarks; or several of one arm
            and seed of which not just one has the benchmark's own settings.
    """
    check_scale(scale)
    root = expanded(root)
    names = dict.fromkeys(benchmarks) or (None,)
    damaged: list[str] = []
    runs = taught(run for name in names for run in read_runs(root, name, scale, False, damaged))
    found = dict.fromkeys(run.settings["benchmark"] for run in runs)
    lacking = [name for name in benchmarks if name not in found]
    if lacking or not runs:
        what = ", ".join(lacking) or "any benchmark"
        raise ValueError(
            f"no records of {what} at scale {scale} in {os.fspath(root)}: train some with "
            "python -m qrkd_lab compare, or name another --runs-dir"
        )
    places = [Path(root, name, scale) for name in found]
    tunings = []
    for place in places:
        if os.path.lexists(place / FILE):
            try:
                tunings.append(read_trace(place))
            except RecordError as error:
                warnings.warn(f"left out of the report: {error}", stacklevel=2)
                damaged.append(str(error))
    options = [] if root == PUBLISHED else ["--runs-dir", os.fspath(root)]
    options += [] if scale == "laptop" else ["--scale", scale]
    command = shlex.join(["python", "-m", "qrkd_lab", "report", *benchmarks, *options])
    kept, left_out = one_kind(runs)
    return compose(kept, command, tunings, left_out, missing=damaged)
