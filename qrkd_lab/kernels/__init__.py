"""Kernels on features: quantum ones, classical controls, and the way from features to angles."""

from __future__ import annotations

from qrkd_lab.kernels.analysis import (
    centred_alignment,
    class_matrix,
    effective_rank,
    geometric_difference,
    kernel_target_alignment,
    off_diagonal,
    spectral_entropy,
)
from qrkd_lab.kernels.classical import (
    CosineKernel,
    Kernel,
    LaplacianKernel,
    PolynomialKernel,
    RBFKernel,
    StretchedRBFKernel,
)
from qrkd_lab.kernels.diagnosis import (
    best_fit,
    concentration_table,
    diagnose,
    random_feature_surrogate,
)
from qrkd_lab.kernels.encoders import Encoder, KernelRelation
from qrkd_lab.kernels.quantum import FidelityKernel, ProjectedKernel

__all__ = [
    "KERNELS", "CosineKernel", "Encoder", "FidelityKernel", "Kernel", "KernelRelation",
    "LaplacianKernel", "PolynomialKernel", "ProjectedKernel", "RBFKernel", "StretchedRBFKernel",
    "best_fit", "centred_alignment", "class_matrix", "concentration_table", "diagnose",
    "effective_rank", "geometric_difference", "kernel_target_alignment", "off_diagonal",
    "random_feature_surrogate", "spectral_entropy",
]  # fmt: skip

KERNELS: dict[str, type[Kernel]] = {
    "fidelity": FidelityKernel,
    "projected": ProjectedKernel,
    "rbf": RBFKernel,
    "laplacian": LaplacianKernel,
    "polynomial": PolynomialKernel,
    "cosine": CosineKernel,
}
