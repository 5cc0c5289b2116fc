"""The study of results/PLAN.md: its stages, each a number of comparisons, and what they say."""

from __future__ import annotations

import itertools
import math
import string
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from qrkd_lab.files import runs_folder
from qrkd_lab.studies.arms import ARMS as KNOWN
from qrkd_lab.studies.arms import TEACHER
from qrkd_lab.studies.benchmarks import is_text
from qrkd_lab.studies.compare import compare
from qrkd_lab.studies.records import PUBLISHED, Run, read_runs
from qrkd_lab.studies.report import Report, image
from qrkd_lab.studies.statistics import holm, p_in_words
from qrkd_lab.studies.summary import LEVEL, markdown_table

__all__ = ["ARMS", "PILOT", "REGIMES", "SEEDS", "STAGES", "admission", "answers", "comparisons",
           "differences", "doses", "findings", "in_gaps", "over_regimes", "scores",
           "study"]  # fmt: skip

SCALE = "few-labels"
REGIMES = {  # by scale: the benchmarks
    SCALE: ("mnist", "cifar10"),
    "all-labels": ("mnist", "cifar10", "wikitext2", "ptb", "imdb"),
}
PILOT, SEEDS = range(1000, 1010), range(3000, 3025)
BY_KERNEL = ("qrkd", "qrkd_iqp", "rbf", "stretched_rbf", "no_entanglement", "shuffled")
ARMS = (
    "scratch", "kd", "rkd_only", "rkd", *BY_KERNEL,
    "distance_only", "angle_only", "kernel_only", "rbf_only",
)  # fmt: skip
GRID = [(kd, distance) for kd in (0.3, 3.0) for distance in (3.0, 10.0, 30.0, 100.0, 300.0)]
CANDIDATES = (0.1, 0.3, 1.0)  # doses, of which the pilot chooses one
ADDED, SHARES = (0.03, 0.3, 1.0, 3.0), (0.25, 0.5, 1.0)
DOSED = ("qrkd", "qrkd_iqp", "rbf", "shuffled")

Call = tuple[Sequence[str], Sequence[int], dict[str, float]]  # arms, seeds, settings
STAGES = ("weights", "dose", "admission", "runs", "doses")


def comparisons(stage: str, benchmark: str, scale: str = SCALE) -> list[Call]:
    """What a stage trains of one regime. Texts have fewer seeds, and weights that are given."""
    text, few = is_text(benchmark), scale == SCALE
    pilot, seeds = (PILOT[:5], SEEDS[:10]) if text else (PILOT, SEEDS)
    return {
        "weights": [
            (["rkd"], pilot[:5], {"kd_weight": kd, "distance_weight": d, "angle_weight": 2 * d})
            for kd, d in GRID
            if not text
        ],
        "dose": [(["qrkd"], pilot, {"kernel_dose": dose}) for dose in CANDIDATES],
        "admission": [(["scratch", "kd", "rkd"], pilot, {})],
        "runs": [(ARMS, seeds, {}), (["detached"], seeds[:2], {})],
        "doses": [
            (DOSED, seeds[:10], {how: strength})
            for how, strengths in (("kernel_dose", ADDED), ("kernel_share", SHARES))
            for strength in strengths
            if few
        ],
    }[stage]


