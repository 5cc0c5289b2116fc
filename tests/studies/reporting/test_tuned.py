"""The weights: every candidate shown, unequal budgets and edges said."""

from __future__ import annotations

from dataclasses import replace

from qrkd_lab.studies.report import sort_runs, weights_used
from qrkd_lab.studies.tune import Trace, Trial
from tests.studies.reporting.made_studies import RKD, made_runs

SCORES = {"kd": (0.5, 0.7, 0.6), "rkd": (0.5, 0.7, 0.6), "qrkd": (0.6, 0.7, 0.8)}
GRID = (0.1, 1.0, 10.0)


def made_trace(scores=None, seeds=(0, 1), benchmark="digits"):
    trials = [
        Trial("kernel" if arm == "qrkd" else arm, arm, weight, seed, score, 1.0)
        for arm, row in (scores or SCORES).items()
        for weight, score in zip(GRID, row, strict=False)
        for seed in seeds
    ]
    trials += [Trial("kernel", "rkd", 1.0, seed, 0.65, 1.0) for seed in seeds]
    data = {"name": benchmark, "source": "here", "sha256": "ab"}
    asked = (benchmark, "smoke", "validation_accuracy", True, GRID, 1, 4)
    return Trace(*asked, tuple(trials), data, {"torch": "2"}, "cpu")


def said(*traces):
    return "\n".join(
        weights_used(sort_runs(made_runs("digits", kd=RKD, rkd=RKD, qrkd=RKD)), traces)
    )


def test_without_a_trace_that_is_said_and_the_weights_are_shown():
    found = said()
    assert "No tuning is recorded beside the records of digits" in found
    assert "| kd | kd_weight | 0.3 |" in found and "Bold" not in found


def test_weights_that_were_chosen_on_another_benchmark_are_said_to_be():
    runs = made_runs("digits", kd=RKD, rkd=RKD, qrkd=RKD)
    other = [replace(run, settings=dict(run.settings) | {"benchmark": "mnist"}) for run in runs]
    studies = sort_runs([*runs, *other])
    chosen = {"kd": (0.9, 0.7, 0.6), "rkd": (0.5, 0.7, 0.6), "qrkd": (0.6, 0.8, 0.7)}
    trace = replace(made_trace(chosen), weights=(0.3, 1.0, 10.0))
    trials = tuple(replace(t, weight=0.3) if t.weight == 0.1 else t for t in trace.trials)
    found = "\n".join(weights_used(studies, [replace(trace, trials=trials)]))
    assert "The records of mnist have the weights that were chosen on digits" in found
    assert "No tuning is recorded" not in found
    assert "No tuning is recorded beside the records of mnist" in "\n".join(
        weights_used(studies, [made_trace()])
    )


def test_a_benchmark_without_weights_that_are_tuned_has_those_of_no_other():
    runs = made_runs("digits", kd=RKD, rkd=RKD, qrkd=RKD) + made_runs(scratch=RKD, detached=RKD)
    found = "\n".join(weights_used(sort_runs(runs), [made_trace()]))
    assert "were chosen on" not in found
    assert "No tuning is recorded beside the records of mnist" in found


def test_every_candidate_is_shown_the_chosen_one_bold():
    found = said(made_trace())
    assert "No tuning" not in found
    assert "Every arm had 3 candidates, each on 2 seeds." in found
    assert "| qrkd | 60.00 | 70.00 | **80.00** |" in found
    assert "| kd | 50.00 | **70.00** | 60.00 |" in found
    assert "At the edge of the candidates: qrkd." in found
    assert "Beside the kernels, `rkd` without one reached 65.00 %." in found
    assert "trained for 1 of a study's 4 epochs" in found
    asked = "--arms qrkd --seed 0 1 --scale smoke --weights 0.1 1 10 --epochs 1"
    assert f"tune digits {asked}`" in found, "a number of seeds would be others: tune's own"


def test_settings_of_the_search_are_part_of_its_command():
    changed = {"train_size": 256, "student_widths": [5, 2, 31]}
    found = said(replace(made_trace(), overrides=changed))
    assert "--epochs 1 --set train_size=256 'student_widths=[5, 2, 31]'`. Every arm" in found


def test_weights_that_were_not_chosen_are_bold():
    found = said(made_trace())
    assert "| qrkd | kernel_weight | **1** |" in found and "| rkd | distance_weight | 1 |" in found
    assert "Bold: **not** the weight that the tuning chose." in found


def test_an_unequal_budget_and_a_divergence_are_said():
    found = said(made_trace(SCORES | {"qrkd": (0.6,)}))
    assert "**not** have the same number of candidates: kd 3 on 2 seeds, rkd 3" in found
    assert "| qrkd | **60.00** |  |  |" in found
    trace = made_trace()
    lost = [replace(t, score=None) if t.weight == 0.1 else t for t in trace.trials]
    assert "| qrkd | diverged |" in said(replace(trace, trials=tuple(lost)))
