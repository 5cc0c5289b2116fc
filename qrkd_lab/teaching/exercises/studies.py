"""Exercises on statistics, on scores of language, and on what a device costs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from qrkd_lab.models.gpt2 import tap
from qrkd_lab.studies.statistics import equivalence, holm, power_of, variance_shares
from qrkd_lab.teaching.exercises.checker import Answer, Case, Function, mark, normal, rbf

Array = np.ndarray


def check_paired_difference(f: Function | None) -> Answer:
    """Check ``f(arm, reference)``: arrays (S,) -> mean of arm - reference, 95 % half width."""

    def paired(a: Array, b: Array, spread: float = 0, quantile: float = 0) -> Array:
        quantile = quantile or stats.t.ppf(0.975, len(a) - 1)
        spread = spread or (a - b).std(ddof=1)
        return np.array([(a - b).mean(), quantile * spread / len(a) ** 0.5])

    mistakes = {
        "1.96 is for many seeds: take the t-quantile with S - 1 degrees of freedom.":
            lambda a, b: paired(a, b, quantile=stats.norm.ppf(0.975)),
        "not paired: take the standard deviation of the differences, seed by seed.":
            lambda a, b: paired(a, b, np.sqrt(a.var(ddof=1) + b.var(ddof=1)),
                                stats.t.ppf(0.975, 2 * len(a) - 2)),
        "the standard deviation divides by S - 1 (ddof=1), not by S.":
            lambda a, b: paired(a, b, spread=(a - b).std()),
        "this t-quantile leaves out 5 % on one side: take t at 0.975.":
            lambda a, b: paired(a, b, quantile=stats.t.ppf(0.95, len(a) - 1)),
        "the half width is not divided by the root of S.":
            lambda a, b: paired(a, b) * [1, len(a) ** 0.5],
        "the mean has the wrong sign: arm minus reference.": lambda a, b: paired(b, a),
        "these are the ends of the interval: give its middle and half its width.":
            lambda a, b: paired(a, b)[0] + paired(a, b)[1] * np.array([-1, 1]),
    }  # fmt: skip
    source = np.random.default_rng(0)
    cases = []
    for seeds in (5, 3, 12):
        level = source.normal(90, 2, seeds)
        arm = level + source.normal(0.3, 0.2, seeds)
        cases.append(Case(f"with {seeds} seeds", (arm, level)))
    right = "seed by seed, with the t-interval of the mean difference."
    return mark(f, paired, cases, mistakes, right)


def check_holm(f: Function | None) -> Answer:
    """Check ``f(p)``: p-values, an array (m,) -> adjusted by Holm's method, in the order given."""

    mistakes = {
        "this is Bonferroni's: the i-th smallest of m is multiplied by m - i + 1.":
            lambda p: np.minimum(1, p * len(p)),
        "argsort gives places, not ranks: sort, adjust, and put back by the same order.":
            lambda p: np.minimum(1, p * (len(p) - p.argsort())),
        "these are sorted: put each p back in the place that it came from.":
            lambda p: np.sort(holm(p)),
        "the smallest p is multiplied by m, the largest by 1: yours the other way round.":
            lambda p: np.minimum(1, np.maximum.accumulate(np.sort(p) * np.arange(1, len(p) + 1)))[
                p.argsort().argsort()],
        "an adjusted p is at most 1.":
            lambda p: np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))[
                p.argsort().argsort()],
        "an adjusted p must not be below that of a smaller p: take the running maximum.":
            lambda p: np.minimum(1, p * (len(p) - p.argsort().argsort())),
    }  # fmt: skip
    values = ([0.01, 0.04, 0.03], [0.2, 0.001, 0.6, 0.02, 0.021], [0.7, 0.03, 0.6])
    cases = [Case(f"with {len(p)} p-values", (np.array(p),)) for p in values]
    right = "step by step, never falling, at most 1, in the order given."
    return mark(f, holm, cases, mistakes, right)