def study(
    stages: Sequence[str] = ("runs", "doses"),
    benchmarks: Sequence[str] = (),
    jobs: int = 1,
    runs_dir: str | Path | None = None,
    scheduler: str | None = None,
    scale: str = SCALE,
) -> list[Run]:
    """Train what is missing of some stages; the same call continues what was interrupted.

    Records of the pilot (``weights``, ``dose``, ``admission``) lie in ``pilot`` under ``runs_dir``,
    those of the dose-response in ``doses``.

    Args:
        stages: of :data:`STAGES`.
        benchmarks: of :data:`REGIMES` at this scale; none: all of them.
        jobs, runs_dir, scheduler: as for :func:`~qrkd_lab.compare`.
        scale: ``few-labels`` or ``all-labels``.

    Raises:
        ValueError: unknown names (lists the choices).
    """
    for words, known in (
        ([scale], REGIMES), (stages, STAGES), (benchmarks, REGIMES.get(scale, ())),
    ):  # fmt: skip
        if unknown := [word for word in words if word not in known]:
            raise ValueError(f"unknown {unknown[0]!r}; choose from {', '.join(known)}")
    root, found = runs_folder(runs_dir), []
    for benchmark, stage in itertools.product(benchmarks or REGIMES[scale], stages):
        calls = comparisons(stage, benchmark, scale)
        folder = root / {"runs": ".", "doses": "doses"}.get(stage, "pilot")
        for number, (arms, seeds, settings) in enumerate(calls, 1):
            found += compare(
                benchmark, arms, seeds, scale, jobs=jobs, runs_dir=folder, scheduler=scheduler,
                **settings,
            ).runs  # fmt: skip
            print(
                f"{benchmark}, {stage}: {number} of {len(calls)} comparisons done", file=sys.stderr
            )
    return found


# ---- what the records say


def scores(runs: Iterable[Run], metric: str = "test_accuracy") -> pd.DataFrame:
    """A number of every run: a row per seed, a column per arm; NaN where there is no run.

    ``validation_mean`` is the mean of the validation accuracy over all epochs.
    """

    def value(run: Run) -> float:
        if metric == "validation_mean":
            return float(np.mean([epoch["validation_accuracy"] for epoch in run.history]))
        return run.metrics.get(metric, math.nan)

    rows = [(run.settings["seed"], run.settings["arm"], value(run)) for run in runs]
    return pd.DataFrame(rows, columns=["seed", "arm", "value"]).pivot(
        index="seed", columns="arm", values="value"
    )


def differences(
    table: pd.DataFrame, reference: str = "rkd", arms: Sequence[str] | None = None
) -> pd.DataFrame:
    r"""Paired differences to a reference, with a standard deviation pooled over the kernel arms.

    With the score :math:`y_{as}` of arm a and seed s, of ``rkd`` and the arms with a kernel, A in
    all, the residuals of arms plus seeds :math:`r_{as} = y_{as} - y_{a.} - y_{.s} + y_{..}` give
    the variance :math:`\sigma^2 = \sum r^2 / ((A - 1)(S - 1))`, and a difference of two of them has
    the standard error :math:`\sigma \sqrt{2 / S}`. This takes all pairs of these arms to spread
    alike; ``p_own`` does not. Differences to other arms have the standard error of their own.

    Args:
        table: of :func:`scores`.
        reference: an arm.
        arms: to compare; None: all others.

    Returns:
        By arm: ``difference``, ``low`` and ``high`` (95 %), ``p`` (two-sided t), ``error``,
        ``free`` (degrees of freedom), ``seeds``; and by the spread of its own differences
        ``own_low``, ``own_high``, ``p_own``.
    """
    pooled = [arm for arm in ("rkd", *BY_KERNEL) if arm in table]
    y = table[pooled].dropna()
    residuals = y.sub(y.mean(axis=1), axis=0)
    residuals = residuals - residuals.mean()
    free = (len(pooled) - 1) * (len(y) - 1)
    error = math.sqrt(2 * (residuals**2).to_numpy().sum() / free / len(y)) if free > 0 else math.nan
    rows = {}
    for arm in arms or [arm for arm in table if arm not in (reference, TEACHER)]:
        gains = (table[arm] - table[reference]).dropna()
        own, mean = gains.sem(), gains.mean()
        of, used = (free, error) if {arm, reference} <= {*pooled} else (len(gains) - 1, own)
        half, own_half = (stats.t.ppf(0.975, f) * e for f, e in ((of, used), (len(gains) - 1, own)))
        rows[arm] = {
            "difference": mean, "low": mean - half, "high": mean + half,
            "p": 2 * stats.t.sf(abs(mean) / used, of) if used else math.nan,
            "error": used, "free": of, "seeds": len(gains),
            "own_low": mean - own_half, "own_high": mean + own_half,
            "p_own": 2 * stats.t.sf(abs(mean) / own, len(gains) - 1) if own else math.nan,
        }  # fmt: skip
    return pd.DataFrame(rows).T


