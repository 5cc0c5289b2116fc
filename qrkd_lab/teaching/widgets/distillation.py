"""DistillationExplorer: arms race side by side; pause them, stop them, change what you like."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as W

from qrkd_lab.files import runs_folder
from qrkd_lab.kernels import KERNELS
from qrkd_lab.kernels.encoders import BANDWIDTHS, ENCODERS
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.studies.benchmarks import BENCHMARKS, SCALES, benchmark_settings
from qrkd_lab.studies.settings import ARMS, DEFAULT_ARMS, Settings
from qrkd_lab.studies.summary import units
from qrkd_lab.teaching.live import LiveRun, Order, Track
from qrkd_lab.teaching.plots.curves import arms_so_far, matrices_so_far
from qrkd_lab.teaching.plots.style import arm_grid
from qrkd_lab.teaching.widgets.explorer import (
    Explorer,
    Picture,
    Sight,
    button,
    menu,
    number,
    row,
    several,
    slider,
)

__all__ = [
    "DistillationExplorer",
    "FIELDS",
    "OPEN",
    "progress",
    "ready",
    "setting_controls",
    "wrong",
]


REST = 0.25  # seconds between two pictures of a training
_AT_WORK: dict[str, LiveRun] = {}  # cell of a notebook -> what it trains


class DistillationExplorer(Explorer):
    """Train the arms of one seed in lockstep, in a process of its own, and watch.

    Start takes what is on disk (records, and a checkpoint of a training that was stopped) and
    trains the rest; Stop records the last whole epoch as a run of its own. Records are those of
    :func:`~qrkd_lab.compare`, bit for bit.

    Args:
        benchmark: a name, or a folder of images or text; ``scale``: as for a study.
        arms: which train side by side.
        seed: of the runs.
        epochs, learning_rate, temperature, kd_weight, distance_weight, angle_weight,
            kernel_weight, kernel, feature_map, qubits, layers, bandwidth, encoder: fields of
            ``Settings``; None takes the benchmark's own. The field of the
            kernel's weight begins at qrkd's; as long as it stays there, each arm has its own.
        runs_dir: folder of the records, as for :func:`~qrkd_lab.compare`.
        data_dir: folder of the data; None: ``$QRKD_DATA_DIR``, else the user's cache.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ValueError: an unknown name or field (lists the choices), or a value out of range.
    """

    def __init__(
        self,
        benchmark: str = "digits",
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
        self._places = {"runs_dir": runs_dir, "data_dir": data_dir, "device": device}
        self.training = LiveRun(self.refresh)
        self._leave = False  # whether Stop was pressed, so that Start gets the keyboard back
        given = {name: value for name, value in settings.items() if value is not None}
        start = benchmark_settings(benchmark, scale, **given)
        own = () if benchmark in BENCHMARKS else (benchmark,)
        self._own_weight = benchmark_settings(benchmark, scale).weight("kernel")
        controls: dict[str, W.Widget] = {
            "benchmark": menu("Benchmark", benchmark, (*BENCHMARKS, *own)),
            "scale": menu("Scale", scale, SCALES),
            "arms": several("Arms", arms, tuple(ARMS)),
            "seed": slider("Seed", seed, 0, 20),
        } | setting_controls(start)
        self._start = button("Start", self.start, "Train what is not on disk yet")
        self._pause = button("Pause", self.pause, "Wait after the present step")
        self._stop = button("Stop", self.stop, "End now, and record the last whole epoch")
        self._view = menu("Matrices of", "–", ("–",))
        self._view.observe(self.refresh, "value")
        super().__init__(controls, self._rows(controls), pictures=("arms", "matrices"))
        for name in ("benchmark", "scale"):
            controls[name].observe(self._defaults, "value")
        self._buttons()

    def _rows(self, controls: dict[str, W.Widget]) -> list[Any]:
        first = W.VBox([controls[name] for name in ("benchmark", "scale", "seed")])
        return [
            row(first, controls["arms"]),
            ["epochs", "learning_rate", "temperature"],
            ["kd_weight", "distance_weight", "angle_weight", "kernel_weight"],
            ["kernel", "feature_map", "encoder"],
            ["qubits", "layers", "bandwidth"],
            [self._start, self._pause, self._stop, self._view],
        ]

    @property
    def state(self) -> dict[str, Any]:
        values = super().state
        values |= {name: None for name, word in OPEN.items() if values[name] == word}
        if values["kernel_weight"] == self._own_weight:
            values["kernel_weight"] = None  # left as it was: each arm's own
        return values

    def see(self) -> Sight:
        track, asked = self.training.track, self._order()
        if track.order is None:
            arms = self.state["arms"]
            settings = self._check()
            return Sight({"arms": Picture.of(arm_grid(arms))}, ready(asked, settings))
        words = progress(self.training.state, track)
        if asked != track.order:
            words += "<p>The controls have changed since: Start makes other runs.</p>"
            try:
                self._check()
            except ValueError as error:  # of the next training, not of this one
                words += wrong(str(error))
        return Sight(self._pictures(track), words)

    def start(self) -> None:
        """Train what the controls say, or find it on disk."""
        if self.training.busy:
            return
        try:
            self._check()
            self.training.start(self._order())
        except Exception as error:
            self.complain(error)
            return
        self.draw_in_background()
        self._stop.focus()  # Start is off now, and would leave the keyboard nowhere

    def pause(self) -> None:
        """Pause, or go on after a pause."""
        (self.training.go_on if self.training.state == "paused" else self.training.pause)()

    def stop(self) -> None:
        """End now; the last whole epoch is recorded."""
        self._leave = True
        self.training.stop()

    def close(self) -> None:
        """End the training process."""
        self.training.close()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until what was started has ended and is drawn; False if it takes longer."""
        return self.training.wait(seconds) and self.settle()

    def _check(self) -> Settings:
        """The settings of the controls; ValueError for what cannot be, for any of the arms."""
        state = self.state
        settings = benchmark_settings(
            state["benchmark"], state["scale"], **{name: state[name] for name in FIELDS}
        )
        if not state["arms"]:
            raise ValueError(f"arms: choose at least one of {', '.join(ARMS)}")
        for arm in state["arms"]:
            settings.replace(arm=arm)
        return replace(settings, seed=state["seed"])

    def _order(self) -> Order:
        state = self.state
        fields = {name: state[name] for name in FIELDS}
        where = (state["benchmark"], state["scale"], tuple(state["arms"]), state["seed"])
        places = self._places | {"runs_dir": runs_folder(self._places["runs_dir"])}
        return Order(*where, fields, **places)

    def _defaults(self, *_: object) -> None:
        """Another benchmark or scale: its own settings."""
        settings = benchmark_settings(self.state["benchmark"], self.state["scale"])
        self._own_weight = settings.weight("kernel")
        with self.together():
            for name in FIELDS:
                value = self._own_weight if name == "kernel_weight" else getattr(settings, name)
                self.controls[name].value = OPEN[name] if value is None else value

    def refresh(self, *_: object) -> None:
        self.pace = REST if self.training.busy else 0.0
        self._buttons()
        super().refresh()

    def _buttons(self) -> None:
        state, busy = self.training.state, self.training.busy
        self._start.disabled = busy
        self._pause.disabled = state not in ("training", "paused")
        self._pause.description = "Go on" if state == "paused" else "Pause"
        self._stop.disabled = not busy or state == "stopping"
        if self._leave and not busy:
            self._leave = False
            self._start.focus()
        held = tuple(arm for arm in self.training.track.matrices) or ("–",)
        if held != self._view.options:
            chosen = self._view.value if self._view.value in held else held[0]
            self._view.options, self._view.value = held, chosen

    def _pictures(self, track: Track) -> dict[str, Picture]:
        """The arms so far, and the kernel matrices of the arm that the menu names."""
        arms = track.arms if track.of_teacher else track.order.arms
        shown = {arm: list(track.histories[arm]) for arm in arms if arm in track.histories}
        if not shown:
            return {}
        settings = benchmark_settings(track.order.benchmark, track.order.scale)
        metric = "validation_perplexity" if settings.vocabulary else "validation_accuracy"
        picture = Picture.quickly if self.training.busy else Picture.of
        curves = arms_so_far(shown, track.epochs, metric, dict(track.pulses))
        arm = self._view.value
        if arm not in track.matrices:
            return {"arms": picture(curves), "matrices": Picture()}
        pair, seen = track.matrices[arm], dict(track.alignments)  # copies: more may come meanwhile
        matrices = matrices_so_far(*pair, arm, track.labels, seen, track.epochs)
        return {"arms": picture(curves), "matrices": picture(matrices)}

    def __repr__(self) -> str:
        state, said = self.state, []
        default = benchmark_settings(state["benchmark"], state["scale"])
        for name, value in state.items():
            if name not in FIELDS or value != getattr(default, name):
                said.append(f"{name}={value!r}")
        for name, value in self._places.items():
            if value != {"runs_dir": None, "data_dir": None, "device": "auto"}[name]:
                said.append(f"{name}={str(value)!r}")
        return f"DistillationExplorer({', '.join(said)})"

    def _ipython_display_(self) -> None:
        cell = _cell()
        if (
            cell
            and (before := _AT_WORK.pop(cell, None)) is not None
            and before is not self.training
        ):
            before.retire()  # its buttons are gone with the cell's old output
        if cell:
            _AT_WORK[cell] = self.training
        super()._ipython_display_()


