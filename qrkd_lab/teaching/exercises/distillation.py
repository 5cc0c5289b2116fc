"""Exercises on the method: relations, losses, a training step, terms of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrkd_lab import losses
from qrkd_lab.kernels.classical import Kernel, RBFKernel
from qrkd_lab.kernels.encoders import Encoder, KernelRelation
from qrkd_lab.losses import DistillationLoss, Losses, Outputs, TeacherBatch, term_gradients
from qrkd_lab.relations import pairwise_distances, triplet_angles
from qrkd_lab.teaching.exercises.checker import (
    Answer,
    Case,
    Function,
    answered,
    bounded,
    close,
    coincident,
    given,
    mark,
    need,
    normal,
)

FEATURES = [
    Case("with 5 samples of 3 features", (normal(5, 3),)),
    Case("with 2 samples of 4 features", (normal(2, 4),)),
    Case("with coincident rows", (coincident(6, 3),), smooth=False),
]


def check_pairwise_distances(f: Function | None, gradient: bool = True) -> Answer:
    """Check ``f(x)``: (n, d) -> (n, n); ``gradient=False`` asks for the values only."""
    mistakes = {
        "these are squared distances: take the root.": lambda x: torch.cdist(x, x) ** 2,
        "these are sums of absolute differences: square, sum, take the root.":
            lambda x: torch.cdist(x, x, p=1),
        "divided by the mean: that belongs to the loss, the relation keeps its unit.":
            losses.normalised_distances,
    }  # fmt: skip
    right = "distances, with a zero diagonal, and a gradient that stays finite at coincident rows."
    return mark(f, pairwise_distances, FEATURES, mistakes, right, gradient)


def check_triplet_angles(f: Function | None, gradient: bool = True) -> Answer:
    """Check ``f(x)``: (n, d) -> (n, n, n), [j, i, k] the cosine at x_j, 0 where undefined."""

    def products(x: Tensor) -> Tensor:
        e = x[None] - x[:, None]  # [j, i] = x_i - x_j
        return torch.einsum("jid,jkd->jik", e, e)

    mistakes = {
        "the angle sits at the wrong vertex: [j, i, k] is the angle at x_j, the first index; yours "
        "is at the second.": lambda x: triplet_angles(x).permute(1, 0, 2),
        "this is the angle itself: give its cosine, without arccos.":
            lambda x: triplet_angles(x).clamp(-1, 1).arccos(),
        "inner products without normalisation: divide by both lengths.": products,
    }  # fmt: skip
    right = "cosines at the first index, 0 where undefined."
    return mark(f, triplet_angles, FEATURES, mistakes, right, gradient)


def check_kd_loss(f: Function | None) -> Answer:
    """Check ``f(student_logits, teacher_logits, temperature)`` -> scalar; see ``ql.kd_loss``."""

    def kl(s: Tensor, t: Tensor, T: float) -> Tensor:
        log_p, log_q = F.log_softmax(t / T, 1), F.log_softmax(s / T, 1)
        return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")

    def by_logarithms(s: Tensor, t: Tensor, T: float) -> Tensor:
        p, q = (t / T).softmax(1), (s / T).softmax(1)
        return T**2 * (p * (p.log() - q.log())).sum(1).mean()

    mistakes = {
        "the factor T^2 is missing.": kl,
        "KL the wrong way round: the teacher's probabilities weigh the logarithms.":
            lambda s, t, T: T**2 * kl(t, s, T),
        "mean over samples and classes: sum over the classes, average over samples only.":
            lambda s, t, T: T**2 * kl(s, t, T) / s.shape[1],
        "a sum over the samples: average over them.": lambda s, t, T: T**2 * kl(s, t, T) * len(s),
        "the logits are not divided by the temperature: do it before both softmaxes.":
            lambda s, t, T: T**2 * kl(s, t, 1.0),
        "F.kl_div takes the logarithm of the student's probabilities: F.log_softmax.":
            lambda s, t, T: T**2 * F.kl_div((s / T).softmax(1), (t / T).softmax(1),
                                            reduction="batchmean"),
        "F.kl_div takes the logarithm of the student's probabilities (F.log_softmax), and averages "
        "over everything unless told reduction='batchmean'; T^2 is missing, too.":
            lambda s, t, T: F.kl_div((s / T).softmax(1), (t / T).softmax(1), reduction="sum")
            / s.numel(),
        "the softmax runs over the samples: the classes are dim=1.":
            lambda s, t, T: T**2 * kl(s.T, t.T, T) * s.shape[1] / len(s),
        "this is the cross-entropy, which has the teacher's entropy in it: subtract that, so that "
        "equal outputs cost 0.":
            lambda s, t, T: T**2 * F.cross_entropy(s / T, (t / T).softmax(1)),
        "right until a probability is rounded to 0: 0 * log 0 is nan, and a clamp or a tiny number "
        "added to p changes the loss. Use log_softmax, not the log of softmax.": by_logarithms,
    }  # fmt: skip
    cases = [
        Case(f"at T = {T} with {n} samples", (normal(n, c), normal(n, c, seed=1), T))
        for T, n, c in ((4.0, 5, 3), (1.0, 2, 4), (2.0, 7, 10))
    ]
    # Not smooth, as the hint for log 0 needs: the mistake has no gradient there.
    large = (800 * normal(3, 3), 800 * normal(3, 3, seed=1), 1.0)
    cases.append(Case("with logits of several hundreds", large, smooth=False))
    right = "Hinton's loss, with its T^2, and no gradient reaches the teacher."
    return mark(f, losses.kd_loss, cases, mistakes, right, gradient=True)


def check_distance_loss(f: Function | None) -> Answer:
    """Check ``f(student, teacher)`` -> scalar; see ``ql.distance_loss``."""
    D = pairwise_distances
    mistakes = {
        "the distances are not normalised: divide each side by its own mean distance.":
            lambda s, t: losses.relation_loss(D(s), D(t)),
        "the mean distance counts the n zeros of the diagonal: divide by n(n-1), not n^2.":
            lambda s, t: losses.relation_loss(D(s) / D(s).mean(), D(t) / D(t).mean()),
        "both means count the n zeros of the diagonal: divide by n(n-1), not n^2.":
            lambda s, t: F.smooth_l1_loss(D(s) / D(s).mean(), D(t) / D(t).mean()),
        **_wrong_means(losses.normalised_distances),
    }  # fmt: skip
    cases = [
        Case("with 5 samples", (3 * normal(5, 3), normal(5, 4, seed=1) ** 3)),
        Case("with 8 samples", (3 * normal(8, 3), normal(8, 4, seed=1) ** 3)),
        Case("with coincident rows", (coincident(6, 3), normal(6, 2)), smooth=False),
    ]
    right = "distances up to scale, averaged over different samples; the student feels it, the "
    right += "teacher not."
    return mark(f, losses.distance_loss, cases, mistakes, right, gradient=True)


def check_kernel_loss(f: Function | None) -> Answer:
    """Check ``f(student, teacher, kernel)`` -> scalar; ``kernel`` is a function of (n, q)."""

    def kernel(x: Tensor, y: Tensor | None = None) -> Tensor:
        return ((x[:, None] - (x if y is None else y)) / 2).cos().square().prod(-1)  # angle map

    mistakes = {
        "the kernel between student and teacher: compare each one's own matrix.":
            lambda s, t, k: 1 - k(s, t).mean(),
        "this is a distance of whole matrices (a norm): average over pairs.":
            lambda s, t, k: torch.linalg.norm(k(s) - k(t)),
        **_wrong_means(kernel),
    }  # fmt: skip
    cases = [
        Case(f"with {n} samples", (normal(n, 3), normal(n, 3, seed=1), kernel)) for n in (5, 2, 7)
    ]
    right = "kernel matrices compared over different samples; the student feels it."
    return mark(f, losses.kernel_loss, cases, mistakes, right, gradient=True)


def _wrong_means(relation: Function) -> dict[str, Function]:
    """What goes wrong after the relation is right: the mean of Huber's h."""

    def total(s: Tensor, t: Tensor) -> Tensor:
        return F.smooth_l1_loss(relation(s), relation(t), reduction="sum")  # the diagonal gives 0

    return {
        "the mean counts entries that compare a sample with itself: divide by n(n-1), not by n^2.":
            lambda s, t, *_: total(s, t) / len(s) ** 2,
        "this is the sum: divide by n(n-1).": lambda s, t, *_: total(s, t),
        "this is the mean of u^2: h(u) is u^2/2 for |u| < 1, and |u| - 1/2 beyond.":
            lambda s, t, *_: F.mse_loss(relation(s), relation(t)) * len(s) / (len(s) - 1),
        "h(u) is u^2/2, and a sample is not compared with itself: the half is missing, and the "
        "mean divides by n^2.": lambda s, t, *_: F.mse_loss(relation(s), relation(t)),
    }  # fmt: skip


