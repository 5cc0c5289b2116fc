"""The arms at a glance: colour and marker of each, and what it has and what it lacks."""

from __future__ import annotations

from collections.abc import Iterable

from qrkd_lab.arms import ARMS, Arm, get_arm
from qrkd_lab.plots.style import FAINT, INK, Chart, arm_style, marker, need

__all__ = ["PARTS", "arm_grid"]

PARTS = {
    "task": lambda arm: True,
    "outputs": lambda arm: "kd" in arm.terms,
    "distances": lambda arm: "distance" in arm.terms,
    "angles": lambda arm: "angle" in arm.terms,
    "a kernel": lambda arm: "kernel" in arm.terms,
    "circuit": lambda arm: "kernel" in arm.terms and arm.kernel in (None, "projected"),
    "fidelity": lambda arm: "kernel" in arm.terms and arm.kernel is None,
    "entangling": lambda arm: PARTS["circuit"](arm) and arm.entangle,
    "gradient": lambda arm: "kernel" in arm.terms and arm.control != "detached",
    "right pairs": lambda arm: "kernel" in arm.terms and arm.control != "shuffled",
    "trained": lambda arm: "kernel" in arm.terms and arm.control != "random_teacher",
}
GROUPS = {"the loss has": (0, 5), "the kernel term has": (5, 11)}


def arm_grid(arms: Iterable[str] = tuple(ARMS), title: str | None = None) -> Chart:
    """Which arm has what? A line per arm, in its colour and marker; a filled point: it has it.

    Two lines that differ in one column answer one question: what that column does.

    Args:
        arms: names.
        title: the message; without it, what the grid shows.

    Raises:
        ValueError: no arm, or an unknown one (lists them).
    """
    chosen: dict[str, Arm] = {name: get_arm(name) for name in arms}
    need(len(chosen), "at least one arm")
    chart = Chart(9.4, 1.9 + 0.34 * len(chosen))
    axes = chart.subplots()
    for y, (name, arm) in enumerate(chosen.items()):
        axes.axhline(y, color=FAINT, lw=0.7, zorder=0)
        for x, has in enumerate(PARTS.values()):
            style = arm_style(name) if has(arm) else {"color": FAINT, "marker": "."}
            axes.plot(x, y, ls="", **marker(style, 10 if has(arm) else 5))
    axes.axvline(GROUPS["the kernel term has"][0] - 0.5, color=FAINT, lw=1.2)
    axes.set_yticks(range(len(chosen)), list(chosen))
    axes.set_xticks(range(len(PARTS)), [name.replace(" ", "\n", 1) for name in PARTS])
    axes.set_xlim(-0.6, len(PARTS) - 0.4)
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.xaxis.tick_top()
    axes.tick_params(labelsize=9.5, length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    for text, (low, high) in GROUPS.items():
        axes.text((low + high - 1) / 2, len(chosen) - 0.25, text, ha="center", va="top",
                  fontsize=10, color=INK)  # fmt: skip
    said = "; ".join(
        f"{name}: {', '.join(part for part, has in PARTS.items() if has(arm))}"
        for name, arm in chosen.items()
    )
    message = f"What {len(chosen)} arms have and lack, each in its own colour and marker"
    return chart.finish(title or message, f"A line per arm, a column a part: {said}.")
