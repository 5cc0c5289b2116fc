"""What a comparison of arms found: a table in text, Markdown and HTML, and a verdict in words."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import stats

from qrkd_lab.studies.results import GAPS, differing, order_arms, refuse_duplicates, results
from qrkd_lab.studies.statistics import (
    FEWEST,
    detectable_difference,
    holm,
    interval,
    p_equals,
    p_in_words,
)

if TYPE_CHECKING:
    from qrkd_lab.studies.compare import Study

__all__ = [
    "Summary",
    "counted",
    "decimals",
    "improvement_table",
    "in_logs",
    "in_own_unit",
    "markdown_table",
    "order_arms",
    "own_unit",
    "questions",
    "relative_gains",
    "results",
    "seed_improvements",
    "summary",
    "units",
]


# By the last word of a metric's name: the unit of a difference, and whether more is better.
KINDS: dict[str, tuple[str, bool]] = {
    "accuracy": ("points", True), "agreement": ("points", True), "perplexity": ("ppl", False),
    "nll": ("nats", False), "kl": ("nats", False),
    **dict.fromkeys(("alignment", "auc", "bleu", "f1", "gain", "precision", "recall"), ("", True)),
    **dict.fromkeys(("error", "gap", "loss", "mae", "mse", "rmse", "seconds"), ("", False)),
}  # fmt: skip


def _kind(metric: str) -> str:
    """The last word of a metric's name: "accuracy" of "test_accuracy"."""
    return metric.lower().replace("_", " ").split()[-1]


def units(metric: str) -> tuple[float, str]:
    """Factor and unit to print a metric with: fractions as percent, all else as it is."""
    return (100.0, " %") if own_unit(metric) == "points" else (1.0, "")


def own_unit(metric: str) -> str:
    """Unit of a difference of two scores as it is printed; the metric's own name if it has none."""
    unit, _ = KINDS.get(_kind(metric), ("", None))
    return unit or metric.removeprefix("test_").replace("_", " ")


def decimals(metric: str, size: float) -> int:
    """How many digits behind the point scores of this size are printed with.

    Two of per cent, perplexities and alignments; of a metric in a unit of its own, as many as make
    three digits of ``size``, but two at least.

    Example:
        >>> decimals("test_accuracy", 0.953), decimals("test_rmse", 0.0432)
        (2, 4)
    """
    known = _kind(metric) in ("accuracy", "agreement", "alignment", "perplexity")
    if known or not 0 < abs(size) < math.inf:
        return 2
    return max(2, 2 - math.floor(math.log10(abs(size))))


def in_logs(metric: str) -> bool:
    """Whether scores are compared by their ratio: perplexities, the exponentials of a mean."""
    return _kind(metric) == "perplexity" and "log" not in metric.lower().split("_")


