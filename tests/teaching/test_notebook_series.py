"""The committed notebooks: fresh outputs, one structure, live links, and a headless run of each."""

from __future__ import annotations

import ast
import functools
import os
import re
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import nbformat
import pytest
from jupyter_core.utils import ensure_event_loop
from PIL import Image
from sklearn.datasets import load_digits

from qrkd_lab.teaching.notebooks import execute, is_fresh
from qrkd_lab.teaching.parameters import read_parameters
from tests.forked_kernel import ForkedKernel

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBERED = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
EXPLORERS = [path for path in NOTEBOOKS if path.stem.startswith("explore_")]
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
IMAGES, TEXTS = ("06_mnist", "07_cifar10"), ("08_wikitext2", "09_penn_treebank", "10_imdb")
# Where the real data are, one of images and one of text run on them, the others on folders.
DATA, REAL = os.environ.get("QRKD_DATA_DIR"), ("06_mnist", "09_penn_treebank")
# More arms than a reader sees, as `make reproduce ARMS=` may ask for: one of each kind.
ALL_ARMS = ("07_cifar10", "10_imdb")
MORE = [
    "scratch", "kd", "rkd_only", "rkd", "qrkd", "rbf", "stretched_rbf", "no_entanglement",
    "shuffled", "detached", "distance_only",
]  # fmt: skip
NO_NUMBER = re.compile(r"(?<![\w-])(nan|inf)(?![\w-])", re.IGNORECASE)


@functools.cache
def read(path):
    return nbformat.read(path, as_version=4)


def prose(nb) -> str:
    return "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


LITERAL = (ast.Constant, ast.List, ast.Tuple)  # what interact makes a control of itself


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def anchors(text) -> set[str]:
    return {t.strip().replace(" ", "-") for t in re.findall(r"^#+ (.+)$", text, flags=re.M)}


def test_the_series_is_whole():
    assert [int(path.stem[:2]) for path in NUMBERED] == list(range(16))
    others = {path.stem for path in NOTEBOOKS} - {path.stem for path in NUMBERED + EXPLORERS}
    assert others == {"glossary", "reference", "solutions", "widget_doctor"}
    explorers = ("circuit", "distillation", "kernels", "records", "relations")
    assert [path.stem for path in EXPLORERS] == [f"explore_{name}" for name in explorers]


@each
def test_outputs_belong_to_the_present_cells_and_hold_no_folder_or_fault(path):
    assert is_fresh(path), f"{path.name} is stale: python -m qrkd_lab notebook {path} --in-place"
    assert path.stat().st_size < 1_000_000
    check_outputs(read(path))
    for output in (each for cell in code_cells(read(path)) for each in cell.outputs):
        said = output.get("text", "") + str(output.get("data", {}).get("text/plain", ""))
        assert not re.search(r"(?<!\S)/(tmp|home|root|work|Users)/", said), said


def check_outputs(nb) -> None:
    """No error, no warning, no number that is none, no picture without words."""
    assert not re.search(r"!\[\s*\]\(", prose(nb)), "an image in the text has no alt text"
    for cell in code_cells(nb):
        for output in cell.outputs:
            data = output.get("data", {})
            said = output.get("text", "") + str(data.get("text/plain", ""))
            assert output.output_type != "error", cell.source
            assert "Warning" not in said, said
            shown = "shows-nan" in cell.metadata.get("tags", [])
            assert shown or not NO_NUMBER.search(said), f"{cell.source}\n-> {said}"
            if any(kind.startswith("image/") for kind in data):
                assert re.search(r'alt="[^"]{20,}"', data.get("text/html", "")), cell.source


@each
def test_the_structure_is_that_of_all(path):
    """Parameters, then versions; small cells in prose; ids; one title and ordered headings."""
    nb = read(path)
    first, second, *_ = code_cells(nb)
    assert first.metadata.get("tags") == ["parameters"]
    assert read_parameters(path.name, nb).keys() >= {"scale"}
    last = ast.parse(second.source).body[-1]
    assert ast.unparse(last) == "versions()", "results depend on versions: show them"
    kinds = [cell.cell_type for cell in nb.cells]
    assert all(pair != ("code", "code") for pair in zip(kinds, kinds[1:]))
    assert len({cell.id for cell in nb.cells}) == len(nb.cells)
    sizes = [sum(map(bool, map(str.strip, cell.source.splitlines()))) for cell in code_cells(nb)]
    assert statistics.median(sizes) <= 8 and max(sizes) <= 40
    assert len(prose(nb).split()) >= 5 * sum(sizes)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", prose(nb), flags=re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:]))


