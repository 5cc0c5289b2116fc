"""Pictures of quantum states: the Bloch sphere, what a measurement finds, and what looks alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.kernels.base import Kernel, positive
from qrkd_lab.plots.diagnostics import COLOURS, MARKERS
from qrkd_lab.plots.style import INK, Chart, need, panels, quiet
from qrkd_lab.relations import check_features

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bloch_spheres", "likeness_maps", "outcome_curves"]

LINE = "#BBBBBB"
ELEVATION, AZIMUTH = 18, 35  # degrees, from where a sphere is seen
ROUNDING = 1e-4  # of single precision, in lengths and in sums of probabilities


def bloch_spheres(
    paths: Mapping[str, Tensor], title: str = "A feature moves, and the qubit moves on its sphere"
) -> Chart:
    r"""Where does a qubit go as features move? Bloch vectors joined in order, a sphere a path.

    The vector is :math:`(\langle X \rangle, \langle Y \rangle, \langle Z \rangle)`: on the sphere
    for a qubit with a state of its own, inside for one that is entangled with others.

    Args:
        paths: name to vectors ``(n, 3)``, of length at most 1; the first is drawn as a square.
        title: the message.

    Raises:
        TypeError, ValueError: no path, not a finite float ``(n, 3)``, or longer than 1.
    """
    need(len(paths), 'a mapping from names to Bloch vectors (n, 3), e.g. {"RY": r}')
    for name, path in paths.items():
        check_features(path, name)
        if path.shape[1] != 3 or path.norm(dim=1).max() > 1 + ROUNDING:
            raise ValueError(
                f"{name}: expected Bloch vectors (n, 3) of length <= 1, got {tuple(path.shape)} "
                f"of length up to {path.norm(dim=1).max().item():.3g}"
            )
    columns = min(3, len(paths))
    chart = Chart(3.1 * columns, 3.5 * math.ceil(len(paths) / columns) + 0.5)
    said = []
    for number, ((name, path), colour) in enumerate(zip(paths.items(), COLOURS, strict=False)):
        rows = math.ceil(len(paths) / columns)
        axes = chart.add_subplot(rows, columns, number + 1, projection="3d")
        _draw_sphere(axes)
        points = path.detach().cpu().double().numpy()
        axes.plot(*points.T, color=colour, lw=1.4)
        axes.scatter(*points.T, color=colour, s=14, depthshade=False)
        axes.scatter(*points[0], color=colour, s=60, marker="s", edgecolors="white")
        lengths = np.linalg.norm(points, axis=1)
        axes.set_title(f"{name}\nlength {lengths.min():.2f} to {lengths.max():.2f}", fontsize=10)
        where = [", ".join(f"{v:.2f}" for v in points[i] + 0.0) for i in (0, -1)]
        said.append(f"{name} from ({where[0]}) to ({where[1]})")
    return chart.finish(
        title, f"Bloch spheres, |0> on top, with the path of (X, Y, Z): {'; '.join(said)}."
    )


def _draw_sphere(axes: Axes) -> None:
    """A sphere of three circles with its poles and the directions of X and Y named."""
    turn = np.linspace(0, 2 * np.pi, 73)
    c, s, o = np.cos(turn), np.sin(turn), 0 * turn
    up, side = np.radians(ELEVATION), np.radians(AZIMUTH)
    right = np.array([-np.sin(side), np.cos(side), 0])
    top = np.array([-np.sin(up) * np.cos(side), -np.sin(up) * np.sin(side), np.cos(up)])
    outline = np.outer(right, c) + np.outer(top, s)  # (3, 73), in the plane of the picture
    for circle in ((c, s, o), (c, o, s), (o, c, s), outline):
        axes.plot(*circle, color=LINE, lw=0.7)
    for at, text in (((0, 0, 1.25), "|0⟩"), ((0, 0, -1.3), "|1⟩"), ((1.35, 0, 0), "X"),
                     ((0, 1.25, 0), "Y")):  # fmt: skip
        axes.text(*at, text, fontsize=9, color=INK, ha="center", va="center")
    axes.set_box_aspect((1, 1, 1), zoom=1.25)
    axes.set(xlim=(-1, 1), ylim=(-1, 1), zlim=(-1, 1))
    axes.set_proj_type("ortho")
    axes.view_init(elev=ELEVATION, azim=AZIMUTH)
    axes.set_axis_off()


def outcome_curves(
    x: Tensor,
    states: Mapping[str, Tensor],
    label: str = "Angle x",
    title: str = "What a measurement finds, as the angle moves",
) -> Chart:
    r"""What does a measurement see of a state? The probability of each bit string.

    .. math:: p_b(x) = \lvert \langle b | \phi(x) \rangle \rvert^2

    Args:
        x: ``(n,)``, what is moved.
        states: name to states ``(n, 2^q)``, complex or real, of length 1; q at most 3.
        label: of the horizontal axis.
        title: the message.

    Raises:
        ValueError: no state, another number than n, more than 3 qubits, or not of length 1.
    """
    need(len(states), 'a mapping from names to states (n, 2^q), e.g. {"angle": psi}')
    chart, places = panels(len(states), height=2.9, rest=0.9)
    said, named = [], {}
    for axes, (name, state) in zip(places, states.items(), strict=True):
        shares = _probabilities(name, state, len(x))
        qubits = shares.shape[1].bit_length() - 1
        quiet(axes, label, "").set_title(name, fontsize=11)
        axes.set_ylim(-0.03, 1.03)
        for number, share in enumerate(shares.T):
            bits = f"{number:0{qubits}b}"
            style = {"color": COLOURS[number], "marker": MARKERS[number], "markevery": 0.125}
            (line,) = axes.plot(x.detach().cpu(), share, lw=1.8, ms=5, **style)
            named.setdefault(bits, line)
        highs = ", ".join(f"{s.min():.2f} to {s.max():.2f}" for s in shares.T)
        said.append(f"{name} {highs}")
    places[0].set_ylabel("Probability", fontsize=10, color=INK)
    chart.legend(
        named.values(), named, loc="outside lower left", ncols=8, frameon=False, fontsize=10
    )
    return chart.finish(
        title, f"Curves of the probability of each bit string; ranges: {'; '.join(said)}."
    )


def _probabilities(name: str, state: Tensor, n: int) -> np.ndarray:
    """|amplitude|^2 ``(n, 2^q)``, checked."""
    if state.ndim != 2 or len(state) != n or state.shape[1] not in (2, 4, 8):
        raise ValueError(
            f"{name}: expected states ({n}, 2^q) with q from 1 to 3, got {tuple(state.shape)}"
        )
    shares = state.detach().cpu().abs().double().square()
    if (shares.sum(1) - 1).abs().max() > ROUNDING:
        raise ValueError(f"{name}: expected states of length 1; divide each row by its norm")
    return shares.numpy()


def likeness_maps(
    kernels: Mapping[str, Kernel],
    point: Tensor,
    reach: float = math.pi,
    title: str = "Which points of the plane are like the cross?",
) -> Chart:
    """What looks alike? Kernel value of every point of the plane with one point, a map a kernel.

    Args:
        kernels: name to kernel of two angles.
        point: ``(2,)``, marked by a cross.
        reach: the map shows angles from -reach to reach.
        title: the message.

    Raises:
        ValueError: no kernel, reach not > 0, or a kernel that does not take two angles.
    """
    need(len(kernels), 'a mapping from names to kernels, e.g. {"angle": FidelityKernel(...)}')
    positive("reach", reach)
    line = torch.linspace(-reach, reach, 61, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)  # (61 * 61, 2)
    chart, places = panels(len(kernels), height=2.9, rest=0.9)
    said = []
    for axes, (name, kernel) in zip(places, kernels.items(), strict=True):
        with torch.no_grad():
            values = kernel(grid, point.double()[None]).cpu().reshape(61, 61).T.numpy()
        box = (-reach, reach, -reach, reach)
        image = axes.imshow(values, origin="lower", extent=box, cmap="cividis", vmin=0, vmax=1)
        axes.plot(*point.tolist(), "x", color="black", ms=9, mew=2.5)
        axes.set_title(name, fontsize=10.5)
        axes.set_xlabel("Angle x₁", fontsize=10, color=INK)
        said.append(f"{name} mean {values.mean():.2f}")
    places[0].set_ylabel("Angle x₂", fontsize=10, color=INK)
    chart.colorbar(image, ax=places, label="Kernel value", shrink=0.85)
    return chart.finish(
        title,
        f"Heat maps of the kernel with the point ({point[0]:.2f}, {point[1]:.2f}) over the plane: "
        f"{'; '.join(said)}.",
    )