def questions(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose difference chance could have made, each difference once.

    An arm that is the reference in every seed asks nothing, and two arms that are each other in
    every seed ask the same: ``detached``, whose term has no gradient, is ``rkd``.
    """
    ends = ["difference_low", "difference_high"]
    spread = frame[frame[ends[0]] < frame[ends[1]]]
    return spread.drop_duplicates(["mean", "difference", *ends, "p"])


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """What ``summary`` found; print or display it, or ask for a verdict.

    Args:
        frame: a row per arm; ``low`` and ``high`` bound the mean, ``difference`` and the rest refer
            to the reference over ``pairs`` seeds; fractions, not percent. Of perplexities,
            ``difference`` is the ratio of the two (geometric) means, minus 1.
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

    @property
    def at_once(self) -> int:
        """How many arms are compared with the reference at once: Holm's factor for the least p."""
        return len(questions(self.frame[self.frame["p_adjusted"].notna()]))

    def verdict(self, arm: str) -> str:
        """One sentence: is the arm better or worse than the reference, and how sure is that?"""
        if arm not in self.frame.index:
            raise ValueError(f"unknown arm {arm!r}; choose from {', '.join(self.frame.index)}.")
        if arm == self.reference:
            return f"{arm} is the reference that the other arms are compared with."
        row, level, pairs = self.frame.loc[arm], 1 - self.confidence, int(self.frame.pairs[arm])
        if math.isnan(row["p"]):
            seeds = f"{pairs} shared seed{'' if pairs == 1 else 's'}"
            return f"{arm} and {self.reference} cannot be ranked by {seeds}: see the notes."
        p, how = (row["p"], "") if math.isnan(row["p_adjusted"]) else (row["p_adjusted"], " (Holm)")
        numbers = (
            f"{self._signed(row['difference'])}{self._unit} on average over {pairs} seeds, "
            f"{_percent(self.confidence)} interval {self._range(row)}, {p_equals(p)}{how}"
        )
        if p < level:
            better = (row["difference"] > 0) == self.higher_is_better
            return f"{arm} is {'better' if better else 'worse'} than {self.reference}: {numbers}."
        if row["difference_high"] == row["difference_low"]:
            outlook = "They are identical in every seed."
        elif row["p"] < level:
            outlook = "Its own interval excludes 0, but several arms were compared: run more seeds."
        else:
            at = _percent(level) + (f" / {self.at_once}" if self.at_once > 1 else "")
            outlook = (
                f"The smallest true difference that this study could have seen (80 % power, level "
                f"{at}) is {self.smallest_seen(arm) * self._factor:.{self._digits}f}{self._unit}."
            )
        return (
            f"{arm} and {self.reference} cannot be distinguished by these seeds: {numbers}. "
            f"{outlook}"
        )

    def smallest_seen(self, arm: str) -> float:
        """The smallest true difference that these seeds would have shown with 80 % power.

        The level is that of Holm's first step, ``1 - confidence`` divided by the number of arms
        that are compared at once. In the unit of ``frame["difference"]``; NaN where an arm has no
        spread.
        """
        row = self.frame.loc[arm]
        if not row["difference_low"] < row["difference_high"]:
            return math.nan
        gains, level = self.gains(arm), (1 - self.confidence) / max(1, self.at_once)
        least = detectable_difference(gains.std(), len(gains), 1 - level)
        return math.expm1(least) if in_logs(self.metric) else least

    def gains(self, arm: str) -> pd.Series:
        """By how much an arm is better than the reference, seed by seed; positive is better.

        Of perplexities in logs. The seeds are the index; those that lack one of the two are left
        out.
        """
        scores = _table(self.results, self.metric)
        if in_logs(self.metric):
            scores = np.log(scores)
        sign = 1 if self.higher_is_better else -1
        return sign * (scores[arm] - scores[self.reference]).dropna()

    @property
    def _factor(self) -> float:
        return 100.0 if in_logs(self.metric) else units(self.metric)[0]

    @property
    def _unit(self) -> str:
        """What is printed behind a difference: " points", or " % in test perplexity"."""
        if units(self.metric)[1]:
            return " points"
        return f"{' %' if in_logs(self.metric) else ''} in {self.metric.replace('_', ' ')}"

    @property
    def _digits(self) -> int:
        return decimals(self.metric, self.frame["mean"][self.reference])

    def _signed(self, value: float) -> str:
        return "" if math.isnan(value) else f"{value * self._factor:+.{self._digits}f}"

    def _range(self, row: Mapping[str, float]) -> str:
        low, high = self._signed(row["difference_low"]), self._signed(row["difference_high"])
        return f"[{low}, {high}]" if low else ""

    def _cells(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Scores and costs, a row per arm, as text; columns without any value are left out."""
        frame, (factor, unit), ratio = self.frame, units(self.metric), in_logs(self.metric)
        own = f".{self._digits}f"

        def cells(values: pd.Series, digits: str = f"+{own}", scale: float = factor) -> pd.Series:
            return values.map(lambda x: "" if math.isnan(x) else f"{x * scale:{digits}}")

        halves = cells((frame["high"] - frame["low"]) / 2, own)
        differences = cells(frame["difference"], scale=self._factor)
        differences[self.reference] = "reference"
        scores = {
            "seeds": frame["seeds"].map("{:.0f}".format),
            self.metric.replace("_", " ") + unit.replace(" ", ", "): cells(frame["mean"], own)
            + halves.where(halves == "", " ± " + halves),
            f"against {self.reference}, %" if ratio else f"minus {self.reference}": differences,
            f"{_percent(self.confidence)} interval": frame.apply(self._range, axis=1),
            "p (Holm)": frame["p_adjusted"].map(p_in_words),
        }
        costs = {
            "train - test" if self.higher_is_better else "test - train": cells(frame[GAPS[0]]),
            "to teacher": cells(frame[GAPS[1]]),
            "over scratch": cells(frame[GAPS[2]]),
            "agreement": cells(frame["agreement"], ".2f", 100),
            "seconds": cells(frame["seconds"], ".1f", 1),
            "per word": cells(frame["word_perplexity"], ".1f", 1),
        }
        first, second = (
            table.loc[:, (table != "").any()].rename_axis(index=None, columns="arm")
            for table in (pd.DataFrame(scores), pd.DataFrame(costs))
        )
        return first, second

    def _footnotes(self) -> list[str]:
        level, said = _percent(self.confidence), []
        if self.frame["low"].notna().any():
            said.append(f"± is the half width of the mean's {level} t-interval over seeds.")
        if not self.higher_is_better:
            said.append(f"Less {self.metric.replace('_', ' ')} is better.")
        if in_logs(self.metric):
            said.append(
                f"Perplexities are compared by their ratio, in logs: per cent of {self.reference}'s"
                ". The gaps are differences of perplexities."
            )
        if self.at_once > 1:
            said.append(
                f"p is corrected for {self.at_once} arms that are compared at once (Holm); each "
                "interval is for its arm alone."
            )
        return [*said, *self.notes]

    def __str__(self) -> str:
        shown = [table.to_string() for table in self._cells() if len(table.columns)]
        return "\n".join(["\n\n".join(shown), "", *self._footnotes()])

    __repr__ = __str__

    def to_markdown(self) -> str:
        """The table and its notes in Markdown."""
        notes = (f"- {note}" for note in self._footnotes())
        table = pd.concat(self._cells(), axis=1).rename_axis("arm").reset_index()
        return "\n".join([markdown_table(table), "", *notes, ""])

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self._footnotes())
        return f"{pd.concat(self._cells(), axis=1).to_html(border=0)}<ul>{notes}</ul>"


def markdown_table(rows: pd.DataFrame | Iterable[Mapping[str, str]]) -> str:
    """Rows of cells as a table whose first column names the row; empty columns are left out."""
    frame = pd.DataFrame(rows)
    if frame.empty:
        return ""
    frame = frame.fillna("").map(lambda cell: cell.replace("|", "\\|"))
    names = [name for i, name in enumerate(frame) if i == 0 or frame[name].any()]
    number = [i > 0 and frame[name].str.match(r"\W*\d").any() for i, name in enumerate(names)]
    sides = ["right" if is_number else "left" for is_number in number]
    return frame[names].to_markdown(index=False, disable_numparse=True, colalign=sides)


def _percent(value: float) -> str:
    return f"{value * 100:g} %"


# ---- from runs to a summary


MEANS = {name: name for name in GAPS} | {
    "agreement": "test_agreement",
    "seconds": "seconds",
    "word_perplexity": "test_word_perplexity",
}
PAIRED = ("pairs", "difference", "difference_low", "difference_high", "p", "p_adjusted")


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
    if higher_is_better is None and metric == own.get("name"):
        higher_is_better = own["higher_is_better"]
    if higher_is_better is None:
        if (kind := _kind(metric)) not in KINDS:
            raise ValueError(
                f"{metric}: is more of it better, or less? Say higher_is_better=True or False."
            )
        higher_is_better = KINDS[kind][1]
    rows = results.dropna(subset=[metric])
    table = _table(rows, metric)
    notes = _notes_on_records(rows)
    if reference not in table:
        raise ValueError(f"{reference} has no {metric}; these arms have: {', '.join(table)}.")
    if in_logs(metric) and not (table > 0).where(table.notna(), True).all(axis=None):
        raise ValueError(f"{metric}: a perplexity is above 0, got {table.min(axis=None)}.")
    frame = _compare(table, reference, confidence, notes, in_logs(metric))
    for name, column in MEANS.items():
        known = rows[column] if column in rows else pd.Series(math.nan, rows.index)
        frame[name] = known.astype(float).groupby(rows["arm"]).mean()
    if few := [f"{arm} ({int(n)})" for arm, n in frame["seeds"].items() if n < FEWEST]:
        notes.append(f"No interval and no p with fewer than {FEWEST} seeds: {', '.join(few)}.")
    return Summary(frame, tuple(notes), reference, metric, confidence, higher_is_better, rows)


def _table(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row per seed, a column per arm."""
    table = rows.pivot(index="seed", columns="arm", values=metric).astype(float)
    return table[order_arms(rows["arm"])]


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
    refuse_duplicates(results)


def _compare(
    table: pd.DataFrame, reference: str, confidence: float, notes: list[str], logs: bool
) -> pd.DataFrame:
    """From a row per seed and a column per arm to a row per arm; says in ``notes`` what is odd."""
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
    some = table[[arm, reference]].dropna(how="all")
    both = some.dropna()
    if len(both) < len(some):
        seeds = ", ".join(map(str, some.index.difference(both.index)))
        notes.append(f"{arm} and {reference} are compared on {len(both)} seeds; not on {seeds}.")
    x, y = both[arm].to_numpy(), both[reference].to_numpy()
    found = {"pairs": len(both), "difference": (x - y).mean() if len(both) else math.nan}
    if len(both) < FEWEST:
        return found
    if (x == y).all():
        notes.append(f"{arm} and {reference} are identical in every seed.")
        low, high, p = 0.0, 0.0, 1.0
    elif np.ptp(x - y) <= 1e-12 * np.abs([x, y]).max():
        notes.append(
            f"{arm} and {reference} differ by the same amount in every seed: no spread from which "
            "to estimate an interval or p."
        )
        return found
    else:
        test = stats.ttest_rel(x, y)
        (low, high), p = test.confidence_interval(confidence), test.pvalue
    return found | {"difference_low": low, "difference_high": high, "p": p}


def _notes_on_records(rows: pd.DataFrame) -> list[str]:
    """Sentences about what differs among the records although it should not."""
    if "run" not in rows:
        return []
    seen = [
        {"device": run.device, "data source": run.data.get("source")}
        | {"data content": str(run.data.get("sha256"))[:12], **run.versions}
        for run in rows["run"]
    ]
    notes = []
    for name, kinds in differing(seen).items():
        counts = " and ".join(f"{kind} ({number} runs)" for kind, number in kinds.items())
        notes.append(f"The runs differ in {name}: {counts}.")
    for arm, runs in rows.groupby("arm", sort=False)["run"]:
        if odd := differing([{**run.settings, "seed": None} for run in runs]):
            notes.append(f"The runs of {arm} have different settings: {', '.join(odd)}.")
    return notes


# ---- evidence


LEVEL = 0.05


def counted(names: Iterable[str]) -> list[str]:
    """The benchmarks that a claim is judged by: all but ``digits``, unless there is nothing else.

    They are the family that every correction for several benchmarks counts.
    """
    names = list(names)
    return [name for name in names if name != "digits"] or names


def improvement_table(
    studies: Mapping[str, Study], arm: str = "qrkd", reference: str = "rkd"
) -> pd.DataFrame:
    """How much better is an arm than the reference, benchmark by benchmark?

    Args:
        studies: name of a benchmark to its study; each has both arms.
        arm, reference: names of arms.

    Returns:
        A row per benchmark: ``metric``, ``higher_is_better``, ``seeds``, ``reference`` (the
        reference's mean), in the metric's own unit ``difference``; in per cent of that mean, better
        is positive, ``improvement`` with its own 95 % t-interval from ``low`` to ``high``, the
        upper end of the simultaneous one (Bonferroni), ``joint_high``, and ``smallest``, the
        smallest improvement that the study could have seen with 80 % power, at 5 % divided by the
        number of benchmarks; ``p`` of the paired t-test and ``p_adjusted`` (Holm, over the
        benchmarks that are :func:`counted`). NaN where a study has fewer than three seeds.

    Raises:
        ValueError: no study, one without both arms, or a reference whose mean is 0.

    Example:
        >>> improvement_table({"mnist": study})                       # doctest: +SKIP
    """
    if not studies:
        raise ValueError('expected a mapping from names to studies, e.g. {"mnist": study}')
    found = {name: _summary(name, study, arm, reference) for name, study in studies.items()}
    p = pd.Series({name: summary.frame.loc[arm, "p"] for name, summary in found.items()})
    family, rows = counted(studies), {}
    for name, summary in found.items():
        metric, gains = summary.metric, relative_gains(summary, arm).to_numpy()
        # Without p there are too few seeds, or no spread to take an interval from.
        known = gains if p[name] == p[name] else gains[:0]
        joint = 1 - LEVEL / (max(1, p[family].count()) if name in family else 1)
        spread = known.std(ddof=1) if len(known) else 0.0
        numbers = {
            "improvement": gains.mean() if len(gains) else math.nan,
            **dict(zip(("low", "high"), interval(known, 1 - LEVEL), strict=True)),
            "joint_high": interval(known, joint)[1],
            "smallest": detectable_difference(spread, len(known), joint) if spread else math.nan,
        }
        scores = _table(summary.results, metric)
        rows[name] = {
            "metric": metric,
            "higher_is_better": summary.higher_is_better,
            "seeds": len(gains),
            "reference": summary.frame.loc[reference, "mean"],
            "difference": (scores[arm] - scores[reference]).mean(),
            **{of: _per_cent(number, metric) for of, number in numbers.items()},
            "p": p[name],
            "p_adjusted": p[name],
        }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("benchmark")
    table.loc[family, "p_adjusted"] = holm(p[family].to_numpy())
    return table


def seed_improvements(
    studies: Mapping[str, Study], arm: str = "qrkd", reference: str = "rkd"
) -> dict[str, pd.Series]:
    """The same, seed by seed: benchmark to a series of per cents with the seeds as its index."""
    found = {name: _summary(name, study, arm, reference) for name, study in studies.items()}
    return {name: _per_cent(relative_gains(s, arm), s.metric) for name, s in found.items()}


def relative_gains(summary: Summary, arm: str) -> pd.Series:
    """By how much an arm is better than the reference, in hundredths, on the scale of the tests.

    Per cent of the reference's mean; of perplexities 100 log(reference / arm), which is the per
    cent by which the arm's is lower as long as both are small (1.005 for 1.000 %).
    """
    gains = summary.gains(arm)
    if in_logs(summary.metric):
        return 100 * gains
    mean = abs(summary.frame.loc[summary.reference, "mean"])
    if not mean > 0:
        raise ValueError(f"no per cent of {summary.reference}: its mean {summary.metric} is {mean}")
    return 100 / mean * gains


def in_own_unit(row: pd.Series) -> str:
    """The difference of a row of :func:`improvement_table` as its metric is printed."""
    if math.isnan(row["difference"]):
        return ""
    return f"{row['difference'] * units(row['metric'])[0]:+.2f} {own_unit(row['metric'])}"


def _per_cent(gain: float | pd.Series, metric: str) -> float | pd.Series:
    """Hundredths on the scale of the tests as the per cent that is read."""
    return -100 * np.expm1(-gain / 100) if in_logs(metric) else gain


def _summary(name: str, study: Study, arm: str, reference: str) -> Summary:
    summary = study.summary(reference)
    if arm == reference or arm not in summary.frame.index:
        arms = ", ".join(summary.frame.index)
        raise ValueError(
            f"{name}: expected two arms of its study, got {arm!r} and {reference!r}; it has {arms}."
        )
    return summary
