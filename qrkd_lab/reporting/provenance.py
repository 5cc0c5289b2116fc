"""What ran: the commands, the data, the machines and versions, and what is missing."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qrkd_lab.records.changes import changes_of
from qrkd_lab.records.recipe import set_words
from qrkd_lab.report import order_arms
from qrkd_lab.reporting.markdown import bullets, count, listed, seed_options, table
from qrkd_lab.reporting.studies import Studies
from qrkd_lab.runs import Run
from qrkd_lab.study import Study

__all__ = ["what_ran"]


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
