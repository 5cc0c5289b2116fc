"""From runs to numbers: what each arm reached, and whether a difference is more than chance.

:func:`results` makes a table with a row a run; :func:`summary` compares the arms in it. All arms of
one seed start from the same student and see the same batches, so two arms are compared seed by
seed. With d_s = metric(arm, seed s) - metric(reference, seed s) over S seeds,

    difference = mean(d)        interval = mean(d) +- t_{S-1} * sd(d) / sqrt(S)

and p is the paired t-test's, adjusted by Holm's method because several arms are compared at once.
What the seeds cannot tell is said in words: a wide interval is "no difference that these seeds
could show", never "no difference".
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

if TYPE_CHECKING:
    from qrkd_lab.runs import Run

__all__ = ["ARM_ORDER", "Summary", "order_arms", "results", "seeds_needed", "summary", "units"]

ARM_ORDER = ("teacher", "scratch", "kd", "rkd_only", "rkd", "qrkd")
FEWEST = 3  # seeds for an interval: with two, the t-quantile is 12.7 and the interval says nothing
GAPS = ("train_test_gap", "teacher_student_gap", "distillation_gain")
MEANS = {name: name for name in GAPS} | {"agreement": "test_agreement", "seconds": "seconds"}
COSTS = ("train - test", "to teacher", "over scratch", "agreement", "seconds")
PAIRED = ("pairs", "difference", "difference_low", "difference_high", "p", "p_adjusted")


def order_arms(arms: Iterable[str]) -> list[str]:
    """Each arm once: teacher, scratch, kd, rkd_only, rkd, qrkd, then the others as they come."""
    arms = dict.fromkeys(arms)
    return [a for a in ARM_ORDER if a in arms] + [a for a in arms if a not in ARM_ORDER]


def units(metric: str) -> tuple[float, str]:
    """Factor and unit to print a metric with: fractions as percent, all else as it is."""
    percent = metric.endswith(("accuracy", "agreement"))
    return (100.0, " %") if percent else (1.0, "")


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
    metric: str = "test_accuracy",
    confidence: float = 0.95,
    higher_is_better: bool = True,
) -> Summary:
    """Compare every arm with the reference, seed by seed.

    Args:
        results: the table of :func:`results`, or any with columns ``arm``, ``seed`` and the metric.
        reference: the arm that the others are compared with.
        metric: a column of ``results``.
        confidence: of the intervals; ``1 - confidence`` is the level of the verdicts.
        higher_is_better: False for a loss or a perplexity.

    Raises:
        ValueError: no such metric or reference (the message lists the choices), two runs of one
            arm and seed, or several benchmarks or scales in one table.

    Example:
        >>> summary(results(runs)).verdict("qrkd")                     # doctest: +SKIP
        'qrkd is better than rkd: +0.31 points on average over 5 seeds, 95 % interval ...'
    """
    _check(results, reference, metric, confidence)
    rows = results.dropna(subset=[metric])
    table = rows.pivot(index="seed", columns="arm", values=metric).astype(float)
    arms = order_arms(rows["arm"])
    notes = _notes_on_records(rows)
    if reference not in arms:
        raise ValueError(f"{reference} has no {metric}; these arms have: {', '.join(arms)}.")
    stated = {}
    for arm in arms:
        paired = {} if arm == reference else _paired(table, arm, reference, confidence, notes)
        values = table[arm].dropna().to_numpy()
        low, high = _interval(values, confidence)
        stated[arm] = {"seeds": len(values), "mean": values.mean(), "low": low, "high": high}
        stated[arm] |= dict.fromkeys(PAIRED, math.nan) | paired
    frame = pd.DataFrame.from_dict(stated, orient="index").rename_axis("arm")
    tested = [arm for arm in arms if arm not in (reference, "teacher")]
    frame.loc[tested, "p_adjusted"] = _holm(frame.loc[tested, "p"].to_numpy())
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


def _interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    if len(values) < FEWEST:
        return math.nan, math.nan
    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * stats.sem(values)
    return values.mean() - half, values.mean() + half


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


def _holm(p: np.ndarray) -> np.ndarray:
    """Holm's adjusted p: the i-th smallest of m times (m - i + 1), never falling, at most 1."""
    adjusted = np.full(len(p), math.nan)
    order = [i for i in np.argsort(p) if not math.isnan(p[i])]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


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
            notes.append(f"{arm} was not run with one setting: {', '.join(odd)} differ.")
    return notes


