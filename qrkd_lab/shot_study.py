"""Does training survive shots? Students that copy a kernel matrix as a device would give it.

All students of one seed start from the same weights and see the same batches; they differ in the
number of shots that the kernel matrices of their loss are made of, and in nothing else. Nothing is
recorded: a loss of one's own is no arm of a study.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import torch

from qrkd_lab.arms import TEACHER
from qrkd_lab.benchmarks import Benchmark, load_benchmark
from qrkd_lab.comparison import compare
from qrkd_lab.distill import one_thread, train
from qrkd_lab.kernels.alignment import centred_alignment
from qrkd_lab.kernels.diagnostics import off_diagonal_values
from qrkd_lab.kernels.shots import ShotRelation
from qrkd_lab.learner import Learner, make_learner
from qrkd_lab.parallel import pool
from qrkd_lab.runs import Run
from qrkd_lab.seeds import derived_seed
from qrkd_lab.statistics import interval

if TYPE_CHECKING:
    from pandas import DataFrame
    from torch import nn

__all__ = ["shot_changes", "shot_learner", "shot_students"]


def shot_learner(
    benchmark: Benchmark, teacher: nn.Module, seed: int, shots: int | None, sides: str = "teacher"
) -> Learner:
    """A student of the arm ``qrkd`` whose loss sees matrices from shots; None: exact ones.

    Args:
        benchmark: its settings are the student's.
        teacher: trained.
        seed: of the student.
        shots: an entry.
        sides: see :class:`~qrkd_lab.kernels.shots.ShotRelation`; or ``detached``, the arm of this
            name, without shots.
    """
    arm = "detached" if sides == "detached" else "qrkd"
    learner = make_learner(benchmark, benchmark.settings.replace(arm=arm, seed=seed), teacher)
    if shots is not None:
        exact = learner.loss.relation
        learner.loss.relation = ShotRelation(
            exact.kernel, exact.encoder, shots, sides, derived_seed(seed, "shots", shots)
        ).to(benchmark.device)
    return learner


def shot_students(
    benchmark: str,
    shots: Sequence[int | None] = (None, 1000, 100, 10),
    sides: Sequence[str] = ("teacher", "both"),
    seeds: int | Iterable[int] = 4,
    scale: str = "laptop",
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    **options: Any,  # noqa: ANN401
) -> DataFrame:
    """Train students on matrices from shots, and compare what they have become.

    Args:
        benchmark, seeds, scale, jobs, runs_dir: see :func:`~qrkd_lab.comparison.compare`; the
            teachers are its runs.
        shots: an entry; None: exact.
        sides: each number of shots is tried with these; an exact one only once.
        options: ``data_dir``, ``device``, and settings, e.g. ``epochs=10``.

    Returns:
        A row a student: ``seed``, ``sides``, ``shots`` (NaN: exact), ``accuracy`` on the validation
        part, ``alignment`` (CKA) and ``gap`` (root of the mean squared difference over pairs) of
        its exact kernel matrix with the teacher's, there. For scale the arm ``detached`` is among
        them, as ``sides``: no kernel term moves that student, only its adapter learns.
    """
    from pandas import DataFrame

    study = compare(benchmark, ["scratch"], seeds, scale, jobs, runs_dir, progress=False, **options)
    teachers = [run for run in study.runs if run.settings["arm"] == TEACHER]
    cases = [("detached", None)] + [("teacher", None)] * (None in shots)
    cases += [(side, count) for side in sides for count in shots if count is not None]
    recipe = {"benchmark": benchmark, "scale": scale, "device": "auto"} | options
    with pool(jobs, len(teachers)) as workers:
        tasks = (joblib.delayed(_one_seed)(recipe, run, cases) for run in teachers)
        rows = joblib.Parallel(n_jobs=workers)(tasks)
    return DataFrame([row for part in rows for row in part])


def shot_changes(
    table: DataFrame,
    reference: str,
    metrics: Sequence[str] = ("alignment", "accuracy"),
    confidence: float = 0.95,
) -> DataFrame:
    """Students minus a reference of the same seed: mean and t-interval for each kind of student.

    Args:
        table: of :func:`shot_students`.
        reference: ``exact`` or ``detached``.
        metrics: columns to compare.
        confidence: of the intervals.

    Returns:
        A row a kind, named in words ("1 shot, both"), and for each metric the columns ``mean``,
        ``low``, ``high``; the last two NaN with fewer than three seeds.

    Raises:
        ValueError: no such reference in the table.
    """
    from pandas import DataFrame, MultiIndex

    kinds = {
        _kind(*key): part.set_index("seed")[list(metrics)]
        for key, part in table.groupby(["sides", "shots"], sort=False, dropna=False)
    }
    if reference not in kinds:
        raise ValueError(f"unknown reference {reference!r}; choose from {', '.join(kinds)}")
    base = kinds.pop(reference)
    rows = {}
    for name, part in kinds.items():
        changes = [d.to_numpy(dtype=float) for _, d in (part - base).items()]
        rows[name] = [x for d in changes for x in (d.mean(), *interval(d, confidence))]
    columns = MultiIndex.from_product([metrics, ("mean", "low", "high")])
    return DataFrame.from_dict(rows, orient="index", columns=columns)


def _kind(sides: str, shots: float) -> str:
    """Students in words: ``detached``, ``exact``, or the shots and the matrices made of them."""
    if math.isnan(shots):
        return sides if sides == "detached" else "exact"
    return f"{shots:g} shot{'' if shots == 1 else 's'}, {sides}"


def _one_seed(
    recipe: dict[str, Any], run: Run, cases: Sequence[tuple[str, int | None]]
) -> list[dict[str, Any]]:
    """All students of one seed, in lockstep; a worker process runs this."""
    benchmark = load_benchmark(**recipe)
    seed = run.settings["seed"]
    with one_thread(benchmark.device):
        teacher = benchmark.model(run)
        learners = [shot_learner(benchmark, teacher, seed, shots, side) for side, shots in cases]
        for _ in train(benchmark, learners, benchmark.settings.epochs, teacher, show=False):
            pass
        found = []
        for (side, shots), learner in zip(cases, learners, strict=True):
            if learner.failure is not None:
                raise learner.failure
            found.append(
                {"seed": seed, "sides": side, "shots": math.nan if shots is None else shots}
                | _compared(benchmark, learner, teacher)
            )
        return found


@torch.no_grad()
def _compared(benchmark: Benchmark, learner: Learner, teacher: nn.Module) -> dict[str, float]:
    """Accuracy, and how the exact matrices of student and teacher compare, on validation data."""
    part, relation = benchmark.validation, learner.loss.relation
    said = benchmark.predict(learner.model, part)
    kernel, encoder = relation.kernel, relation.encoder
    own = kernel(encoder.student(said.features))
    taught = kernel(encoder.teacher(benchmark.predict(teacher, part).features))
    gap = off_diagonal_values(own) - off_diagonal_values(taught)
    (score,) = benchmark.score([learner.model], part)
    return {
        "accuracy": score["accuracy"],
        "alignment": centred_alignment(own, taught),
        "gap": gap.square().mean().sqrt().item(),
    }
