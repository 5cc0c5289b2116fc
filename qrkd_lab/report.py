"""From runs to numbers: what each arm reached, and whether a difference is more than chance.

:func:`results` makes a table with a row a run; :func:`summary` compares the arms in it. All arms of
one seed start from the same student and see the same batches, so two arms are compared seed by
seed. With d_s = metric(arm, seed s) - metric(reference, seed s) over S seeds,

    difference = mean(d)        interval = mean(d) +- t_{S-1} * sd(d) / sqrt(S)

and p is the paired t-test's, adjusted by Holm's method because several arms are compared at once;
arms that are the same in every seed count once, and not at all if they are the reference.
Perplexities are compared in logs: d_s = log(arm / reference), and difference and interval are given
as exp(.) - 1, the part by which the arm's perplexity is larger.
The answer is a :class:`~qrkd_lab.summary.Summary`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from qrkd_lab.statistics import FEWEST, holm, interval
from qrkd_lab.summary import GAPS, Summary, in_logs, questions

if TYPE_CHECKING:
    from qrkd_lab.runs import Run

__all__ = ["ARM_ORDER", "order_arms", "results", "summary"]

ARM_ORDER = ("teacher", "scratch", "kd", "rkd_only", "rkd", "qrkd")
MEANS = {name: name for name in GAPS} | {
    "agreement": "test_agreement",
    "seconds": "seconds",
    "word_perplexity": "test_word_perplexity",
}
PAIRED = ("pairs", "difference", "difference_low", "difference_high", "p", "p_adjusted")


def order_arms(arms: Iterable[str]) -> list[str]:
    """Each arm once: teacher, scratch, kd, rkd_only, rkd, qrkd, then the others as they come."""
    arms = dict.fromkeys(arms)
    return [a for a in ARM_ORDER if a in arms] + [a for a in arms if a not in ARM_ORDER]


def results(runs: Iterable[Run]) -> pd.DataFrame:
    """A row a run: who it is, every metric, three gaps, cost, and the run itself (column ``run``).

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
    _refuse_duplicates(scratch, home)
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


def _refuse_duplicates(frame: pd.DataFrame, by: Sequence[str] = ("arm", "seed")) -> None:
    for _, group in frame[frame.duplicated(list(by), keep=False)].groupby(list(by)):
        who = f"{group['arm'].iloc[0]} seed {group['seed'].iloc[0]}"
        raise ValueError(
            f"expected one run of {who}, got {len(group)}; they differ in {_differing(group)}. "
            "Keep the runs of one kind, e.g. [r for r in runs if r.settings['epochs'] == 5]."
        )


def _differing(rows: pd.DataFrame) -> str:
    if "run" not in rows:
        return "settings that this table does not hold"
    all_settings = [run.settings for run in rows["run"]]
    parts = []
    for name in dict.fromkeys(name for settings in all_settings for name in settings):
        values = list(dict.fromkeys(repr(settings.get(name)) for settings in all_settings))
        if len(values) > 1:
            parts.append(f"{name} ({' and '.join(values)})")
    return ", ".join(parts) or "no setting, so in the data or as copies of one run"


def summary(
    results: pd.DataFrame,
    reference: str = "rkd",
    metric: str | None = None,
    confidence: float = 0.95,
    higher_is_better: bool | None = None,
) -> Summary:
    """Compare every arm with the reference, seed by seed.

    Args:
        results: the table of :func:`results`, or any with columns ``arm``, ``seed`` and the metric.
        reference: the arm that the others are compared with.
        metric: a column of ``results``; None: the runs' own, else ``test_accuracy``.
        confidence: of the intervals; ``1 - confidence`` is the level of the verdicts.
        higher_is_better: False for a loss or a perplexity; None: as the runs or the metric's name
            say.

    Raises:
        ValueError: no such metric or reference (the message lists the choices), two runs of one
            arm and seed, several benchmarks or scales in one table, a metric of which nothing says
            whether more is better, or a perplexity that is not above 0.

    Example:
        >>> summary(results(runs)).verdict("qrkd")                     # doctest: +SKIP
        'qrkd is better than rkd: +0.31 points on average over 5 seeds, 95 % interval ...'
    """
    own = results["run"].iloc[0].metric if "run" in results and len(results) else {}
    metric = metric or own.get("name", "test_accuracy")
    _check(results, reference, metric, confidence)
    if higher_is_better is None:
        higher_is_better = _direction(metric, own)
    rows = results.dropna(subset=[metric])
    table = rows.pivot(index="seed", columns="arm", values=metric).astype(float)
    arms = order_arms(rows["arm"])
    notes = _notes_on_records(rows)
    if reference not in arms:
        raise ValueError(f"{reference} has no {metric}; these arms have: {', '.join(arms)}.")
    if in_logs(metric) and not (table > 0).where(table.notna(), True).all(axis=None):
        raise ValueError(f"{metric}: a perplexity is above 0, got {table.min(axis=None)}.")
    frame = _compare(table[arms], reference, confidence, notes, in_logs(metric))
    for name, column in MEANS.items():
        known = rows[column] if column in rows else pd.Series(math.nan, rows.index)
        frame[name] = known.astype(float).groupby(rows["arm"]).mean()
    few = [f"{arm} ({int(n)})" for arm, n in frame["seeds"].items() if n < FEWEST]
    if few:
        notes.append(f"No interval and no p with fewer than {FEWEST} seeds: {', '.join(few)}.")
    return Summary(frame, tuple(notes), reference, metric, confidence, higher_is_better, rows)


