"""Limits are read off the records; words explain the arms that there are."""

from __future__ import annotations

from qrkd_lab.studies.report import limits, sort_runs, words
from tests.studies.records.made_runs import made_run
from tests.studies.reporting.made_studies import RKD, made_runs
from tests.studies.reporting.test_tuned import made_trace

STUDIES = sort_runs(made_runs(rkd=RKD, qrkd=RKD) + made_runs("ptb", rkd=RKD[:3]))


def test_limits_name_seeds_scale_and_what_was_not_tuned():
    found = "\n".join(limits(STUDIES, [made_trace(benchmark="mnist")]))
    assert "Seeds: mnist 4, ptb 3." in found and "Scale: smoke." in found
    assert "No tuning is recorded for ptb:" in found
    assert "at the edge of what was tried: mnist (qrkd)" in found
    assert "edge" not in "\n".join(limits(STUDIES, [])) and "Left out" not in found
    others = [made_run("qrkd", 0, "ptb"), made_run("qrkd", 0, "mnist")]
    assert "Left out: 2 records on ptb and mnist" in "\n".join(limits(STUDIES, [], others))


def test_seeds_that_chose_the_weights_are_named():
    found = "\n".join(limits(STUDIES, [made_trace(benchmark="mnist")]))
    assert "On mnist the weights were chosen by validation scores of seeds 0 and 1, which" in found
    apart = sort_runs(made_runs(rkd=RKD, qrkd=RKD)[2::4])
    assert "weights were chosen" not in "\n".join(limits(apart, [made_trace(benchmark="mnist")]))


def test_only_arms_that_are_there_are_explained():
    found = "\n".join(words(STUDIES))
    assert "| `qrkd` | rkd + quantum kernel |" in found and "`shuffled`" not in found