def _cell() -> str | None:
    """The id of the notebook cell that is running, where Jupyter tells it."""
    from IPython import get_ipython

    shell = get_ipython()
    header = getattr(shell, "parent_header", None) or {}
    return header.get("metadata", {}).get("cellId") if isinstance(header, dict) else None


# ---- progress_words


_CELL = '<td style="padding: 0 0.7em">'


def ready(order: Order, settings: Settings) -> str:
    """What Start would do."""
    arms = ", ".join(order.arms)
    return _paragraph(
        f"Ready: {arms} on {order.benchmark} ({order.scale}), seed {order.seed}, "
        f"{settings.epochs} epochs each, after their teacher. Press Start; what is on disk already "
        f"in {order.runs_dir} is not trained again."
    )


def progress(state: str, track: Track) -> str:
    """How far a training is, and what it has recorded."""
    who = "the teacher" if track.of_teacher else ", ".join(track.arms)
    at = f"{who}: epoch {track.at:.1f} of {track.epochs}"
    said = {
        "loading": "Starting: the process, the data, the teacher.",
        "training": f"Training {at}." + " The arms come after it." * track.of_teacher,
        "paused": f"Paused, {at}. Go on, or stop.",
        "stopping": "Stopping." if not track.epochs else f"Stopping, {at}.",
        "stopped": _stopped(track, at),
        "done": "Done."
        + " Everything was on the disk: kernel matrices are drawn while arms train, so "
        "choose another seed to watch them." * (len(track.runs) == len(track.reused)),
        "failed": "Not everything came to its end.",
    }[state]
    notes = "".join(map(_paragraph, track.notes)) + "".join(map(wrong, track.failures))
    return f"{_paragraph(said)}{notes}{_table(track)}"


