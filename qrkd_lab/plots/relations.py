"""Pictures of what is distilled: soft targets, points in the plane, and relations against another.

The points are batches of features ``(n, 2)``, so that a reader can see at a glance what a distance
or an angle keeps and what it loses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.losses import angle_loss, distance_loss
from qrkd_lab.plots.style import INK, Chart, arm_style, need, panels, quiet
from qrkd_lab.relations import pairwise_distances

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["forces", "relation_scatter", "soft_targets", "what_relations_see"]

LINE, BEHIND = "#BBBBBB", "#D5D5D5"
TEACHER, STUDENT = arm_style("teacher"), arm_style("rkd")


def soft_targets(
    images: Tensor,
    logits: Tensor,
    temperatures: Sequence[float] = (1.0, 4.0, 20.0),
    title: str = "A higher temperature shows what the teacher finds alike",
    labels: Sequence[int] | Tensor | None = None,
) -> Chart:
    """What does a teacher say besides its answer? An image a row, its softmax at each temperature.

    Args:
        images: ``(n, height, width)``, any scale.
        logits: ``(n, c)`` of the teacher for these images.
        temperatures: T > 0, a column each.
        title: the message.
        labels: ``(n,)``, the true classes, to be written over the images.

    Raises:
        ValueError: no image, or logits or labels for another number of images.
    """
    need(len(images), "at least one image (n, height, width)")
    if images.ndim != 3 or logits.ndim != 2 or len(images) != len(logits):
        raise ValueError(
            f"expected images (n, height, width) and logits (n, c) with one n; got "
            f"{tuple(images.shape)} and {tuple(logits.shape)}."
        )
    if labels is not None and len(labels) != len(images):
        raise ValueError(f"expected a label for each of {len(images)} images, got {len(labels)}.")
    n, c = logits.shape
    chart = Chart(1.6 + 2.6 * len(temperatures), 0.9 + 1.35 * n)
    wide = [1, *[2] * len(temperatures)]
    grid = chart.subplots(n, 1 + len(temperatures), squeeze=False, width_ratios=wide)
    for row, image, scores in zip(grid, images, logits.detach(), strict=True):
        row[0].imshow(image.detach().cpu().numpy(), cmap="gray_r")
        row[0].set_axis_off()
        for axes, T in zip(row[1:], temperatures, strict=True):
            p = (scores / T).softmax(0).cpu().numpy()
            colours = [STUDENT["color"] if i == p.argmax() else LINE for i in range(c)]
            quiet(axes, "", "").bar(range(c), p, color=colours)
            axes.set_ylim(0, 1)
            axes.set_xticks(range(c))
    names = [""] * n if labels is None else [f"label {int(y)}" for y in labels]
    for axes, name in zip(grid[:, 0], names, strict=True):
        axes.set_title(name, fontsize=10, color=INK)
    for axes, T in zip(grid[0, 1:], temperatures, strict=True):
        axes.set_title(f"T = {T:g}", fontsize=11)
    for axes in grid[-1, 1:]:
        axes.set_xlabel("Class", fontsize=10, color=INK)
    grid[n // 2, 1].set_ylabel("Probability", fontsize=10, color=INK)
    heads = [f"image {i}" + (f" ({name})" if name else "") for i, name in enumerate(names)]
    said = [f"{a}: {_leading(z, temperatures)}" for a, z in zip(heads, logits, strict=True)]
    return chart.finish(title, f"Bars of the teacher's softmax; {'; '.join(said)}.")


def _leading(scores: Tensor, temperatures: Sequence[float]) -> str:
    """The two largest classes and their probabilities at each temperature, in words."""
    parts = []
    for T in temperatures:
        p, which = (scores.detach() / T).softmax(0).topk(min(2, len(scores)))
        listed = ", ".join(f"class {k} {v:.2f}" for v, k in zip(p, which, strict=True))
        parts.append(f"at T = {T:g} {listed}")
    return " and ".join(parts)


def what_relations_see(
    teacher: Tensor,
    students: Mapping[str, Tensor],
    title: str = "What distances and angles see, and what they are blind to",
) -> Chart:
    """Which changes of a point set raise a loss? The teacher's points, and each student's.

    All panels have one scale; the teacher's points stand in grey behind each student's.

    Args:
        teacher: points ``(n, 2)``.
        students: name to points ``(n, 2)``; below each stand its two losses to the teacher.
        title: the message.

    Raises:
        ValueError: no student, or points that are not ``(n, 2)``.
    """
    need(len(students), 'a mapping from names to points, e.g. {"turned": x}')
    everything = {"teacher": teacher, **students}
    _check_points(everything, len(teacher))
    chart, places = panels(len(everything), height=2.9, rest=0.6)
    ends = torch.cat([x.detach() for x in everything.values()]).cpu().numpy()
    said = []
    for axes, (name, points) in zip(places, everything.items(), strict=True):
        if name != "teacher":
            x, y = torch.cat([teacher, teacher[:1]]).detach().cpu().numpy().T
            axes.plot(x, y, color=BEHIND, lw=1, marker="o", ms=6, mew=0, zorder=0)
        _draw_points(axes, points, TEACHER if name == "teacher" else STUDENT)
        axes.update_datalim(ends)  # one scale
        text = name
        if name != "teacher":
            losses = distance_loss(points, teacher).item(), angle_loss(points, teacher).item()
            text = f"{name}\ndistance loss {losses[0]:.3f}, angle loss {losses[1]:.3f}"
            said.append(text.replace("\n", ": "))
        axes.set_title(text, fontsize=10)
    count = f"{len(teacher)} points in the plane, numbered and joined"
    return chart.finish(title, f"{count}. Losses to the teacher: {'; '.join(said)}.")


def relation_scatter(
    teacher: Tensor,
    students: Mapping[str, Tensor],
    relation: Callable[[Tensor], Tensor] = pairwise_distances,
    title: str | None = None,
    what: str = "distance",
) -> Chart:
    """Does the student keep the teacher's relation? One point a pair (or triple) of samples.

    All panels share their axes; on the dashed line both say the same.

    Args:
        teacher: features ``(n, d_t)``.
        students: name to features ``(n, d_s)`` of the same samples; a panel each.
        relation: features to ``(n, n)`` or ``(n, n, n)``.
        title: the message; without it, the correlations.
        what: the relation's name, for the axes.

    Raises:
        ValueError: no student, or a student with another number of samples.
    """
    need(len(students), 'a mapping from names to features, e.g. {"kd": x}')
    for name, features in students.items():
        if len(features) != len(teacher):
            raise ValueError(
                f"expected {len(teacher)} samples as of the teacher, {name} has {len(features)}."
            )
    target = _distinct(relation(teacher.detach()))
    found = {name: _distinct(relation(x.detach())) for name, x in students.items()}
    seen = np.concatenate([target, *found.values()])
    low, high = min(0.0, seen.min()), max(1e-9, seen.max())
    edge = 0.03 * (high - low)
    box = (low - edge * (low < 0), high + edge)
    columns = 2 if len(students) == 4 else 3
    chart, places = panels(len(students), height=3.0, rest=0.7, columns=columns)
    said = []
    for axes, (name, values) in zip(places, found.items(), strict=True):
        quiet(axes, f"Teacher's {what}", f"Student's {what}", grid="both").set(xlim=box, ylim=box)
        axes.plot(box, box, color=INK, lw=0.8, ls="--", zorder=1)
        colour = arm_style(name)["color"]
        axes.scatter(target, values, s=8, alpha=0.4, lw=0, color=colour, rasterized=True)
        r = np.corrcoef(target, values)[0, 1] if target.std() * values.std() > 0 else 0.0
        axes.set_title(f"{name}: correlation {r:.2f}", fontsize=10)
        said.append(f"{name} {r:.2f}")
    message = f"Correlation of the student's and the teacher's {what}: {', '.join(said)}"
    points = "One point each pair or triple of samples"
    return chart.finish(title or message, f"{points}; {message}." if title else f"{points}.")


def forces(
    steps: Mapping[int, tuple[Tensor, Tensor]],
    loss: Callable[[Tensor], Tensor],
    title: str = "A loss is a force: it pulls the points until their relations match",
) -> Chart:
    """Where does a loss pull each point? Points and downhill arrows at some steps of a descent.

    Args:
        steps: step to points ``(n, 2)`` and the loss's gradient ``(n, 2)`` there.
        loss: of the points, to write beside each panel.
        title: the message.

    Raises:
        ValueError: no step, or points that are not ``(n, 2)``.
    """
    need(len(steps), "a mapping from steps to (points, gradients)")
    first = next(iter(steps.values()))[0]
    _check_points({f"step {step}": x for step, (x, _) in steps.items()}, len(first))
    chart, places = panels(len(steps), height=2.9, rest=0.6)
    longest = max(grad.norm(dim=1).max().item() for _, grad in steps.values())
    size = max((x.max() - x.min()).item() for x, _ in steps.values())
    scale = 0.35 * size / longest if longest > 0 else 0.0
    ends = torch.cat([torch.cat([x, x - scale * grad]) for x, grad in steps.values()]).detach()
    said = []
    for axes, (step, (points, grad)) in zip(places, steps.items(), strict=True):
        _draw_points(axes, points, STUDENT)
        arrow = -scale * grad.detach()
        x, y = points.detach().numpy().T
        style = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012, "zorder": 1.5}
        axes.quiver(x, y, *arrow.numpy().T, color=arm_style("qrkd")["color"], **style)
        value = loss(points.detach()).item()
        axes.set_title(f"step {step}: loss {value:.4f}", fontsize=10)
        said.append(f"{value:.4f} at step {step}")
        axes.update_datalim(ends.numpy())  # every panel on one scale, with room for each arrow
        axes.margins(0.1)
    return chart.finish(title, f"Points with arrows downhill; the loss is {', '.join(said)}.")


def _check_points(points: Mapping[str, Tensor], n: int) -> None:
    for name, x in points.items():
        if tuple(x.shape) != (n, 2):
            raise ValueError(f"{name}: expected points ({n}, 2) in the plane, got {tuple(x.shape)}")


def _draw_points(axes: Axes, points: Tensor, style: Mapping[str, str]) -> None:
    """Numbered points on equal axes, in their order joined to a closed line."""
    x, y = torch.cat([points, points[:1]]).detach().cpu().numpy().T
    axes.plot(x, y, color=LINE, lw=1, zorder=1)
    axes.scatter(x, y, s=130, color=style["color"], lw=0, zorder=2)
    places: dict[tuple[float, ...], list[str]] = {}
    for i, place in enumerate(points.detach().cpu().tolist()):
        places.setdefault(tuple(round(v, 3) for v in place), []).append(str(i))
    for place, numbers in places.items():
        one = len(numbers) == 1  # else points in one place: their numbers above it
        axes.annotate(
            ", ".join(numbers), place, (0, 0 if one else 12), textcoords="offset points",
            color="white" if one else INK, ha="center", va="center", fontsize=8, zorder=3,
        )  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.2)
    quiet(axes, "", "", grid="both").tick_params(labelsize=8)


def _distinct(relation: Tensor) -> np.ndarray:
    """Values over different samples: pairs i < j, or triples with i < k and j another."""
    n = relation.shape[-1]
    pairs = torch.ones(n, n, dtype=torch.bool).triu(1)
    if relation.ndim == 3:
        same = torch.eye(n, dtype=torch.bool)
        pairs = pairs[None] & ~same[:, :, None] & ~same[:, None, :]
    return relation[pairs].cpu().double().numpy()
