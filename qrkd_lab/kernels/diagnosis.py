"""One look at a kernel: all the diagnostics at once, and what they mean in words."""

from __future__ import annotations

import dataclasses
import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qrkd_lab.kernels.alignment import (
    NothingToAlign,
    centred_alignment,
    class_matrix,
    kernel_target_alignment,
)
from qrkd_lab.kernels.base import Kernel, positive, whole
from qrkd_lab.kernels.calibration import BANDWIDTHS
from qrkd_lab.kernels.diagnostics import OffDiagonal, effective_rank, off_diagonal
from qrkd_lab.kernels.fits import NEARLY, Fit, best_fit
from qrkd_lab.kernels.quantum import FidelityKernel

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Diagnosis", "bandwidth_table", "concentration_table", "diagnose"]

GOOD_FIT = 0.9  # R^2 from which the words say "fitted by"


@dataclass(frozen=True)
class Diagnosis:
    """What a kernel matrix sees; shows itself as a small table.

    Attributes:
        samples: n.
        off_diagonal: mean, variance, smallest and largest value over pairs.
        effective_rank: from 1 to n.
        alignment: kernel-target alignment with the classes; None without labels.
        centred_alignment: the same, centred (CKA); None without labels, NaN if K is constant.
        fit: the best RBF; None without angles.
    """

    samples: int
    off_diagonal: OffDiagonal
    effective_rank: float
    alignment: float | None = None
    centred_alignment: float | None = None
    fit: Fit | None = None

    @property
    def spectral_entropy(self) -> float:
        """In nats: the logarithm of the effective rank."""
        return math.log(self.effective_rank)

    @property
    def shots(self) -> float:
        """Shots an entry at which shot noise is as large as the spread of the entries.

        An entry k estimated from S shots has variance k (1 - k) / S; taken at the mean value and
        set equal to the variance over pairs. Infinite for a constant matrix.
        """
        mean, variance = self.off_diagonal.mean, self.off_diagonal.variance
        return max(mean * (1 - mean), 0.0) / variance if variance > 0 else math.inf

    @property
    def verdict(self) -> str:
        """What the numbers mean, in a sentence or two."""
        if self.effective_rank > NEARLY * self.samples:
            said = "nearly the identity: each sample only resembles itself"
        elif self.off_diagonal.mean > NEARLY:
            said = "nearly all ones: all samples look alike"
        else:
            spread = math.sqrt(self.off_diagonal.variance)
            said = f"neither identity nor all ones: likenesses spread by {spread:.2f} over pairs"
        if self.fit is None:
            return said
        if self.fit.near_identity:
            return f"{said}; an RBF resembles it only because both are nearly the identity"
        if math.isnan(self.fit.r_squared):
            return f"{said}; all pairs are equally alike, so there is nothing for an RBF to fit"
        fitted = "fitted by" if self.fit.r_squared >= GOOD_FIT else "not fitted by"
        return f"{said}; {fitted} an RBF (R^2 = {self.fit.r_squared:.2f})"

    def _rows(self) -> list[tuple[str, str]]:
        pairs = self.off_diagonal
        rows = [
            ("samples", f"{self.samples}"),
            ("mean over pairs", f"{pairs.mean:.4g}"),
            ("variance over pairs", f"{pairs.variance:.3g}"),
            ("range over pairs", f"{pairs.min:.3g} to {pairs.max:.3g}"),
            ("effective rank", f"{self.effective_rank:.1f} of {self.samples}"),
            ("spectral entropy", f"{self.spectral_entropy:.2f} nats"),
            ("shots an entry", f"{self.shots:.3g}"),
        ]
        if self.alignment is not None:
            rows.append(("alignment with classes", f"{self.alignment:.3f}"))
            rows.append(("the same, centred", f"{self.centred_alignment:.3f}"))
        return [*rows, ("best RBF", str(self.fit).partition(": ")[2])] if self.fit else rows

    def __str__(self) -> str:
        rows = [f"{name:<24}{value}" for name, value in self._rows()]
        return "\n".join([f"Kernel matrix: {self.verdict}.", *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
            for name, value in self._rows()
        )
        caption = f"Kernel matrix: {html.escape(self.verdict)}."
        return f"<table><caption>{caption}</caption><tbody>{body}</tbody></table>"


def diagnose(kernel: Tensor, labels: Tensor | None = None, x: Tensor | None = None) -> Diagnosis:
    """All diagnostics of a kernel matrix, and what they mean in words.

    Args:
        kernel: ``(n, n)``, n >= 2.
        labels: classes ``(n,)``, for the alignments.
        x: the angles ``(n, q)`` that the kernel was given, n >= 3, for its best RBF.

    Raises:
        TypeError, ValueError: see :func:`~qrkd_lab.kernels.diagnostics.off_diagonal`,
            :func:`~qrkd_lab.kernels.alignment.kernel_target_alignment` and
            :func:`~qrkd_lab.kernels.fits.best_fit`.

    Example:
        >>> diagnose(torch.eye(4)).verdict
        'nearly the identity: each sample only resembles itself'
    """
    pairs = off_diagonal(kernel)
    aligned = None if labels is None else kernel_target_alignment(kernel, labels)
    return Diagnosis(
        len(kernel),
        pairs,
        effective_rank(kernel),
        aligned,
        None if labels is None else _with_classes(kernel, labels),
        None if x is None else best_fit(kernel, x),
    )


def concentration_table(
    feature_maps: Sequence[str] = ("angle", "zz", "iqp"),
    qubits: Iterable[int] = (2, 4, 6, 8, 10),
    bandwidths: Iterable[float] = (1.0,),
    angles: Tensor | None = None,
    samples: int = 64,
    seed: int = 0,
) -> DataFrame:
    """How fidelity kernels concentrate: a row for each feature map, bandwidth and q.

    Args:
        feature_maps: names, or PennyLane quantum functions; not ``amplitude`` (2^q features).
        qubits: numbers of qubits.
        bandwidths: factors on the angles.
        angles: ``(n, at least the largest q)``, whose first q columns are taken; None: standard
            normal, as an encoder standardises its angles.
        samples, seed: of the normal angles.

    Returns:
        Columns ``feature_map``, ``bandwidth``, ``qubits``, ``mean``, ``variance``,
        ``effective_rank``, ``samples``.

    Raises:
        ValueError: fewer columns of angles than qubits; see also :class:`~qrkd_lab.FidelityKernel`.
    """
    from pandas import DataFrame

    qubits, bandwidths = list(qubits), list(bandwidths)
    most = max(whole("qubits", q, 1) for q in qubits)
    if angles is None:
        size = (whole("samples", samples, 2), most)
        generator = torch.Generator().manual_seed(seed)
        angles = torch.randn(size, dtype=torch.float64, generator=generator)
    if angles.ndim != 2 or angles.shape[1] < most:
        raise ValueError(f"angles: expected (n, {most} or more), got {tuple(angles.shape)}")
    rows = []
    for feature_map in feature_maps:
        name = feature_map if isinstance(feature_map, str) else feature_map.__name__
        for bandwidth in bandwidths:
            for q in qubits:
                with torch.no_grad():
                    matrix = FidelityKernel(feature_map, q, bandwidth=bandwidth)(angles[:, :q])
                pairs, rank = off_diagonal(matrix), effective_rank(matrix)
                rows.append((name, bandwidth, q, pairs.mean, pairs.variance, rank, len(angles)))
    columns = "feature_map bandwidth qubits mean variance effective_rank samples".split()
    return DataFrame(rows, columns=columns)


def bandwidth_table(
    kernel: Kernel,
    x: Tensor,
    labels: Tensor | None = None,
    bandwidths: Sequence[float] = BANDWIDTHS,
) -> DataFrame:
    """What a kernel sees at each bandwidth: from all ones to the identity.

    Args:
        kernel: any kernel with a bandwidth.
        x: angles ``(n, q)``, n >= 3.
        labels: classes ``(n,)``; adds the column ``alignment``: CKA with the classes.
        bandwidths: to try.

    Returns:
        Columns ``bandwidth``, ``spread`` (standard deviation over pairs: the calibrated bandwidth
        is where it is largest), ``mean``, ``effective_rank``, and ``alignment`` with labels.

    Raises:
        ValueError: a kernel without bandwidth, or fewer than three samples.
    """
    from pandas import DataFrame

    if "bandwidth" not in {field.name for field in dataclasses.fields(kernel)}:
        raise ValueError(f"{kernel} has no bandwidth to vary")
    if len(x) < 3:
        raise ValueError(f"x: expected at least 3 samples, got {len(x)}")
    rows = []
    for bandwidth in bandwidths:
        positive("bandwidth", bandwidth)
        with torch.no_grad():
            matrix = dataclasses.replace(kernel, bandwidth=bandwidth)(x.double())
        pairs = off_diagonal(matrix)
        row = {
            "bandwidth": bandwidth,
            "spread": math.sqrt(pairs.variance),
            "mean": pairs.mean,
            "effective_rank": effective_rank(matrix),
        }
        aligned = {} if labels is None else {"alignment": _with_classes(matrix, labels)}
        rows.append(row | aligned)
    return DataFrame(rows)


def _with_classes(kernel: Tensor, labels: Tensor) -> float:
    """CKA with the classes; NaN where the matrix or the classes are constant."""
    try:
        return centred_alignment(kernel, class_matrix(labels))
    except NothingToAlign:
        return math.nan
