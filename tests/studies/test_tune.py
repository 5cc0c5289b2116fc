"""Tuning: equal budgets, the second choice on the first, validation data only, resumable."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import replace

import pytest

import qrkd_lab as ql
from qrkd_lab.cli import main
from qrkd_lab.files import RecordError
from qrkd_lab.studies import tune as tuning
from qrkd_lab.studies.benchmarks import benchmark_settings
from qrkd_lab.studies.records import PUBLISHED, read_runs
from qrkd_lab.studies.settings import parse_parameters
from qrkd_lab.studies.tune import Trial, TuningHistory, best_weights, read_tuning, tune
from tests.hazards import flipped
from tests.studies.made_runs import keep, made_run

SMALL = {  # and long enough for the candidates to differ
    "scale": "smoke", "train_size": 256, "validation_size": 100, "epochs": 4, "progress": False,
}  # fmt: skip
WEIGHTS = (0.3, 3.0)


def tuned(root, **changes):
    return tune("digits", **{"seeds": 2, "weights": WEIGHTS} | SMALL | changes, runs_dir=root)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trace(root):
    return tuned(root)


def test_both_arms_have_the_same_budget(trace):
    tried = [(trial.arm, trial.weight, trial.seed) for trial in trace.trials]
    seeds = (1000, 1001)  # none of a study's
    assert tried == [(arm, w, seed) for arm in ("kd", "rkd") for w in WEIGHTS for seed in seeds]
    assert trace.chosen.keys() == {"kd", "rkd"} and trace.epochs == 4
    assert len({trial.score for trial in trace.trials}) > 4, "nothing would be told apart"


def test_a_trial_is_the_validated_run_of_its_settings_on_top_of_the_first_choice(trace, root):
    kd = trace.settings["kd_weight"]
    for trial in trace.trials:
        weights = {"kd_weight": trial.weight if trial.arm == "kd" else kd}
        if trial.arm == "rkd":
            weights |= {"distance_weight": trial.weight, "angle_weight": 2 * trial.weight}
        study = ql.compare("digits", [trial.arm], [trial.seed], **SMALL, **weights,
                           runs_dir=root / "tuning")  # fmt: skip
        assert study.notes[0].startswith("2 runs reused, 0 trained")
        assert study.runs[-1].metrics["validation_accuracy"] == trial.score


def test_its_choice_is_what_a_study_then_trains(trace, root):
    study = ql.compare("digits", ["qrkd"], seeds=1, runs_dir=root, scale="smoke", progress=False,
                       **trace.settings)  # fmt: skip
    assert trace.overrides == {"validation_size": 100, "epochs": 4}, "256 images are its own"
    own = study.runs[-1].settings
    assert own["kd_weight"] == trace.chosen["kd"] and own["epochs"] == 4
    assert own["angle_weight"] == 2 * own["distance_weight"] == 2 * trace.chosen["rkd"]
    assert len(read_runs(root)) == 2, "candidates lie elsewhere, and are in no table of studies"


def test_what_is_on_the_disk_is_not_trained_again(trace, root, monkeypatch):
    monkeypatch.setattr("qrkd_lab.studies.compare.train_group", pytest.fail)
    assert tuned(root) == trace == read_tuning(root / "digits" / "smoke")


def test_a_candidate_that_diverges_is_not_chosen(tmp_path):
    trace = tuned(tmp_path, seeds=1, weights=(1.0, 3e38))
    assert trace.chosen == {"kd": 1.0, "rkd": 1.0}
    assert [t.score is None for t in trace.trials] == [False, True] * 2
    assert trace.at_edge == ("kd", "rkd") and trace.undecided == (), "there is no other candidate"
    with pytest.raises(ValueError, match="kd diverged with every weight .*lower learning_rate"):
        tuned(tmp_path / "alone", seeds=1, weights=(3e38,))


def test_what_fails_otherwise_is_no_score(tmp_path, monkeypatch):
    def fail(*args):
        raise MemoryError("no room")
        yield

    monkeypatch.setattr("qrkd_lab.studies.compare.train_group", fail)
    with pytest.raises(RuntimeError, match="MemoryError: no room"):
        tuned(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": (0.0, 1.0)}, "finite numbers? > 0"),
        ({"seeds": 0}, "seeds"),
        *(({name: 1.0}, f"{name} is what tune chooses") for name in tuning.CHOSEN),
    ],
)
def test_what_cannot_be_tuned_is_said(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        tuned(tmp_path, **changes)


# ---- history


def trials(arm, scores, stage=None):
    """By weight, the scores of the seeds 0, 1, ..."""
    return tuple(
        Trial(stage or arm, arm, weight, seed, score, 1.0)
        for weight, found in scores.items()
        for seed, score in enumerate(found)
    )


TRIALS = (  # with the kernel's stage, as histories of earlier versions have it
    *trials("kd", {0.1: [0.9, 0.7], 1.0: [0.8, 0.85]}),
    *trials("rkd", {0.1: [0.5], 1.0: [0.5]}),
    *trials("qrkd", {0.1: [None], 1.0: [0.2]}, "kernel"),
    *trials("rkd", {0.1: [0.99]}, "kernel"),
)


@pytest.fixture
def made():
    data = {"name": "digits", "source": "here", "sha256": "ab"}
    asked = ("digits", "smoke", "validation_accuracy", True, (0.1, 1.0), 1, 4)
    return TuningHistory(*asked, TRIALS, data, {"torch": "2"}, "cpu")


def test_the_best_mean_is_chosen_of_equals_the_smallest_and_none_that_diverged():
    assert best_weights(TRIALS, True) == {"kd": 1.0, "rkd": 0.1, "qrkd": 1.0}
    assert best_weights(TRIALS, False) == {"kd": 0.1, "rkd": 0.1, "qrkd": 1.0}


def test_a_choice_at_the_edge_or_like_its_neighbours_is_said(made):
    noisy, better = {1.0: [0.50, 0.51, 0.52], 10.0: [0.51, 0.52, 0.53]}, [0.60, 0.61, 0.63]
    clear = trials("kd", noisy | {3.0: better})
    same = trials("rkd", {1.0: [0.5, 0.7, 0.3], 3.0: [0.6, 0.5, 0.5], 10.0: [0.4, 0.3, 0.2]})
    found = replace(made, weights=(1.0, 3.0, 10.0), trials=clear + same)
    assert found.chosen == {"kd": 3.0, "rkd": 3.0}
    assert found.at_edge == () and found.undecided == ("rkd",)
    assert "seeds: rkd." in str(found) and "edge" not in str(found)
    down = replace(found, higher_is_better=False)
    assert down.chosen == {"kd": 1.0, "rkd": 10.0} and down.undecided == ()
    assert down.at_edge == ("kd", "rkd") and "beyond: kd, rkd." in str(down)


@pytest.mark.parametrize("weight", (1 / 3, 1e22, 5e-324))
def test_the_command_that_is_printed_makes_the_study_that_was_chosen(
    weight, made, monkeypatch, capsys
):
    chosen = trials("kd", {weight: [0.5]}) + trials("rkd", {weight: [0.5]})
    overrides = {"learning_rate": weight, "bandwidth": None, "student_widths": [5, 2, 31]}
    found = replace(made, weights=(weight,), trials=chosen, overrides=overrides)
    monkeypatch.setattr("qrkd_lab.studies.tune.tune", lambda *args, **options: found)
    place = ["--runs-dir", "a (b) $c", "--data-dir", "it's here"]
    assert main(["tune", "digits", "--scale", "smoke", *place]) == 0
    said = capsys.readouterr().out.splitlines()
    words = shlex.split(said[-1].removeprefix("A study with it: "))
    assert words[3:6] == ["compare", "digits", "--scale"] and words[7:11] == place
    assert parse_parameters(words[12:]) == found.settings
    assert repr(weight).removesuffix(".0") in said[2]


def test_what_was_saved_is_read_again_and_published(made, tmp_path):
    keep(tmp_path / "runs", made_run("rkd"))
    made = replace(made, overrides={"qubits": 2, "student_widths": [5, 2, 31]})
    path = made.save(tmp_path / "runs")
    assert path == tmp_path / "runs" / "digits" / "smoke" / "tuning.json"
    assert read_tuning(path) == read_tuning(path.parent) == made
    publish = ["publish", "digits", "--scale", "smoke", "--runs-dir", str(tmp_path / "runs")]
    assert main([*publish, "--out", str(tmp_path / "out")]) == 0
    fewer = replace(made, trials=TRIALS[:-1])
    assert read_tuning(fewer.save(tmp_path / "out")) == fewer
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot be written"):
        made.save(tmp_path / "file")


def test_the_kits_own_histories_are_saved_as_they_were_and_chose_the_benchmarks_weights(tmp_path):
    """They are of a time when settings of all candidates were not kept; they had none."""
    for path in PUBLISHED.glob("*/*/tuning.json"):
        kept = read_tuning(path)
        assert kept.overrides == {} and kept.save(tmp_path).read_bytes() == path.read_bytes()
        asked = benchmark_settings(kept.benchmark, kept.scale)
        assert asked == asked.replace(**kept.settings), path


def test_what_was_edited_or_cut_is_refused(made, tmp_path):
    path = made.save(tmp_path)
    whole, read = path.read_bytes(), []
    for content in (*flipped(whole, 80), whole[:100], b"", b"[]"):
        path.write_bytes(content)
        with suppress(RecordError):
            read.append(read_tuning(path))
    assert len(read) < 40 and all(found == made for found in read), "white space says nothing"
    path.unlink()
    with pytest.raises(RecordError, match=f"^{path} is missing.*Delete this file, and tune"):
        read_tuning(path.parent / "tuning.json")
