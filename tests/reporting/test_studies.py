"""Studies of a report: sorted, told apart, refused where they are mixed."""

from __future__ import annotations

import pytest

from qrkd_lab.reporting.studies import (
    answerable,
    controls,
    gain_unit,
    gains,
    kernel_arms,
    sort_runs,
)
from tests.records.made_runs import made_run
from tests.reporting.made_studies import BETTER, RKD, made_runs, perplexities


def test_benchmarks_come_in_the_kits_order_then_by_name():
    names = ("ptb", "zebra", "mnist", "apples")
    runs = [run for name in names[::2] for run in made_runs(name, rkd=RKD)]
    strange = made_run("rkd", 0)
    for name in names[1::2]:
        settings = dict(strange.settings) | {"benchmark": name}
        runs.append(type(strange)(**{**vars(strange), "settings": settings}))
    assert list(sort_runs(runs)) == ["mnist", "ptb", "apples", "zebra"]


def test_no_runs_and_several_scales_are_refused():
    with pytest.raises(ValueError, match="at least one record"):
        sort_runs([])
    with pytest.raises(ValueError, match="mnist: expected records of one scale, got laptop, smoke"):
        sort_runs([made_run(benchmark="mnist"), made_run(benchmark="mnist", scale="laptop")])


def test_which_arms_are_what():
    studies = sort_runs(made_runs(rkd=RKD, kd=RKD, rbf=RKD, qrkd=RKD) + made_runs("ptb", kd=RKD))
    assert list(answerable(studies)) == ["mnist"]
    assert list(answerable(studies, "kd", "rkd")) == ["mnist"]
    apart = made_runs("imdb", rkd=RKD[:2]) + made_runs("imdb", qrkd=RKD)[2:]
    assert not answerable(sort_runs(apart))
    assert controls(studies) == ["rbf"]
    assert kernel_arms(["rbf", "kd", "qrkd", "mine", "detached"]) == ["qrkd", "rbf"]


def test_gains_are_positive_where_the_arm_is_better_in_the_unit_that_is_printed():
    (study,) = sort_runs(made_runs(rkd=RKD, qrkd=BETTER)).values()
    assert list(gains(study.summary("rkd"), "qrkd")) == pytest.approx([2, 3, 2, 2.6])
    scores = {"rkd": perplexities(RKD), "qrkd": perplexities(BETTER)}
    (study,) = sort_runs(made_runs("ptb", "test_perplexity", **scores)).values()
    assert gains(study.summary("rkd"), "qrkd").iloc[0] == pytest.approx(100 / 0.9 - 100 / 0.92)
    assert gain_unit("test_accuracy") == (100.0, "points")
    assert gain_unit("test_perplexity") == (1.0, "ppl") and gain_unit("test_kl") == (1.0, "")
