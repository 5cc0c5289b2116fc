"""Toy reviews with a known sentiment, in IMDB's own layout: a classifier learns them in seconds.

A review is some sentences about a film. Most of them, not all, say what the review's sentiment is,
and some say it by a negation, so that single words are not enough:

    the plot is dull . the music is not good . the actors are clever .
"""

from __future__ import annotations

import os
import random
from pathlib import Path

from qrkd_lab.storage import expanded

__all__ = ["toy_review", "write_toy_reviews"]

ABOUT = ("the film is", "the plot is", "the music is", "the actors are", "the jokes are")
OPINIONS = {
    "pos": ("good", "clever", "lively", "warm", "bright", "touching"),
    "neg": ("dull", "clumsy", "empty", "cold", "noisy", "tired"),
}
HONEST = 0.8  # of the sentences: what they say is the review's sentiment
NEGATED = 0.15


def toy_review(sentiment: str, seed: int) -> str:
    """A review, ``"pos"`` or ``"neg"``; the same for the same seed.

    Raises:
        ValueError: another sentiment.

    Example:
        >>> toy_review("neg", 2).count(" .")
        4
    """
    if sentiment not in OPINIONS:
        raise ValueError(f"unknown sentiment {sentiment!r}; choose from {', '.join(OPINIONS)}")
    other = {"pos": "neg", "neg": "pos"}
    drawn = random.Random(f"{sentiment} {seed}")
    said = []
    for _ in range(drawn.randint(3, 6)):
        meant = sentiment if drawn.random() < HONEST else other[sentiment]
        negated = drawn.random() < NEGATED
        opinion = drawn.choice(OPINIONS[other[meant] if negated else meant])
        said.append(f"{drawn.choice(ABOUT)} {'not ' if negated else ''}{opinion} .")
    return " ".join(said)


def write_toy_reviews(folder: str | os.PathLike[str], count: int = 1000) -> Path:
    """``aclImdb/{train,test}/{neg,pos}/*.txt`` in a folder: give it as ``data_dir``.

    Files that are there already are left as they are.

    Args:
        folder: made if missing.
        count: reviews of each sentiment to train on; the test part has a quarter.
    """
    folder = expanded(folder)
    for part, first, many in (("train", 0, count), ("test", count, count // 4)):
        for sentiment in OPINIONS:
            place = Path(folder, "aclImdb", part, sentiment)
            place.mkdir(parents=True, exist_ok=True)
            for seed in range(first, first + many):
                file = place / f"{seed}.txt"
                if not file.exists():
                    file.write_text(toy_review(sentiment, seed), encoding="utf-8")
    return folder
