"""Exercises on circuits: measuring in another basis, and a feature map that sees differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pennylane.queuing import AnnotatedQueue
from torch import Tensor

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer, answered, refuse
from qrkd_lab.kernels.quantum import FidelityKernel

__all__ = ["check_other_basis", "check_shift_map"]

Function = Callable[..., Any]
TOLERANCE = 1e-4


def check_other_basis(f: Function | None) -> Answer:
    """Check ``f(angles)``: two angles -> probabilities (4,) of one iqp layer, then H on each qubit.

    Two layers of iqp without further Hadamards have the same probabilities, and count as right.
    """
    rows = torch.tensor([[0.5, 0.7], [1.5, 0.7], [-0.9, 2.0]], dtype=torch.float64)
    states = FidelityKernel("iqp", 2, layers=1).states(rows)
    hadamard = torch.tensor([[1, 1], [1, -1]], dtype=states.dtype) / 2**0.5
    turned = states @ torch.kron(hadamard, hadamard).T
    want = turned.abs().square()
    mistakes = {
        "these are amplitudes: a probability is the absolute square.": turned,
        "the absolute values are not squared.": turned.abs(),
        "nothing changes with the angles: is the Hadamard applied before the square?": (
            states.abs().square()
        ),
        "the Hadamard acts on the first qubit only.": (
            (states @ torch.kron(hadamard, torch.eye(2, dtype=states.dtype)).T).abs().square()
        ),
        "the Hadamard acts on the last qubit only.": (
            (states @ torch.kron(torch.eye(2, dtype=states.dtype), hadamard).T).abs().square()
        ),
        "Hadamards after two layers: take layers=1 (the default of iqp is 2).": (
            (FidelityKernel("iqp", 2).states(rows) @ torch.kron(hadamard, hadamard).T)
            .abs().square()
        ),
    }  # fmt: skip

    def judge(f: Function) -> str:
        found = torch.stack([_numbers(f(row.clone())) for row in rows])
        if torch.allclose(found, want.to(found.dtype), atol=TOLERANCE):
            return "another basis shows what the first one hid."
        for hint, wrong in mistakes.items():
            if torch.allclose(found, wrong.to(found.dtype), atol=TOLERANCE):
                refuse(hint)
        if torch.allclose(found, found[:1].expand_as(found), atol=TOLERANCE):
            refuse("nothing changes with the angles: is the Hadamard applied before the square?")
        refuse("not the probabilities of one layer of iqp (layers=1) and a Hadamard on each qubit.")

    return answered(f, judge)


def check_shift_map(f: Function | None) -> Answer:
    """Check a feature map ``f(angles, wires)``, whose fidelity depends on ``x - y`` alone."""
    x, y, shifts = normal(6, 2), normal(6, 2, seed=1), normal(6, 2, seed=2)

    def judge(f: Function) -> str:
        with AnnotatedQueue() as recorded:
            f(x, range(2))
        if not recorded.queue:
            refuse("your map has no gate so far.", "Not answered yet")
        if any(gate.batch_size not in (None, len(x)) for gate in recorded.queue):
            refuse("that is the i-th sample: the i-th angle of each sample is angles[..., i].")
        kernel = FidelityKernel(f, qubits=2)
        found = kernel(x, y)
        if (found - 1).abs().max() < TOLERANCE:
            refuse(
                "all samples look alike to this map: no gate takes an angle, or it turns phases "
                "only (RZ on |0>)."
            )
        for i in range(2):
            moved = x.clone()
            moved[:, i] += 1.3
            if (kernel(moved, y) - found).abs().max() < TOLERANCE:
                refuse(f"the map does not see angle {i}: both have to matter.")
        if any((kernel(x + s, y + s) - found).abs().max() > TOLERANCE for s in shifts):
            refuse("a shift of both samples by the same amount changed their fidelity.")
        return "only differences matter to this map."

    return answered(f, judge)


def _numbers(value: Any) -> Tensor:  # noqa: ANN401
    """Four numbers, of any type, in double precision."""
    if value is None or value is ...:
        refuse("your function returns nothing so far.", "Not answered yet")
    found = torch.as_tensor(value).detach()
    if found.numel() != 4:
        refuse(f"expected 4 probabilities, got the shape {tuple(found.shape)}.")
    return found.reshape(4).to(torch.complex128)
