r"""Tuning: the weight of each arm's own term, chosen on validation data, with one budget for all.

An arm has one weight of its own: ``kd`` that of the outputs' term, ``rkd`` that of the distances
(the angles' is twice as large, as in Park et al. 2019), ``qrkd`` and every control that of the
kernel. They are chosen in three stages, each on top of what the one before chose, so that two
neighbouring arms still differ in one term only:

.. math:: w_\text{kd} \to (w_d, w_a = 2 w_d) \to w_k \text{ of each arm with a kernel}.

Every arm has the same candidates, the same seeds and the same number of epochs: none wins by being
tuned harder. The seeds are others than a study's. The candidates of a stage and seed train in
lockstep, like the arms of a study; their score is the validation metric after the last epoch, and
no candidate is scored on the test part (the teacher is, like every run of the kit). The whole trace
is recorded (:class:`~qrkd_lab.studies.tune.Trace`).
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    replacing,
    runs_folder,
    sealed,
    strict_json,
    unsealed,
    write_folder,
    writing,
)
from qrkd_lab.relations import flag, positive, whole
from qrkd_lab.seeds import which_seeds
from qrkd_lab.studies.benchmarks import Benchmark, benchmark_settings
from qrkd_lab.studies.checkpoint import Checkpoint
from qrkd_lab.studies.compare import Recipe, keep, loaded
from qrkd_lab.studies.group import lockstep, make_learner, teacher_run
from qrkd_lab.studies.parallel import alone, check_jobs, each, failure
from qrkd_lab.studies.progress import Progress
from qrkd_lab.studies.records import versions
from qrkd_lab.studies.settings import CANDIDATES, TEACHER, TUNED, Settings
from qrkd_lab.train import Diverged

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FILE",
    "Trace",
    "Trial",
    "TuningError",
    "best_weights",
    "exact",
    "read_trace",
    "tune",
    "weight_settings",
]


QUARTER = 0.25  # of a study's epochs
FIRST_SEED = 1000  # beyond those of a study, which count from 0
TRIALS = "trials.json"
CHOSEN = ("kd_weight", "distance_weight", "angle_weight", "kernel_weight", "kernel_weights")


class TuningError(RuntimeError):
    """A stage could not be finished on some seeds; what was finished will be found again."""

    def __init__(self, stage: str, failures: Sequence[str]) -> None:
        listed = "\n  ".join(failures)
        super().__init__(
            f"tuning stopped at the stage {stage!r}; what is done is kept, and the same call goes "
            f"on:\n  {listed}"
        )


Candidate = tuple[str, float, Settings]  # arm, weight, and the settings with it


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
) -> Trace:
    """Choose the weights of ``kd``, ``rkd`` and the arms with a kernel on the validation part.

    What was interrupted goes on; a stage and seed that is on the disk is not trained again, if the
    same versions trained it on the same device. The trace is written to
    ``<runs_dir>/<benchmark>/<scale>/tuning.json``; one that is there already is replaced only by
    one that has all that it has.

    Args:
        benchmark, scale, jobs, runs_dir, data_dir, device, progress: as for
            :func:`~qrkd_lab.compare`.
        arms: with a kernel term; ``kd`` and ``rkd`` are always tuned, as the others build on them.
        seeds: how many, or which; a weight's score is its mean over them. A number counts from
            :data:`FIRST_SEED` on, so that no seed of a study has chosen its own weights.
        weights: the candidates of every arm.
        epochs: of a candidate's training; None: a quarter of the scale's, rounded up.
        overrides: any field of ``Settings`` that is not chosen here.

    Returns:
        The trace: every trial, and what was chosen. ``ql.compare(..., **trace.settings)`` trains
        the study with it.

    Raises:
        ValueError: an arm that has no kernel to weigh, no candidates, a weight out of range, or a
            weight given as a setting; or
            the trace that is there has other settings, or more arms, weights or seeds.
        DataError, RecordError: as :func:`~qrkd_lab.compare`.
        TuningError: a stage failed on some seeds; says which, and why.
        RuntimeError: another process tunes the same benchmark in the same folder.

    Example:
        >>> trace = tune("digits", ["qrkd", "rbf"], scale="smoke", progress=False)  # doctest: +SKIP
        >>> trace.chosen                                                            # doctest: +SKIP
        {'kd': 0.3, 'rkd': 1.0, 'qrkd': 0.1, 'rbf': 3.0}
    """
    check_jobs(jobs)
    progress = flag("progress", progress)
    wanted, drawn, grid = _arms(arms), which_seeds(seeds, FIRST_SEED), _grid(weights)
    if given := [name for name in CHOSEN if name in overrides]:
        raise ValueError(
            f"{given[0]} is what tune chooses: give candidates as weights=, and no setting of it"
        )
    if given := [name for name in ("arm", "seed") if name in overrides]:
        raise ValueError(f"{given[0]} is not set as a setting; use the arguments arms and seeds")
    own = benchmark_settings(benchmark, scale)
    short = math.ceil(QUARTER * own.epochs) if epochs is None else whole("epochs", epochs, 1)
    for arm in ("kd", "rkd", *wanted):
        benchmark_settings(benchmark, scale, epochs=short, arm=arm, **overrides)
    recipe = Recipe(benchmark, scale, data_dir, device, overrides | {"epochs": short})
    keep(recipe, there := recipe.load())
    check_writable(folder := runs_folder(runs_dir))
    asked = {name: getattr(there.settings, name) for name in overrides}
    changed = {name: value for name, value in asked.items() if value != getattr(own, name)}
    empty = _trace(there, own.epochs, grid, plain(changed, "overrides"))
    _check_replaceable(folder, empty, wanted, drawn)
    does = (
        f"tunes {benchmark} in {folder} at this moment: wait for it, and what it has done is found "
        "here; or give another runs_dir."
    )
    with alone(_home(folder, there.settings), "tune", does):
        trials = _all_trials(recipe, there, wanted, drawn, grid, folder, jobs, progress)
        (trace := replace(empty, trials=tuple(trials))).save(folder)
    return trace


def _all_trials(
    recipe: Recipe,
    there: Benchmark,
    arms: Sequence[str],
    seeds: Sequence[int],
    grid: Sequence[float],
    folder: Path,
    jobs: int,
    progress: bool,
) -> list[Trial]:
    """Stage by stage, each on what the ones before chose."""
    benchmark, higher = there.settings.benchmark, there.higher_is_better
    trials: list[Trial] = []
    failures: list[str] = []
    for stage, of_stage in (("kd", ("kd",)), ("rkd", ("rkd",)), ("kernel", arms)):
        chosen = weight_settings(best_weights(trials, higher))
        settled = there.settings.replace(arm=TEACHER, **chosen)  # each arm is checked on its own
        candidates = _candidates(settled, stage, of_stage, grid)
        tasks = {seed: (recipe, stage, candidates, folder, progress, seed) for seed in seeds}
        ended: dict[int, list[Trial]] = {}
        for done, (seed, found, failed) in enumerate(each(_job, tasks, jobs), 1):
            ended[seed] = found
            failures += failed
            if progress:
                said = f"tuning {', '.join(of_stage)}: seed {seed} done, {done} of {len(seeds)}"
                print(f"{benchmark}: {said}", file=sys.stderr)
        if failures:
            raise TuningError(stage, failures)
        trials += [trial for seed in seeds for trial in ended[seed]]
    return trials


def _candidates(
    settled: Settings, stage: str, arms: Sequence[str], grid: Sequence[float]
) -> list[Candidate]:
    """A candidate an arm and weight; beside those of kernels ``rkd``, on which they build."""
    found = [
        (arm, weight, settled.replace(arm=arm, **weight_settings({arm: weight})))
        for arm in arms
        for weight in grid
    ]
    if stage == "kernel":
        found.append(("rkd", settled.distance_weight, settled.replace(arm="rkd")))
    return found


def _job(
    recipe: Recipe,
    stage: str,
    candidates: Sequence[Candidate],
    runs_dir: Path,
    show: bool,
    seed: int,
) -> tuple[int, list[Trial], list[str]]:
    """A stage on one seed; an error becomes a sentence, so that other seeds are finished."""
    try:
        return seed, _trials(loaded(recipe), stage, candidates, runs_dir, show, seed), []
    except Exception as error:
        return seed, [], [failure(seed, error)]


def _trials(
    benchmark: Benchmark,
    stage: str,
    candidates: Sequence[Candidate],
    runs_dir: Path,
    show: bool,
    seed: int,
) -> list[Trial]:
    """All candidates of a stage on one seed, found on the disk or trained in lockstep."""
    seeded = [settings.replace(seed=seed) for _, _, settings in candidates]
    # The trace names versions and device once for all trials. An update of the system alone, whose
    # number is part of the platform's name, is no reason to train again.
    by = {name: number for name, number in versions().items() if name != "platform"}
    trained = {"runs": [one.effective() for one in seeded], "data": benchmark.data.sha256}
    trained |= {"versions": by, "device": str(benchmark.device), "format": 2}  # 2: with a digest
    name = f"{stage}-seed{seed}-{canonical_sha256(trained)[:16]}"
    place = _home(runs_dir, benchmark.settings) / name
    if not place.exists():
        scores = _scores(benchmark, seeded, runs_dir, show)
        trials = [
            {"stage": stage, "arm": arm, "weight": weight, "seed": seed}
            | {"score": score, "seconds": seconds}
            for (arm, weight, _), (score, seconds) in zip(candidates, scores, strict=True)
        ]
        made = sealed(plain({"of": name, "trials": trials}, "trials"), DIGEST)
        write_folder(place, {TRIALS: json.dumps(made).encode()})
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


def _scores(
    benchmark: Benchmark, candidates: Sequence[Settings], runs_dir: Path, show: bool
) -> list[tuple[float | None, float]]:
    """Train candidates of one seed in lockstep; validation score (None: diverged) and seconds."""
    with one_thread(benchmark.device):
        shown = [Progress(benchmark.settings.benchmark, benchmark.in_words)] if show else []
        run = teacher_run(benchmark, candidates[0].seed, runs_dir, shown)
        if isinstance(run, Diverged):
            raise run
        teacher = benchmark.model(run)
        learners = [make_learner(benchmark, settings, teacher) for settings in candidates]
        checkpoint = Checkpoint.of(learners, benchmark.data.sha256, runs_dir)
        for _ in lockstep(benchmark, learners, teacher, [checkpoint, *shown]):
            pass
    checkpoint.remove()
    name = f"validation_{benchmark.metric.removeprefix('test_')}"
    return [
        (None if one.failure is not None else one.history[-1][name], one.seconds)
        for one in learners
    ]


def _trace(
    benchmark: Benchmark, full: int, grid: Sequence[float], overrides: Mapping[str, Any]
) -> Trace:
    """The trace, without any trial yet."""
    data, settings = benchmark.data, benchmark.settings
    return Trace(
        benchmark=settings.benchmark,
        scale=settings.scale,
        metric=f"validation_{benchmark.metric.removeprefix('test_')}",
        higher_is_better=benchmark.higher_is_better,
        weights=tuple(grid),
        epochs=settings.epochs,
        full_epochs=full,
        trials=(),
        data={"name": data.name, "source": data.source, "sha256": data.sha256},
        versions=versions(),
        device=str(benchmark.device),
        overrides=overrides,
    )


def _check_replaceable(
    folder: Path, planned: Trace, arms: Sequence[str], seeds: Sequence[int]
) -> None:
    """Refuse to begin what would end in the loss of another trace."""
    path = planned.path(folder)
    if path.exists() and (odd := read_trace(path).lost_by(planned, ("kd", "rkd", *arms), seeds)):
        raise ValueError(
            f"{path} is the trace of another tuning, and would be replaced. It has "
            f"{'; '.join(odd)}: this one does not. Ask for the same and more, give another "
            "runs_dir, or delete that file first."
        )


def _arms(arms: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(arms, Iterable):
        raise TypeError(f"arms: expected some of {', '.join(TUNED)}, got {arms!r}")
    chosen = tuple(dict.fromkeys([arms] if isinstance(arms, str) else arms))
    if not chosen or (odd := [arm for arm in chosen if arm not in TUNED]):
        got = odd[0] if chosen else "none"
        raise ValueError(f"arms: expected some of {', '.join(TUNED)}, got {got}")
    return chosen


def _grid(weights: Sequence[float]) -> tuple[float, ...]:
    if isinstance(weights, str) or not isinstance(weights, Iterable):
        raise ValueError(f"weights: expected finite numbers > 0, got {weights!r}")
    grid = tuple(sorted({positive("weights", weight) for weight in weights}))
    if not grid:
        raise ValueError("weights: expected finite numbers > 0, got none")
    return grid


# ---- trace


FILE, DIGEST = "tuning.json", "trace_sha256"
_AGAIN = " this file, and tune again; the records beside it stay as they are."


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
class Trace:
    """What was tried, on what, and what was chosen.

    Attributes:
        benchmark, scale: whose settings were tuned.
        metric: of the validation part; ``higher_is_better`` says which way it goes.
        weights: the candidates of every arm.
        epochs: of a candidate's training; ``full_epochs``: of a study's.
        trials: all of them.
        data, versions, device: as in a record.
        overrides: settings of all candidates that are not their benchmark's own. A trace of an
            earlier version does not say, and has none.
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
        """The choice, and what it was tuned with that is not its benchmark's own, as settings, for
        ``ql.compare(..., **trace.settings)``."""
        return {**self.overrides, **weight_settings(self.chosen)}

    def as_options(self) -> str:
        """The same as arguments of ``python -m qrkd_lab compare ... --set``.

        Example:
            >>> trace.as_options()                                    # doctest: +SKIP
            'kd_weight=0.3 distance_weight=1.0 angle_weight=2.0 \'kernel_weights={"qrkd": 1.0}\''
        """
        from qrkd_lab.studies.provenance import set_words

        return " ".join(set_words(self.settings)[1:])

    @property
    def at_edge(self) -> tuple[str, ...]:
        """Arms whose choice is the least or the largest candidate: the best may lie beyond."""
        ends = (min(self.weights), max(self.weights))
        return tuple(arm for arm, weight in self.chosen.items() if weight in ends)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A row a candidate: ``stage``, ``arm``, ``weight``, mean ``score``, ``low`` and ``high``
        over ``seeds`` seeds, mean ``seconds``, ``diverged`` (how many did), ``counts`` (see
        :class:`Trial`), ``chosen``."""
        import pandas as pd

        rows = pd.DataFrame([asdict(trial) | {"counts": trial.counts} for trial in self.trials])
        rows["score"] = rows["score"].astype(float)
        grouped = rows.groupby(["stage", "arm", "weight"], sort=False)
        table = grouped.agg(
            score=("score", lambda scores: scores.mean(skipna=False)),
            low=("score", "min"),
            high=("score", "max"),
            seeds=("seed", "nunique"),
            seconds=("seconds", "mean"),
            diverged=("score", lambda scores: int(scores.isna().sum())),
            counts=("counts", "first"),
        ).reset_index()
        table["chosen"] = table["counts"] & (table["weight"] == table["arm"].map(self.chosen))
        return table

    def lost_by(self, other: Trace, arms: Iterable[str], seeds: Iterable[int]) -> list[str]:
        """What this trace has, in words, and another with these arms and seeds has not."""
        from qrkd_lab.studies.provenance import set_words  # it needs torch, and a trace does not

        lost = []
        if self.data["sha256"] != other.data["sha256"]:
            lost.append(f"the data {self.data['name']}, sha256 {self.data['sha256'][:12]}")
        if self.epochs != other.epochs:
            lost.append(f"--epochs {self.epochs}")
        if self.overrides != other.overrides:
            lost.append(" ".join(set_words(self.overrides)) or "no --set")
        tried = sorted({trial.seed for trial in self.trials})
        for what, own, others in (
            ("arms", self.chosen, arms),
            ("weights", map(exact, self.weights), map(exact, other.weights)),
            ("seeds", map(str, tried), map(str, seeds)),
        ):
            held = set(others)
            lacks = [each for each in own if each not in held]
            lost += [f"the {what} {', '.join(lacks)}"] if lacks else []
        return lost

    def path(self, root: str | os.PathLike[str]) -> Path:
        """The file that holds the trace under a folder of records."""
        return Path(expanded(root), self.benchmark, self.scale, FILE)

    def save(self, root: str | os.PathLike[str]) -> Path:
        """Write the trace under a folder of records; returns the file.

        Raises:
            RecordError: the disk is full or read-only.
        """
        path = self.path(root)
        trace = plain({"format": 1} | asdict(self), "trace")
        if not self.overrides:  # as in every trace before there were any, byte for byte
            del trace["overrides"]
        trace = sealed(trace, DIGEST)
        with writing(f"the trace in {path.parent}"), replacing(path) as stream:
            stream.write((json.dumps(trace, indent=1, allow_nan=False) + "\n").encode())
        return path

    def __str__(self) -> str:
        table = self.table.assign(
            weight=self.table["weight"].map(exact),
            chosen=self.table["chosen"].map({True: "<-", False: ""}),
        )
        shown = table.drop(columns=["seconds", "counts"]).to_string(
            index=False, float_format="{:.5g}".format
        )
        edge = (
            f"\nAt the edge of the candidates: {', '.join(self.at_edge)}." if self.at_edge else ""
        )
        return (
            f"{self.benchmark} {self.scale}: {self.metric} after {self.epochs} of "
            f"{self.full_epochs} epochs\n{shown}{edge}"
        )

    __repr__ = __str__


def exact(number: float) -> str:
    """A number as somebody may give it again: the shortest digits that are this very number.

    Example:
        >>> exact(1.0), exact(1 / 3)
        ('1', '0.3333333333333333')
    """
    return repr(number).removesuffix(".0")


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """The trace in a file, or in the folder ``<root>/<benchmark>/<scale>`` that holds it.

    Raises:
        RecordError: it is missing, cut, edited or of another version; or it cannot be read.
    """
    path = expanded(path)
    path = path / FILE if path.is_dir() else path
    try:
        held = unsealed(strict_json(path), DIGEST)
    except ValueError as error:
        raise RecordError(f"{path} {error}. Delete{_AGAIN}") from error
    try:
        if (number := held.pop("format", None)) != 1:
            raise ValueError(f"is of format {number!r:.60}, and this version reads format 1")
        trials = tuple(Trial(**trial) for trial in held.pop("trials"))
        trace = Trace(**held | {"weights": tuple(held["weights"]), "trials": trials})
        scores = [trial.score for trial in trials if trial.score is not None]
        sizes = [(trial.weight, trial.seconds, trial.seed) for trial in trials]
        counts = [*trace.weights, trace.epochs, trace.full_epochs, *scores, *sum(sizes, ())]
        if not all(map(is_number, counts)) or not isinstance(trace.data["sha256"], str):
            raise ValueError("is no trace: numbers and the data's sha256 are expected")
        if not trials or not isinstance(trace.higher_is_better, bool):
            raise ValueError("is no trace: trials are expected, and which way the metric goes")
        texts = [trace.benchmark, trace.scale, trace.metric, trace.data.get("name")]
        texts += [text for trial in trials for text in (trial.arm, trial.stage)]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("is no trace: names are expected to be text")
        dict(trace.overrides), dict(trace.versions)
    except (AttributeError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is no trace ({error!r}). Move{_AGAIN}") from error
    except ValueError as error:
        raise RecordError(f"{path} {error}. Move{_AGAIN}") from error
    return trace


def best_weights(trials: Iterable[Trial], higher_is_better: bool) -> dict[str, float]:
    """Each arm's best weight by its mean score; of equals the smallest; no seed may be missing."""
    scores: dict[str, dict[float, list[float]]] = {}
    for trial in trials:
        if trial.counts:
            value = math.nan if trial.score is None else trial.score
            scores.setdefault(trial.arm, {}).setdefault(trial.weight, []).append(value)
    return {arm: _best(tried, higher_is_better, arm) for arm, tried in scores.items()}


def _best(tried: Mapping[float, Sequence[float]], higher_is_better: bool, arm: str) -> float:
    sign = -1.0 if higher_is_better else 1.0
    means = {weight: sign * sum(found) / len(found) for weight, found in tried.items()}
    finite = {weight: mean for weight, mean in means.items() if math.isfinite(mean)}
    if not finite:
        raise ValueError(
            f"{arm} diverged with every weight of {sorted(tried)}: lower learning_rate, or give "
            "smaller weights"
        )
    return min(finite, key=lambda weight: (finite[weight], weight))


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
