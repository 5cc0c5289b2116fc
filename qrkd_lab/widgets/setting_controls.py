"""A control for each setting of a distillation that one wants to turn by hand.

A browser counts the steps of a number field from its least value: from 0, so that 0.003 is followed
by 0.004. What may not be 0 is refused by the settings, in words.
"""

from __future__ import annotations

import ipywidgets as W

from qrkd_lab.kernels import KERNELS
from qrkd_lab.kernels.calibration import BANDWIDTHS
from qrkd_lab.kernels.encoders import ENCODERS
from qrkd_lab.kernels.feature_maps import FEATURE_MAPS
from qrkd_lab.settings import Settings
from qrkd_lab.widgets.controls import menu, number, slider

__all__ = ["FIELDS", "OPEN", "setting_controls"]

FIELDS = (
    "epochs", "learning_rate", "temperature", "kd_weight", "distance_weight", "angle_weight",
    "kernel_weight", "kernel", "feature_map", "qubits", "layers", "bandwidth", "encoder",
)  # fmt: skip
OPEN = {"layers": "the map's own", "bandwidth": "by the rule"}  # what a menu says for None
LAYERS = (OPEN["layers"], *range(1, 7))
RULE = {OPEN["bandwidth"]: OPEN["bandwidth"], **{f"{b:.4g}": b for b in BANDWIDTHS}}


def setting_controls(start: Settings) -> dict[str, W.Widget]:
    """A control for each of the settings."""
    return {
        "epochs": number("Epochs", start.epochs, 1, 1000),
        "learning_rate": number("Learning rate", start.learning_rate, 0.0, 1e9, 1e-3),
        "temperature": number("Temperature", start.temperature, 0.0, 100.0, 0.5),
        "kd_weight": number("Weight of kd", start.kd_weight, 0.0, 1e6, 0.1),
        "distance_weight": number("of distances", start.distance_weight, 0.0, 1e6, 0.1),
        "angle_weight": number("of angles", start.angle_weight, 0.0, 1e6, 0.1),
        "kernel_weight": number("of the kernel", start.weight("kernel"), 0.0, 1e6, 0.1),
        "kernel": menu("Kernel", start.kernel, tuple(KERNELS)),
        "feature_map": menu("Feature map", start.feature_map, tuple(FEATURE_MAPS)),
        "qubits": slider("Qubits", start.qubits, 1, 12),
        "layers": menu("Layers", start.layers or OPEN["layers"], LAYERS),
        "bandwidth": menu("Bandwidth", start.bandwidth or OPEN["bandwidth"], RULE),
        "encoder": menu("Encoder", start.encoder, tuple(ENCODERS)),
    }
