"""The gallery: kernel matrices of student and teacher, their differences, classes, components."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from qrkd_lab.kernels.diagnostics import check_matrix
from qrkd_lab.kernels.views import class_blocks
from qrkd_lab.plots.animation import Animation
from qrkd_lab.plots.style import INK, Chart, arm_style, draw_legend, marker, need, panels, quiet
from qrkd_lab.report import order_arms

__all__ = [
    "alignment_over_epochs", "block_matrices", "difference_matrices", "kernel_film",
    "kernel_pca_maps",
]  # fmt: skip

CLASSES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#000000", "#882255",
           "#5B7F3A", "#7A5195")  # fmt: skip


def difference_matrices(
    teacher: Tensor, students: Mapping[str, Tensor], labels: Tensor, title: str | None = None
) -> Chart:
    """Where does a student's kernel matrix differ from the teacher's? Student minus teacher.

    Args:
        teacher: ``(n, n)``.
        students: name to matrix ``(n, n)``.
        labels: ``(n,)``; samples are sorted by class.
        title: the message; without it, the root mean square differences.

    Raises:
        ValueError: no student, or other sizes.
    """
    need(len(students), 'a mapping from names to matrices, e.g. {"qrkd": K}')
    order = labels.cpu().argsort(stable=True)
    target = check_matrix(teacher, "teacher")
    chart, places = panels(len(students), height=3.2, rest=0.8)
    said = []
    for axes, (name, matrix) in zip(places, students.items(), strict=True):
        apart = (check_matrix(matrix, name) - target)[order][:, order]
        off = apart[~torch.eye(len(apart), dtype=torch.bool)]
        size = off.square().mean().sqrt().item()
        image = axes.imshow(apart.numpy(), cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        _class_ticks(axes, labels[order])
        axes.set_title(f"{name}\nroot mean square {size:.3f}", fontsize=10)
        said.append(f"{name} {size:.3f}")
    chart.colorbar(image, ax=places, label="Student minus teacher", shrink=0.85)
    message = f"Root mean square difference to the teacher: {', '.join(said)}"
    kinds = "Heat maps sorted by class, red where the student finds a pair more alike"
    return chart.finish(title or message, f"{kinds}. {', '.join(said)}.")


def block_matrices(
    teacher: Tensor, student: Tensor, labels: Tensor, title: str | None = None
) -> Chart:
    """Which classes does the student take for more alike than the teacher does?

    Args:
        teacher, student: kernel matrices ``(n, n)``.
        labels: ``(n,)``.
        title: the message; without it, the pair of classes with the largest difference.

    Raises:
        ValueError: sizes differ; see also :func:`~qrkd_lab.kernels.views.class_blocks`.
    """
    blocks = [class_blocks(kernel, labels) for kernel in (teacher, student)]
    names = [str(int(c)) for c in labels.cpu().unique()]
    apart = blocks[1] - blocks[0]
    chart = Chart(10.4, 4.0)
    places = chart.subplots(1, 3)
    heads = ("Teacher", "Student", "Student minus teacher")
    high = max(b.nan_to_num().max().item() for b in blocks)
    limit = max(apart.nan_to_num().abs().max().item(), 1e-12)
    for axes, values, head in zip(places, (*blocks, apart), heads, strict=True):
        scale = {"cmap": "cividis", "vmin": 0, "vmax": high}
        if values is apart:
            scale = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        image = axes.imshow(values.numpy(), **scale)
        axes.set_title(head, fontsize=10)
        axes.set_xticks(range(len(names)), names, fontsize=9)
        axes.set_yticks(range(len(names)), names, fontsize=9)
        axes.tick_params(length=0)
        axes.set_xlabel("Class", fontsize=10)
        if axes is not places[0]:
            chart.colorbar(image, ax=axes, shrink=0.7)
    places[0].set_ylabel("Class", fontsize=10)
    at = apart.nan_to_num().abs().triu().argmax().item()
    a, b = divmod(at, len(names))
    message = (
        f"Largest difference: classes {names[a]} and {names[b]}, teacher {blocks[0][a, b]:.2f}, "
        f"student {blocks[1][a, b]:.2f}"
    )
    if a == b:
        message = message.replace(f"classes {names[a]} and {names[b]}", f"within class {names[a]}")
    return chart.finish(title or message, f"Mean kernel value of each pair of classes. {message}.")


def kernel_pca_maps(
    scores: Mapping[str, Tensor], labels: Tensor, title: str | None = None
) -> Chart:
    """Where do samples lie along a kernel's first two components? Each is drawn as its class.

    Args:
        scores: name to ``(n, 2)`` of :func:`~qrkd_lab.kernels.views.kernel_pca`.
        labels: ``(n,)``, whole numbers from 0.
        title: the message; without it, how like the first map's order those of the others are.

    Raises:
        ValueError: no scores, or not ``(n, 2)``.
    """
    need(len(scores), 'a mapping from names to scores, e.g. {"teacher": kernel_pca(K)}')
    chart, places = panels(len(scores), height=3.3, rest=0.6)
    high = max(values.abs().max().item() for values in scores.values()) * 1.08
    for axes, (name, values) in zip(places, scores.items(), strict=True):
        if tuple(values.shape) != (len(labels), 2):
            raise ValueError(f"{name}: expected ({len(labels)}, 2), got {tuple(values.shape)}")
        quiet(axes, "First component", "Second component", grid="both")
        for (x, y), label in zip(values.tolist(), labels.tolist(), strict=True):
            colour = CLASSES[label % len(CLASSES)]
            axes.text(x, y, str(label), color=colour, fontsize=8, ha="center", va="center")
        axes.set(xlim=(-high, high), ylim=(-high, high), aspect="equal")
        axes.set_title(name, fontsize=10)
    shown = title or _order_message(scores)
    count = f"{len(labels)} samples as the digits of their classes, {len(scores)} panels"
    return chart.finish(shown, f"{count}: {', '.join(scores)}.")


def _order_message(scores: Mapping[str, Tensor]) -> str:
    """Correlation of each map's first component with that of the first map; signs are free."""
    (head, first), *others = ((name, values[:, 0].double()) for name, values in scores.items())
    pairs = [(name, torch.corrcoef(torch.stack([first, line]))[0, 1]) for name, line in others]
    said = [f"{name} {r.abs():.2f}" for name, r in pairs if r.isfinite()]
    if not said:
        return "Two components of each kernel, a sample drawn as its class"
    return f"First component, correlation with that of {head}: {', '.join(said)}"


