"""A benchmark of one's own: paired like any other, known by content, clear about what fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pennylane as qp
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.models.resnet import BasicBlock, ResNet
from transformers import BertConfig, BertForSequenceClassification

import qrkd_lab as ql
from qrkd_lab.losses import Outputs
from qrkd_lab.seeds import generator
from qrkd_lab.studies.benchmarks import given_settings
from qrkd_lab.studies.own import parts_of
from qrkd_lab.studies.provenance import one_kind, reproduce
from qrkd_lab.teaching.widgets import KernelExplorer
from qrkd_lab.train import Learner

X = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
Y = ((X[:, 0] * X[:, 1] > 0) + 2 * (X[:, 2] > 0)).long()  # four classes
PARTS = {"train": slice(0, 50), "validation": slice(50, 70), "test": slice(70, 90)}
SMALL = {"scale": "smoke", "progress": False, "batch_size": 16, "qubits": 2, "epochs": 2}


def arrays(x=X, y=Y):
    return {name: (x[part], y[part]) for name, part in PARTS.items()}


def net(width=8, activation=nn.ReLU):
    return nn.Sequential(nn.Linear(4, width), activation(), nn.Linear(width, 4))


def bench(**changes):
    given = arrays() | {"teacher": lambda seed: net(16), "student": lambda seed: net(3)}
    return ql.Benchmark.from_arrays(**given | changes)


class Drops(nn.Module):
    """A student with dropout and batch norm, which pairing must survive."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.body, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
        self.head, self.rate = nn.Linear(6, 4), rate

    def forward(self, x):
        h = self.norm(self.body(x)).relu()
        return self.head(nn.functional.dropout(h, self.rate, self.training))


