r"""Kernel numbers: what a record says of its student's kernel matrix and of the teacher's.

An arm with a kernel term has trained an adapter for it; the others have none. So that all arms can
be compared, each student is seen through a *view* that training had no part in: the linear map from
its features to the teacher's angles that least squares finds,

.. math:: W = \arg\min_W \lVert F_s W - A_t \rVert^2 + \tfrac{\lambda}{d_s} \operatorname{tr}(
          F_s^T F_s) \lVert W \rVert^2, \qquad \lambda = 10^{-3},

with centred features :math:`F_s` ``(n, d_s)`` and angles :math:`A_t` ``(n, q)`` of one half of the
samples. The kernel of the study, the same for all arms, then compares teacher and student on the
other half. All samples are of the validation part, which no student was trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from qrkd_lab.benchmarks import Benchmark
from qrkd_lab.kernels import Encoder, Kernel
from qrkd_lab.kernels.alignment import NothingToAlign, centred_alignment
from qrkd_lab.kernels.calibration import calibrated
from qrkd_lab.kernels.diagnostics import effective_rank, off_diagonal
from qrkd_lab.kernels.encoders import standardise
from qrkd_lab.learner import Learner
from qrkd_lab.seeds import derived_seed
from qrkd_lab.settings import build_kernel

__all__ = ["kernel_numbers", "least_squares_view"]

SAMPLES = 512  # half for the views, half for the numbers
FEWEST = 8  # with fewer samples none of the numbers means anything
RIDGE = 1e-3  # keeps dead and nearly dead features out of the view


def kernel_numbers(
    benchmark: Benchmark, learners: Sequence[Learner], teacher: nn.Module | None
) -> list[dict[str, float]]:
    """What each student's kernel matrix is like, and how like the teacher's.

    ``feature_alignment``
        CKA of the features' Gram matrices: no kernel, no view. As all CKA here it is by the biased
        estimator, so too high for few samples with many features: compare it between arms.
    ``kernel_alignment``
        CKA of student and teacher through the study's kernel and a least-squares view.
    ``kernel_spread``, ``kernel_rank``
        Standard deviation over pairs, and effective rank, of that matrix of the student.
    ``teacher_kernel_spread``, ``teacher_kernel_rank``
        The same of the teacher's.
    ``own_kernel_alignment``
        CKA through the arm's own kernel and adapter, where it has them; to the trained teacher,
        whatever its control did to the pairing.

    Args:
        benchmark: gives the samples, the first of its validation part.
        learners: trained, of one seed.
        teacher: trained; None, where the teacher itself was trained.

    Returns:
        A dictionary a learner. Empty without a teacher or with fewer than 8 samples; without the
        study's kernel where it takes more angles than the teacher has features, or than half the
        samples. A student that sees no difference between samples has alignment 0.
    """
    if teacher is None or not learners:
        return [{} for _ in learners]
    taught, *seen = _features(benchmark, [teacher, *(learner.model for learner in learners)])
    if len(taught) < FEWEST:
        return [{} for _ in learners]
    settings = replace(benchmark.settings, arm="qrkd", seed=learners[0].settings.seed)
    kernel = build_kernel(settings)
    angles = None
    qubits = kernel.features or settings.qubits
    if qubits <= taught.shape[1] and 2 * qubits < len(taught):
        # The teacher's side alone is used, so the student's may be as wide as it is.
        encoder = Encoder(
            taught.shape[1],
            taught.shape[1],
            qubits,
            settings.encoder,
            derived_seed(settings.seed, "encoder"),
        )
        fitted, half = encoder.fit(taught), len(taught) // 2
        angles = fitted.teacher(taught[:half]), fitted.teacher(taught[half:])
        if settings.bandwidth is None:
            kernel = calibrated(kernel, angles[0])
    found = []
    for learner, features in zip(learners, seen, strict=True):
        numbers = {"feature_alignment": _alignment(features @ features.T, taught @ taught.T)}
        if angles is not None:
            numbers |= _through_view(kernel, features, *angles)
        found.append(numbers | _own(learner, features, taught))
    return found


def least_squares_view(features: Tensor, angles: Tensor) -> Tensor:
    """The linear map ``(d, q)`` that takes centred features ``(n, d)`` nearest to ``(n, q)``.

    Ridge regression; the formula is in the module's docstring.
    """
    centred = features - features.mean(0)
    gram = centred.T @ centred
    size = gram.trace() / len(gram)
    if not size > 0:
        return features.new_zeros(len(gram), angles.shape[1])
    ridge = RIDGE * size * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram + ridge, centred.T @ angles)


@torch.no_grad()
def _through_view(
    kernel: Kernel, features: Tensor, fitted: Tensor, held_out: Tensor
) -> dict[str, float]:
    """Numbers of student and teacher through one kernel, the student seen by least squares."""
    half = len(fitted)
    view = least_squares_view(features[:half], fitted)
    student, teacher = kernel(standardise(features[half:] @ view)), kernel(held_out)
    return {
        "kernel_alignment": _alignment(student, teacher),
        **_shape(student, "kernel"),
        **_shape(teacher, "teacher_kernel"),
    }


def _shape(matrix: Tensor, name: str) -> dict[str, float]:
    return {
        f"{name}_spread": math.sqrt(off_diagonal(matrix).variance),
        f"{name}_rank": effective_rank(matrix),
    }


@torch.no_grad()
def _own(learner: Learner, features: Tensor, taught: Tensor) -> dict[str, float]:
    """Alignment through the arm's own adapter and kernel, on the second half of the samples."""
    relation = learner.loss.relation
    if relation is None:
        return {}
    half, device = len(taught) // 2, relation.encoder.teacher_map.device
    student, teacher = (x[half:].to(device) for x in (features, taught))
    own = _alignment(relation.student(student), relation.teacher(teacher))
    return {"own_kernel_alignment": own}


def _alignment(matrix: Tensor, target: Tensor) -> float:
    try:
        return centred_alignment(matrix, target)
    except NothingToAlign:
        return 0.0


@torch.no_grad()
def _features(benchmark: Benchmark, models: Sequence[nn.Module]) -> list[Tensor]:
    """Features ``(n, d)`` of the first validation samples, a model each, in float64 on the CPU."""
    rows: list[list[Tensor]] = [[] for _ in models]
    for model in models:
        model.eval()
    for inputs, _ in benchmark.passes(benchmark.validation):
        for model, kept in zip(models, rows, strict=True):
            kept.append(benchmark.outputs(model, inputs).features.cpu().double())
        if sum(map(len, rows[0])) >= SAMPLES:
            break
    return [torch.cat(kept)[:SAMPLES] for kept in rows]
