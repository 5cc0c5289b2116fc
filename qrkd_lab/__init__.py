"""qrkd_lab: learn, explore and reproduce Quantum Relational Knowledge Distillation.

The public names are listed in ``__all__``; each is imported when it is first used, so that
``import qrkd_lab as ql`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "qrkd_lab.arms": ("ARMS",),
    "qrkd_lab.benchmarks": ("Benchmark", "benchmark_of", "load_benchmark"),
    "qrkd_lab.comparison": ("compare",),
    "qrkd_lab.data": ("DataError",),
    "qrkd_lab.kernels": (
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
    ),
    "qrkd_lab.losses": ("angle_loss", "distance_loss", "kd_loss", "kernel_loss", "relation_loss"),
    "qrkd_lab.objective": ("DistillationLoss", "Outputs", "TeacherBatch"),
    "qrkd_lab.published": ("published_runs",),
    "qrkd_lab.relations": ("pairwise_distances", "triplet_angles"),
    "qrkd_lab.runs": ("load_run", "read_runs"),
    "qrkd_lab.study": ("Study",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__version__ = "0.1.0"
__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOME:
        raise AttributeError(f"qrkd_lab has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
