"""Checks of exercises: right answers pass, each typical mistake gets its own hint."""

from __future__ import annotations

import ast
import math
import re
import sys
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import nbformat
import numpy as np
import pennylane as qp
import pytest
import torch
import torch.nn.functional as F
from pandas import DataFrame
from scipy import stats

import qrkd_lab as ql
from qrkd_lab.kernels import Kernel
from qrkd_lab.losses import normalised_distances, term_gradients
from qrkd_lab.studies.statistics import variance_shares
from qrkd_lab.teaching import exercises
from qrkd_lab.teaching.exercises.distillation import right_step

pytestmark = pytest.mark.filterwarnings("error")
CHECKS = {name: getattr(exercises, name) for name in dir(exercises) if name[:6] == "check_"}


kd, distances, angles = ql.kd_loss, ql.pairwise_distances, ql.triplet_angles


def mean_distance(x):
    return distances(x).sum() / (len(x) * (len(x) - 1))


def distance_loss(s, t, mean=mean_distance):
    u = distances(s) / mean(s) - (distances(t) / mean(t)).detach()
    return F.huber_loss(u, torch.zeros_like(u), reduction="sum") / (len(s) * (len(s) - 1))


def rotations(gate, take=lambda x, i: x[..., i]):
    def feature_map(angles, wires):
        for i, wire in enumerate(wires):
            gate(take(angles, i), wires=wire)

    return feature_map


def both(f, g):
    def feature_map(angles, wires):
        f(angles, wires)
        g(angles, wires)

    return feature_map


def likeness(x):
    return 1 / (1 + squares(x, x))


def squares(u, v):
    return ((u[:, None] - v[None]) ** 2).sum(-1)


@dataclass(frozen=True)
class Cauchy(Kernel):
    bandwidth: float = 1.0

    def embed(self, x):
        return x

    def compare(self, u, v):
        return 1 / (1 + squares(u, v))


class TwiceTheBandwidth(Cauchy):
    def compare(self, u, v):
        return super().compare(self.bandwidth**0.5 * u, self.bandwidth**0.5 * v)


def gradients(losses, weights):
    return {n: torch.autograd.grad(t, weights) for n, t in losses.terms.items()}


def left_over(losses, weights):
    names = set()
    for name, term in losses.terms.items():
        if term.requires_grad:
            term.backward(retain_graph=True)
        if all(w.grad is None or not w.grad.any() for w in weights):
            names.add(name)
    return names


def near_but_unlike(spread=0.03):
    g = torch.Generator().manual_seed(0)
    points = [torch.randn(20, 1, generator=g, dtype=torch.float64) for _ in range(2)]
    return tuple(1 - spread + spread * torch.exp(-(torch.cdist(x, x) ** 2)) for x in points)


def training_step(order="zero backward step", returns=torch.clone):
    def step(student, teacher, loss, optimizer, inputs, targets):
        with torch.no_grad():
            taught = teacher(inputs)
        total, _ = loss(student(inputs), taught, targets)
        do = {"backward": total.backward, "step": optimizer.step, "zero": optimizer.zero_grad}
        for each in order.split():
            do[each]()
        return returns(total)

    return step


def own_optimizer(student, *others):
    own = torch.optim.SGD(student.parameters(), lr=0.05)
    return right_step(student, *others[:2], own, *others[3:])


def both_tails(difference, spread, seeds):
    critical, shift = stats.t.ppf(0.975, seeds - 1), seeds**0.5 * abs(difference) / spread
    tail = stats.nct(seeds - 1, shift)
    return tail.sf(critical) + tail.cdf(-critical)


def perplexity(batches):
    total = sum(-x.item() for log_p in batches for x in log_p)
    return math.exp(total / sum(map(len, batches)))


