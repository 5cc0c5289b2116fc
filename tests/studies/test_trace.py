"""Traces: saved and read whole, the choice is the best mean, ties and edges are said."""

from __future__ import annotations

import dataclasses
import json
import shlex

import pytest

from qrkd_lab.cli import main
from qrkd_lab.files import RecordError, sealed, unsealed
from qrkd_lab.studies.records import PUBLISHED
from qrkd_lab.studies.settings import Settings, parse_parameters
from qrkd_lab.studies.tune import DIGEST, Trace, Trial, best_weights, read_trace, weight_settings
from tests.hazards import flipped


def trial(arm, weight, seed, score, stage="kernel"):
    return Trial(stage, arm, weight, seed, score, 1.0)


TRIALS = (
    trial("kd", 0.1, 0, 0.90, "kd"), trial("kd", 1.0, 0, 0.80, "kd"),
    trial("kd", 0.1, 1, 0.70, "kd"), trial("kd", 1.0, 1, 0.85, "kd"),
    trial("rkd", 0.1, 0, 0.5, "rkd"), trial("rkd", 1.0, 0, 0.5, "rkd"),
    trial("qrkd", 0.1, 0, None), trial("qrkd", 1.0, 0, 0.2),
    trial("rkd", 0.1, 0, 0.99),
)  # fmt: skip


@pytest.fixture
def trace():
    data = {"name": "digits", "source": "here", "sha256": "ab"}
    asked = ("digits", "smoke", "validation_accuracy", True, (0.1, 0.3, 1.0), 1, 4)
    return Trace(*asked, TRIALS, data, {"torch": "2"}, "cpu")


def test_the_best_mean_is_chosen_of_equals_the_smallest_and_none_that_diverged():
    assert best_weights(TRIALS, True) == {"kd": 1.0, "rkd": 0.1, "qrkd": 1.0}
    assert best_weights(TRIALS, False) == {"kd": 0.1, "rkd": 0.1, "qrkd": 1.0}


def test_a_choice_as_settings(trace):
    assert trace.settings == {
        "kd_weight": 1.0, "distance_weight": 0.1, "angle_weight": 0.2,
        "kernel_weights": {"qrkd": 1.0},
    }  # fmt: skip
    assert weight_settings({}) == {}
    assert parse_parameters(shlex.split(trace.as_options())) == trace.settings


AWKWARD = (1 / 3, 0.1 + 0.2, 1e-7, 123456.789, 1e22, 5e-324)


@pytest.mark.parametrize("weight", AWKWARD)
def test_a_choice_is_printed_as_the_very_number_that_was_chosen(weight, trace, tmp_path):
    scored = {"kd": 0.1, "rkd": 0.1, "qrkd": 0.1, "rbf": 0.1}
    trials = [trial(arm, weight, 0, 0.5, arm if arm in ("kd", "rkd") else "kernel")
              for arm in scored]  # fmt: skip
    overrides = {"learning_rate": weight, "bandwidth": None, "student_widths": [5, 2, 31]}
    found = dataclasses.replace(
        trace, weights=(weight,), trials=tuple(trials), overrides=overrides
    )  # fmt: skip
    assert parse_parameters(shlex.split(found.as_options())) == found.settings
    assert repr(weight).removesuffix(".0") in str(found)
    ways = found.lost_by(dataclasses.replace(found, weights=(weight * (1 + 2e-16),)), (), ())
    if weight > 1e-300:
        assert f"the weights {repr(weight).removesuffix('.0')}" in ways


def test_the_command_that_tune_prints_makes_the_study_that_it_chose(trace, monkeypatch, capsys):
    trials = tuple(dataclasses.replace(t, weight=t.weight / 3) for t in trace.trials)
    found = dataclasses.replace(trace, trials=trials, overrides={"qubits": 2})
    monkeypatch.setattr("qrkd_lab.studies.tune.tune", lambda *args, **options: found)
    place = ["--runs-dir", "a (b) $c", "--data-dir", "it's here"]
    assert main(["tune", "digits", "--scale", "smoke", *place]) == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("A study with it: ")
    asked = {}

    def compare(benchmark, arms, seeds, scale, jobs, runs_dir, data_dir, *args, **options):
        asked.update(benchmark=benchmark, arms=arms, scale=scale, places=[runs_dir, data_dir])
        asked["settings"] = {n: v for n, v in options.items() if n in dir(Settings)}
        raise ValueError("asked")

    monkeypatch.setattr("qrkd_lab.studies.compare.compare", compare)
    main(shlex.split(command)[3:])
    assert asked.pop("settings") == found.settings
    assert asked == {
        "benchmark": "digits", "scale": "smoke", "arms": ["kd", "rkd", "qrkd"],
        "places": [place[1], place[3]],
    }  # fmt: skip


