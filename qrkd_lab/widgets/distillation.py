"""DistillationExplorer: arms race side by side; pause them, stop them, change what you like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ipywidgets as W

from qrkd_lab.arms import ARMS, DEFAULT_ARMS
from qrkd_lab.benchmarks import BENCHMARKS, SCALES, benchmark_settings
from qrkd_lab.live import LiveRun, Order, Track
from qrkd_lab.plots import arm_grid, arms_so_far, matrices_so_far
from qrkd_lab.settings import Settings
from qrkd_lab.storage import runs_folder
from qrkd_lab.widgets.controls import button, menu, row, several, slider
from qrkd_lab.widgets.explorer import Explorer, Sight
from qrkd_lab.widgets.pictures import Picture
from qrkd_lab.widgets.progress_words import progress, ready, wrong
from qrkd_lab.widgets.setting_controls import FIELDS, OPEN, setting_controls

__all__ = ["DistillationExplorer"]

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
            :class:`~qrkd_lab.settings.Settings`; None takes the benchmark's own. The field of the
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
