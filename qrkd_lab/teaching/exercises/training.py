"""The exercise on training: one whole step, from the batch to the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qrkd_lab.kernels.classical import RBFKernel
from qrkd_lab.kernels.encoders import Encoder, KernelRelation
from qrkd_lab.losses import DistillationLoss, Losses, Outputs, TeacherBatch
from qrkd_lab.teaching.exercises.checker import Answer, Function, answered, given, normal, refuse

STEPS = 3


class Net(nn.Module):
    """Inputs ``(n, 4)`` -> :class:`~qrkd_lab.losses.Outputs`; the same weights each time."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(4, width).double(), nn.Linear(width, 3).double()
        for i, p in enumerate(self.parameters()):
            p.data = normal(*p.shape, seed=seed + i)
        self.with_graph = False

    def forward(self, inputs: Tensor) -> Outputs:
        self.with_graph |= torch.is_grad_enabled()
        features = self.hidden(inputs).tanh()
        return Outputs(self.output(features), features)


def right_step(
    student: nn.Module,
    teacher: nn.Module,
    loss: DistillationLoss,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    zero: bool = True,
    of: Callable[[Losses], Tensor] = lambda losses: losses.total,
) -> Tensor:
    """One step as the exercise wants it; ``zero`` and ``of`` make the typical mistakes."""
    with torch.no_grad():
        taught = TeacherBatch(teacher(inputs))
    total = of(loss(student(inputs), taught, targets))
    if zero:
        optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total.detach()


STEP_MISTAKES: dict[str, Function] = {
    "no weight has moved: total.backward(), then optimizer.step().":
        lambda *given: right_step(*given, of=lambda losses: 0 * losses.total),
    "the gradients of earlier batches are still there: call optimizer.zero_grad() in each step.":
        lambda *given: right_step(*given, zero=False),
    "the terms are added without their weights: use the total that the loss returns.":
        lambda *given: right_step(*given, of=lambda losses: sum(losses.terms.values())),
    "only the task is learnt: use the total, not the term of the task alone.":
        lambda *given: right_step(*given, of=lambda losses: losses.terms["task"]),
}  # fmt: skip

TORCH_SAYS = {
    "inplace operation": "the optimiser moves before backward(): first backward(), then step().",
    "does not require grad": "the student has no graph: only the teacher is asked under no_grad().",
}


def check_training_step(f: Function | None) -> Answer:
    """Check ``f(student, teacher, loss, optimizer, inputs, targets)`` -> the total loss.

    ``student(inputs)`` and ``teacher(inputs)`` give :class:`~qrkd_lab.losses.Outputs`;
    ``loss(said, taught, targets)`` gives ``total, terms``. Each call is one step of the optimiser,
    for the student and the loss's adapter.
    """

    def judge(f: Function) -> str:
        want, totals, _ = _run(right_step)
        got, said, teacher = _run(f)
        if not torch.allclose(got, want, 1e-6, 1e-9):
            if said[0] is ... or said[0] is None and torch.equal(got, _run(lambda *_: None)[0]):
                given(said[0])  # not answered yet
            alike = (h for h, g in STEP_MISTAKES.items() if torch.allclose(got, _run(g)[0], 1e-6))
            refuse(next(alike, "the weights are wrong: use the loss and the optimiser given."))
        if teacher.with_graph:
            refuse("the teacher builds a graph that nobody needs: ask it under torch.no_grad().")
        try:
            found = torch.tensor([torch.as_tensor(total).item() for total in said])
        except (TypeError, ValueError, RuntimeError):
            refuse(f"the weights are right; return the total loss, too, not {said[0]!r:.60}.")
        if not torch.allclose(found, torch.stack(totals).float()):
            refuse(f"the weights are right, but the total is {totals[0]:.4g}, not {found[0]:.4g}.")
        return f"after {STEPS} steps student and adapter have the right weights."

    return answered(f, judge, says=TORCH_SAYS)


def _run(f: Function) -> tuple[Tensor, list[Any], Net]:
    """All weights after some steps of ``f``, what it returned, and the teacher."""
    student, teacher = Net(5, 0), Net(6, 10)
    relation = KernelRelation(RBFKernel(), Encoder(6, 5, 2).double())
    loss = DistillationLoss(kd=0.5, distance=1.0, angle=2.0, kernel=(relation, 3.0))
    parameters = [*student.parameters(), *loss.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05)  # Adam would hide a factor before the loss
    said = []
    for step in range(STEPS):
        inputs, targets = normal(8, 4, seed=20 + step), torch.arange(8) % 3
        said.append(f(student, teacher, loss, optimizer, inputs, targets))
    return torch.cat([p.detach().flatten() for p in parameters]), said, teacher
