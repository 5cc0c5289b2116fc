"""Points in the plane, their relations, and where the losses pull them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.collections import LineCollection
from torch import Tensor
from torch.nn.functional import normalize

from qrkd_lab.losses import normalised_distances
from qrkd_lab.relations import triplet_angles
from qrkd_lab.teaching.plane import MOST, SEEN, Pull, encoded, plane_kernel, size_of, verdict
from qrkd_lab.teaching.plots.matrices import RedrawnChart
from qrkd_lab.teaching.plots.style import INK, arm_style, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text


__all__ = ["NumberedPoints", "RelationPanel"]


LINE, BEHIND = "#BBBBBB", "#D5D5D5"
TEACHER, STUDENT = arm_style("teacher"), arm_style("rkd")


def _distinct(relation: Tensor) -> np.ndarray:
    """Values over different samples: pairs i < j, or triples with i < k and j another."""
    n = relation.shape[-1]
    pairs = torch.ones(n, n, dtype=torch.bool).triu(1)
    if relation.ndim == 3:
        same = torch.eye(n, dtype=torch.bool)
        pairs = pairs[None] & ~same[:, :, None] & ~same[:, None, :]
    return relation[pairs].cpu().double().numpy()


class NumberedPoints:
    """Numbered points, in their order joined to a closed line, that can be moved."""

    def __init__(self, axes: Axes, colour: str) -> None:
        (self._line,) = axes.plot([], [], color=LINE, lw=1, zorder=1)
        (self._dots,) = axes.plot([], [], "o", ms=12, mew=0, color=colour, zorder=2)
        style = {"ha": "center", "va": "center", "fontsize": 8, "zorder": 4}
        self._texts: list[Text] = [
            axes.annotate("", (0, 0), (0, 0), textcoords="offset points", **style)
            for _ in range(MOST)
        ]
        self.artists = [self._line, self._dots, *self._texts]

    def draw(self, points: Tensor) -> None:
        """At these places; three points or more in one place have their numbers above it."""
        self._line.set_data(*torch.cat([points, points[:1]]).T.numpy())
        self._dots.set_data(*points.T.numpy())
        near = 1e-3 * max(1e-9, (points.max() - points.min()).item())
        places: dict[tuple[int, ...], list[int]] = {}
        for i, place in enumerate(points.tolist()):
            places.setdefault(tuple(round(v / near) for v in place), []).append(i)
        groups = list(places.values())
        for text, group in zip(self._texts, groups, strict=False):
            inside, text.xy = len(group) <= 2, points[group[0]].tolist()
            text.set_position((0, 0 if inside else 12))
            text.set(text=",".join(map(str, group)), color="white" if inside else INK, visible=True)
            text.set_fontsize(6.5 if len(group) == 2 else 8)
        for text in self._texts[len(groups) :]:
            text.set_visible(False)


ARROW = arm_style("qrkd")["color"]
ROOM = 2.2  # half the width of a map of points, in sizes; the sliders go to 2
REACH, LONGEST = 3.0, 0.9  # an arrow's length: of a gradient 1 / size, and at most, in sizes
SCATTERS = {"distance": "distances / mean", "angle": "cosines of angles", "kernel": "kernel values"}


class RelationPanel(RedrawnChart):
    """What do distances, angles and a kernel see of a student, and where do they pull it?"""

    def __init__(self) -> None:
        super().__init__(10.6, 4.0)
        left, right = self.subfigures(1, 2, width_ratios=(6.6, 4.0))
        taught, learnt = left.subplots(1, 2, sharex=True, sharey=True)
        grid = right.subplots(2, 2).flatten()
        self._scatters = dict(zip(SCATTERS, grid[:3], strict=True))
        history = grid[3]
        for axes in (taught, learnt):
            quiet(axes, "", "", grid="both").tick_params(labelsize=8)
            axes.set_aspect("equal")
        for axes in grid:
            quiet(axes, "teacher's", "student's", grid="both").tick_params(labelsize=7.5)
            axes.xaxis.label.set_size(8.5)
            axes.yaxis.label.set_size(8.5)
        history.set(xlabel="step", ylabel="loss / start")
        self._maps, self._history = (taught, learnt), history
        self._teacher = NumberedPoints(taught, TEACHER["color"])
        self._student = NumberedPoints(learnt, STUDENT["color"])
        style = {"color": BEHIND, "lw": 1}
        (self._behind,) = learnt.plot([], [], marker="o", ms=7, mew=0, zorder=0, **style)
        self._trail = LineCollection([], color=STUDENT["color"], lw=1, alpha=0.5, zorder=0.5)
        learnt.add_collection(self._trail, autolim=False)
        (self._chosen,) = learnt.plot([], [], "o", ms=17, mfc="none", mec=INK, mew=1, zorder=2.5)
        self._arrows = learnt.quiver(
            *np.zeros((4, MOST)), angles="xy", scale_units="xy", scale=1, color=ARROW, width=0.012,
            headlength=3.5, headaxislength=3.5, minlength=0, zorder=1.5,
        )  # fmt: skip
        dots = {"ls": "", "marker": "o", "ms": 4, "mew": 0, "alpha": 0.45}
        self._dots = {}
        for name, axes in self._scatters.items():
            axes.axline((0, 0), slope=1, color=INK, lw=0.8, ls="--", zorder=1)
            (self._dots[name],) = axes.plot([], [], color=STUDENT["color"], **dots)
            axes.set_box_aspect(1)
        _both(self._scatters["angle"], (-1.08, 1.08), (-1, 0, 1))
        _both(self._scatters["kernel"], (-0.05, 1.05), (0, 0.5, 1))
        (self._fall,) = history.plot([], [], color=ARROW, lw=1.6, marker=".", ms=4)
        places = [taught, learnt, *self._scatters.values(), history]
        self._titles = self.titles(places, size=9.5)
        self._limits: tuple[float, ...] = ()
        self.moves(self._behind, self._trail, self._arrows, self._chosen, *self._teacher.artists)
        self.moves(*self._student.artists, *self._dots.values(), self._fall)

    def draw_points(
        self,
        student: Tensor,
        teacher: Tensor,
        found: Pull,
        path: Sequence[Tensor] = (),
        losses: Sequence[float] = (),
        chosen: int | None = None,
    ) -> RelationPanel:
        """Set the panel to these points; returns the panel.

        Args:
            student, teacher: points ``(n, 2)``, 3 to 20.
            found: of :func:`~qrkd_lab.teaching.plane.pull` at the student's points.
            path: where these came from, as of :func:`~qrkd_lab.teaching.plane.downhill`.
            losses: at each place of the path, and at the student's points.
            chosen: a point to draw a ring around.
        """
        size = size_of(teacher)
        relations = {
            "distance": normalised_distances,
            "angle": triplet_angles,
            "kernel": lambda x: plane_kernel()(encoded(x, size)),
        }
        with torch.no_grad():
            pairs = {
                name: (_distinct(relation(teacher)), _distinct(relation(student)))
                for name, relation in relations.items()
            }
        share = np.asarray(losses) / (losses[0] or 1) if len(losses) else np.empty(0)
        self._fit(student, teacher, share)
        self._teacher.draw(teacher)
        self._student.draw(student)
        self._behind.set_data(*torch.cat([teacher, teacher[:1]]).T.numpy())
        self._trail.set_segments(torch.stack([*path, student], 1).numpy())
        self._chosen.set_data(*(([], []) if chosen is None else student[[chosen]].T.numpy()))
        downhill = -found.gradient
        self._arrows.set_offsets(_filled(student + 0.1 * size * normalize(downhill)))
        longest = REACH * size**2 * found.lengths.max().item()
        scale = REACH * size**2 * min(1.0, LONGEST * size / (longest or 1))
        self._arrows.set_UVC(*_filled(scale * downhill).T)
        for name, (target, values) in pairs.items():
            self._dots[name].set_data(target, values)
        self._fall.set_data(range(len(share)), share)
        heads = [f"{what}\nloss {_number(found.losses[name])}" for name, what in SCATTERS.items()]
        fall = "steps downhill\nnone yet"
        if len(losses) > 1:
            ends = f"{_number(losses[0])} to {_number(losses[-1])}"
            fall = f"{len(losses) - 1} steps downhill\n{ends}"
        said = ["teacher", "student, arrows downhill", *heads, fall]
        for title, text in zip(self._titles, said, strict=True):
            title.set_text(text)
        self.alt = (
            f"{verdict(student, teacher, found.losses)}. {len(teacher)} numbered points of the "
            f"teacher, then of the student with arrows downhill, the longest gradient "
            f"{found.lengths.max():.2g}; then the student's relations against the teacher's with "
            f"a dashed line where both are equal. Losses: "
            + ", ".join(f"{name} {loss:.4f}" for name, loss in found.losses.items())
            + f"; weighted sum {found.total:.4f}."
        )
        return self

    def on_map(self, across: float, down: float) -> tuple[float, float]:
        """A place of the picture, as shares of its width and height, on the student's map."""
        place = self.transFigure.transform((across, 1 - down))
        x, y = self._maps[1].transData.inverted().transform(place)
        return float(x), float(y)

    def _fit(self, student: Tensor, teacher: Tensor, share: np.ndarray) -> None:
        """Limits in which everything has room; they change rarely, by factors of two."""
        size = 1.05 ** round(math.log(size_of(teacher), 1.05))  # much the same, same limits
        x, y = (round(v / size, 1) * size for v in teacher.mean(0).tolist())
        away = (student - student.new_tensor([x, y])).abs().max().item() / size
        half = size * ROOM * _doublings(away / (ROOM * 0.98))
        far = max(2.6, len(teacher) / 2)  # no distance is longer than n / 2 of their mean
        steps = 10 * _doublings((len(share) - 1) / 10)
        top = 1.25 * _doublings(share.max(initial=0) / 1.25)
        limits = (x, y, half, far, steps, top)
        if limits == self._limits:
            return
        self._limits = limits
        self._maps[0].set(xlim=(x - half, x + half), ylim=(y - half, y + half))
        _both(self._scatters["distance"], (-0.1, 1.04 * far), range(math.ceil(far)))
        self._history.set(xlim=(-0.03 * steps, 1.03 * steps), ylim=(0, top))
        self.lay_out_again()


def _filled(rows: Tensor) -> np.ndarray:
    """Rows ``(n, 2)``, padded with zeros to as many as a panel can have points."""
    return np.pad(rows.numpy(), ((0, MOST - len(rows)), (0, 0)))


def _both(axes: Axes, limits: tuple[float, float], ticks: Sequence[float]) -> None:
    """The same limits and ticks on both axes."""
    axes.set(xlim=limits, ylim=limits, xticks=ticks, yticks=ticks)


def _doublings(ratio: float) -> int:
    """The smallest of 1, 2, 4, ... that is not below the ratio."""
    return 2 ** max(0, math.ceil(math.log2(ratio))) if ratio > 1 else 1


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= 5e-5 or value < SEEN else f"{value:.0e}"