def test_a_choice_at_the_edge_is_said(trace):
    assert trace.at_edge == ("kd", "rkd", "qrkd")
    inside = dataclasses.replace(trace, weights=(0.01, 0.1, 1.0, 10.0))
    assert inside.at_edge == () and "edge" not in str(inside) and "edge" in str(trace)


def test_the_table_has_a_row_a_candidate(trace):
    table = trace.table.set_index(["stage", "arm", "weight"])
    assert table.loc[("kd", "kd", 0.1), "score"] == pytest.approx(0.8)
    assert tuple(table.loc[("kd", "kd", 0.1), ["low", "high", "seeds"]]) == (0.7, 0.9, 2)
    assert table.loc[("kernel", "qrkd", 0.1), "diverged"] == 1
    assert list(table.index[table["chosen"]]) == [
        ("kd", "kd", 1.0), ("rkd", "rkd", 0.1), ("kernel", "qrkd", 1.0),
    ]  # fmt: skip


def test_what_was_saved_is_read_again(trace, tmp_path):
    path = trace.save(tmp_path)
    assert path == tmp_path / "digits" / "smoke" / "tuning.json"
    assert read_trace(path) == read_trace(path.parent) == trace


def test_settings_of_all_candidates_are_kept(trace, tmp_path):
    changed = dataclasses.replace(trace, overrides={"qubits": 2, "student_widths": [5, 2, 31]})
    assert read_trace(changed.save(tmp_path)) == changed != trace


def test_the_kits_own_traces_are_saved_as_they_were_byte_for_byte(tmp_path):
    """They are of a time when settings of all candidates were not kept; they had none."""
    for path in PUBLISHED.glob("*/*/tuning.json"):
        kept = read_trace(path)
        assert kept.overrides == {} and kept.save(tmp_path).read_bytes() == path.read_bytes()


def test_what_was_edited_or_cut_is_refused(trace, tmp_path):
    path = trace.save(tmp_path)
    held = json.loads(path.read_text())
    held["trials"][0]["score"] = 1.0
    path.write_text(json.dumps(held))
    with pytest.raises(RecordError, match="was edited"):
        read_trace(path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(RecordError, match=f"^{path} cannot be read .*Delete this file, and tune"):
        read_trace(path.parent)
    with pytest.raises(RecordError, match="cannot be read"):
        read_trace(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(trace, tmp_path):
    (tmp_path / "digits").write_text("a file")
    with pytest.raises(RecordError, match="cannot be written"):
        trace.save(tmp_path)


def test_a_turned_bit_changes_no_number(trace, tmp_path):
    path = trace.save(tmp_path)
    whole, kept = path.read_bytes(), 0
    for content in flipped(whole, 150):
        path.write_bytes(content)
        try:
            assert read_trace(path) == trace
            kept += 1
        except RecordError:
            pass
    assert kept < 75, "only white space says nothing"


ODD = {
    "no trials": {"trials": []},
    "trials as text": {"trials": "x"},
    "odd trial": {"trials": [{"arm": "kd"}]},
    "score as text": {"trials": [dataclasses.asdict(trial("kd", 0.1, 0, "x", "kd"))]},
    "arm as number": {"trials": [dataclasses.asdict(trial(3, 0.1, 0, 0.5, "kd"))]},
    "weights as text": {"weights": ["x"]},
    "one weight": {"weights": 1.0},
    "epochs as text": {"epochs": "1"},
    "no data": {"data": {}},
    "direction": {"higher_is_better": "yes"},
    "unknown": {"more": 1},
    "another format": {"format": 2},
    "overrides": {"overrides": 3},
}


@pytest.mark.parametrize("kind", ODD)
def test_what_was_forged_is_no_trace(trace, tmp_path, kind):
    path = trace.save(tmp_path)
    held = unsealed(json.loads(path.read_text()), DIGEST)
    path.write_text(json.dumps(sealed(held | ODD[kind], DIGEST)))
    with pytest.raises(RecordError, match="tuning.json is .*Move this file"):
        read_trace(path)
