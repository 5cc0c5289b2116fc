"""The weights: which were tried for each arm, which were chosen, and which the records used."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

import pandas as pd

from qrkd_lab.arms import TUNED
from qrkd_lab.records.recipe import set_words
from qrkd_lab.report import order_arms
from qrkd_lab.reporting.markdown import count, listed, table
from qrkd_lab.reporting.studies import Studies
from qrkd_lab.study import Study
from qrkd_lab.summary import units
from qrkd_lab.trace import Trace, exact

__all__ = ["weights_used"]

OWN = {"kd": "kd_weight", "rkd": "distance_weight"}  # all others: the kernel's
READING = (
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
    parts = ["## The weights that were tuned", READING]
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
