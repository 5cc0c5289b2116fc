"""Circuits made, drawn and run in several threads at once: none gets lost, none waits for ever."""

from __future__ import annotations

import sys
import threading

import pennylane as qp
import pytest
import torch

import qrkd_lab as ql
from qrkd_lab.kernels.statevector import one_at_a_time

ANGLES = torch.tensor([[0.3, 0.1, 0.7], [0.2, 0.9, 0.4]], dtype=torch.float64)
ONES = torch.ones(2, dtype=torch.float64)


@pytest.fixture
def hurried():
    """Threads take turns a hundred times as often."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 100)
    yield
    sys.setswitchinterval(usual)


def test_threads_that_read_draw_and_run_circuits_do_not_stop_each_other(hurried):
    failures = []

    def read():
        for layers in range(11, 31):
            kernel = ql.FidelityKernel("iqp", 3, layers=layers)
            torch.testing.assert_close(kernel(ANGLES).diagonal(), ONES)

    def draw():
        kernel = ql.FidelityKernel("zz", 3, layers=1)
        for _ in range(10):
            assert "3 Hadamard" in kernel.draw().alt

    def run():
        kernel = ql.FidelityKernel("angle", 3)
        for _ in range(10):
            torch.testing.assert_close(kernel.on()(ANGLES), kernel(ANGLES))

    def kept(work):
        try:
            work()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=kept, args=(w,), daemon=True) for w in (read, draw, run)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert not failures and not any(thread.is_alive() for thread in threads)


def test_gates_made_inside_belong_to_no_recording_outside():
    with qp.queuing.AnnotatedQueue() as outside:
        qp.Hadamard(0)
        with one_at_a_time(), one_at_a_time():
            qp.PauliX(0)
            ql.FidelityKernel("iqp", 3, layers=31)(ANGLES)
        qp.Hadamard(1)
    assert [gate.name for gate in qp.tape.QuantumScript.from_queue(outside).operations] == [
        "Hadamard",
        "Hadamard",
    ]
