"""Which studies there are among many runs."""

from __future__ import annotations

from qrkd_lab.studies.provenance import Catalogue
from tests.studies.records.made_runs import keep, made_run, own_run


def test_names_come_in_the_kits_order():
    runs = [made_run(benchmark=b, scale=s) for b, s in
            [("ptb", "smoke"), ("mnist", "paper"), ("mnist", "smoke")]]  # fmt: skip
    runs.append(own_run({"benchmark": "apples", "scale": "mine", "arm": "kd", "seed": 0}))
    catalogue = Catalogue(runs)
    assert catalogue.benchmarks == ["mnist", "ptb", "apples"]
    assert catalogue.scales("mnist") == ["smoke", "paper"]
    assert catalogue.scales("apples") == ["mine"] and catalogue.scales("pears") == []
    assert catalogue.variants("pears", None) == {} and catalogue.runs("mnist", "smoke", "x") == []


def test_the_runs_of_a_variant_by_arm_and_seed():
    runs = [made_run(arm, seed) for seed in (1, 0) for arm in ("qrkd", "kd")]
    runs.append(made_run("qrkd", epochs=2))
    catalogue = Catalogue(runs)
    assert list(catalogue.variants("digits", "smoke")) == ["default settings", "epochs=2"]
    names = [run.name for run in catalogue.runs("digits", "smoke", "default settings")]
    assert names == ["kd seed 0", "kd seed 1", "qrkd seed 0", "qrkd seed 1"]


def test_two_folders_are_not_mixed_within_a_seed(tmp_path):
    mine = keep(tmp_path / "own", made_run("teacher"), made_run("kd"))
    kit = keep(tmp_path / "kit", *[made_run(arm) for arm in ("teacher", "kd", "rkd")])
    catalogue = Catalogue([*mine, *kit])
    runs = catalogue.runs("digits", "smoke", "default settings")
    assert {run.path for run in runs} == {run.path for run in kit}
    assert catalogue.left_out("digits", "smoke", "default settings") == 2


def test_studies_of_two_arms_over_benchmarks():
    runs = [made_run(arm, s, b) for arm in ("rkd", "qrkd", "kd") for s in range(3)
            for b in ("digits", "mnist")]  # fmt: skip
    runs += [made_run(arm, s, "cifar10", epochs=4) for arm in ("rkd", "qrkd") for s in range(3)]
    runs += [made_run("qrkd", s, "ptb") for s in range(3)]
    studies = Catalogue(runs).studies("smoke", "qrkd", "rkd")
    assert list(studies) == ["digits", "mnist", "cifar10 (epochs=4)"]
    assert {run.settings["arm"] for run in studies["mnist"].runs} == {"rkd", "qrkd"}
    assert Catalogue(runs).studies("laptop", "qrkd", "rkd") == {}
