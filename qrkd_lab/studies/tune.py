r"""Tuning: the weight of each arm's own term, chosen on validation data, with one budget for all.

An arm has one weight of its own: ``kd`` that of the outputs' term, ``rkd`` that of the distances
(the angles' is twice as large, as in Park et al. 2019), ``qrkd`` and every control that of the
kernel. They are chosen in three stages, each with what the one before chose:

.. math:: w_\text{kd} \to (w_d, w_a = 2 w_d) \to w_k \text{ of each arm with a kernel}.

Every arm has the same candidates, seeds and number of epochs. The seeds are others than a study's.
The score of a candidate is the validation metric after the last epoch; no candidate is scored on
the test part.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.checks import flag, positive, whole
from qrkd_lab.devices import one_thread
from qrkd_lab.files import (
    RecordError,
    canonical_sha256,
    check_writable,
    damaged,
    expanded,
    is_number,
    plain,
    read_json,
    runs_folder,
    sealed,
    unsealed,
    write_file,
    write_folder,
    writing,
)
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.arms import CANDIDATES, TEACHER, TUNED
from qrkd_lab.studies.benchmarks import Benchmark, benchmark_settings
from qrkd_lab.studies.checkpoint import Checkpoint
from qrkd_lab.studies.compare import Recipe, chosen_arms, keep, loaded, no_arm_or_seed
from qrkd_lab.studies.group import lockstep, make_learner, teacher_run
from qrkd_lab.studies.parallel import alone, check_jobs, each
from qrkd_lab.studies.progress import Progress
from qrkd_lab.studies.provenance import set_words
from qrkd_lab.studies.records import versions
from qrkd_lab.studies.settings import Settings
from qrkd_lab.train import Diverged

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FILE",
    "Trial",
    "TuningError",
    "TuningHistory",
    "best_weights",
    "exact",
    "read_tuning",
    "tune",
    "weight_settings",
]


QUARTER = 0.25  # of a study's epochs
FIRST_SEED = 1000  # beyond those of a study, which count from 0
TRIALS = "trials.json"
_OWN_TERM = {"kd": "kd", "rkd": "distance"}  # whose weight is tuned; else the kernel's
CHOSEN = ("kd_weight", "distance_weight", "angle_weight", "kernel_weight", "kernel_weights")


class TuningError(RuntimeError):
    """A stage could not be finished on some seeds; what was finished will be found again."""


def tune(
    benchmark: str,
    arms: Sequence[str] = TUNED,
    seeds: int | Iterable[int] = 2,
    scale: str = "laptop",
    weights: Sequence[float] = CANDIDATES,
    epochs: int | None = None,
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    data_dir: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    **overrides: Any,  # noqa: ANN401
) -> TuningHistory:
    """Choose the weights of ``kd``, ``rkd`` and the arms with a kernel on the validation part.

    The same call continues what was interrupted: a stage and seed that the same versions trained
    on the same device is not trained again. The history is written to
    ``<runs_dir>/<benchmark>/<scale>/tuning.json``; another one that is there is kept beside it.

    Args:
        benchmark, scale, jobs, runs_dir, data_dir, device, progress: as for
            :func:`~qrkd_lab.compare`.
        arms: with a kernel term; ``kd`` and ``rkd`` are always tuned, as the others build on them.
        seeds: how many, from :data:`FIRST_SEED` on, or which; a weight's score is the mean over
            them.
        weights: the candidates of every arm.
        epochs: of a candidate's training; None: a quarter of the scale's, rounded up.
        overrides: any field of ``Settings`` that is not chosen here.

    Returns:
        Every trial, and what was chosen; ``ql.compare(..., **history.settings)`` trains with it.

    Raises:
        ValueError: an arm that has no kernel to weigh, no candidates, a weight out of range or
            given as a setting.
        DataError, RecordError: as :func:`~qrkd_lab.compare`.
        TuningError: a stage failed on some seeds; says which, and why.
        RuntimeError: another process tunes the same benchmark in the same folder.

    Example:
        >>> history = tune("digits", ["qrkd"], scale="smoke", progress=False)       # doctest: +SKIP
        >>> history.chosen                                                          # doctest: +SKIP
        {'kd': 0.3, 'rkd': 1.0, 'qrkd': 0.1}
    """
    check_jobs(jobs)
    progress = flag("progress", progress)
    wanted, drawn, grid = chosen_arms(arms, TUNED), which_seeds(seeds, FIRST_SEED), _grid(weights)
    if given := [name for name in CHOSEN if name in overrides]:
        raise ValueError(
            f"{given[0]} is what tune chooses: give candidates as weights=, and no setting of it"
        )
    no_arm_or_seed(overrides)
    own = benchmark_settings(benchmark, scale)
    short = math.ceil(QUARTER * own.epochs) if epochs is None else whole("epochs", epochs, 1)
    for arm in ("kd", "rkd", *wanted):
        benchmark_settings(benchmark, scale, epochs=short, arm=arm, **overrides)
    recipe = Recipe(benchmark, scale, data_dir, device, overrides | {"epochs": short})
    keep(recipe, there := recipe.load())
    check_writable(folder := runs_folder(runs_dir))
    does = (
        f"tunes {benchmark} in {folder} at this moment: wait for it, and what it has done is found "
        "here; or give another runs_dir."
    )
    trials: list[Trial] = []
    with alone(_home(folder, there.settings), "tune", does):
        for stage, of_stage in (("kd", ["kd"]), ("rkd", ["rkd"]), ("kernel", wanted)):
            chosen = weight_settings(best_weights(trials, there.higher_is_better))
            settled = there.settings.replace(arm=TEACHER, **chosen)  # each arm is checked below
            candidates = [
                settled.replace(arm=arm, **weight_settings({arm: weight}))
                for arm in of_stage
                for weight in grid
            ]
            if stage == "kernel":  # for comparison
                candidates.append(settled.replace(arm="rkd"))
            tasks = {seed: (recipe, stage, candidates, folder, progress, seed) for seed in drawn}
            made: dict[int, list[Trial]] = {}
            failures: list[str] = []
            for seed, found, failed in each(_trials, tasks, jobs):
                made[seed] = found
                failures += failed
                if progress:
                    said = f"tuning, stage {stage}: seed {seed} done, {len(made)} of {len(tasks)}"
                    print(said, file=sys.stderr)
            if failures:
                listed = "\n  ".join(failures)
                raise TuningError(
                    f"tuning stopped at the stage {stage!r}; what is done is kept, and the same "
                    f"call goes on:\n  {listed}"
                )
            trials += [trial for seed in drawn for trial in made[seed]]
        asked = {name: getattr(there.settings, name) for name in overrides}
        changed = {name: value for name, value in asked.items() if value != getattr(own, name)}
        data = there.data
        history = TuningHistory(
            benchmark=there.settings.benchmark,
            scale=scale,
            metric=_metric(there),
            higher_is_better=there.higher_is_better,
            weights=grid,
            epochs=short,
            full_epochs=own.epochs,
            trials=tuple(trials),
            data={"name": data.name, "source": data.source, "sha256": data.sha256},
            versions=versions(),
            device=str(there.device),
            overrides=plain(changed, "overrides"),
        )
        history.save(folder)
    return history


def _trials(
    recipe: Recipe,
    stage: str,
    candidates: Sequence[Settings],
    runs_dir: Path,
    show: bool,
    seed: int,
) -> list[Trial]:
    """All candidates of a stage on one seed, found on the disk or trained in lockstep."""
    benchmark = loaded(recipe)
    candidates = [settings.replace(seed=seed) for settings in candidates]
    # A new version of the system alone is no reason to train again.
    by = {name: number for name, number in versions().items() if name != "platform"}
    trained = {"runs": [one.effective() for one in candidates], "data": benchmark.data.sha256}
    trained |= {"versions": by, "device": str(benchmark.device), "format": 2}  # 2: with a digest
    name = f"{stage}-seed{seed}-{canonical_sha256(trained)[:16]}"
    place = _home(runs_dir, benchmark.settings) / name
    if not place.exists():
        shown = [Progress(benchmark.settings.benchmark, benchmark.in_words)] if show else []
        with one_thread(benchmark.device):
            run = teacher_run(benchmark, seed, runs_dir, shown)
            if isinstance(run, Diverged):
                raise run
            teacher = benchmark.model(run)
            learners = [make_learner(benchmark, settings, teacher) for settings in candidates]
            checkpoint = Checkpoint.of(learners, benchmark.data.sha256, runs_dir)
            for _ in lockstep(benchmark, learners, teacher, [checkpoint, *shown]):
                pass
        checkpoint.remove()
        trials = []
        for learner in learners:
            score = None if learner.failure else learner.history[-1][_metric(benchmark)]
            weight = learner.settings.weight(_OWN_TERM.get(learner.name, "kernel"))
            trial = Trial(stage, learner.name, weight, seed, score, learner.seconds)
            trials.append(asdict(trial))
        content = sealed(plain({"of": name, "trials": trials}, "trials"), DIGEST)
        write_folder(place, {TRIALS: json.dumps(content).encode()})
    try:
        held = unsealed(read_json(place / TRIALS), DIGEST)
        if held.get("of") != name:
            raise ValueError("was moved: it holds other trials")
        return [Trial(**trial) for trial in held["trials"]]
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(place, f"{TRIALS} {error}") from error


def _home(runs_dir: Path, settings: Settings) -> Path:
    """The folder of the trials."""
    return runs_dir / settings.benchmark / settings.scale / "tuning"


def _metric(benchmark: Benchmark) -> str:
    return f"validation_{benchmark.metric.removeprefix('test_')}"


def _grid(weights: Sequence[float]) -> tuple[float, ...]:
    grid = () if isinstance(weights, str) or not isinstance(weights, Iterable) else [*weights]
    if not grid:
        raise ValueError(f"weights: expected finite numbers > 0, got {weights!r}")
    return tuple(sorted({positive("weights", weight) for weight in grid}))


# ---- history

FILE, DIGEST = "tuning.json", "trace_sha256"
_AGAIN = " this file, and tune again; the records beside it stay as they are."
_TRIAL = {"stage": str, "arm": str, "weight": float, "seed": float, "seconds": float}
_HISTORY = {
    "benchmark": str, "scale": str, "metric": str, "higher_is_better": bool, "weights": list,
    "epochs": float, "full_epochs": float, "trials": list, "data": dict, "versions": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One candidate on one seed.

    Attributes:
        stage: ``kd``, ``rkd`` or ``kernel``: what was being chosen.
        arm, weight, seed: who. In the stage ``kernel`` the arm ``rkd``, with the weight it has
            by then, is there for comparison; nothing is chosen for it.
        score: the validation metric after the last epoch; None: it diverged.
        seconds: of its own training steps.
    """

    stage: str
    arm: str
    weight: float
    seed: int
    score: float | None
    seconds: float

    @property
    def counts(self) -> bool:
        """Whether its arm's weight is chosen by it."""
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

    def as_options(self) -> str:
        """The same as arguments of ``python -m qrkd_lab compare ... --set``.

        Example:
            >>> history.as_options()                                    # doctest: +SKIP
            'kd_weight=0.3 distance_weight=1.0 angle_weight=2.0 \'kernel_weights={"qrkd": 1.0}\''
        """
        return " ".join(set_words(self.settings)[1:])

    @property
    def at_edge(self) -> tuple[str, ...]:
        """Arms whose choice is the least or the largest candidate: the best may lie beyond."""
        ends = (min(self.weights), max(self.weights))
        return tuple(arm for arm, weight in self.chosen.items() if weight in ends)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row per candidate: ``stage``, ``arm``, ``weight``, mean ``score``, ``low`` and ``high``
        over ``seeds`` seeds, mean ``seconds``, ``diverged`` (how many did), ``counts`` (see
        :class:`Trial`), ``chosen``."""
        import pandas as pd

        rows = pd.DataFrame([asdict(trial) | {"counts": trial.counts} for trial in self.trials])
        rows["score"] = rows["score"].astype(float)
        table = rows.groupby(["stage", "arm", "weight"], sort=False, as_index=False).agg(
            score=("score", lambda scores: scores.mean(skipna=False)),
            low=("score", "min"),
            high=("score", "max"),
            seeds=("seed", "nunique"),
            seconds=("seconds", "mean"),
            diverged=("score", lambda scores: int(scores.isna().sum())),
            counts=("counts", "first"),
        )
        table["chosen"] = table["counts"] & (table["weight"] == table["arm"].map(self.chosen))
        return table

    def save(self, root: str | os.PathLike[str]) -> Path:
        """Write the history under a folder of records; returns the file.

        Another history that is there is kept beside it, as ``tuning-<digest>.json``.

        Raises:
            RecordError: the disk is full or read-only.
        """
        path = Path(expanded(root), self.benchmark, self.scale, FILE)
        held = plain({"format": 1} | asdict(self), "tuning")
        if not self.overrides:  # as in every history before there were any, byte for byte
            del held["overrides"]
        text = json.dumps(sealed(held, DIGEST), indent=1, allow_nan=False) + "\n"
        with writing(f"the tuning history in {path.parent}"):
            if path.exists() and (old := path.read_bytes()) != text.encode():
                digest = hashlib.sha256(old).hexdigest()[:12]
                write_file(path.with_stem(f"{path.stem}-{digest}"), old)
            write_file(path, text.encode())
        return path

    def __str__(self) -> str:
        table = self.table.assign(
            weight=self.table["weight"].map(exact),
            chosen=self.table["chosen"].map({True: "<-", False: ""}),
        )
        shown = table.drop(columns=["seconds", "counts"]).to_string(
            index=False, float_format="{:.5g}".format
        )
        edge = self.at_edge and f"\nAt the edge of the candidates: {', '.join(self.at_edge)}."
        return (
            f"{self.benchmark} {self.scale}: {self.metric} after {self.epochs} of "
            f"{self.full_epochs} epochs\n{shown}{edge or ''}"
        )

    __repr__ = __str__


def exact(number: float) -> str:
    """A number as somebody may give it again: the shortest digits that are this very number.

    Example:
        >>> exact(1.0), exact(1 / 3)
        ('1', '0.3333333333333333')
    """
    return repr(number).removesuffix(".0")


def read_tuning(path: str | os.PathLike[str]) -> TuningHistory:
    """The history in a file, or in the folder ``<root>/<benchmark>/<scale>`` that holds it.

    Raises:
        RecordError: it is missing, cut, edited or of another version; or it cannot be read.
    """
    path = expanded(path)
    path = path / FILE if path.is_dir() else path
    try:
        held = unsealed(read_json(path), DIGEST)
    except ValueError as error:
        raise RecordError(f"{path} {error}. Delete{_AGAIN}") from error
    try:
        if (number := held.pop("format", None)) != 1:
            raise ValueError(f"is of format {number!r:.60}, and this version reads format 1")
        _check_kinds({"overrides": {}} | held, _HISTORY | {"overrides": dict})
        _check_kinds(held["data"], {"name": str, "sha256": str})
        for weight in held["weights"]:
            _check_kinds({"weights": weight}, {"weights": float})
        for trial in held["trials"] or [{}]:
            _check_kinds(trial, _TRIAL)
            if trial["score"] is not None:
                _check_kinds(trial, {"score": float})
        trials = tuple(Trial(**trial) for trial in held["trials"])
        return TuningHistory(**held | {"weights": tuple(held["weights"]), "trials": trials})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"is no tuning history ({error!r})" if type(error) is not ValueError else error
        raise RecordError(f"{path} {said}. Move{_AGAIN}") from error


def _check_kinds(held: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Raise TypeError or KeyError unless each value is of its kind; ``float``: any number."""
    for name, kind in kinds.items():
        if not (is_number(held[name]) if kind is float else isinstance(held[name], kind)):
            raise TypeError(f"{name} is {held[name]!r:.60}")