def admission(table: pd.DataFrame) -> pd.DataFrame:
    """Do known treatments work here? kd - scratch and rkd - kd, one-sided paired t-tests."""
    rows = {}
    for arm, reference in (("kd", "scratch"), ("rkd", "kd")):
        gains = (table[arm] - table[reference]).dropna()
        test = stats.ttest_1samp(gains, 0.0, alternative="greater")
        rows[f"{arm} - {reference}"] = {
            "difference": gains.mean(), "p": test.pvalue, "seeds": len(gains),
            "admitted": test.pvalue < LEVEL,
        }  # fmt: skip
    return pd.DataFrame(rows).T


def answers(
    tables: Mapping[str, pd.DataFrame], arms: Sequence[str] = BY_KERNEL[:2]
) -> pd.DataFrame:
    r"""The three answers of the plan, per regime and arm: better, equivalent, undecided.

    The margin is 10 % of the gap between teacher and ``scratch``. Better (or worse): the t-test of
    :func:`differences`. Equivalent: two one-sided t-tests,
    :math:`p = P(T > (\delta - |\bar d|) / \mathrm{SE})`. Each is corrected by Holm over all rows.
    Both can be true: then it is better (or worse), and equivalent within the margin.

    Args:
        tables: regime to its :func:`scores`, with ``teacher``, ``scratch`` and ``rkd``.
        arms: that are compared with ``rkd``.

    Returns:
        By regime and arm, beside the columns of :func:`differences`: ``gap``, ``margin``,
        ``p_equivalent``, ``smallest`` (that 80 % of such studies would see), ``median`` and
        ``ahead`` (of the differences, and in how many seeds the arm is ahead), ``answer``.
        ``p_own`` is corrected, too.
    """
    parts = {}
    for regime, table in tables.items():
        part = differences(table, arms=arms)
        part["gap"] = (table[TEACHER] - table["scratch"]).mean()
        gains = table[[*arms]].sub(table["rkd"], axis=0)
        part["median"], part["ahead"] = gains.median(), (gains > 0).sum()
        parts[regime] = part
    found = pd.concat(parts, names=["regime", "arm"])
    found["margin"] = 0.1 * found["gap"]
    room = (found["margin"] - found["difference"].abs()) / found["error"]
    found["p_equivalent"] = holm(stats.t.sf(room, found["free"]))
    for name in ("p", "p_own"):
        found[name] = holm(found[name].to_numpy(dtype=float))
    need = stats.t.ppf(1 - LEVEL / len(found) / 2, found["free"]) + stats.t.ppf(0.8, found["free"])
    found["smallest"] = need * found["error"]
    found["answer"] = [_answer(row) for _, row in found.iterrows()]
    return found


def _answer(row: pd.Series) -> str:
    if row["p"] < LEVEL:
        side = "better" if row["difference"] > 0 else "worse"
        return f"{side}, and equivalent within the margin" if row["p_equivalent"] < LEVEL else side
    return "equivalent" if row["p_equivalent"] < LEVEL else "undecided"


def over_regimes(found: pd.DataFrame) -> pd.DataFrame:
    r"""One number per arm: its mean difference to ``rkd`` over R regimes, in % of the gap.

    With the difference in a regime :math:`b_r` and its standard error :math:`e_r`, both in % of
    teacher - ``scratch``, the mean over *these* regimes has the standard error
    :math:`\sqrt{\sum e_r^2} / R`. For *regimes in general* a mixed model takes :math:`b_r` as
    random; with as many seeds in each its estimate is the same mean, with the standard error
    :math:`\mathrm{sd}(b_r) / \sqrt R` and R - 1 degrees of freedom.

    Args:
        found: of :func:`answers`, with at least two regimes.

    Returns:
        By arm: ``mean``, and the ends of two 95 % intervals: ``low`` and ``high`` for these
        regimes, ``low_general`` and ``high_general`` for regimes in general.
    """
    rows = {}
    for arm, of in found.groupby(level="arm", sort=False):
        effects, errors = (100 * of[name] / of["gap"] for name in ("difference", "error"))
        mean, count = effects.mean(), len(of)
        half = stats.t.ppf(0.975, of["free"].sum()) * math.sqrt((errors**2).sum()) / count
        general = stats.t.ppf(0.975, count - 1) * effects.sem()
        rows[arm] = {
            "mean": mean, "low": mean - half, "high": mean + half,
            "low_general": mean - general, "high_general": mean + general,
        }  # fmt: skip
    return pd.DataFrame(rows).T


