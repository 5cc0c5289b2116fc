"""StudyBrowser: what was run, what came of it, and how to run it again."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as W

from qrkd_lab.files import runs_folder
from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.benchmarks import Benchmark, name_of
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.provenance import (
    Catalogue,
    in_words,
    reproduce,
    run_table,
    write_csv,
)
from qrkd_lab.studies.records import PUBLISHED, Run, has_weights, scan_runs, versions
from qrkd_lab.studies.statistics import p_in_words
from qrkd_lab.studies.summary import improvement_table, in_own_unit, units
from qrkd_lab.teaching import plots
from qrkd_lab.teaching.widgets.explorer import (
    Explorer,
    Picture,
    button,
    menu,
    switch,
    wrong,
)
from qrkd_lab.teaching.widgets.explorer import (
    table as html_table,
)

__all__ = ["StudyBrowser", "VIEWS"]

VIEWS = {
    "Differences": "differences",
    "Scores by arm": "scores",
    "Learning curves": "curves",
    "Loss terms": "terms",
    "All benchmarks": "benchmarks",
    "Table of runs": "runs",
}
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
        benchmark: str | Benchmark | None = None,
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
        arms = (arms,) if isinstance(arms, str) else arms
        asked = {"benchmark": name_of(benchmark), "scale": scale, "variant": variant, "arms": arms,
                 "reference": reference, "arm": arm, "run": run}  # fmt: skip
        self._asked = {name: value for name, value in asked.items() if value is not None}
        self._absent: list[str] = []  # what was asked for and has no record, in words
        self._drawn: tuple[str, ...] = ()
        self._to_draw: tuple[Any, ...] | None = None
        self._source, self._saved = W.HTML(), W.HTML()
        text = {"continuous_update": False}  # counts when Enter is pressed or the field is left
        controls = {
            "runs_dir": W.Text(str(runs_folder(runs_dir)), description="Folder", **text),
            "published": switch("with the records that came with the kit", published),
            "benchmark": W.Dropdown(description="Benchmark"),
            "scale": W.Dropdown(description="Scale"),
            "variant": W.Dropdown(description="Settings"),
            "arms": W.SelectMultiple(description="Arms", rows=7),
            "reference": W.Dropdown(description="Reference"),
            "arm": W.Dropdown(description="Arm in question"),
            "view": menu("Show", view, VIEWS),
            "run": W.Dropdown(description="Run"),
            "csv": W.Text(csv, description="Runs as CSV", **text),
        }
        again = button("Look again", self.look_again, "Read the folder again")
        save = button("Save these runs", self.save_csv, "Write a row per run to the file")
        column: list[Any] = list(controls)
        column[2:2] = [again, self._source]
        super().__init__(controls, [*column, save, self._saved], ("picture",), ("table", "run"))
        self.tabs.selected_index = int(view == "runs")

    @property
    def runs(self) -> list[Run]:
        """The runs of the table, those of the chosen arms and of the reference.

        Raises:
            ValueError: there are none.
        """
        state = self.state
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
        self.set_to(runs_dir=self.controls["runs_dir"].value)

    def save_csv(self) -> None:
        """Write the table of the runs to a new file, and say so, with a link to download it."""
        try:
            frame = run_table(self.runs)
            path = write_csv(frame, self.controls["csv"].value)
        except ValueError as error:
            self._saved.value = wrong(str(error))
            return
        data = base64.b64encode(path.read_bytes()).decode()
        self._saved.value = (
            f'<p role="status">{_count(len(frame), "run")} written to {html.escape(str(path))}. '
            f'<a download="{html.escape(path.name, quote=True)}" '
            f'href="data:text/csv;base64,{data}">Download the file</a></p>'
        )

    def see(self) -> None:
        """The words, the table and the run; whatever a menu changes, they answer at once."""
        try:
            runs = self.runs
        except ValueError:
            self.show(table="", run="")
            raise
        state = self.state
        view, arm, reference = state["view"], state["arm"], state["reference"]
        study = Study(tuple(runs))
        summary, studies = study.summary(reference), {}
        if view == "benchmarks":
            studies = self._catalogue.studies(state["scale"], arm, reference)
        words = [self._about(runs), *self._absent[:1]]
        if arm in summary.frame.index and arm != reference:
            words.append(summary.verdict(arm))
        key = tuple(str(value) for name, value in state.items() if name not in UNSEEN)
        self._to_draw = None if key == self._drawn else (key, study, summary, studies)
        self.show(
            "".join(f"<p>{html.escape(text)}</p>" for text in words),
            stale=self._to_draw is not None,  # the picture follows
            table=_table(runs, studies, arm, reference, view) or summary._repr_html_(),
            run="".join(_card(run) for run in runs if run.name == state["run"]),
        )

    def see_more(self) -> None:
        """The picture."""
        if self._to_draw is None:
            return
        (key, study, summary, studies), self._to_draw = self._to_draw, None
        arm, reference = self.controls["arm"].value, summary.reference
        students = [run for run in study.runs if run.settings["arm"] != TEACHER] or study.runs
        view = self.controls["view"].value
        if view == "differences" and not set(summary.frame.index) - {reference, TEACHER}:
            raise ValueError(
                f"There is no other student to compare {reference} with: choose one under Arms, or "
                "another reference."
            )
        if view == "benchmarks" and not studies:
            other = "another arm" if arm == reference else arm
            raise ValueError(f"No benchmark has records of {reference} and {other} at this scale.")
        draw = {
            "differences": lambda: plots.paired_differences(summary),
            "scores": study.plot,
            "curves": lambda: plots.learning_curves(students),
            "terms": lambda: plots.loss_terms(students),
            "benchmarks": lambda: plots.improvements(studies, arm, reference),
        }
        self.show(picture=Picture.of(draw[view]()) if view in draw else Picture())
        self._drawn = key

    def follow(self, name: str) -> None:
        """Read the disk where another folder is named, and offer in each menu what there is."""
        with self.lock:
            self._saved.value = ""
            self._absent.clear()
            said = self._read() if name in ("", "runs_dir", "published") else None
            self._offer_all()
            if name == "view":
                self.tabs.selected_index = int(self.controls["view"].value == "runs")
            if said is not None:  # last: who reads it may use the menus at once
                self._source.value = said

    def _read(self) -> str:
        """Look at the disk; what is there, and what could not be read, as HTML."""
        folder, published = (self.controls[name].value for name in ("runs_dir", "published"))
        own = runs_folder(folder)
        kit = published and PUBLISHED.exists() and own.resolve() != PUBLISHED.resolve()
        runs, problems = scan_runs([own, PUBLISHED] if kit else [own])
        self._found, self._catalogue = runs, Catalogue(runs)
        self._drawn, of_kit = (), sum(map(_of_kit, runs))
        said = f"{_count(len(runs), 'record')}: {len(runs) - of_kit} in {folder}"
        said += f", {of_kit} that came with the kit." if of_kit else "."
        said += "" if own.exists() else f" There is no folder {folder} yet."
        said = f'<p role="status">{html.escape(said)}</p>'
        if problems:
            listed = "".join(f"<li>{html.escape(text)}</li>" for text in problems)
            unread = _count(len(problems), "record or folder", "records or folders")
            said += (
                f'<details open class="qrkd-wrong" role="alert"><summary>{unread} could not be '
                f"read; all else is shown</summary><ul>{listed}</ul></details>"
            )
        return said

    def _offer_all(self) -> None:
        """Offer in each menu what there is, from the widest menu to the narrowest."""
        catalogue = self._catalogue
        own = [run for run in self._found if not _of_kit(run)]
        last = max(own, key=lambda run: run.finished, default=None)  # what to begin with
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
        arm = self._offer("arm", [arm for arm in students if arm != reference] or students, "qrkd")
        chosen = {*self._offer_arms(arms), reference}
        shown = [run for run in runs if run.settings["arm"] in chosen]
        best = [run.name for run in shown if run.settings["arm"] == arm]
        self._offer("run", [run.name for run in shown], *best[:1])

    def _offer(self, name: str, options: Sequence[str], first: str | None = None) -> str | None:
        """Set a menu's choices; its value stays if it can, else it is ``first`` or the first."""
        control = self.controls[name]
        wanted, asked = control.value, self._asked.pop(name, None)
        if list(control.options) != list(options):
            control.options = list(options)
        found = next((one for one in (asked, wanted, first) if one in options), None)
        control.value = next(iter(options), None) if found is None else found
        if asked not in (None, control.value):
            self._absent.append(
                f"{control.description}: {asked!r} was asked for, and there is no record of it; "
                f"shown is {control.value!r}."
            )
        return control.value

    def _offer_arms(self, options: Sequence[str]) -> Sequence[str]:
        """The same for several: all, unless some were chosen that are all there."""
        control = self.controls["arms"]
        every = set(control.value) == set(control.options)
        if list(control.options) == options and "arms" not in self._asked:
            return control.value
        wanted = self._asked.pop("arms", options if every else control.value)
        there = [arm for arm in options if arm in wanted]
        if len(there) < len(set(wanted)):
            there = options
        control.value = ()  # or the page would mark the old places of the new list
        control.options = options
        control.value = there
        return there

    def _about(self, runs: Sequence[Run]) -> str:
        """Which runs, how many, on which data."""
        benchmark, scale, variant = (
            self.controls[name].value for name in ("benchmark", "scale", "variant")
        )
        choices = self._catalogue.variants(benchmark, scale)
        others, left_out = len(choices) - 1, choices[variant].left_out
        arms, seeds = (len({run.settings[name] for run in runs}) for name in ("arm", "seed"))
        kit, data = sum(map(_of_kit, runs)), runs[0].data
        said = (
            f"{benchmark} at scale {scale}, {variant}: {_count(len(runs), 'run')} of "
            f"{_count(arms, 'arm')}, {_count(seeds, 'seed')}; {kit} came with the kit, "
            f"{len(runs) - kit} are your own. Data: {data.get('source', 'unknown')} "
            f"(sha256 {str(data['sha256'])[:8]})."
        )
        if others:
            said += f" Settings has {_count(others, 'other choice')}, never mixed with this one."
        if left_out:
            said += (
                f" {_count(left_out, 'more record')} of these seeds, in the other folder, left "
                "out: the arms of a seed learnt from one teacher, so they come from one place."
            )
        return said


