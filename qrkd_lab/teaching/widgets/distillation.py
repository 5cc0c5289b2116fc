"""DistillationExplorer: arms train side by side; pause them, stop them, change what you like."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as W
import numpy as np
import torch

from qrkd_lab.files import runs_folder
from qrkd_lab.kernels import KERNELS
from qrkd_lab.kernels.analysis import alignment_or
from qrkd_lab.kernels.encoders import BANDWIDTHS, ENCODERS
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.studies.arms import ARMS, BENCHMARKS, DEFAULT_ARMS, SCALES
from qrkd_lab.studies.benchmarks import Benchmark, benchmark_settings, name_of
from qrkd_lab.studies.settings import Settings
from qrkd_lab.studies.summary import units
from qrkd_lab.teaching.live import LiveRun, Order, Track
from qrkd_lab.teaching.plots.curves import arms_so_far
from qrkd_lab.teaching.plots.matrices import kernel_matrices
from qrkd_lab.teaching.plots.scores import arm_grid
from qrkd_lab.teaching.widgets.explorer import Explorer, Picture, button, menu, slider, table, wrong

__all__ = ["DistillationExplorer", "progress"]

REST = 0.25  # seconds between two pictures of a training
OPEN = {
    "layers": "the map's own",
    "bandwidth": "by the rule",
    "kernel_dose": "by its weight",
}  # what a menu says for None
DOSES = (0.03, 0.1, 0.3, 1.0, 3.0)
TRAINING = ("epochs", "learning_rate", "temperature")
WEIGHTS = ("kd_weight", "distance_weight", "angle_weight", "kernel_weight", "kernel_dose")
KERNEL = ("kernel", "feature_map", "qubits", "layers", "bandwidth", "encoder")
FIELDS = (*TRAINING, *WEIGHTS, *KERNEL)  # of Settings
PLACES = {"runs_dir": None, "data_dir": None, "device": "auto"}
_AT_WORK: dict[str, LiveRun] = {}  # cell of a notebook -> what it trains


class DistillationExplorer(Explorer):
    """Train the arms of one seed in lockstep, in a process of its own, and watch.

    Start takes what is on disk (records, and a checkpoint of a training that was stopped) and
    trains the rest; Stop records the last whole epoch as a run of its own. Records are those of
    :func:`~qrkd_lab.compare`, bit for bit.

    Args:
        benchmark: a name, a folder of images or text, or one of your own, made by
            :meth:`Benchmark.from_arrays`; ``scale``: as for a study.
        arms: which train side by side.
        seed: of the runs.
        runs_dir: folder of the records, as for :func:`~qrkd_lab.compare`.
        data_dir: folder of the data; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        settings: ``epochs``, ``learning_rate``, ``temperature``, ``kd_weight``,
            ``distance_weight``, ``angle_weight``, ``kernel_weight``, ``kernel_dose``, ``kernel``,
            ``feature_map``, ``qubits``, ``layers``, ``bandwidth``, ``encoder``: fields of
            ``Settings``; None takes the benchmark's own. The field of the kernel's weight begins at
            qrkd's; as long as it stays there, each arm has its own.

    Raises:
        ValueError: an unknown name or field (lists the choices), or a value out of range.
    """

    def __init__(
        self,
        benchmark: str | Benchmark = "digits",
        scale: str = "laptop",
        arms: Sequence[str] = DEFAULT_ARMS,
        seed: int = 0,
        runs_dir: str | Path | None = None,
        data_dir: str | Path | None = None,
        device: str = "auto",
        **settings: Any,  # noqa: ANN401
    ) -> None:
        if unknown := sorted(settings.keys() - set(FIELDS)):
            raise ValueError(f"unknown setting {unknown[0]!r}; choose from {', '.join(FIELDS)}")
        if unknown := [arm for arm in arms if arm not in ARMS]:
            raise ValueError(f"unknown arms {unknown[0]!r}; choose from {', '.join(ARMS)}")
        self._places = {"runs_dir": runs_dir, "data_dir": data_dir, "device": device}
        self.training = LiveRun(self.refresh)
        given = {name: value for name, value in settings.items() if value is not None}
        names = {name: name for name in BENCHMARKS} | {name_of(benchmark): benchmark}
        controls = {
            "benchmark": menu("Benchmark", benchmark, names),
            "scale": menu("Scale", scale, SCALES),
            "seed": slider("Seed", seed, 0, 20),
            "arms": W.SelectMultiple(options=list(ARMS), value=arms, rows=12, description="Arms"),
            **_setting_controls(benchmark_settings(benchmark, scale, **given)),
        }
        self._start = button("Start", self.start, "Train what is not on disk yet")
        self._pause = button("Pause", self.training.pause, "Wait after the present step")
        self._stop = button("Stop", self.training.stop, "End now, and record the last whole epoch")
        self._view = menu("Matrices of", "–", ("–",))
        self._view.observe(lambda _: self.refresh(), "value")
        groups = {"Runs": ("benchmark", "scale", "arms", "seed", "epochs"),
                  "Loss": ("learning_rate", "temperature", *WEIGHTS), "Kernel": KERNEL}  # fmt: skip
        pages = [W.VBox([controls[name] for name in group]) for group in groups.values()]
        buttons = W.HBox([self._start, self._pause, self._stop])
        column = [buttons, W.Tab(pages, titles=list(groups)), self._view]
        super().__init__(controls, column, ("curves", "matrices"), ("records",))
        self._buttons()

    @property
    def state(self) -> dict[str, Any]:
        values = super().state
        values |= {name: None for name, word in OPEN.items() if values[name] == word}
        if values["kernel_weight"] == self._own_weight:
            values["kernel_weight"] = None  # left as it was: each arm's own
        return values

    def see(self) -> None:
        track, order = self.training.track, self._order()
        if track.order is None:
            epochs = self._check().epochs
            words = _paragraph(
                f"Ready: {', '.join(order.arms)} on {name_of(order.benchmark)} ({order.scale}), "
                f"seed {order.seed}, {epochs} epochs each, after their teacher. Press Start; what "
                f"is on disk already in {order.runs_dir} is not trained again."
            )
            return self.show(words, curves=Picture.of(arm_grid(order.arms)))
        words = progress(self.training.state, track)
        if order != track.order:
            words += "<p>The controls have changed since: Start makes other runs.</p>"
            try:
                self._check()
            except ValueError as error:  # of the next training, not of this one
                words += wrong(str(error))
        self.show(words, records=_table(track), **self._pictures(track))

    def start(self) -> None:
        """Train what the controls say, or find it on disk."""
        if self.training.busy:
            return
        try:
            self._check()
            self.training.start(self._order())
        except Exception as error:
            return self.complain(error)
        self.draw_in_background()
        self._stop.focus()  # Start is off now, and would leave the keyboard nowhere

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until what was started has ended and is drawn; False if it takes longer."""
        return self.training.wait(seconds) and self.settle()

    def follow(self, name: str) -> None:
        """Another benchmark or scale brings its own settings."""
        if name not in ("", "benchmark", "scale"):
            return
        settings = benchmark_settings(*(self.controls[n].value for n in ("benchmark", "scale")))
        self._own_weight = settings.weight("kernel")
        for field in FIELDS if name else ():
            value = self._own_weight if field == "kernel_weight" else getattr(settings, field)
            self.controls[field].value = OPEN[field] if value is None else value

    def refresh(self) -> None:
        """Look again, at the pace of a training while there is one."""
        self.pace = REST if self.training.busy else 0.0
        self._buttons()
        super().refresh()

    def _buttons(self) -> None:
        state, busy = self.training.state, self.training.busy
        self._start.disabled = busy
        self._pause.disabled = state not in ("training", "paused")
        self._pause.description = "Go on" if state == "paused" else "Pause"
        self._stop.disabled = not busy or state == "stopping"
        held = tuple(self.training.track.matrices) or ("–",)
        if held != self._view.options:
            chosen = self._view.value if self._view.value in held else held[0]
            self._view.options, self._view.value = held, chosen

    def _check(self) -> Settings:
        """The settings of the controls; ValueError for what cannot be, for any of the arms."""
        state = self.state
        if not state["arms"]:
            raise ValueError(f"arms: choose at least one of {', '.join(ARMS)}")
        fields = {name: state[name] for name in FIELDS}
        settings = benchmark_settings(state["benchmark"], state["scale"], **fields)
        for arm in state["arms"]:
            settings.replace(arm=arm)
        return replace(settings, seed=state["seed"])

    def _order(self) -> Order:
        state = self.state
        where = (state["benchmark"], state["scale"], state["arms"], state["seed"])
        places = self._places | {"runs_dir": runs_folder(self._places["runs_dir"])}
        return Order(*where, {name: state[name] for name in FIELDS}, **places)

    def _pictures(self, track: Track) -> dict[str, Picture]:
        """The arms so far, and the kernel matrices of the arm that the menu names."""
        arms = track.arms if track.of_teacher else track.order.arms
        shown = {arm: list(track.histories[arm]) for arm in arms if arm in track.histories}
        if not shown:
            return {}
        own = track.order.benchmark
        if isinstance(own, Benchmark):
            metric = own.metric.replace("test", "validation", 1)
        else:
            text = benchmark_settings(own, track.order.scale).vocabulary
            metric = "validation_perplexity" if text else "validation_accuracy"
        known = (dict(track.pulses), track.others, track.pulls)
        charts = {"curves": arms_so_far(shown, track.epochs, metric, *known)}
        if (arm := self._view.value) in track.matrices:
            taught, learnt = track.matrices[arm]
            now = alignment_or(math.nan, torch.from_numpy(learnt), torch.from_numpy(taught))
            title = f"Kernel matrices of {arm} and its teacher on one batch: alignment {now:.2f}"
            labels, names = track.labels, None
            if labels is None:  # of a text: nothing to sort by
                labels, names = np.zeros(len(taught), int), [""]
            pair = {"teacher": taught, arm: learnt}
            charts["matrices"] = kernel_matrices(pair, labels, title, names, "teacher")
        return {name: Picture.of(chart, self.training.busy) for name, chart in charts.items()}

    def __repr__(self) -> str:
        state = self.state
        default = benchmark_settings(state["benchmark"], state["scale"])
        said = {n: v for n, v in state.items() if n not in FIELDS or v != getattr(default, n)}
        said |= {name: str(v) for name, v in self._places.items() if v != PLACES[name]}
        words = {n: name_of(v) if isinstance(v, Benchmark) else repr(v) for n, v in said.items()}
        return f"DistillationExplorer({', '.join(f'{n}={word}' for n, word in words.items())})"

    def _ipython_display_(self) -> None:
        from IPython import get_ipython

        header = getattr(get_ipython(), "parent_header", None) or {}
        if cell := header.get("metadata", {}).get("cellId"):  # where Jupyter tells it
            before, _AT_WORK[cell] = _AT_WORK.get(cell), self.training
            if before is not None and before is not self.training:
                before.retire()  # its buttons are gone with the cell's old output
        super()._ipython_display_()