def wrong(text: str) -> str:
    """Something that is wrong."""
    return f'<p class="qrkd-wrong" role="alert">{html.escape(text)}</p>'


def _stopped(track: Track, at: str) -> str:
    """What stopping has left."""
    new = [run for run in track.runs if run.name not in track.reused]
    if new:
        epochs = len(new[0].history)
        word = "epoch" if epochs == 1 else "epochs"
        return f"Stopped: recorded as runs of {epochs} {word}. Start goes on from where it was."
    if not track.epochs:
        return "Stopped before anything was trained."
    return (
        f"Stopped, {at}: nothing new is recorded, as "
        + ("a teacher counts when it is whole" if track.of_teacher else "no epoch was completed")
        + ". Start goes on from where it was."
    )


def _table(track: Track) -> str:
    """The recorded runs: the score to choose by, seconds, and where they are."""
    if not track.runs:
        return ""
    rows, name = [], f"validation_{track.runs[0].metric['name'].removeprefix('test_')}"
    factor, unit = units(name)
    for run in track.runs:
        how = "was on disk" if run.name in track.reused else f"{run.seconds['train']:.1f} s"
        score = f"{run.history[-1][name] * factor:.2f}{unit}"
        cells = [run.name, f"{len(run.history)}", score, how]
        cells.append("" if run.path is None else str(run.path))
        rows.append("".join(f"{_CELL}{html.escape(cell)}</td>" for cell in cells))
    heads = "".join(
        f'<th scope="col" style="padding: 0 0.7em">{head}</th>'
        for head in ("run", "epochs", name.replace("_", " "), "training", "record")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    said = _paragraph(
        "Test scores are in the records: choose by validation, and look at them last."
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{said}"


def _paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


# ---- setting_controls


FIELDS = (
    "epochs", "learning_rate", "temperature", "kd_weight", "distance_weight", "angle_weight",
    "kernel_weight", "kernel", "feature_map", "qubits", "layers", "bandwidth", "encoder",
)  # fmt: skip
OPEN = {"layers": "the map's own", "bandwidth": "by the rule"}  # what a menu says for None
LAYERS = (OPEN["layers"], *range(1, 7))
RULE = {OPEN["bandwidth"]: OPEN["bandwidth"], **{f"{b:.4g}": b for b in BANDWIDTHS}}


def setting_controls(start: Settings) -> dict[str, W.Widget]:
    """A control for each of the settings."""
    return {
        "epochs": number("Epochs", start.epochs, 1, 1000),
        "learning_rate": number("Learning rate", start.learning_rate, 0.0, 1e9, 1e-3),
        "temperature": number("Temperature", start.temperature, 0.0, 100.0, 0.5),
        "kd_weight": number("Weight of kd", start.kd_weight, 0.0, 1e6, 0.1),
        "distance_weight": number("of distances", start.distance_weight, 0.0, 1e6, 0.1),
        "angle_weight": number("of angles", start.angle_weight, 0.0, 1e6, 0.1),
        "kernel_weight": number("of the kernel", start.weight("kernel"), 0.0, 1e6, 0.1),
        "kernel": menu("Kernel", start.kernel, tuple(KERNELS)),
        "feature_map": menu("Feature map", start.feature_map, tuple(FEATURE_MAPS)),
        "qubits": slider("Qubits", start.qubits, 1, 12),
        "layers": menu("Layers", start.layers or OPEN["layers"], LAYERS),
        "bandwidth": menu("Bandwidth", start.bandwidth or OPEN["bandwidth"], RULE),
        "encoder": menu("Encoder", start.encoder, tuple(ENCODERS)),
    }
