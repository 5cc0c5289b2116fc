"""What turning a knob changes in a kernel matrix, on several random projections, paired.

Two settings on one random projection differ by the knob; the same setting on two projections
differs by chance. So a knob is turned within each projection, and what counts is whether its change
is the same on all: mean and interval of the paired differences, as for students of one seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from qrkd_lab.kernels.knobs import KNOBS, MEASURES, one_at_a_time
from qrkd_lab.statistics import interval

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import Tensor

__all__ = ["paired_changes", "turned_on_projections"]


def turned_on_projections(
    features: Tensor,
    labels: Tensor,
    knobs: Mapping[str, Sequence[Any]],
    seeds: Iterable[int],
    **base: Any,  # noqa: ANN401
) -> DataFrame:
    """Turn one knob at a time, and do it again on each random projection.

    Args:
        features, labels, knobs, base: see :func:`~qrkd_lab.kernels.knobs.one_at_a_time`. ``seed``
            is no knob here.
        seeds: of the projections.

    Returns:
        The table of :func:`~qrkd_lab.kernels.knobs.one_at_a_time`, with a column ``seed``; in
        ``.attrs["base"]`` the values of all knobs that stand still.

    Raises:
        ValueError: ``seed`` among the knobs, or a knob whose values lack its base value, so that
            there is nothing to compare with.
    """
    import pandas as pd

    base = KNOBS | base
    if "seed" in knobs:
        raise ValueError("seed is no knob here: name the projections in seeds")
    for name, values in knobs.items():
        if name in base and base[name] not in values:
            raise ValueError(f"{name}: expected its base value {base[name]!r} among the values")
    tables = [
        one_at_a_time(features, labels, knobs, **base | {"seed": seed}).assign(seed=seed)
        for seed in seeds
    ]
    table = pd.concat(tables, ignore_index=True)
    table.attrs["base"] = base
    return table


def paired_changes(table: DataFrame, confidence: float = 0.95) -> DataFrame:
    r"""Mean change of each measure from the base value, over projections, with its interval.

    .. math:: d_s = m_s(\text{value}) - m_s(\text{base}), \qquad
              \bar d \pm t_{S-1}\, \operatorname{sd}(d) / \sqrt S

    with the measure m on the projection s of S.

    Args:
        table: of :func:`turned_on_projections`.
        confidence: of the interval.

    Returns:
        A row for each knob, value other than the base, and measure: ``mean``, ``low``, ``high``
        (NaN with fewer than three projections), ``same_sign``: projections whose change has the
        sign of the mean. ``.attrs["rule"]`` as in :func:`~qrkd_lab.kernels.knobs.one_at_a_time`.
    """
    from pandas import DataFrame

    rows = []
    for knob, own in table.groupby("knob", sort=False):
        values = dict(list(own.groupby("value", sort=False)))
        still = values.pop(table.attrs["base"][knob]).set_index("seed")
        for value, part in values.items():
            change = part.set_index("seed")[list(MEASURES)] - still[list(MEASURES)]
            for name, d in change.astype(float).items():
                low, high = interval(d.to_numpy(), confidence)
                same = int((np.sign(d) == np.sign(d.mean())).sum())
                rows.append((knob, value, name, d.mean(), low, high, same))
    columns = ["knob", "value", "measure", "mean", "low", "high", "same_sign"]
    found = DataFrame(rows, columns=columns)
    found.attrs["rule"] = table.attrs["base"]["rule"]
    return found
