"""The kernel explorer: its numbers are those of the plain functions, and what is wrong is said."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.kernels.analysis import off_diagonal_values
from qrkd_lab.kernels.encoders import BANDWIDTHS
from qrkd_lab.teaching.widgets import kernels
from qrkd_lab.teaching.widgets.kernels import KernelExplorer, labelled_samples


@pytest.fixture(scope="module")
def made_once():
    return KernelExplorer(n=16, qubits=3)


@pytest.fixture
def explorer(made_once):
    start = KernelExplorer.__init__.__defaults__
    names = KernelExplorer.__init__.__code__.co_varnames[1 : len(start) + 1]
    state = dict(zip(names, start)) | {"n": 16, "qubits": 3, "bandwidth": 0.0625}
    made_once.set_to(**{name: state[name] for name in made_once.controls})
    return made_once


def test_it_shows_the_kernel_of_the_plain_functions(explorer):
    explorer.controls["bandwidth"].value = 0.5
    samples = labelled_samples("digits")
    angles = ql.Encoder(64, 64, 3, "pca").fit(samples.features).teacher(samples.features[:16])
    matrix = ql.FidelityKernel("zz", 3, 2, bandwidth=0.5)(angles)
    panel = explorer._panel(explorer._samples("digits", 0), 16)
    order = np.argsort(samples.labels[:16].numpy(), kind="stable")
    torch.testing.assert_close(torch.tensor(panel._images[0].get_array()), matrix[order][:, order])
    assert "bandwidth=0.5" in explorer._said and "effective rank" in explorer._shown["numbers"]
    explorer.controls["feature_map"].value = "iqp"
    assert eval(repr(explorer)).state == explorer.state


@pytest.mark.parametrize(
    "name, value",
    [
        ("data", "two moons"), ("n", 32), ("encoder", "projection"), ("kernel", "projected"),
        ("feature_map", "iqp"), ("qubits", 4), ("layers", 3), ("bandwidth", 1.0), ("shots", 10),
        ("seed", 1), ("entangle", False), ("beside", "stretched RBF"),
    ],
)  # fmt: skip
def test_every_control_changes_the_picture(explorer, name, value):
    before = explorer._shown["matrix"].png
    explorer.controls[name].value = value
    assert "alert" not in explorer._words.value
    assert explorer._shown["matrix"].png != before


def test_the_circuit_is_drawn_and_follows_the_knobs_that_it_depends_on(explorer):
    circuit = explorer._shown["circuit"]
    assert circuit.wide and "Circuit of the feature map zz on 3 qubits" in circuit.alt
    explorer.controls["bandwidth"].value = 0.5
    assert explorer._shown["circuit"] is circuit
    explorer.controls["layers"].value = 1
    assert explorer._shown["circuit"].png != circuit.png
    explorer.controls["feature_map"].value = "amplitude"  # it has neither, and they are greyed
    assert explorer.controls["layers"].disabled and explorer.controls["bandwidth"].disabled
    assert "alert" not in explorer._words.value


def test_wrong_combinations_are_said_inside_and_leave_it_usable(explorer, tmp_path, monkeypatch):
    explorer.controls["kernel"].value = "projected"
    explorer.controls["shots"].value = 100
    assert 'role="alert"' in explorer._words.value and "choose exact" in explorer._said
    explorer.controls["kernel"].value = "fidelity"
    assert "alert" not in explorer._words.value
    missing = KernelExplorer("mnist", data_dir=tmp_path)
    missing.refresh()
    assert "mnist" in missing._said.lower() and "alert" in missing._words.value
    assert missing._fetch.layout.display is None
    asked = []
    with monkeypatch.context() as patched:
        patched.setattr(kernels, "load_images", lambda *a, **k: asked.append((a, k)))
        missing.fetch()
    assert asked[0] == (("mnist",), {"data_dir": tmp_path}), "the button downloads it"
    missing.controls["data"].value = "two moons"
    assert "alert" not in missing._words.value
    assert missing._fetch.layout.display == explorer._fetch.layout.display == "none"
    assert "only 2 numbers, repeated to give 6 angles" in missing._said


def test_a_stretched_rbf_stands_beside_it_and_its_fit_is_always_said(explorer):
    kernel, (_, angles) = explorer._kernel(), explorer._angles()
    fitted = ql.kernels.StretchedRBFKernel.fitted(kernel, angles)(angles)
    values = [off_diagonal_values(matrix) for matrix in (kernel(angles), fitted)]
    explained = 1 - (values[0] - values[1]).square().mean() / values[0].var(correction=0)
    said = f"A stretched RBF, with a metric of its own: R² = {explained:.2f}."
    assert said in explorer._said and "best RBF: bandwidth" in explorer._shown["matrix"].alt
    explorer.controls["beside"].value = "stretched RBF"
    assert said in explorer._said
    assert f"stretched RBF: 3 × 3 metric; pair by pair: R² = {explained:.2f}" in (
        explorer._shown["matrix"].alt
    )


def test_a_pinned_matrix_stays_beside_those_of_other_settings(explorer):
    explorer.controls["beside"].value = "pinned matrix"
    panel = explorer._panel(explorer._samples("digits", 0), 16)
    assert "No matrix of these samples is pinned yet" in explorer._said
    assert "best RBF" in panel.alt and "alert" not in explorer._words.value
    explorer.pin()
    assert "is pinned yet" not in explorer._said
    first = panel._images[0].get_array().copy()
    assert explorer.state["beside"] == "pinned matrix" and "CKA = 1.00" in panel.alt
    explorer.controls["feature_map"].value = "angle"
    np.testing.assert_array_equal(panel._images[1].get_array(), first)
    assert "pinned matrix: zz" in panel.alt and "CKA = 1.00" not in panel.alt
    explorer.controls["data"].value = "two moons"  # other samples are seen all the same
    assert "No matrix of these samples is pinned yet" in explorer._said
    assert "best RBF" in explorer._shown["matrix"].alt


def test_the_bandwidth_begins_by_the_rule_and_can_go_back_to_it(explorer):
    start = KernelExplorer(n=16, qubits=3).controls["bandwidth"].value
    assert start in BANDWIDTHS and explorer.controls["bandwidth"].value != start
    explorer.calibrate()
    assert explorer.controls["bandwidth"].value == start


def test_a_readers_array_is_one_of_the_data():
    x = np.random.default_rng(0).normal(size=(40, 5))
    y = np.repeat(["low", "high"], 20)
    own = KernelExplorer((x, y), n=32, qubits=4)
    own.refresh()
    assert own.state["data"] == "your data" and "alert" not in own._words.value
    features, labels = x, y
    assert eval(repr(own)).state == own.state and features is x and labels is y
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        KernelExplorer((x, y[:3]))


@pytest.mark.parametrize("source, d, classes", [("digits", 64, 10), ("two moons", 2, 2)])
def test_samples_by_name(source, d, classes):
    samples = labelled_samples(source)
    assert samples.features.shape == (len(samples.labels), d)
    assert samples.features.dtype == torch.float64
    assert len(samples.classes) == classes and f"of {d} numbers" in repr(samples)
    assert samples.labels[:classes].unique().numel() == classes, "its beginning is stratified"
    again, other = labelled_samples(source), labelled_samples(source, seed=1)
    assert torch.equal(samples.features, again.features)
    assert not torch.equal(samples.features, other.features)


@pytest.mark.parametrize(
    "x, y, said",
    [
        (np.zeros((2, 2)), np.zeros(2), "minimum of 3 is required"),
        (np.full((4, 2), np.nan), np.zeros(4), "NaN"),
        (np.zeros((4, 2)), np.linspace(0, 1, 4), "continuous"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(x, y, said):
    with pytest.raises(ValueError, match=said):
        labelled_samples((x, y))


def test_arrays_of_any_make_are_taken():
    x, y = np.arange(12.0).reshape(6, 2)[::-1], ["a", "b"] * 3
    for features in (x, torch.tensor(x.copy()), x.tolist(), x.astype(np.int8)):
        assert labelled_samples((features, y)).classes == ("a", "b")
    samples = labelled_samples((pd.DataFrame(x), pd.Series([7, 7, 7, 3, 3, 3], index=range(1, 7))))
    assert samples.classes == ("3", "7")
    for row, label in zip(samples.features, samples.labels):
        assert samples.classes[label] == str([7, 7, 7, 3, 3, 3][(x == row.numpy()).all(1).argmax()])
    with pytest.raises(ValueError, match="choose from digits, two moons, mnist"):
        labelled_samples("moons")