SOLUTIONS = Path(__file__).parents[2] / "notebooks" / "solutions.ipynb"
CELLS = nbformat.read(SOLUTIONS, 4).cells
CODE = [cell.source for cell in CELLS if cell.cell_type == "code"]
CODE += [code for c in CELLS for code in re.findall("```python\n(.*?)```", c.source, re.DOTALL)]
ASKED = [line for cell in CODE for line in cell.splitlines() if line.startswith("exercises.check_")]
WRONG = ("check_shift_map(broken)", "check_own_kernel(Parabola())")  # shown there on purpose


@pytest.fixture(scope="module")
def solved():
    """What the notebook of solutions defines: its imports, functions and classes."""
    names, defines = {}, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    exec(CODE[0], names)  # the parameters
    answers = {}
    for cell in CODE[1:]:
        for node in ast.parse(cell).body:
            if isinstance(node, defines):
                exec(ast.unparse(node), names)
        for line in cell.splitlines():
            if line in ASKED:
                answers[line] = eval(line, names)
    return answers


@pytest.mark.parametrize("line", ASKED)
def test_the_solutions_are_right(line, solved):
    assert bool(solved[line]) != line.endswith(WRONG), solved[line]


RIGHT = {  # beside the solutions: other ways to answer
    "check_triplet_angles": [angles],
    "check_fidelity_kernel": [lambda u: (F.normalize(u) @ F.normalize(u).mH).abs() ** 2],
    "check_power": [both_tails],
    "check_angle_variance": [
        lambda q: Fraction(3, 8) ** q - Fraction(1, 4) ** q,
        lambda q: Decimal("0.375") ** q - Decimal("0.25") ** q,
    ],
    "check_variance_shares": [
        lambda y: variance_shares(DataFrame(y)),
        lambda y: variance_shares(DataFrame(y)).to_dict(),
    ],
    "check_silent_terms": [
        lambda losses, weights: {
            n: g for n, g in term_gradients(losses, weights).items() if not g.any()
        }.keys()
    ],
    "check_exponential_base": [lambda q, v: np.exp(np.polyfit(q, np.log(v), 1)[0])],
    "check_own_relation": [distances, normalised_distances, lambda x: Cauchy()(x)],
    "check_own_kernel": [Cauchy(), ql.FidelityKernel("zz", qubits=3), ql.PolynomialKernel()],
    "check_shift_map": [both(rotations(qp.RX), lambda x, w: qp.CNOT(wires=w))],
    "check_training_step": [training_step(returns=torch.Tensor.item)],
}


def test_every_check_has_right_answers_here():
    assert {*RIGHT, *(line.split("(")[0].split(".")[1] for line in ASKED)} == set(CHECKS)


@pytest.mark.parametrize(("check", "f"), [(c, f) for c, fs in RIGHT.items() for f in fs])
def test_right_answers_pass(check, f):
    answer = CHECKS[check](f)
    assert answer, answer
    assert repr(answer).startswith("Right: ") and "\n" not in repr(answer)
    assert "<strong>Right.</strong>" in answer._repr_html_()


@pytest.mark.parametrize("check", CHECKS)
def test_what_is_not_given_yet_is_no_mistake(check):
    def later(*args):
        raise NotImplementedError

    for f in (None, ..., lambda *args: None, lambda *args: ..., later):
        answer = CHECKS[check](f)
        assert not answer and repr(answer).startswith("Not answered yet: ")


def test_values_alone_may_be_asked_for():
    for check, right in (("pairwise_distances", distances), ("triplet_angles", angles)):
        check, values = CHECKS[f"check_{check}"], lambda x, right=right: right(x).detach()
        assert check(values, gradient=False) and "no gradient" in repr(check(values))


def test_a_relation_of_directions_ignores_lengths():
    def unit(x):
        return x / x.square().sum(1, keepdim=True).clamp(min=1e-4).sqrt()

    assert exercises.check_own_relation(lambda x: unit(x) @ unit(x).T, lengths=False)
    said = exercises.check_own_relation(lambda x: x @ x.T, lengths=False)
    assert "the length of a row still counts" in repr(said)


