"""RelationExplorer: move points in the plane, and see what distances, angles and a kernel see."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ipywidgets as W
from numpy.typing import ArrayLike
from torch import Tensor

from qrkd_lab.relations import whole
from qrkd_lab.teaching import experiments as pulls
from qrkd_lab.teaching.experiments import CHANGES, as_points, changed, size_of, teacher_points
from qrkd_lab.teaching.plots.relations import RelationPanel
from qrkd_lab.teaching.widgets.explorer import (
    Explorer,
    Picture,
    Sight,
    button,
    choice,
    menu,
    slider,
)

__all__ = [
    "RelationExplorer",
]


OWN = "own"  # the change that is none of CHANGES: by hand or downhill
FEWEST, MOST, SEEDS = 3, 8, 20
HEAVIEST, SHORTEST, LONGEST = 5.0, 0.05, 3.0  # of weights and of steps


class RelationExplorer(Explorer):
    """A teacher's and a student's points, their relations, the losses, and where these pull.

    Args:
        points: of the teacher: how many, 3 to 8, drawn from ``seed``; or points ``(n, 2)``.
        seed: 0 to 20, of the teacher's points and of the random places.
        preset: how the student's points differ, one of ``CHANGES``.
        strength: how far the change went, 0 to 1.
        student: points ``(n, 2)`` of the student, instead of a preset.
        point: number of the point that the sliders x and y move.
        distance, angle, kernel: weights of the losses, 0 to 5.
        step: of :func:`~qrkd_lab.teaching.experiments.downhill`, 0.05 to 3.

    Raises:
        ValueError: points that are not finite ``(n, 2)`` with n >= 3, a student with another n or
            together with a preset, an unknown preset (lists them), or a number out of its range.

    Example:
        >>> RelationExplorer(preset="rotation", strength=0.5).losses["distance"] < 1e-6
        True
    """

    def __init__(
        self,
        points: int | ArrayLike = 5,
        seed: int = 0,
        preset: str = "same",
        strength: float = 1.0,
        student: ArrayLike | None = None,
        point: int = 0,
        distance: float = 1.0,
        angle: float = 2.0,
        kernel: float = 0.0,
        step: float = 0.5,
    ) -> None:
        self._drawn = _is_number(points)
        seed = whole("seed", seed, 0, SEEDS)
        n = whole("points", points, FEWEST, MOST) if self._drawn else FEWEST
        self._teacher = teacher_points(n, seed) if self._drawn else as_points(points)
        self._student = self._rounded(_start(self._teacher, preset, strength, student, seed))
        self._path: list[Tensor] = []
        self._losses: list[float] = []
        self._panel, self._following = RelationPanel(), False
        point = whole("point", point, 0, len(self._teacher) - 1)
        weights = {"distance": distance, "angle": angle, "kernel": kernel}
        controls = {
            "preset": menu("Change", preset if student is None else OWN, _changes()),
            "strength": _slider("How far (0 to 1)", strength, 0.0, 1.0, 0.05),
            "point": menu("Move point", point, range(len(self._teacher))),
            # A slider over real numbers would report a rounded value back when it is set.
            "x": choice("x", 0.0, [0.0]),
            "y": choice("y", 0.0, [0.0]),
            **{
                name: _slider(f"{name.capitalize()} weight", weight, 0.0, HEAVIEST, 0.1)
                for name, weight in weights.items()
            },
            "step": _slider("Step", step, SHORTEST, LONGEST, 0.05),
            "points": slider("Points", n, FEWEST, MOST),
            "seed": slider("Seed", seed, 0, SEEDS),
        }
        one = button("One step downhill", self.downhill, "Move every point along its arrow")
        ten = button("Ten steps", lambda: self.downhill(10), "Ten steps downhill, one by one")
        back = button("Back to the teacher's points", self.back, "Undo every change")
        rows = [
            ["preset", "strength", back],
            ["point", "x", "y"],
            list(pulls.RELATIONS),
            ["step", one, ten],
            ["points", "seed"] if self._drawn else ["seed"],
        ]
        super().__init__(controls, rows)
        with self._follow():
            pass  # the sliders show the point

    def see(self) -> Sight:
        found = pulls.pull(self._student, self._teacher, self._weights)
        points, point = (self._student, self._teacher), self.controls["point"].value
        panel = self._panel.draw_points(*points, found, self._path, self._losses, point)
        return Sight({"picture": Picture.again(panel)}, f"<p>{'<br>'.join(self._lines(found))}</p>")

    @property
    def student(self) -> Tensor:
        """The student's points ``(n, 2)``, a copy."""
        return self._student.clone()

    @property
    def losses(self) -> dict[str, float]:
        """Relation to its loss, without weight."""
        return dict(pulls.pull(self._student, self._teacher, self._weights).losses)

    @property
    def state(self) -> dict[str, Any]:
        values = {name: control.value for name, control in self.controls.items()}
        del values["x"], values["y"]  # they follow from student and point
        if values["preset"] == OWN:
            values["student"] = self._student.tolist()
        if values["preset"] in ("same", OWN):
            del values["strength"]
        if values["preset"] == OWN:
            del values["preset"]
        if not self._drawn:
            values["points"] = self._teacher.tolist()
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in values.items()
        }

    def downhill(self, steps: int = 1) -> None:
        """Move the student's points against the gradient."""
        if not any(self._weights.values()):
            return self.refresh()  # which says that nothing pulls
        step = self.controls["step"].value
        with self.lock, self._follow():
            path, losses = pulls.downhill(self._student, self._teacher, self._weights, step, steps)
            self._path += path[:-1]
            self._losses = self._losses[:-1] + losses
            self._student = self._rounded(path[-1])
            self.controls["preset"].value = OWN
        self.refresh()

    def back(self) -> None:
        """The teacher's points again, in their places."""
        with self.lock, self._follow():
            self.controls["preset"].value = "same"
            self._change()
        self.refresh()

    def refresh(self, *changes: Any) -> None:  # noqa: ANN401
        """Look again; first what hangs together with the control that moved."""
        names = [self._name(change) for change in changes]
        if self._following:
            return
        with self.lock, self._follow():
            for name in names:
                self._answer(name)
        super().refresh()

    @contextmanager
    def _follow(self) -> Iterator[None]:
        """Controls set inside follow the points and not the other way; after it all agree."""
        self._following = True
        try:
            yield
            self._place_sliders()
        finally:
            self._following = False

    def _answer(self, name: str) -> None:
        """Points follow the control of this name."""
        if name in ("points", "seed"):
            self._draw_teacher()
        elif name in ("preset", "strength"):
            self._change()
        elif name in ("x", "y"):
            point = self.controls["point"].value
            self._student[point, "xy".index(name)] = self.controls[name].value
            self._student = self._rounded(self._student)
            self.controls["preset"].value = OWN
            self._forget()
        elif name in pulls.RELATIONS:
            self._forget()  # another loss: its fall so far says nothing

    def _draw_teacher(self) -> None:
        """Another number of points, or another seed."""
        if self._drawn:
            n, point = self.controls["points"].value, self.controls["point"]
            self._teacher = teacher_points(n, self.controls["seed"].value)
            chosen = min(point.value, n - 1)
            point.options = list(range(n))
            point.value = chosen
            if self.controls["preset"].value == OWN:
                self.controls["preset"].value = "same"
        self._change()

    def _change(self) -> None:
        """The student's points as the preset makes them; its own stay."""
        preset, values = self.controls["preset"].value, self.controls
        if preset != OWN:
            made = changed(self._teacher, preset, values["strength"].value, values["seed"].value)
            self._student = self._rounded(made)
        self._forget()

    def _forget(self) -> None:
        self._path, self._losses = [], []

    def _place_sliders(self) -> None:
        """x and y show the chosen point, with room to move it."""
        centre, size = self._teacher.mean(0), size_of(self._teacher)
        away = (self._student - centre).abs().max().item() / size
        reach = 2 * size * 2 ** max(0, math.ceil(math.log2(max(away, 1) / 2)))
        place = self._student[self.controls["point"].value]
        pace = 10.0 ** round(math.log10(size / 100))
        for name, *numbers in zip("xy", place.tolist(), centre.tolist(), strict=True):
            control = self.controls[name]
            value, middle, way = (round(number / pace) for number in (*numbers, reach))
            options = [round(i * pace, 12) for i in range(middle - way, middle + way + 1)]
            with control.hold_sync():
                if options != list(control.options):
                    control.options = options
                control.index = min(max(value - middle + way, 0), 2 * way)
        self.controls["strength"].disabled = self.controls["preset"].value in ("same", OWN)

    def _name(self, change: Any) -> str:  # noqa: ANN401
        return next(name for name, control in self.controls.items() if control is change["owner"])

    @property
    def _weights(self) -> dict[str, float]:
        return {name: self.controls[name].value for name in pulls.RELATIONS}

    def _rounded(self, points: Tensor) -> Tensor:
        """To four digits of the teacher's size, so that the call that makes them is exact."""
        return points.round(decimals=4 - round(math.log10(size_of(self._teacher))))

    def _lines(self, found: pulls.Pull) -> Sequence[str]:
        """What sees the change; the loss by term; the pull."""
        preset, size = self.controls["preset"].value, size_of(self._teacher)
        how = "moved by hand or downhill"
        if preset != OWN:
            how = CHANGES[preset].words(self.controls["strength"].value)
        said = pulls.verdict(self._student, self._teacher, found.losses)
        odd = pulls.remark(self._student, self._teacher, found)
        force = f"{pulls.force_in_words(found, size)} {odd or pulls.fall_in_words(self._losses)}"
        return (
            f"<b>{html.escape(said)}.</b> ({how})",
            html.escape(pulls.loss_in_words(found)),
            html.escape(force.strip()) or "&nbsp;",
        )


def _changes() -> dict[str, str]:
    """Text in the menu to name."""
    return {change.label: name for name, change in CHANGES.items()} | {"by hand or downhill": OWN}


def _slider(label: str, value: float, low: float, high: float, pace: float) -> W.ValueWidget:
    """A slider with steps so fine that the value is one: a browser would move it to the next."""
    while (
        math.isfinite(value)
        and pace > 1e-4
        and abs(round((value - low) / pace) * pace + low - value) > 1e-9
    ):
        pace /= 10
    return slider(label, float(value), low, high, pace)


def _is_number(points: object) -> bool:
    return not hasattr(points, "__len__") or isinstance(points, str)


def _start(
    teacher: Tensor, preset: str, strength: float, student: ArrayLike | None, seed: int
) -> Tensor:
    """The student's points as the arguments say."""
    if student is None:
        if preset == OWN:
            raise ValueError(f"preset {OWN!r}: give the student's points, student=[[x, y], ...]")
        return changed(teacher, preset, strength, seed)
    if preset not in ("same", OWN):
        raise ValueError(f"give either student=... or preset={preset!r}, not both")
    return as_points(student, "student", len(teacher))
