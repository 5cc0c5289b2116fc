"""What the kernels did: alignment where it is recorded, and what it meant for the score."""

from __future__ import annotations

from qrkd_lab.studies.report import answer, sort_runs, what_kernels_did
from tests.studies.reporting.made_studies import BETTER, RKD, SAME, WORSE, made_runs


def said(*runs):
    parts, figures = what_kernels_did(sort_runs(sum(runs, [])))
    return "\n".join(parts), figures


def test_records_without_alignment_show_what_they_hold():
    found, figures = said(made_runs(rkd=RKD, qrkd=SAME))
    assert not figures and "The records of mnist were made before alignment" in found
    assert "| arm | kernel loss, first epoch | last epoch | agreement, % |" in found
    assert "| rkd |  |  | 50.00 |" in found and "| qrkd | 0.5000 | 0.2500 | 50.00 |" in found


def test_nearer_kernels_and_what_they_were_worth():
    seen = {"rkd": RKD, "qrkd": BETTER, "rbf": SAME}
    found, figures = said(made_runs(alignments=seen, rkd=RKD, qrkd=SAME, rbf=SAME))
    assert "the kernel of `qrkd` is nearer to the teacher's than that of `rkd` (+0.024 [" in found
    assert "and its score shows no difference. The term did what it is for, but" in found
    assert "| qrkd | 0.949 |" in found
    assert "The teacher's own matrix, through the same kernel: spread 0.250 and rank 7.0." in found
    assert list(figures) == ["alignment"]
    assert figures["alignment"].alt.startswith("On all benchmarks shown, the kernel of qrkd came")


def test_benchmarks_with_and_without_alignment_stand_side_by_side():
    seen = {"rkd": RKD, "qrkd": WORSE}
    old = made_runs("cifar10", rkd=RKD, qrkd=SAME)
    found, figures = said(made_runs(alignments=seen, rkd=RKD, qrkd=BETTER), old)
    assert "records of cifar10 were" in found and "**cifar10**" not in found
    assert "is farther from the teacher's than that of `rkd`" in found
    assert figures["alignment"].alt.startswith("No arm's kernel came nearer")


def test_the_verdict_on_a_score_is_that_of_the_first_page():
    """Corrected for all benchmarks, of which one alone has alignment."""
    near = tuple(a + d for a, d in zip(RKD, (0.02, 0.03, 0.005, 0.022), strict=True))
    seen = {"rkd": RKD, "qrkd": BETTER}
    runs = [made_runs(alignments=seen, rkd=RKD, qrkd=near), made_runs("ptb", rkd=RKD, qrkd=SAME)]
    assert "- **mnist**: no difference" in "\n".join(answer(sort_runs(sum(runs, []))))
    assert "and its score shows no difference" in said(*runs)[0]
    assert "and its score is better" in said(runs[0])[0]


def test_alignment_that_no_seed_has_of_both_is_not_compared():
    runs = made_runs(alignments={"rkd": RKD, "qrkd": BETTER}, rkd=RKD, qrkd=SAME)
    for run in runs:
        if (run.settings["arm"] == "rkd") == (run.settings["seed"] < 2):
            del run.metrics["kernel_alignment"]
    found, figures = said(runs)
    assert not figures and "the kernel of `qrkd` is" not in found


def test_an_arm_that_is_missing_is_not_spoken_of():
    found, figures = said(made_runs(alignments={"kd": RKD}, kd=RKD))
    assert not figures and "were made before" not in found and "| kd | 0.925 |" in found
    found, figures = said(made_runs(alignments={"qrkd": RKD}, rkd=RKD, qrkd=RKD))
    assert not figures and "| qrkd | 0.925 |" in found
