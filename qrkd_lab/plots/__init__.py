"""Figures, one function each; every one answers a question that its title answers.

``from qrkd_lab import plots`` and ``plots.paired_differences(...)``: each function is imported when
it is first used. What the figures have in common, one colour for each arm, quiet axes and the
:class:`~qrkd_lab.plots.style.Chart` that displays itself with alt text, is in
:mod:`~qrkd_lab.plots.style`. Seeds are always drawn, not only their mean.
"""

from __future__ import annotations

from qrkd_lab.faces import face

_HOMES = {
    "animation": ("Animation",),
    "budgets": ("cost_bars",),
    "curves": ("curves_of", "learning_curves", "loss_terms"),
    "devices": ("noise_and_contrast", "psd_repairs", "shot_errors", "students_by_shots"),
    "diagnostics": ("just_an_rbf", "off_diagonal_histogram", "spectra"),
    "equivalence": ("detectable_curve", "equivalence_bars"),
    "evidence": ("against", "difference_over_epochs", "false_alarms"),
    "forests": ("by_class", "improvements"),
    "geometry": ("regularisation_curve",),
    "gradients": ("adapter_alone", "term_gradients", "unit_gradients"),
    "images": ("class_samples", "gallery"),
    "kernel_panels": ("kernel_panel",),
    "kernels": ("kernel_matrices",),
    "knobs": ("design_importances", "knob_changes", "knob_effect", "knob_sweeps"),
    "language": ("effect_sizes", "next_word_bars", "window_map"),
    "legend": ("arm_grid",),
    "live": ("arms_so_far", "matrices_so_far"),
    "matrices": (
        "alignment_over_epochs",
        "block_matrices",
        "difference_matrices",
        "kernel_film",
        "kernel_pca_maps",
    ),
    "panels": ("differences_by_arm",),
    "relation_panels": ("relation_panel",),
    "relations": ("forces", "relation_scatter", "soft_targets", "what_relations_see"),
    "scores": ("paired_differences", "scores_by_arm"),
    "states": ("bloch_spheres", "likeness_maps", "outcome_curves"),
    "style": ("Chart", "arm_style"),
    "sweeps": ("bandwidth_curve", "concentration", "surrogate_curve"),
}

__getattr__, __dir__, __all__ = face(__name__, _HOMES)  # noqa: PLE0605
