"""Kernels on features: quantum ones, classical controls, and the way from features to angles."""

from __future__ import annotations

from qrkd_lab.kernels.alignment import (
    centred_alignment,
    class_matrix,
    geometric_difference,
    kernel_target_alignment,
)
from qrkd_lab.kernels.base import Kernel
from qrkd_lab.kernels.classical import (
    CosineKernel,
    LaplacianKernel,
    PolynomialKernel,
    RBFKernel,
)
from qrkd_lab.kernels.diagnosis import bandwidth_table, concentration_table, diagnose
from qrkd_lab.kernels.diagnostics import effective_rank, off_diagonal, spectral_entropy
from qrkd_lab.kernels.encoders import Encoder
from qrkd_lab.kernels.fits import best_fit
from qrkd_lab.kernels.quantum import FidelityKernel, ProjectedKernel
from qrkd_lab.kernels.relation import KernelRelation
from qrkd_lab.kernels.surrogates import random_feature_surrogate, surrogate_gaps

__all__ = [
    "KERNELS",
    "CosineKernel",
    "Encoder",
    "FidelityKernel",
    "Kernel",
    "KernelRelation",
    "LaplacianKernel",
    "PolynomialKernel",
    "ProjectedKernel",
    "RBFKernel",
    "bandwidth_table",
    "best_fit",
    "centred_alignment",
    "class_matrix",
    "concentration_table",
    "diagnose",
    "effective_rank",
    "geometric_difference",
    "kernel_target_alignment",
    "off_diagonal",
    "random_feature_surrogate",
    "spectral_entropy",
    "surrogate_gaps",
]

KERNELS: dict[str, type[Kernel]] = {
    "fidelity": FidelityKernel,
    "projected": ProjectedKernel,
    "rbf": RBFKernel,
    "laplacian": LaplacianKernel,
    "polynomial": PolynomialKernel,
    "cosine": CosineKernel,
}