TOLERANCE = 1e-6
ROUNDING = 1e-10  # of an eigenvalue in doubles
DEGENERATE = "at coincident or zero rows"


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


# Losses of one batch, in some of which terms lost their gradient on the way.
LOSSES: dict[str, dict[str, Any]] = {
    "in a loss without fault": {},
    "with a detached kernel and no adapter": {"control": "detached", "encoder": "projection"},
    "with a detached kernel whose adapter learns": {"control": "detached"},
    "with distances and angles cut off": {"cut": ("distance", "angle")},
    "with features multiplied by 0": {"times": 0.0},
    "with outputs that are nearly 0": {"gain": 1e-6},
}
TERMS = ("task", "kd", "distance", "angle", "kernel")


def _batch(
    times: float = 1.0, gain: float = 1.0, encoder: str = "adapter", cut: Sequence[str] = (),
    control: str | None = None,
) -> tuple[Losses, list[Tensor]]:  # fmt: skip
    """The loss of one batch and the student's weights; the same numbers each time."""
    net = Net(5, 0)
    logits, features = net(normal(8, 4))
    student = Outputs(gain * logits, features * times)
    relation = KernelRelation(RBFKernel(), Encoder(6, 5, 2, encoder).double(), control)
    loss = DistillationLoss(kd=1.0, distance=1.0, angle=1.0, kernel=(relation, 1000.0))
    taught = Outputs(normal(8, 3, seed=7), normal(8, 6, seed=8))
    terms = loss(student, taught, torch.arange(8) % 3).terms
    terms = {name: term.detach() if name in cut else term for name, term in terms.items()}
    total = sum(({"task": 1.0} | loss.weights)[name] * term for name, term in terms.items())
    return Losses(total, terms), list(net.parameters())