def alignment_over_epochs(
    table: pd.DataFrame, value: str = "alignment", what: str = "Alignment", title: str | None = None
) -> Chart:
    """How near does each arm come to the teacher, epoch by epoch?

    Args:
        table: columns ``arm``, ``seed``, ``epoch`` and ``value``.
        value: the column to draw.
        what: its name, for the axis.
        title: the message; without it, where the arms begin and end.

    Raises:
        ValueError: no row.
    """
    need(len(table), "a row an arm, seed and epoch")
    chart = Chart(7.4, 3.8)
    axes = quiet(chart.subplots(), "Epoch", what)
    legend = {}
    for arm in order_arms(table["arm"]):
        curve = table[table["arm"] == arm].pivot(index="epoch", columns="seed", values=value)
        style, mean = arm_style(arm), curve.mean(axis=1)
        axes.plot(curve.index, curve, color=style["color"], lw=0.6, alpha=0.3, zorder=1)
        every = max(1, len(mean) // 5)
        axes.plot(mean.index, mean, lw=1.8, markevery=every, zorder=2, **marker(style))
        legend[arm] = f"{arm}  {mean.iloc[-1]:.2f}"
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    draw_legend(chart, legend)
    start = table[table["epoch"] == table["epoch"].min()][value].mean()
    ends = table[table["epoch"] == table["epoch"].max()].groupby("arm")[value].mean()
    message = f"{what} begins at {start:.2f} and ends between {ends.min():.2f} and {ends.max():.2f}"
    said = ", ".join(f"{arm} {end:.3f}" for arm, end in ends.items())
    kind = "A thick line for each arm's mean over seeds, thin ones for seeds"
    return chart.finish(title or message, f"{kind}. At the end: {said}.")


def kernel_film(
    matrices: Tensor,
    teacher: Tensor,
    labels: Tensor,
    epochs: Sequence[int],
    alignments: Sequence[float],
    arm: str = "student",
) -> Animation:
    """The student's kernel matrix beside the teacher's, a frame an epoch, as a GIF.

    Args:
        matrices: of the student ``(E, n, n)``.
        teacher: ``(n, n)``.
        labels: ``(n,)``; samples are sorted by class.
        epochs, alignments: E of them, to write above each frame.
        arm: what to call the student.

    Raises:
        ValueError: other sizes than these, or no frame.
    """
    if not len(matrices) == len(epochs) == len(alignments):
        counts = f"{len(matrices)}, {len(epochs)} and {len(alignments)}"
        raise ValueError(f"expected as many matrices, epochs and alignments, got {counts}")
    order = labels.cpu().argsort(stable=True)
    target = check_matrix(teacher, "teacher")

    def frames() -> Iterator[Chart]:
        for matrix, epoch, value in zip(matrices, epochs, alignments, strict=True):
            chart = Chart(5.6, 3.2)
            heads = {f"{arm}, epoch {epoch}\nalignment {value:.2f}": matrix, "teacher\n": target}
            for axes, (head, kernel) in zip(chart.subplots(1, 2), heads.items(), strict=True):
                shown = check_matrix(kernel)[order][:, order]
                axes.imshow(shown.numpy(), cmap="cividis", vmin=0, vmax=1, interpolation="nearest")
                _class_ticks(axes, labels[order])
                axes.set_title(head, fontsize=11, color=INK)
            yield chart

    alt = (
        f"Kernel matrix of {arm} beside the teacher's, both sorted by class, over {len(epochs)} "
        f"epochs: the centred alignment goes from {alignments[0]:.2f} to {alignments[-1]:.2f}."
        if len(epochs)
        else ""
    )
    return Animation(frames(), alt, seconds=0.5, dpi=90)


def _class_ticks(axes: object, labels: Tensor) -> None:
    """A line between classes, and a tick at the middle of each; ``labels`` sorted."""
    classes, starts = np.unique(labels.cpu().numpy(), return_index=True)
    ends = np.append(starts[1:], len(labels))
    for edge in starts[1:] - 0.5:
        axes.axhline(edge, color="white", lw=0.5)
        axes.axvline(edge, color="white", lw=0.5)
    middle = (starts + ends - 1) / 2
    axes.set_xticks(middle, [str(c) for c in classes], fontsize=8)
    axes.set_yticks(middle, [str(c) for c in classes], fontsize=8)
    axes.tick_params(length=0)
