"""What the kernels did: diagnostics of teacher and student, as far as the records hold them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from qrkd_lab.evidence import improvement_table
from qrkd_lab.plots import Chart, differences_by_arm
from qrkd_lab.report import summary
from qrkd_lab.reporting.markdown import figure, listed, ranged, signed, table
from qrkd_lab.reporting.studies import (
    ARM,
    CHECK,
    REFERENCE,
    Studies,
    answerable,
    kernel_arms,
    share_seed,
)
from qrkd_lab.reporting.verdicts import BETTER, LEVEL, NONE, UNKNOWN, WORSE, verdict
from qrkd_lab.runs import Run
from qrkd_lab.statistics import holm, p_in_words
from qrkd_lab.study import Study
from qrkd_lab.summary import Summary

__all__ = ["what_kernels_did"]

SEEN = "kernel_alignment"
READING = (
    "The kernel term asks that the student's kernel matrix, which says how alike each two samples "
    "look, be the teacher's. **Kernel alignment** (CKA, 0 to 1) measures on validation samples "
    "whether it is. Every student is seen through the same kernel, that of the study, and a linear "
    "view fitted by least squares, so all arms can be compared, also those without a kernel. "
    "**Own**: the same through the arm's own kernel and adapter (the linear map that is trained "
    "along); it is not comparable between arms. **Features**: CKA of the features themselves. "
    "**Spread** and **rank**: the standard deviation of the kernel's values over pairs, and how "
    "many directions it tells apart; a kernel with hardly any spread says nothing.",
    "**Kernel loss**: in the first and in the last epoch, each arm's by its own kernel. "
    "**Bandwidth**: the scale of the angles, chosen on the teacher alone, by one rule for all "
    "kernels (the middle one of the seeds; all other columns are means). **Agreement** and **KL**: "
    "per cent of test predictions that are the teacher's, and "
    "how far the student's probabilities are from the teacher's (0: the same).",
)
Column = tuple[str, Callable[[Run], float], str]


def _metric(name: str) -> Callable[[Run], float]:
    return lambda run: run.metrics.get(name, math.nan)


def _kernel_loss(at: int) -> Callable[[Run], float]:
    return lambda run: run.history[at].get("kernel", math.nan) if run.history else math.nan


_BANDWIDTH = _metric("bandwidth")
COLUMNS: tuple[Column, ...] = (
    ("alignment", _metric(SEEN), ".3f"),
    ("own", _metric("own_kernel_alignment"), ".3f"),
    ("features", _metric("feature_alignment"), ".3f"),
    ("spread", _metric("kernel_spread"), ".3f"),
    ("rank", _metric("kernel_rank"), ".1f"),
    ("kernel loss, first epoch", _kernel_loss(0), ".4f"),
    ("last epoch", _kernel_loss(-1), ".4f"),
    ("bandwidth", _BANDWIDTH, ".3g"),
    ("agreement, %", lambda run: 100 * run.metrics.get("test_agreement", math.nan), ".2f"),
    ("KL", _metric("test_kl"), ".4f"),
)
TEACHER: tuple[Column, ...] = (
    ("spread", _metric("teacher_kernel_spread"), ".3f"),
    ("rank", _metric("teacher_kernel_rank"), ".1f"),
)


def what_kernels_did(studies: Studies) -> tuple[list[str], dict[str, Chart]]:
    """Whether the kernel term aligned the kernels, and whether that made the student better."""
    held = {
        name: study
        for name, study in studies.items()
        if SEEN in study.results and study.results[SEEN].notna().any()
    }
    asked = {
        name: study for name, study in held.items() if share_seed(study.results.dropna(subset=SEEN))
    }
    found = {name: summary(study.results, REFERENCE, SEEN) for name, study in asked.items()}
    drawn, figures = _figure(found)
    missing = [name for name in studies if name not in held]
    return [
        "## What the kernels did",
        *READING,
        *([_not_recorded(missing)] if missing else []),
        *drawn,
        *_sentences(studies, found),
        *(part for item in studies.items() for part in _section(*item)),
    ], figures


def _not_recorded(names: Sequence[str]) -> str:
    return (
        f"The records of {listed(names)} were made before alignment was measured at the end of a "
        "training: what is shown of them is what they hold."
    )


def _sentences(studies: Studies, found: Mapping[str, Summary]) -> list[str]:
    """Did the term do its own work, and did that help? A paragraph a benchmark that has both."""
    if not found:
        return []
    scores = improvement_table(answerable(studies))  # of all, as on the first page: one Holm
    rows = [aligned.frame.loc[ARM] for aligned in found.values()]
    adjusted = holm(np.array([row["p"] for row in rows]))
    said = []
    for name, row, p in zip(found, rows, adjusted, strict=True):
        closer = verdict(row["difference"], p)
        better = verdict(*scores.loc[name, ["improvement", "p_adjusted"]])
        ends = ranged(row["difference_low"], row["difference_high"], 3)
        numbers = f"{signed(row['difference'], 3)} {ends}".strip()
        in_words = p_in_words(p)
        numbers += f", p {'' if p < 0.001 else '= '}{in_words}" if in_words else ""
        said.append(
            f"**{name}**: the kernel of `{ARM}` is {_CLOSER[closer]} that of `{REFERENCE}` "
            f"({numbers}), and its score {_SCORE[better]}. "
            f"{_MEANING.get((closer, better), '')}".strip()
        )
    return [
        *said,
        "In these lines p is that of the alignment, corrected for the number of benchmarks that "
        "have it (Holm); what is said of the score is the first page's verdict.",
    ]


_CLOSER = {
    BETTER: "nearer to the teacher's than",
    WORSE: "farther from the teacher's than",
    NONE: "as near to the teacher's, as far as these seeds can tell, as",
    UNKNOWN: "not to be compared with",
}
_SCORE = {
    BETTER: "is better",
    WORSE: "is worse",
    NONE: "shows no difference",
    UNKNOWN: "cannot be judged",
}
_MEANING = {
    (BETTER, BETTER): "The term did what it is for, and the student gained.",
    (BETTER, NONE): "The term did what it is for, but these seeds show no gain from it.",
    (BETTER, WORSE): "The term did what it is for, and the student lost by it.",
    (NONE, NONE): "That the term did its work is not shown either.",
    (NONE, BETTER): "The gain did not come with a kernel that is measurably nearer.",
}


def _section(name: str, study: Study) -> list[str]:
    """A row an arm: what of the diagnostics is recorded, means over seeds."""
    frame = study.results
    arms = [arm for arm in dict.fromkeys(frame["arm"]) if arm != "teacher"]
    rows = []
    for arm in arms:
        runs = list(frame.loc[frame["arm"] == arm, "run"])
        rows.append([arm, *(_mean(of, runs, how) for _, of, how in COLUMNS)])
    students = [run for run in study.runs if run.settings["arm"] != "teacher"]
    taught = [f"{what} {said}" for what, of, how in TEACHER if (said := _mean(of, students, how))]
    after = [f"The teacher's own matrix, through the same kernel: {listed(taught)}."]
    head = ["arm", *(column[0] for column in COLUMNS)]
    return [f"### Kernels on {name}", table(head, rows), *(after if taught else [])]


def _mean(of: Callable[[Run], float], runs: Sequence[Run], how: str) -> str:
    """Over seeds; of bandwidths the median, as they are taken from a grid of powers."""
    values = pd.Series([of(run) for run in runs], dtype=float)
    middle = values.median() if of is _BANDWIDTH else values.mean()
    return "" if math.isnan(middle) else f"{middle:{how}}"


def _figure(found: dict[str, Summary]) -> tuple[list[str], dict[str, Chart]]:
    """By how much each arm's alignment differs from the reference's."""
    drawn = {
        name: {
            arm: aligned.gains(arm)
            for arm in aligned.frame.index
            if arm not in (REFERENCE, CHECK, "teacher") and share_seed(aligned.results, arm)
        }
        for name, aligned in found.items()
    }
    if not drawn:
        return [], {}
    nearer = [
        arm
        for arm in kernel_arms(arm for arms in drawn.values() for arm in arms)
        if all(_sure(aligned, arm) for aligned in found.values())
    ]
    title = (
        f"On all benchmarks shown, the kernel of {listed(nearer)} came nearer to the teacher's "
        f"than that of {REFERENCE}"
        if nearer
        else f"No arm's kernel came nearer to the teacher's than that of {REFERENCE} on all "
        "benchmarks shown"
    )
    chart = differences_by_arm(drawn, f"Kernel alignment minus {REFERENCE}'s", title)
    return [figure("alignment", chart.alt)], {"alignment": chart}


def _sure(aligned: Summary, arm: str) -> bool:
    if arm not in aligned.frame.index:
        return False
    row = aligned.frame.loc[arm]
    return row["p_adjusted"] < LEVEL and row["difference"] > 0
