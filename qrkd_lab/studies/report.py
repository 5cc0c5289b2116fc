"""The report of a study over several benchmarks: composed from its records, and written."""

from __future__ import annotations

import base64
import html
import io
import math
import os
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from qrkd_lab.files import RecordError, expanded, write_file, writing
from qrkd_lab.studies.benchmarks import BENCHMARKS, check_scale
from qrkd_lab.studies.compare import Study
from qrkd_lab.studies.progress import duration
from qrkd_lab.studies.provenance import changes_of, one_kind, set_words, taught
from qrkd_lab.studies.records import PUBLISHED, Run, read_runs
from qrkd_lab.studies.settings import ARMS, TEACHER, TUNED
from qrkd_lab.studies.statistics import (
    holm,
    p_in_words,
    variance_shares,
    win_interval,
    win_probability,
)
from qrkd_lab.studies.summary import (
    Summary,
    counted,
    improvement_table,
    in_logs,
    in_own_unit,
    order_arms,
    own_unit,
    relative_gains,
    summary,
    units,
)
from qrkd_lab.studies.tune import FILE, Trace, exact, read_trace
from qrkd_lab.teaching.plots.scores import improvements
from qrkd_lab.teaching.plots.style import Chart, differences_by_arm

__all__ = [
    "ARM",
    "BETTER",
    "CHECK",
    "LEVEL",
    "NONE",
    "REFERENCE",
    "Report",
    "SHORT",
    "Studies",
    "UNKNOWN",
    "WORSE",
    "answer",
    "answerable",
    "bullets",
    "by_benchmark",
    "chance",
    "compose",
    "controls",
    "count",
    "excluded",
    "figure",
    "glance",
    "kernel_arms",
    "limits",
    "listed",
    "packed",
    "page",
    "ranged",
    "report_on",
    "seed_options",
    "share_seed",
    "signed",
    "sort_runs",
    "table",
    "verdict",
    "weights_used",
    "what_kernels_did",
    "what_ran",
    "words",
    "write_report",
]


TITLE = "Does a quantum kernel help a small student?"
NAME = "report"


