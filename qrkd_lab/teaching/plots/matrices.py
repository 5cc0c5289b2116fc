"""Kernels: heat maps, what they see, and the kernel explorer's panel."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import seaborn as sns
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.ticker import NullLocator
from PIL import Image
from torch import Tensor

from qrkd_lab.kernels.analysis import effective_rank, eigenvalues, off_diagonal_values
from qrkd_lab.teaching.plots.style import (
    ARM_COLOURS,
    INK,
    SPARE,
    Chart,
    marker,
    need,
    panels,
    quiet,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.image import AxesImage
    from matplotlib.text import Text
    from numpy.typing import ArrayLike

    from qrkd_lab.kernels.classical import Kernel
    from qrkd_lab.kernels.diagnosis import Diagnosis

__all__ = [
    "DPI", "KernelPanel", "RedrawnChart", "kernel_matrices", "kernel_pca_maps", "kernel_views",
    "spectra",
]  # fmt: skip


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", *SPARE)
MARKERS = "oDs^vPX*"
CLASSES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#56B4E9", "#000000", "#882255",
           "#5B7F3A", "#7A5195")  # fmt: skip
TINY = 1e-12  # of the trace: eigenvalues below are rounding


def kernel_matrices(
    matrices: Mapping[str, ArrayLike],
    labels: ArrayLike,
    title: str | None = None,
    class_names: Sequence[str] | None = None,
    minus: str | None = None,
) -> Chart:
    """Does a kernel see the classes? Heat maps sorted by class, all on one colour scale.

    Args:
        matrices: name to kernel matrix (n, n), torch or numpy.
        labels: class of each sample (n,).
        title: the message; without it, how far within and between classes are apart.
        class_names: names to write at the axes, one per class number; else the numbers.
        minus: name of a matrix that is also taken from each other one, a further panel each.

    Raises:
        ValueError: no matrix, a matrix that is not (n, n) or not finite, or labels not (n,).
    """
    classes = _array(labels)
    need(len(matrices), 'a mapping from names to matrices, e.g. {"teacher": K}')
    kernels = {name: _square(name, matrix, classes) for name, matrix in matrices.items()}
    apart = {} if minus is None else {n: k - kernels[minus] for n, k in kernels.items()}
    apart.pop(minus, None)
    if apart:
        chart = Chart(2.3 * (len(kernels) + len(apart)) + 0.7, 3.2)
        places = list(chart.subplots(1, len(kernels) + len(apart)))
    else:
        chart, places = panels(len(kernels), height=3.4, rest=0.8)
    values = np.stack(list(kernels.values()))
    scale, said = {"vmin": min(0.0, values.min()), "vmax": max(1.0, values.max())}, []
    for axes, (name, kernel) in zip(places, kernels.items(), strict=False):
        image = _heat_map(axes, kernel, classes, class_names, **scale)
        within, between = _contrast(kernel, classes)
        numbers = f"within {within:.2f}, between {between:.2f}".replace("nan", "–")
        axes.set_title(f"{name}\n{numbers}", fontsize=10)
        said += [f"{name} {within - between:+.2f}"] if math.isfinite(within - between) else []
    bar = {"shrink": 0.85, "aspect": 30} if apart else {"label": "Kernel value", "shrink": 0.85}
    chart.colorbar(image, ax=places[: len(kernels)], **bar)
    for axes in places[-3:]:  # those with no panel beneath them
        axes.set_xlabel("Class of sample", fontsize=10)
    places[0].set_ylabel("Class of sample", fontsize=10)
    if apart:
        diverging = sns.color_palette("vlag", as_cmap=True)
        most = max(np.abs(change).max() for change in apart.values()) or 1
        for axes, (name, change) in zip(places[len(kernels) :], apart.items(), strict=True):
            image = _heat_map(axes, change, classes, cmap=diverging, vmin=-most, vmax=most)
            head = f"{name} − {minus}\nmean size {np.abs(change).mean():.3f}"
            axes.set_title(head, fontsize=10)
        chart.colorbar(image, ax=places[len(kernels) :], **bar)
        for axes in places:
            axes.set(xticks=[], xlabel="")
        for axes in places[1:]:
            axes.set_yticks([])
    message = f"Similarity within a class minus between classes: {', '.join(said)}"
    if not said:
        message = "Too few samples or classes to compare similarity within and between"
    count = f"{len(kernels)} kernel matrices of {len(classes)} samples"
    count += f" in {len(np.unique(classes))} classes"
    return chart.finish(title or message, f"{count}; {message}." if title else f"{count}.")


def _heat_map(
    axes: Axes,
    matrix: np.ndarray,
    classes: np.ndarray,
    names: Sequence[str] | None = None,
    edges: bool = True,
    cmap: str | Colormap = "cividis",
    **limits: float,
) -> AxesImage:
    """A matrix sorted by class, a line between classes, a tick at the middle of each."""
    order = np.argsort(classes, kind="stable")
    image = axes.imshow(matrix[np.ix_(order, order)], interpolation="nearest", cmap=cmap, **limits)
    found, starts = np.unique(classes[order], return_index=True)
    for edge in starts[1:] - 0.5 if edges else ():
        axes.axhline(edge, color="white", lw=0.7)
        axes.axvline(edge, color="white", lw=0.7)
    ticks = [str(c) if names is None else str(names[int(c)]) for c in found]
    middles = (starts + np.append(starts[1:], len(classes)) - 1) / 2
    upright = max(map(len, ticks)) * len(ticks) > 30  # else words run into each other
    axes.set_xticks(middles, ticks, fontsize=9, rotation=90 * upright)
    axes.set_yticks(middles, ticks, fontsize=9)
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
    first, said = next(iter(scores)), []
    for axes, (name, values) in zip(places, scores.items(), strict=True):
        if tuple(values.shape) != (len(labels), 2):
            raise ValueError(f"{name}: expected ({len(labels)}, 2), got {tuple(values.shape)}")
        quiet(axes, "First component", "Second component", grid="both")
        for (x, y), label in zip(values.tolist(), labels.tolist(), strict=True):
            colour = CLASSES[label % len(CLASSES)]
            axes.text(x, y, str(label), color=colour, fontsize=8, ha="center", va="center")
        axes.set(xlim=(-high, high), ylim=(-high, high), aspect="equal")
        axes.set_title(name, fontsize=10)
        both = torch.stack([scores[first][:, 0], values[:, 0]]).double()
        likeness = torch.corrcoef(both)[0, 1].abs()  # a component's sign is free
        said += [f"{name} {likeness:.2f}"] if name != first and likeness.isfinite() else []
    message = f"First component, correlation with that of {first}: {', '.join(said)}"
    if not said:
        message = "Two components of each kernel, a sample drawn as its class"
    count = f"{len(labels)} samples as the digits of their classes, {len(scores)} panels"
    return chart.finish(title or message, f"{count}: {', '.join(scores)}.")


def spectra(matrices: Mapping[str, Tensor]) -> Chart:
    """How many directions does a kernel have? Its eigenvalues, largest first, on a log scale.

    Args:
        matrices: name to kernel matrix ``(n, n)``.

    Raises:
        ValueError: no matrix, or not a kernel matrix.
    """
    need(len(matrices), 'a mapping from names to matrices, e.g. {"zz": K}')
    chart = Chart(8.0, 4.4)
    axes = quiet(chart.subplots(), "Eigenvalue number", "Eigenvalue / trace", grid="both")
    _log_axis(axes)
    ranks = {name: effective_rank(matrix) for name, matrix in matrices.items()}
    said = [f"{name}: effective rank {ranks[name]:.1f} of {len(K)}" for name, K in matrices.items()]
    spare = iter(COLOURS * 9)
    for i, (name, matrix) in enumerate(matrices.items()):
        share = eigenvalues(matrix).abs().sort(descending=True).values.numpy()
        share = share[share > TINY * share.sum()] / share.sum()
        style = {"color": ARM_COLOURS.get(name) or next(spare), "marker": MARKERS[i % 8]}
        number, every = np.arange(1, len(share) + 1), max(1, len(share) // 12)
        axes.plot(number, share, lw=1.6, markevery=every, label=said[i], **marker(style, 6))
    columns = 2 if max(map(len, said)) > 24 else 3
    chart.legend(loc="outside lower left", ncols=columns, frameon=False, fontsize=10)
    message = f"Effective ranks from {min(ranks.values()):.1f} to {max(ranks.values()):.1f}"
    return chart.finish(
        message,
        f"Eigenvalues of each kernel matrix as a share of its trace, log scale. {'; '.join(said)}.",
    )


def _log_axis(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, and no minor ticks."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda y, _: f"{y:.0e}" if y < 1e-3 else f"{y:g}")
    axes.yaxis.set_minor_locator(NullLocator())


@torch.no_grad()
def kernel_views(kernel: Kernel, other: Kernel, point: Tensor, name: str = "best RBF") -> Chart:
    """What does a kernel see? Its values to one sample, along a line and over the plane.

    Args:
        kernel: on angles ``(n, q)``, q >= 2.
        other: the kernel that is drawn beside it.
        point: the sample ``(q,)`` that all others are compared with; the line varies its first
            number, the plane its first two, from -pi to pi.
        name: of the other.
    """
    at = torch.linspace(-math.pi, math.pi, 61, dtype=point.dtype)
    line = point.repeat(len(at), 1)
    line[:, 0] = at
    plane = point.repeat(len(at), len(at), 1)  # rows: the second number, columns: the first
    plane[..., 0], plane[..., 1] = at, at[:, None]
    chart = Chart(10.6, 4.2)
    along, *over = chart.subplots(1, 3, width_ratios=(1.25, 1, 1))
    quiet(along, "First number x0", "Kernel value", grid="both").set_ylim(-0.02, 1.17)
    lines = {"circuit": (kernel, COLOURS[0], "-"), name: (other, ARM_COLOURS["rbf"], "--")}
    apart = []
    for axes, (label, (one, colour, style)) in zip(over, lines.items(), strict=True):
        values = one(line, point[None])[:, 0].numpy()
        along.plot(line[:, 0].numpy(), values, color=colour, ls=style, lw=1.8, label=label)
        seen = one(plane.flatten(0, 1), point[None]).reshape(len(at), len(at)).numpy()
        apart.append(seen)
        ends = (-math.pi, math.pi)
        image = axes.imshow(
            seen, origin="lower", extent=(*ends, *ends), vmin=0, vmax=1, cmap="cividis"
        )
        axes.plot(*point[:2].tolist(), marker="+", ms=11, mew=2, color="white", ls="")
        quiet(axes, "First number x0", "Second number x1", grid="x").grid(False)
        axes.set_title(label, fontsize=10)
    along.legend(frameon=False, fontsize=9.5, loc="upper center", ncols=2)
    along.set_title("along a line", fontsize=10)
    chart.colorbar(image, ax=over, label="Kernel value", shrink=0.75)
    most = np.abs(apart[0] - apart[1]).max()
    x0, x1 = point[:2].tolist()
    return chart.finish(
        f"Seen from ({x0:.1f}, {x1:.1f}), the kernel and its {name} differ by up to {most:.2f}",
        f"Kernel values to that sample, from -pi to pi: along x0, then over the plane of x0 and x1 "
        f"for the circuit and for the {name}. Over the plane the circuit's values reach from "
        f"{apart[0].min():.2f} to {apart[0].max():.2f}, those of the {name} from "
        f"{apart[1].min():.2f} to {apart[1].max():.2f}.",
    )


# ---- drawn again for each state of a widget


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

    def titles(self, places: Sequence[Axes], size: float, lines: int = 2) -> list[Text]:
        """A title over each panel that can be set again; an empty one keeps its room."""
        texts = []
        for axes in places:
            axes.set_title("\n".join(["Ag"] * lines), fontsize=size, pad=9, alpha=0)
            texts.append(
                axes.annotate("", (0.5, 1), (0, 6), "axes fraction", "offset points", color=INK,
                              fontsize=size, ha="center", va="baseline")
            )  # fmt: skip
        self.moves(*texts)
        return texts

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
        flat = image.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        flat.save(out, "png", compress_level=1)
        return out.getvalue()


BINS = np.linspace(0, 1, 51)
LINES = {"kernel": COLOURS[0], "best RBF": ARM_COLOURS["rbf"]}


class KernelPanel(RedrawnChart):
    """Is this just an RBF? Matrix, best RBF, pair by pair, histogram and spectrum of both.

    Args:
        labels: classes ``(n,)``; the matrices are sorted by them.
        class_names: names to write at the axes, one per class number; else the numbers.
    """

    def __init__(self, labels: Tensor, class_names: Sequence[str] | None = None) -> None:
        super().__init__(10.6, 5.9)
        classes = _array(labels)
        self._order, n = np.argsort(classes, kind="stable"), len(classes)
        top, bottom = self.subfigures(2, 1, height_ratios=(3.4, 2.0))
        heat, beside, pairs = top.subplots(1, 3)
        histogram, spectrum = bottom.subplots(1, 2)
        self._images = [
            _heat_map(axes, np.zeros((n, n)), classes, class_names, edges=False, vmin=0, vmax=1)
            for axes in (heat, beside)
        ]
        top.colorbar(self._images[0], ax=[heat, beside], label="Kernel value", shrink=0.8)
        quiet(pairs, "Value of the best RBF", "Kernel value", grid="both")
        pairs.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        pairs.plot([0, 1], [0, 1], color=INK, lw=1, ls="--")
        quiet(histogram, "Value of a pair (not on the diagonal)", "Share of pairs", grid="x")
        histogram.set(xlim=(0, 1), ylim=(0, 1.05), yticks=[])
        quiet(spectrum, "Eigenvalue number", "Eigenvalue / trace", grid="both")
        spectrum.set(xlim=(0, n + 1), ylim=(1e-6, 2))
        _log_axis(spectrum)
        dots = {"ls": "", "marker": "o", "ms": 2.5, "mew": 0, "alpha": 0.3}
        (self._pairs,) = pairs.plot([], [], color=COLOURS[0], **dots)
        self._stairs, self._spectra = [], []
        for name, colour in LINES.items():
            filled = name == "kernel"
            look = {"fill": filled, "alpha": 0.7 if filled else 1, "lw": 1.8, "color": colour}
            self._stairs.append(histogram.stairs(np.zeros(50), BINS, label=name, **look))
            self._spectra += spectrum.plot([], [], color=colour, lw=1.8, label=name)
        legend = histogram.legend(frameon=False, fontsize=9.5, loc="upper right")
        self._beside, self._axes, self._name = "best RBF", pairs, legend.get_texts()[1]
        self.moves(*self._images, self._pairs, *self._stairs, *self._spectra)
        self._said = self.titles((heat, beside, pairs), size=10)
        self._said += self.titles((histogram, spectrum), size=10, lines=1)

    def draw_kernel(
        self,
        kernel: Tensor,
        diagnosis: Diagnosis,
        name: str = "kernel",
        beside: tuple[str, Tensor, str, str] | None = None,
    ) -> KernelPanel:
        """Set the panel to a kernel; returns the panel.

        Args:
            kernel: ``(n, n)``, values from 0 to 1.
            diagnosis: of :func:`~qrkd_lab.kernels.diagnosis.diagnose`, with labels and angles.
            name: of the kernel.
            beside: name and matrix ``(n, n)`` of what is drawn beside it, then a few words on that
                matrix and on how far both agree; None: the best RBF of the diagnosis.

        """
        if beside is None:
            fit = diagnosis.fit
            explained = f"R² = {fit.r_squared:.2f}".replace("R² = nan", "nothing to explain")
            beside = ("best RBF", fit.matrix, f"bandwidth {fit.kernel.bandwidth:.3g}", explained)
        other, matrix, about, explained = beside
        if other != self._beside:
            self._beside = other
            self._name.set_text(other)
            self._axes.set_xlabel(f"Value of the {other}")
            self.lay_out_again()
        both = [kernel.detach().cpu().double(), matrix]
        values = [off_diagonal_values(matrix).numpy() for matrix in both]
        self._pairs.set_data(values[1], values[0])
        for i, matrix in enumerate(both):
            self._images[i].set_data(matrix.numpy()[np.ix_(self._order, self._order)])
            counts = np.histogram(values[i].clip(0, 1), BINS)[0]
            self._stairs[i].set_data(counts / counts.max())
            share = eigenvalues(matrix).abs().sort(descending=True).values.numpy()
            share = np.maximum(share / share.sum(), TINY)
            self._spectra[i].set_data(np.arange(1, len(share) + 1), share)
        pairs, aligned = diagnosis.off_diagonal, diagnosis.centred_alignment
        said = [
            f"{name}\ncentred alignment with classes {aligned:.2f}".replace("nan", "–"),
            f"{other}\n{about}",
            f"pair by pair\n{explained}",
            f"mean {pairs.mean:.2f}, standard deviation {math.sqrt(pairs.variance):.2f}",
            f"effective rank {diagnosis.effective_rank:.1f} of {diagnosis.samples}",
        ]
        for place, text in zip(self._said, said, strict=True):
            place.set_text(text)
        self.alt = (
            f"{diagnosis.verdict}. Heat maps of {name} and of the {other}, sorted by class, a "
            "scatter of their values over pairs, histograms and spectra of both. "
            f"{'; '.join(said)}."
        ).replace("\n", ": ")
        return self
