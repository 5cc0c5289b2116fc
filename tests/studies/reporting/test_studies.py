"""Studies of a report: sorted, told apart, refused where they are mixed."""

from __future__ import annotations

import pytest

from qrkd_lab.studies.report import answerable, controls, kernel_arms, sort_runs
from tests.studies.records.made_runs import made_run
from tests.studies.reporting.made_studies import RKD, made_runs


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
