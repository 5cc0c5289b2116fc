"""What a comparison of arms found: a table in text, Markdown and HTML, and a verdict in words.

What the seeds cannot tell is said in words: a wide interval is "no difference that these seeds
could show", never "no difference".
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from qrkd_lab.statistics import detectable_difference, p_in_words

__all__ = ["GAPS", "Summary", "in_logs", "own_unit", "questions", "units"]

GAPS = ("train_test_gap", "teacher_student_gap", "distillation_gain")
OWN_UNITS = {"accuracy": "points", "agreement": "points", "perplexity": "ppl", "nll": "nats",
             "kl": "nats"}  # fmt: skip


def _kind(metric: str) -> str:
    """The last word of a metric's name: "accuracy" of "test_accuracy"."""
    return metric.lower().replace("_", " ").split()[-1]


def units(metric: str) -> tuple[float, str]:
    """Factor and unit to print a metric with: fractions as percent, all else as it is."""
    return (100.0, " %") if OWN_UNITS.get(_kind(metric)) == "points" else (1.0, "")


def own_unit(metric: str) -> str:
    """Unit of a difference of two scores as it is printed; the metric's own name if it has none."""
    return OWN_UNITS.get(_kind(metric), metric.removeprefix("test_").replace("_", " "))


def in_logs(metric: str) -> bool:
    """Whether scores are compared by their ratio: perplexities, the exponentials of a mean."""
    return _kind(metric) == "perplexity" and "log" not in metric.lower().split("_")


def questions(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose difference chance could have made, each difference once.

    An arm that is the reference in every seed asks nothing, and two arms that are each other in
    every seed ask the same: ``detached``, whose term has no gradient, is ``rkd``.
    """
    open_ones = frame[frame["difference_low"] < frame["difference_high"]]
    return open_ones.drop_duplicates(
        ["mean", "difference", "difference_low", "difference_high", "p"]
    )


@dataclass(frozen=True, eq=False, repr=False)
class Summary:
    """What :func:`qrkd_lab.report.summary` found; print or display it, or ask for a verdict.

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
        row, level = self.frame.loc[arm], 1 - self.confidence
        if arm == self.reference:
            return f"{arm} is the reference that the other arms are compared with."
        if math.isnan(row["p"]):
            seeds = f"{(pairs := int(row['pairs']))} shared seed{'' if pairs == 1 else 's'}"
            return f"{arm} and {self.reference} cannot be ranked by {seeds}: see the notes."
        p, how = (row["p"], "") if math.isnan(row["p_adjusted"]) else (row["p_adjusted"], " (Holm)")
        numbers = (
            f"{self._signed(row['difference'])}{self._in_unit()} on average over "
            f"{int(row['pairs'])} seeds, {_percent(self.confidence)} interval "
            f"{self._range(row)}, p {'' if p < 0.001 else '= '}{p_in_words(p)}{how}"
        )
        if p < level:
            better = (row["difference"] > 0) == self.higher_is_better
            return f"{arm} is {'better' if better else 'worse'} than {self.reference}: {numbers}."
        if row["difference_high"] == row["difference_low"]:
            outlook = "They are identical in every seed."
        elif row["p"] < level:
            outlook = "Its own interval excludes 0, but several arms were compared: run more seeds."
        else:
            at = f"{_percent(level)} / {self.at_once}" if self.at_once > 1 else _percent(level)
            outlook = (
                f"The smallest true difference that this study could have seen (80 % power, level "
                f"{at}) is {self.smallest_seen(arm) * self._factor:.2f}{self._in_unit()}."
            )
        return (
            f"{arm} and {self.reference}: no difference that these seeds could show: {numbers}. "
            f"{outlook}"
        )

    def smallest_seen(self, arm: str) -> float:
        """The smallest true difference that these seeds would have shown with 80 % power.

        It depends on the seeds and the spread of the paired differences alone, not on the mean that
        was observed. The level is that of Holm's first step, ``1 - confidence`` divided by the
        number of arms that are compared at once. In the unit of ``frame["difference"]``; NaN where
        an arm has no spread.
        """
        row = self.frame.loc[arm]
        if not row["difference_low"] < row["difference_high"]:
            return math.nan
        gains, level = self.gains(arm), (1 - self.confidence) / max(1, self.at_once)
        least = detectable_difference(gains.std(), len(gains), 1 - level)
        return math.expm1(least) if in_logs(self.metric) else least

    def scores(self) -> pd.DataFrame:
        """A row per seed, a column per arm, on the scale of the tests: logs of perplexities."""
        table = self.results.pivot(index="seed", columns="arm", values=self.metric).astype(float)
        return np.log(table) if in_logs(self.metric) else table

    def gains(self, arm: str) -> pd.Series:
        """By how much an arm is better than the reference, seed by seed, on the tests' scale.

        Positive is better. The seeds are the index; those that lack one of the two are left out.
        """
        scores = self.scores()
        sign = 1 if self.higher_is_better else -1
        return sign * (scores[arm] - scores[self.reference]).dropna()

    @property
    def _factor(self) -> float:
        return 100.0 if in_logs(self.metric) else units(self.metric)[0]

    def _in_unit(self) -> str:
        """What is printed behind a difference: " points", or " % in test perplexity"."""
        if units(self.metric)[1]:
            return " points"
        name = self.metric.replace("_", " ")
        return f" % in {name}" if in_logs(self.metric) else f" in {name}"

    def _signed(self, value: float) -> str:
        return "" if math.isnan(value) else f"{value * self._factor:+.2f}"

    def _range(self, row: Mapping[str, float]) -> str:
        low, high = self._signed(row["difference_low"]), self._signed(row["difference_high"])
        return f"[{low}, {high}]" if low else ""

    def _table(self) -> list[list[str]]:
        """Header and one row an arm, as text; columns without any value are left out."""
        factor, unit = units(self.metric)
        what = self.metric.replace("_", " ") + unit.replace(" ", ", ")
        level = _percent(self.confidence)
        against = f"against {self.reference}, %" if in_logs(self.metric) else (
            f"minus {self.reference}"
        )  # fmt: skip
        table = [["arm", "seeds", what, against, f"{level} interval", "p (Holm)", *self._costs]]
        for arm, row in self.frame.iterrows():
            half = (row["high"] - row["low"]) / 2 * factor
            spread = "" if math.isnan(half) else f" ± {half:.2f}"
            agreement, seconds, words = (
                row[n] for n in ("agreement", "seconds", "word_perplexity")
            )
            table.append([
                str(arm), f"{int(row['seeds'])}", f"{row['mean'] * factor:.2f}{spread}",
                "reference" if arm == self.reference else self._signed(row["difference"]),
                self._range(row), p_in_words(row["p_adjusted"]),
                *("" if math.isnan(row[gap]) else f"{row[gap] * factor:+.2f}" for gap in GAPS),
                "" if math.isnan(agreement) else f"{agreement * 100:.2f}",
                "" if math.isnan(seconds) else f"{seconds:.1f}",
                "" if math.isnan(words) else f"{words:.1f}",
            ])  # fmt: skip
        used = [i for i in range(len(table[0])) if i < 4 or any(row[i] for row in table[1:])]
        return [[row[i] for i in used] for row in table]

    @property
    def _costs(self) -> tuple[str, ...]:
        gap = "train - test" if self.higher_is_better else "test - train"
        return (gap, "to teacher", "over scratch", "agreement", "seconds", "per word")

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
        table = self._table()
        costs = [i for i, name in enumerate(table[0]) if name in self._costs]
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