class Named(nn.Module):
    """A model that gets its input by name."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 4)

    def forward(self, a):
        return self.head(a)


ONE_NUMBER = {role: lambda seed: nn.Linear(4, 1) for role in ("teacher", "student")}


def keys(study):
    return {run.name: run.key for run in study.runs}


# ---- a study like any other


def test_an_arm_is_the_same_alone_and_in_company_and_is_not_trained_twice(tmp_path):
    own = bench(student=lambda seed: Drops())
    together = ql.compare(own, ["scratch", "rkd", "qrkd"], [3], runs_dir=tmp_path / "a", **SMALL)
    alone = ql.compare(own, ["qrkd"], [2, 3], jobs=2, runs_dir=tmp_path / "b", **SMALL)
    first, second = (study.runs[-1] for study in (together, alone))
    assert first.key == second.key, "also in another process, from functions of a notebook"
    assert first.metrics == second.metrics and first.history == second.history
    held, same = first.weights(), second.weights()
    assert held.keys() == Drops().state_dict().keys()  # the names of the user's own model
    assert all(torch.equal(held[name], same[name]) for name in held)
    again = ql.compare(own, ["scratch", "rkd", "qrkd"], 4, runs_dir=tmp_path / "a", **SMALL)
    assert "4 runs reused, 12 trained" in again.notes[0]
    assert list(again.summary().frame.index) == ["teacher", "scratch", "rkd", "qrkd"]


def test_a_stopped_training_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    own = bench(student=lambda seed: Drops())
    options = SMALL | {"checkpoint_steps": 1}
    whole = ql.compare(own, ["kd", "qrkd"], 1, runs_dir=tmp_path / "whole", **options)
    step, left = Learner.step, iter(range(15))

    def killed(self, *arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        step(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Learner, "step", killed)
        ql.compare(own, ["kd", "qrkd"], 1, runs_dir=tmp_path / "cut", **options)
    assert list((tmp_path / "cut").rglob(".checkpoint*"))
    found = ql.compare(own, ["kd", "qrkd"], 1, runs_dir=tmp_path / "cut", **options)
    assert "1 runs reused, 2 trained" in found.notes[0]
    assert [run.metrics for run in found.runs] == [run.metrics for run in whole.runs]


def test_settings_are_those_of_arrays_and_each_can_be_changed():
    own = bench(name="tiny").with_settings("laptop", batch_size=7)
    assert (own.settings.epochs, own.settings.batch_size, own.settings.scale) == (30, 7, "laptop")
    assert own.settings.qubits == 6 and bench(teacher=lambda s: net(5)).settings.qubits == 5
    given = given_settings(own.settings.replace(arm="kd", seed=3))
    assert given.keys() == {"batch_size", "teacher_sha256", "student_sha256"}


# ---- what a run is identified by


def test_other_models_data_and_tasks_make_new_runs_and_another_student_no_new_teacher(tmp_path):
    class Other(Drops):  # what only the code of forward says
        def forward(self, x):
            return super().forward(x.abs())

    Other.__name__ = "Drops"
    students = [
        lambda seed: net(3),
        lambda seed: net(5),
        lambda seed: net(3, nn.Tanh),
        lambda seed: net(3).apply(lambda m: setattr(m, "inplace", True)),
        lambda seed: ql.Tapped(net(3), "0"),
        lambda seed: nn.Sequential(*net(3), nn.Softmax(1)),
        lambda seed: Drops(),
        lambda seed: Other(),
        lambda seed: Drops(0.1),
    ]
    made = [bench(student=student) for student in students]
    assert len({one.settings.student_sha256 for one in made}) == len(students)
    assert len({one.settings.teacher_sha256 for one in made}) == 1
    again = bench(student=lambda seed: Drops()).settings.student_sha256
    assert again == made[6].settings.student_sha256
    before, after = (ql.compare(b, ["kd"], 1, runs_dir=tmp_path, **SMALL) for b in made[:2])
    assert "1 runs reused, 1 trained" in after.notes[0]
    assert keys(before)["kd seed 0"] != keys(after)["kd seed 0"]
    others = [arrays() | {name: (x.clone().index_fill_(0, torch.tensor(0), 9.0), y)}
              for name, (x, y) in arrays().items()]  # fmt: skip
    assert len({bench(**parts).data.sha256 for parts in (arrays(), *others)}) == 4
    line = arrays(y=TARGET) | dict.fromkeys(("teacher", "student"), lambda seed: nn.Linear(4, 1))
    tasks = ["regression", ql.Task(absolute, absolute, "mae"),
             ql.Task(absolute, lambda z, y: 0.0, "mae")]  # fmt: skip
    assert len({bench(**line, task=task).settings.student_sha256 for task in tasks}) == 3


def test_a_record_says_how_to_make_it_again(tmp_path):
    study = ql.compare(bench(), ["kd"], 1, runs_dir=tmp_path, **SMALL)
    again = reproduce(study.runs[-1])
    assert "ql.compare(bench, arms=['kd']" in again.python.replace('"', "'")
    assert "sha256" not in again.python and "from_arrays" in again.notes[0]
    with pytest.raises(ValueError, match="make the benchmark again by Benchmark.from_arrays"):
        ql.benchmark_of(study.runs[-1])
    ql.compare(bench(), ["kd"], 1, "smoke", runs_dir=tmp_path, progress=False)
    kept, left_out = one_kind(ql.read_runs(tmp_path))  # those of the default settings count
    assert [run.settings["batch_size"] for run in (*kept, *left_out)] == [64, 64, 16, 16]


# ---- arms of one's own


@dataclass(frozen=True)
class Cauchy(ql.kernels.Kernel):
    bandwidth: float = 1.0

    def embed(self, x):
        return x

    def compare(self, u, v):
        return 1 / (1 + (u[:, None] - v[None]).square().sum(-1))


class Steeper(Cauchy):
    def compare(self, u, v):
        return super().compare(u, v) ** 2


def ladder(angles, wires):
    for i, wire in enumerate(wires):
        qp.RX(angles[..., i], wires=wire)
    qp.CNOT(wires=[wires[0], wires[-1]])


TERMS = ("kd", "distance", "angle", "kernel")
OWN = [
    ql.Arm(("kd", "kernel"), kernel="laplacian", name="laplacian"),
    ql.Arm(TERMS, kernel=Cauchy(), name="cauchy"),
    ql.Arm(TERMS, kernel=ql.FidelityKernel(ladder, qubits=2), name="ladder"),
    ql.Arm(("kernel",), control="shuffled", name="shuffled_alone"),
]


def test_arms_of_ones_own_train_beside_the_kit_s_and_are_found_again(tmp_path):
    study = ql.compare(bench(), ["rkd", *OWN], 1, runs_dir=tmp_path, **SMALL)
    found = {run.settings["arm"]: run for run in study.runs}
    assert list(found) == ["teacher", "rkd", *(arm.name for arm in OWN)]
    assert found["laplacian"].history[0].keys() >= {"task", "kd", "kernel"}
    assert "distance" not in found["laplacian"].history[0]
    assert found["laplacian"].settings["kernel"] == "laplacian"
    assert found["cauchy"].settings["kernel"].startswith("Cauchy-")
    assert found["shuffled_alone"].settings["own_arm"] == {
        "terms": ["kernel"], "entangle": True, "control": "shuffled",
    }  # fmt: skip
    alone = ql.compare(bench(), OWN[1], 1, runs_dir=tmp_path / "alone", **SMALL).runs[-1]
    assert (alone.key, alone.metrics) == (found["cauchy"].key, found["cauchy"].metrics)
    again = ql.compare(bench(), ["rkd", *OWN], 1, runs_dir=tmp_path, **SMALL)
    assert "6 runs reused, 0 trained" in again.notes[0]


@pytest.mark.parametrize(
    "changed",
    [
        ql.Arm(TERMS, kernel=Steeper(), name="cauchy"),
        ql.Arm(TERMS, kernel=Cauchy(), control="shuffled", name="cauchy"),
        ql.Arm(TERMS, kernel=Cauchy(), share=0.5, name="cauchy"),
    ],
)
def test_another_arm_of_the_same_name_is_another_run(changed):
    settings = bench().settings
    same = ql.Arm(TERMS, "the same in other words", kernel=Cauchy(3.0), name="cauchy")
    first, again, other = (settings.replace(arm=arm).effective() for arm in (OWN[1], same, changed))
    assert first == again != other


def test_an_arm_of_ones_own_on_a_benchmark_of_the_kit(tmp_path):
    options = {"scale": "smoke", "train_size": 64, "qubits": 2, "progress": False}
    study = ql.compare("digits", ["kd", OWN[1]], 1, runs_dir=tmp_path, **options)
    run = study.runs[-1]
    assert run.settings["arm"] == "cauchy" and "own_arm" not in run.given
    assert "training loop of somebody's own" in reproduce(run).notes[0]
    summary = study.summary(reference="kd")
    assert list(summary.frame.index) == ["teacher", "kd", "cauchy"]


@pytest.mark.parametrize(
    ("arms", "says"),
    [
        ([ql.Arm(("kd",))], "needs a name that no other arm has"),
        ([ql.Arm(("kd",), name="a"), ql.Arm(("angle",), name="a")], "no other arm has"),
        ([ql.Arm(("kd",), name="a/b")], "of letters, digits"),
        ([ql.Arm(TERMS, kernel="gauss", name="a")], "unknown kernel 'gauss'; choose from fid"),
        ([ql.Arm(TERMS, kernel="rbf", entangle=False, name="a")], "no entanglement to leave out"),
    ],
)
def test_an_arm_that_cannot_be_is_said_before_anything_is_trained(arms, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        ql.compare(bench(), arms, 1, runs_dir=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="unknown term 'kernels'; choose from kd, distance"):
        ql.Arm(("kernels",), name="a")
    assert not list(tmp_path.iterdir())


def likeness(x):
    return 1 / (1 + ql.pairwise_distances(x))


POWER = 1


def steeper(x):
    return likeness(x) ** POWER


KIND = ql.Arm(("kd",), relations={"likeness": (likeness, 10.0)}, name="likely")


def test_an_arm_with_a_relation_of_ones_own_is_an_arm_like_any_other(tmp_path):
    study = ql.compare(bench(), ["kd", KIND], 1, runs_dir=tmp_path, **SMALL)
    plain, own = study.runs[1:]
    assert own.history[0].keys() - plain.history[0].keys() == {"likeness"}
    assert own.history[-1]["likeness"] > 0 and own.metrics != plain.metrics
    ((name, weight),) = own.settings["own_arm"]["relations"].values()
    assert name.startswith("likeness-") and weight == 10.0
    alone = ql.compare(bench(), KIND, 1, runs_dir=tmp_path / "alone", **SMALL).runs[-1]
    assert (alone.key, alone.history) == (own.key, own.history)
    held, same = own.weights(), alone.weights()
    assert all(torch.equal(held[name], same[name]) for name in held)
    again = ql.compare(bench(), ["kd", KIND], 1, runs_dir=tmp_path, **SMALL)
    assert "3 runs reused, 0 trained" in again.notes[0]
    assert list(again.summary("kd").frame.index) == ["teacher", "kd", "likely"]


def test_a_relation_is_known_by_what_it_computes(monkeypatch):
    def run(of, weight=10.0, name="likeness"):
        arm = ql.Arm(("kd",), relations={name: (of, weight)}, name="likely")
        return bench().settings.replace(arm=arm).effective()

    first = run(likeness)
    assert first == bench().settings.replace(arm=KIND).effective()
    others = [run(likeness, 1.0), run(likeness, name="other"), run(steeper)]
    monkeypatch.setattr("tests.studies.test_own.POWER", 2)  # what it reads from outside
    others.append(run(steeper))
    keys = [str(one) for one in (first, *others)]
    assert len(set(keys)) == 5
    assert "tap" not in bench().settings.replace(arm="kd", tap="mean").effective()
    assert "tap" in bench().settings.replace(arm=KIND, tap="mean").effective()


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (lambda x: x, r"tried on features \(6, 4\): ValueError: .* got \(6, 4\) of \(6, 4\)"),
        (lambda x: torch.as_tensor(x.detach().numpy() @ x.detach().numpy().T), "no gradient reach"),
        (lambda x: 1 / ql.pairwise_distances(x), "is NaN or infinity where two rows are eq"),
    ],
)
def test_a_relation_that_cannot_teach_is_said_before_anything_is_trained(of, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        arm = ql.Arm(relations={"odd": (of, 1.0)}, name="odd")
        ql.compare(bench(), arm, 1, runs_dir=tmp_path, **SMALL)
    assert not list(tmp_path.iterdir())
    small = SMALL | {"batch_size": 1}
    with pytest.raises(ValueError, match="the likeness term compares 2 samples of a batch"):
        ql.compare(bench(), KIND, 1, runs_dir=tmp_path, **small)
    assert bench().with_settings("smoke", batch_size=1).settings.replace(arm="scratch")


# ---- a trained teacher


def test_a_trained_teacher_is_used_as_it_is_and_a_random_one_is_refused(tmp_path):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 4))
    own = bench(teacher=teacher)
    right = (teacher.eval()(X[70:]).argmax(1) == Y[70:]).float().mean().item()
    teacher[0].weight.data.zero_()  # what happens to it later does not matter
    study = ql.compare(own, ["kd", "qrkd"], 2, runs_dir=tmp_path, **SMALL)
    taught = [run for run in study.runs if run.settings["arm"] == "teacher"]
    assert [run.metrics["test_accuracy"] for run in taught] == pytest.approx([right] * 2)
    assert taught[0].settings["teacher_epochs"] == 0 and not taught[0].history
    assert "teacher_epochs" not in reproduce(study.runs[-1]).python
    with pytest.raises(ValueError, match="teacher_epochs: the teacher is trained already"):
        ql.compare(own, ["kd"], 1, runs_dir=tmp_path, teacher_epochs=3)
    with pytest.raises(RuntimeError, match="random_teacher needs an untrained teacher"):
        ql.compare(own, ["random_teacher"], 1, runs_dir=tmp_path, **SMALL)


def test_a_trained_estimator_of_scikit_learn_teaches(tmp_path):
    forest = RandomForestClassifier(5, random_state=0).fit(X[:50], Y[:50])
    own = bench(teacher=forest)
    assert own.settings.qubits == 4
    other = bench(teacher=RandomForestClassifier(5, random_state=1).fit(X[:50], Y[:50]))
    assert own.settings.teacher_sha256 != other.settings.teacher_sha256
    study = ql.compare(own, ["qrkd"], 1, runs_dir=tmp_path, **SMALL)
    right = float(forest.score(X[70:], Y[70:]))
    assert study.runs[0].metrics["test_accuracy"] == pytest.approx(right)
    assert study.runs[0].parameters == 0 and study.runs[1].history[0]["kernel"] > 0


# ---- samples without labels


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_students_see_further_samples_and_not_their_labels(task, tmp_path):
    y, width = {"classification": (Y, 4), "regression": (X[:, 0] * X[:, 1], 1)}[task]
    teacher = nn.Linear(4, width).eval()

    def runs(y, x=X, company=("scratch",), given=None, **settings):
        own = bench(
            **arrays(x, y), task=task, unlabelled=given, teacher=teacher,
            student=lambda seed: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, width)),
        )  # fmt: skip
        study = ql.compare(own, [*company, "qrkd"], [1], runs_dir=tmp_path, **SMALL, **settings)
        run = study.runs[-1]
        return run.key, run.history, run.metrics, [w.tolist() for w in run.weights().values()]

    few, rest = torch.randperm(50, generator=generator(1, "student's images")).split([20, 30])
    alone, more = runs(y, student_size=20), runs(y, student_size=20, unlabelled=30)
    assert runs(y, student_size=20, unlabelled=0) == alone  # found again
    assert alone[3] != more[3] and "train_accuracy" not in more[1][0]
    hidden = y.clone()
    hidden[rest] = y[rest.flip(0)]
    other = runs(hidden, company=("kd", "rkd"), student_size=20, unlabelled=30)
    assert other[0] != more[0] and other[1:] == more[1:]  # bit for bit
    hidden[few] = y[few.flip(0)]
    assert runs(hidden, student_size=20, unlabelled=30)[3] != more[3]
    given = runs(y, given=X[70:] + 1)
    assert given[0] != runs(y)[0] and given[3] != runs(y)[3] and given[1][-1]["kernel"] > 0


def test_ones_own_samples_without_labels_come_after_those_of_the_setting():
    own = bench(unlabelled=X[70:]).with_settings("smoke", student_size=10, unlabelled=5)
    seen = own.of_students(0)
    assert "unlabelled 20" in repr(own) and own.sizes["unlabelled"] == 20
    assert len(own.train) == 50 and len(seen.train) == 10 and len(seen.drawn) == 35
    assert torch.equal(seen.drawn.x[15:], X[70:]) and (seen.drawn.y[10:] == -101).all()
    assert bench().data.sha256 != own.data.sha256
    tokens = {"ids": X[:, :2].long(), "more": X}
    parts = {name: ({k: v[p] for k, v in tokens.items()}, Y[p]) for name, p in PARTS.items()}
    found = parts_of("classification", {k: v[:9] for k, v in tokens.items()}, **parts)
    assert len(found["train"].beside(found["unlabelled"]).x["ids"]) == 59


def test_the_explorer_of_kernels_shows_its_training_part():
    explorer = KernelExplorer(bench(), n=16, qubits=2)
    explorer.refresh()
    assert "alert" not in explorer._words.value
    words = bench(**{name: ({"a": x}, y) for name, (x, y) in arrays().items()},
                  **{role: lambda seed: Named() for role in ("teacher", "student")})  # fmt: skip
    for own in (words, bench(**arrays(y=X[:, 0]), task="regression", **ONE_NUMBER)):
        with pytest.raises((TypeError, ValueError)):  # scikit-learn's own
            KernelExplorer(own)


# ---- tasks other than classification

LABELS = torch.stack([X[:, 0] > 0, X[:, 1] * X[:, 2] > 0], 1)
TARGET = (X[:, 0] * X[:, 1] + X[:, 2]).double()


def absolute(outputs, targets):
    return (outputs - targets).abs().mean()


@pytest.mark.parametrize(
    ("task", "y", "metric", "by_hand"),
    [
        ("regression", TARGET, "rmse", lambda z, y: (z[:, 0] - y).square().mean().sqrt()),
        (
            "multi-label", LABELS, "f1",
            lambda z, y: 2 * ((z > 0) & y).sum() / ((z > 0).sum() + y.sum()),
        ),
        (ql.Task(absolute, absolute, "mae"), TARGET, "mae", lambda z, y: absolute(z[:, 0], y)),
    ],
)  # fmt: skip
def test_a_task_has_its_own_loss_and_metric(task, y, metric, by_hand, tmp_path):
    def make(width):
        return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, y.ndim))

    own = bench(
        **arrays(y=y), task=task, teacher=lambda seed: make(16), student=lambda seed: make(3)
    )
    study = ql.compare(own, ["scratch", "kd", "qrkd"], 1, runs_dir=tmp_path, **SMALL)
    run = study.runs[-1]
    with torch.no_grad():
        right = by_hand(own.model(run).model(X[70:]), y[70:])
    assert run.metrics[f"test_{metric}"] == pytest.approx(float(right), rel=1e-5)
    assert run.metric == {"name": f"test_{metric}", "higher_is_better": metric == "f1"}
    assert {"task", "kd", "distance", "angle", "kernel"} < run.history[0].keys()
    assert "train_accuracy" not in run.history[0]
    assert len({run.metrics["train_" + metric] for run in study.runs}) > 1
    if metric == "rmse":
        study.save(tmp_path / "out")


def test_outputs_of_a_task_of_ones_own_need_not_look_like_the_targets(tmp_path):
    def surprise(z, y):  # a mean and the logarithm of a variance for each target
        return (z[:, 1:] + (y - z[:, :1]).square() * torch.exp(-z[:, 1:])).mean() / 2

    task = ql.Task(surprise, surprise, "nll")
    make = {role: lambda seed: nn.Sequential(nn.Linear(4, 2)) for role in ("teacher", "student")}
    own = bench(**arrays(y=TARGET), **make, task=task)
    run = ql.compare(own, ["kd"], 1, runs_dir=tmp_path, **SMALL).runs[-1]
    assert run.metric == {"name": "test_nll", "higher_is_better": False}
    with pytest.raises(ValueError, match=r"the teacher gives \(8, 2\); expected \(8, 1\)"):
        bench(**arrays(y=TARGET), **make, task="regression")


# ---- data and models as people have them


class Table:
    """As a table of Hugging Face's datasets: names of columns, and their content as arrays."""

    def __init__(self, **columns):
        self.content = columns

    @property
    def column_names(self):
        return list(self.content)

    def with_format(self, kind):
        return self

    def __getitem__(self, rows):
        return {name: formatted(column[rows]) for name, column in self.content.items()}


