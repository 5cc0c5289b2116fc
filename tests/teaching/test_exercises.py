"""Checks of exercises: right answers pass, each typical mistake gets its own hint."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import pennylane as qp
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

import qrkd_lab as ql
from qrkd_lab.kernels import Kernel
from qrkd_lab.losses import normalised_distances, term_gradients
from qrkd_lab.studies.statistics import equivalence, holm
from qrkd_lab.teaching import exercises

pytestmark = pytest.mark.filterwarnings("error")
CHECKS = {name: getattr(exercises, name) for name in dir(exercises) if name[:6] == "check_"}


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


def in_other_basis(angles, layers=1, first=True, last=True):
    H = torch.tensor([[1, 1], [1, -1]]).to(torch.complex128) / 2**0.5
    one = torch.eye(2).to(H)
    state = ql.FidelityKernel("iqp", 2, layers=layers).states(angles[None])[0]
    return (torch.kron(H if first else one, H if last else one) @ state).abs() ** 2


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


def powered(d, s, n, critical=None, df=None, root=0.5):
    df = n - 1 if df is None else df
    return stats.nct.sf(critical or stats.t.ppf(0.975, df), df, n**root * abs(d) / s)


def shared(y):
    total = ((y - y.mean()) ** 2).sum()
    seed = sum(y.shape[1] * (row.mean() - y.mean()) ** 2 for row in y) / total
    arm = sum(y.shape[0] * (column.mean() - y.mean()) ** 2 for column in y.T) / total
    return seed, arm, 1 - seed - arm


def mean_squares(y):
    found = np.array([y.mean(1).var() * y.shape[0], y.mean(0).var() * y.shape[1]])
    rest = y - y.mean(1, keepdims=True) - y.mean(0) + y.mean()
    return np.array([*found, (rest**2).sum()]) / (found.sum() + (rest**2).sum())


def rank(k):
    p = torch.linalg.eigvalsh(k).clamp(min=0)
    p = p[p > 0] / p.sum()
    return torch.exp(-(p * p.log()).sum()).item()


def root(k):
    values, vectors = torch.linalg.eigh(k)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def geometric(c, q, r, scale=True, swap=False, power=2):
    n = len(c)
    c, q = (k * n / k.trace() if scale else k for k in ((q, c) if swap else (c, q)))
    inverse = torch.linalg.inv(c + r * torch.eye(n))
    middle = root(c) @ inverse @ inverse @ root(c) if power == 2 else inverse
    return torch.linalg.eigvalsh(root(q) @ middle @ root(q))[-1].sqrt()


def tost(d, m):
    lower = stats.ttest_1samp(d, -m, alternative="greater").pvalue
    return max(lower, stats.ttest_1samp(d, m, alternative="less").pvalue)


def likeness(x):
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    return 1 / (1 + squared)


@dataclass(frozen=True)
class Cauchy(Kernel):
    bandwidth: float = 1.0

    def embed(self, x):
        return x

    def compare(self, u, v):
        return 1 / (1 + ((u[:, None] - v[None]) ** 2).sum(-1))


def angle_variance(q):
    return (3 / 8) ** q - (1 / 4) ** q


def base(q, v, log=np.log, exp=np.exp):
    return exp(np.polyfit(q.numpy(), log(v.numpy()), 1)[0])


def circuits(n, gates, steps, pairs=None, shifted=4, matrices=2):
    return steps * (pairs or n * (n - 1) // 2) * (matrices + shifted * gates)


def clip(k, change=lambda v: v.clamp(min=0)):
    values, vectors = torch.linalg.eigh(k)
    return vectors @ torch.diag(change(values)) @ vectors.T


def silent(losses, weights):
    names = set()
    for name, term in losses.terms.items():
        found = [None]
        if term.requires_grad:
            found = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
        if all(g is None or not g.any() for g in found):
            names.add(name)
    return names


def gradients(losses, weights, **options):
    return {n: torch.autograd.grad(t, weights, **options) for n, t in losses.terms.items()}


def left_over(losses, weights):
    names = set()
    for name, term in losses.terms.items():
        if term.requires_grad:
            term.backward(retain_graph=True)
        if all(w.grad is None or not w.grad.any() for w in weights):
            names.add(name)
    return names


def near_but_unlike(n=20, spread=0.03):
    g = torch.Generator().manual_seed(0)
    points = [torch.randn(n, 1, generator=g, dtype=torch.float64) for _ in range(2)]
    return tuple(1 - spread + spread * torch.exp(-(torch.cdist(x, x) ** 2)) for x in points)


def hkh(K):
    H = torch.eye(len(K), dtype=K.dtype) - 1 / len(K)
    return H @ K @ H


def blocks(K, y, pairs=None, diagonal=False, order=sorted):
    classes = order(dict.fromkeys(y.tolist()))
    B = torch.zeros(len(classes), len(classes), dtype=K.dtype)
    for a, one in enumerate(classes):
        for b, other in enumerate(classes):
            both = (y[:, None] == one) & (y == other)
            chosen = both if diagonal else both & ~torch.eye(len(y), dtype=torch.bool)
            B[a, b] = K[chosen].sum() / (pairs(both, y) if pairs else chosen.sum())
    return B


def perplexity(batches):
    total = sum(-x.item() for log_p in batches for x in log_p)
    return math.exp(total / sum(map(len, batches)))


def count_words(text):
    return sum(len(line.split()) + 1 for line in text.splitlines())


def word_perplexity(log_p, text):
    return math.exp(-log_p.sum().item() / count_words(text))


def bits_per_byte(log_p, text):
    return -log_p.sum().item() / math.log(2) / len(text.encode("utf-8"))


def mean_tap(hidden, lengths):
    return torch.stack([h[:n].mean(0) for h, n in zip(hidden, lengths.tolist())])


RIGHT = {
    "check_perplexity": [perplexity, lambda b: torch.cat(b).mean().neg().exp()],
    "check_word_perplexity": [word_perplexity],
    "check_bits_per_byte": [bits_per_byte],
    "check_mean_tap": [mean_tap],
    "check_effective_rank": [rank, ql.effective_rank],
    "check_geometric_difference": [
        geometric, lambda c, q, r: ql.geometric_difference(c, q, r).value
    ],
    "check_equivalence": [tost, lambda d, m: equivalence(d, m).p],
    "check_own_relation": [likeness, distances, ql.pairwise_distances, normalised_distances,
                           lambda x: Cauchy()(x)],
    "check_own_kernel": [Cauchy(), ql.RBFKernel(0.5), ql.FidelityKernel("zz", qubits=3),
                         ql.PolynomialKernel(), ql.ProjectedKernel("iqp", qubits=2)],
    "check_kd_loss": [kd, ql.kd_loss],
    "check_pairwise_distances": [distances, ql.pairwise_distances],
    "check_triplet_angles": [angles, ql.triplet_angles],
    "check_distance_loss": [distance_loss, ql.distance_loss],
    "check_angle_loss": [angle_loss, ql.angle_loss],
    "check_fidelity_kernel": [fidelity],
    "check_other_basis": [in_other_basis, lambda x: in_other_basis(x).numpy(),
                          lambda x: in_other_basis(x, 2, False, False)],
    "check_shift_map": [rotations(qp.RX), rotations(qp.RY),
                        both(rotations(qp.RX), lambda x, w: qp.CNOT(wires=w))],
    "check_angle_states": [
        states, lambda x: ql.FidelityKernel("angle", qubits=x.shape[1]).states(x)
    ],
    "check_kernel_loss": [kernel_loss, ql.kernel_loss],
    "check_bandwidth_rule": [rule],
    "check_paired_difference": [paired, lambda a, b: np.array(paired(a, b))],
    "check_holm": [holm, lambda p: list(holm(p))],
    "check_shots_needed": [shots],
    "check_silent_terms": [silent, lambda losses, weights: list(silent(losses, weights))],
    "check_centred_kernel": [hkh, lambda K: K - K.mean(0) - K.mean(1, keepdim=True) + K.mean()],
    "check_class_blocks": [blocks],
    "check_near_but_unlike": [near_but_unlike],
    "check_angle_variance": [angle_variance],
    "check_exponential_base": [base],
    "check_circuits_needed": [circuits],
    "check_clip_spectrum": [clip],
    "check_power": [powered],
    "check_variance_shares": [shared, lambda y: np.array(shared(y))],
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


def kernel_of(compare, embed=lambda x: x):
    """A kernel of a reader's: its two methods."""
    methods = {"embed": lambda self, x: embed(x), "compare": lambda self, u, v: compare(u, v)}
    return dataclass(frozen=True)(type("Mine", (Kernel,), methods))()


