"""A trace: every trial of a tuning, and what was chosen by it.

It is a file of strict JSON with a digest, ``<root>/<benchmark>/<scale>/tuning.json``, so that a
choice can be checked long after it was made.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.storage import (
    RecordError,
    expanded,
    is_number,
    plain,
    replacing,
    sealed,
    strict_json,
    unsealed,
    writing,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FILE", "Trace", "Trial", "best_weights", "exact", "read_trace", "weight_settings"]

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
        from qrkd_lab.records.recipe import set_words

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
        from qrkd_lab.records.recipe import set_words  # it needs torch, and a trace does not

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
