"""What a parameters cell offers, and which values fit."""

from __future__ import annotations

import nbformat
import pytest

from qrkd_lab.notebook_parameters import (
    NotebookError,
    check_parameters,
    parse_parameters,
    read_parameters,
)

CELL = """\
from typing import Literal
seed = 0  # for everything that is random
lr = 1e-3
arms = [
    "kd",
    "rkd",
]
live = True
tag = "x"
sizes: list[int] = []
limit: int | None = None
scale: Literal["smoke", "laptop"] = "smoke"
anything = None
computed = 2 * seed
"""


def notebook(source, tags=("parameters",)):
    cell = nbformat.v4.new_code_cell(source)
    cell.metadata["tags"] = list(tags)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), cell])


def test_reads_names_types_and_defaults():
    found = [str(each) for each in read_parameters("n.ipynb", notebook(CELL)).values()]
    assert found == [
        "seed: int = 0",
        "lr: float = 0.001",
        "arms: list[str] = ['kd', 'rkd']",
        "live: bool = True",
        "tag: str = 'x'",
        "sizes: list[int] = []",
        "limit: int | None = None",
        "scale: Literal['smoke', 'laptop'] = 'smoke'",
        "anything: any = None",
        "computed: any = 2 * seed",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 3),
        ("lr", 0.1),
        ("lr", 1),
        ("arms", ["qrkd"]),
        ("arms", []),
        ("live", False),
        ("sizes", [1, 2]),
        ("limit", None),
        ("limit", 5),
        ("scale", "laptop"),
        ("anything", {"a": [1]}),
        ("computed", "x"),
    ],
)
def test_a_fitting_value_passes(name, value):
    assert check_parameters("n.ipynb", notebook(CELL), {name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", 3.0),
        ("seed", True),
        ("seed", "3"),
        ("seed", None),
        ("lr", "fast"),
        ("arms", "kd"),
        ("arms", ["kd", 1]),
        ("live", 1),
        ("tag", 7),
        ("sizes", [1, "2"]),
        ("limit", 0.5),
        ("scale", "paper"),
        ("anything", object()),
    ],
)
def test_a_value_of_another_type_stops(name, value):
    with pytest.raises(NotebookError, match=f"parameter '{name}': expected"):
        check_parameters("n.ipynb", notebook(CELL), {name: value})


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(NotebookError) as caught:
        check_parameters("n.ipynb", notebook(CELL), {"sead": 1})
    message = str(caught.value)
    assert "did you mean 'seed'" in message
    assert "seed: int = 0" in message and "arms: list[str] = ['kd', 'rkd']" in message


def test_tuples_become_the_lists_that_a_notebook_takes():
    assert check_parameters("n", notebook(CELL), {"arms": ("kd",)}) == {"arms": ["kd"]}


def test_no_parameters_cell_stops():
    with pytest.raises(NotebookError, match="no parameters cell"):
        read_parameters("n.ipynb", notebook(CELL, tags=("other",)))


def test_a_cell_that_is_not_python_stops():
    with pytest.raises(NotebookError, match="not plain Python"):
        read_parameters("n.ipynb", notebook("%matplotlib inline\nseed = 0"))


def test_values_of_the_command_line():
    pairs = [
        "a=3",
        "b=1e-3",
        "c=true",
        "d=None",
        "e=[kd, rkd]",
        "f=[1e-3, 2]",
        "g={x: 1}",
        "h=smoke",
        "i='7'",
        'j="no"',
        "k=no",
        "l=a=b",
        "m=",
    ]
    assert parse_parameters(pairs) == {
        "a": 3,
        "b": 0.001,
        "c": True,
        "d": None,
        "e": ["kd", "rkd"],
        "f": [0.001, 2],
        "g": {"x": 1},
        "h": "smoke",
        "i": "7",
        "j": "no",
        "k": "no",
        "l": "a=b",
        "m": "",
    }


LOOKALIKES = ["010", "0x10", "0o7", "1_000", "1:30", "+3", "no", "on", "~", "2020-01-01", ".inf"]


@pytest.mark.parametrize("word", [*LOOKALIKES, "NaN", "-Infinity", "9" * 5000, ""])
def test_what_only_looks_like_a_number_is_text_wherever_it_stands(word):
    values = parse_parameters([f"a={word}", f"b=[{word or repr(word)}, kd]", f"c={{x: '{word}'}}"])
    assert values == {"a": word, "b": [word, "kd"], "c": {"x": word}}


@pytest.mark.parametrize("number", ["8", "-3", "0.5", "1e-3", "true", "None"])
def test_a_number_is_the_same_number_wherever_it_stands(number):
    values = parse_parameters([f"a={number}", f"b=[{number}, kd]", f"c={{x: {number}, y: kd}}"])
    assert values["b"][0] == values["c"]["x"] == values["a"] != number


@pytest.mark.parametrize(
    "pairs",
    [
        ["seed"], ["=3"], ["a b=3"], ["a=1", "a=2"], ["a=[1, 2"], ["a={x: 1, x: 2}"],
        ['a={"x": 1, "x": 2}'], ["a={1: 2}"], ["a={[1]: 2}"], ["a=[!!python/name:os.system x]"],
        ["a=[!own x]"], ["a=" + 5000 * "["], ["a=" + 5000 * "[" + 5000 * "]"],
        ["a=" + 5000 * "{x: " + "1" + 5000 * "}"], ["a=[&b [*b]]"],
    ],
)  # fmt: skip
def test_what_is_no_value_stops_in_a_few_words(pairs):
    with pytest.raises(NotebookError) as caught:
        parse_parameters(pairs)
    assert len(str(caught.value)) < 600


LESSON = (
    'benchmark = "mnist"\nscale = "laptop"\narms = ["kd"]\ndevice = "auto"\nsettings: dict = {}'
)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"scale": "huge"}, "choose from smoke, laptop, paper"),
        ({"arms": ["kd", "qkd"]}, "choose from scratch, kd"),
        ({"device": "tpu"}, "tpu"),
        ({"benchmark": "mnits"}, "choose from digits, mnist"),
        ({"settings": {"epoch": 3}}, "unknown setting 'epoch'; choose from"),
        ({"settings": {"epochs": 0}}, "epochs: expected at least 1"),
        ({"settings": {"tap": "mean"}}, "tap is a setting of language benchmarks, not of mnist"),
    ],
)
def test_what_the_package_would_refuse_later_stops_now(values, says):
    with pytest.raises(NotebookError, match=f"n.ipynb: .*{says}"):
        check_parameters("n.ipynb", notebook(LESSON), values)


def test_what_the_package_knows_passes():
    fitting = {
        "benchmark": "ptb", "scale": "smoke", "arms": ["qrkd"], "device": "cpu",
        "settings": {"tap": "mean", "kernel_weight": 2.0},
    }  # fmt: skip
    assert check_parameters("n.ipynb", notebook(LESSON), fitting) == fitting
    folder = {"benchmark": "../my/pictures"}  # seen from the notebook's folder, so not looked for
    assert check_parameters("n.ipynb", notebook(LESSON), folder) == folder
