"""The gallery: kernel matrices of student and teacher, their differences, classes, components."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image
from torch import Tensor

from qrkd_lab.kernels.analysis import (
    check_matrix,
    class_blocks,
    eigenvalues,
    off_diagonal_values,
)
from qrkd_lab.studies.summary import order_arms
from qrkd_lab.teaching.plots.kernels import COLOURS, TINY, log_axis
from qrkd_lab.teaching.plots.style import (
    ARM_COLOURS,
    INK,
    Animation,
    Chart,
    arm_style,
    draw_legend,
    marker,
    need,
    panels,
    quiet,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from numpy.typing import ArrayLike

    from qrkd_lab.kernels.diagnosis import Diagnosis

__all__ = [
    "DPI",
    "KernelPanel",
    "RedrawnChart",
    "alignment_over_epochs",
    "block_matrices",
    "difference_matrices",
    "kernel_film",
    "kernel_matrices",
    "kernel_panel",
    "kernel_pca_maps",
]


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
        ValueError: sizes differ; see also :func:`~qrkd_lab.kernels.analysis.class_blocks`.
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
        scores: name to ``(n, 2)`` of :func:`~qrkd_lab.kernels.analysis.kernel_pca`.
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


# ---- redrawn


DPI = 96  # a pixel of the picture is a pixel of CSS


class RedrawnChart(Chart):
    """A chart whose moving artists are drawn in a tenth of the time of the whole.

    A subclass names with :meth:`moves` what changes from one picture to the next, and calls
    :meth:`lay_out_again` when something else has changed (the limits of an axis).
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(width, height)
        FigureCanvasAgg(self)
        self.moving: list[Artist] = []
        self._ground: Any = None  # all that stays, as it was rendered

    def moves(self, *artists: Artist) -> None:
        """These change from picture to picture; the layout does not depend on them."""
        for artist in artists:
            artist.set_in_layout(False)
            self.moving.append(artist)

    def lay_out_again(self) -> None:
        """Render what stays anew, at the next picture."""
        self._ground = None
        self.set_layout_engine("constrained")

    def png(self) -> bytes:
        """The picture as a PNG, quickly; the first call, and after a change of layout, is slow."""
        canvas = self.canvas
        if self._ground is None:
            self.set_dpi(DPI)
            for artist in self.moving:
                artist.set_animated(True)  # left out of what is rendered once
            canvas.draw()
            self.set_layout_engine("none")
            self._ground = canvas.copy_from_bbox(self.bbox)
        canvas.restore_region(self._ground)
        for artist in self.moving:
            (artist.axes or self).draw_artist(artist)
        drawn, out = canvas.buffer_rgba(), io.BytesIO()
        size = drawn.shape[1], drawn.shape[0]
        image = Image.frombuffer("RGBA", size, drawn, "raw", "RGBA", 0, 1).convert("RGB")
        flat = image.quantize(palette=_palette(), dither=Image.Dither.NONE)
        flat.save(out, "png", compress_level=1)
        return out.getvalue()


@lru_cache(1)
def _palette() -> Image.Image:
    """256 colours that the kit's figures are made of: choosing them anew takes too long.

    The heat map's, greys, and each colour of a line in ten strengths, for its smooth edges.
    """
    heat = colormaps["cividis"](np.linspace(0, 1, 112))[:, :3]
    greys = np.linspace(0, 1, 24)[:, None].repeat(3, 1)
    lines = list(dict.fromkeys(c.upper() for c in (*ARM_COLOURS.values(), *COLOURS)))[:12]
    strength = np.linspace(0.1, 1, 10)[None, :, None]
    mixed = 1 - strength * (1 - np.array([to_rgb(c) for c in lines])[:, None, :])
    colours = np.concatenate([heat, greys, mixed.reshape(-1, 3)])
    flat = Image.new("P", (1, 1))
    flat.putpalette((255 * colours).round().astype(np.uint8).tobytes())
    return flat