def in_gaps(
    runs: Iterable[Run], arms: Sequence[str] = ("kd", "rkd_only", *BY_KERNEL)
) -> pd.DataFrame:
    """The differences to ``rkd`` in per cent of the gap between teacher and ``scratch``.

    Args:
        runs: of one regime, with ``teacher``, ``scratch`` and ``rkd``.
        arms: a row each.

    Returns:
        By arm: ``difference``, ``low``, ``high`` (95 %), and ``dose``, the mean over epochs and
        seeds of the dose that was reached; NaN without a kernel.
    """
    runs = list(runs)
    table = scores(runs)
    found = differences(table, arms=arms)[["difference", "low", "high"]].astype(float)
    found *= 100 / (table[TEACHER] - table["scratch"]).mean()
    for arm in found.index:
        epochs = [e for run in runs if run.settings["arm"] == arm for e in run.history]
        found.loc[arm, "dose"] = np.mean([e.get("kernel_dose", math.nan) for e in epochs])
    return found


def doses(runs: Iterable[Run], reference: pd.Series) -> pd.DataFrame:
    """The dose-response: per arm and strength, the difference to ``rkd`` in points of accuracy.

    Args:
        runs: of the stage ``doses``.
        reference: the score of ``rkd`` by seed, a fraction.

    Returns:
        By ``how`` (``kernel_dose``: beside distance and angle; ``kernel_share``: in their place),
        ``arm`` and ``strength``: ``difference``, ``low``, ``high`` (95 %, t) and ``seeds``.
    """
    rows = [
        (
            how, run.settings["arm"], run.settings[how],
            100 * (run.metrics["test_accuracy"] - reference[run.settings["seed"]]),
        )
        for run in runs
        for how in ("kernel_dose", "kernel_share")
        if run.settings.get(how) is not None
    ]  # fmt: skip
    keys = ["how", "arm", "strength"]
    of = pd.DataFrame(rows, columns=[*keys, "points"]).groupby(keys)["points"]
    mean, count = of.mean(), of.count()
    half = stats.t.ppf(0.975, count - 1) * of.sem()
    return pd.DataFrame(
        {"difference": mean, "low": mean - half, "high": mean + half, "seeds": count}
    )


# ---- in words

OUTCOMES = {
    "test_noise_accuracy": "accuracy under noise, %",
    "test_recall_at_1": "recall@1, %",
    "test_linear_probe": "linear probe, %",
    "test_agreement": "agreement with the teacher, %",
    "validation_mean": "mean validation accuracy, %",
    "test_nll": "negative log likelihood, 0.01 nats",
    "test_calibration_error": "calibration error, %",
}  # of the last two less is better


def findings(root: str | Path = PUBLISHED) -> Report:
    """The report on the study's records under a folder; regimes without all runs are named.

    Raises:
        ValueError: no regime has runs of all arms.
    """
    from qrkd_lab.teaching.plots import scores as plots

    runs = {name: _counted(read_runs(root, name, SCALE, weights=False)) for name in REGIMES[SCALE]}
    held = {name: found for name, found in runs.items() if found}
    if not held:
        raise ValueError(f"no records of the study in {root}: train them with make study")
    tables = {name: scores(found) for name, found in held.items()}
    found = answers(tables)
    gaps = {name: in_gaps(of) for name, of in held.items()}
    responses = {
        name: doses(of, tables[name]["rkd"])
        for name in held
        if (of := read_runs(Path(root) / "doses", name, SCALE, weights=False))
    }
    figures = {"study": plots.study_forest(gaps)}
    figures |= {f"doses-{name}": plots.dose_response(of) for name, of in responses.items()}
    parts = {
        "verdict": _verdict(found, tables),
        "together": _together(found),
        "trained": str(len(held)),
        "head": markdown_table(_head(found, tables, gaps)),
        "tests": markdown_table(_tests(found)),
        "controls": markdown_table(_controls(tables)),
        "alone": markdown_table(_alone(tables)),
        "outcomes": markdown_table(_outcomes(held)),
        "doses": "\n\n".join(
            [image(name, chart.alt) for name, chart in figures.items() if name != "study"]
            + [markdown_table(_strengths(responses)) or "Not trained yet."]
        ),
        "figure": image("study", figures["study"].alt),
        "sd": ", ".join(
            f"{100 * one['error'] * math.sqrt(len(tables[name])):.2f} points on {name}, "
            f"{one['free']:.0f} degrees of freedom"
            for name, one in found.xs("qrkd", level="arm").iterrows()
        ),
    }
    text = Path(__file__).with_suffix(".md").read_text("utf-8")
    return Report(string.Template(text).substitute(parts), figures)


