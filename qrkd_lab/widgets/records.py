"""A browser of records: what was run, what came of it, and how to run it again."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as W

from qrkd_lab.evidence import improvement_table
from qrkd_lab.published import PUBLISHED
from qrkd_lab.records.catalogue import Catalogue
from qrkd_lab.records.run_table import run_table, write_csv
from qrkd_lab.records.shelf import Contents, Shelf
from qrkd_lab.storage import runs_folder
from qrkd_lab.study import Study
from qrkd_lab.widgets.controls import button, row
from qrkd_lab.widgets.explorer import Explorer, Sight
from qrkd_lab.widgets.pictures import Picture, still
from qrkd_lab.widgets.record_menus import RecordMenus, record_controls
from qrkd_lab.widgets.record_pictures import VIEWS, draw_records
from qrkd_lab.widgets.record_words import (
    CSS,
    about_runs,
    benchmark_rows,
    run_rows,
    saved_words,
    source_words,
)
from qrkd_lab.widgets.run_card import run_card

if TYPE_CHECKING:
    from qrkd_lab.runs import Run

__all__ = ["StudyBrowser"]

KEPT = 40  # pictures that need not be drawn again
SLOW = ("terms", "benchmarks")  # views of more than a quarter of a second
UNSEEN = ("runs_dir", "published", "csv", "run")  # controls that no picture depends on


class StudyBrowser(Explorer):
    """Every record on disk: choose, compare, export, and see how a run is made again.

    Records of one benchmark and scale that differ in other settings or in their data are never
    put in one table: the menu "Settings" says what there is
    (:func:`~qrkd_lab.records.variants.variants`).

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
        self._shelf, self._contents, self._looked = Shelf(), Contents(), None
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
        except (OSError, RuntimeError) as error:  # ~nobody, a folder that may not be entered
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
        others = len(self._catalogue.variants(*place)) - 1
        left_out = self._catalogue.left_out(*place, state["variant"])
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
            if asked != self._looked:
                self._read(*asked)
                self._looked = asked
            self._menus.fit(self._catalogue, self._contents.runs)
        finally:
            self._held -= 1

    def _read(self, runs_dir: str, published: bool) -> None:
        """Look at the shelf, and say what is there."""
        own = runs_folder(runs_dir)
        kit = [PUBLISHED] if published and own.resolve() != PUBLISHED.resolve() else []
        again = self._looked is None and bool(self._contents.runs)
        self._contents = found = self._shelf.look([own, *(k for k in kit if k.exists())])
        self._catalogue = Catalogue(found.runs)
        self._drawn.clear()
        self._tell(source=source_words(found, runs_dir, again))

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