def formatted(column):
    try:
        array = np.array(column)
    except ValueError:  # rows of several lengths
        array = np.array([np.array(row) for row in column] + [None], dtype=object)[:-1]
    return array.astype("float32") if array.dtype.kind == "f" else array


class Listed(torch.utils.data.Dataset):
    def __init__(self, x, y):
        self.rows = [{"x": torch.tensor(a), "label": b} for a, b in zip(x, y, strict=True)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, place):
        return self.rows[place]


@pytest.mark.parametrize(
    "given",
    [
        lambda x, y: (pd.DataFrame(x, columns=list("abcd")), pd.Series(y)),
        lambda x, y: TensorDataset(torch.tensor(x), torch.tensor(y)),
        lambda x, y: [x, y],
        lambda x, y: (Table(species=y, x=x), "species"),
        lambda x, y: (pd.DataFrame(x, columns=list("abcd")).assign(species=y), "species"),
        lambda x, y: {"x": x, "labels": y},
        Listed,
    ],
)
def test_arrays_frames_tables_and_datasets_are_the_same_data(given):
    parts = {name: given(x.tolist(), y.tolist()) for name, (x, y) in arrays().items()}
    assert bench(**parts).data.sha256 == bench().data.sha256


class Sized(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, place):
        return torch.zeros(2 + place), 0


