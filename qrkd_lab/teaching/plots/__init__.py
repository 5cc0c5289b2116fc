"""Figures, one function each; every one answers a question that its title answers.

``from qrkd_lab.teaching import plots``, ``plots.paired_differences(...)``: each is imported when
it is first used. What the figures have in common, one colour for each arm, quiet axes and the
:class:`~qrkd_lab.teaching.plots.style.Chart` that displays itself with alt text, is in
:mod:`~qrkd_lab.teaching.plots.style`. Seeds are always drawn, not only their mean.
"""

from __future__ import annotations

import lazy_loader

_HOMES = {
    "curves": ["arms_so_far", "differences_over_epochs", "learning_curves", "live_curves",
               "loss_terms"],
    "matrices": ["kernel_matrices", "kernel_pca_maps", "kernel_views", "spectra"],
    "scores": ["arm_grid", "detectable_curve", "dose_response", "improvements",
               "paired_differences", "scores_by_arm", "study_forest"],
    "style": ["ARM_COLOURS", "ARM_MARKERS", "Animation", "Chart", "arm_style", "described"],
}  # fmt: skip

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)  # noqa: PLE0605