def test_a_kernel_of_the_distance_has_the_values_asked_for():
    for kernel in (Cauchy(), Cauchy(bandwidth=0.3)):
        assert exercises.check_own_kernel(kernel, of_distance=lambda r: 1 / (1 + r**2))
        said = repr(exercises.check_own_kernel(kernel, of_distance=lambda r: torch.exp(-r)))
        assert "not the one that is asked for: at r = " in said


def test_a_class_is_asked_for_its_brackets():
    for check in CHECKS.values():
        assert repr(check(Cauchy)).endswith("got the class Cauchy: write Cauchy().")


OWN_JUDGE = {"shift_map", "near_but_unlike", "own_relation", "own_kernel"}


@pytest.mark.parametrize("check", sorted(CHECKS.keys() - {f"check_{name}" for name in OWN_JUDGE}))
def test_each_typical_mistake_gets_its_own_hint(check, monkeypatch):
    module = sys.modules[CHECKS[check].__module__]
    with monkeypatch.context() as patched:
        patched.setattr(module, "mark", lambda f, reference, cases, mistakes, *_, **__: mistakes)
        mistakes = CHECKS[check](None)
    assert 2 <= len(mistakes) <= 10
    for hint, mistake in mistakes.items():
        assert repr(CHECKS[check](mistake)) == f"Not yet: {hint}"


def diff(x):
    return x[None] - x[:, None]


def naive_angles(x):
    e = diff(x)
    n = e.norm(dim=-1)
    return torch.einsum("jid,jkd->jik", e, e) / (n[:, :, None] * n[:, None, :])


def steep_angles(x):
    e = F.normalize(diff(x), dim=-1)
    return torch.einsum("jid,jkd->jik", e, e)


def logs(s, t, T):
    p, q = (t / T).softmax(1).detach(), (s / T).softmax(1)
    return T**2 * (p * (p.log() - q.log())).sum(1).mean()


def kernel_of(compare, embed=lambda x: x):
    """A kernel of a reader's: its two methods."""
    methods = {"embed": lambda self, x: embed(x), "compare": lambda self, u, v: compare(u, v)}
    return dataclass(frozen=True)(type("Mine", (Kernel,), methods))()