def _setting_controls(start: Settings) -> dict[str, W.Widget]:
    """A control for each of the settings."""
    layers = (OPEN["layers"], *range(1, 7))
    doses = (OPEN["kernel_dose"], *sorted({*DOSES, start.kernel_dose or DOSES[0]}))
    bandwidths = {OPEN["bandwidth"]: OPEN["bandwidth"], **{f"{b:.4g}": b for b in BANDWIDTHS}}

    def field(label: str, value: float, low: float, high: float, step: float) -> W.ValueWidget:
        return slider(label, value, low, high, step, (W.BoundedIntText, W.BoundedFloatText))

    return {
        "epochs": field("Epochs", start.epochs, 1, 1000, 1),
        "learning_rate": field("Learning rate", start.learning_rate, 0.0, 1e9, 1e-3),
        "temperature": field("Temperature", start.temperature, 0.0, 100.0, 0.5),
        "kd_weight": field("KD weight", start.kd_weight, 0.0, 1e6, 0.1),
        "distance_weight": field("Distance weight", start.distance_weight, 0.0, 1e6, 0.1),
        "angle_weight": field("Angle weight", start.angle_weight, 0.0, 1e6, 0.1),
        "kernel_weight": field("Kernel weight", start.weight("kernel"), 0.0, 1e6, 0.1),
        "kernel_dose": menu("Kernel dose", start.kernel_dose or OPEN["kernel_dose"], doses),
        "kernel": menu("Kernel", start.kernel, KERNELS.keys()),
        "feature_map": menu("Feature map", start.feature_map, FEATURE_MAPS.keys()),
        "qubits": slider("Qubits", start.qubits, 1, 12),
        "layers": menu("Layers", start.layers or OPEN["layers"], layers),
        "bandwidth": menu("Bandwidth", start.bandwidth or OPEN["bandwidth"], bandwidths),
        "encoder": menu("Encoder", start.encoder, ENCODERS.keys()),
    }


