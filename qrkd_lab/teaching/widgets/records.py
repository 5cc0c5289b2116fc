"""A browser of records: what was run, what came of it, and how to run it again."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as W

from qrkd_lab.files import runs_folder
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.provenance import (
    Catalogue,
    changes_of,
    in_words,
    reproduce,
    run_table,
    write_csv,
)
from qrkd_lab.studies.records import PUBLISHED, Run, has_weights, scan_runs, versions
from qrkd_lab.studies.settings import TEACHER
from qrkd_lab.studies.statistics import p_in_words
from qrkd_lab.studies.summary import improvement_table, in_own_unit, units
from qrkd_lab.teaching import plots
from qrkd_lab.teaching.widgets.explorer import (
    Explorer,
    Picture,
    Sight,
    button,
    menu,
    row,
    still,
    switch,
)

if TYPE_CHECKING:
    import pandas as pd

    from qrkd_lab.studies.summary import Summary
    from qrkd_lab.teaching.plots.style import Chart

__all__ = [
    "CSS",
    "RecordMenus",
    "StudyBrowser",
    "VIEWS",
    "about_runs",
    "benchmark_rows",
    "came_with_the_kit",
    "draw_records",
    "number",
    "record_controls",
    "run_card",
    "run_rows",
    "saved_words",
    "source_words",
]


KEPT = 40  # pictures that need not be drawn again
SLOW = ("terms", "benchmarks")  # views of more than a quarter of a second
UNSEEN = ("runs_dir", "published", "csv", "run")  # controls that no picture depends on


class StudyBrowser(Explorer):
    """Every record on disk: choose, compare, export, and see how a run is made again.

    Records of one benchmark and scale that differ in other settings or in their data are never
    put in one table: the menu "Settings" says what there is
    (:func:`~qrkd_lab.studies.provenance.variants`).

    Args:
        runs_dir: folder of records, of :func:`~qrkd_lab.compare`.
        published: with the records that came with the kit.
        benchmark, scale, variant: which study; None: the newest of your own, else the first.
        arms: which arms; None: all.
        reference: the arm that the others are compared with; None: ``rkd``, or what there is.
        view: what the picture shows: ``differences``, ``scores``, ``curves``, ``terms``,
            ``benchmarks`` or ``runs``.
        arm: the arm that the sentence is about, and "All benchmarks"; None: ``qrkd``.
        run: the run that is described, e.g. ``"qrkd seed 0"``.
        csv: file for the table.

    Raises:
        ValueError: an unknown view. What is not on disk is said in the browser.

    Example:
        >>> StudyBrowser("../runs", benchmark="mnist", scale="laptop")      # doctest: +SKIP
    """

    def __init__(
        self,
        runs_dir: str | Path | None = None,
        published: bool = True,
        benchmark: str | None = None,
        scale: str | None = None,
        variant: str | None = None,
        arms: Sequence[str] | None = None,
        reference: str | None = None,
        view: str = "differences",
        arm: str | None = None,
        run: str | None = None,
        csv: str = "records.csv",
    ) -> None:
        if view not in VIEWS.values():
            raise ValueError(f"unknown view {view!r}; choose from {', '.join(VIEWS.values())}")
        wishes = {"benchmark": benchmark, "scale": scale, "variant": variant,
                  "arms": (arms,) if isinstance(arms, str) else arms,
                  "reference": reference, "arm": arm, "run": run}  # fmt: skip
        self._found: dict[Path, Run] = {}
        self._looked: tuple[str, bool] | None = None
        self._catalogue = Catalogue([])
        self._drawn: dict[tuple[str, ...], Picture] = {}
        self._to_draw: tuple[Any, ...] | None = None
        self._parts = {name: W.HTML().add_class(f"qrkd-{name}") for name in
                       ("source", "table", "saved", "card")}  # fmt: skip
        made = record_controls(str(runs_folder(runs_dir)), published, view, csv)
        self._menus = RecordMenus(made, wishes)
        for name in wishes:
            made[name].observe(lambda _, n=name: self._held or self._menus.chosen(n), "value")
        several_beside = row(made["arms"], W.VBox([made[n] for n in ("reference", "arm", "view")]))
        several_beside.layout.align_items = "flex-start"
        again = button("Look again", self.look_again, "Read the folder again")
        save = button("Save these runs", self.save_csv, "Write a row a run to the file")
        super().__init__(
            made,
            [
                ["runs_dir", again, "published"], self._parts["source"], ["benchmark", "scale"],
                ["variant"], several_beside,
            ],
        )  # fmt: skip
        below = [self._parts["table"], row(made["csv"], save), self._parts["saved"], made["run"],
                 self._parts["card"], W.HTML(CSS)]  # fmt: skip
        below[-1].layout.display = "none"
        self.view.children = (*self.view.children, *below)
        self._fit()

    @property
    def state(self) -> dict[str, Any]:
        """As in :class:`Explorer`; what was asked for and is not there yet is kept."""
        return self._shown_state | self._menus.wishes

    @property
    def _shown_state(self) -> dict[str, Any]:
        return super().state

    @property
    def runs(self) -> list[Run]:
        """The runs of the table, those of the chosen arms and of the reference.

        Raises:
            ValueError: there are none.
        """
        state = self._shown_state
        there = self._catalogue.runs(state["benchmark"], state["scale"], state["variant"])
        if not there:
            raise ValueError(
                "There are no records here. Train some, e.g. ql.compare('digits', scale='smoke'), "
                "and press Look again; or name another folder, or tick the kit's own."
            )
        if not state["arms"]:
            raise ValueError("No arm is chosen: choose at least one under Arms.")
        return [r for r in there if r.settings["arm"] in (*state["arms"], state["reference"])]

    def look_again(self) -> None:
        """Read what is new on the disk."""
        self._looked = None
        self.refresh()

    def save_csv(self) -> None:
        """Write the table of the runs to a new file, and say so."""
        try:
            frame = run_table(self.runs)
            path = write_csv(frame, self.controls["csv"].value)
        except ValueError as error:
            self._tell(saved=f'<p class="qrkd-wrong" role="alert">{html.escape(str(error))}</p>')
            return
        self._tell(saved=saved_words(len(frame), path))

    def refresh(self, *_: object) -> None:
        """Offer in each menu what there is, then look."""
        if self._held:
            return
        self._tell(saved="")
        try:
            with self.lock:
                self._fit()
        except (
            OSError,
            RuntimeError,
            ValueError,
        ) as error:  # ~nobody, a closed folder
            self.complain(error)
            return
        super().refresh()

    def see(self) -> Sight:
        """The chosen picture, the table and the run; the disk is not read here."""
        self._to_draw = None
        try:
            runs = self.runs
        except ValueError:
            self._tell(table="", card="")
            raise
        state = self._shown_state
        study = Study(tuple(runs))
        summary = study.summary(state["reference"])
        studies = {}
        if state["view"] == "benchmarks":
            studies = self._catalogue.studies(state["scale"], state["arm"], state["reference"])
        shown = summary._repr_html_()
        if state["view"] == "runs":
            shown = run_rows(runs)
        elif studies:
            shown = benchmark_rows(improvement_table(studies, state["arm"], state["reference"]))
        run = next((run for run in runs if run.name == state["run"]), None)
        self._tell(table=shown, card="" if run is None else run_card(run))
        place = state["benchmark"], state["scale"]
        choices = self._catalogue.variants(*place)
        others, left_out = len(choices) - 1, choices[state["variant"]].left_out
        words = [about_runs(runs, state["variant"], others, left_out), *self._menus.unmet()]
        if state["arm"] in summary.frame.index and state["arm"] != state["reference"]:
            words.append(summary.verdict(state["arm"]))
        said = "".join(f"<p>{html.escape(text)}</p>" for text in words)
        key = tuple(str(value) for name, value in state.items() if name not in UNSEEN)
        if key not in self._drawn:
            self._to_draw = (key, study, summary, studies)
            if state["view"] not in SLOW:
                self._make()
        there = {"picture": self._drawn[key]} if key in self._drawn else {}
        return Sight(there, said, stale=not there)  # what is not there follows: see_more

    def see_more(self) -> Sight:
        """The picture, where it takes longer."""
        return Sight() if self._to_draw is None else Sight({"picture": self._make()})

    def _make(self) -> Picture:
        """Draw what is to be drawn, and keep it."""
        (key, *shown), self._to_draw = self._to_draw, None
        state = self._shown_state
        chart = draw_records(state["view"], *shown, state["arm"])
        self._drawn[key] = Picture() if chart is None else Picture.of(chart)
        for old in list(self._drawn)[:-KEPT]:
            del self._drawn[old]
        return self._drawn[key]

    def _fit(self) -> None:
        """Offer in each menu what there is: the disk is read only where another folder is named."""
        self._held += 1
        try:
            asked = (self.controls["runs_dir"].value, self.controls["published"].value)
            read = asked != self._looked
            words = self._read(*asked) if read else ""
            self._looked = asked
            self._menus.fit(self._catalogue, list(self._found.values()))
            if read:  # last: who reads it may use the menus at once
                self._tell(source=words)
        finally:
            self._held -= 1

    def _read(self, runs_dir: str, published: bool) -> str:
        """Read the folders; what is there, in words."""
        own = runs_folder(runs_dir)
        kit = published and PUBLISHED.exists() and own.resolve() != PUBLISHED.resolve()
        runs, problems = scan_runs([own, PUBLISHED] if kit else [own])
        before, self._found = self._found, {run.path: run for run in runs}
        self._catalogue = Catalogue(runs)
        self._drawn.clear()
        since = ""
        if before and self._looked is None:
            new = sum(before.get(path) != run for path, run in self._found.items())
            gone = len(before.keys() - self._found.keys())
            since = f" Since the last look: {new} new or changed, {gone} gone."
        return source_words(runs, problems, runs_dir, own.exists(), since)

    def _tell(self, **parts: str) -> None:
        for name, text in parts.items():
            self._parts[name].value = f'<div class="qrkd-{name}">{text}</div>' if text else ""

    def _still(self) -> dict[str, str]:
        """With what stands above and below the picture."""
        parts = {name: part.value for name, part in self._parts.items()}
        shown = list(self._shown.values())
        data = still(shown, parts["source"] + self._said, repr(self), self._key)
        below = f'<div class="qrkd-still-{self._key}">{parts["table"]}{parts["card"]}</div>'
        return data | {"text/html": data["text/html"] + below}


# ---- record_menus


_STYLE = {"description_width": "9em"}


def record_controls(runs_dir: str, published: bool, view: str, csv: str) -> dict[str, W.Widget]:
    """All controls by argument name, in the order of the Tab key; the menus are filled later."""
    controls = {
        "runs_dir": _text("Folder of records", runs_dir),
        "published": switch("with the records that came with the kit", published),
        "benchmark": _menu("Benchmark"),
        "scale": _menu("Scale"),
        "variant": _menu("Settings"),
        "arms": W.SelectMultiple(
            description="Arms", rows=9, style=_STYLE, layout=W.Layout(width="24em"),
            tooltip="Ctrl and click, or Shift and the arrow keys, choose several",
        ),
        "reference": _menu("Reference"),
        "arm": _menu("Arm in question"),
        "view": menu("Show", view, VIEWS),
        "csv": _text("Runs as CSV", csv),
        "run": _menu("Run"),
    }  # fmt: skip
    controls["variant"].layout.width = "48em"
    return controls


class RecordMenus:
    """Fills the menus, and keeps what was asked for until it is there.

    Args:
        controls: of :func:`record_controls`.
        wishes: values of some of them, which need not be there; None is no wish.
    """

    def __init__(self, controls: Mapping[str, W.Widget], wishes: Mapping[str, Any]) -> None:
        self._controls = controls
        self.wishes = {name: wish for name, wish in wishes.items() if wish is not None}

    def fit(self, catalogue: Catalogue, runs: Sequence[Run]) -> None:
        """Offer what there is, from the widest menu to the narrowest.

        Args:
            catalogue: of the records.
            runs: all of them; the newest that did not come with the kit is what to begin with.
        """
        own = [run for run in runs if not came_with_the_kit(run)]
        last = max(own, key=lambda run: run.finished, default=None)
        newest = {} if last is None else last.settings
        benchmark = self._offer("benchmark", catalogue.benchmarks, newest.get("benchmark"))
        first = newest.get("scale") if benchmark == newest.get("benchmark") else "laptop"
        scale = self._offer("scale", catalogue.scales(benchmark), first)
        found = catalogue.variants(benchmark, scale)
        fresh = next((name for name, one in found.items() if last in one.runs), None)
        variant = self._offer("variant", list(found), fresh)
        runs = catalogue.runs(benchmark, scale, variant)
        arms = list(dict.fromkeys(run.settings["arm"] for run in runs))
        students = [arm for arm in arms if arm != TEACHER] or arms
        likely = [arm for arm in ("rkd", "kd", "scratch") if arm in students]
        reference = self._offer("reference", students, *likely[:1])
        self._offer("arm", [arm for arm in students if arm != reference] or students, "qrkd")
        self._offer_several("arms", arms)
        chosen = {*self._controls["arms"].value, reference}
        shown = [run for run in runs if run.settings["arm"] in chosen]
        best = [run.name for run in shown if run.settings["arm"] == self._controls["arm"].value]
        self._offer("run", [run.name for run in shown], *best[:1])

    def chosen(self, name: str) -> None:
        """The reader moved a menu: what was asked for there before does not count any more."""
        self.wishes.pop(name, None)

    def unmet(self) -> list[str]:
        """What was asked for and is not there, in words; the widest such menu only."""
        return [
            f"{self._controls[name].description}: {wish!r} was asked for, and there is no record "
            f"of it; shown is {self._controls[name].value!r}."
            for name, wish in self.wishes.items()
        ][:1]

    def _offer(self, name: str, options: Sequence[str], first: str | None = None) -> str | None:
        """Set a menu's choices; its value stays if it can, else it is ``first`` or the first."""
        control = self._controls[name]
        wanted = self.wishes.get(name, control.value)
        if list(control.options) != list(options):
            control.options = list(options)
        if wanted in options:
            self.wishes.pop(name, None)
        else:
            wanted = first if first in options else next(iter(options), None)
        control.value = wanted
        return wanted

    def _offer_several(self, name: str, options: Sequence[str]) -> None:
        """The same for several: all, unless some were chosen that are there."""
        control = self._controls[name]
        if list(control.options) == list(options) and name not in self.wishes:
            return
        every = set(control.value) == set(control.options)
        wanted = self.wishes.get(name, options if every else control.value)
        control.value = ()  # or the page would mark the old places of the new list
        control.options = list(options)
        there = tuple(arm for arm in options if arm in wanted)
        none = bool(options) and name in self.wishes and not wanted
        if len(there) == len(set(wanted)) and options:
            self.wishes.pop(name, None)
        elif name not in self.wishes:  # what is left of a choice is none
            there = ()
        control.value = () if none else there or tuple(options)


