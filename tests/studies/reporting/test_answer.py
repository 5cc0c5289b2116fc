"""The answer: follows from the numbers, in each of the ways that it can come out."""

from __future__ import annotations

import pytest

from qrkd_lab.studies.report import answer, glance, sort_runs
from tests.studies.reporting.made_studies import BETTER, RKD, SAME, WORSE, made_runs, perplexities


def said(*runs):
    return "\n".join(answer(sort_runs(sum(runs, []))))


def study(benchmark, qrkd, **controls):
    return made_runs(benchmark, rkd=RKD, qrkd=qrkd, **controls)


def text(benchmark, qrkd):
    scores = {"rkd": perplexities(RKD), "qrkd": perplexities(qrkd)}
    return made_runs(benchmark, "test_perplexity", **scores)


@pytest.mark.parametrize(
    ("first", "second", "conclusion"),
    [
        (BETTER, BETTER, "The claim holds in these runs: on 2 of 2 benchmarks `qrkd` is better"),
        (BETTER, SAME, "The claim is not confirmed by these runs: on 1 of 2 benchmarks `qrkd` is "
                       "better than `rkd` and on 1 of 2 benchmarks these seeds could show no"),
        (BETTER, WORSE, "The claim does not hold in these runs: on 1 of 2 benchmarks `qrkd` is "
                        "better than `rkd` and on 1 of 2 benchmarks `qrkd` is worse than `rkd`."),
        (SAME, SAME, "The claim is not confirmed by these runs: on 2 of 2 benchmarks these seeds "
                     "could show no difference between `qrkd` and `rkd`."),
        (SAME, RKD[:2], "on 1 of 2 benchmarks these seeds cannot tell."),
    ],
)  # fmt: skip
def test_the_conclusion_counts_the_verdicts(first, second, conclusion):
    assert conclusion in said(study("mnist", first), text("ptb", second))


def test_a_line_a_benchmark_and_what_the_seeds_leave_open():
    found = said(study("mnist", SAME), text("ptb", BETTER))
    assert "- **mnist**: no difference that these seeds could show. `qrkd` minus `rkd` is " in found
    assert "- **ptb**: better. `qrkd` minus `rkd` is -" in found
    assert "of which less is better, over 4 seeds" in found
    assert "leave room for an improvement of up to 2.41 points on mnist. Larger ones they" in found
    assert "at 95 % confidence for 2 benchmarks together (simultaneous" in found
    assert "leave room" not in said(study("mnist", BETTER))


def test_controls_are_asked_one_by_one():
    found = said(study("mnist", BETTER, rbf=BETTER, shuffled=RKD), study("cifar10", RKD, rbf=RKD))
    assert "Of 3 comparisons of `qrkd` with a control, it is better in 1 and shows no" in found
    assert "| qrkd against | rkd | rbf | shuffled |" in found
    assert "| mnist | **better**, +2.59 % | none shown, 0.00 % | **better**, +2.59 % |" in found
    assert "| cifar10 | none shown, 0.00 % | none shown, 0.00 % |  |" in found


def test_detached_is_a_check_and_no_control():
    found = said(study("mnist", BETTER, rbf=BETTER, detached=RKD))
    assert "Of 1 comparison of" in found and "| qrkd against | rkd | rbf |\n" in found
    assert "must end where `rkd` does, and did in 4 of 4 runs." in found
    assert "did in 3 of 4 runs." in said(study("mnist", BETTER, rbf=RKD, detached=(0.5, *RKD[1:])))
    assert "`detached` checks" not in said(study("mnist", BETTER, rbf=RKD))


def test_without_both_arms_there_is_no_answer():
    found = said(made_runs(kd=RKD, rkd=RKD))
    assert "**No answer**" in found and glance(sort_runs(made_runs(kd=RKD))) == ([], {})
    found = said(study("mnist", SAME), made_runs("ptb", kd=RKD))
    assert "Not asked, as no seed has both arms: ptb." in found


def test_arms_without_a_common_seed_are_no_answer():
    apart = [*made_runs(rkd=RKD[:2]), *made_runs(qrkd=SAME)[2:]]
    assert "**No answer**" in said(apart) and glance(sort_runs(apart)) == ([], {})
    found = said(study("cifar10", SAME), apart)
    assert "Not asked, as no seed has both arms: mnist." in found and "nan" not in found


def test_differences_without_spread_are_not_laid_to_the_number_of_seeds():
    found = said(study("mnist", tuple(score + 0.01 for score in RKD)))
    assert "on 1 of 1 benchmark these seeds cannot tell." in found and "few seeds" not in found


def test_digits_are_no_part_of_the_claim():
    found = said(study("digits", BETTER), study("mnist", SAME))
    assert "on 1 of 1 benchmark these seeds could show no difference" in found
    assert "For practice, and not counted: digits." in found and "- **digits**" not in found


def test_the_glance_has_the_figure_and_a_row_a_benchmark():
    parts, figures = glance(sort_runs(study("mnist", BETTER) + text("ptb", SAME)))
    found = "\n".join(parts)
    assert list(figures) == ["improvements"] and "](figures/improvements.png)" in found
    assert "| mnist | accuracy | 92.50 % | +2.40 points | +2.59 [" in found
    assert "| 4 of 4 | 0.9" in found and "| ptb | perplexity | 108.15 | " in found