def geometric(c, q, r, of, trace=None, norm=2):
    """The geometric difference with another root, trace or norm."""
    c, q = (k * (trace or len(k)) / k.trace() for k in (c, q))
    A = of(q) @ of(c) @ torch.linalg.inv(c + r * torch.eye(len(c)))
    return torch.linalg.matrix_norm(A @ A.T, ord=norm) ** 0.5


def squares(u, v):
    return ((u[:, None] - v[None]) ** 2).sum(-1)


TABLE = {
    "check_perplexity": [
        (lambda b: -torch.cat(b).mean(), "mean of -log p: the perplexity is its exp"),
        (lambda b: 2 ** -torch.cat(b).mean(), "2 to the mean"),
        (lambda b: torch.cat(b).mean().exp(), "the sign is lost"),
        (lambda b: math.exp(np.mean([-x.mean().item() for x in b])), "a mean over batches"),
        (lambda b: np.mean([math.exp(-x.mean()) for x in b]), "mean of the batches' perplexities"),
        (lambda b: (1 / torch.cat(b).exp()).mean(), "a mean of 1 / p"),
        (lambda b: 3 * perplexity(b), "wrong value|off by"),
        (lambda b: [math.exp(-x.mean()) for x in b], r"expected \(\), got \(3,\)"),
    ],
    "check_word_perplexity": [
        (lambda p, text: (-p.mean()).exp(), "this is per token"),
        (lambda p, text: (-p.sum() / len(text.split())).exp(), "the ends are missing"),
        (lambda p, text: (-p.sum() / (len(text.split(" ")) + text.count("\n"))).exp(), "spaces"),
        (lambda p, text: (-p.mean()).exp() * len(p) / count_words(text), "into the exponent"),
        (lambda p, text: -p.sum() / count_words(text), "perplexity is its exp"),
        (lambda p, text: (-p.sum() / (count_words(text) + 1)).exp(), "one end too many"),
    ],
    "check_bits_per_byte": [
        (lambda p, text: -p.sum() / len(text.encode()), "these are nats"),
        (lambda p, text: -p.sum() * math.log(2) / len(text.encode()), "by log 2: divide"),
        (lambda p, text: -p.sum() / math.log(2) / len(text), "per character"),
        (lambda p, text: -p.mean() / math.log(2), "per token"),
        (lambda p, text: -p.sum() / math.log(2), "the bits of the whole text"),
        (lambda p, text: -p.sum() / math.log(2) / len(text.split()), "per word"),
        (lambda p, text: -bits_per_byte(p, text), "wrong sign"),
    ],
    "check_mean_tap": [
        (lambda h, n: h.mean(1), "padding counts"),
        (lambda h, n: mean_tap(h, n) * n[:, None] / h.shape[1], "divided by t"),
        (lambda h, n: mean_tap(h, n) * n[:, None], "these are sums"),
        (lambda h, n: h.sum(1) / n[:, None], "padding is summed"),
        (lambda h, n: torch.stack([x[i - 1] for x, i in zip(h, n)]), "the last real token alone"),
        (lambda h, n: mean_tap(h, n - 1), "one token too few"),
        (lambda h, n: mean_tap(h.detach(), n), "no gradient reaches the input"),
    ],
    "check_effective_rank": [
        (lambda k: math.log(rank(k)), "effective rank is e\\^H"),
        (lambda k: torch.special.entr(torch.linalg.eigvalsh(k).clamp(min=0)).sum().exp(),
         "not shares yet"),
        (lambda k: 1 / rank(k), "sign is missing"),
        (lambda k: 2 ** math.log(rank(k)), "not to 2\\^H"),
        (lambda k: k.trace() ** 2 / (k * k).sum(), "participation ratio"),
        (lambda k: torch.linalg.matrix_rank(k), "this is the rank"),
        (lambda k: rank(k + 1), "wrong value|off by"),
    ],
    "check_geometric_difference": [
        (lambda c, q, r: geometric(c, q, r, swap=True), "swapped"),
        (lambda c, q, r: geometric(c, q, r) ** 2, "root is missing"),
        (lambda c, q, r: geometric(c, q, r, scale=False), "traces are not scaled"),
        (lambda c, q, r: geometric(c, q, 0.0), "not regularised"),
        (lambda c, q, r: geometric(c, q, r, power=1), "one inverse"),
        (lambda c, q, r: geometric(c, q, r, root, trace=1.0), "scaled to 1"),
    ],
    "check_equivalence": [
        (lambda d, m: min(stats.ttest_1samp(d, -m, alternative="greater").pvalue,
                          stats.ttest_1samp(d, m, alternative="less").pvalue), "smaller of the"),
        (lambda d, m: 1 - tost(d, m), "wrong tails"),
        (lambda d, m: max(stats.ttest_1samp(d, -m).pvalue, stats.ttest_1samp(d, m).pvalue),
         "two-sided"),
        (lambda d, m: stats.ttest_1samp(d, 0).pvalue, "proves nothing"),
        (lambda d, m: stats.norm.sf((m - abs(d.mean())) / stats.sem(d)), "normal law"),
        (lambda d, m: stats.t.sf((m - abs(d.mean())) / d.std(ddof=1), len(d) - 1), "one seed"),
    ],
    "check_own_relation": [
        (lambda x: likeness(x).numpy(), "expected a torch tensor"),
        (lambda x: x @ x[0], r"wrong shape .*expected \(6, 6\)"),
        (lambda x: likeness(x) * torch.rand(()), "two calls"),
        (lambda x: likeness(x).softmax(1), "not symmetric"),
        (lambda x: likeness(x) * torch.outer(r := torch.arange(len(x)) + 1.0, r), "another order"),
        (lambda x: torch.ones(len(x), len(x)) * x.sum(), "tells no samples apart"),
        (lambda x: likeness(x.detach()), "no gradient reaches"),
        (lambda x: (5 * likeness(x)).round() + 0 * x.sum(), "0 everywhere"),
        (lambda x: (x[:, None] - x).square().sum(-1).sqrt(), "not finite at coincident or"),
        (lambda x: torch.log(squares(x, x) + 10 * torch.eye(len(x))), "not finite at coincident"),
        (lambda x: F.normalize(x, dim=1) @ F.normalize(x, dim=1).T, "divided by almost 0"),
        (lambda x: x.nothing, "AttributeError"),
        (ql.CosineKernel, "expected a function, got the class CosineKernel"),
    ],
    "check_own_kernel": [
        (Cauchy, "expected a Kernel"),
        (likeness, "expected a Kernel"),
        (kernel_of(lambda u, v: (u @ v.T).exp()), "diagonal is not 1"),
        (kernel_of(lambda u, v: 1 / (1 + squares(u, v) + 0.1 * (u @ v.T - v[0] @ v[0]) ** 0
                                     * (v.sum(1) - u.sum(1)[:, None]))), "not symmetric"),
        (kernel_of(lambda u, v: 1 - squares(u, v) / 50), "not positive semi-definite"),
        (kernel_of(lambda u, v: 1 - squares(u, v) / 5000), "not positive semi-definite"),
        (kernel_of(lambda u, v: 1 / (1 + squares(u, v))), "bandwidth must be a field"),
        (kernel_of(lambda u, v: 1 / (1 + squares(u, v) / squares(u, v).mean())), "see the batch"),
        (kernel_of(lambda u, v: torch.ones(len(u), len(v)) + 0 * u.sum() * v.sum()), "no samples"),
        (kernel_of(lambda u, v: 1 / (1 + squares(u.detach(), v.detach()))), "no gradient reaches"),
        (kernel_of(lambda u, v: (-squares(u, v).sqrt()).exp()), "not finite at coincident"),
        (kernel_of(lambda u, v: u), "wrong shape"),
        (kernel_of(lambda u, v: u.nothing), "AttributeError"),
    ],
    "check_kd_loss": [
        (lambda s, t, T: kd(s, t, T) / T**2, "T\\^2 is missing"),
        (lambda s, t, T: kd(t, s, T), "wrong way round"),
        (lambda s, t, T: kd(s, t, T, tt=1), "the student only"),
        (lambda s, t, T: kd(s, t, T) / s.shape[1], "average over samples only"),
        (lambda s, t, T: T**2 * F.cross_entropy(s / T, (t / T).softmax(1)), "cross-entropy"),
        (lambda s, t, T: -kd(s, t, T), "wrong sign"),
        (lambda s, t, T: 3 * kd(s, t, T), "yours is 3 times"),
        (lambda s, t, T: kd(s, t, T)[None], r"expected \(\), got \(1,\)"),
        (lambda s, t, T: kd(s, t, T).item(), "expected a torch tensor, got float"),
        (lambda s, t, T: kd(s.detach(), t, T), "no gradient reaches the student"),
        (lambda s, t, T: T**2 * F.kl_div((s / T).log_softmax(1), (t / T).log_softmax(1),
                                         log_target=True, reduction="batchmean"), "teacher too"),
        (lambda s, t, T: T**2 * ((t / T).softmax(1).detach() * (
            (t / T).softmax(1).detach().log() - (s / T).softmax(1).log())).sum(1).mean(),
         "right until a probability is rounded to 0"),
        (lambda s, t, T: T**2 * ((t / T).softmax(1).detach() * (
            ((t / T).softmax(1).detach() + 1e-12).log()
            - ((s / T).softmax(1) + 1e-12).log())).sum(1).mean(), "a tiny number added"),
    ],
    "check_pairwise_distances": [
        (lambda x: diff(x).square().sum(-1), "squared distances"),
        (lambda x: diff(x).abs().sum(-1), "absolute differences"),
        (lambda x: diff(x).square().mean(-1).sqrt(), "averaged over the d features"),
        (lambda x: distances(x).triu(), "above the diagonal"),
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
        (lambda s, t: distance_loss(s, t, n2=len(s) ** 2), r"n\(n-1\), not by n\^2"),
        (lambda s, t: distance_loss(s, t, n2=1), "this is the sum"),
        (lambda s, t: (normalised_distances(s) - normalised_distances(t)).square().sum()
         / len(s) / (len(s) - 1), "squared differences: Huber"),
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
        (lambda u: (u @ u.mH).real ** 2, "real part alone"),
        (lambda u: (u @ u.mH) ** 2, "abs\\(\\) before the square"),
        (lambda u: u.abs() ** 2 @ (u.abs() ** 2).T, "probabilities"),
        (lambda u: (u @ u.mH).abs() ** 4, "entries are wrong"),
        (lambda u: 2j * fidelity(u), "real numbers, got complex"),
    ],
    "check_other_basis": [
        (lambda x: in_other_basis(x, 1, False, False), "before the square"),
        (lambda x: in_other_basis(x, last=False), "first qubit only"),
        (lambda x: in_other_basis(x, first=False), "last qubit only"),
        (lambda x: in_other_basis(x, 2), "after two layers"),
        (lambda x: in_other_basis(x).sqrt(), "not squared"),
        (lambda x: torch.kron(*[torch.tensor([[1, 1], [1, -1]]).to(torch.complex128) / 2**0.5] * 2)
         @ ql.FidelityKernel("iqp", 2, layers=1).states(x[None])[0], "these are amplitudes"),
        (lambda x: in_other_basis(x)[:2], r"expected 4 probabilities, got the shape \(2,\)"),
        (lambda x: in_other_basis(x.flip(0)), "not the probabilities of one layer"),
    ],
    "check_shift_map": [
        (rotations(qp.RZ), "all samples look alike"),
        (lambda x, w: qp.Hadamard(wires=w[0]), "all samples look alike"),
        (both(rotations(qp.RX), rotations(qp.RY)), "a shift of both samples"),
        (lambda x, w: qp.RX(x[..., 0], wires=w[0]), "does not see angle 1"),
        (rotations(qp.RX, lambda x, i: x[i]), r"angles\[..., i\]"),
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
        (lambda s, t, k: huber(k(s, t) - 1).sum() / len(s) / (len(s) - 1), "off by|wrong value"),
        (lambda s, t, k: ql.relation_loss(k(s, t), torch.ones(len(s), len(s))), "each one's own"),
        (lambda s, t, k: torch.linalg.norm(k(s) - k(t)), "whole matrices"),
        (lambda s, t, k: kernel_loss(s.detach(), t, k), "no gradient reaches the student"),
    ],
    "check_bandwidth_rule": [
        (lambda m, b: (b == rule(m, b)).int().argmax(), "place in the list"),
        (lambda m, b: b[m.flatten(1).std(1).argmax()], "diagonal is counted"),
        (lambda m, b: b[m.mean((1, 2)).argmax()], "largest mean"),
        (lambda m, b: max(k[~torch.eye(len(k)).bool()].std() for k in m), "largest spread"),
        (lambda m, b: b[torch.stack([(k - k.diagonal().diag()).std() for k in m]).argmax()],
         "set to 0 but still counted"),
        (lambda m, b: b[torch.stack([k[~torch.eye(len(k)).bool()].std() for k in m]).argmin()],
         "smallest spread"),
    ],
    "check_paired_difference": [
        (lambda a, b: paired(b, a), "arm minus reference"),
        (lambda a, b: sems(a, b, stats.norm.ppf), "1.96"),
        (lambda a, b: sems(a, b, ddof=0), "ddof=1"),
        (lambda a, b: sems(a, b, root=0), "spread of one seed"),
        (lambda a, b: ((a - b).mean(), stats.sem(a - b)), "standard error"),
        (lambda a, b: ((a - b).mean(), stats.t.ppf(0.975, len(a) - 1)
                       * math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a))), "not paired"),
        (lambda a, b: (a - b).mean(), r"expected \(2,\), got \(\)"),
        (lambda a, b: "0.3 +- 0.1", "expected 2 numbers, got '0.3"),
    ],
    "check_holm": [
        (lambda p: np.minimum(1, p * len(p)), "Bonferroni"),
        (lambda p: np.minimum(1, p * (len(p) - p.argsort())), "places, not ranks"),
        (lambda p: holm(np.sort(p)), "its own place"),
        (lambda p: np.minimum(1, p * (len(p) - p.argsort().argsort())), "running maximum"),
        (lambda p: np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))[
            p.argsort().argsort()], "at most 1"),
        (lambda p: p, "not adjusted"),
    ],
    "check_power": [
        (lambda d, s, n: 1 - powered(d, s, n), "chance to miss it"),
        (lambda d, s, n: powered(d, s, n, root=0), "a root of the number of seeds is missing"),
        (lambda d, s, n: powered(d, s, n, stats.norm.ppf(0.975)), "1.96"),
        (lambda d, s, n: powered(d, s, n, stats.t.ppf(0.95, n - 1)), "one side"),
        (lambda d, s, n: stats.t.sf(stats.t.ppf(0.975, n - 1), n - 1, n**0.5 * abs(d) / s),
         "shifted as a whole"),
        (lambda d, s, n: stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, n**0.5 * d / s),
         "take its size"),
    ],
    "check_variance_shares": [
        (lambda y: np.array(shared(y))[[1, 0, 2]], "exchanged"),
        (lambda y: shared(y.T), "exchanged"),
        (lambda y: np.array(shared(y)) * ((y - y.mean()) ** 2).sum(), "divide by their total"),
        (lambda y: 100 * np.array(shared(y)), "give fractions"),
        (lambda y: shared(y)[:2], r"expected \(3,\), got \(2,\)"),
    ],
    "check_angle_variance": [
        (lambda q: (3 / 8) ** q, "subtract the square"),
        (lambda q: (3 / 8) ** q - (1 / 2) ** q, "not its square"),
        (lambda q: 2.0**-q, "this is the mean"),
        (lambda q: 8.0**-q, "do not multiply"),
        (lambda q: q / 8, "not a sum"),
        (lambda q: angle_variance(q) ** 0.5, "standard deviation"),
        (lambda q: -angle_variance(q), "wrong sign"),
    ],
    "check_exponential_base": [
        (lambda q, v: base(q, v, exp=lambda s: s), "take its exponential"),
        (lambda q, v: base(torch.arange(len(q)), v), "one qubit"),
        (lambda q, v: (v[-1] / v[0]) ** (1 / (q[-1] - q[0])), "first and the last"),
        (lambda q, v: 1 / base(q, v), "one over the base"),
        (lambda q, v: base(q, v, np.log10), "another base"),
    ],
    "check_circuits_needed": [
        (lambda n, g, s: circuits(n, g, s, shifted=2), "gates of two samples"),
        (lambda n, g, s: circuits(n, g, s, pairs=n * (n - 1)), "halve it"),
        (lambda n, g, s: circuits(n, g, s, pairs=n), "cannot keep"),
        (lambda n, g, s: circuits(n, g, s, matrices=1), "teacher's matrix is missing"),
        (lambda n, g, s: circuits(n, g, s, shifted=0), "gradient is missing"),
        (lambda n, g, s: circuits(n, g, 1), "one step"),
    ],
    "check_clip_spectrum": [
        (lambda k: k, "nothing is changed"),
        (lambda k: k.clamp(min=0), "entries are clipped"),
        (lambda k: clip(k, torch.abs), "flip"),
        (lambda k: k - torch.eye(len(k)) * min(torch.linalg.eigvalsh(k)[0], 0), "displace"),
        (lambda k: torch.linalg.eigh(k)[1].T @ torch.linalg.eigh(k)[0].clamp(min=0).diag()
         @ torch.linalg.eigh(k)[1], "columns"),
        (lambda k: torch.linalg.eigvalsh(k).clamp(min=0).diag(), "rotate back"),
    ],
    "check_shots_needed": [
        (lambda k, e: int(k * (1 - k) / e**2), "rounded down"),
        (lambda k, e: math.ceil(1 / e**2), "k\\(1 - k\\), not 1"),
        (lambda k, e: math.ceil(k / e**2), "not k"),
        (lambda k, e: math.ceil(k * (1 - k) / e), "square it"),
        (lambda k, e: k * (1 - k) / e**2, "not a whole number"),
        (lambda k, e: math.ceil(0.25 / e**2), "largest variance"),
    ],
    "check_silent_terms": [
        (lambda losses, _: {n for n, t in losses.terms.items() if not t.requires_grad}, "fooled"),
        (lambda losses, _: set(), "Ask each term alone"),
        (lambda losses, weights: silent(losses, weights[-1:]), "only the last weight"),
        (lambda losses, weights: {n for w in weights for n in silent(losses, [w])}, "miss .some."),
        (lambda losses, weights: {n for n, g in term_gradients(losses, weights).items()
                                  if g.norm() < 1e-3}, "a small gradient is not none"),
        (lambda losses, weights: set(losses.terms) - silent(losses, weights), "give the others"),
        (lambda losses, weights: {"kernel"}, "in a loss without fault you named kernel"),
        (lambda losses, weights: silent(losses, weights) - {"angle"}, "cut off you missed angle"),
        (lambda losses, weights: {*silent(losses, weights), "x"}, "no term x; the names are task"),
        (left_over, "still in it"),
        (lambda losses, weights: gradients(losses, weights), "retain_graph=True keeps"),
        (lambda losses, weights: gradients(losses, weights, retain_graph=True), "allow_unused"),
        (lambda losses, weights: gradients(losses, weights, retain_graph=True, allow_unused=True),
         "ask term.requires_grad"),
        (lambda losses, weights: "kernel", "the word 'kernel'"),
        (lambda losses, weights: 3, "expected a set of names, got 3"),
        (dict, "got the class dict"),
    ],
    "check_centred_kernel": [
        (lambda K: K - K.mean(1, keepdim=True), "that of each column is not"),
        (lambda K: K - K.mean(0), "that of each row is not"),
        (lambda K: K - K.mean(), "overall mean alone"),
        (lambda K: K - K.mean(0) - K.mean(1, keepdim=True), "taken off twice"),
        (lambda K: K - K.mean(0) - K.mean(1) + K.mean(), "keepdim=True makes it a column"),
        (lambda K: K - K.sum(0) - K.sum(1, keepdim=True) + K.sum(), "sums instead of means"),
        (lambda K: -hkh(K), "wrong sign"),
    ],
    "check_near_but_unlike": [
        (lambda: near_but_unlike(spread=1.0), "kernel loss is 0.*press both"),
        (lambda: [near_but_unlike()[0]] * 2, "the CKA is 1.00"),
        (lambda: [torch.ones(12, 12)] * 2, "the CKA cannot be had"),
        (lambda: [torch.eye(12) + 0.01 * torch.ones(12, 12).triu(1)] * 2, "K is not symmetric"),
        (lambda: [0.9 * torch.ones(12, 12)] * 2, "diagonal of K is not 1"),
        (lambda: [2 * torch.eye(12) - 1] * 2, "K has the negative eigenvalue -10"),
        (lambda: [torch.eye(12), torch.eye(12) * torch.inf], "L has values that are not finite"),
        (lambda: near_but_unlike(n=6), "at least 10 samples, got 6"),
        (lambda: [torch.eye(12)], "two matrices of one size"),
        (lambda: torch.eye(12), r"expected two matrices \(K, L\), got Tensor"),
        (lambda: 1 / 0, "your function raised ZeroDivisionError"),
        (dict, "got the class dict"),
    ],
    "check_class_blocks": [
        (lambda K, y: blocks(K, y, diagonal=True), "leave the diagonal"),
        (lambda K, y: blocks(K, y, pairs=lambda both, y: both.sum()), "still counted"),
        (lambda K, y: blocks(K, y, pairs=lambda both, y: 1), "divide by the number of pairs"),
        (lambda K, y: blocks(K, y, lambda both, y: 1, diagonal=True), "sums, with the diagonal"),
        (lambda K, y: blocks(K, y, order=list), "sort them"),
        (lambda K, y: blocks(K, y, pairs=lambda both, y: len(y) ** 2), r"divided by n\^2"),
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