def _silent(losses: Losses, weights: Sequence[Tensor], below: float = 0.0) -> set[str]:
    """Names of the terms whose gradient at the weights is not larger than ``below``."""
    return {n for n, g in term_gradients(losses, weights).items() if g.norm() <= below}


def check_silent_terms(f: Function | None) -> Answer:
    """Check ``f(losses, weights)`` -> names of the terms without gradient at every weight.

    ``losses`` is what a :class:`~qrkd_lab.losses.DistillationLoss` returns for one batch,
    ``weights`` the student's parameters as a list.
    """

    def named(f: Function, case: str) -> list[bool]:
        names = given(f(*_batch(**LOSSES[case])))
        listed = isinstance(names, (Set, list, tuple))
        need(listed, f"expected a set of names, got {names!r:.40}: use {{...}}.")
        for name in names:
            need(isinstance(name, str), f"expected names of terms, got {type(name).__name__}.")
        return [term in names for term in TERMS]

    mistakes = {
        "requires_grad alone is fooled: a detached kernel still asks for a gradient, at its "
        "adapter. Take the gradient at the student's weights, each alone.":
            lambda losses, _: {n for n, term in losses.terms.items() if not term.requires_grad},
        "a term that does not ask for a gradient has none either: it is silent, too.":
            lambda losses, weights: {n for n in _silent(losses, weights)
                                     if losses.terms[n].requires_grad},
        "a None or 0 is overlooked: in some of these losses a term is silent and you found none. "
        "Ask each alone, by torch.autograd.grad: backward() adds to what is in .grad already.":
            lambda losses, _: set(),
        "you named terms that miss *some* weights: relations never reach the output layer. Silent "
        "is None or 0 at *all* weights.":
            lambda losses, weights: {n for weight in weights for n in _silent(losses, [weight])},
        "a gradient of zeros is silent too: ask for .any(), not for None alone.":
            lambda losses, weights: {
                name for name, term in losses.terms.items() if not term.requires_grad
                or all(g is None for g in torch.autograd.grad(
                    term, weights, retain_graph=True, allow_unused=True))
            },
        "a small gradient is not none: ask whether it is 0, not whether it is below some number.":
            lambda losses, weights: _silent(losses, weights, below=1e-3),
    }  # fmt: skip
    order = f"(asked for each of {', '.join(TERMS)})"
    cases = [Case(f"{case} {order}", (case,)) for case in LOSSES]
    right = "every term is asked alone, at all of the student's weights."
    return mark(f, _silent, cases, mistakes, right, call=named)


def right_step(
    student: nn.Module,
    teacher: nn.Module,
    loss: DistillationLoss,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    targets: Tensor,
    zero: bool = True,
    of_student: bool = False,
    move: bool = True,
    graph: bool = False,
    of: Callable[[Losses], Tensor] = lambda losses: losses.total,
) -> Tensor:
    """One step as the exercise wants it; the last five make the typical mistakes."""
    with torch.set_grad_enabled(graph):
        taught = TeacherBatch(teacher(inputs))
    total = of(loss(student(inputs), taught, targets))
    if zero:
        (student if of_student else optimizer).zero_grad()
    total.backward()
    if move:
        optimizer.step()
    return total.detach()


