"""Explorers for JupyterLab and Voila: turn a knob, and the picture answers while you turn it.

``from qrkd_lab import widgets`` and, as the last line of a cell, ``widgets.KernelExplorer()``.
Each is a thin coat over functions that work without it: the controls make a state, the state makes
figures and sentences. Without a browser (papermill, a saved file, a page that shows no widgets) the
figure of the last state is left in the notebook.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "DistillationExplorer": "distillation",
    "KernelExplorer": "kernels",
    "RelationExplorer": "relations",
    "StudyBrowser": "records",
    "WidgetDoctor": "health",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"qrkd_lab.widgets has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
