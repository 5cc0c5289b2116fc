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
from typing import TYPE_CHECKING, Any
from zlib import crc32

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = [
    "ARM_COLOURS", "ARM_MARKERS", "INK", "Chart", "arm_style", "draw_interval", "draw_legend",
    "draw_seeds", "marker", "need", "panels", "quiet", "stacked", "words",
]  # fmt: skip

# Okabe & Ito's palette, then Tol's "muted" for the controls; markers tell apart what is close.
ARM_COLOURS = {
    "teacher": "#000000", "scratch": "#8C8C8C", "kd": "#E69F00", "rkd_only": "#56B4E9",
    "rkd": "#0072B2", "qrkd": "#D55E00", "rbf": "#009E73", "cosine": "#CC79A7",
    "projected": "#882255", "no_entanglement": "#999933", "shuffled": "#332288",
    "detached": "#DDCC77", "random_teacher": "#661100",
}  # fmt: skip
ARM_MARKERS = dict(zip(ARM_COLOURS, "*Xsv^oDPpdh<>", strict=True))
SPARE = ("#7A5195", "#B07D2B", "#2A7F9E", "#A23B4A", "#5B7F3A")  # for arms of the user's own
INK, FAINT = "#333333", "#DDDDDD"


class Chart(Figure):
    """A matplotlib figure that displays itself in a notebook, with ``alt`` as its alt text."""

    alt: str = ""

    def __init__(self, width: float, height: float) -> None:
        """A figure of this size in inches, laid out so that nothing overlaps."""
        super().__init__(figsize=(width, height), layout="constrained", facecolor="white")

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:  # noqa: ANN401
        # A bare Figure shows as text unless pyplot is set up; and only HTML carries alt text there.
        drawn, packed = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png", dpi=144)
        few = Image.open(drawn).convert("RGB").quantize(dither=Image.Dither.NONE)
        few.save(packed, "png", optimize=True)
        png = base64.b64encode(packed.getvalue()).decode()  # 256 colours: a third of the size
        width, height = (round(inches * 96) for inches in self.get_size_inches())  # CSS pixels
        alt = html.escape(self.alt, quote=True)
        image = f'<img src="data:image/png;base64,{png}" alt="{alt}" width="{width}">'
        data = {"image/png": png, "text/html": image, "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt, "width": width, "height": height}}

    def finish(self, title: str, alt: str) -> Chart:
        """Set the title (wrapped to the width) and the description; returns the figure."""
        wide = textwrap.fill(title, int(self.get_figwidth() * 9.5))
        self.suptitle(wide, x=0.01, ha="left", fontsize=12, fontweight="bold", color="black")
        self.alt = f"{title}. {alt}"
        return self


def arm_style(arm: str) -> dict[str, str]:
    """The colour and marker of an arm, always the same; an unknown arm's follow from its name."""
    number = crc32(arm.encode())
    colour = ARM_COLOURS.get(arm) or SPARE[number % len(SPARE)]
    return {"color": colour, "marker": ARM_MARKERS.get(arm, "o^sDvP"[number % 6])}


def panels(count: int, height: float, rest: float, columns: int = 3) -> tuple[Chart, list[Axes]]:
    """A chart of ``count`` panels, at most ``columns`` a row.

    It is ``height`` inches high for each row, and ``rest`` for all else.
    """
    columns = min(columns, count)
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


def draw_interval(
    axes: Axes, at: float, row: Iterable[float], style: Mapping[str, str], across: bool = False
) -> None:
    """A mean with the bar from low to high, ``row`` all three, at ``at`` on the arms' axis."""
    mean, low, high = row
    bar = None if math.isnan(low) else [[mean - low], [high - mean]]
    place = {"x": mean, "y": at, "xerr": bar} if across else {"x": at, "y": mean, "yerr": bar}
    axes.errorbar(**place, lw=2, capsize=4, capthick=2, zorder=3, **marker(style, 9))


def draw_seeds(axes: Axes, x: ArrayLike, y: ArrayLike, style: Mapping[str, str]) -> None:
    """Small points, one a seed."""
    size = 60 if style["marker"] == "*" else 24
    axes.scatter(x, y, s=size, alpha=0.75, zorder=2, lw=0, **style)


def stacked(values: pd.Series) -> pd.Series:
    """How far to lift each point, so that equal values stand beside each other and are counted."""
    place = values.groupby(values.round(9)).cumcount()
    return place * min(0.11, 0.32 / max(1, place.max()))


def draw_legend(chart: Chart, labels: Mapping[str, str]) -> None:
    """A legend right of the panels: a text for each arm."""
    handles = [
        Line2D([], [], lw=1.8, label=text, **marker(arm_style(arm))) for arm, text in labels.items()
    ]
    chart.legend(handles=handles, loc="outside right center", frameon=False, fontsize=10)


def words(name: str) -> str:
    """A column's name as a label: ``test_accuracy`` is "Test accuracy"."""
    return name.replace("_", " ").capitalize()


def need(count: int, what: str) -> None:
    """Refuse to draw nothing, and say what was expected."""
    if not count:
        raise ValueError(f"nothing to draw: expected {what}, got none.")
