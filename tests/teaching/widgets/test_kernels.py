"""The kernel explorer: its numbers are those of the plain functions, and what is wrong is said."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.kernels.encoders import BANDWIDTHS
from qrkd_lab.teaching.widgets.kernels import KernelExplorer, labelled_samples


@pytest.fixture
def explorer():
    made = KernelExplorer(n=16, qubits=3)
    made.refresh()
    return made


def test_it_shows_the_kernel_of_the_plain_functions(explorer):
    explorer.controls["bandwidth"].value = 0.5
    samples = labelled_samples("digits")
    angles = ql.Encoder(64, 64, 3, "pca").fit(samples.features).teacher(samples.features[:16])
    matrix = ql.FidelityKernel("zz", 3, 2, bandwidth=0.5)(angles)
    panel = next(iter(explorer._panels.values()))
    order = np.argsort(samples.labels[:16].numpy(), kind="stable")
    torch.testing.assert_close(torch.tensor(panel._images[0].get_array()), matrix[order][:, order])
    assert "bandwidth=0.5" in explorer._said


@pytest.mark.parametrize(
    "name, value",
    [
        ("data", "two moons"), ("n", 32), ("encoder", "projection"), ("kernel", "projected"),
        ("feature_map", "iqp"), ("qubits", 4), ("layers", 3), ("bandwidth", 1.0), ("shots", 10),
        ("seed", 1), ("entangle", False),
    ],
)  # fmt: skip
def test_every_control_changes_the_picture(explorer, name, value):
    before = explorer._shown["kernel"].png
    explorer.controls[name].value = value
    assert "alert" not in explorer._words.value
    assert explorer._shown["kernel"].png != before


def test_the_circuit_is_drawn_and_follows_the_knobs_that_it_depends_on(explorer):
    circuit = explorer._shown["circuit"]
    assert circuit.wide and "Circuit of the feature map zz on 3 qubits" in circuit.alt
    explorer.controls["bandwidth"].value = 0.5
    assert explorer._shown["circuit"] is circuit
    explorer.controls["layers"].value = 1
    assert explorer._shown["circuit"].png != circuit.png
    explorer.controls["qubits"].value = 12
    explorer.controls["layers"].value = 2
    assert not explorer._shown["circuit"].png, "too wide to read"


def test_options_that_a_map_lacks_are_greyed_and_left_out(explorer):
    explorer.controls["feature_map"].value = "amplitude"
    assert explorer.controls["layers"].disabled and explorer.controls["entangle"].disabled
    assert explorer.controls["bandwidth"].disabled and explorer._rule.disabled
    assert "alert" not in explorer._words.value
    explorer.controls["feature_map"].value = "zz"
    assert not explorer.controls["layers"].disabled


def test_wrong_combinations_are_said_inside_and_leave_it_usable(explorer, tmp_path):
    explorer.controls["kernel"].value = "projected"
    explorer.controls["shots"].value = 100
    assert 'role="alert"' in explorer._words.value and "choose exact" in explorer._said
    explorer.controls["kernel"].value = "fidelity"
    assert "alert" not in explorer._words.value
    missing = KernelExplorer("mnist", data_dir=tmp_path)
    missing.refresh()
    assert "mnist" in missing._said.lower() and "alert" in missing._words.value
    missing.controls["data"].value = "digits"
    assert "alert" not in missing._words.value


def test_few_numbers_are_repeated_over_the_qubits_and_it_is_said():
    moons = KernelExplorer("two moons", n=16, qubits=4)
    moons.refresh()
    assert "only 2 numbers, repeated to give 4 angles" in moons._said
    assert moons.controls["encoder"].disabled
    moons.controls["qubits"].value = 2
    assert "repeated" not in moons._said and not moons.controls["encoder"].disabled


def test_the_bandwidth_begins_by_the_rule_and_can_go_back_to_it(explorer):
    start = explorer.controls["bandwidth"].value
    assert start in BANDWIDTHS
    explorer.controls["bandwidth"].value = 4.0
    explorer.calibrate()
    assert explorer.controls["bandwidth"].value == start
    assert KernelExplorer(bandwidth=0.25).controls["bandwidth"].value == 0.25


def test_a_readers_array_is_one_of_the_data():
    x = np.random.default_rng(0).normal(size=(40, 5))
    y = np.repeat(["low", "high"], 20)
    own = KernelExplorer((x, y), n=32, qubits=4)
    own.refresh()
    assert own.state["data"] == "your data" and "alert" not in own._words.value
    features, labels = x, y
    assert eval(repr(own)).state == own.state and features is x and labels is y
    own.controls["data"].value = "digits"
    own.controls["data"].value = "your data"
    assert "alert" not in own._words.value
    with pytest.raises(ValueError, match="one m >= 3"):
        KernelExplorer((x, y[:3]))


def test_its_repr_makes_it_again(explorer):
    explorer.controls["feature_map"].value = "iqp"
    assert eval(repr(explorer)).state == explorer.state


def test_an_unknown_name_lists_the_choices():
    with pytest.raises(ValueError, match="unknown .*zz"):
        KernelExplorer(feature_map="zzz")
    with pytest.raises(ValueError, match="qubits.* 1 to 12"):
        KernelExplorer(qubits=40)
    with pytest.raises(ValueError, match="bandwidth: expected 0.0078"):
        KernelExplorer(bandwidth=0)
    with pytest.raises(ValueError, match="qubits: expected 1 to 12, got '6'"):
        KernelExplorer(qubits="6")
    with pytest.raises(ValueError, match="seed: expected a whole number, got 1.5"):
        KernelExplorer(seed=1.5)
    with pytest.raises(ValueError, match="expected True or False, got 'yes'"):
        KernelExplorer(entangle="yes")


def test_cells_and_the_explorer_read_circuits_at_the_same_time(explorer):
    def cell():
        for q in range(2, 8):
            ql.FidelityKernel("iqp", q, layers=3)(torch.zeros(2, q, dtype=torch.float64))

    running = threading.Thread(target=cell, daemon=True)  # torch's tracer takes one at a time
    explorer.draw_in_background()
    running.start()
    for q in range(2, 8):
        explorer.controls["qubits"].value = q
    running.join(180)
    assert not running.is_alive() and explorer.settle(180)
    assert "alert" not in explorer._words.value and "qubits=7" in explorer._said
    explorer._end()
