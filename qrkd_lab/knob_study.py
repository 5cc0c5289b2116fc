"""One knob of the kernel term turned, students trained at each value: what does it do to them?

Every value is a study of its own (:func:`~qrkd_lab.comparison.compare`), so records are found
again. Students of one seed share teacher, initial weights and batches at all values and in the
reference arm, so everything is compared seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from qrkd_lab.comparison import compare
from qrkd_lab.statistics import FEWEST, holm, interval

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["knob_summary", "same_at_all_values", "sweep_students"]


def sweep_students(
    benchmark: str,
    knob: str,
    values: Sequence[Any],
    seeds: int | Iterable[int] = 5,
    scale: str = "laptop",
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    arm: str = "qrkd",
    reference: str = "rkd",
    metrics: Sequence[str] = ("test_accuracy", "test_agreement"),
    **options: Any,  # noqa: ANN401
) -> DataFrame:
    """Train an arm at each value of a setting, and the reference once; differences by seed.

    Args:
        benchmark, seeds, scale, jobs, runs_dir: see :func:`~qrkd_lab.comparison.compare`.
        knob: a field of :class:`~qrkd_lab.settings.Settings` that the reference does not use.
        values: in the order to show them.
        arm, reference: names of arms.
        metrics: what to compare.
        options: other arguments of ``compare``, and settings that stand still.

    Returns:
        A row for each value and seed: ``knob``, ``value``, ``seed``, each metric and, as
        ``<metric>_difference``, the same minus the reference; also ``bandwidth``, as used. What
        ``compare`` says of each study is in ``.attrs["notes"]``.

    Raises:
        ValueError: the reference changes with the knob, too; see also ``compare``.
    """
    import pandas as pd

    rest = {"progress": False} | options
    known: DataFrame | None = None
    tables, notes = [], []
    for value in values:
        study = compare(
            benchmark, [reference, arm], seeds, scale, jobs, runs_dir, **rest | {knob: value}
        )
        found = study.results.set_index(["arm", "seed"])
        keys = list(found.loc[reference]["key"])
        if known is not None and keys != list(known["key"]):
            raise ValueError(f"{knob} changes {reference} too, so it is no fixed reference")
        known = found.loc[reference]
        part = found.loc[arm][[*metrics, "bandwidth"]].reset_index()
        for name in metrics:
            part[f"{name}_difference"] = part[name] - known[name].to_numpy()
        tables.append(part.assign(knob=knob, value=[value] * len(part)))
        notes.append(f"{knob} = {value}: {study.notes[0]}")
    table = pd.concat(tables, ignore_index=True)
    table["value"] = table["value"].astype(object)
    table.attrs["notes"] = notes
    return table


def knob_summary(
    table: DataFrame, metric: str = "test_accuracy", confidence: float = 0.95
) -> DataFrame:
    """Mean difference to the reference at each value, its interval, and p (Holm over values).

    Args:
        table: of :func:`sweep_students`.
        metric: one of its metrics.
        confidence: of the interval.

    Returns:
        A row a value: ``mean``, ``low``, ``high``, ``p``, ``seeds``; the last but one NaN with
        fewer than three seeds.
    """
    from pandas import DataFrame, Index

    rows, values = [], []
    for value, part in _by_value(table):
        d = part[f"{metric}_difference"].to_numpy(dtype=float)
        low, high = interval(d, confidence)
        told = len(d) >= FEWEST and np.ptp(d) > 0
        p = float(stats.ttest_1samp(d, 0.0).pvalue) if told else math.nan
        rows.append({"mean": d.mean(), "low": low, "high": high, "p": p, "seeds": len(d)})
        values.append(value)
    found = DataFrame(rows, index=Index(values, dtype=object, name="value"))
    found["p"] = holm(found["p"].to_numpy())
    return found


def same_at_all_values(table: DataFrame, metric: str = "test_accuracy") -> float:
    """p of Friedman's test: could the knob make no difference to the metric at all?

    It ranks the values within each seed, so no scale and no normal distribution is assumed.

    Returns:
        p; NaN with fewer than three values or seeds, where the test says nothing, or where all
        values of a knob give the same in every seed.
    """
    wide = np.array([part[metric].to_numpy(dtype=float) for _, part in _by_value(table)])
    if min(wide.shape) < FEWEST or not np.ptp(wide, axis=0).any():
        return math.nan
    return float(stats.friedmanchisquare(*wide).pvalue)


def _by_value(table: DataFrame) -> list[tuple[Any, DataFrame]]:
    """The rows of each value by seed, values in the table's order; None is a value."""
    names = [repr(value) for value in table["value"]]
    return [
        (part["value"].iloc[0], part.sort_values("seed"))
        for _, part in table.groupby(names, sort=False)
    ]
