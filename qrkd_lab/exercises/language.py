"""Exercises on language models: perplexity per token and per word, bits per byte."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from qrkd_lab.exercises.inputs import normal
from qrkd_lab.exercises.marking import Answer, Case, mark
from qrkd_lab.models.gpt2 import tap

__all__ = [
    "check_bits_per_byte", "check_mean_tap", "check_perplexity", "check_word_perplexity",
]  # fmt: skip

Function = Callable[..., Any]
TEXTS = ("the cat sat\non the mat\n", "na\u00efve caf\u00e9\n", "one\n\ntwo words\nthree  more\n")


def check_perplexity(f: Function | None) -> Answer:
    """Check ``f(batches)`` -> perplexity; a list of natural log-probabilities ``(m_i,)``."""

    def means(batches: Sequence[Tensor]) -> Tensor:
        return torch.stack([-log_p.mean() for log_p in batches])

    def nll(batches: Sequence[Tensor]) -> Tensor:
        return -torch.cat(list(batches)).mean()

    mistakes = {
        "this is the mean of -log p: the perplexity is its exp.": nll,
        "these are bits: the logarithms are natural, so take exp, and divide by nothing.": (
            lambda b: nll(b) / math.log(2)
        ),
        "2 to the mean: the logarithms are natural, so exp undoes them.": lambda b: 2 ** nll(b),
        "10 to the mean: the logarithms are natural, so exp undoes them.": lambda b: 10 ** nll(b),
        "the sign is lost: average -log p, so that a perplexity is 1 or more.": (
            lambda b: torch.exp(-nll(b))
        ),
        "a mean over batches: the last one is shorter, so add up over tokens, then divide.": (
            lambda b: torch.exp(means(b).mean())
        ),
        "a mean of the batches' perplexities: average -log p over all tokens, then take exp.": (
            lambda b: torch.exp(means(b)).mean()
        ),
        "a mean of 1 / p: average the logarithms first, then take exp.": (
            lambda b: torch.exp(-torch.cat(list(b))).mean()
        ),
        "1 over the mean probability: average the logarithms first, then take exp.": (
            lambda b: 1 / torch.cat(list(b)).exp().mean()
        ),
        "the first batch only.": lambda b: torch.exp(-b[0].mean()),
        "a sum over all tokens: divide it by their number before exp.": (
            lambda b: torch.exp(-torch.cat(list(b)).sum())
        ),
        "divided by the number of batches: divide by the number of tokens.": (
            lambda b: torch.exp(-torch.cat(list(b)).sum() / len(b))
        ),
        "exp is missing, and this is a mean over batches: average over all tokens.": (
            lambda b: means(b).mean()
        ),
    }
    cases = [
        Case(f"with batches of {sizes}", ([_log_p(m, i) for i, m in enumerate(sizes)],))
        for sizes in ((6, 6, 2), (5, 1), (4, 4))
    ]
    right = "every token counts once, whatever batch it came in."
    rule = lambda b: torch.exp(nll(b))  # noqa: E731
    return mark(f, rule, cases, mistakes, right, numbers=True)


def check_word_perplexity(f: Function | None) -> Answer:
    """Check ``f(log_p, text)`` -> perplexity per word; each line has one word more, its end."""

    def per(count: Callable[[str], int]) -> Function:
        return lambda log_p, text: torch.exp(-log_p.sum() / count(text))

    def words(text: str) -> int:
        return len(text.split()) + text.count("\n")

    mistakes = {
        "this is per token: the sum is divided by the number of words.": (
            lambda log_p, text: torch.exp(-log_p.mean())
        ),
        "the ends are missing: each line ends, and that is predicted too.": (
            per(lambda text: len(text.split()))
        ),
        "these are spaces: 'a  b' has two words; use text.split().": (
            per(lambda text: len(text.split(" ")) + text.count("\n"))
        ),
        "this is per character.": per(len),
        "per token, times tokens a word: the ratio belongs into the exponent.": (
            lambda log_p, text: torch.exp(-log_p.mean()) * len(log_p) / words(text)
        ),
        "the ratio is upside down: the exponent is multiplied by tokens a word.": (
            lambda log_p, text: torch.exp(-log_p.mean() * words(text) / len(log_p))
        ),
        "the mean over words of -log p: the perplexity is its exp.": (
            lambda log_p, text: -log_p.sum() / words(text)
        ),
        "the sign is lost: average -log p, so that a perplexity is 1 or more.": (
            lambda log_p, text: torch.exp(log_p.sum() / words(text))
        ),
        "2 to the mean: the logarithms are natural, so exp undoes them.": (
            lambda log_p, text: 2 ** (-log_p.sum() / words(text))
        ),
        "one end for the whole text: each line has its own.": per(lambda t: len(t.split()) + 1),
        "one end too many: the last line break ends a line and begins none.": (
            per(lambda text: len(text.split()) + len(text.split("\n")))
        ),
        "this is per byte: the sum is divided by the number of words.": (
            per(lambda text: len(text.encode()))
        ),
        "the mean over tokens, divided once more: divide the sum by the number of words.": (
            lambda log_p, text: torch.exp(-log_p.mean() / words(text))
        ),
    }
    right = "the same sum as per token, over a number that no tokenizer changes."
    return mark(f, per(words), _texts(), mistakes, right, numbers=True)


def check_bits_per_byte(f: Function | None) -> Answer:
    """Check ``f(log_p, text)`` -> bits that the model needs for a byte of UTF-8."""

    def bits(log_p: Tensor) -> Tensor:
        return -log_p.sum() / math.log(2)

    mistakes = {
        "these are nats: a bit is a factor of 2, so divide by log 2.": (
            lambda log_p, text: -log_p.sum() / len(text.encode())
        ),
        "multiplied by log 2: divide.": (
            lambda log_p, text: -log_p.sum() * math.log(2) / len(text.encode())
        ),
        "per character: a letter with an accent takes two bytes; use text.encode().": (
            lambda log_p, text: bits(log_p) / len(text)
        ),
        "per token: divide by the number of bytes.": lambda log_p, text: bits(log_p) / len(log_p),
        "this is a perplexity per byte: bits are its logarithm to base 2.": (
            lambda log_p, text: torch.exp(-log_p.sum() / len(text.encode()))
        ),
        "the bits of the whole text: divide by its number of bytes.": (
            lambda log_p, text: bits(log_p)
        ),
        "per word: divide by the number of bytes.": (
            lambda log_p, text: bits(log_p) / len(text.split())
        ),
        "the mean over tokens, divided once more: divide the sum by the number of bytes.": (
            lambda log_p, text: bits(log_p) / len(log_p) / len(text.encode())
        ),
    }
    right = "what an arithmetic coder that trusts the model would write."
    rule = lambda log_p, text: bits(log_p) / len(text.encode())  # noqa: E731
    return mark(f, rule, _texts(), mistakes, right, numbers=True)


def check_mean_tap(f: Function | None) -> Answer:
    """Check ``f(hidden, lengths)``: (n, t, d), (n,) -> (n, d), means over the real tokens."""

    def real(hidden: Tensor, lengths: Tensor) -> Tensor:
        return (torch.arange(hidden.shape[1]) < lengths[:, None])[..., None]  # (n, t, 1)

    mistakes = {
        "padding counts: leave out positions from each row's length on.": lambda h, n: h.mean(1),
        "divided by t: each row has its own number of real tokens.": (
            lambda h, n: torch.where(real(h, n), h, 0).mean(1)
        ),
        "these are sums: divide each by its number of real tokens.": (
            lambda h, n: torch.where(real(h, n), h, 0).sum(1)
        ),
        "padding is summed, although you divide by the real tokens.": (
            lambda h, n: h.sum(1) / n[:, None]
        ),
        "this is the last real token alone (the tap 'last').": (
            lambda h, n: h[torch.arange(len(h)), n - 1]
        ),
        "one token too few: the last real one belongs to the mean.": (
            lambda h, n: tap(h, "mean", n - 1)
        ),
        "one token too many: position n, counted from 0, is padding already.": (
            lambda h, n: tap(h, "mean", (n + 1).clamp(max=h.shape[1]))
        ),
        "cut to the shortest: each row has its own number of real tokens.": (
            lambda h, n: h[:, : int(n.min())].mean(1)
        ),
        "padding is at the end: take each row's first tokens, not its last.": (
            lambda h, n: tap(h.flip(1), "mean", n)
        ),
        "one mean over all reviews: give a row each.": (
            lambda h, n: tap(h, "mean", n).mean(0).expand(len(h), -1)
        ),
    }
    cases = [
        Case(f"with lengths {lengths}", (normal(len(lengths), 5, 3), torch.tensor(lengths)))
        for lengths in ([5, 2, 3], [4, 5])
    ]
    right = "real tokens only, each review by its own length; the gradient passes."
    rule = lambda h, n: tap(h, "mean", n)  # noqa: E731
    return mark(f, rule, cases, mistakes, right, learns=[0])


def _log_p(count: int, seed: int = 0) -> Tensor:
    return -0.2 - normal(count, seed=seed).abs()


def _texts() -> list[Case]:
    counts = (11, 5, 9)  # tokens
    return [
        Case(f"for the text {text!r} in {count} tokens", (_log_p(count), text))
        for text, count in zip(TEXTS, counts, strict=True)
    ]
