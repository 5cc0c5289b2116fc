"""RelationExplorer: move points in the plane, and see what distances, angles and a kernel see."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import ipywidgets as W
from numpy.typing import ArrayLike
from torch import Tensor

from qrkd_lab.checks import whole
from qrkd_lab.teaching import plane
from qrkd_lab.teaching.plane import CHANGES, as_points, changed, size_of, teacher_points
from qrkd_lab.teaching.plots.relations import RelationPanel
from qrkd_lab.teaching.widgets.explorer import Explorer, Picture, button, menu, slider

__all__ = ["RelationExplorer"]

OWN = "own"  # the change that is none of CHANGES
LABELS = {
    "same": "none", "line": "collapse to a line", "point": "collapse to a point",
    "coincident": "two points coincide", "swap": "two points swap places",
    "random": "random places", OWN: "by hand or downhill",
}  # fmt: skip
FEWEST, MOST, SEEDS = 3, 8, 20
NEAR = 0.35  # of the teacher's size: how far from its middle a point can be taken
# The page says when a drag began, where, and where it is now, in shares of the picture's size.
_DRAG = """
let start = null;
const place = event => {
  const {left, top, width, height} = event.target.getBoundingClientRect();
  return `${(event.clientX - left) / width} ${(event.clientY - top) / height}`;
};
box.addEventListener('dragstart', event => event.preventDefault());
box.addEventListener('pointerdown', event => {
  if (!event.target.matches('img.qrkd-picture')) return;
  start = `${event.timeStamp} ${place(event)}`;
  event.target.setPointerCapture(event.pointerId);
});
box.addEventListener('pointermove', event => {
  if (start === null) return;
  const field = box.querySelector('.qrkd-drag input');
  field.value = `${start} ${place(event)}`;
  field.dispatchEvent(new Event('input', {bubbles: true}));
});
for (const end of ['pointerup', 'pointercancel'])
  box.addEventListener(end, () => { start = null; });
