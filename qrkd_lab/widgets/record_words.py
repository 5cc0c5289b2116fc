"""Words and tables about records, as HTML."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qrkd_lab.evidence import in_own_unit
from qrkd_lab.published import PUBLISHED
from qrkd_lab.runs import Run
from qrkd_lab.statistics import p_in_words
from qrkd_lab.summary import units

if TYPE_CHECKING:
    import pandas as pd

    from qrkd_lab.records.shelf import Contents

__all__ = [
    "CSS", "about_runs", "benchmark_rows", "came_with_the_kit", "number", "run_rows",
    "saved_words", "source_words",
]  # fmt: skip

CSS = (
    "<style>.qrkd-StudyBrowser table {border-collapse: collapse; margin: 4px 0}"
    ".qrkd-StudyBrowser th, .qrkd-StudyBrowser td {padding: 2px 10px 2px 0; text-align: right;"
    " vertical-align: top} .qrkd-StudyBrowser tbody th {font-weight: normal; text-align: left}"
    ".qrkd-StudyBrowser th:first-child {text-align: left}"
    ".qrkd-StudyBrowser thead {border-bottom: 1px solid #999}"
    ".qrkd-card td {text-align: left} .qrkd-card th {white-space: nowrap}"
    ".qrkd-StudyBrowser pre {font-family: monospace; white-space: pre-wrap; margin: 2px 0 6px;"
    " padding: 6px 10px; background: rgba(127, 127, 127, 0.12)}"
    ".qrkd-table {max-height: 26em; overflow: auto}"
    ".qrkd-StudyBrowser .widget-html-content {line-height: 1.4}</style>"
)


def came_with_the_kit(run: Run) -> bool:
    """Whether a record is one of the published ones."""
    return run.path is not None and run.path.is_relative_to(PUBLISHED)


def benchmark_rows(found: pd.DataFrame) -> str:
    """The table of :func:`~qrkd_lab.evidence.improvement_table`, a row a benchmark."""
    head = ["benchmark", "metric", "seeds", "difference", "better by, %",
            "95 % interval (alone)", "p (Holm)"]  # fmt: skip
    rows = []
    for name, row in found.iterrows():
        known = not math.isnan(row["low"])
        ends = f"[{row['low']:+.2f}, {row['high']:+.2f}]" if known else "too few seeds"
        rows.append([
            str(name), row["metric"].removeprefix("test_").replace("_", " ")
            + ("" if row["higher_is_better"] else " (less is better)"), str(row["seeds"]),
            in_own_unit(row), f"{row['improvement']:+.2f}", ends, p_in_words(row["p_adjusted"]),
        ])  # fmt: skip
    return _table(head, rows)


def source_words(found: Contents, runs_dir: str, again: bool) -> str:
    """What was read, and what could not be; ``again``: and what is new."""
    kit = sum(map(came_with_the_kit, found.runs))
    said = f"{count(len(found.runs), 'record')}: {len(found.runs) - kit} in {runs_dir}"
    said += f", {kit} that came with the kit." if kit else "."
    if found.missing:
        said += f" There is no folder {', '.join(map(str, found.missing))} yet."
    if again:
        said += f" Since the last look: {found.new} new or changed, {found.gone} gone."
    said = f'<p role="status">{html.escape(said)}</p>'
    if not found.problems:
        return said
    listed = "".join(f"<li>{html.escape(text)}</li>" for text in found.problems)
    return (
        f'{said}<details open class="qrkd-wrong" role="alert">'
        f"<summary>{count(len(found.problems), 'record or folder', 'records or folders')} could "
        f"not be read; all else is shown</summary><ul>{listed}</ul></details>"
    )


def run_rows(runs: Sequence[Run]) -> str:
    """A table with a row a run."""
    name = runs[0].metric["name"]
    head = ["run", f"{name.replace('_', ' ')}{units(name)[1].replace(' ', ', ')}", "its teacher",
            "epochs", "seconds", "device", "finished", "record"]  # fmt: skip
    rows = [
        [
            run.name, number(name, run.metrics.get(name)),
            number(name, run.metrics.get(f"teacher_{name}")),
            str(len(run.history)), f"{sum(run.seconds.values()):.1f}", run.device,
            run.finished.replace("T", " ")[:16],
            "of the kit" if came_with_the_kit(run) else "own",
        ]
        for run in runs
    ]  # fmt: skip
    return _table(head, rows)


def saved_words(rows: int, path: Path) -> str:
    """What was written where, and a link to take it home from another machine."""
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<p role="status">{count(rows, "run")} written to {html.escape(str(path))}. '
        f'<a download="{html.escape(path.name, quote=True)}" '
        f'href="data:text/csv;base64,{data}">Download the file</a></p>'
    )


def about_runs(runs: Sequence[Run], variant: str, others: int, left_out: int) -> str:
    """Which runs, how many, on which data.

    Args:
        runs: of one benchmark, scale and variant.
        variant: its label.
        others: how many other variants there are.
        left_out: how many records of these seeds lie in another folder.
    """
    settings, data = runs[0].settings, runs[0].data
    kit = sum(map(came_with_the_kit, runs))
    said = (
        f"{settings['benchmark']} at scale {settings['scale']}, {variant}: "
        f"{count(len(runs), 'run')} of {count(len({run.settings['arm'] for run in runs}), 'arm')}, "
        f"{count(len({run.settings['seed'] for run in runs}), 'seed')}; {kit} came with the kit, "
        f"{len(runs) - kit} are your own. Data: {data.get('source', 'unknown')} "
        f"(sha256 {str(data['sha256'])[:8]})."
    )
    if others:
        said += f" Settings has {count(others, 'other choice')}, never mixed with this one."
    if left_out:
        said += (
            f" {count(left_out, 'more record')} of these seeds, in the other folder, left out: the "
            "arms of a seed learnt from one teacher, so they come from one place."
        )
    return said


def count(number: int, one: str, more: str = "") -> str:
    """``"1 run"``, ``"2 runs"``."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def number(metric: str, value: float | None) -> str:
    """A metric's value as it is printed; nothing where there is none."""
    if value is None or math.isnan(value):
        return ""
    factor, unit = units(metric)
    return f"{value * factor:.2f}" if unit else f"{value:.4g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table; the first cell of a row is its heading."""
    top = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    body = "".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        f"{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"
        for first, *cells in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