def _head(
    found: pd.DataFrame, tables: Mapping[str, pd.DataFrame], gaps: Mapping[str, pd.DataFrame]
) -> list[dict[str, str]]:
    """Per regime and map: is there room, do known treatments work, the dose, the answer."""
    rows = []
    for (name, arm), one in found.iterrows():
        known = admission(tables[name])["difference"]
        rows.append({
            "regime": f"{name}, few labels", "teacher - scratch": _points(one["gap"]),
            **{pair: _points(value) for pair, value in known.items()},
            "arm": f"`{arm}`", "dose": f"{gaps[name].loc[arm, 'dose']:.2f}",
            "minus `rkd`": _ranged(one),
            "in % of the gap": f"{100 * one['difference'] / one['gap']:+.1f}",
            "margin": _points(one["margin"]).lstrip("+"),
            "smallest visible": _points(one["smallest"]).lstrip("+"),
            "answer": f"**{one['answer']}**",
        })  # fmt: skip
    return rows


def _tests(found: pd.DataFrame) -> list[dict[str, str]]:
    return [
        {
            "regime": name, "arm": f"`{arm}`",
            "seeds ahead": f"{one['ahead']:.0f} of {one['seeds']:.0f}",
            "median": _points(one["median"]), "p": _p(one["p"]),
            "p equivalent": _p(one["p_equivalent"]),
            "interval by its own spread":
                f"[{_points(one['own_low'])}, {_points(one['own_high'])}]",
            "p by its own spread": _p(one["p_own"]),
        }
        for (name, arm), one in found.iterrows()
    ]  # fmt: skip


def _qrkd_minus(table: pd.DataFrame, others: Sequence[str]) -> pd.DataFrame:
    """:func:`differences` of ``qrkd`` to each of some arms, a row for each."""
    rows = [differences(table, other, ["qrkd"]).rename({"qrkd": other}) for other in others]
    return pd.concat(rows)


