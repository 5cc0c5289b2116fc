"""What a comparison of arms found: a table in text, Markdown and HTML, and a verdict in words.

What the seeds cannot tell is said in words: a wide interval is "no difference that these seeds
could show", never "no difference".
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd
from scipy import stats

from qrkd_lab.statistics import FEWEST, p_in_words, seeds_needed

__all__ = ["GAPS", "Summary", "questions", "units"]

GAPS = ("train_test_gap", "teacher_student_gap", "distillation_gain")
MANY = 1000  # seeds: beyond, the estimate is an estimate of noise, and nobody runs as many
COSTS = ("train - test", "to teacher", "over scratch", "agreement", "seconds", "per word")


def units(metric: str) -> tuple[float, str]:
    """Factor and unit to print a metric with: fractions as percent, all else as it is."""
    percent = metric.endswith(("accuracy", "agreement"))
    return (100.0, " %") if percent else (1.0, "")


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
            f"{self._signed(row['difference'])}{self._points()} on average over "
            f"{int(row['pairs'])} seeds, {_percent(self.confidence)} interval "
            f"{self._range(row)}, p {'' if p < 0.001 else '= '}{p_in_words(p)}{how}"
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
        many = seeds is None or seeds > MANY
        enough = f"more than {MANY:,} seeds" if many else f"about {max(seeds, FEWEST)} seeds"
        alone = (
            f" for this comparison alone at {_percent(1 - self.confidence)}; beside the other "
            "arms, with Holm's correction, it takes more"
        )
        return (
            f"To see one of this size with 80 % power takes {enough} "
            f"(an estimate{alone if self.at_once > 1 else ''})."
        )

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
            agreement, seconds, words = (
                row[n] for n in ("agreement", "seconds", "word_perplexity")
            )
            table.append([
                str(arm), f"{int(row['seeds'])}", f"{row['mean'] * factor:.2f}{spread}",
                "reference" if arm == self.reference else self._signed(row["difference"]),
                self._range(row), p_in_words(row["p_adjusted"]),
                *(self._signed(row[gap]) for gap in GAPS),
                "" if math.isnan(agreement) else f"{agreement * 100:.2f}",
                "" if math.isnan(seconds) else f"{seconds:.1f}",
                "" if math.isnan(words) else f"{words:.1f}",
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
