"""How figures look: one colour and one marker for each arm, quiet axes, and the figure itself.

Arms keep one colour and one marker through all figures (:data:`ARM_COLOURS`), chosen to be told
apart with a colour-vision deficiency too. Each figure is a :class:`Chart`: a matplotlib figure
without any global state (so it works headless, in threads and in widgets), which shows itself as a
cell's last value and carries a description in ``.alt``.
"""

from __future__ import annotations

import base64
import html
import io
import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zlib import crc32

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = [
    "ARM_COLOURS", "ARM_MARKERS", "Animation", "Chart", "FAINT", "INK", "arm_style",
    "described", "draw_legend", "log_ticks", "marker", "need", "panels", "quiet", "words",
]  # fmt: skip


# Okabe & Ito's palette, then Tol's "muted" for the controls; markers tell apart what is close.
ARM_COLOURS = {
    "teacher": "#000000", "scratch": "#8C8C8C", "kd": "#E69F00", "rkd_only": "#56B4E9",
    "rkd": "#0072B2", "qrkd": "#D55E00", "rbf": "#009E73", "cosine": "#CC79A7",
    "projected": "#882255", "no_entanglement": "#999933", "shuffled": "#332288",
    "detached": "#DDCC77", "random_teacher": "#661100", "qrkd_iqp": "#F28E6B",
    "stretched_rbf": "#117733", "distance_only": "#88CCEE", "angle_only": "#57C7A2",
    "kernel_only": "#A83883", "rbf_only": "#85D6A0",
}  # fmt: skip
# All are filled: seaborn draws filled and unfilled ones in no figure together.
_STARS = [(4, 1, 0), (4, 1, 45), (3, 1, 0), (3, 1, 60)]  # points, 1: of a star, degrees
ARM_MARKERS = dict(zip(ARM_COLOURS, [*"*Xsv^oDPpdh<>H8", *_STARS], strict=True))
SPARE = ("#7A5195", "#B07D2B", "#2A7F9E", "#A23B4A", "#5B7F3A")  # for arms of the user's own
INK, FAINT = "#333333", "#DDDDDD"


class Chart(Figure):
    """A matplotlib figure that displays itself in a notebook, with ``alt`` as its alt text."""

    alt: str = ""

    def __init__(self, width: float, height: float) -> None:
        """A figure of this size in inches, laid out so that nothing overlaps."""
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:  # noqa: ANN401
        # What a backend registers for all figures (ipywidgets' interact makes it do so) would
        # replace the picture by one of three times the size. For charts it gives nothing. (With
        # _ipython_display_ a live picture could not be updated: it takes no display_id.)
        from IPython import get_ipython

        if shell := get_ipython():
            png = shell.display_formatter.formatters["image/png"]
            png.for_type(Chart, lambda chart: None)
        return Described(self, self.alt)._repr_mimebundle_()

    def finish(self, title: str, alt: str) -> Chart:
        """Set the title (wrapped to the width) and the description; returns the figure."""
        wide = textwrap.fill(title, int(self.get_figwidth() * 9.5))
        self.suptitle(wide, x=0.01, ha="left", fontsize=12, fontweight="bold", color="black")
        self.alt = f"{title}. {alt}"
        return self


@dataclass(frozen=True)
class Described:
    """A figure that displays itself in a notebook, with ``alt`` as its alt text."""

    figure: Figure
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:  # noqa: ANN401
        # A bare Figure shows as text unless pyplot is set up; and only HTML carries alt text there.
        packed = io.BytesIO()
        few = _drawn(self.figure, 144).quantize(dither=Image.Dither.NONE)
        few.save(packed, "png", optimize=True)
        png = base64.b64encode(packed.getvalue()).decode()  # 256 colours: a third of the size
        width, height = (round(inches * 96) for inches in self.figure.get_size_inches())  # CSS
        data = {"image/png": png, "text/html": _html("png", png, self.alt, width)}
        extra = {"image/png": {"alt": self.alt, "width": width, "height": height}}
        return {**data, "text/plain": self.alt}, extra


def _drawn(figure: Figure, dpi: int) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return Image.open(file).convert("RGB")


def _html(kind: str, data: str, alt: str, width: int) -> str:
    alt = html.escape(alt, quote=True)
    return f'<img src="data:image/{kind};base64,{data}" alt="{alt}" width="{width}">'


