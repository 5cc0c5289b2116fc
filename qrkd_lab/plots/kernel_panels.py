"""One kernel at a glance, beside the RBF that comes nearest; quick enough to follow a slider."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import NullLocator

from qrkd_lab.kernels.diagnostics import eigenvalues, off_diagonal_values
from qrkd_lab.plots.diagnostics import COLOURS, TINY, log_axis
from qrkd_lab.plots.redrawn import RedrawnChart
from qrkd_lab.plots.style import ARM_COLOURS, INK, quiet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

    from qrkd_lab.kernels.diagnosis import Diagnosis

__all__ = ["KernelPanel", "kernel_panel"]

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
