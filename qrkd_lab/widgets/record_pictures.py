"""Which figure a view of the records is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qrkd_lab import plots
from qrkd_lab.arms import TEACHER

if TYPE_CHECKING:
    from qrkd_lab.plots.style import Chart
    from qrkd_lab.study import Study
    from qrkd_lab.summary import Summary

__all__ = ["VIEWS", "draw_records"]

VIEWS = {
    "Differences": "differences",
    "Scores by arm": "scores",
    "Learning curves": "curves",
    "Loss terms": "terms",
    "All benchmarks": "benchmarks",
    "Table of runs": "runs",
}


def draw_records(
    view: str, study: Study, summary: Summary, studies: Mapping[str, Study], arm: str
) -> Chart | None:
    """The figure of a view; None for the table of runs.

    Args:
        view: one of the values of :data:`VIEWS`.
        study, summary: the runs at hand.
        studies, arm: for ``benchmarks``: a study each, and the arm to compare with the summary's
            reference.

    Raises:
        ValueError: there is nothing to draw, e.g. no arm beside the reference.
    """
    students = [run for run in study.runs if run.settings["arm"] != TEACHER] or study.runs
    reference = summary.reference
    if view == "differences" and not set(summary.frame.index) - {reference, TEACHER}:
        raise ValueError(
            f"There is no other student to compare {reference} with: choose one under Arms, or "
            "another reference."
        )
    if view == "benchmarks" and not studies:
        other = "another arm" if arm == reference else arm
        raise ValueError(f"No benchmark has records of {reference} and {other} at this scale.")
    figures = {
        "differences": lambda: plots.paired_differences(summary),
        "scores": study.plot,
        "curves": lambda: plots.learning_curves(students),
        "terms": lambda: plots.loss_terms(students),
        "benchmarks": lambda: plots.improvements(studies, arm, reference),
        "runs": lambda: None,
    }
    return figures[view]()