def _controls(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    rows = []
    for name, table in tables.items():
        to_rkd = differences(table)
        for other, against in _qrkd_minus(table, BY_KERNEL[1:]).iterrows():
            rows.append({
                "regime": name, "arm": f"`{other}`", "which is": KNOWN[other].meaning,
                "minus `rkd`": _ranged(to_rkd.loc[other]), "`qrkd` minus it": _ranged(against),
                "p": _p(against["p"]), "p by its own spread": _p(against["p_own"]),
            })  # fmt: skip
    return rows


def _alone(tables: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    arms = ("kd", "distance_only", "angle_only", "rkd_only", "kernel_only", "rbf_only")
    return [
        {"regime": name, "arm": f"`{arm}`", "which is": KNOWN[arm].meaning,
         "minus `scratch`": _ranged(one)}
        for name, table in tables.items()
        for arm, one in differences(table, "scratch", arms).iterrows()
    ]  # fmt: skip


def _outcomes(runs: Mapping[str, Sequence[Run]]) -> list[dict[str, str]]:
    """Every outcome of both maps, p corrected within a regime."""
    rows = []
    for name, of in runs.items():
        seen = {metric: scores(of, metric) for metric in OUTCOMES}
        found = pd.concat({m: differences(y, arms=BY_KERNEL[:2]) for m, y in seen.items()})
        found["p"] = holm(found["p"].to_numpy())
        rows += [
            {"regime": name, "outcome": OUTCOMES[metric], "arm": f"`{arm}`",
             "`rkd`": f"{100 * seen[metric]['rkd'].mean():.2f}", "minus `rkd`": _ranged(one),
             "p (Holm)": _p(one["p"])}
            for (metric, arm), one in found.iterrows()
        ]  # fmt: skip
    return rows


def _strengths(responses: Mapping[str, pd.DataFrame]) -> list[dict[str, str]]:
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for name, response in responses.items():
        for (how, arm, strength), one in response.iterrows():
            row = rows.setdefault((name, arm), {"regime": name, "arm": f"`{arm}`"})
            row[f"{how.removeprefix('kernel_')} {strength:g}"] = _ranged(one / 100)
    return list(rows.values())


def _counted(runs: Iterable[Run]) -> list[Run]:
    """The records of the counted seeds, where every arm has every seed; else none."""
    found = [run for run in runs if run.settings["seed"] in SEEDS]
    held = {(run.settings["arm"], run.settings["seed"]) for run in found}
    return found if held >= {*itertools.product(ARMS, SEEDS)} else []


def _verdict(found: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> str:
    """The answer in one sentence, then those of the plan, two or three per regime."""
    helped = {name: admission(table).loc["rkd - kd"] for name, table in tables.items()}
    admitted = [name for name, known in helped.items() if known["admitted"]]
    better = [name for name in admitted if "better" in found.loc[(name, "qrkd"), "answer"]]
    said = [
        f"**`qrkd` is better than `rkd` in {len(better)} of {len(admitted)} regimes in which RKD "
        f"itself helps{', so not consistently' * (len(better) < len(admitted))}.**"
    ]
    for name, table in tables.items():
        known = helped[name]
        helps = "helps" if known["admitted"] else "does not measurably help"
        said.append(
            f"On {name} with few labels, where classical RKD {helps} "
            f"({_points(known['difference'])} points over `kd`): "
            + "; ".join(
                f"`{arm}` - `rkd` is {_ranged(one)} points, {one['answer']}"
                for arm, one in found.loc[name].iterrows()
            )
            + "."
        )
        if "better" not in found.loc[(name, "qrkd"), "answer"]:
            continue
        against = _qrkd_minus(table, BY_KERNEL[2:])
        p, own = (holm(against[name].to_numpy(dtype=float)) for name in ("p", "p_own"))
        behind = {
            other: f"`{other}` (p {_p(q)}; {_p(r)} by its own spread)"
            for other, q, r in zip(against.index, p, own, strict=True)
            if q < LEVEL and against.loc[other, "difference"] > 0
        }
        level = ", ".join(f"`{other}`" for other in against.index if other not in behind)
        said.append(
            f"`qrkd` is ahead of {', '.join(behind.values()) or 'no control'}"
            + (f", not measurably of {level}: nothing shows that the gain needs a circuit." if level
               else ".")
        )  # fmt: skip
    return " ".join(said)


def _together(found: pd.DataFrame) -> str:
    """The summary over regimes in sentences; empty for one regime."""
    if (count := len(found.index.unique("regime"))) < 2:
        return ""
    said = "; ".join(
        f"`{arm}` {row['mean']:+.1f} % [{row['low']:+.1f}, {row['high']:+.1f}] for these regimes, "
        f"[{row['low_general']:+.1f}, {row['high_general']:+.1f}] for regimes in general"
        for arm, row in over_regimes(found).iterrows()
    )
    return (
        f"\n**One number over {count} regimes**, the mean difference to `rkd` in % of teacher - "
        f"scratch, with 95 % intervals: {said} (a mixed model with a random effect per regime"
        + ("; two regimes say next to nothing about others)." if count == 2 else ").")
        + "\n"
    )


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _ranged(row: pd.Series) -> str:
    return f"{_points(row['difference'])} [{_points(row['low'])}, {_points(row['high'])}]"


def _p(p: float) -> str:
    return p_in_words(p) or "none"