def described(figure: Any, alt: str) -> Described:  # noqa: ANN401
    """A cell's last value: a figure made in the cell, shown once, with its alt text.

    Args:
        figure: of matplotlib, or a grid of seaborn (``sns.catplot`` and the like).
        alt: what a reader who does not see the figure should know, e.g.
            ``described(sns.catplot(table, x="arm", y="accuracy"), "Accuracy per arm: ...")``.
    """
    import matplotlib.pyplot as plt

    figure = getattr(figure, "figure", None) or figure
    plt.close(figure)  # else a notebook shows it a second time, without alt text
    return Described(figure, alt)


def arm_style(arm: str) -> dict[str, Any]:
    """The colour and marker of an arm, always the same; an unknown arm's follow from its name."""
    number = crc32(arm.encode())
    colour = ARM_COLOURS.get(arm) or SPARE[number % len(SPARE)]
    return {"color": colour, "marker": ARM_MARKERS.get(arm, "o^sDvP"[number % 6])}


def panels(count: int, height: float, rest: float) -> tuple[Chart, list[Axes]]:
    """A chart of ``count`` panels, at most three a row.

    It is ``height`` inches high for each row, and ``rest`` for all else.
    """
    columns = min(3, count)
    rows = math.ceil(count / columns)
    chart = Chart(3.0 * columns + 1.0, height * rows + rest)
    places = list(chart.subplots(rows, columns, squeeze=False).flat)
    for axes in places[count:]:
        axes.remove()
    return chart, places[:count]


def marker(style: Mapping[str, str], size: float = 7.0) -> dict[str, Any]:
    """Line2D's settings of a marker with a white edge; a star needs more room."""
    size *= 1.6 if style["marker"] == "*" else 1
    return {**style, "ms": size, "mec": "white", "mew": 0.6}


def quiet(axes: Axes, x: str, y: str, grid: str = "y") -> Axes:
    """Quiet axes: labels, a faint grid behind the data, no box."""
    axes.set_xlabel(x, fontsize=10, color=INK)
    axes.set_ylabel(y, fontsize=10, color=INK)
    axes.tick_params(labelsize=9.5, color=FAINT, labelcolor=INK)
    axes.grid(axis=grid, color=FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    return axes


def draw_legend(chart: Chart, labels: Mapping[str, str]) -> None:
    """A legend right of the panels: a text for each arm."""
    handles = [
        Line2D([], [], lw=1.8, label=text, **marker(arm_style(arm))) for arm, text in labels.items()
    ]
    chart.legend(handles=handles, loc="outside right center", frameon=False, fontsize=10)


def log_ticks(axis: Axis) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5, as plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_locator(NullLocator())


def words(name: str) -> str:
    """A column's name as a label: ``test_accuracy`` is "Test accuracy"."""
    return name.replace("_", " ").capitalize()


def need(count: int, what: str) -> None:
    """Refuse to draw nothing, and say what was expected."""
    if not count:
        raise ValueError(f"nothing to draw: expected {what}, got none.")


class Animation:
    """Figures of one size as frames of a GIF; plays five times, then stands on its last frame.

    A GIF needs neither a kernel nor a script, so it plays in a saved notebook and on the web. It
    has no place in print: draw some of its frames beside it.

    Args:
        figures: the frames, one after the other; each is drawn when its turn comes.
        alt: what a reader who does not see it should know.
        seconds: a frame; the last one stays for two seconds before each repetition.
        dpi: pixels an inch.
    """

    def __init__(
        self, figures: Iterable[Figure], alt: str, seconds: float = 0.25, dpi: int = 72
    ) -> None:
        frames = [_drawn(figure, dpi) for figure in figures]
        self.alt, self.width = alt, frames[0].width
        # One palette for all frames, taken from the last: colours then mean the same in each.
        palette = frames[-1].quantize(64, dither=Image.Dither.NONE)
        first, *rest = (f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
        file, shown = io.BytesIO(), [1000 * seconds] * len(rest) + [2000]
        first.save(
            file, "gif", save_all=True, append_images=rest, optimize=True, duration=shown, loop=4
        )
        self.gif = file.getvalue()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:  # noqa: ANN401
        data = base64.b64encode(self.gif).decode()
        return {"text/html": _html("gif", data, self.alt, self.width), "text/plain": self.alt}