def best_weights(trials: Iterable[Trial], higher_is_better: bool) -> dict[str, float]:
    """Each arm's best weight by its mean score; of equals the smallest; no seed may be missing."""
    scores: dict[str, dict[float, list[float]]] = {}
    for trial in trials:
        if trial.counts:
            value = math.nan if trial.score is None else trial.score
            scores.setdefault(trial.arm, {}).setdefault(trial.weight, []).append(value)
    best = {}
    for arm, tried in scores.items():
        sign = -1.0 if higher_is_better else 1.0
        ranks = [(sign * sum(found) / len(found), weight) for weight, found in tried.items()]
        finite = [rank for rank in ranks if math.isfinite(rank[0])]
        if not finite:
            raise ValueError(
                f"{arm} diverged with every weight of {sorted(tried)}: lower learning_rate, or "
                "give smaller weights"
            )
        best[arm] = min(finite)[1]
    return best


def weight_settings(chosen: Mapping[str, float]) -> dict[str, Any]:
    """Weights by arm as settings: what is ``kd``'s, ``rkd``'s, and the arms' with a kernel."""
    settings: dict[str, Any] = {}
    if "kd" in chosen:
        settings["kd_weight"] = chosen["kd"]
    if "rkd" in chosen:
        settings |= {"distance_weight": chosen["rkd"], "angle_weight": 2 * chosen["rkd"]}
    if own := {arm: weight for arm, weight in chosen.items() if arm not in ("kd", "rkd")}:
        settings["kernel_weights"] = own
    return settings
