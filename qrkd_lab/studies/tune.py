r"""Tuning: the weights of the outputs, distances and angles, chosen on validation data.

``kd`` has one weight of its own, that of the outputs' term, and ``rkd`` adds another, that of the
distances (the angles' is twice as large, as in Park et al. 2019). They are chosen one after the
other:

.. math:: w_\text{kd} \to (w_d, w_a = 2 w_d).

Both have the same candidates and seeds, and each candidate trains as long as a study. The seeds are
others than a study's, and the score of a candidate is the validation metric after the last epoch.
(Its record has a test score, as all records have; nothing here reads it.)
The kernel's weight is not searched for: give ``kernel_dose``, which is one rule for every kernel.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from qrkd_lab.checks import flag, positive
from qrkd_lab.files import (
    RecordError,
    expanded,
    parsed_json,
    plain,
    read_file,
    runs_folder,
    sealed,
    unsealed,
    write_file,
    writing,
)
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.arms import CANDIDATES
from qrkd_lab.studies.benchmarks import Benchmark
from qrkd_lab.studies.compare import StudyError, compare
from qrkd_lab.studies.provenance import exact
from qrkd_lab.studies.statistics import interval

__all__ = ["FILE", "Trial", "TuningHistory", "read_tuning", "tune"]

FIRST_SEED = 1000  # beyond those of a study, which count from 0
FOLDER = "tuning"  # of the candidates' records, under that of the others
CHOSEN = ("kd_weight", "distance_weight", "angle_weight")


def tune(
    benchmark: str | Benchmark,
    seeds: int | Iterable[int] = 3,
    scale: str = "laptop",
    weights: Sequence[float] = CANDIDATES,
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    **overrides: Any,  # noqa: ANN401
) -> TuningHistory:
    """Choose the weights of ``kd`` and ``rkd`` on the validation part.

    Every candidate and seed is a run of :func:`~qrkd_lab.compare`, recorded under
    ``<runs_dir>/tuning``, so the same call continues what was interrupted. The history is written
    to ``<runs_dir>/<benchmark>/<scale>/tuning.json``, in place of another one that is there.

    Args:
        benchmark, scale, jobs, runs_dir, data_dir, device, progress: as for
            :func:`~qrkd_lab.compare`.
        seeds: how many, from :data:`FIRST_SEED` on, or which; a weight's score is the mean over
            them. With fewer than 3 no candidate can be told from its neighbours.
        weights: the candidates of both arms.
        overrides: any field of ``Settings`` that is not chosen here.

    Returns:
        Every trial, and what was chosen; ``ql.compare(..., **history.settings)`` trains with it.

    Raises:
        ValueError: no candidates, a weight out of range or given as a setting; an arm that diverged
            with every candidate.
        DataError, RecordError, StudyError: as :func:`~qrkd_lab.compare`.

    Example:
        >>> history = tune("digits", scale="smoke", progress=False)                 # doctest: +SKIP
        >>> history.chosen                                                          # doctest: +SKIP
        {'kd': 0.1, 'rkd': 1.0}
    """
    progress = flag("progress", progress)
    drawn = which_seeds(seeds, FIRST_SEED)
    if isinstance(weights, str) or not isinstance(weights, Iterable) or not (held := [*weights]):
        raise ValueError(f"weights: expected finite numbers > 0, got {weights!r}")
    grid = sorted({positive("weights", weight) for weight in held})
    if given := [name for name in CHOSEN if name in overrides]:
        raise ValueError(
            f"{given[0]} is what tune chooses: give candidates as weights=, and no setting of it"
        )
    folder = runs_folder(runs_dir)
    options = {"scale": scale, "jobs": jobs, "runs_dir": folder / FOLDER, "data_dir": data_dir,
               "device": device, "progress": progress}  # fmt: skip
    trials: list[Trial] = []
    best: dict[str, float] = {}
    higher_is_better = True
    for arm in ("kd", "rkd"):
        for weight in grid:
            if progress:
                print(f"tuning: {arm} with weight {exact(weight)}", file=sys.stderr)
            settings = overrides | weight_settings(best | {arm: weight})
            try:
                runs = compare(benchmark, [arm], drawn, **options, **settings).runs
            except StudyError as error:
                if not all(" diverged in epoch " in said for said in error.failures):
                    raise
                runs = error.study.runs
            found = {run.settings["seed"]: run for run in runs if run.settings["arm"] == arm}
            for seed in drawn:
                score, seconds = None, 0.0
                if seed in found:
                    run, higher_is_better = found[seed], found[seed].metric["higher_is_better"]
                    metric = run.metric["name"].replace("test_", "validation_")
                    score, seconds = run.metrics[metric], run.seconds["train"]
                trials.append(Trial(arm, arm, weight, seed, score, seconds))
        best = best_weights(trials, higher_is_better)
    history = TuningHistory(
        benchmark=run.settings["benchmark"],
        scale=scale,
        metric=metric,
        higher_is_better=higher_is_better,
        weights=tuple(grid),
        epochs=run.settings["epochs"],
        full_epochs=run.settings["epochs"],
        trials=tuple(trials),
        data={name: run.data[name] for name in ("name", "source", "sha256")},
        versions=run.versions,
        device=run.device,
        overrides={name: value for name, value in run.given.items() if name in overrides},
    )
    history.save(folder)
    return history


# ---- history

FILE, DIGEST = "tuning.json", "trace_sha256"


@dataclass(frozen=True)
class Trial:
    """One candidate on one seed."""

    stage: str  # what was chosen: kd or rkd; in earlier versions also kernel, of every arm
    arm: str
    weight: float
    seed: int
    score: float | None  # the validation metric after the last epoch; None: it diverged
    seconds: float  # of its own training steps

    @property
    def counts(self) -> bool:
        """Whether its arm's weight is chosen by it; in the stage kernel, rkd is for comparison."""
        return self.stage == "kernel" and self.arm != "rkd" or self.stage == self.arm