def _of_kit(run: Run) -> bool:
    """Whether a record is one of the published ones."""
    return run.path is not None and run.path.is_relative_to(PUBLISHED)


def _count(number: int, one: str, more: str = "") -> str:
    """``"1 run"``, ``"2 runs"``."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _number(metric: str, value: float | None) -> str:
    """A metric's value as it is printed; nothing where there is none."""
    if value is None or math.isnan(value):
        return ""
    factor, unit = units(metric)
    return f"{value * factor:.2f}" if unit else f"{value:.4g}"


def _table(
    runs: Sequence[Run], studies: Mapping[str, Study], arm: str, reference: str, view: str
) -> str:
    """The table of runs, or of benchmarks; empty for the other views."""
    if view == "runs":
        name = runs[0].metric["name"]
        score = name.replace("_", " ") + units(name)[1].replace(" ", ", ")
        return html_table([
            {
                "run": run.name, score: _number(name, run.metrics.get(name)),
                "its teacher": _number(name, run.metrics.get(f"teacher_{name}")),
                "epochs": len(run.history), "seconds": f"{sum(run.seconds.values()):.1f}",
                "device": run.device, "finished": run.finished.replace("T", " ")[:16],
                "record": "of the kit" if _of_kit(run) else "own",
            }
            for run in runs
        ])  # fmt: skip
    if not studies:
        return ""
    return html_table([
        {
            "benchmark": name,
            "metric": line["metric"].removeprefix("test_").replace("_", " ")
            + ("" if line["higher_is_better"] else " (less is better)"),
            "seeds": line["seeds"], "difference": in_own_unit(line),
            "better by, %": f"{line['improvement']:+.2f}",
            "95 % interval (alone)": "too few seeds" if math.isnan(line["low"])
            else f"[{line['low']:+.2f}, {line['high']:+.2f}]",
            "p (Holm)": p_in_words(line["p_adjusted"]),
        }
        for name, line in improvement_table(studies, arm, reference).iterrows()
    ])  # fmt: skip


