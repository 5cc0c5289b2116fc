"""StudyBrowser: what was run, what came of it, and how to run it again."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets as W

from qrkd_lab.files import runs_folder
from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.benchmarks import Benchmark, name_of
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.provenance import Catalogue, in_words, reproduce, run_table, write_csv
from qrkd_lab.studies.records import PUBLISHED, Run, has_weights, scan_runs, versions
from qrkd_lab.studies.summary import improvement_table
from qrkd_lab.teaching import plots
from qrkd_lab.teaching.widgets.explorer import Explorer, Picture, button, menu, switch, table, wrong

__all__ = ["StudyBrowser", "VIEWS"]

VIEWS = {
    "Differences": "differences",
    "Scores by arm": "scores",
    "Learning curves": "curves",
    "Loss terms": "terms",
    "All benchmarks": "benchmarks",
    "Table of runs": "runs",
}
DRAWN = ("benchmark", "scale", "variant", "arms", "reference", "arm", "view")  # seen in the picture


class StudyBrowser(Explorer):
    """Every record on disk: choose, compare, export, and see how a run is made again.

    Records of one benchmark and scale that differ in other settings or in their data are never
    put in one table: the menu "Settings" says what there is
    (:func:`~qrkd_lab.studies.provenance.variants`).

    Args:
        runs_dir: folder of records, of :func:`~qrkd_lab.compare`.
        published: with the records that came with the kit.
        benchmark, scale, variant: which study; None: the first that there is.
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
        self._asked = {
            "benchmark": name_of(benchmark), "scale": scale, "variant": variant, "arms": arms,
            "reference": reference, "arm": arm, "run": run,
        }  # fmt: skip
        self._absent = ""  # what was asked for and has no record, in words
        self._drawn: list[Any] = []
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
        summary = Study(tuple(runs)).summary(state["reference"])
        words = [self._about(runs), self._absent]
        if state["arm"] in summary.frame.index.drop(state["reference"]):
            words.append(summary.verdict(state["arm"]))
        elif state["arm"] != state["reference"]:
            words.append(f"The arm in question, {state['arm']}, is not chosen under Arms.")
        shown = summary._repr_html_()
        if state["view"] == "runs":
            shown = _run_table(runs)
        elif state["view"] == "benchmarks":
            shown = _benchmark_table(self._studies, state["arm"], state["reference"])
        self.show(
            "".join(f"<p>{html.escape(text)}</p>" for text in words if text),
            stale=[state[name] for name in DRAWN] != self._drawn,  # the picture follows
            table=shown,
            run="".join(_card(run) for run in runs if run.name == state["run"]),
        )

    def see_more(self) -> None:
        """The picture."""
        state = self.state
        key = [state[name] for name in DRAWN]
        if key == self._drawn:
            return
        study, arm, reference = Study(tuple(self.runs)), state["arm"], state["reference"]
        students = [run for run in study.runs if run.settings["arm"] != TEACHER] or study.runs
        if state["view"] == "differences" and {r.settings["arm"] for r in students} == {reference}:
            raise ValueError(
                f"There is no other student to compare {reference} with: choose one under Arms, or "
                "another reference."
            )
        draw = {
            "differences": lambda: plots.paired_differences(study.summary(reference)),
            "scores": study.plot,
            "curves": lambda: plots.learning_curves(students),
            "terms": lambda: plots.loss_terms(students),
            "benchmarks": lambda: plots.improvements(self._studies, arm, reference),
        }
        view = state["view"]
        self.show(picture=Picture.of(draw[view]()) if view in draw else Picture())
        self._drawn = key

    @property
    def _studies(self) -> dict[str, Study]:
        """The benchmarks that have the arm in question and the reference."""
        names = (self.controls[name].value for name in ("scale", "arm", "reference"))
        if found := self._catalogue.studies(*names):
            return found
        raise ValueError("No benchmark has records of both arms at this scale.")

    def follow(self, name: str) -> None:
        """Read the disk where another folder is named, and offer in each menu what there is."""
        with self.lock:
            self._saved.value = self._absent = ""
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
        self._catalogue, self._drawn = Catalogue(runs), []
        of_kit = sum(map(_of_kit, runs))
        said = f"{_count(len(runs), 'record')}: {len(runs) - of_kit} in {folder}"
        said += f", {of_kit} that came with the kit." if of_kit else "."
        said += "" if own.exists() else f" There is no folder {folder} yet."
        said = f'<p role="status">{html.escape(said)}</p>'
        if problems:
            unread = _count(len(problems), "record or folder", "records or folders")
            said += wrong(f"{unread} could not be read; all else is shown:")
            said += "".join(f"<p>{html.escape(text)}</p>" for text in problems)
        return said

    def _offer_all(self) -> None:
        """Offer in each menu what there is, from the widest menu to the narrowest."""
        catalogue = self._catalogue
        benchmark = self._offer("benchmark", catalogue.benchmarks)
        scale = self._offer("scale", catalogue.scales(benchmark), "laptop")
        variant = self._offer("variant", list(catalogue.variants(benchmark, scale)))
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
        control, asked = self.controls[name], self._asked.pop(name, None)
        wanted = control.value
        if list(control.options) != list(options):
            control.options = list(options)
        control.value = next((v for v in (asked, wanted, first, *options) if v in options), None)
        if asked not in (None, control.value):
            self._absent = f"There is no record of {asked!r}; shown is {control.value!r}."
        return control.value

    def _offer_arms(self, options: Sequence[str]) -> Sequence[str]:
        """The same for several: all, unless some were chosen that are all there."""
        control, asked = self.controls["arms"], self._asked.pop("arms", None)
        if list(control.options) == options and asked is None:
            return control.value
        every = set(control.value) == set(control.options)
        wanted = asked or (options if every else control.value)
        control.value = ()  # or the page would mark the old places of the new list
        control.options = options
        control.value = wanted if set(wanted) <= set(options) else options
        return control.value

    def _about(self, runs: Sequence[Run]) -> str:
        """Which runs, how many, on which data."""
        state = self.state
        benchmark, scale, variant = (state[name] for name in ("benchmark", "scale", "variant"))
        others = len(self._catalogue.variants(benchmark, scale)) - 1
        arms, seeds = (len({run.settings[name] for run in runs}) for name in ("arm", "seed"))
        kit, data = sum(map(_of_kit, runs)), runs[0].data
        said = (
            f"{benchmark} at scale {scale}, {variant}: {_count(len(runs), 'run')} of "
            f"{_count(arms, 'arm')}, {_count(seeds, 'seed')}; {kit} came with the kit. "
            f"Data: {data.get('source', 'unknown')} (sha256 {str(data['sha256'])[:8]})."
        )
        choice = f" Settings has {_count(others, 'other choice')}, never mixed with this one."
        return said + choice * bool(others)


