"""Tuning: equal budgets, later stages on earlier choices, validation data only, resumable."""

from __future__ import annotations

import json
import shlex
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest

import qrkd_lab as ql
from qrkd_lab.cli import main
from qrkd_lab.files import RecordError, sealed, unsealed
from qrkd_lab.studies import tune as tuning
from qrkd_lab.studies.arms import BENCHMARKS, TEACHER, TUNED
from qrkd_lab.studies.benchmarks import ImageBenchmark, benchmark_settings
from qrkd_lab.studies.parallel import lock
from qrkd_lab.studies.records import PUBLISHED, read_runs
from qrkd_lab.studies.settings import Settings, parse_parameters
from qrkd_lab.studies.tune import (
    DIGEST,
    Trial,
    TuningHistory,
    best_weights,
    read_tuning,
    tune,
)
from tests.hazards import elsewhere, flipped
from tests.studies.made_runs import keep, made_run

SMALL = {  # and long enough for the candidates to differ
    "scale": "smoke", "train_size": 256, "validation_size": 100, "epochs": 4, "qubits": 2,
    "progress": False,
}  # fmt: skip
ARMS, WEIGHTS = ("qrkd", "shuffled"), (0.3, 3.0)


def tuned(root, **changes):
    return tune("digits", **{"arms": ARMS, "seeds": 2, "weights": WEIGHTS} | SMALL | changes,
                runs_dir=root)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def trace(root):
    return tuned(root)


def test_every_arm_has_the_same_budget(trace):
    counts = trace.table[trace.table["arm"] != "rkd"].groupby("arm")["weight"].apply(list)
    assert counts.map(tuple).to_dict() == {arm: WEIGHTS for arm in ("kd", *ARMS)}
    assert set(trace.table["seeds"]) == {2}
    assert {trial.seed for trial in trace.trials} == {1000, 1001}, "none of a study's"
    (beside,) = [t for t in trace.trials if (t.stage, t.arm, t.seed) == ("kernel", "rkd", 1000)]
    assert beside.weight == trace.chosen["rkd"]
    assert set(trace.chosen) == {"kd", "rkd", *ARMS}


def test_a_trial_is_the_run_of_its_settings_on_top_of_earlier_choices(trace, root):
    base = {name: trace.settings[name] for name in ("kd_weight", "distance_weight", "angle_weight")}
    assert len({trial.score for trial in trace.trials}) > 4, "nothing would be told apart"
    for trial in trace.trials:
        if trial.stage == "kernel" and trial.arm == "shuffled":
            runs = ql.compare("digits", [trial.arm], [trial.seed], runs_dir=root, **SMALL, **base,
                              kernel_weight=trial.weight).runs  # fmt: skip
            assert runs[-1].metrics["validation_accuracy"] == trial.score


def test_its_choice_is_what_a_study_then_trains(trace, root):
    asked = {"train_size": 256, "epochs": 4, "scale": "smoke", "progress": False}
    study = ql.compare("digits", ARMS, seeds=1, runs_dir=root, **asked, **trace.settings)
    weights = {r.settings["arm"]: r.settings.get("kernel_weight") for r in study.runs}
    assert weights == {"teacher": None} | {arm: trace.chosen[arm] for arm in ARMS}
    assert trace.overrides == {"validation_size": 100, "qubits": 2}, "256 images are its own"
    assert {r.settings.get("angle_weight") for r in study.runs[1:]} == {2 * trace.chosen["rkd"]}


def test_the_test_part_is_not_read(trace, tmp_path, monkeypatch):
    """But for the record of each teacher, which is that of a study."""
    teachers = []

    @contextmanager
    def at_work():
        teachers.append("at work")
        yield
        teachers[-1] = "done"

    def teacher_run(*args):
        with at_work():
            return make(*args)

    def read(self):
        assert "at work" in teachers, "no candidate is scored on the test part"
        return self.data.test

    make = tuning.teacher_run
    monkeypatch.setattr(tuning, "teacher_run", teacher_run)
    monkeypatch.setattr(ImageBenchmark, "test", property(read))
    assert tuned(tmp_path).trials[0].score == trace.trials[0].score
    assert {run.settings["arm"] for run in read_runs(tmp_path)} == {TEACHER}
    assert set(teachers) == {"done"}


@pytest.fixture
def asked(monkeypatch):
    """The arguments of every training of candidates."""
    found, lockstep = [], tuning.lockstep
    monkeypatch.setattr(tuning, "lockstep", lambda *a, **k: found.append(a) or lockstep(*a, **k))
    return found


def test_what_is_on_the_disk_is_not_trained_again(trace, root, asked):
    assert tuned(root) == trace and not asked
    assert read_tuning(root / "digits" / "smoke") == trace
    tuned(root, arms=("qrkd",))
    assert len(asked) == 2, "kd and rkd are as they were; the last stage has other arms"
    assert tuned(root) == trace


