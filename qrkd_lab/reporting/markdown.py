"""Markdown as this report needs it: tables, figures, lists; words around numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

__all__ = ["bullets", "count", "figure", "listed", "ranged", "seed_options", "signed", "table"]


_NUMBER = re.compile(r"\W*\d")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column names the row; columns without any text are left out.

    Numbers stand at the right of their column, words at the left.

    Example:
        >>> print(table(["arm", "seeds"], [["rkd", "5"]]))
        | arm | seeds |
        | :-- | --: |
        | rkd | 5 |
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    used = [i for i in range(len(head)) if i == 0 or any(row[i] for row in cells)]
    words = [not any(_NUMBER.match(row[i]) for row in cells) for i in range(len(head))]
    rule = [":--" if i == 0 or words[i] else "--:" for i in range(len(head))]
    lines = ["| " + " | ".join(row[i] for i in used) + " |" for row in (head, rule, *cells)]
    return "\n".join(lines)


def figure(name: str, alt: str) -> str:
    """A figure that lies beside the report."""
    return f"![{alt.replace('[', '(').replace(']', ')')}](figures/{name}.png)"


def bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def count(number: int, what: str) -> str:
    """A number of things: ``1 seed``, ``5 seeds``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def signed(value: float, digits: int = 2) -> str:
    """A difference with its sign; nothing for NaN, and no sign at a zero."""
    if math.isnan(value):
        return ""
    said = f"{value:+.{digits}f}"
    return said[1:] if float(said) == 0 else said


def ranged(low: float, high: float, digits: int = 2, plus: bool = True) -> str:
    """An interval in brackets; nothing for NaN."""
    if math.isnan(low) or math.isnan(high):
        return ""
    ends = (signed(low, digits), signed(high, digits)) if plus else (
        f"{low:.{digits}f}", f"{high:.{digits}f}"
    )  # fmt: skip
    return f"[{ends[0]}, {ends[1]}]"


def seed_options(seeds: Sequence[int]) -> list[str]:
    """Seeds as the command line takes them.

    Example:
        >>> seed_options([0, 1, 2]), seed_options([3, 5])
        (['--seeds', '3'], ['--seed', '3', '5'])
    """
    if list(seeds) == list(range(len(seeds))):
        return ["--seeds", str(len(seeds))]
    return ["--seed", *map(str, seeds)]
