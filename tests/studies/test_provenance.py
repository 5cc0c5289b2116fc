"""What a record's settings say: changes, the call that makes it again, variants, the table."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pandas as pd
import pytest
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.studies.arms import ARMS, BENCHMARKS, SCALES, TEACHER
from qrkd_lab.studies.benchmarks import benchmark_settings, given_settings
from qrkd_lab.studies.provenance import (
    Catalogue,
    one_kind,
    reproduce,
    run_table,
    set_words,
    variants,
    write_csv,
)
from qrkd_lab.studies.records import run_key
from qrkd_lab.studies.settings import parse_parameters
from tests.studies.made_runs import SHA, keep, made_run, own_run

# ---- what was given


@pytest.mark.parametrize(
    "benchmark, scale, given",
    [
        *((benchmark, scale, {}) for benchmark in BENCHMARKS for scale in SCALES),
        ("mnist", "laptop", {"student_widths": [3, 4, 5], "kernel_weight": 0.25}),
        ("digits", "smoke", {"train_size": None}),
        ("cifar10", "paper", {"kernel": "rbf", "bandwidth": 0.5}),
        ("mnist", "laptop", {"feature_map": "angle"}),
        ("mnist", "laptop", {"batch_size": 32, "feature_map": "angle", "layers": 3}),
        ("ptb", "laptop", {"tap": "mean"}),
        ("ptb", "laptop", {"teacher_model": "gpt2"}),
        ("imdb", "paper", {"vocabulary": 512, "precision": "float32", "teacher_model": None,
                           "teacher_layers": 2, "teacher_width": 128}),
    ],
)  # fmt: skip
def test_what_was_given_is_told(benchmark, scale, given):
    settings = benchmark_settings(benchmark, scale, **given)
    assert given_settings(settings) == given
    if benchmark in ("cifar10", "ptb"):  # whose defaults a folder has; it need not be there
        assert given_settings(settings.replace(benchmark="gone", seed=4)) == given
    for arm in () if given else ("teacher", "scratch", "rkd_only", "cosine"):
        assert given_settings(settings.replace(arm=arm)) == {}


@pytest.mark.parametrize("given", [{"kernel_weight": 3.0}, {"kernel_weights": {"qrkd": 3.0}}])
def test_what_an_arm_does_not_use_was_not_given_to_it(given):
    settings = benchmark_settings("mnist", **given)
    for arm in (TEACHER, *ARMS):
        uses = arm != TEACHER and "kernel" in ARMS[arm].terms and ARMS[arm].share is None
        found = given_settings(settings.replace(arm=arm))
        assert found == ({"kernel_weight": 3.0} if uses else {})


def test_a_training_that_was_stopped_is_one_of_fewer_epochs():
    settings = benchmark_settings("mnist", epochs=9, stop_after=4)
    assert given_settings(settings) == {"epochs": 4}
    planned = settings.replace(schedule="cosine")  # a rate that knew its end
    assert given_settings(planned) == {"epochs": 9, "stop_after": 4, "schedule": "cosine"}


# ---- the call that makes a run again


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return ql.compare(
        "digits", ["qrkd"], [3], "smoke", runs_dir=tmp_path_factory.mktemp("runs"),
        kernel_weight=0.5, student_widths=[4, 3, 9], train_size=128, progress=False,
    )  # fmt: skip


def test_the_python_gives_the_same_key_and_the_same_digits(study, tmp_path):
    run = study.runs[1]
    recipe = reproduce(run, runs_dir=str(tmp_path / "again"))
    assert "kernel_weight=0.5" in recipe.python
    assert "kernel_weight" not in reproduce(study.runs[0]).python
    assert "batch_size" not in recipe.python and "temperature" not in recipe.python
    assert "# python -m qrkd_lab compare digits" in str(recipe) and run.key in str(recipe)
    place = {}
    exec(str(recipe), place)
    for again, run in zip(place["study"].runs, study.runs, strict=True):
        assert again.key == run.key and again.path != run.path
        assert again.metrics == run.metrics and list(again.history) == list(run.history)


def test_a_folder_of_ones_own(tmp_path):
    for i in range(60):
        place = tmp_path / "shades" / ("test" if i % 3 == 0 else "train") / str(i % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 100 * (i % 2) + i).save(place / f"{i}.png")
    folder, options = str(tmp_path / "shades"), {"progress": False}
    run = ql.compare(folder, ["scratch"], 1, "smoke", runs_dir=tmp_path / "a", **options).runs[-1]
    assert 'ql.compare("path/to/shades"' in reproduce(run).python
    recipe = reproduce(run, folder, str(tmp_path / "again"))
    place = {}
    exec(recipe.python, place)  # the smoke scale's sizes were lowered to fit, and are written out
    assert place["study"].runs[-1].key == run.key


def test_every_value_comes_back_from_the_command_line_as_it_was():
    for value in (
        1 / 3, 5e-324, 1e22, -0.0, 1.0, True, None, [0.1, 1 / 3], {"rbf": 1 / 3}, [], {}, "it's",
        "é 😀", "[x", "{y", "'q", '"d', "7", "1e3", "010", "None", "true", "NaN", "", " x ", "a=b",
        "$HOME `ls`", "a\nb", "#c", "a: b", "*x", "back\\slash", "~",
    ):  # fmt: skip
        words = shlex.split(" ".join(set_words({"it": value})))
        assert repr(parse_parameters(words[1:])) == repr({"it": value})


TEXT = {"teacher_model": "7", "vocabulary": None, "learning_rate": 1e-3, "tap": "mean"}
IMAGES = {
    "kernel_weight": 1 / 3, "kd_weight": 0.1 + 0.2, "learning_rate": 1e-3 / 3, "bandwidth": 0.7,
    "epochs": 9, "stop_after": 5, "schedule": "cosine", "student_widths": (4, 3, 9),
}  # fmt: skip


@pytest.mark.parametrize("arm", ["teacher", "scratch", "rkd", "qrkd", "rbf", "kernel_only"])
@pytest.mark.parametrize("benchmark, changes", [("digits", IMAGES), ("ptb", TEXT)])
def test_the_call_beside_any_record_gives_its_settings(arm, benchmark, changes, monkeypatch):
    asked = benchmark_settings(benchmark, "smoke").replace(arm=arm, seed=3, **changes)
    run = replace(own_run(asked.effective()), given=given_settings(asked))
    recipe, made = reproduce(run), []

    def compare(benchmark, arms, seeds, scale, **rest):
        rest = {name: value for name, value in rest.items() if hasattr(asked, name)}
        base = benchmark_settings(benchmark, scale)
        made.extend(base.replace(arm=a, seed=s, **rest) for a in ("teacher", *arms) for s in seeds)

    monkeypatch.setattr(ql, "compare", compare)
    exec(recipe.python, {})
    words = shlex.split(recipe.shell)
    given = [word for word in words[words.index("smoke") + 1 : -2] if word != "--set"]
    compare(benchmark, [words[words.index("--arms") + 1]], [3], "smoke", **parse_parameters(given))
    keys = [run_key(one.effective(), run.data["sha256"]) for one in made if one.arm == arm]
    assert keys == [run.key, run.key]


@pytest.mark.parametrize("name", ["it's é 😀", '$x (y) & "z"'])
def test_a_folder_with_any_name_is_quoted(name):
    settings = benchmark_settings("cifar10", "smoke").replace(benchmark=name, arm="qrkd")
    run = own_run(settings.effective())
    recipe = reproduce(run, folder=f"/data/{name}", runs_dir=name)
    place = {"note": lambda benchmark, **options: (benchmark, options["runs_dir"])}
    exec(recipe.python.replace("ql.compare", "note"), place)
    words = shlex.split(recipe.shell)
    assert place["study"] == (words[4], words[-1]) == (f"/data/{name}", name)


@pytest.mark.parametrize("edit", [{"schedule": None}, {"arm": "ladder"}, {"kernel_weight": 10}])
def test_what_no_call_gives_is_said(edit):
    settings = benchmark_settings("mnist").effective() | edit  # a whole number: another key
    run = own_run({name: value for name, value in settings.items() if value is not None})
    recipe = reproduce(run)
    assert "No call of ql.compare makes this run" in recipe.notes[0]
    assert "qrkd_lab 0.1.0" in recipe.notes[0] and recipe.python == recipe.shell == ""


# ---- which of several kinds counts


OWN = [made_run(arm, seed) for arm in ("rkd", "qrkd") for seed in (0, 1)]


def test_of_several_kinds_of_an_arm_the_defaults_are_kept():
    twice = [made_run("qrkd", 1, epochs=3), made_run("qrkd", 5, epochs=3)]
    elsewhere = [made_run("qrkd", 0, "mnist", epochs=3)]  # nothing of it is there twice
    assert one_kind([*twice, *OWN, *elsewhere]) == ([*OWN, *elsewhere], twice)
    single = [*OWN, made_run("rbf", 0, kernel_weight=10.0)]
    assert one_kind(single) == (single, [])


def test_what_the_defaults_do_not_decide_is_refused():
    with pytest.raises(ValueError, match="of digits have several settings, and none the default"):
        one_kind([made_run("qrkd", 4, epochs=3), made_run("qrkd", 4, epochs=5)])
    with pytest.raises(ValueError, match="expected one run of qrkd seed 0, got 2; .* in the data"):
        one_kind([*OWN, made_run("qrkd", 0, sha256="cd" * 32)])


# ---- the studies among many runs


def arms(variant):
    return sorted(run.settings["arm"] for run in variant.runs)


def test_an_arm_without_the_changed_setting_belongs_to_each_variant():
    runs = [made_run(arm) for arm in ("teacher", "kd", "qrkd")]
    runs += [made_run("qrkd", kernel_weight=weight) for weight in (10.0, 2.0)]
    runs.append(made_run("qrkd", bandwidth=0.5))  # None by default
    default, *others = variants(runs)
    assert default.label == "default settings"
    labels = ["bandwidth=0.5", "kernel_weight=10", "kernel_weight=2"]
    assert [v.label for v in others] == labels
    assert all(arms(v) == ["kd", "qrkd", "teacher"] for v in (default, *others))
    assert [v.runs[-1].settings["kernel_weight"] for v in others[1:]] == [10.0, 2.0]
    changed = [made_run("kd", epochs=3), made_run("qrkd", epochs=3, kernel_weight=5.0)]
    (only,) = variants([*runs[:1], *changed])  # what is whole in another is left out
    assert only.label == "epochs=3, kernel_weight=5" and len(only.runs) == 3
    number = own_run({**runs[2].settings, "kernel_weight": 1})  # for 1.0: another key
    assert [arms(v) for v in variants([*runs[:3], number])] == [arms(default), ["qrkd"]]


def test_other_data_are_another_variant_and_named():
    runs = [made_run("kd"), made_run("kd", sha256="cd" * 32), made_run("kd", epochs=3)]
    assert [v.label for v in variants(runs)] == [
        "default settings; data invented (abababab)",
        "epochs=3; data invented (abababab)",
        "default settings; data invented (cdcdcdcd)",
    ]


def test_no_run_is_lost():
    runs = [made_run(arm, seed, **change) for arm in ("teacher", "rkd", "qrkd") for seed in (0, 1)
            for change in ({}, {"epochs": 2}, {"kernel_weight": 2.0})]  # fmt: skip
    runs.append(own_run({"benchmark": "digits", "scale": "smoke", "arm": "x", "seed": 0}))
    keys = {run.key for variant in variants(runs) for run in variant.runs}
    assert keys == {run.key for run in runs} and variants([]) == []


def test_a_run_that_is_there_twice_counts_once(tmp_path):
    first, second = (keep(tmp_path / home, made_run("kd"))[0] for home in ("own", "kit"))
    (variant,) = variants([first, second])
    assert [run.path for run in variant.runs] == [first.path]
    more = keep(tmp_path / "kit", made_run("rkd"))
    (variant,) = variants([first, second, *more])
    assert [run.path for run in variant.runs] == [second.path, more[0].path], "one teacher's"


def test_names_come_in_the_kits_order():
    runs = [made_run(benchmark=b, scale=s) for b, s in
            [("ptb", "smoke"), ("mnist", "paper"), ("mnist", "smoke")]]  # fmt: skip
    runs.append(own_run({"benchmark": "apples", "scale": "mine", "arm": "kd", "seed": 0}))
    runs += [made_run(arm, seed) for seed in (1, 0) for arm in ("qrkd", "kd")]
    catalogue = Catalogue([*runs, made_run("qrkd", epochs=2)])
    assert catalogue.benchmarks == ["digits", "mnist", "ptb", "apples"]
    assert catalogue.scales("mnist") == ["smoke", "paper"]
    assert catalogue.scales("apples") == ["mine"] and catalogue.scales("pears") == []
    assert catalogue.variants("pears", None) == {} and catalogue.runs("mnist", "smoke", "x") == []
    assert list(catalogue.variants("digits", "smoke")) == ["default settings", "epochs=2"]
    names = [run.name for run in catalogue.runs("digits", "smoke", "default settings")]
    assert names == ["kd seed 0", "kd seed 1", "qrkd seed 0", "qrkd seed 1"]


def test_studies_of_two_arms_over_benchmarks():
    runs = [made_run(arm, s, b) for arm in ("rkd", "qrkd", "kd") for s in range(3)
            for b in ("digits", "mnist")]  # fmt: skip
    runs += [made_run(arm, s, "cifar10", epochs=4) for arm in ("rkd", "qrkd") for s in range(3)]
    runs += [made_run("qrkd", s, "ptb") for s in range(3)]
    studies = Catalogue(runs).studies("smoke", "qrkd", "rkd")
    assert list(studies) == ["digits", "mnist", "cifar10 (epochs=4)"]
    assert {run.settings["arm"] for run in studies["mnist"].runs} == {"rkd", "qrkd"}
    assert Catalogue(runs).studies("laptop", "qrkd", "rkd") == {}


# ---- the table of runs


RUNS = [made_run("kd"), made_run("qrkd", kernel_weight=3.0), made_run("teacher")]


def test_a_row_a_run_with_what_was_changed():
    table = run_table(RUNS)
    assert list(table["arm"]) == ["teacher", "kd", "qrkd"] and "run" not in table
    assert list(table["changed"]) == ["", "", "kernel_weight=3"]
    assert set(table["data_sha256"]) == {SHA} and set(table["torch"]) == {"2.0.0"}
    assert table["key"].tolist() == [RUNS[2].key, RUNS[0].key, RUNS[1].key]


def test_the_file_holds_the_table_and_nothing_is_written_over(tmp_path):
    path = write_csv(run_table(RUNS), tmp_path / "new folder" / "a.csv")
    read = pd.read_csv(path, keep_default_na=False, na_values={"teacher_test_accuracy": [""]})
    assert read["test_accuracy"].tolist() == run_table(RUNS)["test_accuracy"].tolist()
    assert read["changed"].tolist() == ["", "", "kernel_weight=3"]
    before = path.read_bytes()
    for place, says in (
        (path, "name of a new file, .* left as it is"),
        (path / "a.csv", "could not be written"),
        (" ", "name of a new file"),
    ):
        with pytest.raises(ValueError, match=says):
            write_csv(run_table(RUNS), place)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="at least one run"):
        run_table([])