def test_two_at_once_in_one_folder_are_told_apart(root, trace):
    with elsewhere(lock, root / "digits" / "smoke" / "tuning", "tune"):
        with pytest.raises(RuntimeError, match=f"another process tunes digits in {root}"):
            tuned(root)
    assert tuned(root) == trace


def test_trials_of_other_versions_are_trained_again(tmp_path, monkeypatch, asked):
    few = {"seeds": 1, "arms": ("qrkd",), "weights": (1.0,), "epochs": None}
    monkeypatch.setitem(BENCHMARKS["digits"]["smoke"], "epochs", 5)
    trace = tuned(tmp_path, **few)
    assert (trace.epochs, trace.full_epochs) == (2, 5), "a quarter is the default"
    asked.clear()
    old = tuning.versions()
    monkeypatch.setattr(tuning, "versions", lambda: old | {"platform": "after an update"})
    assert tuned(tmp_path, **few).versions["platform"] == "after an update" and not asked
    monkeypatch.setattr(tuning, "versions", lambda: old | {"torch": "0.1"})
    assert tuned(tmp_path, **few).versions["torch"] == "0.1" and len(asked) == 3


def test_two_jobs_find_the_same(trace, tmp_path):
    found = tuned(tmp_path, jobs=2).trials
    assert [replace(trial, seconds=0.0) for trial in found] == [
        replace(trial, seconds=0.0) for trial in trace.trials
    ]


