"""Explorers for JupyterLab and Voila: turn a knob, and the picture answers while you turn it.

``from qrkd_lab import widgets`` and, as the last line of a cell, ``widgets.KernelExplorer()``.
Each is a thin coat over functions that work without it: the controls make a state, the state makes
figures and sentences. Without a browser (papermill, a saved file, a page that shows no widgets) the
figure of the last state is left in the notebook.
"""

from __future__ import annotations

from qrkd_lab.faces import face

_HOMES = {
    "distillation": ["DistillationExplorer"],
    "health": ["WidgetDoctor"],
    "kernels": ["KernelExplorer"],
    "records": ["StudyBrowser"],
    "relations": ["RelationExplorer"],
}

__getattr__, __dir__, __all__ = face(__name__, _HOMES)  # noqa: PLE0605