TABLE = {
    "check_perplexity": [
        (lambda b: 3 * perplexity(b), "yours is 3 times the right value"),
    ],
    "check_paired_difference": [
        (lambda a, b: "0.3 +- 0.1", "expected numbers, got '0.3"),
    ],
    "check_kd_loss": [
        (lambda s, t, T: -kd(s, t, T), "wrong sign"),
        (lambda s, t, T: kd(s, t, T).item(), "expected a torch tensor, got float"),
        (lambda s, t, T: T**2 * F.kl_div((s / T).log_softmax(1), (t / T).log_softmax(1),
                                         log_target=True, reduction="batchmean"), "teacher too"),
        (lambda s, t, T: T**2 * F.kl_div((s.detach() / T).log_softmax(1), (t / T).log_softmax(1),
                                         log_target=True, reduction="batchmean"), "wrong side"),
        (logs, "right until a probability is rounded to 0"),
    ],
    "check_bandwidth_rule": [
        (lambda k, b: b[(m := k[:, ~torch.eye(k.shape[1], dtype=bool)]).amax(1).sub(m.amin(1))
                        .argmax()], "wrong value with 4 samples"),
    ],
    "check_pairwise_distances": [
        (lambda x: distances(x) + torch.eye(len(x)), "5 of 25 entries.*expected 0, got 1"),
        (lambda x: diff(x), r"wrong shape .*expected \(5, 5\), got \(5, 5, 3\)"),
        (lambda x: distances(x).square().sqrt().fill_diagonal_(0), "overwrites a tensor.*new one"),
    ],
    "check_triplet_angles": [
        (naive_angles, r"nan with 5 samples.* at \[0, 0, 0\]: 0/0"),
        (steep_angles, "gradient reaches \\de.*divided by almost 0"),
    ],
    "check_distance_loss": [
        (lambda s, t: distance_loss(s, t, lambda x: mean_distance(x).detach()),
         "gradient at the student is not"),
    ],
    "check_fidelity_kernel": [
        (lambda u: 2j * (u @ u.mH).abs() ** 2, "real numbers, got complex"),
        (lambda u: ((u @ u.mH).abs() ** 2).detach(), "no gradient reaches"),
    ],
    "check_own_relation": [
        (lambda x: likeness(x) * torch.rand(()), "two calls"),
        (lambda x: likeness(x).softmax(1), "not symmetric"),
        (lambda x: likeness(x) * torch.outer(r := torch.arange(len(x)) + 1.0, r), "another order"),
        (lambda x: torch.ones(len(x), len(x)) * x.sum(), "tells no samples apart"),
    ],
    "check_own_kernel": [
        (likeness, "expected a Kernel"),
        (kernel_of(lambda u, v: (u @ v.T).exp()), "diagonal is not 1"),
        (kernel_of(lambda u, v: 1 / (1 + squares(u, v) + 0.1 * (v.sum(1) - u.sum(1)[:, None]))),
         "not symmetric"),
        (kernel_of(lambda u, v: 1 - squares(u, v) / 5000), "not positive semi-definite"),
        (kernel_of(lambda u, v: 1 / (1 + squares(u, v) / squares(u, v).mean())), "see the batch"),
        (TwiceTheBandwidth(), "twice the bandwidth"),
    ],
    "check_shift_map": [
        (rotations(qp.RZ), "does not see angle 0"),
        (both(rotations(qp.RX), rotations(qp.RY)), "a shift of both samples"),
        (rotations(qp.RX, lambda x, i: x[i]), r"angles\[..., i\]"),
        (both(rotations(qp.RX), lambda x, w: qp.state()), "only calls gates"),
        (qp.QNode(rotations(qp.RX), qp.device("default.qubit", wires=2)), "leave out @qp.qnode"),
    ],
    "check_silent_terms": [
        (lambda losses, weights: {"kernel"}, r"without fault .*first is \[4\]: expected 0, got 1"),
        (left_over, r"a None or 0 is overlooked"),
        (lambda losses, weights: gradients(losses, weights), "RuntimeError: .*retain_graph=True"),
        (lambda losses, weights: set(losses.terms.values()), "names of terms, got Tensor"),
    ],
    "check_training_step": [
        (training_step(order="backward zero step"), "no weight has moved"),
        (training_step(returns=lambda total: {"total": total}), "the total loss, got dict"),
        (own_optimizer, "entries are wrong after 3 steps"),
    ],
    "check_near_but_unlike": [
        (lambda: near_but_unlike(spread=1.0), "kernel loss is 0.*press both"),
        (lambda: [near_but_unlike()[0]] * 2, "the CKA is 1.00"),
        (lambda: [2 * torch.eye(12) - 1] * 2, "K has the negative eigenvalue -10"),
        (lambda: near_but_unlike()[0], "expected two matrices, K and L, got 20"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("check", "f", "hint"), [(check, f, hint) for check, rows in TABLE.items() for f, hint in rows]
)
def test_what_is_wrong_is_said(check, f, hint):
    answer = CHECKS[check](f)
    assert not answer and repr(answer).startswith("Not yet: ")
    assert re.search(hint, repr(answer)), answer


def test_an_error_of_the_reader_is_told_with_its_line():
    def broken(x):
        rows = x[:, None] - x
        return rows.sums(-1)

    line = broken.__code__.co_firstlineno + 2
    said = repr(exercises.check_pairwise_distances(broken))
    assert f"AttributeError: 'Tensor' object has no attribute 'sums', in line {line} " in said
    assert said.endswith("It happened with 5 samples of 3 features.")
    assert "(return rows.sums(-1))" in said
    assert "&lt;b&gt;" in exercises.check_pairwise_distances("<b>")._repr_html_()
