"""The table of runs: a row per run, with its metrics, gaps and costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from qrkd_lab.studies.records import Run

__all__ = ["ARM_ORDER", "GAPS", "differing", "order_arms", "refuse_duplicates", "results"]

ARM_ORDER = ("teacher", "scratch", "kd", "rkd_only", "rkd", "qrkd")
GAPS = ("train_test_gap", "teacher_student_gap", "distillation_gain")


def order_arms(arms: Iterable[str]) -> list[str]:
    """Each arm once: teacher, scratch, kd, rkd_only, rkd, qrkd, then the others as they come."""
    arms = dict.fromkeys(arms)
    return [a for a in ARM_ORDER if a in arms] + [a for a in arms if a not in ARM_ORDER]


def results(runs: Iterable[Run]) -> pd.DataFrame:
    """A row per run: who it is, every metric, three gaps, cost, and the run (column ``run``).

    The gaps are built from the run's own metric and positive means, in this order: better on the
    training data than on the test data; behind the teacher; ahead of ``scratch`` of the same seed.
    ``distillation_gain`` is NaN where there is no such ``scratch``; ``seconds`` counts training
    and evaluation.

    Raises:
        ValueError: no runs, or a seed with several ``scratch`` runs to measure the gain by.
    """
    rows = [_row(run) for run in runs]
    if not rows:
        raise ValueError("expected at least one run, got none: train some, or check the folder.")
    frame = pd.DataFrame(rows)
    place = {arm: i for i, arm in enumerate(order_arms(frame["arm"]))}
    frame = frame.sort_values(
        ["benchmark", "scale", "arm", "seed"],
        key=lambda column: column.map(place) if column.name == "arm" else column,
        ignore_index=True,
    )
    home = ["benchmark", "scale", "seed"]
    scratch = frame[frame["arm"] == "scratch"]
    refuse_duplicates(scratch, home)
    ahead = frame[home].merge(scratch[[*home, "_score"]], "left", home)["_score"]
    frame["distillation_gain"] = (frame["_score"] - ahead).where(frame["arm"] != "teacher")
    last = [*GAPS, "seconds", "parameters", "device", "source", "key", "run"]
    first = [name for name in frame.columns if name not in last and name != "_score"]
    return frame[first + last]


def _row(run: Run) -> dict[str, Any]:
    name, metrics = run.metric["name"], run.metrics
    sign = 1.0 if run.metric["higher_is_better"] else -1.0
    value = metrics.get(name, math.nan)
    student = run.settings["arm"] != "teacher"
    teacher = metrics.get(f"teacher_{name}", math.nan) if student else math.nan
    train = metrics.get(f"train_{name.removeprefix('test_')}", math.nan)
    return {
        **{part: run.settings[part] for part in ("benchmark", "scale", "arm", "seed")},
        **metrics,
        "train_test_gap": sign * (train - value),
        "teacher_student_gap": sign * (teacher - value),
        "_score": sign * value,
        "seconds": float(sum(run.seconds.values())),
        "parameters": run.parameters,
        "device": run.device,
        "source": run.data.get("source"),
        "key": run.key,
        "run": run,
    }


def refuse_duplicates(frame: pd.DataFrame, by: Sequence[str] = ("arm", "seed")) -> None:
    """Raise ValueError if two rows are of the same run, and say what differs."""
    for _, group in frame[frame.duplicated(list(by), keep=False)].groupby(list(by)):
        said = "settings that this table does not hold"
        if "run" in group:
            kinds = differing([run.settings for run in group["run"]]).items()
            said = ", ".join(f"{name} ({' and '.join(counts)})" for name, counts in kinds)
            said = said or "no setting, so in the data or as copies of one run"
        raise ValueError(
            f"expected one run of {group['arm'].iloc[0]} seed {group['seed'].iloc[0]}, got "
            f"{len(group)}; they differ in {said}. Keep the runs of one kind, e.g. "
            "[r for r in runs if r.settings['epochs'] == 5]."
        )


def differing(items: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """The names whose values are not the same in all items, with how often each value is there."""
    names = dict.fromkeys(name for item in items for name in item)
    counts = {name: Counter(str(item.get(name)) for item in items) for name in names}
    return {name: found for name, found in counts.items() if len(found) > 1}
