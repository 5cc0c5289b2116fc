"""The first page: the claim under test, the answer in a paragraph, and the forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from qrkd_lab.evidence import counted, improvement_table, in_own_unit
from qrkd_lab.plots import Chart, improvements
from qrkd_lab.reporting.markdown import bullets, count, figure, listed, ranged, signed, table
from qrkd_lab.reporting.studies import ARM, CHECK, REFERENCE, Studies, answerable, controls
from qrkd_lab.reporting.verdicts import (
    BETTER,
    NONE,
    SHORT,
    UNKNOWN,
    WORSE,
    chance,
    excluded,
    verdict,
)
from qrkd_lab.statistics import p_in_words
from qrkd_lab.summary import units

__all__ = ["answer", "glance"]

CLAIM = "Across all benchmarks, QRKD consistently improves the student compared with RKD."


def answer(studies: Studies) -> list[str]:
    """The claim, what the records say about it, and about each control."""
    asked = answerable(studies)
    claim = [
        "## The claim, and the answer",
        f"The claim under test: **{CLAIM}** Here that is the arm `{ARM}` against the arm "
        f"`{REFERENCE}`. They differ in one thing, the quantum kernel term in the loss of `{ARM}`.",
    ]
    if not asked:
        lack = f"no benchmark has both `{ARM}` and `{REFERENCE}`, on one seed at least"
        return [*claim, f"**No answer**: {lack}."]
    found = improvement_table({name: asked[name] for name in counted(asked)})
    words = [verdict(*pair) for pair in zip(found["improvement"], found["p_adjusted"], strict=True)]
    missing = [name for name in studies if name not in asked]
    practice = [name for name in asked if name not in found.index]
    return [
        *claim,
        f"**{_conclusion(words)}**",
        bullets(_line(*item) for item in zip(found.index, words, found.iloc, strict=True)),
        *([f"Not asked, as no seed has both arms: {listed(missing)}."] if missing else []),
        *([f"For practice, and not counted: {listed(practice)}."] if practice else []),
        *_possible(found, words),
        *_controls(studies),
    ]


def _conclusion(words: Sequence[str]) -> str:
    """The answer in one sentence, from the verdicts of all benchmarks."""
    better, worse = words.count(BETTER), words.count(WORSE)
    if better == len(words):
        holds = "holds in these runs"
    else:
        holds = "does not hold in these runs" if worse else "is not confirmed by these runs"
    parts = [
        (better, f"`{ARM}` is better than `{REFERENCE}`"),
        (worse, f"`{ARM}` is worse than `{REFERENCE}`"),
        (
            words.count(NONE),
            f"these seeds could show no difference between `{ARM}` and `{REFERENCE}`",
        ),
        (words.count(UNKNOWN), "these seeds cannot tell"),
    ]
    of = f"of {count(len(words), 'benchmark')}"
    said = [f"on {number} {of} {what}" for number, what in parts if number]
    return f"The claim {holds}: {listed(said)}."


def _line(name: str, word: str, row: pd.Series) -> str:
    known = not math.isnan(row["low"])
    interval = f" {ranged(row['low'], row['high'])}" if known else ""
    p = f", p {_equals(row['p_adjusted'])}" if p_in_words(row["p_adjusted"]) else ""
    less = "" if row["higher_is_better"] else ", of which less is better"
    return (
        f"**{name}**: {word}. `{ARM}` minus `{REFERENCE}` is {in_own_unit(row)}{less}, over "
        f"{count(row['seeds'], 'seed')}; in per cent, better being positive, "
        f"{signed(row['improvement'])}{interval}{p}."
    )


def _equals(p: float) -> str:
    said = p_in_words(p)
    return said if said.startswith("<") else f"= {said}"


def _possible(found: pd.DataFrame, words: Sequence[str]) -> list[str]:
    """How large an improvement the undecided benchmarks may still hide."""
    open_ones = found[[word == NONE for word in words]].query("high > 0")
    if not len(open_ones):
        return []
    said = listed([f"{excluded(row)} on {name}" for name, row in open_ones.iterrows()])
    return [
        "Where no difference could be shown, that is not proof that there is none. These seeds "
        f"leave room for an improvement of up to {said}. Larger ones they exclude, at 95 % "
        f"confidence for {count(found['joint_high'].count(), 'benchmark')} together (simultaneous "
        "limits, wider than the intervals above)."
    ]


def _controls(studies: Studies) -> list[str]:
    """Is a gain due to the quantum kernel? A row a benchmark, a column a control."""
    asked = {
        other: improvement_table(both, ARM, other)
        for other in (REFERENCE, *controls(studies))
        if (both := answerable(studies, ARM, other))
    }
    if len(asked) < 2:
        return []
    rows = [[name, *(_cell(found, name) for found in asked.values())] for name in studies]
    pairs = [
        verdict(row["improvement"], row["p_adjusted"])
        for other, found in asked.items()
        for _, row in found.loc[counted(found.index)].iterrows()
        if other != REFERENCE
    ]
    kinds = {BETTER: "is better", WORSE: "is worse", NONE: "shows no difference",
             UNKNOWN: "cannot be judged"}  # fmt: skip
    said = listed([f"{what} in {pairs.count(kind)}" for kind, what in kinds.items()
                   if kind in pairs])  # fmt: skip
    return [
        f"A gain over `{REFERENCE}` could come from any kernel. The controls each change one thing "
        f"in `{ARM}` (and have the weight and the scale of angles that the same rules choose for "
        "them), so only a gain over *them* speaks for what they take away. Of "
        f"{count(len(pairs), 'comparison')} of `{ARM}` with a control, it {said}:",
        table([f"{ARM} against", *asked], rows),
        'In a cell: better, worse, or "none shown" (no difference that these seeds could show); '
        "and by how many per cent of the other arm's mean it is better on average. p is corrected "
        "for the number of benchmarks (Holm), a column at a time; the more columns, the more "
        "chances for a false alarm.",
        *_without_gradient(studies),
    ]


def _without_gradient(studies: Studies) -> list[str]:
    """Whether ``detached`` is the reference, as it must be; nothing where it was not trained."""
    held = answerable(studies, CHECK, REFERENCE).values()
    gains = [study.summary(REFERENCE).gains(CHECK) for study in held]
    if not gains:
        return []
    found = pd.concat(gains)
    same = int((found == 0).sum())
    return [
        f"`{CHECK}` checks the kit and not the method: its kernel term has no gradient, so it must "
        f"end where `{REFERENCE}` does, and did in {same} of {count(len(found), 'run')}. It is no "
        "control here."
    ]


def _cell(found: pd.DataFrame, name: str) -> str:
    if name not in found.index:
        return ""
    row = found.loc[name]
    word = verdict(row["improvement"], row["p_adjusted"])
    return f"{SHORT[word]}, {signed(row['improvement'])} %"


def glance(studies: Studies) -> tuple[list[str], dict[str, Chart]]:
    """All benchmarks in one figure and one table."""
    asked = answerable(studies)
    if not asked:
        return [], {}
    found, chart = improvement_table(asked), improvements(asked)
    rows = []
    for name, row in found.iterrows():
        factor, unit = units(row["metric"])
        rows.append([
            str(name), row["metric"].removeprefix("test_").replace("_", " "),
            f"{row['reference'] * factor:.2f}{unit}", in_own_unit(row),
            f"{signed(row['improvement'])} {ranged(row['low'], row['high'])}".strip(),
            p_in_words(row["p_adjusted"]),
            "" if math.isnan(row["smallest"]) else f"{row['smallest']:.2f}",
            f"{row['won']} of {row['seeds']}", chance(row),
        ])  # fmt: skip
    head = ["benchmark", "metric", REFERENCE, f"{ARM} minus {REFERENCE}", "better by, %",
            "p (Holm)", "smallest seen, %", "seeds won", "chance to win a new seed"]  # fmt: skip
    return [
        "## All benchmarks at a glance",
        figure("improvements", chart.alt),
        table(head, rows),
        f"**Better by**: per cent of `{REFERENCE}`'s mean, so that accuracy (more is better) and "
        "perplexity (less is better; compared by its ratio, in logs) share a direction; positive "
        "is better, brackets hold the 95 % interval, each for its benchmark alone. p is corrected "
        "for the number of benchmarks (Holm). **Smallest seen**: the smallest true improvement "
        "that so many seeds with this spread show with 80 % power, at 5 % divided by the number of "
        "benchmarks. It does not depend on what was observed. **Seeds won**: those in which "
        f"`{ARM}` ended ahead. **Chance to win a new seed**: an estimate of how often `{ARM}` "
        f"would be ahead of `{REFERENCE}` if both were trained once more, from the mean and the "
        "spread of the paired differences, with its 95 % interval (not corrected for the number of "
        "comparisons). 0.5 is a coin's; Bouthillier et al. (MLSys 2021) call a method meaningfully "
        "better from 0.75 on, if the interval lies above 0.5. With few seeds the interval is wide, "
        "and that is the honest answer.",
    ], {"improvements": chart}
