"""Kernels on features: quantum ones, classical controls, and the way from features to angles."""

from __future__ import annotations

from qrkd_lab.kernels.base import Kernel
from qrkd_lab.kernels.classical import (
    CosineKernel,
    LaplacianKernel,
    PolynomialKernel,
    RBFKernel,
)
from qrkd_lab.kernels.encoders import Encoder
from qrkd_lab.kernels.quantum import FidelityKernel, ProjectedKernel
from qrkd_lab.kernels.relation import KernelRelation

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
]

KERNELS: dict[str, type[Kernel]] = {
    "fidelity": FidelityKernel,
    "projected": ProjectedKernel,
    "rbf": RBFKernel,
    "laplacian": LaplacianKernel,
    "polynomial": PolynomialKernel,
    "cosine": CosineKernel,
}