def check_power(f: Function | None) -> Answer:
    """Check ``f(difference, spread, seeds)`` -> power of the paired t-test at 5 %, two-sided."""

    def powered(
        d: float, s: float, n: int, critical: float, root: float = 0.5, free: int = 1
    ) -> float:
        return float(stats.nct.sf(critical, n - free, n**root * d / s))

    mistakes = {
        "this is the chance to miss it: power is the upper tail (sf).":
            lambda d, s, n: 1 - power_of(d, s, n),
        "1.96 is for many seeds: take the t-quantile with S - 1 degrees of freedom.":
            lambda d, s, n: powered(abs(d), s, n, stats.norm.ppf(0.975)),
        "this t-quantile leaves out 5 % on one side: the test is two-sided, take t at 0.975.":
            lambda d, s, n: powered(abs(d), s, n, stats.t.ppf(0.95, n - 1)),
        "a difference of either sign is to be found: take its size, abs(difference).":
            lambda d, s, n: powered(d, s, n, stats.t.ppf(0.975, n - 1)),
        "the shift of the noncentral t is sqrt(S) * difference / spread: the sqrt(S) is missing.":
            lambda d, s, n: powered(abs(d), s, n, stats.t.ppf(0.975, n - 1), root=0),
        "the shift of the noncentral t has the root of S in it, not S.":
            lambda d, s, n: powered(abs(d), s, n, stats.t.ppf(0.975, n - 1), root=1),
        "the spread is estimated, which costs one degree of freedom: seeds - 1.":
            lambda d, s, n: powered(abs(d), s, n, stats.t.ppf(0.975, n), free=0),
    }  # fmt: skip
    values = ((0.004, 0.003, 5), (0.8, 1.0, 12), (-0.5, 0.4, 8))  # the other tail: below 1e-6
    cases = [Case(f"for {d} with spread {s} and {n} seeds", (d, s, n)) for d, s, n in values]
    right = "the upper tail of the noncentral t beyond the quantile of the test."
    return mark(f, power_of, cases, mistakes, right)


def check_equivalence(f: Function | None) -> Answer:
    """Check ``f(differences, margin)``: (S,), a number -> p of two one-sided t-tests (TOST)."""

    def sides(d: Array, m: float) -> tuple[float, float]:
        return tuple(stats.t.sf(np.array([m + d.mean(), m - d.mean()]) / stats.sem(d), len(d) - 1))

    mistakes = {
        "the smaller of the two: both tests must reject, so the larger p counts.":
            lambda d, m: min(sides(d, m)),
        "the wrong tails: small p where the mean lies far inside the margin.":
            lambda d, m: 1 - max(sides(d, m)),
        "the lower tails: p is the chance of a t that is larger than t_-, or than t_+.":
            lambda d, m: 1 - min(sides(d, m)),
        "this is the t-test of 'no difference': its large p proves nothing.":
            lambda d, m: stats.ttest_1samp(d, 0).pvalue,
        "these tests are two-sided: each of the two asks about one side.":
            lambda d, m: 2 * max(sides(d, m)),
        "the standard deviation is not divided by the root of S.":
            lambda d, m: stats.t.sf((m - abs(d.mean())) / d.std(ddof=1), len(d) - 1),
    }  # fmt: skip
    source = np.random.default_rng(0)
    cases = []
    for seeds, mean, margin in ((5, 0.1, 0.4), (10, -0.2, 0.5), (4, 0.3, 0.35)):
        d = source.normal(0, 0.3, seeds)
        d += mean - d.mean()
        cases.append(Case(f"with {seeds} seeds and a margin of {margin}", (d, margin)))
    right = "the larger p of two one-sided t-tests."
    return mark(f, lambda d, m: equivalence(d, m).p, cases, mistakes, right)


def check_variance_shares(f: Function | None) -> Answer:
    """Check ``f(y)``: scores (S, A) -> shares of the sum of squares: seed, arm, rest."""

    def squares(y: Array) -> Array:
        return np.array(variance_shares(pd.DataFrame(y)))

    def uncounted(y: Array) -> Array:
        seed, arm = squares(y)[:2] / y.shape[::-1]
        return np.array([seed, arm, 1 - seed - arm])

    mistakes = {
        "rows are seeds and columns are arms: these two are exchanged.":
            lambda y: squares(y)[[1, 0, 2]],
        "a seed's mean stands for A scores and an arm's for S: multiply the sums by A and S.":
            uncounted,
        "these are the sums of squares: divide by their total.":
            lambda y: squares(y) * ((y - y.mean()) ** 2).sum(),
    }  # fmt: skip
    source = np.random.default_rng(0)
    cases = []
    for seeds, arms in ((5, 7), (3, 2), (4, 4)):
        y = 90 + source.normal(0, 1, (seeds, 1)) + source.normal(0, 0.5, (1, arms))
        y += source.normal(0, 0.3, (seeds, arms))
        cases.append(Case(f"with {seeds} seeds and {arms} arms", (y,)))
    right = "seed, arm and the rest share the sum of squares."
    return mark(f, squares, cases, mistakes, right)


