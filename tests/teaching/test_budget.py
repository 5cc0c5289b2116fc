"""Circuits, years and money of one student on a device, counted by hand."""

from __future__ import annotations

import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels import FidelityKernel, ProjectedKernel
from qrkd_lab.studies.benchmarks import benchmark_settings, load_benchmark
from qrkd_lab.teaching.experiments import (
    SECONDS_A_YEAR,
    budget_table,
    circuit_budget,
    shifted_circuits,
)


@pytest.mark.parametrize(
    ("feature_map", "layers", "count"),
    [
        ("angle", 3, 2 * 4 * 3),
        ("iqp", 2, 2 * (4 + 6) * 2),
        ("zz", 1, 2 * (4 + 6)),
        ("reuploading", 2, 2 * 4 * 2),  # the fixed rotations are not shifted
    ],
)
def test_two_circuits_for_each_rotation_that_depends_on_the_data(feature_map, layers, count):
    assert shifted_circuits(FidelityKernel(feature_map, qubits=4, layers=layers)) == count


def test_other_gates_take_what_their_frequencies_ask_for():
    def controlled(angles, wires):
        qp.Hadamard(wires[0])
        qp.CRX(angles[..., 0], wires=wires[:2])  # two frequencies
        qp.RX(0.3, wires=wires[1])

    assert shifted_circuits(FidelityKernel(controlled, qubits=2)) == 4
    with pytest.raises(ValueError, match="StatePrep of .* has no parameter-shift rule"):
        shifted_circuits(FidelityKernel("amplitude", qubits=2))


def test_the_shift_rule_gives_the_slope_that_the_count_is_for():
    kernel, x, y = FidelityKernel("angle", qubits=1), torch.tensor([[0.4]]), torch.tensor([[1.3]])
    quarter = torch.pi / 2
    shifted = (kernel(x + quarter, y) - kernel(x - quarter, y)).item() / 2
    x.requires_grad_()
    assert torch.autograd.grad(kernel(x, y).sum(), x)[0].item() == pytest.approx(shifted, abs=1e-6)


def test_a_fidelity_kernel_is_counted_pair_by_pair():
    settings = benchmark_settings("digits", "laptop", batch_size=10, epochs=3, bandwidth=1.0)
    bill = circuit_budget(settings.replace(feature_map="angle", qubits=4), samples=95, shots=7)
    assert (bill.batch, bill.steps) == (10, 30)
    assert bill.values == 30 * 2 * 45 and bill.gradient == 30 * 45 * 2 * 8
    assert bill.calibration == 0 and bill.circuits == bill.values + bill.gradient
    assert bill.years(100.0) == pytest.approx(bill.circuits * 7 / 100 / SECONDS_A_YEAR)
    assert bill.price(0.5, 2.0) == bill.circuits * (7 * 0.5 + 2)


def test_a_projected_kernel_is_counted_sample_by_sample():
    settings = benchmark_settings("digits", "laptop", batch_size=10, epochs=3, kernel="projected")
    bill = circuit_budget(settings.replace(feature_map="angle", qubits=4), samples=100)
    assert bill.values == 30 * 2 * 30 and bill.gradient == 30 * 30 * 8
    assert bill.calibration == 19 * 3 * 256


def test_the_device_runs_as_many_circuits_as_the_budget_says():
    x = torch.rand(5, 2, dtype=torch.float64)
    for kernel, kind in ((FidelityKernel("angle", 2), "fidelity"), (ProjectedKernel("angle", 2),
                                                                   "projected")):  # fmt: skip
        on = kernel.on("default.qubit")
        on(x)
        settings = benchmark_settings("digits", "laptop", batch_size=5, epochs=1, kernel=kind)
        bill = circuit_budget(settings.replace(feature_map="angle", qubits=2), samples=5)
        assert 2 * on.circuits == bill.values


def test_steps_are_those_of_the_benchmark():
    bench = load_benchmark("digits", "smoke")
    bill = circuit_budget(bench.settings, bench.samples)
    assert bill.steps == bench.settings.epochs * bench.steps(bench.settings.batch_size)
    # the scale's own train_size counts where there are more samples
    assert circuit_budget(bench.settings, 10_000).steps == bill.steps


def test_a_text_compares_tokens_of_a_fixed_number_of_samples():
    settings = benchmark_settings("ptb", "laptop")
    bill = circuit_budget(settings, samples=10**6)
    assert bill.steps == settings.epochs * settings.epoch_size // settings.batch_size
    assert bill.batch == settings.tap_tokens


def test_what_has_no_circuit_has_no_budget():
    with pytest.raises(ValueError, match="RBF.* is classical"):
        circuit_budget(benchmark_settings("digits", "laptop", kernel="rbf"), 100)
    with pytest.raises(ValueError, match="samples: expected a whole number >= 1"):
        circuit_budget(benchmark_settings("digits", "laptop"), 0)


def test_a_table_is_a_row_a_budget():
    bill = circuit_budget(benchmark_settings("digits", "laptop"), samples=1100, shots=10)
    table = budget_table({"digits": bill}, shots_a_second=50.0, shot_price=0.1, circuit_price=1.0)
    row = table.loc["digits"]
    assert row["circuits"] == bill.circuits and row["shots"] == bill.circuits * 10
    assert row["years"] == bill.years(50.0) and row["price"] == bill.price(0.1, 1.0)
