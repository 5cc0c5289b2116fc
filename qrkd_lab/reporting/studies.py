"""The studies that a report is about: records sorted by benchmark, and which arms they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd

from qrkd_lab.arms import ARMS, TEACHER, TUNED
from qrkd_lab.benchmarks import BENCHMARKS
from qrkd_lab.report import order_arms
from qrkd_lab.runs import Run
from qrkd_lab.study import Study

__all__ = [
    "ARM", "CHECK", "REFERENCE", "Studies", "answerable", "controls", "kernel_arms", "share_seed",
    "sort_runs",
]  # fmt: skip

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