def check_training_step(f: Function | None) -> Answer:
    """Check ``f(student, teacher, loss, optimizer, inputs, targets)`` -> the total loss.

    ``student(inputs)`` and ``teacher(inputs)`` give :class:`~qrkd_lab.losses.Outputs`;
    ``loss(said, taught, targets)`` gives ``total, terms``. Each call is one step of the optimiser,
    for the student and the loss's adapter.
    """

    def trained(f: Function, steps: int) -> Tensor:
        student, teacher = Net(5, 0), Net(6, 10)
        relation = KernelRelation(RBFKernel(), Encoder(6, 5, 2).double())
        loss = DistillationLoss(kd=0.5, distance=1.0, angle=2.0, kernel=(relation, 3.0))
        parameters = [*student.parameters(), *loss.parameters()]
        optimizer = torch.optim.SGD(parameters, lr=0.05)  # Adam would hide a factor before the loss
        totals = []
        for step in range(steps):
            inputs, targets = normal(8, 4, seed=20 + step), torch.arange(8) % 3
            total = given(f(student, teacher, loss, optimizer, inputs, targets))
            need(
                isinstance(total, (int, float, Tensor)),
                f"expected the total loss, got {type(total).__name__}.",
            )
            totals.append(float(torch.as_tensor(total).detach()))
        weights = [p.detach().flatten() for p in parameters]
        return torch.cat([*weights, torch.tensor([*totals, teacher.with_graph])])

    mistakes = {
        "no weight has moved: total.backward(), then optimizer.step().":
            lambda *args: right_step(*args, move=False),
        "the gradients of earlier batches are still there: call optimizer.zero_grad() in each "
        "step.":
            lambda *args: right_step(*args, zero=False),
        "student.zero_grad() forgets the adapter, whose gradients add up: optimizer.zero_grad().":
            lambda *args: right_step(*args, of_student=True),
        "the terms are added without their weights: use the total that the loss returns.":
            lambda *args: right_step(*args, of=lambda losses: sum(losses.terms.values())),
        "only the task is learnt: use the total, not the term of the task alone.":
            lambda *args: right_step(*args, of=lambda losses: losses.terms["task"]),
        "the teacher builds a graph that nobody needs: ask it under torch.no_grad().":
            lambda *args: right_step(*args, graph=True),
    }  # fmt: skip
    cases = [Case("after 3 steps (first the weights, then the totals)", (3,))]
    right = "after 3 steps student and adapter have the right weights."
    return mark(f, right_step, cases, mistakes, right, call=trained)


def check_own_relation(f: Function | None, lengths: bool = True) -> Answer:
    """Check ``f(x)``: features (n, d) -> a relation (n, n), whatever it measures.

    ``lengths=False`` asks for a relation of directions: the length of a row must not count.

    Asked: the same numbers each time, symmetric, the same for samples in another order, telling
    samples apart, finite at coincident and zero rows, and a gradient that is finite and bounded
    there; a relational loss of equal features is then 0, and moves the student elsewhere.
    """

    def judge(f: Function) -> str:
        for n, d in ((6, 3), (5, 8)):
            x = normal(n, d)
            R = _matrix(f(x.clone()), (n, n), f"for {n} samples of {d} features")
            same = close(R, f(x.clone()))
            need(same, "two calls with the same features give different numbers: fix the seed.")
            need(close(R, R.T), "not symmetric: [i, j] and [j, i] must say the same; average them.")
            order = torch.arange(n).roll(1)
            need(
                close(f(x[order]), R[order][:, order]),
                "samples in another order give other numbers, not the same ones in that order: an "
                "entry must depend on the two samples (and the batch as a whole), not on the row.",
            )
            off = R[~torch.eye(n, dtype=torch.bool)]
            need(off.std() > TOLERANCE, "all pairs get the same number: it tells no samples apart.")
            need(
                lengths or close(f(x * torch.arange(1.0, n + 1)[:, None]), R),
                "the length of a row still counts: divide each row by it first.",
            )
        _learnable(lambda s: losses.relation_loss(f(s), f(normal(6, 4, seed=1))), normal(6, 3))
        _matrix(f(coincident(6, 3)), (6, 6), DEGENERATE)
        _learnable(lambda s: (f(s) * normal(6, 6, seed=3)).sum(), coincident(6, 3))
        return "symmetric, in the order of the samples, finite, and a student can learn from it."

    return answered(f, judge)


