"""Explorers for JupyterLab and Voila: turn a knob, and the picture answers while you turn it.

``from qrkd_lab.teaching import widgets`` and, last in a cell, ``widgets.KernelExplorer()``.
Each is a thin coat over functions that work without it: the controls make a state, the state makes
figures and sentences. Without a browser (papermill, a saved file, a page that shows no widgets) the
figure of the last state is left in the notebook.
"""

from __future__ import annotations

import lazy_loader

_HOMES = {
    "circuit": ["CircuitExplorer"],
    "distillation": ["DistillationExplorer"],
    "kernels": ["KernelExplorer"],
    "records": ["StudyBrowser"],
    "relations": ["RelationExplorer"],
}

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)  # noqa: PLE0605