def test_a_candidate_that_diverges_is_not_chosen(tmp_path):
    trace = tuned(tmp_path, seeds=1, arms=("qrkd",), weights=(1.0, 3e38))
    assert trace.chosen["kd"] == 1.0
    assert [t.score is None for t in trace.trials if t.stage == "kd"] == [False, True]
    with pytest.raises(ValueError, match="kd diverged with every weight .*lower learning_rate"):
        tuned(tmp_path / "alone", seeds=1, arms=("qrkd",), weights=(3e38,))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"jobs": -2}, "jobs: expected a whole number >= 1"),
        ({"arms": ("detached",)}, "expected some of qrkd, rbf, .*got detached"),
        ({"arms": ()}, "got none"),
        ({"weights": ()}, "finite numbers > 0"),
        ({"weights": (0.0, 1.0)}, "finite numbers? > 0"),
        ({"epochs": 0}, "epochs"),
        ({"seeds": 0}, "seeds"),
        *(({name: 1.0}, f"{name} is what tune chooses") for name in tuning.CHOSEN),
    ],
)
def test_what_cannot_be_tuned_is_said(changes, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        tuned(tmp_path, **changes)


def test_every_arm_with_a_kernel_that_has_a_gradient_can_be_tuned():
    kernels = {name for name, arm in ql.ARMS.items() if "kernel" in arm.terms}
    assert set(TUNED) == kernels - {"detached"}


def test_a_history_is_published_and_another_one_is_kept_beside_it(trace, tmp_path):
    keep(tmp_path / "runs", made_run("rkd"))
    trace.save(tmp_path / "runs")
    publish = ["publish", "digits", "--scale", "smoke", "--runs-dir", str(tmp_path / "runs")]
    assert main([*publish, "--out", str(tmp_path / "out")]) == 0
    fewer = replace(trace, trials=tuple(t for t in trace.trials if t.seed == 1000))
    for _ in range(2):
        assert read_tuning(fewer.save(tmp_path / "out")) == fewer
    (kept,) = (tmp_path / "out" / "digits" / "smoke").glob("tuning-*.json")
    assert read_tuning(kept) == trace


def test_the_kits_own_histories_are_saved_as_they_were_and_chose_the_benchmarks_weights(tmp_path):
    """They are of a time when settings of all candidates were not kept; they had none."""
    for path in PUBLISHED.glob("*/*/tuning.json"):
        kept = read_tuning(path)
        assert kept.overrides == {} and kept.save(tmp_path).read_bytes() == path.read_bytes()
        asked = benchmark_settings(kept.benchmark, kept.scale)
        assert asked == asked.replace(**kept.settings), path


# ---- history


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
def made():
    data = {"name": "digits", "source": "here", "sha256": "ab"}
    asked = ("digits", "smoke", "validation_accuracy", True, (0.1, 0.3, 1.0), 1, 4)
    return TuningHistory(*asked, TRIALS, data, {"torch": "2"}, "cpu")


def test_the_best_mean_is_chosen_of_equals_the_smallest_and_none_that_diverged():
    assert best_weights(TRIALS, True) == {"kd": 1.0, "rkd": 0.1, "qrkd": 1.0}
    assert best_weights(TRIALS, False) == {"kd": 0.1, "rkd": 0.1, "qrkd": 1.0}


AWKWARD = (1 / 3, 0.1 + 0.2, 1e-7, 123456.789, 1e22, 5e-324)


@pytest.mark.parametrize("weight", AWKWARD)
def test_a_choice_is_printed_as_the_very_number_that_was_chosen(weight, made):
    scored = {"kd": 0.1, "rkd": 0.1, "qrkd": 0.1, "rbf": 0.1}
    trials = [trial(arm, weight, 0, 0.5, arm if arm in ("kd", "rkd") else "kernel")
              for arm in scored]  # fmt: skip
    overrides = {"learning_rate": weight, "bandwidth": None, "student_widths": [5, 2, 31]}
    found = replace(
        made, weights=(weight,), trials=tuple(trials), overrides=overrides
    )  # fmt: skip
    assert parse_parameters(shlex.split(found.as_options())) == found.settings
    assert repr(weight).removesuffix(".0") in str(found)


def test_the_command_that_tune_prints_makes_the_study_that_it_chose(made, monkeypatch, capsys):
    trials = tuple(replace(t, weight=t.weight / 3) for t in made.trials)
    found = replace(made, trials=trials, overrides={"qubits": 2})
    monkeypatch.setattr("qrkd_lab.studies.tune.tune", lambda *args, **options: found)
    place = ["--runs-dir", "a (b) $c", "--data-dir", "it's here"]
    assert main(["tune", "digits", "--scale", "smoke", *place]) == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("A study with it: ")
    asked = {}

    def compare(benchmark, arms, scale, runs_dir, data_dir, **options):
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


def test_a_choice_at_the_edge_is_said(made):
    assert made.at_edge == ("kd", "rkd", "qrkd")
    inside = replace(made, weights=(0.01, 0.1, 1.0, 10.0))
    assert inside.at_edge == () and "edge" not in str(inside) and "edge" in str(made)


def test_the_table_has_a_row_a_candidate(made):
    table = made.table.set_index(["stage", "arm", "weight"])
    assert table.loc[("kd", "kd", 0.1), "score"] == pytest.approx(0.8)
    assert tuple(table.loc[("kd", "kd", 0.1), ["low", "high", "seeds"]]) == (0.7, 0.9, 2)
    assert table.loc[("kernel", "qrkd", 0.1), "diverged"] == 1
    assert list(table.index[table["chosen"]]) == [
        ("kd", "kd", 1.0), ("rkd", "rkd", 0.1), ("kernel", "qrkd", 1.0),
    ]  # fmt: skip


@pytest.mark.parametrize("overrides", [{}, {"qubits": 2, "student_widths": [5, 2, 31]}])
def test_what_was_saved_is_read_again(made, tmp_path, overrides):
    kept = replace(made, overrides=overrides)
    path = kept.save(tmp_path)
    assert path == tmp_path / "digits" / "smoke" / "tuning.json"
    assert read_tuning(path) == read_tuning(path.parent) == kept


def test_what_was_edited_or_cut_is_refused(made, tmp_path):
    path = made.save(tmp_path)
    held = json.loads(path.read_text())
    held["trials"][0]["score"] = 1.0
    path.write_text(json.dumps(held))
    with pytest.raises(RecordError, match="was edited"):
        read_tuning(path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(RecordError, match=f"^{path} cannot be read .*Delete this file, and tune"):
        read_tuning(path.parent)
    with pytest.raises(RecordError, match="cannot be read"):
        read_tuning(tmp_path)


def test_a_folder_that_cannot_be_written_is_said(made, tmp_path):
    (tmp_path / "digits").write_text("a file")
    with pytest.raises(RecordError, match="cannot be written"):
        made.save(tmp_path)


def test_a_turned_bit_changes_no_number(made, tmp_path):
    path = made.save(tmp_path)
    whole, kept = path.read_bytes(), 0
    for content in flipped(whole, 150):
        path.write_bytes(content)
        try:
            assert read_tuning(path) == made
            kept += 1
        except RecordError:
            pass
    assert kept < 75, "only white space says nothing"


ODD = {
    "no trials": {"trials": []},
    "trials as text": {"trials": "x"},
    "odd trial": {"trials": [{"arm": "kd"}]},
    "score as text": {"trials": [asdict(trial("kd", 0.1, 0, "x", "kd"))]},
    "arm as number": {"trials": [asdict(trial(3, 0.1, 0, 0.5, "kd"))]},
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
def test_what_was_forged_is_no_history(made, tmp_path, kind):
    path = made.save(tmp_path)
    held = unsealed(json.loads(path.read_text()), DIGEST)
    path.write_text(json.dumps(sealed(held | ODD[kind], DIGEST)))
    with pytest.raises(RecordError, match="tuning.json is .*Move this file"):
        read_tuning(path)