class Streamed(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Table(x=[1.0], y=[0]), "no column 'labels'; give .*the column that is y'., one of x, y"),
        (Table(text=["a", "b"], label=[0, 1]), "expected numbers, got .*; give words as numbers"),
        (Table(x=[[1], [1, 2]], label=[0, 1]), "got object.*; .* pad rows of tokens to one length"),
        ((pd.DataFrame({"a": [1], "sex": ["f"]}), [0]), "got object in sex; give words as numbers"),
        (Sized(), "do not fit into one tensor; give each the same shape .pad texts"),
        (Streamed(), "and a length: "),
    ],
)
def test_tables_that_do_not_fit_say_what_to_do(given, says):
    with pytest.raises((TypeError, ValueError), match=says):
        bench(train=given)


IDS = torch.randint(1, 30, (90, 6), generator=torch.Generator().manual_seed(0))
MASK = (torch.arange(6) < IDS.remainder(5).add(2)[:, :1]).long()  # 2 to 6 tokens


def bert(width):
    shape = {"hidden_size": width, "intermediate_size": width, "num_hidden_layers": 1}
    config = BertConfig(
        vocab_size=30, num_attention_heads=2, max_position_embeddings=6, num_labels=2, **shape
    )
    return BertForSequenceClassification(config)


def test_a_bert_teaches_a_bert_and_padding_counts_nowhere(tmp_path):
    def parts(rest):
        ids = torch.where(MASK == 1, IDS, rest)
        x = {"input_ids": ids, "attention_mask": MASK}
        y = (IDS < 9).mul(MASK).any(1).long()
        return {n: ({k: v[p] for k, v in x.items()}, y[p]) for n, p in PARTS.items()}

    own = {
        "teacher": lambda seed: bert(16),
        "student": lambda seed: ql.Tapped(bert(8), "bert.encoder", pool="mean"),
    }
    study = ql.compare(bench(**parts(0), **own), ["qrkd"], 1, runs_dir=tmp_path, **SMALL)
    model = bench(**parts(0), **own).model(study.runs[-1])
    x = {"input_ids": IDS, "attention_mask": MASK}
    hidden = model.model(**x, output_hidden_states=True).hidden_states[-1]
    mean = (hidden * MASK[..., None]).sum(1) / MASK.sum(1, keepdim=True)
    torch.testing.assert_close(model(**x).features, mean)
    other = model(input_ids=torch.where(MASK == 1, IDS, 7), attention_mask=MASK)
    torch.testing.assert_close(model(**x), other)
    assert study.runs[-1].history[0]["kernel"] > 0


