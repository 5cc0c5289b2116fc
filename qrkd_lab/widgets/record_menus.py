"""Menus that depend on each other: each offers what the records under its elder's choice have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as W

from qrkd_lab.arms import TEACHER
from qrkd_lab.records.catalogue import Catalogue
from qrkd_lab.runs import Run
from qrkd_lab.widgets.controls import menu, switch
from qrkd_lab.widgets.record_pictures import VIEWS
from qrkd_lab.widgets.record_words import came_with_the_kit

__all__ = ["RecordMenus", "record_controls"]

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
