"""qrkd_lab: learn, explore and reproduce Quantum Relational Knowledge Distillation.

The public names are listed in ``__all__``; each is imported when it is first used, so that
``import qrkd_lab as ql`` costs next to nothing.
"""

from __future__ import annotations

from qrkd_lab.faces import face

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
        "kd_loss",
        "kernel_loss",
        "relation_loss",
    ],
    "relations": ["pairwise_distances", "triplet_angles"],
    "studies.benchmarks": ["Benchmark", "benchmark_of", "load_benchmark"],
    "studies.compare": ["Study", "compare"],
    "studies.records": ["load_run", "published_runs", "read_runs"],
    "studies.settings": ["ARMS"],
    "studies.tune": ["tune"],
    "teaching.notebooks": ["check_values"],
}

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = face(__name__, _HOMES)  # noqa: PLE0605