def test_a_residual_network_of_torchvision_teaches_while_it_stays_as_it_is(tmp_path):
    pixels = torch.rand(90, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
    own = bench(
        **arrays(x=pixels),
        teacher=network,
        student=lambda seed: nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, 4)),
    )
    study = ql.compare(own, ["rkd"], 1, runs_dir=tmp_path, **SMALL)
    held, given = study.runs[0].weights(), network.state_dict()
    assert all(torch.equal(held[name], given[name]) for name in given)  # averages of batch norm too
    assert own.feature_dim(own.teacher(0)) == 512 and study.runs[1].history[0]["angle"] > 0


def test_weights_are_tuned_on_a_benchmark_of_ones_own(tmp_path):
    found = ql.tune(bench(), 2, weights=[0.1, 1.0], runs_dir=tmp_path, **SMALL)
    assert found.benchmark == "mine" and set(found.chosen) == {"kd", "rkd"}
    again = ql.tune(bench(), 2, weights=[0.1, 1.0], runs_dir=tmp_path, **SMALL)
    assert again.trials == found.trials
    study = ql.compare(bench(), ["rkd"], 1, runs_dir=tmp_path, **SMALL | found.settings)
    assert study.runs[-1].settings["kd_weight"] == found.chosen["kd"]


# ---- what is refused


