r"""What can be drawn of a kernel matrix: centred, its principal components, its class blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from qrkd_lab.kernels.diagnostics import check_matrix

__all__ = ["centred", "class_blocks", "kernel_pca"]


def centred(kernel: Tensor) -> Tensor:
    r"""The kernel of the same samples with their mean moved to the origin, in float64.

    .. math:: K^c = HKH, \qquad H = I - \tfrac1n 1 1^T, \qquad
              K^c_{ij} = K_{ij} - \bar K_{i\cdot} - \bar K_{\cdot j} + \bar K

    Args:
        kernel: ``(n, n)``.

    Returns:
        ``(n, n)``; rows and columns sum to 0.

    Raises:
        TypeError, ValueError: see :func:`~qrkd_lab.kernels.diagnostics.check_matrix`.
    """
    matrix = check_matrix(kernel)
    mean = matrix.mean(0)  # (n,): rows and columns alike, as the matrix is symmetric
    return matrix - mean[:, None] - mean[None, :] + mean.mean()


def kernel_pca(kernel: Tensor, components: int = 2) -> Tensor:
    r"""Where each sample lies along the directions in which the kernel's samples spread most.

    .. math:: S_{ik} = \sqrt{\lambda_k}\, v_{ik}, \qquad HKH = \sum_k \lambda_k v_k v_k^T

    Args:
        kernel: ``(n, n)``, positive semi-definite up to rounding.
        components: how many, at most n.

    Returns:
        Scores ``(n, components)`` in float64. The sign of a column is arbitrary; its largest entry
        is made positive.

    Raises:
        ValueError: more components than samples; see also
            :func:`~qrkd_lab.kernels.diagnostics.check_matrix`.

    Source: Schölkopf, Smola, Müller, Neural Computation 10, 1299 (1998).
    """
    matrix = centred(kernel)
    if not 1 <= components <= len(matrix):
        raise ValueError(f"components: expected 1 to n = {len(matrix)}, got {components}")
    values, vectors = torch.linalg.eigh(matrix)
    scores = (vectors * values.clamp(min=0).sqrt()).flip(1)[:, :components]
    largest = scores.gather(0, scores.abs().argmax(0, keepdim=True))
    return scores * torch.where(largest < 0, -1.0, 1.0)


def class_blocks(kernel: Tensor, labels: Tensor) -> Tensor:
    r"""Mean kernel value of each pair of classes, over pairs of different samples.

    .. math:: B_{ab} = \operatorname{mean} \{K_{ij} : y_i = a,\; y_j = b,\; i \ne j\}

    Args:
        kernel: ``(n, n)``.
        labels: ``(n,)``; the classes that occur are sorted.

    Returns:
        ``(c, c)`` in float64, symmetric; NaN on the diagonal for a class with one sample.

    Raises:
        ValueError: labels of another number of samples; see also
            :func:`~qrkd_lab.kernels.diagnostics.check_matrix`.
    """
    matrix = check_matrix(kernel)
    if labels.shape != (len(matrix),):
        raise ValueError(f"labels: expected ({len(matrix)},), got {tuple(labels.shape)}")
    labels = labels.detach().cpu()
    member = (labels[:, None] == labels.unique()).double()  # (n, c)
    different = 1 - torch.eye(len(matrix), dtype=torch.float64)
    sums = member.T @ (matrix * different) @ member  # (c, n) (n, n) (n, c)
    return sums / (member.T @ different @ member)
