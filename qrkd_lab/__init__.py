"""qrkd_lab: learn, explore and reproduce Quantum Relational Knowledge Distillation.

The public names are listed in ``__all__``; each is imported when it is first used, so that
``import qrkd_lab as ql`` costs next to nothing.
"""

from __future__ import annotations

import lazy_loader

_HOMES = {
    "data": ["DataError"],
    "kernels": [
        "CosineKernel",
        "Encoder",
        "FidelityKernel",
        "KernelRelation",
        "LaplacianKernel",
        "PolynomialKernel",
        "ProjectedKernel",
        "RBFKernel",
        "best_fit",
        "centred_alignment",
        "diagnose",
        "effective_rank",
        "geometric_difference",
        "kernel_target_alignment",
        "off_diagonal",
        "random_feature_surrogate",
    ],
    "losses": [
        "DistillationLoss",
        "Outputs",
        "TeacherBatch",
        "angle_loss",
        "distance_loss",
        "kernel_loss",
        "relation_loss",
    ],
    "models.taps": ["Tapped"],
    "relations": ["pairwise_distances", "triplet_angles"],
    "studies.arms": ["ARMS", "Arm"],
    "studies.benchmarks": ["Benchmark", "benchmark_of", "load_benchmark"],
    "studies.compare": ["Study", "compare"],
    "studies.records": ["load_run", "published_runs", "read_runs"],
    "studies.tune": ["tune"],
    "tasks": ["Task", "kd_loss"],
    "teaching.parameters": ["check_values"],
}

__version__ = "0.1.0"
_find, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs=_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"{__name__} has no {name!r}; it has {', '.join(__all__)}")
    return _find(name)