class Shifting(nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
        self.bias.data += np.random.default_rng().normal()


ONE = net()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test": (X, Y[:5])}, "test: expected as many rows of x as of y, got 90 and 5"),
        ({"test": (X[:0], Y[:0])}, r"test, x: expected one row per sample, got \(0, 4\)"),
        ({"task": "multi-label"}, r"y: expected labels \(n, c\), each 0 or 1, got \(50,\)"),
        ({"task": "regression"}, r"the teacher gives \(8, 4\); expected \(8, 1\), as y has it"),
        ({"task": "ranking"}, "unknown task 'ranking'; choose from classification, regression"),
        ({"train": (X, Y - 1)}, "from -1 to 2"),
        ({"train": (X.clone().fill_(torch.nan), Y)}, "train, x: 90 of 90 rows hold NaN"),
        ({"teacher": lambda seed: net(seed + 1)}, "teacher: .* another model for seed 1"),
        ({"student": ONE}, "student: expected a function of a seed .* lambda seed: MyNet"),
        ({"student": lambda seed: ONE}, "expected a new model with the same weights each time"),
        ({"student": lambda seed: Shifting()}, "draw from torch's random numbers alone"),
        ({"student": lambda seed: nn.Linear(5, 4)}, r"asked about x \(8, 4\) torch.float32: Runt"),
        ({"student": lambda seed: nn.Linear(4, 3)}, "expected 4 logits or more, as y goes up to 3"),
        ({"unlabelled": X[:, :3]}, r"rows of x as in train, .*\(4,\).* got .*\(3,\)"),
        ({"name": "mnist"}, "no benchmark of the kit, got 'mnist'"),
        ({"name": "a/b"}, "name: expected letters"),
    ],
)
def test_what_does_not_fit_is_said(changes, says):
    with pytest.raises((TypeError, ValueError), match=says):
        bench(**changes)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"published": True}, "published: no records of a benchmark of your own came with"),
        ({"student_widths": (1, 2, 3)}, "student_widths is a setting of the kit's own benchmarks"),
        ({"train_size": 3}, "train_size is a setting"),
        ({"epoch": 3}, "unknown setting 'epoch'"),
    ],
)
def test_what_cannot_work_is_said_in_one_sentence(options, says, tmp_path):
    with pytest.raises(ValueError, match=says):
        ql.compare(bench(), runs_dir=tmp_path, **options)
    assert not list(tmp_path.iterdir())


def test_a_benchmark_of_the_kit_is_given_by_name_and_ones_own_is_not_exported(tmp_path):
    with pytest.raises(ValueError, match="give its name, 'digits'"):
        ql.compare(ql.load_benchmark("digits", "smoke"))
    own = bench()
    study = ql.compare(own, ["kd"], 1, runs_dir=tmp_path, **SMALL)
    with pytest.raises(ValueError, match="only language models of the kit are exported"):
        own.export(study.runs[-1], tmp_path / "out")
    assert isinstance(own.outputs(own.student(0), X), Outputs)