def _card(run: Run) -> str:
    """Everything about one run: result, settings, data, versions, and the code that makes it."""
    home = f"{run.settings['benchmark']}, {run.settings['scale']}"
    changed = in_words(run.given) or "all by default"
    kit, here = _of_kit(run), versions()
    place = run.path.relative_to(PUBLISHED.parent) if kit else run.path
    facts = {
        "Result": ", ".join(
            f"{name.replace('_', ' ')} {_number(name, value)}{units(name)[1]}"
            for name, value in run.metrics.items()
        ),
        "Settings": f"{home}: {changed}",
        "Data": f"{run.data.get('source', 'unknown')}, sha256 {str(run.data['sha256'])[:12]}",
        "Ran on": f"{run.device}, {sum(run.seconds.values()):.1f} s, finished {run.finished}; "
        f"{run.parameters:,} parameters; {run.versions.get('platform', 'unknown platform')}",
        "Versions": ", ".join(
            f"{name} {version}" + (f" (here {here.get(name)})" if here.get(name) != version else "")
            for name, version in run.versions.items()
            if name != "platform" and version is not None
        ),
        "Record": f"{place}, {'came with the kit' if kit else 'own'}, "
        f"{'with' if has_weights(run) else 'without'} its weights",
    }
    reading = f"run = ql.load_run({json.dumps(run.path.as_posix(), ensure_ascii=False)})"
    if kit:
        home = f'"{run.settings["benchmark"]}", "{run.settings["scale"]}"'
        reading = (
            f"runs = ql.published_runs({home})\n"
            f'run = next(run for run in runs if run.key == "{run.key}")'
        )
    code = "".join(
        f"<p>{title}:</p><pre>{html.escape(text)}</pre>"
        for title, text in (("To train it again", str(reproduce(run))), ("To read it", reading))
    )
    every = html_table([{"": name, " ": repr(value)} for name, value in run.settings.items()])
    known = html_table([{"": name, " ": text} for name, text in facts.items()])
    return (
        f"<h4>{html.escape(run.name)}</h4>{known}{code}"
        f"<details><summary>All its settings</summary>{every}</details>"
    )