@dataclass(frozen=True, repr=False)
class Report:
    """A report that is not written yet.

    Attributes:
        markdown: the text; the same records give the same bytes.
        figures: by name; the text refers to them as ``figures/NAME.png``.
    """

    markdown: str
    figures: Mapping[str, Chart]

    @property
    def html(self) -> str:
        """One file with all figures in it."""
        return page(self.markdown, TITLE, self.figures)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``report.md``, ``report.html`` and ``figures/`` into a folder; returns the first.

        Raises:
            RecordError: the folder cannot be written, or the disk is full; a file that was there
                is there still.
        """
        place = expanded(folder)
        text = place / f"{NAME}.md"
        with writing(f"the report in {place}", "out"):
            for name, chart in self.figures.items():
                write_file(place / "figures" / f"{name}.png", packed(chart))
            write_file(place / f"{NAME}.html", self.html.encode())
            write_file(text, self.markdown.encode())
        return text


def compose(
    runs: Iterable[Run],
    command: str,
    tunings: Sequence[Trace] = (),
    left_out: Sequence[Run] = (),
    missing: Sequence[str] = (),
) -> Report:
    """The report on some records.

    Args:
        runs: of any benchmarks, arms and seeds; an arm and seed once.
        command: that wrote the report, as it is typed.
        tunings: traces of the benchmarks whose weights were tuned.
        left_out: runs that lie beside them and are of other settings; they are counted.
        missing: what was asked for and is not among the runs, in words.

    Raises:
        ValueError: no runs, several scales of a benchmark, or two runs of one arm and seed.
    """
    studies = sort_runs(runs)
    seen, figures = glance(studies)
    each, more = by_benchmark(studies)
    kernels, drawn = what_kernels_did(studies)
    held = sum(len(study.runs) for study in studies.values())
    parts = [
        f"# {TITLE}",
        f"An account of {count(held, 'training run')} on {count(len(studies), 'benchmark')}. Every "
        "number, verdict and sentence about them is computed from the records; the same records "
        "give the same text.",
        *(["**Not all that was asked for is here**: see *Missing runs*."] if missing else []),
        *answer(studies),
        *seen,
        *words(studies),
        *each,
        *kernels,
        *weights_used(studies, tunings),
        *what_ran(studies, command, missing),
        *limits(studies, tunings, left_out),
    ]
    return Report("\n\n".join(parts) + "\n", figures | more | drawn)


def write_report(
    runs: Iterable[Run],
    folder: str | os.PathLike[str],
    command: str,
    tunings: Sequence[Trace] = (),
    missing: Sequence[str] = (),
) -> Path:
    """Compose a report and write it; see :func:`compose` and :meth:`Report.save`.

    Example:
        >>> write_report(study.runs, "out", "make reproduce")          # doctest: +SKIP
        PosixPath('out/report.md')
    """
    return compose(runs, command, tunings, missing=missing).save(folder)


def report_on(
    root: str | os.PathLike[str] = PUBLISHED,
    benchmarks: Sequence[str] = (),
    scale: str = "laptop",
) -> Report:
    """The report on the records and tunings of one scale under a folder, weights unread.

    Where a benchmark has several records of an arm and seed, its own settings decide which count,
    and the report says how many were left out; see :func:`~qrkd_lab.studies.provenance.one_kind`.
    Records and tunings that are damaged or cannot be read are left out too, and named in it.

    Args:
        root: of the records.
        benchmarks: names; none: all there are.
        scale: of the records.

    Raises:
        ValueError: an unknown scale; no records of one of the benchmarks; or several of one arm
            and seed of which not just one has the benchmark's own settings.
    """
    check_scale(scale)
    root = expanded(root)
    names = dict.fromkeys(benchmarks) or (None,)
    damaged: list[str] = []
    runs = taught(run for name in names for run in read_runs(root, name, scale, False, damaged))
    found = dict.fromkeys(run.settings["benchmark"] for run in runs)
    lacking = [name for name in benchmarks if name not in found]
    if lacking or not runs:
        what = ", ".join(lacking) or "any benchmark"
        raise ValueError(
            f"no records of {what} at scale {scale} in {os.fspath(root)}: train some with "
            "python -m qrkd_lab compare, or name another --runs-dir"
        )
    places = [Path(root, name, scale) for name in found]
    tunings = []
    for place in places:
        if os.path.lexists(place / FILE):
            try:
                tunings.append(read_trace(place))
            except RecordError as error:
                warnings.warn(f"left out of the report: {error}", stacklevel=2)
                damaged.append(str(error))
    options = [] if root == PUBLISHED else ["--runs-dir", os.fspath(root)]
    options += [] if scale == "laptop" else ["--scale", scale]
    command = shlex.join(["python", "-m", "qrkd_lab", "report", *benchmarks, *options])
    kept, left_out = one_kind(runs)
    return compose(kept, command, tunings, left_out, missing=damaged)


# ---- markdown


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


# ---- studies


ARM, REFERENCE = "qrkd", "rkd"  # the claim is about these two
CHECK = "detached"  # must be the reference, bit for bit
Studies = Mapping[str, Study]


def sort_runs(runs: Iterable[Run]) -> dict[str, Study]:
    """Benchmark to its study, in the order of the kit's benchmarks, then others by name.

    The order in which the runs come does not matter.

    Raises:
        ValueError: no runs, or a benchmark at several scales.
    """
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.settings["benchmark"], []).append(run)
    if not found:
        raise ValueError("expected at least one record to report on, got none: train some first")
    for name, held in found.items():
        if len(scales := sorted({run.settings["scale"] for run in held})) > 1:
            raise ValueError(
                f"{name}: expected records of one scale, got {', '.join(scales)}: report on each "
                "alone, e.g. --scale laptop"
            )
    names = dict.fromkeys([*BENCHMARKS, *sorted(found)])
    return {name: Study(tuple(sorted(found[name], key=_place))) for name in names if name in found}


def _place(run: Run) -> tuple[int, str, int, str]:
    """Teacher, then the kit's arms in their order, then others by name; seed by seed."""
    arm, known = run.settings["arm"], (TEACHER, *ARMS)
    return (known.index(arm) if arm in known else len(known), arm, run.settings["seed"], run.key)


def answerable(studies: Studies, arm: str = ARM, reference: str = REFERENCE) -> dict[str, Study]:
    """Those that have both arms, and at least one seed of both."""
    return {n: study for n, study in studies.items() if share_seed(study.results, arm, reference)}


def share_seed(results: pd.DataFrame, arm: str = ARM, reference: str = REFERENCE) -> bool:
    """Whether two arms can be compared at all: whether some seed has both."""
    first, second = (set(results.loc[results["arm"] == of, "seed"]) for of in (arm, reference))
    return bool(first & second)


def kernel_arms(arms: Iterable[str]) -> list[str]:
    """Those of the arms that add a kernel to ``rkd`` which can teach, in the order of the kit.

    ``detached`` is none: it is ``rkd`` to the last bit, and would be counted as one more try.
    """
    return [arm for arm in order_arms(arms) if arm in TUNED]


def controls(studies: Studies) -> list[str]:
    """The arms of all studies that change one thing in ``qrkd``."""
    present = [arm for study in studies.values() for arm in study.results["arm"]]
    return [arm for arm in kernel_arms(present) if arm != ARM]


# ---- verdicts


LEVEL = 0.05
BETTER, WORSE = "better", "worse"
NONE = "no difference that these seeds could show"
UNKNOWN = "cannot be told from these seeds"
# In tables.
SHORT = {BETTER: "**better**", WORSE: "**worse**", NONE: "none shown", UNKNOWN: "unknown"}