# ---- words


def progress(state: str, track: Track) -> str:
    """How far a training is, as HTML."""
    who = "the teacher" if track.of_teacher else ", ".join(track.arms)
    at = f"{who}: epoch {track.at:.1f} of {track.epochs}"
    said = {
        "loading": f"Starting. It waits for {track.waits}.",
        "training": f"Training {at}." + " The arms come after it." * track.of_teacher,
        "paused": f"Paused, {at}. Go on, or stop.",
        "stopping": f"Stopping, {at}." if track.epochs else "Stopping.",
        "stopped": _stopped(track),
        "done": "Done."
        + " Everything was on the disk: kernel matrices are drawn while arms train, so "
        "choose another seed to watch them." * (len(track.runs) == len(track.reused)),
        "failed": "Not everything came to its end.",
    }[state]
    return "".join([_paragraph(said), *map(wrong, track.failures)])


def _stopped(track: Track) -> str:
    """What stopping has left."""
    new = [run for run in track.runs if run.name not in track.reused]
    said = "nothing new is recorded: a teacher counts when it is whole, a student after an epoch"
    if new:
        epochs = len(new[0].history)
        said = f"recorded as runs of {epochs} epoch{'s' * (epochs > 1)}"
    return f"Stopped: {said}. Start goes on from where it was."


def _table(track: Track) -> str:
    """The recorded runs: the score to choose by, seconds, and where they are."""
    if not track.runs:
        return ""
    name = f"validation_{track.runs[0].metric['name'].removeprefix('test_')}"
    factor, unit = units(name)
    rows = [
        {"run": run.name, "epochs": len(run.history),
         name.replace("_", " "): f"{run.history[-1][name] * factor:.2f}{unit}",
         "training": f"{run.seconds['train']:.1f} s", "record": run.path or ""}
        | ({"training": "was on disk"} if run.name in track.reused else {})
        for run in track.runs
    ]  # fmt: skip
    said = "Test scores are in the records: choose by validation, and look at them last."
    return table(rows) + _paragraph(said)


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"
