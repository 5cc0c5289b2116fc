"""The circuit explorer, and the language of gates: the kit's own maps, and clear errors."""

from __future__ import annotations

import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.teaching.widgets.circuit import CIRCUITS, CircuitExplorer, read_gates

ANGLES = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["angle", "zz", "iqp"])
def test_the_kits_own_maps_can_be_written(name):
    written = ql.FidelityKernel(read_gates(CIRCUITS[name], 3), 3, bandwidth=0.7)
    expected = ql.FidelityKernel(name, 3, bandwidth=0.7)(ANGLES)
    torch.testing.assert_close(written(ANGLES), expected)


def names(text, qubits=3):
    kernel = ql.FidelityKernel(read_gates(text, qubits), qubits)
    return [
        (gate.name, list(gate.wires), [round(float(angle), 4) for angle in gate.parameters])
        for gate in kernel.gates(torch.tensor([1.0, 2.0, 4.0][:qubits]))
    ]


def test_places_angles_repeats_and_words():
    assert names("# first\nrepeat 2\nh 1  # a superposition") == 2 * [("Hadamard", [1], [])]
    assert names("CNOT ring") == [("CNOT", [i, (i + 1) % 3], []) for i in range(3)]
    assert names("CZ ring", 2) == [("CZ", [0, 1], [])]
    assert names("RZZ(x*y) pairs")[2] == ("IsingZZ", [1, 2], [8.0])
    assert names("CRX(-(x2 - pi)/2 + 1.5) 2, 0") == [("CRX", [2, 0], [1.0708])]
    assert names("RY(3) each")[1] == ("RY", [1], [3.0])


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "expected 1 to 500 gates, got 0"),
        ("H each\nRQ(x0) 0", "line 2, 'RQ.*expected a gate such as .*one of H, X"),
        ("RY 0", "RY takes an angle"),
        ("RY(x0 +) 0", "the angle 'x0 .' is not a formula"),
        ("RY(x3) 0", "x3: a sample has the numbers x0 to x2"),
        ("RY(y) 0", "made of numbers, pi, x0, x1, x, y .*not of 'y'"),
        ("RY(1/0) 0", "division by zero"),
        ("RY(__import__('os').getcwd()) 0", "not of"),
        ("RY(x0.real) 0", "not of"),
        ("CNOT 0", "CNOT acts on two different numbers of qubits, or on: pairs, ring"),
        ("H 3", "there are qubits 0 to 2"),
        ("H 0\nrepeat 2", "repeat comes before the first gate"),
        ("RY(" + 900 * "(" + "x0" + 900 * ")" + ") 0", "line 1"),
        (1000 * "H 0\n", "at most 2000 characters"),
    ],
)
def test_what_is_not_understood_is_said_with_its_line(text, said):
    with pytest.raises(ValueError, match=said):
        read_gates(text, 3)


@pytest.fixture
def explorer():
    made = CircuitExplorer(CIRCUITS["angle"], bandwidth=1.0)
    made.refresh()
    return made


def test_it_says_whether_the_circuits_kernel_is_an_rbf(explorer):
    angles = torch.randn(64, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kernel = ql.FidelityKernel("angle", 2, bandwidth=1.0)(angles)
    fit = ql.kernels.best_fit(kernel, angles)
    assert f"(R^2 = {fit.r_squared:.2f}), on 64 normal samples" in explorer._said
    assert "2 RY" in explorer._shown["circuit"].alt and "repeat 2" in explorer._shown["language"]
    assert eval(repr(explorer)).state == explorer.state


@pytest.mark.parametrize(
    "name, value",
    [("gates", "RX(2*x0) 0"), ("qubits", 3), ("bandwidth", 0.5), ("x0", 1.0), ("x1", -1.0)],
)
def test_every_control_changes_what_is_seen(explorer, name, value):
    before = (explorer._shown["kernel"].png, explorer._said)
    explorer.controls[name].value = value
    assert "alert" not in explorer._words.value
    assert (explorer._shown["kernel"].png, explorer._said) != before


def test_a_wrong_line_and_a_circuit_without_data_are_said_inside(explorer):
    explorer.controls["gates"].value = "RY(x0"
    assert 'role="alert"' in explorer._words.value and "line 1" in explorer._said
    explorer.controls["gates"].value = "H each"
    assert "no gate of the feature map depends on the angles" in explorer._said
    explorer.controls["gates"].value = "RZ(x) each"
    assert "alert" not in explorer._words.value and "nothing for an RBF to fit" in explorer._said