def check_circuits_needed(f: Function | None) -> Answer:
    """Check ``f(n, gates, steps)`` -> circuits of one training by parameter shift, two a gate."""

    def count(n: int, gates: int, steps: int) -> int:
        return steps * n * (n - 1) // 2 * (2 + 4 * gates)

    mistakes = {
        "a pair's circuit holds the gates of two samples: 2 x 2 x gates shifted circuits.":
            lambda n, g, s: count(n, g / 2, s),
        "n(n-1) pairs: i, j and j, i are the same circuit; halve it.":
            lambda n, g, s: 2 * count(n, g, s),
        "the gradient is missing: two shifted circuits for each gate.":
            lambda n, g, s: count(n, 0, s),
        "one matrix: teacher and student have one each, so two circuits per pair.":
            lambda n, g, s: count(n, g, s) - s * n * (n - 1) // 2,
        "the diagonal is 1 and needs no circuit: n(n-1)/2 pairs of different samples.":
            lambda n, g, s: count(n + 1, g, s),
    }  # fmt: skip
    rows = ((64, 42, 540), (8, 5, 3), (17, 12, 10))
    cases = [Case(f"for n = {n}, {g} gates and {s} steps", (n, g, s)) for n, g, s in rows]
    right = "two matrices and the shifted circuits of the student's gates, pair by pair."
    return mark(f, count, cases, mistakes, right)


def check_clip_spectrum(f: Function | None) -> Answer:
    """Check ``f(matrix)``: symmetric (n, n) -> the same with negative eigenvalues set to 0."""

    def rebuilt(k: Tensor, change: Function = torch.relu) -> Tensor:
        values, vectors = torch.linalg.eigh(k)
        return (vectors * change(values)) @ vectors.T

    mistakes = {
        "entries are clipped: clip the eigenvalues.": lambda k: k.clamp(min=0),
        "the sign is turned (flip): set negative eigenvalues to 0.":
            lambda k: rebuilt(k, torch.abs),
        "these are eigenvalues on a diagonal: rotate back, V diag(l) V^T.":
            lambda k: torch.linalg.eigvalsh(k).clamp(min=0).diag(),
        "eigh gives the eigenvectors as columns: V diag(l) V^T, not V^T diag(l) V.":
            lambda k: (v := torch.linalg.eigh(k))[1].T @ torch.relu(v[0]).diag() @ v[1],
        "all eigenvalues are raised (displace): change the negative ones only.":
            lambda k: k + torch.relu(-torch.linalg.eigvalsh(k)[0]) * torch.eye(len(k)),
    }  # fmt: skip
    cases = [Case("with a matrix that is right already", (torch.eye(4, dtype=torch.float64),))]
    for n in (3, 5):
        noise = 0.4 * normal(n, n, seed=2)
        k = (rbf(n, 0.5) + noise + noise.T).fill_diagonal_(1.0)
        cases.insert(0, Case(f"with a matrix of {n} samples", (k,)))
    right = "no negative eigenvalue, and nothing else changed."
    return mark(f, rebuilt, cases, mistakes, right)


def check_perplexity(f: Function | None) -> Answer:
    """Check ``f(batches)`` -> perplexity; a list of natural log-probabilities ``(m_i,)``."""

    def nll(batches: Sequence[Tensor]) -> Tensor:
        return -torch.cat(list(batches)).mean()

    mistakes = {
        "this is the mean of -log p: the perplexity is its exp.": nll,
        "2 to the mean: the logarithms are natural, so exp undoes them.": lambda b: 2 ** nll(b),
        "a mean over batches: the last one is shorter, so add up over tokens, then divide.":
            lambda b: torch.stack([-x.mean() for x in b]).mean().exp(),
        "a mean of the batches' perplexities: the exp comes last, over all tokens.":
            lambda b: torch.stack([(-x.mean()).exp() for x in b]).mean(),
        "below 1: log p is negative, so its mean needs a minus.": lambda b: torch.exp(-nll(b)),
        "a sum over tokens: divide it by their number before the exp.":
            lambda b: torch.exp(-torch.cat(list(b)).sum()),
    }  # fmt: skip
    cases = [
        Case(f"with batches of {sizes}", ([_log_p(m, i) for i, m in enumerate(sizes)],))
        for sizes in ((6, 6, 2), (5, 1), (4, 4))
    ]
    right = "every token counts once, whatever batch it came in."
    return mark(f, lambda b: torch.exp(nll(b)), cases, mistakes, right)