def verdict(gain: float, p: float) -> str:
    """One of four: ``better``, ``worse``, no difference that could be shown, or unknown.

    Args:
        gain: by how much the arm is better, on average.
        p: of the paired test, after correction; NaN where there is none.
    """
    if math.isnan(p):
        return UNKNOWN
    if p >= LEVEL:
        return NONE
    return BETTER if gain > 0 else WORSE


def chance(row: Mapping[str, float]) -> str:
    """The chance to be ahead on a new seed and its interval, or nothing."""
    if math.isnan(row["p_win"]):
        return ""
    return f"{row['p_win']:.2f} {ranged(row['win_low'], row['win_high'], plus=False)}"


def excluded(row: pd.Series) -> str:
    """The largest improvement that a row of ``improvement_table`` leaves possible.

    By the simultaneous limits: as said of all benchmarks together. In points of accuracy, else in
    per cent of the reference's score.
    """
    factor, unit = units(row["metric"])
    if unit:
        return f"{row['joint_high'] * row['reference'] / 100 * factor:.2f} points"
    name = row["metric"].removeprefix("test_").replace("_", " ")
    return f"{row['joint_high']:.2f} % of the {name}"


# ---- answer


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


# ---- benchmarks


READING = (
    "Each benchmark has two tables. The first is the study's own: means over seeds, the paired "
    f"difference to `{REFERENCE}` with its 95 % interval, and p after Holm's correction for the "
    "number of arms (above, one arm was compared on several benchmarks, so p was corrected for "
    "those). Each interval is for its arm alone. Perplexities are compared by their ratio, in per "
    "cent of the reference's. **train - test** (of perplexities **test - train**), **to teacher** "
    "and **over scratch** are gaps in the metric's unit: how much better on training data, how far "
    "behind the teacher, how far ahead of the student that learnt alone. **Agreement** is the per "
    "cent of predictions that are the teacher's.",
    "The second says what that means: the verdict, the seeds won and the chance to win a new one "
    "(as above; its interval knows nothing of the other arms, p does). **Smallest seen**: the "
    "smallest true difference that these seeds with this spread show with 80 % power, at 5 % "
    "divided by the number of arms that are compared (Holm's first step). It does not depend on "
    "the difference that was observed. **Sd**: the standard deviation of the arm's own scores over "
    f"seeds. **Time**: seconds of training relative to `{REFERENCE}`'s of the same seed. Where a "
    "machine does other work beside, its seconds are upper bounds, and their ratios rough.",
)


def by_benchmark(studies: Studies) -> tuple[list[str], dict[str, Chart]]:
    """A section a benchmark, after one figure of all arms with a kernel."""
    drawn, figures = _figure(studies)
    parts = ["## Benchmark by benchmark", *drawn, *READING]
    for name, study in studies.items():
        parts += [f"### {name}", *_section(study)]
    return parts, figures


def _section(study: Study) -> list[str]:
    arms = set(study.results["arm"])
    if REFERENCE not in arms:
        return [f"There is no `{REFERENCE}` here.", study.summary().to_markdown().strip()]
    summary = study.summary(REFERENCE)
    said = [summary.verdict(ARM)] if ARM in arms else []
    return [
        *said,
        summary.to_markdown().strip(),
        _meaning(study, summary),
        *_spread(summary),
        *_teacher(study),
    ]


def _meaning(study: Study, summary: Summary) -> str:
    """A row an arm: its verdict, and the numbers that belong to it."""
    times, rows = _times(study), []
    factor, unit = units(summary.metric)[0], own_unit(summary.metric)
    ratio = in_logs(summary.metric)
    spread = summary.results.groupby("arm")[summary.metric].std() * factor
    for arm, row in summary.frame.iterrows():
        if arm == "teacher":
            continue
        own = [""] * 4
        if arm != REFERENCE:
            found, least = summary.gains(arm), summary.smallest_seen(arm)
            ends = dict(zip(("win_low", "win_high"), win_interval(found.to_numpy()), strict=True))
            own = [
                SHORT[verdict(found.mean(), row["p_adjusted"])],
                f"{int((found > 0).sum())} of {len(found)}",
                chance({"p_win": win_probability(found.to_numpy()), **ends}),
                "" if math.isnan(least) else f"{least * (100 if ratio else factor):.2f}",
            ]
        sd = "" if math.isnan(spread[arm]) else f"{spread[arm]:.2f}"
        time = f"{times[arm]:.2f} x" if arm in times else ""
        rows.append([str(arm), own[0] or "the reference", *own[1:], sd, time])
    head = ["arm", f"against {REFERENCE}", "seeds won", "chance to win a new seed",
            f"smallest seen, {'%' if ratio else unit}", f"sd, {unit}", "time"]  # fmt: skip
    return table(head, rows)


