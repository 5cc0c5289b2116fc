"""Benchmark by benchmark: every arm, what its seeds say, how they vary, and what it cost."""

from __future__ import annotations

import math
from statistics import fmean

import pandas as pd

from qrkd_lab.evidence import relative_gains
from qrkd_lab.plots import Chart, differences_by_arm
from qrkd_lab.progress import duration
from qrkd_lab.reporting.markdown import figure, listed, table
from qrkd_lab.reporting.studies import (
    ARM,
    REFERENCE,
    Studies,
    answerable,
    kernel_arms,
    share_seed,
)
from qrkd_lab.reporting.verdicts import (
    BETTER,
    SHORT,
    UNKNOWN,
    WORSE,
    chance,
    verdict,
)
from qrkd_lab.statistics import variance_shares, win_interval, win_probability
from qrkd_lab.study import Study
from qrkd_lab.summary import Summary, in_logs, own_unit, units

__all__ = ["by_benchmark"]

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
