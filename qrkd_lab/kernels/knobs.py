r"""Knobs of a kernel, and what each does to the kernel matrix: cheap numbers, no student.

A *setting* is one value for every knob of :data:`KNOBS`. It makes a kernel matrix of a teacher's
features, and the matrix gives four numbers, all from 0 to 1 (:data:`MEASURES`). Knobs are turned
one at a time (:func:`one_at_a_time`; on several random projections and paired, see
:mod:`qrkd_lab.kernels.knob_changes`) or all at random (:func:`random_design`). Of the latter, a
knob's importance is how much worse a regression forest predicts a number without it
(:func:`importances`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.kernels.alignment import NothingToAlign, centred_alignment, class_matrix
from qrkd_lab.kernels.calibration import calibrated
from qrkd_lab.kernels.diagnostics import effective_rank, off_diagonal
from qrkd_lab.kernels.encoders import Encoder
from qrkd_lab.kernels.fits import best_fit
from qrkd_lab.kernels.quantum import FidelityKernel

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["KNOBS", "MEASURES", "importances", "kernel_of", "measured", "one_at_a_time",
           "random_design"]  # fmt: skip

KNOBS: dict[str, Any] = {
    "feature_map": "zz",
    "qubits": 6,
    "layers": 2,
    "entangle": True,
    "encoder": "projection",
    "bandwidth": 1.0,
    "rule": True,
    "seed": 0,
}
MEASURES = {
    "spread": "Spread over pairs",
    "rank": "Effective rank / n",
    "alignment": "Alignment with classes (biased CKA)",
    "rbf": "R² of the best RBF, at least 0",
}


def kernel_of(features: Tensor, **knobs: Any) -> tuple[FidelityKernel, Tensor]:  # noqa: ANN401
    """The kernel and the angles ``(n, q)`` that one setting makes of a teacher's features.

    Args:
        features, knobs: see :func:`measured`, which takes its numbers from ``kernel(angles)``.

    Raises:
        ValueError: an unknown knob (lists them); see also the encoder and the kernel.
    """
    if unknown := sorted(knobs.keys() - KNOBS.keys()):
        raise ValueError(f"unknown knob {unknown[0]!r}; choose from {', '.join(KNOBS)}")
    k = KNOBS | knobs
    d, q = features.shape[1], k["qubits"]
    encoder = Encoder(d, d, q, k["encoder"], k["seed"]).fit(features)
    angles = encoder.teacher(features).double()
    kernel = FidelityKernel(k["feature_map"], q, k["layers"], entangle=k["entangle"])
    centre = calibrated(kernel, angles).bandwidth if k["rule"] else 1.0
    return dataclasses.replace(kernel, bandwidth=centre * k["bandwidth"]), angles


def measured(features: Tensor, labels: Tensor, **knobs: Any) -> dict[str, float]:  # noqa: ANN401
    """The numbers of the kernel matrix that one setting gives.

    Args:
        features: of a teacher ``(n, d)``, n >= 3 (n > q for the encoder ``pca``).
        labels: classes ``(n,)``.
        knobs: of :data:`KNOBS`, whose values stand for those left out. ``encoder`` is the
            teacher's side of an :class:`~qrkd_lab.kernels.encoders.Encoder`, ``seed`` that of its
            projection. ``bandwidth`` is a factor on the calibrated bandwidth of this setting, or
            the bandwidth itself where ``rule`` is False.

    Returns:
        The :data:`MEASURES`, ``bandwidth`` as used, and ``shots`` an entry at which shot noise is
        as large as the spread. ``alignment`` and ``rbf`` of a constant matrix are 0.

    Raises:
        ValueError: see :func:`kernel_of`.
    """
    kernel, angles = kernel_of(features, **knobs)
    with torch.no_grad():
        matrix = kernel(angles)
    pairs = off_diagonal(matrix)
    rbf = best_fit(matrix, angles).r_squared
    noise = max(pairs.mean * (1 - pairs.mean), 0.0)
    return {
        "spread": math.sqrt(pairs.variance),
        "rank": effective_rank(matrix) / len(matrix),
        "alignment": _aligned(matrix, labels),
        "rbf": max(0.0, rbf) if math.isfinite(rbf) else 0.0,
        "shots": noise / pairs.variance if pairs.variance > 0 else math.inf,
        "used": kernel.bandwidth,
    }


def one_at_a_time(
    features: Tensor,
    labels: Tensor,
    knobs: Mapping[str, Sequence[Any]],
    **base: Any,  # noqa: ANN401
) -> DataFrame:
    """Turn one knob, all others at their base values: a row for each knob and value.

    Args:
        features, labels: see :func:`measured`.
        knobs: name to values, in the order to show them.
        base: values other than those of :data:`KNOBS` for the knobs that stand still.

    Returns:
        Columns ``knob``, ``value``, and those of :func:`measured`. ``.attrs["rule"]`` tells
        whether bandwidths are multiples of the rule's.
    """
    from pandas import DataFrame

    rows = [
        {"knob": knob, "value": value} | measured(features, labels, **base | {knob: value})
        for knob, values in knobs.items()
        for value in values
    ]
    table = DataFrame(rows)
    table.attrs["rule"] = base.get("rule", KNOBS["rule"])
    return table


def random_design(
    features: Tensor,
    labels: Tensor,
    knobs: Mapping[str, Sequence[Any]],
    count: int,
    seed: int = 0,
    **base: Any,  # noqa: ANN401
) -> DataFrame:
    """All knobs drawn at random and independently: a row a setting, a column a knob and a number.

    Args:
        features, labels, base: see :func:`one_at_a_time`.
        knobs: name to values to draw from, each as likely.
        count: settings, >= 1.
        seed: of the draw.
    """
    from pandas import DataFrame

    source = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        drawn = {name: values[source.integers(len(values))] for name, values in knobs.items()}
        rows.append(drawn | measured(features, labels, **base | drawn))
    return DataFrame(rows)


def importances(
    design: DataFrame, knobs: Sequence[str], measure: str, seed: int = 0, repeats: int = 10
) -> DataFrame:
    """Which knobs does a forest need to predict a measure on settings that it has not seen?

    A forest of regression trees is fitted on two thirds of the settings. On the last third each
    knob's column is shuffled in turn; its importance is how much R^2 falls (scikit-learn's
    ``permutation_importance``).

    Args:
        design: of :func:`random_design`, at least 30 rows.
        knobs: columns to predict from; words become numbers, a column a word.
        measure: column to predict.
        seed: of the split, the forest and the shuffles.
        repeats: shuffles a knob.

    Returns:
        A row a knob: ``importance`` and its ``spread`` over shuffles; ``.attrs["r_squared"]`` is
        that of the unshuffled forest, without which importances say nothing.

    Raises:
        ValueError: fewer than 30 rows, or an unknown column.
    """
    from pandas import DataFrame
    from pandas.api.types import is_numeric_dtype
    from sklearn.compose import make_column_transformer
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    if missing := [name for name in (*knobs, measure) if name not in design]:
        raise ValueError(f"unknown column {missing[0]!r}; choose from {', '.join(design)}")
    if len(design) < 30:
        raise ValueError(f"expected at least 30 settings to learn from, got {len(design)}")
    inputs = design[list(knobs)]
    words = [name for name in knobs if not is_numeric_dtype(inputs[name])]
    parts = train_test_split(inputs, design[measure], test_size=1 / 3, random_state=seed)
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), words), remainder="passthrough"),
        RandomForestRegressor(100, random_state=seed),
    ).fit(parts[0], parts[2])
    fallen = permutation_importance(model, parts[1], parts[3], n_repeats=repeats, random_state=seed)
    found = DataFrame(
        {"importance": fallen.importances_mean, "spread": fallen.importances_std}, list(knobs)
    )
    found.attrs["r_squared"] = float(model.score(parts[1], parts[3]))
    return found


def _aligned(matrix: Tensor, labels: Tensor) -> float:
    try:
        return centred_alignment(matrix, class_matrix(labels))
    except NothingToAlign:
        return 0.0