def _times(study: Study) -> dict[str, float]:
    """Seconds of training relative to the reference's, the mean over the seeds of both."""
    rows = study.results.assign(train=[run.seconds["train"] for run in study.results["run"]])
    seconds = rows.pivot(index="seed", columns="arm", values="train")
    ratio = seconds.div(seconds[REFERENCE], axis=0).mean()
    return ratio.dropna().to_dict()


def _spread(summary: Summary) -> list[str]:
    """What differs more, seeds or arms."""
    arms = kernel_arms(summary.frame.index)
    held = summary.scores()[[REFERENCE, *arms]].dropna()
    if len(held) < 2 or not arms or not held.to_numpy().std() > 0:
        return []
    share = 100 * variance_shares(held)
    return [
        f"Of the variance among `{REFERENCE}` and the arms that add a kernel to it, "
        f"{share['seed']:.0f} % lies between seeds (which pairing takes out), "
        f"{share['arm']:.0f} % between arms, and {share['rest']:.0f} % is neither."
    ]


def _teacher(study: Study) -> list[str]:
    """What the teacher cost, and how large both are."""
    taught, learnt = (
        [run for run in study.runs if run.settings["arm"] == arm] for arm in ("teacher", REFERENCE)
    )
    if not taught or not learnt:
        return []
    teacher, student = (fmean(run.seconds["train"] for run in of) for of in (taught, learnt))
    return [
        f"The teacher has {taught[0].parameters:,} weights and took {duration(teacher)} to train "
        f"on average, the student {learnt[0].parameters:,} and {duration(student)} as "
        f"`{REFERENCE}` (its own steps; the teacher is asked once for all arms of a seed, which is "
        "not counted)."
    ]


def _figure(studies: Studies) -> tuple[list[str], dict[str, Chart]]:
    """All arms with a kernel against the reference, a panel a benchmark."""
    found: dict[str, dict[str, pd.Series]] = {}
    sure, known = [], False
    for name, study in answerable(studies).items():
        summary = study.summary(REFERENCE)
        arms = kernel_arms(summary.frame.index)
        found[name] = {
            arm: relative_gains(summary, arm) for arm in arms if share_seed(study.results, arm)
        }
        for arm, values in found[name].items():
            word = verdict(values.mean(), summary.frame.loc[arm, "p_adjusted"])
            known |= word != UNKNOWN
            sure += [f"{arm} is {word} on {name}"] if word in (BETTER, WORSE) else []
    if not found:
        return [], {}
    title = (
        f"Of the arms that add a kernel to {REFERENCE}, {listed(sure)}; nothing else shows"
        if sure
        else f"Arms that add a kernel to {REFERENCE}: too few seeds to tell them from it"
        if not known
        else f"No arm that adds a kernel to {REFERENCE} differs from it by more than these seeds "
        "could show, all arms asked at once"
    )
    what = f"Better than {REFERENCE} by, % of {REFERENCE}'s mean"
    chart = differences_by_arm(found, what, title)
    return [figure("kernel_arms", chart.alt)], {"kernel_arms": chart}


# ---- kernels