def seeds_needed(
    difference: float, spread: float, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """Seeds that a paired t-test needs to see a difference: an estimate.

    With S seeds the test's t follows a noncentral t with S - 1 degrees of freedom and
    noncentrality sqrt(S) * difference / spread; the answer is the smallest S whose power suffices.
    It takes the difference as true, although it was seen through the same noise.

    Args:
        difference: mean of the paired differences.
        spread: their standard deviation (ddof = 1).

    Returns:
        The number of seeds, or None if a million would not do.

    Example:
        >>> seeds_needed(0.5, 1.0)
        34
    """
    effect = abs(difference) / spread if spread else math.inf

    def enough(seeds: int) -> bool:
        critical = stats.t.ppf((1 + confidence) / 2, seeds - 1)
        shift = min(effect * math.sqrt(seeds), 1e3)
        return stats.nct.sf(critical, seeds - 1, shift) >= power  # the other tail adds < 0.1 %

    low, high = 1, 2
    while not enough(high):
        low, high = high, 2 * high
        if high > 2_000_000:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """What :func:`summary` found; print it, display it, or ask for a :meth:`verdict`.

    Args:
        frame: a row an arm; ``low`` and ``high`` bound the mean, ``difference`` and the rest refer
            to the reference over ``pairs`` seeds; fractions, not percent.
        notes: sentences that belong to the numbers.
        reference, metric, confidence, higher_is_better: as asked for.
        results: the rows that were used.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    reference: str
    metric: str
    confidence: float
    higher_is_better: bool
    results: pd.DataFrame = field(repr=False)

    def verdict(self, arm: str) -> str:
        """One sentence: is the arm better or worse than the reference, and how sure is that?"""
        if arm not in self.frame.index:
            raise ValueError(f"unknown arm {arm!r}; choose from {', '.join(self.frame.index)}.")
        row, level = self.frame.loc[arm], 1 - self.confidence
        if arm == self.reference:
            return f"{arm} is the reference that the other arms are compared with."
        if math.isnan(row["p"]):
            seeds = f"{int(row['pairs'])} shared seeds"
            return f"{arm} and {self.reference} cannot be ranked by {seeds}: see the notes."
        p, how = (row["p"], "") if math.isnan(row["p_adjusted"]) else (row["p_adjusted"], " (Holm)")
        numbers = (
            f"{self._signed(row['difference'])}{self._points()} on average over "
            f"{int(row['pairs'])} seeds, {_percent(self.confidence)} interval "
            f"{self._range(row)}, p {'' if p < 0.001 else '= '}{_p(p)}{how}"
        )
        if p < level:
            better = (row["difference"] > 0) == self.higher_is_better
            return f"{arm} is {'better' if better else 'worse'} than {self.reference}: {numbers}."
        return (
            f"{arm} and {self.reference}: no difference that these seeds could show: {numbers}. "
            f"{self._outlook(row)}"
        )

    def _outlook(self, row: Mapping[str, float]) -> str:
        if row["difference_high"] == row["difference_low"]:
            return "They are identical in every seed."
        if row["p"] < 1 - self.confidence:
            return "Its own interval excludes 0, but several arms were compared: run more seeds."
        quantile = stats.t.ppf((1 + self.confidence) / 2, row["pairs"] - 1)
        half = (row["difference_high"] - row["difference_low"]) / 2
        spread = half / quantile * math.sqrt(row["pairs"])
        seeds = seeds_needed(row["difference"], spread, self.confidence)
        enough = f"about {seeds} seeds" if seeds else "more than a million seeds"
        return f"To see one of this size with 80 % power takes {enough} (an estimate)."

    def _points(self) -> str:
        return " points" if units(self.metric)[1] else ""

    def _signed(self, value: float) -> str:
        return "" if math.isnan(value) else f"{value * units(self.metric)[0]:+.2f}"

    def _range(self, row: Mapping[str, float]) -> str:
        low, high = self._signed(row["difference_low"]), self._signed(row["difference_high"])
        return f"[{low}, {high}]" if low else ""

    def _table(self) -> list[list[str]]:
        """Header and one row an arm, as text; columns without any value are left out."""
        factor, unit = units(self.metric)
        what = self.metric.replace("_", " ") + unit.replace(" ", ", ")
        level = _percent(self.confidence)
        table = [["arm", "seeds", what, f"minus {self.reference}", f"{level} interval", "p (Holm)",
                  *COSTS]]  # fmt: skip
        for arm, row in self.frame.iterrows():
            half = (row["high"] - row["low"]) / 2 * factor
            spread = "" if math.isnan(half) else f" ± {half:.2f}"
            agreement, seconds = row["agreement"], row["seconds"]
            table.append([
                str(arm), f"{int(row['seeds'])}", f"{row['mean'] * factor:.2f}{spread}",
                "reference" if arm == self.reference else self._signed(row["difference"]),
                self._range(row), _p(row["p_adjusted"]), *(self._signed(row[gap]) for gap in GAPS),
                "" if math.isnan(agreement) else f"{agreement * 100:.2f}",
                "" if math.isnan(seconds) else f"{seconds:.1f}",
            ])  # fmt: skip
        used = [i for i in range(len(table[0])) if i < 4 or any(row[i] for row in table[1:])]
        return [[row[i] for i in used] for row in table]

    def _footnotes(self) -> list[str]:
        level = _percent(self.confidence)
        meaning = f"± is the half width of the mean's {level} t-interval over seeds."
        return [meaning, *self.notes] if self.frame["low"].notna().any() else [*self.notes]

    def __str__(self) -> str:
        table = self._table()
        costs = [i for i, name in enumerate(table[0]) if name in COSTS]
        compared = [i for i in range(len(table[0])) if i not in costs]
        blocks = [compared, [0, *costs]] if costs else [compared]
        lines = [_align([[row[i] for i in block] for row in table]) for block in blocks]
        return "\n".join(["\n\n".join(lines), "", *self._footnotes()])

    __repr__ = __str__

    def to_markdown(self) -> str:
        """The table and its notes in Markdown."""
        head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in self._table()]
        rule = [":--"] + ["--:"] * (len(head) - 1)
        lines = ["| " + " | ".join(row) + " |" for row in (head, rule, *rows)]
        return "\n".join([*lines, "", *(f"- {note}" for note in self._footnotes()), ""])

    def _repr_html_(self) -> str:
        head, *rows = [[html.escape(cell) for cell in row] for row in self._table()]
        body = "".join(
            f'<tr><th scope="row">{arm}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
            for arm, *cells in rows
        )
        top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._footnotes())
        return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table><ul>{notes}</ul>"


def _align(rows: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _percent(value: float) -> str:
    return f"{value * 100:g} %"


def _p(p: float) -> str:
    if math.isnan(p):
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
