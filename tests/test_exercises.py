"""Checks of exercises: right answers pass, each typical mistake gets its own hint."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

import qrkd_lab as ql
from qrkd_lab import exercises
from qrkd_lab.losses import normalised_distances
from qrkd_lab.statistics import holm

pytestmark = pytest.mark.filterwarnings("error")
CHECKS = {name: getattr(exercises, name) for name in exercises.__all__ if name[:6] == "check_"}


# Answers as a learner would write them: loops and plain formulas.
def kd(s, t, T, ts=None, tt=None):
    p = (t / (tt or T)).softmax(1).detach()
    log = F.log_softmax(t.detach() / (tt or T), 1) - F.log_softmax(s / (ts or T), 1)
    return T**2 * (p * log).sum(1).mean()


def distances(x):
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    apart = squared > 0
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


def distances_by_loop(x):
    result = torch.zeros(len(x), len(x))
    for i in range(len(x)):
        for j in range(len(x)):
            result[i, j] = math.sqrt(sum((a - b) ** 2 for a, b in zip(x[i], x[j])))
    return result


def unit(x):
    e = x[None] - x[:, None]
    length = distances(x)[:, :, None]
    return torch.where(length > 0, e / torch.where(length > 0, length, 1.0), 0.0)


def angles(x):
    return torch.einsum("jid,jkd->jik", unit(x), unit(x))


def mean_distance(x):
    return distances(x).sum() / (len(x) * (len(x) - 1))


def huber(u):
    return torch.where(u.abs() < 1, u**2 / 2, u.abs() - 0.5)


def distance_loss(s, t, relation=lambda x: distances(x) / mean_distance(x), n2=None):
    u = relation(s) - relation(t.detach())
    return huber(u).sum() / (n2 or len(s) * (len(s) - 1))


def angle_loss(s, t):
    n = len(s)
    i, j, k = torch.meshgrid(*[torch.arange(n)] * 3, indexing="ij")
    distinct = (i != j) & (j != k) & (i != k)
    return huber(angles(s) - angles(t.detach()))[distinct].mean()


def states(x, half=2.0):
    rows = []
    for row in x:
        state = torch.ones(1, dtype=x.dtype)
        for a in row:
            state = torch.kron(state, torch.stack([(a / half).cos(), (a / half).sin()]))
        rows.append(state)
    return torch.stack(rows)


def fidelity(u):
    return (u @ u.mH).abs() ** 2


def kernel_loss(s, t, kernel, n2=None):
    u = kernel(s) - kernel(t.detach())
    return huber(u).sum() / (n2 or len(s) * (len(s) - 1))


def rule(matrices, bandwidths):
    off = ~torch.eye(matrices.shape[1], dtype=torch.bool)
    return bandwidths[torch.stack([m[off].std() for m in matrices]).argmax()].item()


def paired(a, b):
    test = stats.ttest_rel(a, b).confidence_interval(0.95)
    return (a - b).mean(), (test.high - test.low) / 2


def shots(k, e):
    return math.ceil(k * (1 - k) / e**2)


RIGHT = {
    "check_kd_loss": [kd, ql.kd_loss],
    "check_pairwise_distances": [distances, ql.pairwise_distances],
    "check_triplet_angles": [angles, ql.triplet_angles],
    "check_distance_loss": [distance_loss, ql.distance_loss],
    "check_angle_loss": [angle_loss, ql.angle_loss],
    "check_fidelity_kernel": [fidelity],
    "check_angle_states": [
        states, lambda x: ql.FidelityKernel("angle", qubits=x.shape[1]).states(x)
    ],
    "check_kernel_loss": [kernel_loss, ql.kernel_loss],
    "check_bandwidth_rule": [rule],
    "check_paired_difference": [paired, lambda a, b: np.array(paired(a, b))],
    "check_holm": [holm, lambda p: list(holm(p))],
    "check_shots_needed": [shots],
}  # fmt: skip


def test_every_check_has_right_answers_here():
    assert list(RIGHT) and set(RIGHT) == set(CHECKS)


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
    assert exercises.check_pairwise_distances(distances_by_loop, gradient=False)
    assert "no gradient" in repr(exercises.check_pairwise_distances(distances_by_loop))
    assert exercises.check_triplet_angles(lambda x: angles(x).detach(), gradient=False)


def diff(x):
    return x[None] - x[:, None]


def naive_angles(x):
    e = diff(x)
    n = e.norm(dim=-1)
    return torch.einsum("jid,jkd->jik", e, e) / (n[:, :, None] * n[:, None, :])


def steep_angles(x):
    e = F.normalize(diff(x), dim=-1)
    return torch.einsum("jid,jkd->jik", e, e)


def sems(a, b, q=None, at=0.975, ddof=1, df=1, root=0.5):
    d = a - b
    quantile = q(at) if q else stats.t.ppf(at, len(d) - df)
    return d.mean(), quantile * d.std(ddof=ddof) / len(d) ** root


def detached_mean(x):
    return distances(x) / mean_distance(x).detach()


def n3(s, t):
    return angle_loss(s, t) * (len(s) - 1) * (len(s) - 2) / len(s) ** 2


TABLE = {
    "check_kd_loss": [
        (lambda s, t, T: kd(s, t, T) / T**2, "T\\^2 is missing"),
        (lambda s, t, T: kd(s, t, T) / T, "T\\^2, not T"),
        (lambda s, t, T: kd(s, t, T) / T**4, "do not divide"),
        (lambda s, t, T: kd(t, s, T), "wrong way round"),
        (lambda s, t, T: kd(t, s, T) / T**2, "wrong way round, and without"),
        (lambda s, t, T: kd(s, t, T, tt=1), "the student only"),
        (lambda s, t, T: kd(s, t, T, ts=1), "the teacher only"),
        (lambda s, t, T: kd(s, t, T, 1, 1), "no temperature in"),
        (lambda s, t, T: kd(s, t, 1), "not used at all"),
        (lambda s, t, T: kd(s, t, T, 1 / T, 1 / T), "where the softmax divides"),
        (lambda s, t, T: kd(s, t, T) / s.shape[1], "average over samples only"),
        (lambda s, t, T: kd(s, t, T) * len(s), "divide by n"),
        (lambda s, t, T: T**2 * F.cross_entropy(s / T, (t / T).softmax(1)), "cross-entropy"),
        (lambda s, t, T: T**2 * F.kl_div((s / T).softmax(1), (t / T).softmax(1).detach(),
                                         reduction="batchmean"), "log-probabilities"),
        (lambda s, t, T: F.cross_entropy(s, t.argmax(1)), "largest class only"),
        (lambda s, t, T: -kd(s, t, T), "wrong sign"),
        (lambda s, t, T: 3 * kd(s, t, T), "yours is 3 times"),
        (lambda s, t, T: kd(s, t, T)[None], r"expected \(\), got \(1,\)"),
        (lambda s, t, T: kd(s, t, T).item(), "expected a torch tensor, got float"),
        (lambda s, t, T: kd(s.detach(), t, T), "no gradient reaches the student"),
        (lambda s, t, T: T**2 * F.kl_div((s / T).log_softmax(1), (t / T).log_softmax(1),
                                         log_target=True, reduction="batchmean"), "teacher too"),
        (lambda s, t, T: T**2 * ((t / T).softmax(1).detach() * (
            (t / T).softmax(1).detach().log() - (s / T).softmax(1).log())).sum(1).mean(),
         "nan with logits of several hundreds"),
    ],
    "check_pairwise_distances": [
        (lambda x: diff(x).square().sum(-1), "squared distances"),
        (lambda x: diff(x).abs().sum(-1), "absolute differences"),
        (lambda x: diff(x).abs().amax(-1), "largest difference only"),
        (lambda x: diff(x).square().mean(-1).sqrt(), "averaged over the d features"),
        (lambda x: distances(x).triu(), "above the diagonal"),
        (lambda x: distances(x).tril(), "below the diagonal"),
        (normalised_distances, "divided by the mean"),
        (lambda x: x @ x.T, "Gram"),
        (lambda x: distances(x) + torch.eye(len(x)), "only the diagonal.*expected 0, got 1"),
        (lambda x: distances(x) + (torch.arange(len(x))[:, None] == 1), r"the first is \[1, 0\]"),
        (lambda x: diff(x), r"wrong shape .*expected \(5, 5\), got \(5, 5, 3\)"),
        (lambda x: distances(x).numpy(), "expected a torch tensor, got ndarray"),
        (lambda x: diff(x).square().sum(-1).sqrt(), "gradient is not finite"),
        (lambda x: x @ x, r"RuntimeError: mat1.*in line \d+ .*It happened with 5 samples"),
        (torch.nn.PairwiseDistance, "got the class PairwiseDistance"),
        (torch.zeros(2), "expected a function"),
    ],
    "check_triplet_angles": [
        (lambda x: angles(x).transpose(0, 1), "wrong vertex.*second"),
        (lambda x: angles(x).permute(1, 2, 0), "wrong vertex.*last"),
        (lambda x: angles(x).clamp(-1, 1).arccos(), "without arccos"),
        (lambda x: torch.einsum("jid,jkd->jik", diff(x), diff(x)), "without normalisation"),
        (lambda x: torch.einsum("jid,jkd->jik", unit(x), diff(x)), "one length only"),
        (lambda x: torch.einsum("jid,jkd->jik", diff(x), unit(x)), "one length only.*here"),
        (lambda x: (F.normalize(x) @ F.normalize(x).T).expand(len(x), -1, -1), "from the origin"),
        (lambda x: -angles(x), "wrong sign"),
        (naive_angles, r"nan with 5 samples.* at \[0, 0, 0\]: 0/0"),
        (steep_angles, "gradient reaches \\de.*divided by almost 0"),
        (lambda x: angles(x).detach(), "no gradient reaches the input"),
    ],
    "check_distance_loss": [
        (lambda s, t: distance_loss(s, t, distances), "not normalised"),
        (lambda s, t: distance_loss(s, t, lambda x: distances(x) / mean_distance(t)), "its own"),
        (lambda s, t: distance_loss(s, t, lambda x: distances(x) / distances(x).mean()), "zeros"),
        (lambda s, t: distance_loss(s, t, lambda x: distances(x) / distances(x).max()), "largest"),
        (lambda s, t: distance_loss(s, t, n2=len(s) ** 2), r"n\(n-1\), not by n\^2"),
        (lambda s, t: distance_loss(s, t, n2=1), "this is the sum"),
        (lambda s, t: (normalised_distances(s) - normalised_distances(t)).square().sum()
         / len(s) / (len(s) - 1), "squared differences: Huber"),
        (lambda s, t: (normalised_distances(s) - normalised_distances(t)).square().sum()
         / len(s) / (len(s) - 1) / 2, "half the squared differences"),
        (lambda s, t: (normalised_distances(s) - normalised_distances(t)).square().mean(),
         "over all entries"),
        (lambda s, t: (normalised_distances(s) - normalised_distances(t)).abs().sum()
         / len(s) / (len(s) - 1), "absolute differences"),
        (lambda s, t: distance_loss(s, t, lambda x: distances(x) ** 2
                                    / (distances(x) ** 2).sum() * len(x) * (len(x) - 1)), "root"),
        (lambda s, t: distance_loss(s, t, detached_mean), "gradient at the student is not"),
        (lambda s, t: ql.relation_loss(normalised_distances(s).detach(), normalised_distances(t)),
         "no gradient reaches the student"),
        (lambda s, t: huber(normalised_distances(s) - normalised_distances(t)).sum()
         / len(s) / (len(s) - 1), "gradient reaches the teacher"),
    ],
    "check_angle_loss": [
        (n3, r"divide by n\(n-1\)\(n-2\), not by n\^3"),
        (lambda s, t: ql.relation_loss(angles(s).clamp(-1, 1).arccos(),
                                       angles(t).clamp(-1, 1).arccos()), "leave arccos out"),
        (lambda s, t: angle_loss(s, t) * len(s) * (len(s) - 1) * (len(s) - 2), "the sum"),
        (lambda s, t: ql.relation_loss(steep_angles(s), steep_angles(t)), "almost 0"),
        (lambda s, t: angle_loss(s.detach(), t), "no gradient reaches the student"),
    ],
    "check_fidelity_kernel": [
        (lambda u: u @ u.mH, "complex: take their absolute square"),
        (lambda u: (u @ u.mH).abs(), "amplitude is not squared"),
        (lambda u: (u @ u.T).abs() ** 2, "conjugate is missing:"),
        (lambda u: (u @ u.T).abs(), "conjugate is missing, and"),
        (lambda u: (u @ u.mH).real ** 2, "real part alone"),
        (lambda u: (u @ u.mH).real, "real part of the overlap"),
        (lambda u: (u @ u.mH) ** 2, "abs\\(\\) before the square"),
        (lambda u: u.abs() ** 2 @ (u.abs() ** 2).T, "probabilities"),
        (lambda u: (u @ u.mH).abs() ** 4, "entries are wrong"),
        (lambda u: 2j * fidelity(u), "real numbers, got complex"),
    ],
    "check_angle_states": [
        (lambda x: states(x, 1.0), "half its angle"),
        (lambda x: states(torch.pi - x), "swapped"),
        (lambda x: states(x.flip(1)), "reverse order"),
        (lambda x: states(x) ** 2, "probabilities"),
        (lambda x: states(x).abs(), "sign is lost"),
        (lambda x: states(-x), "wrong sign"),
        (lambda x: torch.stack([(x / 2).cos(), (x / 2).sin()], -1), r"got \(4, 3, 2\)"),
    ],
    "check_kernel_loss": [
        (lambda s, t, k: kernel_loss(s, t, k, n2=len(s) ** 2), r"n\(n-1\), not by n\^2"),
        (lambda s, t, k: ((k(s) - k(t)) ** 2).mean(), "over all entries"),
        (lambda s, t, k: huber(k(s, t) - 1).sum() / len(s) / (len(s) - 1), "off by|wrong value"),
        (lambda s, t, k: ql.relation_loss(k(s, t), torch.ones(len(s), len(s))), "each one's own"),
        (lambda s, t, k: torch.linalg.norm(k(s) - k(t)), "whole matrices"),
        (lambda s, t, k: kernel_loss(s.detach(), t, k), "no gradient reaches the student"),
    ],
    "check_bandwidth_rule": [
        (lambda m, b: (b == rule(m, b)).int().argmax(), "place in the list"),
        (lambda m, b: b[m.flatten(1).std(1).argmax()], "diagonal is counted"),
        (lambda m, b: b[m.mean((1, 2)).argmax()], "largest mean"),
        (lambda m, b: b[torch.stack([k[~torch.eye(len(k)).bool()].std() for k in m]).argmin()],
         "smallest spread"),
    ],
    "check_paired_difference": [
        (lambda a, b: paired(b, a), "arm minus reference"),
        (lambda a, b: sems(a, b, stats.norm.ppf), "1.96"),
        (lambda a, b: sems(a, b, at=0.95), "one side"),
        (lambda a, b: sems(a, b, df=0), "S - 1, not S"),
        (lambda a, b: sems(a, b, ddof=0), "ddof=1"),
        (lambda a, b: sems(a, b, root=0), "spread of one seed"),
        (lambda a, b: ((a - b).mean(), stats.sem(a - b)), "standard error"),
        (lambda a, b: ((a - b).mean(), (a - b).std(ddof=1)), "standard deviation alone"),
        (lambda a, b: stats.ttest_rel(a, b).confidence_interval(), "ends of the interval"),
        (lambda a, b: ((a - b).mean(), stats.t.ppf(0.975, len(a) - 1)
                       * math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))), "not paired"),
        (lambda a, b: (a - b).mean(), r"expected \(2,\), got \(\)"),
        (lambda a, b: "0.3 +- 0.1", "expected 2 numbers, got '0.3"),
    ],
    "check_holm": [
        (lambda p: np.minimum(1, p * len(p)), "Bonferroni"),
        (lambda p: holm(np.sort(p)), "its own place"),
        (lambda p: np.minimum(1, p * (len(p) - p.argsort().argsort())), "running maximum"),
        (lambda p: np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))[
            p.argsort().argsort()], "at most 1"),
        (lambda p: p, "not adjusted"),
    ],
    "check_shots_needed": [
        (lambda k, e: int(k * (1 - k) / e**2), "rounded down"),
        (lambda k, e: math.ceil(1 / e**2), "k\\(1 - k\\), not 1"),
        (lambda k, e: math.ceil(k / e**2), "not k"),
        (lambda k, e: math.ceil(k * (1 - k) / e), "square it"),
        (lambda k, e: math.ceil(math.sqrt(k * (1 - k)) / e), "root is too much"),
        (lambda k, e: k * (1 - k) / e**2, "round up"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("check", "f", "hint"), [(check, f, hint) for check, rows in TABLE.items() for f, hint in rows]
)
def test_each_mistake_gets_its_hint(check, f, hint):
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
    assert "(return rows.sums(-1))" in said


def test_an_answer_shows_what_it_quotes():
    answer = exercises.check_pairwise_distances("<b>")
    assert "&lt;b&gt;" in answer._repr_html_()