SEEN = "kernel_alignment"
READING_KERNELS = (
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
TEACHER_KERNELS: tuple[Column, ...] = (
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
    drawn, figures = _kernels_figure(found)
    missing = [name for name in studies if name not in held]
    return [
        "## What the kernels did",
        *READING_KERNELS,
        *([_not_recorded(missing)] if missing else []),
        *drawn,
        *_sentences(studies, found),
        *(part for item in studies.items() for part in _kernels_section(*item)),
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


def _kernels_section(name: str, study: Study) -> list[str]:
    """A row an arm: what of the diagnostics is recorded, means over seeds."""
    frame = study.results
    arms = [arm for arm in dict.fromkeys(frame["arm"]) if arm != "teacher"]
    rows = []
    for arm in arms:
        runs = list(frame.loc[frame["arm"] == arm, "run"])
        rows.append([arm, *(_mean(of, runs, how) for _, of, how in COLUMNS)])
    students = [run for run in study.runs if run.settings["arm"] != "teacher"]
    taught = [
        f"{what} {said}" for what, of, how in TEACHER_KERNELS if (said := _mean(of, students, how))
    ]
    after = [f"The teacher's own matrix, through the same kernel: {listed(taught)}."]
    head = ["arm", *(column[0] for column in COLUMNS)]
    return [f"### Kernels on {name}", table(head, rows), *(after if taught else [])]


def _mean(of: Callable[[Run], float], runs: Sequence[Run], how: str) -> str:
    """Over seeds; of bandwidths the median, as they are taken from a grid of powers."""
    values = pd.Series([of(run) for run in runs], dtype=float)
    middle = values.median() if of is _BANDWIDTH else values.mean()
    return "" if math.isnan(middle) else f"{middle:{how}}"


def _kernels_figure(found: dict[str, Summary]) -> tuple[list[str], dict[str, Chart]]:
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


# ---- tuned


OWN = {"kd": "kd_weight", "rkd": "distance_weight"}  # all others: the kernel's
READING_TUNED = (
    "Each arm has one weight of its own: `kd` that of the teacher's outputs, `rkd` that of the "
    "distances (that of the angles is twice as large), `qrkd` and each control that of the kernel. "
    "An arm can win by being tuned harder than the others, so what matters is that all had the "
    "same candidates, seeds and epochs, and that no candidate was scored on the test part. The "
    "search goes in stages: `rkd` builds on the choice for `kd`, and the kernels on that for "
    "`rkd`. So `qrkd` and its controls have had equal searches, `rkd` one stage fewer, `kd` two, "
    "and `scratch` none; `rkd_only` and `detached` have the weights of `rkd` and `qrkd`."
)


def weights_used(studies: Studies, tunings: Sequence[Trace]) -> list[str]:
    """What was tried, benchmark by benchmark, and the weights that the records have."""
    traces = {trace.benchmark: trace for trace in tunings if trace.benchmark in studies}
    elsewhere, untuned = _without_a_trace(studies, traces)
    parts = ["## The weights that were tuned", READING_TUNED]
    for trace, names in elsewhere.items():
        parts.append(
            f"The records of {listed(names)} have the weights that were chosen on {trace}; no "
            "search of their own is recorded."
        )
    if untuned:
        parts.append(
            f"No tuning is recorded beside the records of {listed(untuned)}: their weights are "
            "those of the settings, and nothing here shows that every arm had the same chance."
        )
    for name, trace in traces.items():
        parts += [f"### Weights tried on {name}", *_searched(trace)]
    return [*parts, *_used(studies, traces)]


def _without_a_trace(
    studies: Studies, traces: Mapping[str, Trace]
) -> tuple[dict[str, list[str]], list[str]]:
    """Benchmarks whose records have just the weights that were chosen on another, by that one; and
    the benchmarks that have weights of another origin."""
    elsewhere: dict[str, list[str]] = {}
    untuned = []
    for name, study in studies.items():
        if name not in traces:
            used = {arm: held for arm, held in _weights(study).items() if arm in (*OWN, *TUNED)}
            same = [
                other
                for other, trace in traces.items()
                if used and all([trace.chosen.get(arm)] == used[arm] for arm in used)
            ]
            if same:
                elsewhere.setdefault(same[0], []).append(name)
            else:
                untuned.append(name)
    return elsewhere, untuned


def _weights(study: Study) -> dict[str, list[float]]:
    """The values that each arm's own weight has in the records; without arms that have none."""
    found = {}
    for arm, runs in study.results.groupby("arm", sort=False)["run"]:
        key = OWN.get(str(arm), "kernel_weight")
        if values := sorted({run.settings[key] for run in runs if key in run.settings}):
            found[str(arm)] = values
    return found


def _searched(trace: Trace) -> list[str]:
    """Every candidate's mean validation score, the chosen one bold."""
    found = trace.table
    tried = found[found["counts"]]
    factor, unit = units(trace.metric)
    rows = [
        [arm, *(_score(of_arm, weight, factor) for weight in trace.weights)]
        for arm, of_arm in tried.groupby("arm", sort=False)
    ]
    weights = [exact(weight) for weight in trace.weights]
    what = trace.metric.replace("_", " ") + unit.replace(" ", ", ")
    return [
        f"The search was `{_command(trace)}`. {_budget(tried)} A candidate trained for "
        f"{trace.epochs} of a study's {count(trace.full_epochs, 'epoch')}, from the same start and "
        "on the same batches as the "
        f"others. Mean {what}, by weight ({'more' if trace.higher_is_better else 'less'} is "
        "better; the chosen one in bold):",
        table(["arm", *weights], rows),
        *_remarks(trace, found, factor, unit),
    ]


def _command(trace: Trace) -> str:
    """The call that searched."""
    arms = [arm for arm in trace.chosen if arm not in OWN]
    seeds = sorted({trial.seed for trial in trace.trials})
    weights = [exact(weight) for weight in trace.weights]
    asked = shlex.join([
        "python", "-m", "qrkd_lab", "tune", trace.benchmark, "--arms", *arms,
        "--seed", *map(str, seeds), "--scale", trace.scale, "--weights", *weights,
        "--epochs", str(trace.epochs),
    ])  # fmt: skip
    return " ".join([asked, *set_words(trace.overrides)])


def _budget(tried: pd.DataFrame) -> str:
    """Whether every arm had as many candidates and seeds as the others."""
    sizes = tried.groupby("arm", sort=False).agg(n=("weight", "nunique"), seeds=("seeds", "min"))
    kinds = {(int(n), int(seeds)) for n, seeds in sizes.itertuples(index=False)}
    if len(kinds) == 1:
        ((n, seeds),) = kinds
        return f"Every arm had {count(n, 'candidate')}, each on {count(seeds, 'seed')}."
    said = [f"{arm} {row['n']} on {count(row['seeds'], 'seed')}" for arm, row in sizes.iterrows()]
    return f"The arms did **not** have the same number of candidates: {listed(said)}."


def _score(rows: pd.DataFrame, weight: float, factor: float) -> str:
    held = rows[rows["weight"] == weight]
    if not len(held):
        return ""
    row = held.iloc[0]
    if math.isnan(row["score"]):
        return "diverged"
    said = f"{row['score'] * factor:.2f}"
    return f"**{said}**" if row["chosen"] else said


def _remarks(trace: Trace, found: pd.DataFrame, factor: float, unit: str) -> list[str]:
    """What lies at the edge of the candidates, and what `rkd` reached beside the kernels."""
    said = []
    if trace.at_edge:
        said.append(
            f"At the edge of the candidates: {listed(trace.at_edge)}. A better weight may lie "
            "beyond it."
        )
    beside = found[~found["counts"]]
    if len(beside):
        score = beside.iloc[0]["score"] * factor
        said.append(f"Beside the kernels, `rkd` without one reached {score:.2f}{unit}.")
    return [" ".join(said)] if said else []


def _used(studies: Studies, traces: Mapping[str, Trace]) -> list[str]:
    """A row an arm, a column a benchmark: the weight in the records, bold where not the chosen."""
    held: dict[str, dict[str, str]] = {}
    for name, study in studies.items():
        for arm, values in _weights(study).items():
            said = " and ".join(map(exact, values))
            chosen = traces[name].chosen.get(arm) if name in traces else None
            odd = chosen is not None and values != [chosen]
            held.setdefault(arm, {})[name] = f"**{said}**" if odd else said
    rows = [
        [arm, OWN.get(arm, "kernel_weight"), *(held[arm].get(name, "") for name in studies)]
        for arm in order_arms(held)
    ]
    odd = any("**" in cell for row in rows for cell in row)
    return [
        "### Weights in the records",
        table(["arm", "its own weight", *studies], rows),
        *(["Bold: **not** the weight that the tuning chose."] if odd else []),
    ]


# ---- limits


def words(studies: Studies) -> list[str]:
    """A few words that the rest needs, and what each arm is."""
    arms = order_arms(arm for study in studies.values() for arm in study.results["arm"])
    rows = [[f"`{arm}`", ARMS[arm].meaning] for arm in arms if arm in ARMS]
    return [
        "## Words",
        bullets([
            "A large network, the **teacher**, helps to train a small one, the **student**. An "
            "**arm** is one way to do that; a **control** is an arm that changes one thing in "
            "`qrkd`, with a weight of its own.",
            "A **seed** fixes everything that is random: the teacher, the student's start, the "
            "order of the batches. All arms of a seed have the same, so they are compared seed by "
            "seed (**paired**), and what one teacher or start does to all arms cancels.",
            "A **95 % interval** is computed by a rule that catches the true mean in 95 of 100 "
            "such studies. **p** is how often chance alone would make a difference at least as "
            "large; **Holm** makes it larger where several questions are asked at once. Below "
            "0.05 this report says better or worse.",
            "Otherwise it says **no difference that these seeds could show**. That is not the "
            "same as no difference: more seeds might show one.",
            "**Points** are per cent of accuracy. **Perplexity** (ppl) is among how many tokens a "
            "language model is, in effect, undecided when it predicts the next; less is better.",
        ]),
        table(["arm", "the student ..."], rows),
    ]  # fmt: skip


def limits(studies: Studies, tunings: Sequence[Trace], left_out: Sequence[Run] = ()) -> list[str]:
    """What these records cannot say, as far as it can be read off them."""
    runs = [run for study in studies.values() for run in study.runs]
    seeds = {name: study.results["seed"].nunique() for name, study in studies.items()}
    scales = sorted({run.settings["scale"] for run in runs})
    largest = max(run.parameters for run in runs)
    tuned = {trace.benchmark for trace in tunings}
    untuned = [name for name in studies if name not in tuned]
    few = ", ".join(f"{name} {number}" for name, number in seeds.items())
    said = [
        f"Seeds: {few}. With so few, only effects that are large beside the spread from seed to "
        "seed can be seen, and the t-test takes the differences as normal, which so few cannot "
        "check.",
        f"Scale: {listed(scales)}. The largest network here has {count(largest, 'weight')}. What "
        "holds for networks of this size need not hold for larger ones.",
        "A seed repeats the training, not the data: each benchmark has one test part and one "
        "division into training and validation part. An interval says what other seeds would do on "
        "these data. Which data they are, and whether the official ones, is said under *What ran*.",
        "All arms are set against the same runs of `rkd`: a seed in which `rkd` did badly lifts "
        "all differences at once.",
        "The circuits are simulated exactly: no shots, no noise of a device.",
        "Circuits, sizes and weights are the kit's own; no number here is the paper's.",
        "The test part was scored once a run, after the last epoch; no epoch was picked.",
        "`scratch` has no weight to tune, and all arms of a benchmark share one learning rate, "
        "which may suit some better than others.",
    ]
    chose = (_chose(t, studies[t.benchmark]) for t in tunings if t.benchmark in studies)
    said += [sentence for sentence in chose if sentence]
    if untuned:
        said.append(
            f"No tuning is recorded for {listed(untuned)}: with other weights an arm might do "
            "better."
        )
    edge = [f"{t.benchmark} ({', '.join(t.at_edge)})" for t in tunings if t.at_edge]
    if edge:
        said.append(
            f"Some weights lie at the edge of what was tried: {listed(edge)}; the best may lie "
            "beyond."
        )
    if left_out:
        names = dict.fromkeys(run.settings["benchmark"] for run in left_out)
        said.append(
            f"Left out: {count(len(left_out), 'record')} on {listed(list(names))} that lie beside "
            "these and are not of the benchmark's default settings."
        )
    return ["## Limits", bullets(said)]


def _chose(trace: Trace, study: Study) -> str:
    """Whether seeds that chose the weights are among those that the answer rests on."""
    both = sorted({trial.seed for trial in trace.trials} & set(study.results["seed"]))
    if not both:
        return ""
    return (
        f"On {trace.benchmark} the weights were chosen by validation scores of "
        f"{'seed' if len(both) == 1 else 'seeds'} {listed([str(seed) for seed in both])}, which "
        "are among the seeds of the study."
    )


# ---- provenance


def what_ran(studies: Studies, command: str, missing: Sequence[str] = ()) -> list[str]:
    """The section from which somebody else can repeat the study, and see what is odd about it.

    ``missing`` says what was asked for and is not there; what some arms have and others lack is
    found here.
    """
    runs = [run for study in studies.values() for run in study.runs]
    hours = sum(sum(run.seconds.values()) for run in runs) / 3600
    days = sorted(run.finished[:10] for run in runs)
    gaps = [
        *missing,
        *(line for name, study in studies.items() for line in _gaps(name, study)),
        *_arms_of_others(studies),
    ]
    return [
        "## What ran",
        f"This report was written by\n\n    {command}\n\nfrom {count(len(runs), 'record')}, "
        f"finished {_between(days)}, {hours:.1f} hours of training and evaluation "
        "by their own clocks.",
        table(
            ["benchmark", "records", "arms", "seeds", "train, validation, test", "source",
             "sha256"],
            [_row(name, study) for name, study in studies.items()],
        ),
        "The runs can be repeated by these commands, one for each group of arms with the same "
        "settings; what is recorded already in the folder of `--runs-dir` is not trained again:",
        "\n".join(f"    {line}" for study in studies.values() for line in _commands(study)),
        "### Machines and versions",
        bullets(_kinds(runs)),
        "### Missing runs",
        bullets(gaps) if gaps else "None: every arm of a benchmark has the same seeds.",
    ]  # fmt: skip


def _between(days: Sequence[str]) -> str:
    return f"on {days[0]}" if days[0] == days[-1] else f"between {days[0]} and {days[-1]}"


def _row(name: str, study: Study) -> list[str]:
    runs = study.runs
    data = {(str(run.data.get("source")), str(run.data["sha256"])[:12]) for run in runs}
    sizes = sorted({_sizes(run.data) for run in runs})
    return [
        name, str(len(runs)), str(len({run.settings["arm"] for run in runs})),
        str(len({run.settings["seed"] for run in runs})), " or ".join(sizes),
        "; ".join(source for source, _ in sorted(data)), ", ".join(h for _, h in sorted(data)),
    ]  # fmt: skip


def _sizes(data: Mapping[str, Any]) -> str:
    return ", ".join(f"{data[part]:,}" for part in ("train", "validation", "test") if part in data)


def _commands(study: Study) -> list[str]:
    """The calls that make the runs of a study, an arm beside all others with its settings."""
    groups: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for arm in order_arms(study.results["arm"]):
        held = [run for run in study.runs if run.settings["arm"] == arm]
        if arm == "teacher":  # trained by any of the others
            continue
        for words in sorted({_changed(run) for run in held}):
            seeds = tuple(sorted(r.settings["seed"] for r in held if _changed(r) == words))
            groups.setdefault((words, seeds), []).append(arm)
    first = study.runs[0].settings
    name, scale = shlex.quote(first["benchmark"]), first["scale"]
    return [
        f"python -m qrkd_lab compare {name} "
        f"{' '.join(['--arms', *arms, *seed_options(seeds)])} --scale {scale}{words}"
        for (words, seeds), arms in groups.items()
    ]


def _changed(run: Run) -> str:
    """What of a run's settings is not the default, as it is given at the command line."""
    try:
        changes = changes_of(run.settings)
    except ValueError as error:
        return f"  # not by this version: {error}"
    return "".join(f" {word}" for word in set_words(changes))


def _kinds(runs: Iterable[Run]) -> list[str]:
    """Each device, platform and version, and of how many records where there are several."""
    ran = [{"device": run.device, **run.versions} for run in runs]
    names = dict.fromkeys(name for one in ran for name in one)
    seen = {name: Counter(str(one.get(name, "not recorded")) for one in ran) for name in names}
    return [
        f"{name}: "
        + (
            next(iter(kinds))
            if len(kinds) == 1
            else listed([f"{kind} ({count(n, 'record')})" for kind, n in sorted(kinds.items())])
        )
        for name, kinds in seen.items()
    ]


def _arms_of_others(studies: Studies) -> list[str]:
    """The arms that some benchmarks have and others lack."""
    arms = {name: set(study.results["arm"]) for name, study in studies.items()}
    every = order_arms(arm for study in studies.values() for arm in study.results["arm"])
    lacks = {name: [f"`{arm}`" for arm in every if arm not in has] for name, has in arms.items()}
    return [
        f"{name}: {listed(names)}, which other benchmarks have"
        for name, names in lacks.items()
        if names
    ]


def _gaps(name: str, study: Study) -> list[str]:
    """The seeds that some arms have and others lack."""
    seeds = study.results.groupby("arm")["seed"].agg(set)
    every = set().union(*seeds)
    return [
        f"{name}: {arm} lacks {'seed' if len(lacks) == 1 else 'seeds'} "
        f"{listed([str(seed) for seed in sorted(lacks)])}"
        for arm in order_arms(study.results["arm"])
        if (lacks := every - seeds[arm])
    ]


# ---- page


DPI, COLOURS = 132, 64
STYLE = """
:root { color-scheme: light }
body { margin: 0 auto; max-width: 76rem; padding: 1rem 1.2rem 4rem; background: #fff;
  color: #1b1b1b; font: 1rem/1.55 system-ui, sans-serif }
h1 { line-height: 1.2 } h2 { margin-top: 2.6rem; border-bottom: 1px solid #ccc }
h3 { margin-top: 2rem } p, li { max-width: 46rem }
a { color: #0b57a4 } code { font-size: .92em; background: #f3f3f3; padding: 0 .2em }
pre { overflow-x: auto; background: #f3f3f3; padding: .6rem .8rem } pre code { padding: 0 }
figure { margin: 1.2rem 0 } img { max-width: 100%; height: auto }
.table { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
td { white-space: nowrap } .words { text-align: left } tbody th { font-weight: 600 }
thead th { border-bottom: 2px solid #888; vertical-align: bottom }
@media print { body { font-size: 9.5pt; max-width: none; padding: 0 } h2, h3 { break-after: avoid }
  figure, table, tr { break-inside: avoid } td { white-space: normal } table { font-size: 7.5pt } }
"""


def page(markdown: str, title: str, figures: Mapping[str, Chart]) -> str:
    """A page that needs nothing but itself.

    Args:
        markdown: the report; an image ``figures/NAME.png`` is drawn from ``figures[NAME]``.
        title: of the window.
        figures: by name.
    """
    import mistune

    class Renderer(mistune.HTMLRenderer):
        """Tables that name their rows and scroll by themselves; figures inside the page."""

        def image(self, text: str, url: str, title: str | None = None) -> str:
            name = url.removeprefix("figures/").removesuffix(".png")
            data = base64.b64encode(packed(figures[name])).decode()
            width = round(figures[name].get_figwidth() * 96)
            alt = html.escape(html.unescape(text), quote=True)
            return f'<img src="data:image/png;base64,{data}" alt="{alt}" width="{width}">'

    draw = mistune.create_markdown(renderer=Renderer(), plugins=["table"])
    renderer = draw.renderer
    renderer.register("table", _table)
    renderer.register("table_cell", _page_cell)
    renderer.register("table_row", _page_row)
    body = draw(markdown)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def packed(chart: Chart) -> bytes:
    """The figure as PNG with few colours: a quarter of the size."""
    drawn, small = io.BytesIO(), io.BytesIO()
    chart.savefig(drawn, format="png", dpi=DPI)
    picture = Image.open(drawn).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(small, "png", optimize=True)
    return small.getvalue()


def _table(_renderer: object, text: str) -> str:
    place = '<div class="table" role="region" aria-label="Table" tabindex="0">'
    return f"{place}<table>\n{text}</table></div>\n"


def _page_row(_renderer: object, text: str) -> str:
    """A row whose first cell is its head."""
    first, end, rest = text.partition("</td>")
    if end and first.lstrip().startswith("<td"):
        text = first.replace("<td", '<th scope="row"', 1) + "</th>" + rest
    return f"<tr>{text}</tr>\n"


def _page_cell(_renderer: object, text: str, align: str | None = None, head: bool = False) -> str:
    side = ' class="words"' if align == "left" else ""
    return f'<th scope="col"{side}>{text}</th>' if head else f"<td{side}>{text}</td>"
