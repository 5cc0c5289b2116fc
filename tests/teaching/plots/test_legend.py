"""The grid of arms: each part of each arm, in the arm's own style."""

from __future__ import annotations

import pytest
from matplotlib.colors import to_hex

from qrkd_lab.studies.settings import ARMS
from qrkd_lab.teaching.plots.style import ARM_COLOURS, PARTS, arm_grid

pytestmark = pytest.mark.filterwarnings("error")


def parts(name):
    return {part for part, has in PARTS.items() if has(ARMS[name])}


def test_every_control_lacks_what_it_is_a_control_for():
    whole = parts("qrkd")
    assert whole == set(PARTS)
    assert whole - parts("shuffled") == {"right pairs"}
    assert whole - parts("detached") == {"gradient"}
    assert whole - parts("random_teacher") == {"trained"}
    assert whole - parts("no_entanglement") == {"entangling"}
    assert whole - parts("projected") == {"fidelity"}
    assert whole - parts("rbf") == {"circuit", "fidelity", "entangling"}
    assert parts("rkd") == {"task", "outputs", "distances", "angles"}
    assert parts("rkd_only") == parts("rkd") - {"outputs"} and parts("scratch") == {"task"}


def test_filled_points_are_the_arms_own():
    figure = arm_grid(["rkd", "qrkd"])
    drawn = [line for line in figure.axes[0].lines if line.get_marker() not in (".", "None")]
    rkd = [line for line in drawn if to_hex(line.get_color()) == ARM_COLOURS["rkd"].lower()]
    assert len(rkd) == len(parts("rkd")) and len(drawn) == len(rkd) + len(PARTS)
    assert "rkd: task, outputs, distances, angles;" in figure.alt


@pytest.mark.parametrize(
    ("arms", "says"), [([], "nothing to draw"), (["x"], "choose from scratch")]
)
def test_wrong_input_is_told(arms, says):
    with pytest.raises(ValueError, match=says):
        arm_grid(arms)
