"""What a parameters cell offers, and which values fit."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import nbformat
import pytest

import qrkd_lab as ql
from qrkd_lab.studies.settings import parse_parameters
from qrkd_lab.teaching.parameters import NotebookError, check_parameters, read_parameters

CELL = """\
seed = 0  # for everything that is random
arms = [
    "kd",
    "rkd",
]
limit = None
scale = "smoke"
computed = 2 * seed
"""


def notebook(source, tags=("parameters",)):
    cell = nbformat.v4.new_code_cell(source)
    cell.metadata["tags"] = list(tags)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])


def test_names_are_checked_and_values_become_what_json_knows():
    assert read_parameters("n.ipynb", notebook(CELL)) == {
        "seed": "0", "arms": "['kd', 'rkd']", "limit": "None", "scale": "'smoke'",
        "computed": "2 * seed",
    }  # fmt: skip
    fitting = {"arms": ("kd",), "limit": None, "scale": {"a": [1.5, True]}}
    ready = check_parameters("n", notebook(CELL), fitting)
    assert ready == {"arms": ["kd"], "limit": None, "scale": {"a": [1.5, True]}}
    with pytest.raises(NotebookError, match="(?s)did you mean 'seed'.*arms = .'kd', 'rkd'"):
        check_parameters("n", notebook(CELL), {"sead": 1})
    for value in (object(), float("nan"), [float("inf")]):
        with pytest.raises(NotebookError, match="n: expected parameters that are finite numbers"):
            check_parameters("n", notebook(CELL), {"seed": value})
    with pytest.raises(NotebookError, match="no parameters cell"):
        read_parameters("n.ipynb", notebook(CELL, tags=("other",)))


def test_values_of_the_command_line():
    pairs = [
        "a=3", "b=1e-3", "c=true", "d=None", "e=[kd, rkd]", "f=[1e-3, 2]", "g={x: 1}", "h=smoke",
        "i='7'", 'j="no"', "k=no", "l=a=b", "m=",
    ]  # fmt: skip
    assert parse_parameters(pairs) == {
        "a": 3, "b": 0.001, "c": True, "d": None, "e": ["kd", "rkd"], "f": [0.001, 2],
        "g": {"x": 1}, "h": "smoke", "i": "7", "j": "no", "k": "no", "l": "a=b", "m": "",
    }  # fmt: skip


@pytest.mark.parametrize("word", ["010", "0x10", "1_000", "no", "~", "2020-01-01", ".inf", ""])
def test_what_only_looks_like_a_number_is_text_wherever_it_stands(word):
    values = parse_parameters([f"a={word}", f"b=[{word or repr(word)}, kd]", f"c={{x: '{word}'}}"])
    assert values == {"a": word, "b": [word, "kd"], "c": {"x": word}}
    assert parse_parameters(["b=[-3, 1e-3]", "c={x: true}"]) == {"b": [-3, 0.001], "c": {"x": True}}


@pytest.mark.parametrize(
    "pairs",
    [
        ["seed"], ["=3"], ["a b=3"], ["a=1", "a=2"], ["a=[1, 2"],
        ["a={[1]: 2}"], ["a=" + 5000 * "["],
        ["a=" + 5000 * "{x: " + "1" + 5000 * "}"], ["a=[&b [*b]]"],
    ],
)  # fmt: skip
def test_what_is_no_value_stops_in_a_few_words(pairs):
    with pytest.raises(ValueError) as caught:
        parse_parameters(pairs)
    assert len(str(caught.value)) < 600


# The ranges of every parameter of every notebook

NOTEBOOKS = {
    path.stem: nbformat.read(path, as_version=4)
    for path in sorted(Path(__file__).parents[2].glob("notebooks/*.ipynb"))
}
EVERY = [(stem, name) for stem, nb in NOTEBOOKS.items() for name in read_parameters(stem, nb)]
STUDIES = ("06_mnist", "07_cifar10", "08_wikitext2", "09_penn_treebank", "10_imdb")
PATHS = ("runs_dir", "out_dir", "data_dir", "reviews")
NEVER = [
    [],
    {},
    "",
    "3",
    -1,
    0,
    -0.5,
    math.nan,
    math.inf,
    True,
    None,
    ["kd"],
    [0],
    [[]],
    object(),
]
BAD = {
    "scale": ["huge", "Laptop", ["smoke"]],
    "arms": ["kd", ["rkd", "kdd"], ["scratch", "kd", "rkd", "qrkd", "kd"], [["kd"]]],
    "seeds": [3.0, [], [1, 1], [-1], [1.5], [True], "5"],
    "seed": [2**32, 1.0, [1]],
    "jobs": [-2, 1.0, 10**6],
    "device": ["tpu", "meta", "cuda:99", "GPU"],
    "published": [1, "true", "no"],
    "runs_dir": [__file__, f"{__file__}/runs"],
    "out_dir": [__file__],
    "data_dir": [__file__],
    "reviews": [__file__],
    "benchmark": ["mnits", "MNIST", ["mnist"]],
    "other": ["mnits", "ptb", "imdb"],
    "settings": [
        {"epoch": 3}, {"epochs": 0}, {"epochs": "3"}, {"learning_rate": math.nan}, {"seed": 1},
        {"arm": "kd"}, {"scale": "smoke"}, {"benchmark": "mnist"}, {"temperature": True}, [1],
    ],
    "margin": [1000, 0.0, "0.5", [0.5]],
    "draws": [1, 29, 30.0],
    "shots_a_second": [-1e3, 1e-9, "1e3"],
    "shot_price": [-1e-6, "free"],
    "circuit_price": [-1e-6, "free"],
    "points": [2, 9, 5.0, [[0, 0], [1, 1]], [[0], [1], [2]]],
    "notebook": ["glossary", "glossary.py"],
}  # fmt: skip


def fine(stem, name, value) -> bool:
    """Whether a value of NEVER is one that this parameter can have after all."""
    match name:
        case "seed" | "shot_price" | "circuit_price":
            return type(value) is int and value == 0
        case "jobs":
            return value == -1
        case "settings":
            return value == {}
        case "published":
            return value is True
        case "seeds":
            return value == [0] and stem in STUDIES and stem != "07_cifar10"
        case _ if name in PATHS:
            return value == "3" or value is None
    return False


def in_the_notebook(stem, values):
    """The notebook's own call of ``check_values``, alone, on defaults with some replaced."""
    first, second = [cell for cell in NOTEBOOKS[stem].cells if cell.cell_type == "code"][:2]
    (call,) = (
        node for node in ast.parse(second.source).body if "check_values" in ast.unparse(node)
    )
    namespace = {"ql": ql}
    exec(first.source, namespace)
    exec(ast.unparse(call), namespace | values)


