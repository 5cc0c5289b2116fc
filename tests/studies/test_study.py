"""The study of results/PLAN.md: what is asked for, and what its numbers say."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from qrkd_lab.studies import study as module
from qrkd_lab.studies.arms import ARMS
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.records import PUBLISHED, read_runs
from qrkd_lab.studies.study import (
    BY_KERNEL,
    PILOT,
    REGIMES,
    SCALE,
    SEEDS,
    STAGES,
    admission,
    answers,
    comparisons,
    differences,
    doses,
    findings,
    in_gaps,
    over_regimes,
    scores,
    study,
)  # fmt: skip


def table(gain: float = 0.0, noise: float = 0.01, seeds: int = 25, seed: int = 0) -> pd.DataFrame:
    """Scores of all arms: seeds differ much, arms little, qrkd is ahead by ``gain``."""
    rng = np.random.default_rng(seed)
    level = {"teacher": 0.98, "scratch": 0.80, "kd": 0.84, "rkd": 0.87, "rkd_only": 0.86}
    level |= dict.fromkeys(BY_KERNEL, 0.87) | {"qrkd": 0.87 + gain}
    arms = pd.DataFrame({arm: np.full(seeds, value) for arm, value in level.items()})
    common = rng.normal(0, 0.05, (seeds, 1))
    return arms + common + rng.normal(0, noise, arms.shape)


@pytest.mark.parametrize(("scale", "benchmark"), [(s, b) for s in REGIMES for b in REGIMES[s]])
def test_each_call_of_each_stage_can_be_made_and_counted_seeds_were_not_seen_before(
    scale, benchmark
):
    assert not {*PILOT} & {*SEEDS}
    for stage in STAGES:
        for arms, seeds, settings in comparisons(stage, benchmark, scale):
            counted = stage in ("runs", "doses")
            assert {*seeds} <= {*(SEEDS if counted else PILOT)}
            asked = benchmark_settings(benchmark, scale, **settings)
            effective = [asked.replace(arm=arm).effective() for arm in arms]
            assert all(bool(one.get("student_size")) == (scale == SCALE) for one in effective)
            kernels = [one for one in effective if "kernel" in one]
            assert all("kernel_dose" in one or "kernel_share" in one for one in kernels)
    assert {*module.ARMS} <= {*ARMS}


def test_stages_hand_their_comparisons_on_and_unknown_names_are_refused(monkeypatch, tmp_path):
    asked = []

    class Nothing:
        runs = ()

    def compare(benchmark, arms, seeds, scale, runs_dir, **settings):
        asked.append((benchmark, runs_dir.relative_to(tmp_path).as_posix(), len(arms), len(seeds)))
        return Nothing

    monkeypatch.setattr(module, "compare", compare)
    study(["admission", "runs"], ["mnist"], runs_dir=tmp_path)
    assert asked == [("mnist", "pilot", 3, 10), ("mnist", ".", 14, 25), ("mnist", ".", 1, 2)]
    asked.clear()
    study(["weights", "runs", "doses"], ["ptb"], runs_dir=tmp_path, scale="all-labels")
    assert asked == [("ptb", ".", 14, 10), ("ptb", ".", 1, 2)]  # weights are given, no doses
    for wrong in ((["run"], ["mnist"]), (["runs"], ["ptb"]), ((), (), 1, None, None, "laptop")):
        with pytest.raises(ValueError, match="choose from"):
            study(*wrong)


def test_arms_with_a_kernel_share_one_error_and_others_have_their_own():
    """The numbers of the shared error are those of results/rederive.py, see below."""
    y = table()
    alone = differences(y[["rkd", "qrkd"]]).loc["qrkd"]  # then it is the paired t-test
    assert alone["p"] == pytest.approx(stats.ttest_rel(y["qrkd"], y["rkd"]).pvalue)
    every = ["rkd", *BY_KERNEL]
    errors = {differences(table(), a, [b]).loc[b, "error"] for a in every for b in every if a != b}
    assert len(errors) == 1  # whichever of them is the reference
    own = differences(table()).loc["kd"]
    assert own["p"] == pytest.approx(stats.ttest_rel(table()["kd"], table()["rkd"]).pvalue)


@pytest.mark.parametrize(
    ("gain", "noise", "answer"),
    [
        (0.0, 0.005, "equivalent"), (0.0, 0.05, "undecided"), (0.05, 0.01, "better"),
        (-0.05, 0.01, "worse"), (0.006, 0.005, "better, and equivalent within the margin"),
    ],
)  # fmt: skip
def test_the_answer_is_the_one_that_the_numbers_allow(gain, noise, answer):
    found = answers({"mnist": table(gain, noise), "cifar10": table(0.0, noise, seed=1)})
    assert found.loc[("mnist", "qrkd"), "answer"] == answer
    assert len(found) == 4
    assert found.loc[("mnist", "qrkd"), "margin"] == pytest.approx(0.018, abs=0.003 + noise)
    assert answers({"mnist": 0.3 + table(gain, noise)}).loc[("mnist", "qrkd"), "answer"] == answer


def test_over_regimes_the_mean_is_that_of_these_and_of_a_mixed_model():
    tables = {name: table(gain, seed=seed) for seed, (name, gain) in enumerate(
        {"mnist": 0.0, "cifar10": 0.01, "ptb": 0.02}.items()
    )}  # fmt: skip
    found = answers(tables)
    row, own = over_regimes(found).loc["qrkd"], found.xs("qrkd", level="arm")
    shares = (100 * own["difference"] / own["gap"]).astype(float)
    general = stats.ttest_1samp(shares, 0).confidence_interval()
    assert row["mean"] == pytest.approx(shares.mean())
    assert list(row[["low_general", "high_general"]]) == pytest.approx([*general])
    # Of equal regimes these are as well known as one with all their seeds.
    same = answers(dict.fromkeys("abcd", table()))
    half = over_regimes(same)["high"] - over_regimes(same)["mean"]
    alone = over_regimes(answers(dict.fromkeys("a", table())))
    t = [stats.t.ppf(0.975, 144 * count) for count in (4, 1)]
    assert (half / t[0] * 2).tolist() == pytest.approx(
        ((alone["high"] - alone["mean"]) / t[1]).tolist()
    )


def test_of_true_differences_of_the_smallest_visible_size_four_in_five_are_seen():
    size = answers({"mnist": table(0.0, 0.01)})["smallest"].iloc[0]
    found = [answers({"mnist": table(size, 0.01, seed=seed)}) for seed in range(80)]
    seen = ["better" in one.loc[("mnist", "qrkd"), "answer"] for one in found]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.1)


def test_admission_asks_whether_known_treatments_work():
    found = admission(table(seeds=10))
    assert list(found["admitted"]) == [True, True]
    worse = table(seeds=10).rename(columns={"kd": "rkd", "rkd": "kd"})
    assert list(admission(worse)["admitted"]) == [True, False]


def test_the_plan_names_what_the_stages_do():
    plan = (PUBLISHED / "PLAN.md").read_text("utf-8")
    assert all(f"`{arm}`" in plan for arm in module.ARMS)
    assert f"{len(SEEDS)}" in plan and f"{min(SEEDS)}" in plan and f"{min(PILOT)}" in plan


def test_a_script_that_knows_nothing_of_the_kit_finds_the_same_answers():
    script = PUBLISHED / "rederive.py"
    assert "qrkd_lab" not in script.read_text("utf-8")
    found = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=PUBLISHED.parent
    ).stdout
    written = (PUBLISHED / "study.md").read_text("utf-8")
    lines, rows = found.splitlines(), written.splitlines()
    assert len(lines) == 7 * sum(f"| {name}, few labels" in written for name in REGIMES[SCALE]) > 0
    for line in lines:
        regime, arm, said = re.match(r"(\w+) (?:qrkd minus )?(\w+) ([^;]*)", line).groups()
        cells = [f"`{arm}`", *said.split(" margin ")]
        there = (row for row in rows if row.startswith(f"| {regime}"))
        assert any(all(f" {cell} " in row for cell in cells) for row in there), line


def test_what_is_written_is_what_the_records_say_now():
    said = findings()
    assert (PUBLISHED / "study.md").read_text("utf-8") == said.markdown
    for name in said.figures:
        assert f"](figures/{name}.png)" in said.markdown
        assert (PUBLISHED / "figures" / f"{name}.png").is_file()
    page = (PUBLISHED / "study.html").read_text("utf-8")
    assert "<title>Few labels" in page and 'src="figures' not in page
    assert page.split("<img")[0] == said.html.split("<img")[0]


@pytest.mark.parametrize(
    "regime", [name for name in REGIMES[SCALE] if (PUBLISHED / name / SCALE).exists()]
)
def test_differences_in_units_of_the_gap_and_the_dose_of_each_arm(regime):
    runs = read_runs(PUBLISHED, regime, SCALE, weights=False)
    runs = [run for run in runs if run.settings["seed"] in SEEDS]
    found, y = in_gaps(runs), scores(runs)
    gap = (y["teacher"] - y["scratch"]).mean()
    expected = 100 * (y["qrkd"] - y["rkd"]).mean() / gap
    assert found.loc["qrkd", "difference"] == pytest.approx(expected)
    assert (found["low"] < found["difference"]).all()
    assert (found["difference"] < found["high"]).all()
    assert found["dose"].isna().sum() == 2  # kd and rkd_only
    dose = benchmark_settings(regime, SCALE).kernel_dose
    assert np.allclose(found["dose"].dropna(), dose, rtol=0.01)


def test_the_dose_response_is_paired_with_rkd_of_the_same_seed():
    class Made:
        def __init__(self, arm, seed, how, strength, accuracy):
            self.settings = {"arm": arm, "seed": seed, how: strength}
            self.metrics = {"test_accuracy": accuracy}

    reference = pd.Series({0: 0.80, 1: 0.90})
    gains = [Made("qrkd", seed, "kernel_dose", 1.0, reference[seed] + 0.01) for seed in (0, 1)]
    gains += [Made("rbf", 0, "kernel_share", 0.5, 0.78), Made("rbf", 1, "kernel_share", 0.5, 0.92)]
    found = doses(gains, reference)
    assert list(found.loc[("kernel_dose", "qrkd", 1.0)]) == pytest.approx([1, 1, 1, 2])
    half = stats.t.ppf(0.975, 1) * 2  # sd of -2 and +2 points over the root of 2
    assert list(found.loc[("kernel_share", "rbf", 0.5)]) == pytest.approx([0, -half, half, 2])
