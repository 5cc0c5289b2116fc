"""Kinds: of two records of one arm and seed the one of the default settings counts."""

from __future__ import annotations

import pytest

from qrkd_lab.studies.provenance import has_own_settings, one_kind, taught
from tests.studies.records.made_runs import keep, made_run, own_run

OWN = [made_run(arm, seed) for arm in ("rkd", "qrkd") for seed in (0, 1)]


def test_own_settings_are_the_benchmarks_defaults():
    assert all(map(has_own_settings, OWN))
    assert not has_own_settings(made_run(kernel_weight=10.0))
    assert not has_own_settings(own_run(dict(OWN[0].settings) | {"magic": 1}))


def test_a_teacher_without_students_is_no_part_of_a_study():
    lonely = [made_run("teacher", seed) for seed in (1, 7)]
    elsewhere = made_run("teacher", 0, "mnist")
    assert taught([*lonely, *OWN, elsewhere]) == [lonely[0], *OWN]


def test_where_an_arm_and_seed_is_there_twice_the_defaults_are_kept():
    changed = [made_run("qrkd", 1, epochs=3), made_run("qrkd", 5, epochs=3)]
    elsewhere = [made_run("qrkd", 0, "mnist", epochs=3)]  # nothing of it is there twice
    assert one_kind([*changed, *OWN, *elsewhere]) == ([*OWN, *elsewhere], changed)


def test_seeds_of_other_settings_are_no_further_seeds_of_an_arm():
    changed = [made_run("qrkd", seed, kernel_weight=100.0) for seed in (2, 3)]
    assert one_kind([*OWN, *changed]) == (OWN, changed)
    odd = [made_run("qrkd", seed, kernel_weight=float(seed)) for seed in (20, 30)]
    with pytest.raises(ValueError, match="one record of digits qrkd in one setting, .* got 2:"):
        one_kind([*OWN[:2], *odd])


def test_where_nothing_is_there_twice_all_is_kept():
    runs = [*OWN, made_run("rbf", 0, kernel_weight=10.0)]
    assert one_kind(runs) == (runs, [])


def test_what_the_defaults_do_not_decide_is_refused_by_the_folders_names(tmp_path):
    two = keep(tmp_path, made_run("qrkd", 4, epochs=3), made_run("qrkd", 4, epochs=5))
    with pytest.raises(ValueError, match="one record of digits qrkd seed 4, .* got 2:") as refused:
        one_kind([*OWN, *two])
    said = str(refused.value)
    assert all(f"{run.path}: epochs={run.settings['epochs']}\n" in said for run in two)
    other_data = made_run("qrkd", 0, sha256="cd" * 32)
    with pytest.raises(ValueError, match=f"{other_data.key}: defaults"):
        one_kind([*OWN, other_data])
