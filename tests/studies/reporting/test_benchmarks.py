"""The sections by benchmark: every arm, its verdict, its spread and its cost."""

from __future__ import annotations

import pytest

from qrkd_lab.studies.report import by_benchmark, sort_runs
from qrkd_lab.studies.settings import TEACHER
from tests.studies.reporting.made_studies import BETTER, RKD, SAME, WORSE, made_runs


def said(runs):
    parts, figures = by_benchmark(sort_runs(runs))
    return "\n".join(parts), figures


def test_arms_with_their_verdict_wins_and_cost():
    found, figures = said(made_runs(teacher=BETTER, scratch=WORSE, rkd=RKD, qrkd=BETTER, rbf=SAME))
    assert "qrkd is better than rkd: +2.40 points" in found
    rows = {line.split(" | ")[0]: line for line in found.splitlines() if line.startswith("| ")}
    assert rows["| scratch"].startswith("| scratch | **worse** | 0 of 4 | 0.0")
    assert rows["| qrkd"].startswith("| qrkd | **better** | 4 of 4 | 0.99 [")
    assert rows["| qrkd"].endswith("| 2.29 | 2.00 x |")
    assert rows["| rbf"].startswith("| rbf | none shown | 2 of 4 | 0.50 [")
    assert rows["| rkd"] == "| rkd | the reference |  |  |  | 2.08 | 1.00 x |"
    assert "| teacher" not in found.split("| arm | against rkd")[1].split("\n\n")[0]
    assert "The teacher has 10 weights and took 1.0 s" in found
    assert list(figures) == ["kernel_arms"] and TEACHER not in figures["kernel_arms"].alt
    assert figures["kernel_arms"].alt.startswith(
        "Of the arms that add a kernel to rkd, qrkd is better on mnist; nothing else shows."
    )


def test_too_few_seeds_are_no_finding():
    _, figures = said(made_runs(rkd=RKD[:1], qrkd=SAME[:1]))
    alt = figures["kernel_arms"].alt
    assert alt.startswith("Arms that add a kernel to rkd: too few seeds to tell them from it.")


def test_variance_is_shared_out_among_rkd_and_the_arms_built_on_it():
    found, _ = said(made_runs(scratch=(0.1, 0.9, 0.2, 0.3), rkd=RKD, qrkd=RKD, rbf=RKD))
    assert "100 % lies between seeds (which pairing takes out), 0 % between arms" in found
    found, _ = said(made_runs(rkd=RKD, qrkd=SAME))


def test_the_smallest_difference_that_could_be_seen_grows_with_the_arms_that_are_asked():
    near = tuple(score + gain for score, gain in zip(RKD, (0.02, -0.01, 0.015, 0.0), strict=True))
    alone, _ = said(made_runs(rkd=RKD, qrkd=near))
    beside, _ = said(made_runs(rkd=RKD, qrkd=near, rbf=SAME, kd=WORSE))
    assert "| smallest seen, points |" in alone
    assert "| 2 of 4 | 0.64 [0.27, 0.93] | 2.93 | " in alone
    assert "| 2 of 4 | 0.64 [0.27, 0.93] | 4.30 | " in beside


def test_arms_without_a_common_seed_are_not_ranked():
    found, figures = said([*made_runs(rkd=RKD[:2], kd=RKD), *made_runs(qrkd=SAME, rbf=SAME)[2:]])
    assert "cannot be ranked by 0 shared seeds" in found and "nan" not in found and not figures
    _, figures = said([*made_runs(rkd=RKD[:2], qrkd=SAME), *made_runs(rbf=SAME)[2:]])
    assert "nan" not in figures["kernel_arms"].alt and "rbf" not in figures["kernel_arms"].alt


@pytest.mark.parametrize("arms", [{"scratch": RKD}, {"rkd": RKD[:1], "qrkd": SAME[:1]}])
def test_little_is_said_of_little(arms):
    found, _ = said(made_runs(**arms))
    assert "nan" not in found and "variance among" not in found