def check_own_kernel(kernel: Kernel | None, of_distance: Function | None = None) -> Answer:
    """Check a :class:`~qrkd_lab.kernels.classical.Kernel` of your own, e.g. ``MyKernel()``.

    Asked: symmetric, positive semi-definite, 1 on the diagonal; ``k(x, y)`` that agrees with
    ``k(x)``; a gradient that is finite and bounded, at coincident rows too; and that a
    ``KernelRelation`` takes it. ``of_distance`` asks for these values, given the distances of rows
    times the bandwidth.
    """

    def judge(kernel: Kernel) -> str:
        if not isinstance(kernel, Kernel):
            given(kernel(normal(3, 4)))  # not even begun?
        need(
            isinstance(kernel, Kernel),
            "expected a Kernel, e.g. MyKernel(): derive your class from qrkd_lab.kernels.Kernel, "
            "and give an object of it.",
        )
        q, n = kernel.features or getattr(kernel, "qubits", 4), 6
        x, y = 0.7 * normal(n, q), 0.7 * normal(5, q, seed=5)
        K = _matrix(kernel(x), (n, n), "for k(x)")
        across = _matrix(kernel(x, y), (n, 5), "for k(x, y)")
        need(close(K, K.T), "not symmetric: k(x, y) = k(y, x) is what makes it a kernel.")
        need(
            close(K.diagonal(), torch.ones(n)),
            f"the diagonal is not 1 but e.g. {K[0, 0]:.3g}: divide by sqrt(k(x, x) k(y, y)).",
        )
        need(
            close(kernel(torch.cat([x, y]))[:n, n:], across),
            "k(x, y) is not the block of k on all samples: does an entry see the batch?",
        )
        K = kernel(normal(40, q, seed=4)).detach()
        least = torch.linalg.eigvalsh(K)[0].item()
        need(
            least > -(ROUNDING if K.dtype == torch.float64 else TOLERANCE) * len(K),
            f"not positive semi-definite: an eigenvalue of {least:.2g} on 40 samples; symmetric "
            "values are not enough. Sums and products of kernels, and inner products of "
            "embeddings, are always safe.",
        )
        need(
            (K - K.mean()).abs().max() > TOLERANCE,
            "all pairs get the same number: it tells no samples apart.",
        )
        for x in (normal(6, q), coincident(6, q)):
            _learnable(lambda s: (kernel(s) * normal(6, 6, seed=3)).sum(), x)
        named = {part.name for part in fields(kernel)} if is_dataclass(kernel) else set()
        need(
            "bandwidth" in named or close(kernel(x), kernel(2 * x)),
            "bandwidth must be a field: @dataclass(frozen=True) and bandwidth: float = 1.0, or it "
            "cannot be calibrated.",
        )
        if "bandwidth" in named:
            need(
                close(replace(kernel, bandwidth=2 * kernel.bandwidth)(x), kernel(2 * x)),
                "twice the bandwidth is not the same as twice the angles: the base class already "
                "multiplies them by it, so leave it out of embed and compare.",
            )
        if of_distance is not None:
            r = getattr(kernel, "bandwidth", 1.0) * torch.cdist(x, y)
            need(
                close(kernel(x, y), of_distance(r)),
                f"a kernel, but not the one that is asked for: at r = {r[0, 0]:.3g} expected "
                f"{of_distance(r)[0, 0]:.3g}, got {kernel(x, y)[0, 0]:.3g}.",
            )
        KernelRelation(kernel, Encoder(q + 2, q + 3, q))  # hashable, a Kernel, q angles
        return "a kernel: symmetric, positive semi-definite, 1 on the diagonal, and differentiable."

    return answered(kernel, judge)


def _matrix(value: Any, shape: tuple[int, int], where: str) -> Tensor:  # noqa: ANN401
    need(isinstance(given(value), Tensor), f"expected a torch tensor, got {value!r:.40}.")
    shapes = f"expected {shape}, got {tuple(value.shape)}"
    need(value.shape == shape, f"wrong shape {where}: {shapes}.")
    need(value.isfinite().all(), f"not finite {where}: 0/0, log 0, or a number too large for exp?")
    return value.detach()


def _learnable(of: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Refuse a scalar function of features whose gradient is not there, finite and bounded."""
    value = of(x.requires_grad_())
    need(value.requires_grad, "no gradient reaches the features: .detach(), .item(), .numpy()?")
    (gradient,) = torch.autograd.grad(value, x, allow_unused=True, materialize_grads=True)
    bounded(gradient, DEGENERATE)
    need(gradient.any(), "the gradient is 0 everywhere: rounding, ranking or a clamp?")