def check_word_perplexity(f: Function | None) -> Answer:
    """Check ``f(log_p, text)`` -> perplexity per word; each line has one word more, its end."""

    def words(text: str) -> int:
        return len(text.split()) + text.count("\n")

    mistakes = {
        "this is per token: the sum is divided by the number of words.":
            lambda log_p, text: torch.exp(-log_p.mean()),
        "the ends are missing: each line ends, and that is predicted too.":
            lambda log_p, text: torch.exp(-log_p.sum() / len(text.split())),
        "these are spaces: 'a  b' has two words; use text.split().":
            lambda log_p, text: torch.exp(-log_p.sum() / (text.count(" ") + 1 + text.count("\n"))),
        "text.split('\\n') has an empty piece after the last end: count the ends.":
            lambda log_p, text: torch.exp(-log_p.sum() / (words(text) + 1)),
    }  # fmt: skip
    right = "the same sum as per token, over a number that no tokenizer changes."
    rule = lambda log_p, text: torch.exp(-log_p.sum() / words(text))  # noqa: E731
    return mark(f, rule, _texts(), mistakes, right)


def check_bits_per_byte(f: Function | None) -> Answer:
    """Check ``f(log_p, text)`` -> bits that the model needs for a byte of UTF-8."""

    def bits(log_p: Tensor) -> Tensor:
        return -log_p.sum() / math.log(2)

    mistakes = {
        "these are nats: a bit is a factor of 2, so divide by log 2.":
            lambda log_p, text: -log_p.sum() / len(text.encode()),
        "per character: a letter with an accent takes two bytes; use text.encode().":
            lambda log_p, text: bits(log_p) / len(text),
        "per token: divide by the number of bytes.": lambda log_p, text: bits(log_p) / len(log_p),
        "this is a perplexity per byte: bits are the sum itself, without exp.":
            lambda log_p, text: torch.exp(-log_p.sum() / len(text.encode())),
    }  # fmt: skip
    right = "what an arithmetic coder that trusts the model would write."
    rule = lambda log_p, text: bits(log_p) / len(text.encode())  # noqa: E731
    return mark(f, rule, _texts(), mistakes, right)


def check_mean_tap(f: Function | None) -> Answer:
    """Check ``f(hidden, lengths)``: (n, t, d), (n,) -> (n, d), means over the real tokens."""

    def mean(h: Tensor, lengths: Tensor) -> Tensor:
        return tap(h, "mean", lengths)

    mistakes = {
        "padding counts: leave out positions from each row's length on.": lambda h, n: h.mean(1),
        "these are sums: divide each by its number of real tokens.":
            lambda h, n: mean(h, n) * n[:, None],
        "this is the last real token alone (the tap 'last').": lambda h, n: tap(h, "last", n),
        "the padding is 0, but it still counts: divide by each row's length.":
            lambda h, n: mean(h, n) * n[:, None] / h.shape[1],
    }  # fmt: skip
    cases = [
        Case(f"with lengths {lengths}", (normal(len(lengths), 5, 3), torch.tensor(lengths)))
        for lengths in ([5, 2, 3], [4, 5])
    ]
    right = "real tokens only, each review by its own length; the gradient passes."
    return mark(f, mean, cases, mistakes, right, gradient=True)


def _log_p(count: int, seed: int = 0) -> Tensor:
    return -0.2 - normal(count, seed=seed).abs()


def _texts() -> list[Case]:
    texts = {
        "the cat sat\non the mat\n": 11,
        "na\u00efve caf\u00e9\n": 5,
        "one\n\ntwo words\nthree  more\n": 9,
    }
    return [
        Case(f"for the text {text!r} in {tokens} tokens", (_log_p(tokens), text))
        for text, tokens in texts.items()
    ]