@each
def test_labels_of_controls_are_not_cut_off(path):
    """``interact`` labels a control by its argument's name, and has room for nine letters."""
    nodes = (n for cell in code_cells(read(path)) for n in ast.walk(ast.parse(cell.source)))
    for call in (n for n in nodes if isinstance(n, ast.Call)):
        if ast.unparse(call.func) == "interact":
            own = [word.arg for word in call.keywords if isinstance(word.value, LITERAL)]
            assert not [name for name in own if len(name) > 9], ast.unparse(call)


@each
def test_links_inside_lead_somewhere(path):
    text = prose(read(path))
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in anchors(text), f"#{target}"
    for image in re.findall(r"!\[[^\]]+\]\(([\w./-]+)\)", text):
        assert (FOLDER / image).exists(), image
    for target, part in re.findall(r"\]\(([\w./-]+\.ipynb)(?:#([^)]+))?\)", text):
        assert (FOLDER / target).exists(), target
        assert not part or part in anchors(prose(read(FOLDER / target))), f"{target}#{part}"


def test_each_leads_to_its_neighbours_and_to_the_solutions_and_some_to_the_explorers():
    for number, path in enumerate(NUMBERED):
        text = prose(read(path))
        for neighbour in {*NUMBERED[max(0, number - 1) : number + 2]} - {path}:
            links = text.count(f"]({neighbour.name})")
            assert links >= 2, f"{neighbour.name}: at the top and at the end, found {links}"
        assert "](solutions.ipynb" in text
        assert f"]({path.name}" in prose(read(FOLDER / "solutions.ipynb"))
    course = "".join(prose(read(path)) for path in NUMBERED)
    for path in EXPLORERS:
        assert f"]({path.name})" in course, f"no notebook of the course leads to {path.name}"
        nb = read(path)
        left = "".join(
            each.get("data", {}).get("text/html", "") for each in code_cells(nb)[2].outputs
        )
        assert "qrkd-still" in left and "<img" in left, "its still is what a saved notebook shows"
        assert f"](images/{path.stem}.png)" in nb.cells[0].source


# Headless runs: every notebook once, two at a time, each in a folder of its own.


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small benchmark of images and one of text, for notebooks that take any."""
    home = tmp_path_factory.mktemp("benchmarks")
    digits = load_digits()
    for i, (pixels, label) in enumerate(zip(digits.images[:600], digits.target[:600])):
        place = home / "pictures" / ("test" if i % 4 == 0 else "train") / f"class {label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15).astype("uint8")).resize((16, 16)).save(place / f"{i}.png")
    (home / "stories").mkdir()
    words = "the a cat dog sat ran on under mat house and but it was not red".split()
    for part, count in (("train", 6000), ("valid", 800), ("test", 800)):
        said = [words[(i * i + 3 * i // 7) % len(words)] for i in range(count)]
        lines = [" ".join(said[at : at + 12]) + " .\n" for at in range(0, count, 12)]
        (home / "stories" / f"{part}.txt").write_text("".join(lines))
    return {**dict.fromkeys(IMAGES, home / "pictures"), **dict.fromkeys(TEXTS, home / "stories")}


@pytest.fixture(scope="module")
def headless(request, folders, tmp_path_factory):
    """Name -> a future of the executed notebook. Those that are asked for start at once."""
    chosen = {item.callspec.id for item in request.session.items if "headlessly" in item.name}

    def run(path):
        place = tmp_path_factory.mktemp(path.stem)
        wanted = {
            "scale": "smoke", "seeds": 3, "jobs": 1, "published": False, "other": "digits",
            "runs_dir": str(place / "runs"), "out_dir": str(place / "out"),
        }  # fmt: skip
        if path.stem in folders:
            wanted["seeds"] = [1, 3, 4]  # which, as well as how many
        if path.stem in folders and not (DATA and path.stem in REAL):
            wanted["benchmark"] = str(folders[path.stem])
        if path.stem in ALL_ARMS:
            wanted["arms"] = MORE
        known = read_parameters(path.name, read(path))
        values = {name: value for name, value in wanted.items() if name in known}
        try:
            return execute(path, place, values, timeout=180, progress=False, cwd=path.parent)
        finally:  # else it is found open when the thread has gone, in the midst of another test
            ensure_event_loop().close()

    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    launch = "jupyter_client.provisioning.local_provisioner.launch_kernel"
    with (
        mock.patch.dict(os.environ, one_thread),
        mock.patch(launch, ForkedKernel),
        ThreadPoolExecutor(2) as pool,
    ):
        yield {path: pool.submit(run, path) for path in NOTEBOOKS if path.stem in chosen}
        pool.shutdown(cancel_futures=True)


@each
def test_it_runs_headlessly(path, headless):
    executed = headless[path].result()
    check_outputs(nbformat.read(executed, as_version=4))
    if path.stem == "00_quickstart":
        written = {file.name for file in (executed.parent / "out").iterdir()}
        assert {"summary.md", "results.csv", "scores.png", "differences.png"} <= written
