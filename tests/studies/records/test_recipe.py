"""The code beside a record makes that record again."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace

import pytest
from PIL import Image

import qrkd_lab as ql
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.provenance import reproduce, set_words
from qrkd_lab.studies.records import read_runs, run_key
from qrkd_lab.studies.settings import ARMS, parse_parameters
from tests.studies.records.made_runs import made_run, own_run

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return ql.compare(
        "digits", ["qrkd"], [3], "smoke", runs_dir=tmp_path_factory.mktemp("runs"),
        kernel_weight=0.5, student_widths=[4, 3, 9], train_size=128, **QUIET,
    )  # fmt: skip


@pytest.mark.parametrize("which", [0, 1], ids=["teacher", "qrkd"])
def test_the_python_gives_the_same_key_and_the_same_digits(study, which, tmp_path):
    run = study.runs[which]
    recipe = reproduce(run, runs_dir=str(tmp_path / "again"))
    assert ("kernel_weight=0.5" in recipe.python) == (run.settings["arm"] == "qrkd")
    assert "batch_size" not in recipe.python and "temperature" not in recipe.python
    place = {}
    exec(recipe.python, place)
    (again,) = [other for other in place["study"].runs if other.name == run.name]
    assert again.key == run.key and again.path != run.path
    assert again.metrics == run.metrics
    assert list(again.history) == list(run.history)


def test_the_command_gives_the_same_key_too(study, tmp_path):
    run = study.runs[1]
    recipe = reproduce(run, runs_dir=str(tmp_path / "a b"))
    words = shlex.split(recipe.shell)
    assert words[:3] == ["python", "-m", "qrkd_lab"]
    subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, cwd=tmp_path)
    found = {other.name: other for other in read_runs(tmp_path / "a b")}
    assert found[run.name].key == run.key and found[run.name].metrics == run.metrics
    assert {other.settings["seed"] for other in found.values()} == {run.settings["seed"]}


def test_a_folder_of_ones_own(tmp_path):
    for i in range(60):
        place = tmp_path / "shades" / ("test" if i % 3 == 0 else "train") / str(i % 2)
        place.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 100 * (i % 2) + i).save(place / f"{i}.png")
    folder = str(tmp_path / "shades")
    study = ql.compare(folder, ["scratch"], 1, "smoke", runs_dir=tmp_path / "runs", **QUIET)
    run = study.runs[-1]
    assert 'ql.compare("path/to/shades"' in reproduce(run).python
    assert any("replace path/to" in note for note in reproduce(run).notes)
    recipe = reproduce(run, folder, str(tmp_path / "again"))
    assert not any("path/to" in note for note in recipe.notes)
    place = {}
    exec(recipe.python, place)  # the smoke scale's sizes were lowered to fit, and are written out
    assert place["study"].runs[-1].key == run.key


def test_defaults_are_not_written_out():
    recipe = reproduce(made_run("qrkd", 2, "mnist", "laptop"))
    assert recipe.python == (
        "import qrkd_lab as ql\n\n"
        'study = ql.compare("mnist", arms=["qrkd"], seeds=[2], scale="laptop",\n'
        '                   runs_dir="runs_again")\n'
    )
    assert recipe.shell == (
        "python -m qrkd_lab compare mnist --arms qrkd --seed 2 --scale laptop --runs-dir runs_again"
    )


def test_values_survive_the_shell():
    changes = {"teacher_model": "7", "vocabulary": None, "learning_rate": 1e-3, "tap": "mean"}
    recipe = reproduce(made_run("qrkd", 0, "ptb", "laptop", **changes))
    words = shlex.split(recipe.shell)
    pairs = words[words.index("--set") + 1 : words.index("--runs-dir")]
    changes.pop("vocabulary")  # a teacher from elsewhere brings its own
    assert parse_parameters(pairs) == changes


VALUES = [
    1 / 3, 0.1 + 0.2, 5e-324, 1e22, -0.0, 1.0, True, None, [0.1, 1 / 3], {"rbf": 1 / 3}, [], {},
    "a b", "it's", "é 😀", "[x", "{y", "'q", '"d', "7", "1e3", "010", "None", "True", "null", "NaN",
    "", " x ", "a=b", "$HOME `ls`", "a\nb", "#c", "a: b", "*x", "back\\slash", "~",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_every_value_comes_back_from_the_command_line_as_it_was(value):
    words = shlex.split(" ".join(set_words({"it": value})))
    assert repr(parse_parameters(words[1:])) == repr({"it": value})


@pytest.mark.parametrize("arm", ["teacher", *ARMS])
def test_the_call_beside_any_record_gives_its_settings(arm, monkeypatch):
    changes = {
        "kernel_weight": 1 / 3, "kd_weight": 0.1 + 0.2, "learning_rate": 1e-3 / 3, "bandwidth": 0.7,
        "epochs": 9, "stop_after": 5, "schedule": "cosine", "student_widths": (4, 3, 9),
    }  # fmt: skip
    asked = benchmark_settings("digits", "smoke").replace(arm=arm, seed=3, **changes)
    run = own_run(asked.effective())
    recipe, made = reproduce(run), []

    def compare(benchmark, arms, seeds, scale, **rest):
        rest = {name: value for name, value in rest.items() if hasattr(asked, name)}
        base = benchmark_settings(benchmark, scale)
        made.extend(base.replace(arm=a, seed=s, **rest) for a in ("teacher", *arms) for s in seeds)

    monkeypatch.setattr(ql, "compare", compare)
    exec(recipe.python, {})
    words = shlex.split(recipe.shell)
    given = [word for word in words[words.index("smoke") + 1 : -2] if word != "--set"]
    compare("digits", [words[words.index("--arms") + 1]], [3], "smoke", **parse_parameters(given))
    keys = [run_key(one.effective(), run.data["sha256"]) for one in made if one.arm == arm]
    assert keys == [run.key, run.key]


def test_a_folder_with_any_name_is_quoted():
    for name in ("it's", 'a "b"', "é 😀", "$x (y) & z"):
        run = own_run({**made_run().settings, "benchmark": name})
        recipe = reproduce(run, folder=f"/data/{name}", runs_dir=name)
        place = {"note": lambda benchmark, **options: (benchmark, options["runs_dir"])}
        exec(recipe.python.replace("ql.compare", "note"), place)
        words = shlex.split(recipe.shell)
        assert place["study"] == (f"/data/{name}", name)
        assert (words[4], words[-1]) == (f"/data/{name}", name)


def test_what_no_call_makes_is_said():
    who = {"benchmark": "tumours", "scale": "laptop", "arm": "ladder", "seed": 0}
    recipe = reproduce(own_run(who))
    assert recipe.python == recipe.shell == ""
    assert "the arm 'ladder'" in recipe.notes[0] and "qrkd_lab 0.1.0" in recipe.notes[0]
    run = made_run()
    edited = own_run(dict(run.settings) | {"kernel_weight": 1})  # a whole number: another key
    assert reproduce(run).python and not reproduce(edited).python
    assert "another kind of number" in reproduce(edited).notes[0]
    older = replace(run, settings={n: v for n, v in run.settings.items() if n != "schedule"})
    assert "lacks schedule" in reproduce(older).notes[0]


def test_it_reads_as_one_piece_of_code(study):
    text = str(reproduce(study.runs[1]))
    compile(text, "recipe", "exec")
    assert "# python -m qrkd_lab compare digits" in text and study.runs[1].key in text
