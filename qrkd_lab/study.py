"""A study: the runs of several arms and seeds on one benchmark, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from qrkd_lab.runs import Run
from qrkd_lab.storage import (
    expanded,
    replacing,
    write_file,
    writing,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from qrkd_lab.summary import Summary

__all__ = ["Study", "StudyError"]


class StudyError(RuntimeError):
    """Some runs of a study failed; ``.study`` holds those that did not."""

    def __init__(self, failures: Sequence[str], study: Study) -> None:
        self.failures, self.study = tuple(failures), study
        listed = "\n  ".join(self.failures)
        super().__init__(
            f"{len(self.failures)} failed; {len(study.runs)} runs are recorded and will be reused:"
            f"\n  {listed}"
        )


@dataclass(frozen=True)
class Study:
    """Finished runs of one benchmark and scale.

    Attributes:
        runs: records, of any arms and seeds.
        notes: what happened on the way (how many runs were reused).
    """

    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def results(self) -> pd.DataFrame:
        """A row a run: arm, seed, metrics, gaps, times; see :func:`qrkd_lab.report.results`."""
        from qrkd_lab.report import results

        return results(self.runs)

    def summary(self, reference: str | None = None, confidence: float = 0.95) -> Summary:
        """Means with intervals, and paired differences to a reference arm.

        Args:
            reference: an arm; None takes ``rkd``, or the first of ``kd``, ``scratch`` there is.
            confidence: of the intervals.

        Raises:
            ValueError: the reference is not among the arms (lists them).
        """
        asked = (reference, confidence)
        if asked not in self._summaries:
            self._summaries[asked] = self._summary(*asked)
        return self._summaries[asked]

    @cached_property
    def _summaries(self) -> dict[tuple[str | None, float], Summary]:
        return {}

    def _summary(self, reference: str | None, confidence: float) -> Summary:
        from qrkd_lab.report import summary

        present = set(self.results["arm"])
        if reference is None:
            likely = [arm for arm in ("rkd", "kd", "scratch") if arm in present]
            reference = (likely or sorted(present))[0]
        metric = self.runs[0].metric
        return summary(
            self.results,
            reference,
            metric["name"],
            confidence,
            higher_is_better=metric["higher_is_better"],
        )

    def plot(self) -> Figure:
        """Every run's score by arm, seeds as points, means with intervals."""
        from qrkd_lab.plots import scores_by_arm

        return scores_by_arm(self.results, self.runs[0].metric["name"])

    def save(self, folder: str | Path, reference: str | None = None) -> Path:
        """Write ``results.csv``, ``summary.md`` and three figures as PNG into a folder.

        Args:
            folder: made if missing.
            reference: the arm that ``summary.md`` and ``differences.png`` compare with; None as in
                :meth:`summary`.

        Raises:
            ValueError: the reference is not among the arms (lists them).
            RecordError: the folder cannot be written, or the disk is full; a file that was there
                is there still.
        """
        from qrkd_lab.plots import learning_curves, paired_differences

        summary = self.summary(reference)
        folder = expanded(folder)
        table = self.results.drop(columns="run")  # whole records, which lie in runs_dir
        students = [run for run in self.runs if run.settings["arm"] != "teacher"]
        figures = {"scores": self.plot(), "learning_curves": learning_curves(students)}
        if len(set(self.results["arm"]) - {"teacher"}) > 1:
            figures["differences"] = paired_differences(summary)
        with writing(f"the tables and figures in {folder}", "out"):
            write_file(folder / "results.csv", table.to_csv(index=False).encode())
            write_file(folder / "summary.md", f"{summary.to_markdown()}\n".encode())
            for name, figure in figures.items():
                with replacing(folder / f"{name}.png") as stream:
                    figure.savefig(stream, dpi=150)
        return folder

    def __str__(self) -> str:
        return str(self.summary())

    def _repr_html_(self) -> str:
        return self.summary()._repr_html_()