# ---- kernels


def kernel_matrices(
    matrices: Mapping[str, ArrayLike],
    labels: ArrayLike,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Chart:
    """Does a kernel see the classes? Heat maps sorted by class, all on one colour scale.

    Args:
        matrices: name to kernel matrix (n, n), torch or numpy.
        labels: class of each sample (n,).
        title: the message; without it, how far within and between classes are apart.
        class_names: names to write at the axes, one a class number; else the numbers.

    Raises:
        ValueError: no matrix, a matrix that is not (n, n) or not finite, or labels not (n,).
    """
    classes = _array(labels)
    need(len(matrices), 'a mapping from names to matrices, e.g. {"teacher": K}')
    kernels = {name: _square(name, matrix, classes) for name, matrix in matrices.items()}
    found = np.unique(classes)
    ticks = [str(class_names[int(c)]) if class_names is not None else str(c) for c in found]
    low = min(0.0, *(k.min() for k in kernels.values()))
    high = max(1.0, *(k.max() for k in kernels.values()))
    chart, places = panels(len(kernels), height=3.4, rest=0.8)
    said = []
    for axes, (name, kernel) in zip(places, kernels.items(), strict=True):
        image = _draw_kernel(axes, kernel, classes, ticks)
        image.set_clim(low, high)
        within, between = _contrast(kernel, classes)
        numbers = f"within {within:.2f}, between {between:.2f}".replace("nan", "–")
        axes.set_title(f"{name}\n{numbers}", fontsize=10)
        said += [f"{name} {within - between:+.2f}"] if math.isfinite(within - between) else []
    places[0].set_ylabel("Class of sample", fontsize=10)
    for axes in places[-3:]:  # those with no panel beneath them
        axes.set_xlabel("Class of sample", fontsize=10)
    chart.colorbar(image, ax=places, label="Kernel value", shrink=0.85)
    message = f"Likeness within a class minus between classes: {', '.join(said)}"
    if not said:
        message = "Too few samples or classes to compare likeness within and between"
    count = f"{len(kernels)} kernel matrices of {len(classes)} samples in {len(found)} classes"
    return chart.finish(title or message, f"{count}; {message}." if title else f"{count}.")


def _draw_kernel(
    axes: Axes, kernel: np.ndarray, classes: np.ndarray, ticks: Sequence[str]
) -> AxesImage:
    """A heat map sorted by class, with a line between classes and a tick at the middle of each."""
    order = np.argsort(classes, kind="stable")
    starts = np.unique(classes[order], return_index=True)[1]
    ends = np.append(starts[1:], len(classes))
    image = axes.imshow(kernel[np.ix_(order, order)], interpolation="nearest", cmap="cividis")
    for edge in starts[1:] - 0.5:
        axes.axhline(edge, color="white", lw=0.7)
        axes.axvline(edge, color="white", lw=0.7)
    upright = max(map(len, ticks)) * len(ticks) > 30  # else words run into each other
    axes.set_xticks((starts + ends - 1) / 2, ticks, fontsize=9, rotation=90 * upright)
    axes.set_yticks((starts + ends - 1) / 2, ticks, fontsize=9)
    axes.tick_params(length=0)
    return image


def _array(values: ArrayLike) -> np.ndarray:
    """Torch (on any device, with or without gradient) or array-like to numpy."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _square(name: str, matrix: ArrayLike, classes: np.ndarray) -> np.ndarray:
    kernel = _array(matrix)
    n = len(classes) if classes.ndim == 1 else 0
    if not n or kernel.shape != (n, n):
        raise ValueError(
            f"expected labels (n,) and matrices (n, n) with one n > 0; got labels "
            f"{classes.shape} and {name} {kernel.shape}."
        )
    if not np.isfinite(kernel).all():
        raise ValueError(f"{name} holds values that are not finite: look for NaN in its features.")
    return kernel.astype(float)


def _contrast(kernel: np.ndarray, classes: np.ndarray) -> tuple[float, float]:
    """Mean kernel value within a class (without the diagonal) and between classes."""
    same = classes[:, None] == classes[None, :]
    others = ~np.eye(len(classes), dtype=bool)
    parts = (kernel[same & others], kernel[~same])
    within, between = (part.mean() if part.size else math.nan for part in parts)
    return float(within), float(between)


# ---- kernel_panels


BINS = np.linspace(0, 1, 51)
LINES = {"kernel": COLOURS[0], "best RBF": ARM_COLOURS["rbf"]}


def kernel_panel(
    kernel: Tensor,
    labels: Tensor,
    diagnosis: Diagnosis,
    name: str = "kernel",
    class_names: Sequence[str] | None = None,
) -> KernelPanel:
    """Is this just an RBF? Matrix, best RBF, pair by pair, histogram and spectrum of both.

    Args:
        kernel: ``(n, n)``, values from 0 to 1.
        labels: classes ``(n,)``; the matrices are sorted by them.
        diagnosis: of :func:`~qrkd_lab.kernels.diagnosis.diagnose`, with labels and angles.
        name: of the kernel.
        class_names: names to write at the axes, one a class number; else the numbers.

    Raises:
        ValueError: sizes differ, or a diagnosis without a fit.
    """
    return KernelPanel(labels, class_names).draw_kernel(kernel, diagnosis, name)


class KernelPanel(RedrawnChart):
    """The figure of :func:`kernel_panel`, which can be drawn again for another kernel.

    Whatever stays (axes, ticks, names) is rendered once; a new kernel is drawn on top of it, in a
    tenth of the time of a new figure.
    """

    def __init__(self, labels: Tensor, class_names: Sequence[str] | None = None) -> None:
        super().__init__(10.6, 5.9)
        classes = labels.detach().cpu().numpy()
        self._order, n = np.argsort(classes, kind="stable"), len(classes)
        top, bottom = self.subfigures(2, 1, height_ratios=(3.4, 2.0))
        heat, beside, pairs = top.subplots(1, 3)
        histogram, spectrum = bottom.subplots(1, 2)
        self._images = [_heat(axes, classes[self._order], class_names) for axes in (heat, beside)]
        top.colorbar(self._images[0], ax=[heat, beside], label="Kernel value", shrink=0.8)
        quiet(pairs, "Value of the best RBF", "Kernel value", grid="both")
        pairs.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        pairs.plot([0, 1], [0, 1], color=INK, lw=1, ls="--")
        quiet(histogram, "Value of a pair (not on the diagonal)", "Share of pairs", grid="x")
        histogram.set(xlim=(0, 1), ylim=(0, 1.05), yticks=[])
        quiet(spectrum, "Eigenvalue number", "Eigenvalue / trace", grid="both")
        spectrum.set(xlim=(0, n + 1), ylim=(1e-6, 2))
        log_axis(spectrum, "y")
        spectrum.yaxis.set_minor_locator(NullLocator())
        style = {"ls": "", "marker": "o", "ms": 2.5, "mew": 0, "alpha": 0.3}
        (self._pairs,) = pairs.plot([], [], color=COLOURS[0], **style)
        self._stairs = [
            histogram.stairs(np.zeros(50), BINS, fill=i == 0, alpha=1 - 0.3 * (i == 0), lw=1.8,
                             color=colour, label=name)
            for i, (name, colour) in enumerate(LINES.items())
        ]  # fmt: skip
        histogram.legend(frameon=False, fontsize=9.5, loc="upper right")
        self._spectra = [
            spectrum.plot([], [], color=colour, lw=1.8, label=name)[0]
            for name, colour in LINES.items()
        ]
        places = (heat, beside, pairs, histogram, spectrum)
        heads = ("\n", "best RBF\n", "pair by pair\n", " ", " ")
        self._said = []
        for axes, head in zip(places, heads, strict=True):
            axes.set_title(
                head, fontsize=10, color=INK, pad=9
            )  # keeps the room for what is written there
            lift = (0, 4)
            text = axes.annotate(
                "",
                (0.5, 1),
                lift,
                "axes fraction",
                "offset points",
                ha="center",
                va="bottom",
                fontsize=10,
                color=INK,
                annotation_clip=False,
            )
            self._said.append(text)
        self.moves(*self._images, self._pairs, *self._stairs, *self._spectra, *self._said)

    def draw_kernel(self, kernel: Tensor, diagnosis: Diagnosis, name: str) -> KernelPanel:
        """Set the panel to a kernel; returns the panel."""
        fit = diagnosis.fit
        if fit is None or len(kernel) != len(self._order) or len(fit.matrix) != len(kernel):
            raise ValueError(
                f"expected a kernel and its diagnosis with labels and angles of "
                f"{len(self._order)} samples, got {len(kernel)}"
            )
        both = [kernel.detach().cpu().double(), fit.matrix]
        values = [off_diagonal_values(matrix).numpy() for matrix in both]
        for image, matrix in zip(self._images, both, strict=True):
            image.set_data(matrix.numpy()[np.ix_(self._order, self._order)])
        self._pairs.set_data(values[1], values[0])
        for stairs, line, matrix, value in zip(
            self._stairs, self._spectra, both, values, strict=True
        ):
            counts = np.histogram(value.clip(0, 1), BINS)[0]
            stairs.set_data(counts / counts.max())
            share = eigenvalues(matrix).abs().sort(descending=True).values.numpy()
            share = np.maximum(share / share.sum(), TINY)
            line.set_data(np.arange(1, len(share) + 1), share)
        said = self._texts(diagnosis, name)
        for place, text in zip(self._said, said.values(), strict=True):
            place.set_text(text)
        named = [f"{what}: {text}" for what, text in said.items()]
        self.alt = (
            f"{diagnosis.verdict}. Heat maps of {name} and of its best RBF sorted by class, a "
            "scatter of their values over pairs, histograms and spectra of both. "
            + "; ".join(named).replace("\n", ", ")
            + "."
        )
        return self

    def _texts(self, diagnosis: Diagnosis, name: str) -> dict[str, str]:
        """What stands over each panel, below what always stands there."""
        pairs, fit = diagnosis.off_diagonal, diagnosis.fit
        aligned = diagnosis.centred_alignment
        shown = "–" if aligned is None or math.isnan(aligned) else f"{aligned:.2f}"
        explained = "nothing to explain"
        if not math.isnan(fit.r_squared):
            explained = f"R² = {fit.r_squared:.2f}"
        return {
            "kernel": f"{name}\ncentred alignment with classes {shown}",
            "best RBF": f"bandwidth {fit.kernel.bandwidth:.3g}",
            "pair by pair": explained,
            "values": f"mean {pairs.mean:.2f}, standard deviation {math.sqrt(pairs.variance):.2f}",
            "spectrum": f"effective rank {diagnosis.effective_rank:.1f} of {diagnosis.samples}",
        }


def _heat(axes: Axes, classes: np.ndarray, names: Sequence[str] | None) -> Any:  # noqa: ANN401
    """An empty heat map for samples sorted by class, the classes' names at their blocks."""
    n = len(classes)
    image = axes.imshow(np.zeros((n, n)), vmin=0, vmax=1, cmap="cividis", interpolation="nearest")
    found, starts = np.unique(classes, return_index=True)
    ends = np.append(starts[1:], n)
    ticks = [str(names[int(c)]) if names is not None else str(c) for c in found]
    middles = (starts + ends - 1) / 2
    upright = max(map(len, ticks)) * len(ticks) > 24
    axes.set_xticks(middles, ticks, fontsize=8.5, rotation=90 * upright)
    axes.set_yticks(middles, ticks, fontsize=8.5)
    axes.tick_params(length=0)
    return image
