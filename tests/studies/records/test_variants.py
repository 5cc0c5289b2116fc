"""Runs that differ in more than arm and seed never share a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qrkd_lab.studies.provenance import Variant, one_home_a_seed, variants
from tests.studies.records.made_runs import made_run, own_run


def arms(variant):
    return sorted(run.settings["arm"] for run in variant.runs)


def test_an_arm_without_the_changed_setting_belongs_to_each_variant():
    runs = [made_run(arm) for arm in ("teacher", "kd", "qrkd")]
    runs += [made_run("qrkd", kernel_weight=weight) for weight in (10.0, 2.0)]
    default, *others = variants(runs)
    assert default.label == "default settings" and arms(default) == ["kd", "qrkd", "teacher"]
    assert [v.label for v in others] == ["kernel_weight=2", "kernel_weight=10"], "by size"
    assert all(arms(v) == ["kd", "qrkd", "teacher"] for v in others)
    weights = [[r.settings.get("kernel_weight") for r in v.runs][-1] for v in others]
    assert weights == [2.0, 10.0]


def test_settings_that_are_none_by_default_are_not_pooled():
    found = variants([made_run("qrkd"), made_run("qrkd", bandwidth=0.5), made_run("rkd")])
    assert [v.label for v in found] == ["default settings", "bandwidth=0.5"]
    assert [arms(v) for v in found] == [["qrkd", "rkd"]] * 2


def test_what_is_whole_in_another_is_left_out():
    runs = [made_run("teacher"), made_run("kd", epochs=3), made_run("rkd", epochs=3)]
    runs.append(made_run("qrkd", epochs=3, kernel_weight=5.0))
    (only,) = variants(runs)
    assert only.label == "epochs=3, kernel_weight=5" and len(only.runs) == 4


def test_other_data_are_another_variant_and_named():
    runs = [made_run("kd"), made_run("kd", sha256="cd" * 32), made_run("kd", epochs=3)]
    labels = [v.label for v in variants(runs)]
    assert labels == [
        "default settings; data invented (abababab)",
        "default settings; data invented (cdcdcdcd)",
        "epochs=3",
    ]


def test_foreign_records_are_told_apart_by_what_differs_within_an_arm():
    def tumours(arm, seed=0, **more):
        who = {"benchmark": "tumours", "scale": "laptop", "arm": arm, "seed": seed}
        return own_run(who | more)

    runs = [tumours("kd", s, epochs=25, version=v) for s in (0, 1) for v in (1, 2)]
    runs += [tumours("kd", epochs=25), tumours("teacher", epochs=9)]
    found = variants(runs)
    assert [v.label for v in found] == ["version=1", "version=2", "version=None"]
    assert [arms(v) for v in found] == [["kd", "kd", "teacher"]] * 2 + [["kd", "teacher"]]
    assert not any(v.known for v in found)
    assert variants([tumours("kd"), tumours("teacher", epochs=9)])[0].label == "as recorded"


def test_no_run_is_lost():
    runs = [made_run(arm, seed, **change) for arm in ("teacher", "rkd", "qrkd") for seed in (0, 1)
            for change in ({}, {"epochs": 2}, {"kernel_weight": 2.0})]  # fmt: skip
    runs.append(own_run({"benchmark": "digits", "scale": "smoke", "arm": "x", "seed": 0}))
    keys = {run.key for variant in variants(runs) for run in variant.runs}
    assert keys == {run.key for run in runs}


def test_one_benchmark_at_a_time():
    with pytest.raises(ValueError, match="digits smoke, mnist smoke"):
        variants([made_run(), made_run(benchmark="mnist")])
    assert variants([]) == []


def at(home, run, tmp_path):
    return replace(run, path=tmp_path / home / "digits" / "smoke" / run.key)


def test_a_seeds_arms_come_from_one_folder(tmp_path):
    mine = [at("own", made_run(arm), tmp_path) for arm in ("teacher", "kd")]
    kit = [
        at("kit", made_run(arm, s), tmp_path) for s in (0, 1) for arm in ("teacher", "kd", "rkd")
    ]
    chosen = one_home_a_seed(Variant({}, (*mine, *kit)))
    assert {run.path.parents[2].name for run in chosen.runs} == {"kit"}
    equal = one_home_a_seed(Variant({}, (*mine, *kit[:2], *kit[3:])))
    homes = {(run.settings["seed"], run.path.parents[2].name) for run in equal.runs}
    assert homes == {(0, "own"), (1, "kit")}, "the first where both have as many"


def test_the_folder_with_the_changed_arm_comes_first(tmp_path):
    mine = [at("own", made_run("teacher"), tmp_path)]
    mine.append(at("own", made_run("qrkd", kernel_weight=9.0), tmp_path))
    kit = [at("kit", made_run(arm), tmp_path) for arm in ("teacher", "scratch", "kd", "rkd")]
    chosen = one_home_a_seed(Variant({"kernel_weight": 9.0}, (*kit, *mine)))
    assert arms(chosen) == ["qrkd", "teacher"]