@dataclass(frozen=True)
class TuningHistory:
    """What was tried, on what, and what was chosen.

    Attributes:
        benchmark, scale: whose settings were tuned.
        metric: of the validation part; ``higher_is_better`` says which way it goes.
        weights: the candidates of every arm.
        epochs: of a candidate's training; ``full_epochs``: of a study's.
        trials: all of them.
        data, versions, device: as in a record.
        overrides: settings of all candidates that are not their benchmark's own.
    """

    benchmark: str
    scale: str
    metric: str
    higher_is_better: bool
    weights: tuple[float, ...]
    epochs: int
    full_epochs: int
    trials: tuple[Trial, ...]
    data: Mapping[str, Any]
    versions: Mapping[str, str | None]
    device: str
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def chosen(self) -> dict[str, float]:
        """The weight of each arm: the best mean score over seeds, of equals the smallest."""
        return best_weights(self.trials, self.higher_is_better)

    @property
    def settings(self) -> dict[str, Any]:
        """The choice, and the overrides, for ``ql.compare(..., **history.settings)``."""
        return {**self.overrides, **weight_settings(self.chosen)}

    @property
    def at_edge(self) -> tuple[str, ...]:
        """Arms whose choice is the least or the largest candidate: the best may lie beyond."""
        ends = (min(self.weights), max(self.weights))
        return tuple(arm for arm, weight in self.chosen.items() if weight in ends)

    @property
    def undecided(self) -> tuple[str, ...]:
        """Arms whose choice these seeds cannot tell from a neighbouring candidate.

        The 95 % t-interval of the paired difference between the two, over seeds, holds 0.
        """
        sign = 1 if self.higher_is_better else -1
        trials = pd.DataFrame(asdict(trial) for trial in self.trials if trial.counts)
        found = []
        for arm, weight in self.chosen.items():
            own = trials[trials["arm"] == arm]
            scores = own.pivot(index="seed", columns="weight", values="score").astype(float)
            scores = scores.dropna(axis="columns")  # with one that diverged there is no question
            place = scores.columns.get_loc(weight)
            near = scores.iloc[:, max(0, place - 1) : place + 2].drop(columns=weight)
            gains = (sign * near.rsub(scores[weight], axis="index")).to_numpy().T
            if not all(interval(gain, 0.95)[0] > 0 for gain in gains):
                found.append(arm)
        return tuple(found)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per candidate: ``stage``, ``arm``, ``weight``, mean ``score``, ``low`` and ``high``
        over ``seeds`` seeds, ``diverged`` (how many did), ``counts`` (see :class:`Trial`),
        ``chosen``."""
        rows = pd.DataFrame([asdict(trial) | {"counts": trial.counts} for trial in self.trials])
        rows["score"] = rows["score"].astype(float)
        table = rows.groupby(["stage", "arm", "weight"], sort=False, as_index=False).agg(
            score=("score", lambda scores: scores.mean(skipna=False)),
            low=("score", "min"),
            high=("score", "max"),
            seeds=("seed", "nunique"),
            diverged=("score", lambda scores: int(scores.isna().sum())),
            counts=("counts", "first"),
        )
        table["chosen"] = table["counts"] & (table["weight"] == table["arm"].map(self.chosen))
        return table

    def save(self, root: str | os.PathLike[str]) -> Path:
        """Write the history under a folder of records; returns the file.

        Another history that is there is replaced; the runs that it is made of stay.
        """
        path = Path(expanded(root), self.benchmark, self.scale, FILE)
        held = plain({"format": 1} | asdict(self), "tuning")
        if not self.overrides:  # as in every history before there were any, byte for byte
            del held["overrides"]
        text = json.dumps(sealed(held, DIGEST), indent=1, allow_nan=False) + "\n"
        with writing(f"the tuning history in {path.parent}"):
            write_file(path, text.encode())
        return path

    def __str__(self) -> str:
        table = self.table.assign(
            weight=self.table["weight"].map(exact),
            chosen=self.table["chosen"].map({True: "<-", False: ""}),
        ).drop(columns="counts")
        warnings = {
            "At the edge of the candidates, so the best may lie beyond": self.at_edge,
            "Not told from a neighbouring candidate by these seeds": self.undecided,
        }
        return "\n".join([
            f"{self.benchmark} {self.scale}: {self.metric} after {self.epochs} of "
            f"{self.full_epochs} epochs",
            table.to_string(index=False, float_format="{:.5g}".format),
            *(f"{said}: {', '.join(arms)}." for said, arms in warnings.items() if arms),
        ])  # fmt: skip

    __repr__ = __str__


def read_tuning(path: str | os.PathLike[str]) -> TuningHistory:
    """The history in a file, or in the folder ``<root>/<benchmark>/<scale>`` that holds it.

    Raises:
        RecordError: it is missing, cut, edited or of another version; or it cannot be read.
    """
    path = expanded(path)
    path = path / FILE if path.is_dir() else path
    try:
        held = unsealed(parsed_json(read_file(path)), DIGEST)
    except ValueError as error:
        raise RecordError(
            f"{path} {error}. Delete this file, and tune again; the records beside it stay as they "
            "are."
        ) from error
    if held.pop("format", None) != 1:
        raise RecordError(f"{path} is of another version. Move this file, and tune again.")
    trials = tuple(Trial(**trial) for trial in held["trials"])
    return TuningHistory(**held | {"weights": tuple(held["weights"]), "trials": trials})


def best_weights(trials: Iterable[Trial], higher_is_better: bool) -> dict[str, float]:
    """Each arm's best weight by its mean score; of equals the smallest; no seed may be missing."""
    frame = pd.DataFrame(asdict(trial) for trial in trials if trial.counts)
    frame["score"] = frame["score"].astype(float) * (1 if higher_is_better else -1)
    best = {}
    for arm, tried in frame.groupby("arm", sort=False):
        means = tried.groupby("weight")["score"].agg(lambda scores: scores.mean(skipna=False))
        if means.isna().all():
            raise ValueError(
                f"{arm} diverged with every weight of {means.index.tolist()}: lower "
                "learning_rate, or give smaller weights"
            )
        best[arm] = float(means.idxmax())
    return best


def weight_settings(chosen: Mapping[str, float]) -> dict[str, Any]:
    """Weights by arm as settings: what is ``kd``'s, ``rkd``'s, and the arms' with a kernel."""
    settings: dict[str, Any] = {}
    if "kd" in chosen:
        settings["kd_weight"] = chosen["kd"]
    if "rkd" in chosen:
        settings |= {"distance_weight": chosen["rkd"], "angle_weight": 2 * chosen["rkd"]}
    others = {arm: weight for arm, weight in chosen.items() if arm not in ("kd", "rkd")}
    return settings | ({"kernel_weights": others} if others else {})
