"""What ran: commands that make the same keys, kinds that are counted, gaps that are named."""

from __future__ import annotations

from dataclasses import replace

from qrkd_lab.studies.report import sort_runs, what_ran
from tests.studies.records.made_runs import made_run
from tests.studies.reporting.made_studies import RKD, made_runs


def said(runs):
    return "\n".join(what_ran(sort_runs(runs), "make all"))


def test_the_commands_group_arms_of_equal_settings_and_seeds():
    runs = made_runs(teacher=RKD, rkd=RKD, kd=RKD, qrkd=RKD[:2])
    runs += [made_run("rbf", seed, "mnist", kernel_weight=3.0) for seed in (1, 3)]
    found = said(runs)
    start = "    python -m qrkd_lab compare mnist --arms"
    assert f"{start} kd rkd --seeds 4 --scale smoke\n" in found
    assert f"{start} qrkd --seeds 2 --scale smoke\n" in found
    assert f"{start} rbf --seed 1 3 --scale smoke --set kernel_weight=3.0\n" in found
    assert "    make all\n" in found and "teacher --seeds" not in found


def test_missing_seeds_are_named():
    assert "None: every arm of a benchmark has the same seeds." in said(made_runs(rkd=RKD, kd=RKD))
    found = said(made_runs(rkd=RKD, qrkd=RKD[:2], kd=RKD[:3]))
    assert "- mnist: qrkd lacks seeds 2 and 3" in found and "- mnist: kd lacks seed 3" in found


def test_what_differs_among_the_records_is_counted():
    runs = made_runs(rkd=RKD)
    runs[0] = replace(runs[0], device="cuda", versions={"torch": "2.1", "cpu": "AVX2"})
    found = said(runs)
    assert "- device: cpu (3 records) and cuda (1 record)" in found
    assert "- torch: 2.0.0 (3 records) and 2.1 (1 record)" in found
    assert "- cpu: AVX2 (1 record) and not recorded (3 records)" in found
    assert "from 4 records, finished between 2026-01-01 and 2026-01-04" in found
    assert "| mnist | 4 | 1 | 4 | invented | abababababab |" in found


def test_a_run_of_other_code_is_no_command_of_this_version():
    run = made_run("rkd", 0, "mnist")
    strange = replace(run, settings={**run.settings, "magic": 1})
    assert "--scale smoke  # not by this version: " in said([strange])