def test_a_folder_of_a_course_that_cannot_be_written_is_said_first(tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_RUNS_DIR", str(tmp_path / "runs"))
    ql.check_values(scale="smoke", runs_dir=None)
    monkeypatch.setattr("qrkd_lab.files.os.access", lambda *_: False)
    with pytest.warns(UserWarning, match=r"runs cannot be written: .* \$QRKD_RUNS_DIR"):
        ql.check_values(scale="smoke", runs_dir=None)


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_notebooks(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2] / "notebooks")


@pytest.mark.parametrize(("stem", "name"), EVERY)
def test_a_value_that_cannot_be_stops_before_anything_is_computed(stem, name):
    bad = BAD[name] + [value for value in NEVER if not fine(stem, name, value)]
    bad += [["rkd", "qrkd"]] if name == "arms" and stem != "00_quickstart" else []
    bad += [1, [0]] if (stem, name) == ("07_cifar10", "seeds") else []
    bad += [[0, 1]] if name == "seeds" and stem not in STUDIES else []
    bad += [{"kernel_weight": 3.0}] if (stem, name) == ("12_which_knob", "settings") else []
    bad += [21] if (stem, name) == ("explore_relations", "seed") else []
    bad += ["ptb"] if name == "benchmark" and stem[:2] in ("06", "07", "11") else []
    bad += ["mnist", "imdb-sentiment"] if name == "benchmark" and stem[:2] in ("08", "09") else []
    for value in bad:
        with pytest.raises(ValueError) as caught:
            in_the_notebook(stem, {name: value})
        said = str(caught.value)
        assert f"parameter {name!r}: expected " in said and "got " in said, said


@pytest.mark.parametrize("stem", NOTEBOOKS)
def test_what_a_notebook_offers_passes(stem, tmp_path):
    offered = read_parameters(stem, NOTEBOOKS[stem])
    good = {
        "scale": ["smoke", "laptop", "paper"], "seed": [0, 20], "jobs": [1, -1, 64],
        "seeds": [2, 25] + [[4, 7]] * (stem in STUDIES), "published": [True, False],
        "arms": [["scratch", "kd", "rkd", "qrkd"], list(ql.ARMS)], "device": ["auto", "cpu"],
        "runs_dir": [str(tmp_path / "new" / "runs"), "../runs", "~/runs"], "settings": [{}],
        "points": [3, 8, [[0, 0], [1, 0.5], [2, 2]]], "data_dir": [None, str(tmp_path)],
        "shot_price": [0, 0.0, 1e-9], "circuit_price": [1], "shots_a_second": [1, 1e6],
        "margin": [1, 0.1], "draws": [30],
    }  # fmt: skip
    second = [cell for cell in NOTEBOOKS[stem].cells if cell.cell_type == "code"][1]
    (call,) = (n for n in ast.walk(ast.parse(second.source))
               if isinstance(n, ast.Call) and ast.unparse(n.func) == "ql.check_values")  # fmt: skip
    checked = {word.arg for word in call.keywords if isinstance(word.value, ast.Name)}
    assert checked == set(offered), "each is checked"
    in_the_notebook(stem, {})
    for name in good.keys() & offered.keys():
        for value in good[name]:
            in_the_notebook(stem, {name: value})


def test_a_folder_of_ones_own_is_of_the_kind_that_the_notebook_takes(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "train.txt").write_text("a b c\n")
    (tmp_path / "pictures").mkdir()
    for stem, mine, other in (
        ("06_mnist", "pictures", "text"),
        ("09_penn_treebank", "text", "pictures"),
    ):
        in_the_notebook(stem, {"benchmark": str(tmp_path / mine)})
        with pytest.raises(ValueError, match="parameter 'benchmark'"):
            in_the_notebook(stem, {"benchmark": str(tmp_path / other)})

    with pytest.raises(ValueError, match="'rbf' would equal 'qrkd'"):
        in_the_notebook("06_mnist", {"settings": {"kernel": "rbf"}})