def _menu(label: str) -> W.Dropdown:
    return W.Dropdown(description=label, style=_STYLE, layout=W.Layout(width="24em"))


def _text(label: str, value: str) -> W.Text:
    """A field for a name, which counts when Enter is pressed or the field is left."""
    layout = W.Layout(width="30em")
    return W.Text(value, description=label, continuous_update=False, style=_STYLE, layout=layout)


# ---- record_words


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
    """The table of :func:`~qrkd_lab.studies.summary.improvement_table`, a row per benchmark."""
    head = ["benchmark", "metric", "seeds", "difference", "better by, %",
            "95 % interval (alone)", "p (Holm)"]  # fmt: skip
    rows = []
    for name, line in found.iterrows():
        known = not math.isnan(line["low"])
        ends = f"[{line['low']:+.2f}, {line['high']:+.2f}]" if known else "too few seeds"
        rows.append([
            str(name), line["metric"].removeprefix("test_").replace("_", " ")
            + ("" if line["higher_is_better"] else " (less is better)"), str(line["seeds"]),
            in_own_unit(line), f"{line['improvement']:+.2f}", ends, p_in_words(line["p_adjusted"]),
        ])  # fmt: skip
    return _table(head, rows)


def source_words(
    runs: Sequence[Run], problems: Sequence[str], runs_dir: str, there: bool, since: str = ""
) -> str:
    """What was read, and what could not be; ``since``: what is new, in words."""
    kit = sum(map(came_with_the_kit, runs))
    said = f"{count(len(runs), 'record')}: {len(runs) - kit} in {runs_dir}"
    said += f", {kit} that came with the kit." if kit else "."
    said += "" if there else f" There is no folder {runs_dir} yet."
    said = f'<p role="status">{html.escape(said + since)}</p>'
    if not problems:
        return said
    listed = "".join(f"<li>{html.escape(text)}</li>" for text in problems)
    return (
        f'{said}<details open class="qrkd-wrong" role="alert">'
        f"<summary>{count(len(problems), 'record or folder', 'records or folders')} could "
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


# ---- record_pictures


VIEWS = {
    "Differences": "differences",
    "Scores by arm": "scores",
    "Learning curves": "curves",
    "Loss terms": "terms",
    "All benchmarks": "benchmarks",
    "Table of runs": "runs",
}


def draw_records(
    view: str, study: Study, summary: Summary, studies: Mapping[str, Study], arm: str
) -> Chart | None:
    """The figure of a view; None for the table of runs.

    Args:
        view: one of the values of :data:`VIEWS`.
        study, summary: the runs at hand.
        studies, arm: for ``benchmarks``: a study each, and the arm to compare with the summary's
            reference.

    Raises:
        ValueError: there is nothing to draw, e.g. no arm beside the reference.
    """
    students = [run for run in study.runs if run.settings["arm"] != TEACHER] or study.runs
    reference = summary.reference
    if view == "differences" and not set(summary.frame.index) - {reference, TEACHER}:
        raise ValueError(
            f"There is no other student to compare {reference} with: choose one under Arms, or "
            "another reference."
        )
    if view == "benchmarks" and not studies:
        other = "another arm" if arm == reference else arm
        raise ValueError(f"No benchmark has records of {reference} and {other} at this scale.")
    figures = {
        "differences": lambda: plots.paired_differences(summary),
        "scores": study.plot,
        "curves": lambda: plots.learning_curves(students),
        "terms": lambda: plots.loss_terms(students),
        "benchmarks": lambda: plots.improvements(studies, arm, reference),
        "runs": lambda: None,
    }
    return figures[view]()


# ---- run_card


def run_card(run: Run) -> str:
    """Everything about one run: result, settings, data, versions, and the code that makes it."""
    facts = {
        "Result": _metrics(run),
        "Settings": _settings(run),
        "Data": f"{run.data.get('source', 'unknown')}, sha256 {str(run.data['sha256'])[:12]}",
        "Ran on": _where(run),
        "Versions": _versions(run.versions, _here()),
        "Record": _record(run),
    }
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{html.escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f"<h4>{html.escape(run.name)}</h4><table>{rows}</table>{_recipe(run)}{_all(run)}"


def _metrics(run: Run) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {number(name, value)}{units(name)[1]}"
        for name, value in run.metrics.items()
    )


def _settings(run: Run) -> str:
    home = f"{run.settings['benchmark']}, {run.settings['scale']}"
    try:
        changed = in_words(changes_of(run.settings))
    except ValueError:
        return f"{home}: not those of ql.compare"
    return f"{home}: {changed or 'all by default'}"


def _where(run: Run) -> str:
    seconds = sum(run.seconds.values())
    return (
        f"{run.device}, {seconds:.1f} s, finished {run.finished}; {run.parameters:,} parameters; "
        f"{run.versions.get('platform', 'unknown platform')}"
    )


@cache
def _here() -> Mapping[str, str | None]:
    return versions()


def _versions(recorded: Mapping[str, str | None], here: Mapping[str, str | None]) -> str:
    """Those of the record; where another one is installed here, that too."""
    said = []
    for name, version in recorded.items():
        if name != "platform" and version is not None:
            other = f" (here {here.get(name)})" if here.get(name) != version else ""
            said.append(f"{name} {version}{other}")
    return ", ".join(said)


def _record(run: Run) -> str:
    kit = came_with_the_kit(run)
    place = run.path.relative_to(PUBLISHED.parent) if kit else run.path
    weights = "with its weights" if has_weights(run) else "without its weights"
    return f"{place}, {'came with the kit' if kit else 'own'}, {weights}"


def _recipe(run: Run) -> str:
    recipe = reproduce(run)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in recipe.notes)
    blocks = {"To train it again": recipe.python, "At the command line": recipe.shell}
    said = "".join(
        f"<p>{title}:</p><pre>{html.escape(text.strip())}</pre>"
        for title, text in blocks.items()
        if text
    )
    return f"{said}<ul>{notes}</ul><p>To read it:</p><pre>{html.escape(_reading(run))}</pre>"


def _reading(run: Run) -> str:
    if came_with_the_kit(run):
        home = f'"{run.settings["benchmark"]}", "{run.settings["scale"]}"'
        return (
            f"runs = ql.published_runs({home})\n"
            f'run = next(run for run in runs if run.key == "{run.key}")'
        )
    return f"run = ql.load_run({json.dumps(run.path.as_posix(), ensure_ascii=False)})"


def _all(run: Run) -> str:
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(repr(value))}</td></tr>'
        for name, value in run.settings.items()
    )
    return f"<details><summary>All its settings</summary><table>{rows}</table></details>"
