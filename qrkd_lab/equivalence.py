r"""How to report that nothing was found: equivalence, how often one is ahead, and it in words.

"No difference that these seeds could show" has two causes: there is none that matters, or there
were too few seeds. An equivalence test tells them apart. It needs a number that is fixed before the
results are seen: the *margin* :math:`\delta`, the smallest difference that would matter. Two
one-sided t-tests (TOST) then ask whether the true mean difference lies above :math:`-\delta` and
below :math:`\delta`. Where several benchmarks are asked, both questions, "different?" and
"equivalent?", are corrected for their number (:func:`together`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from qrkd_lab.kernels.base import positive
from qrkd_lab.statistics import FEWEST, holm, interval, p_in_words, seeds_needed

__all__ = ["Ahead", "Equivalence", "ahead", "equivalence", "null_report", "together"]


@dataclass(frozen=True)
class Equivalence:
    """What :func:`equivalence` found; all in the unit of the differences.

    Attributes:
        seeds: S.
        mean, spread: of the differences; ``spread`` is their standard deviation (ddof = 1).
        margin: the smallest difference that would matter.
        low, high: the ``confidence`` interval of the mean: does it exclude 0?
        inner_low, inner_high: the interval of confidence ``1 - 2 (1 - confidence)``: does it lie
            within the margin? That is the same question as ``p < 1 - confidence``.
        p: of the equivalence test: small if the true mean lies within the margin; NaN where all
            differences are the same.
        p_different: of the paired t-test: small if the true mean is not 0.
        confidence: 0.95 means a test at 5 %.
        family: how many tests both p are corrected for. The intervals never are.
    """

    seeds: int
    mean: float
    spread: float
    margin: float
    low: float
    high: float
    inner_low: float
    inner_high: float
    p: float
    p_different: float
    confidence: float
    family: int = 1

    @property
    def verdict(self) -> str:
        """``equivalent``, ``different``, ``different, by less than the margin``, ``undecided``."""
        if math.isnan(self.p):
            return "undecided"
        within = self.p < 1 - self.confidence
        if self.p_different < 1 - self.confidence:
            return "different, by less than the margin" if within else "different"
        return "equivalent" if within else "undecided"


def equivalence(differences: ArrayLike, margin: float, confidence: float = 0.95) -> Equivalence:
    r"""Two one-sided t-tests: is the true mean difference smaller than the margin?

    .. math:: t_- = \frac{\bar d + \delta}{s / \sqrt S}, \qquad
              t_+ = \frac{\delta - \bar d}{s / \sqrt S}, \qquad
              p = \max\big(P(T_{S-1} > t_-),\; P(T_{S-1} > t_+)\big)

    Args:
        differences: arm minus reference, one a seed, ``(S,)``.
        margin: :math:`\delta > 0`, in the same unit, fixed before the results are seen.
        confidence: 0.95 tests at 5 %.

    Raises:
        ValueError: fewer than three seeds, NaN, or a margin not > 0.

    Source: Schuirmann, J. Pharmacokinetics and Biopharmaceutics 15, 657 (1987); Lakens, Social
    Psychological and Personality Science 8, 355 (2017).

    Example:
        >>> equivalence([0.1, -0.2, 0.0, 0.1, -0.1], margin=0.5).verdict
        'equivalent'
    """
    positive("margin", margin)
    d = np.asarray(differences, dtype=float)
    if d.ndim != 1 or len(d) < FEWEST or not np.isfinite(d).all():
        raise ValueError(
            f"differences: expected (S,) finite numbers, one a seed, S >= {FEWEST}; got shape "
            f"{d.shape}"
        )
    outer, inner = interval(d, confidence), interval(d, 2 * confidence - 1)
    p = different = math.nan  # of the same difference in every seed: no spread to test with
    if np.ptp(d) > 1e-12 * np.abs(d).max():
        t = stats.t(len(d) - 1)
        error = stats.sem(d)
        p = float(t.sf((margin - abs(d.mean())) / error))
        different = float(2 * t.sf(abs(d.mean()) / error))
    return Equivalence(
        len(d), d.mean(), d.std(ddof=1), float(margin), *outer, *inner, p, different, confidence
    )


def together(found: Mapping[str, Equivalence]) -> dict[str, Equivalence]:
    """The same with both p corrected by Holm's method, as all of them are asked at once.

    Args:
        found: name of a benchmark to what :func:`equivalence` found, for all that count.

    Example:
        >>> one, two = equivalence([0.1, -0.2, 0.0, 0.1], 0.5), equivalence([1.0, -2.0, 2.0], 0.5)
        >>> together({"mnist": one, "ptb": two})["mnist"].p == 2 * one.p
        True
    """
    p, different = (
        holm(np.array([getattr(one, name) for one in found.values()], dtype=float))
        for name in ("p", "p_different")
    )
    many = max(1, int(np.isfinite(p).sum()))
    return {
        name: replace(one, p=float(p[i]), p_different=float(different[i]), family=many)
        for i, (name, one) in enumerate(found.items())
    }


@dataclass(frozen=True)
class Ahead:
    """In how many seeds an arm is ahead (``wins``), of those that differ (``seeds``).

    ``share`` estimates P(A > B); ``low`` and ``high`` bound it, and ``p`` is the sign test's.
    """

    wins: int
    seeds: int
    share: float
    low: float
    high: float
    p: float


def ahead(differences: ArrayLike, confidence: float = 0.95) -> Ahead:
    """How often is the arm ahead of the reference? Seeds in which they tie do not count.

    Args:
        differences: ``(S,)``, better is positive.
        confidence: of the (exact, Clopper-Pearson) interval.

    Raises:
        ValueError: no seed in which they differ.

    Example:
        >>> found = ahead([0.1, 0.2, -0.1, 0.3, 0.0])
        >>> found.wins, found.seeds, found.share
        (3, 4, 0.75)
    """
    d = np.asarray(differences, dtype=float)
    wins, seeds = int((d > 0).sum()), int((d != 0).sum())
    if not seeds:
        raise ValueError("differences: expected at least one seed in which the arms differ")
    test = stats.binomtest(wins, seeds)
    low, high = test.proportion_ci(confidence)
    return Ahead(wins, seeds, wins / seeds, low, high, test.pvalue)


def null_report(
    differences: ArrayLike,
    margin: float,
    arm: str = "qrkd",
    reference: str = "rkd",
    what: str = "test accuracy",
    unit: str = "points",
    confidence: float = 0.95,
    found: Equivalence | None = None,
) -> str:
    """A paragraph for a paper: what was found, what was excluded, and what more seeds would tell.

    Args:
        differences: arm minus reference by seed, ``(S,)``.
        margin: the smallest difference that would matter, in the same unit, fixed before.
        arm, reference, what, unit: words.
        confidence: of the interval; ``1 - confidence`` is the level of the tests.
        found: of these differences, among several benchmarks (:func:`together`); None: they are the
            only ones.

    Example:
        >>> print(null_report([0.1, -0.2, 0.0, 0.1, -0.1], margin=0.5))  # doctest: +ELLIPSIS
        Over 5 paired seeds, qrkd minus rkd in test accuracy was -0.02 points on average (95 % ...
    """
    e = found or equivalence(differences, margin, confidence)
    beside = f", corrected for {e.family} tests (Holm)" if e.family > 1 else ""
    level, inner = f"{confidence:.0%}", f"{2 * confidence - 1:.0%}"
    level, inner = level.replace("%", " %"), inner.replace("%", " %")
    said = [
        f"Over {e.seeds} paired seeds, {arm} minus {reference} in {what} was {e.mean:+.2f} {unit} "
        f"on average ({level} interval {e.low:+.2f} to {e.high:+.2f}, p {_p(e.p_different)}"
        f"{beside}).",
        f"The smallest difference of interest was fixed at {margin:g} {unit}; the {inner} interval "
        f"is {e.inner_low:+.2f} to {e.inner_high:+.2f} (equivalence test, p {_p(e.p)}{beside}).",
        _MEANING[e.verdict].format(arm=arm, reference=reference, margin=f"{margin:g} {unit}"),
    ]
    if np.any(np.asarray(differences)):
        a = ahead(differences, confidence)
        said.append(
            f"{arm} had the larger value in {a.wins} of {a.seeds} seeds that differ ({level} "
            f"interval of the share {a.low:.2f} to {a.high:.2f})."
        )
    seeds = seeds_needed(margin, e.spread, 1 - (1 - confidence) / e.family)
    enough = f"about {max(seeds, FEWEST)} seeds" if seeds else "more than a million seeds"
    said.append(
        f"With differences that spread by {e.spread:.2f} {unit} from seed to seed, {enough} see a "
        f"true difference of {margin:g} {unit} with 80 % power{beside}."
    )
    return " ".join(said)


_MEANING = {
    "equivalent": "So {arm} and {reference} are equivalent within {margin}: a difference of "
    "that size is excluded.",
    "different": "So {arm} and {reference} differ, and the difference may be one that matters.",
    "different, by less than the margin": "So {arm} and {reference} differ, but by less than "
    "{margin}.",
    "undecided": "So these seeds show no difference between {arm} and {reference}, and do not "
    "exclude one of {margin} either: the study is too small to decide.",
}


def _p(p: float) -> str:
    said = p_in_words(p) or "unknown"
    return f"= {said}" if said[0].isdigit() else said