def _check(results: pd.DataFrame, reference: str, metric: str, confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, e.g. 0.95; got {confidence}.")
    if missing := {"arm", "seed"} - set(results.columns):
        raise ValueError(f"expected the table of results(), got one without {sorted(missing)}.")
    if metric not in results:
        choices = results.select_dtypes("number").columns.difference(["seed", "parameters"])
        raise ValueError(f"unknown metric {metric!r}; choose from {', '.join(choices)}.")
    if reference not in (arms := order_arms(results["arm"])):
        raise ValueError(f"no runs of the reference {reference!r}; arms here: {', '.join(arms)}.")
    for name in {"benchmark", "scale"} & set(results.columns):
        if len(values := sorted(set(results[name]))) > 1:
            raise ValueError(
                f"expected one {name}, got {', '.join(values)}: keep one, "
                f"e.g. results[results[{name!r}] == {values[0]!r}]."
            )
    _refuse_duplicates(results)


HIGHER = {"accuracy", "agreement", "alignment", "auc", "bleu", "f1", "gain", "precision", "recall"}
LOWER = {"error", "gap", "kl", "loss", "mae", "mse", "nll", "perplexity", "rmse", "seconds"}


def _direction(metric: str, own: Mapping[str, Any]) -> bool:
    """Whether more is better: what the runs say of their own metric, else what the name says."""
    if metric == own.get("name"):
        return own["higher_is_better"]
    kind = metric.lower().replace("_", " ").split()[-1]
    if kind not in HIGHER | LOWER:
        raise ValueError(
            f"{metric}: is more of it better, or less? Say higher_is_better=True or False."
        )
    return kind in HIGHER


def _compare(
    table: pd.DataFrame, reference: str, confidence: float, notes: list[str], logs: bool
) -> pd.DataFrame:
    """From a row a seed and a column an arm to a row an arm; says in ``notes`` what is odd."""
    stated, scores = {}, np.log(table) if logs else table
    for arm in table:
        paired = {} if arm == reference else _paired(scores, arm, reference, confidence, notes)
        if logs:
            paired |= {name: math.expm1(paired[name]) for name in PAIRED[1:4] if name in paired}
        values = table[arm].dropna().to_numpy()
        low, high = interval(values, confidence)
        stated[arm] = {"seeds": len(values), "mean": values.mean(), "low": low, "high": high}
        stated[arm] |= dict.fromkeys(PAIRED, math.nan) | paired
    frame = pd.DataFrame.from_dict(stated, orient="index").rename_axis("arm")
    tested = [arm for arm in table if arm not in (reference, "teacher")]
    asked = questions(frame.loc[tested])["p"].to_numpy()
    adjusted = dict(zip(asked, holm(asked), strict=True))  # equal p, equal adjusted p
    frame.loc[tested, "p_adjusted"] = [adjusted.get(p, p) for p in frame.loc[tested, "p"]]
    return frame


def _paired(
    table: pd.DataFrame, arm: str, reference: str, confidence: float, notes: list[str]
) -> dict[str, float]:
    both = table[[arm, reference]].dropna()
    if alone := sorted(set(table[[arm, reference]].dropna(how="all").index) - set(both.index)):
        seeds = ", ".join(map(str, alone))
        notes.append(f"{arm} and {reference} are compared on {len(both)} seeds; not on {seeds}.")
    x, y = both[arm].to_numpy(), both[reference].to_numpy()
    found = {"pairs": len(both), "difference": (x - y).mean() if len(both) else math.nan}
    if len(both) < FEWEST:
        return found
    names = ("difference_low", "difference_high", "p")
    if (x == y).all():
        notes.append(f"{arm} and {reference} are identical in every seed.")
        return found | dict(zip(names, (0.0, 0.0, 1.0), strict=True))
    if np.ptp(x - y) <= 1e-12 * np.abs([x, y]).max():
        notes.append(
            f"{arm} and {reference} differ by the same amount in every seed: no spread from which "
            "to estimate an interval or p."
        )
        return found
    test = stats.ttest_rel(x, y)
    low, high = test.confidence_interval(confidence)
    return found | dict(zip(names, (low, high, test.pvalue), strict=True))


def _notes_on_records(rows: pd.DataFrame) -> list[str]:
    """Sentences about what differs among the records although it should not."""
    if "run" not in rows:
        return []
    runs = list(rows["run"])
    seen = [
        {"device": run.device, "data source": run.data.get("source")}
        | {"data content": str(run.data.get("sha256"))[:12], **run.versions}
        for run in runs
    ]
    notes = []
    for name in dict.fromkeys(name for item in seen for name in item):
        values = [str(item.get(name)) for item in seen]
        if len(kinds := dict.fromkeys(values)) > 1:
            counts = " and ".join(f"{kind} ({values.count(kind)} runs)" for kind in kinds)
            notes.append(f"The runs differ in {name}: {counts}.")
    for arm, group in rows.groupby("arm", sort=False):
        without_seed = [{k: v for k, v in r.settings.items() if k != "seed"} for r in group["run"]]
        if odd := [k for k in without_seed[0] if len({repr(s.get(k)) for s in without_seed}) > 1]:
            notes.append(f"The runs of {arm} have different settings: {', '.join(odd)}.")
    return notes
