"""The table that is handed on."""

from __future__ import annotations

import pandas as pd
import pytest

from qrkd_lab.studies.provenance import run_table, write_csv
from tests.studies.records.made_runs import SHA, made_run, own_run


@pytest.fixture
def runs():
    return [made_run("kd"), made_run("qrkd", kernel_weight=3.0), made_run("teacher")]


def test_a_row_a_run_with_what_was_changed(runs):
    table = run_table(runs)
    assert list(table["arm"]) == ["teacher", "kd", "qrkd"] and "run" not in table
    assert list(table["changed"]) == ["", "", "kernel_weight=3"]
    assert set(table["data_sha256"]) == {SHA} and set(table["torch"]) == {"2.0.0"}
    assert table["key"].tolist() == [runs[2].key, runs[0].key, runs[1].key]
    foreign = own_run({"benchmark": "x", "scale": "y", "arm": "z", "seed": 0})
    assert run_table([foreign])["changed"][0].startswith("unknown")


def test_the_file_holds_the_table(runs, tmp_path):
    path = write_csv(run_table(runs), tmp_path / "new folder" / "a.csv")
    read = pd.read_csv(path, keep_default_na=False, na_values={"teacher_test_accuracy": [""]})
    assert read["test_accuracy"].tolist() == run_table(runs)["test_accuracy"].tolist()
    assert read["changed"].tolist() == ["", "", "kernel_weight=3"]


def test_nothing_is_written_over(runs, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mine")
    (tmp_path / "a-2.csv").write_text("mine too")
    with pytest.raises(ValueError, match=r"left as it is: give another name, e.g. .*a-3\.csv"):
        write_csv(run_table(runs), path)
    assert path.read_text() == "mine"


def test_what_cannot_be_written_is_said(runs, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="could not be written"):
        write_csv(run_table(runs), tmp_path / "file" / "a.csv")
    with pytest.raises(ValueError, match="expected a file"):
        write_csv(run_table(runs), " ")
    with pytest.raises(ValueError, match="at least one run"):
        run_table([])
