"""Merging: few stages, and the same states as gate by gate."""

from __future__ import annotations

import numpy as np
import pennylane as qp
import pytest
import torch

from qrkd_lab.kernels.statevector import Gate, schedule

ZERO = torch.zeros(1, 8, dtype=torch.complex128)
ZERO[0, 0] = 1


def gate(operation: type, *wires: int) -> Gate:
    return Gate("constant", wires, np.asarray(qp.matrix(operation(wires=wires)), complex))


def run(stages: list) -> torch.Tensor:
    state = ZERO
    for stage in stages:
        state = stage(state, None, [], {})
    return state


def kinds(gates: list[Gate]) -> list[str]:
    return [type(stage).__name__ for stage in schedule(gates, 3, ZERO)]


def test_each_gate_becomes_the_fastest_stage_that_takes_it():
    assert kinds([gate(qp.CZ, 0, 1)]) == ["Phase"]
    assert kinds([gate(qp.X, 0)]) == ["Layer"]
    assert kinds([gate(qp.Toffoli, 0, 1, 2)]) == ["Permutation"]
    assert kinds([gate(qp.CH, 0, 1)]) == ["Single"]
    assert kinds([gate(qp.ISWAP, 0, 1)]) == ["Single"]  # moves basis states, but with a factor i


def test_gates_that_commute_are_moved_together():
    layer = [gate(qp.Hadamard, wire) for wire in range(3)]
    assert kinds([*layer, gate(qp.CZ, 0, 1), gate(qp.S, 2), gate(qp.T, 0)]) == ["Layer", "Phase"]
    assert kinds([gate(qp.Hadamard, 0), gate(qp.CNOT, 1, 2), gate(qp.SX, 0)]) == [
        "Layer", "Permutation",
    ]  # fmt: skip


def test_gates_that_do_not_commute_keep_their_order():
    assert kinds([gate(qp.Hadamard, 0), gate(qp.S, 0), gate(qp.Hadamard, 0)]) == [
        "Layer", "Phase", "Layer",
    ]  # fmt: skip
    assert kinds([gate(qp.CH, 0, 1), gate(qp.CH, 0, 1)]) == ["Single", "Single"]


@pytest.mark.parametrize("seed", range(5))
def test_the_merged_circuit_prepares_the_same_state(seed):
    rng = np.random.default_rng(seed)
    choices = [(qp.Hadamard, 1), (qp.T, 1), (qp.SX, 1), (qp.CNOT, 2), (qp.CZ, 2), (qp.CH, 2),
               (qp.SWAP, 2), (qp.Toffoli, 3)]  # fmt: skip
    gates = []
    for _ in range(30):
        operation, size = choices[rng.integers(len(choices))]
        gates.append(gate(operation, *map(int, rng.permutation(3)[:size])))
    merged = schedule(gates, 3, ZERO)
    alone = [stage for one in gates for stage in schedule([one], 3, ZERO)]
    assert len(merged) < len(alone) == 30
    torch.testing.assert_close(run(merged), run(alone))