"""
HEAVIEST, SHORTEST, LONGEST = 5.0, 0.05, 3.0  # of weights and of steps
PLACES = 200  # of the sliders x and y, to each side of the middle


class RelationExplorer(Explorer):
    """A teacher's and a student's points, their relations, the losses, and where these pull.

    A point of the student is moved with the mouse, or by the sliders x and y.

    Args:
        points: of the teacher: how many, 3 to 8, drawn from ``seed``; or points ``(n, 2)``.
        seed: 0 to 20, of the teacher's points and of the random places.
        preset: how the student's points differ, one of ``CHANGES``.
        strength: how far the change went, 0 to 1.
        student: points ``(n, 2)`` of the student, instead of a preset.
        point: number of the point that the sliders x and y move.
        distance, angle, kernel: weights of the losses, 0 to 5.
        step: of :func:`~qrkd_lab.teaching.plane.downhill`, 0.05 to 3.

    Raises:
        ValueError: points that are not finite ``(n, 2)`` with n >= 3, a student with another n, an
            unknown preset (lists them), or a number out of its range.

    Example:
        >>> RelationExplorer(preset="rotation", strength=0.5).student.shape
        torch.Size([5, 2])
    """

    script = _DRAG

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
        self._drawn = not hasattr(points, "__len__") or isinstance(points, str)
        seed = whole("seed", seed, 0, SEEDS)
        n = whole("points", points, FEWEST, MOST) if self._drawn else FEWEST
        self._teacher = teacher_points(n, seed) if self._drawn else as_points(points)
        if student is None:
            self._move(changed(self._teacher, preset, strength, seed))
        else:
            self._move(as_points(student, "student", len(self._teacher)))
        self._panel = RelationPanel()
        point = whole("point", point, 0, len(self._teacher) - 1)
        changes = {LABELS.get(name, name): name for name in (*CHANGES, OWN)}
        weights = {"distance": distance, "angle": angle, "kernel": kernel}
        controls = {
            "preset": menu("Change", preset if student is None else OWN, changes),
            "strength": slider("How far (0 to 1)", strength, 0.0, 1.0, 0.05),
            "point": menu("Move point", point, range(len(self._teacher))),
            # A slider over real numbers would report a rounded value back when it is set.
            "x": menu("x", 0.0, [0.0], W.SelectionSlider),
            "y": menu("y", 0.0, [0.0], W.SelectionSlider),
            **{
                name: slider(f"{name.capitalize()} weight", weight, 0.0, HEAVIEST, 0.1)
                for name, weight in weights.items()
            },
            "step": slider("Step", step, SHORTEST, LONGEST, 0.05),
            "points": slider("Points", n, FEWEST, MOST),
            "seed": slider("Seed", seed, 0, SEEDS),
        }
        one = button("One step downhill", self.downhill, "Move every point along its arrow")
        ten = button("Ten steps", lambda: self.downhill(10), "Ten steps downhill, one by one")
        back = button("Back to the teacher's points", self.back, "Undo every change")
        column = [
            "preset", "strength", back, "point", "x", "y", *weights, "step", W.HBox([one, ten]),
            *["points"] * self._drawn, "seed",
        ]  # fmt: skip
        self._drag, self._held = W.Text(layout={"display": "none"}).add_class("qrkd-drag"), None
        self._drag.observe(lambda change: self.drag(*map(float, change["new"].split())), "value")
        super().__init__(controls, [*column, self._drag])

    def drag(self, begun: float, x0: float, y0: float, x: float, y: float) -> None:
        """Move the point at (x0, y0) to (x, y), in shares of the picture's width and height.

        All moves of one drag share the moment when it has ``begun``, and move the same point.
        """
        with self.lock:
            if self._held is None or self._held[0] != begun:
                ways = self._student - self._student.new_tensor(self._panel.on_map(x0, y0))
                far, point = ways.norm(dim=1).min(0)
                near = far.item() < NEAR * size_of(self._teacher)
                self._held = begun, point.item() if near else None
            if (point := self._held[1]) is not None:
                student = self.student
                student[point] = student.new_tensor(self._panel.on_map(x, y))
                self._move(student)
                self.set_to(preset=OWN, point=point)

    def see(self) -> None:
        found = plane.pull(self._student, self._teacher, self._weights)
        points, point = (self._student, self._teacher), self.controls["point"].value
        panel = self._panel.draw_points(*points, found, self._path, self._losses, point)
        lines = (
            f"<b>{html.escape(plane.verdict(*points, found.losses))}.</b>",
            html.escape(plane.loss_in_words(found)),
            html.escape(plane.remark(*points, found)) or "&nbsp;",
        )
        self.show(f"<p>{'<br>'.join(lines)}</p>", picture=Picture.of(panel))

    @property
    def student(self) -> Tensor:
        """The student's points ``(n, 2)``, a copy."""
        return self._student.clone()

    @property
    def state(self) -> dict[str, Any]:
        values = super().state
        del values["x"], values["y"]  # they follow from student and point
        if values["preset"] in ("same", OWN):
            del values["strength"]
        if values["preset"] == OWN:
            values["student"] = self._student.tolist()
            del values["preset"]
        if not self._drawn:
            values["points"] = self._teacher.tolist()
        return {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in values.items()
        }

    def downhill(self, steps: int = 1) -> None:
        """Move the student's points against the gradient."""
        step = self.controls["step"].value
        if not any(self._weights.values()):
            return self.refresh()  # which says that nothing pulls
        with self.lock:
            path, losses = plane.downhill(self._student, self._teacher, self._weights, step, steps)
            self._move(path[-1], self._path + path[:-1], self._losses[:-1] + losses)
            self.set_to(preset=OWN)

    def back(self) -> None:
        """The teacher's points again, in their places."""
        self.set_to(preset="same")

    def follow(self, name: str) -> None:
        """Points follow the control that has changed, then other controls the points."""
        point, preset = self.controls["point"], self.controls["preset"]
        with self.lock:
            if name in ("points", "seed") and self._drawn:
                n, chosen = self.controls["points"].value, point.value
                self._teacher = teacher_points(n, self.controls["seed"].value)
                point.options = range(n)
                point.value = min(chosen, n - 1)
                preset.value = "same" if preset.value == OWN else preset.value
            if name in ("points", "seed", "preset", "strength") and preset.value != OWN:
                knobs = (self.controls[n].value for n in ("strength", "seed"))
                self._move(changed(self._teacher, preset.value, *knobs))
            elif name in ("x", "y"):
                student, preset.value = self.student, OWN
                student[point.value, "xy".index(name)] = self.controls[name].value
                self._move(student)
            elif name in plane.RELATIONS:
                self._move(self._student)  # another loss: its fall so far says nothing
            self._place_sliders()

    def _move(
        self, points: Tensor, path: Sequence[Tensor] = (), losses: Sequence[float] = ()
    ) -> None:
        """Put the student's points there, and forget the way, or remember this one.

        To four digits of the teacher's size, so that the call that makes them is exact.
        """
        self._student = points.round(decimals=4 - round(math.log10(size_of(self._teacher))))
        self._path, self._losses = list(path), list(losses)

    def _place_sliders(self) -> None:
        """x and y show the chosen point, with room to move it, and always as many choices.

        If the number of choices changed, the page would still use the first number.
        """
        centre, least = self._teacher.mean(0), 2 * size_of(self._teacher) / PLACES
        away = (self._student - centre).abs().max().item()
        while (pace := _rounded_up(least)) * (PLACES + 1) < away:
            least *= 2
        place = self._student[self.controls["point"].value]
        for name, *numbers in zip("xy", place.tolist(), centre.tolist(), strict=True):
            control = self.controls[name]
            value, middle = (round(number / pace) for number in numbers)
            ways = range(middle - PLACES, middle + PLACES + 1)
            options = [round(i * pace, 12) for i in ways]
            with control.hold_sync():
                if options != list(control.options):
                    control.options = options
                control.index = min(max(value - ways[0], 0), 2 * PLACES)
        self.controls["strength"].disabled = self.controls["preset"].value in ("same", OWN)

    @property
    def _weights(self) -> dict[str, float]:
        return {name: self.controls[name].value for name in plane.RELATIONS}


def _rounded_up(number: float) -> float:
    """Rounded up to one digit, but down if it is less than a twentieth above that."""
    unit = 10.0 ** math.floor(math.log10(number))
    return math.ceil(number / unit - 0.05) * unit