def _of_kit(run: Run) -> bool:
    """Whether a record is one of the published ones."""
    return run.path is not None and run.path.is_relative_to(PUBLISHED)


def _count(number: int, one: str, more: str = "") -> str:
    """``"1 run"``, ``"2 runs"``."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def _run_table(runs: Sequence[Run]) -> str:
    frame = run_table(runs)
    frame.index = frame["arm"] + " seed " + frame["seed"].astype(str)
    shown = [runs[0].metric["name"], "train_test_gap", "seconds", "device", "finished"]
    return frame[shown].to_html(border=0)


def _benchmark_table(studies: Mapping[str, Study], arm: str, reference: str) -> str:
    frame = improvement_table(studies, arm, reference)
    shown = {"metric": "metric", "seeds": "seeds", "improvement": "better by, %", "low": "from",
             "high": "to (95 %, alone)", "p_adjusted": "p (Holm)"}  # fmt: skip
    return frame[[*shown]].rename(columns=shown).round(3).to_html(border=0, index_names=False)


def _card(run: Run) -> str:
    """Everything about one run: result, settings, data, versions, and the code that makes it."""
    here = {name: version for name, version in versions().items() if name in run.versions}
    place = run.path.relative_to(PUBLISHED.parent) if _of_kit(run) else run.path
    facts = {
        "Result": ", ".join(
            f"{name.replace('_', ' ')} {value:.4g}"
            for name, value in run.metrics.items()
            if value is not None
        ),
        "Settings": f"{run.settings['benchmark']}, {run.settings['scale']}: "
        f"{in_words(run.given) or 'all by default'}",
        "Data": f"{run.data.get('source', 'unknown')}, sha256 {str(run.data['sha256'])[:12]}",
        "Ran on": f"{run.device}, {sum(run.seconds.values()):.1f} s, finished {run.finished}; "
        f"{run.parameters:,} parameters",
        "Versions": ", ".join(
            f"{name} {run.versions[name]}"
            + (f" (here {version})" if version != run.versions[name] else "")
            for name, version in here.items()
        ),
        "Record": f"{place}, {'with' if has_weights(run) else 'without'} its weights",
    }
    known = table([{"": name, " ": text} for name, text in facts.items()])
    every = table([{"": name, " ": repr(value)} for name, value in run.settings.items()])
    return (
        f"<h4>{html.escape(run.name)}</h4>{known}"
        f"<p>To train it again:</p><pre>{html.escape(str(reproduce(run)))}</pre>"
        f"<details><summary>All its settings</summary>{every}</details>"
    )
