"""A toy language whose every probability is known, and toy film reviews.

A sentence is a walk through a small graph of states, and each step says a word, so the perplexity
that no model can beat can be computed. The end of a sentence depends on its subject.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Iterable
from pathlib import Path

from qrkd_lab.files import expanded

__all__ = [
    "END", "WORDS", "next_words", "quick_settings", "sentences", "states", "surprise",
    "toy_review", "write_toy_reviews", "write_toy_text",
]  # fmt: skip

END = "\n"
WORDS: dict[str, tuple[str, ...]] = {
    "article": ("the", "a", "every"),
    "adjective": ("old", "small", "quiet", "young", "hungry", "strange"),
    "animal": ("cat", "dog", "horse", "bird", "fox", "mouse"),
    "person": ("teacher", "student", "doctor", "painter", "sailor", "judge"),
    "deed": ("eats", "smells", "chases", "steals"),
    "work": ("reads", "writes", "prints", "translates"),
    "verb": ("finds", "hides", "carries", "drops"),
    "food": ("fish", "bread", "apple", "cheese", "bone", "seed"),
    "text": ("letter", "book", "poem", "report", "story", "law"),
    "adverb": ("slowly", "quietly", "again", "today"),
    "end": (END,),
}
# state: what kind of word comes with which probability, and the state after it
_STEPS: dict[str, tuple[tuple[str, float, str], ...]] = {
    "start": (("article", 1.0, "subject"),),
    "subject": (
        ("adjective", 0.3, "noun"), ("animal", 0.35, "animal"), ("person", 0.35, "person")
    ),
    "noun": (("animal", 0.5, "animal"), ("person", 0.5, "person")),
    "animal": (("deed", 0.5, "eaten"), ("verb", 0.5, "eaten")),
    "person": (("work", 0.5, "read"), ("verb", 0.5, "read")),
    "eaten": (("article", 1.0, "food"),),
    "read": (("article", 1.0, "text"),),
    "food": (("adjective", 0.2, "a food"), ("food", 0.8, "close")),
    "text": (("adjective", 0.2, "a text"), ("text", 0.8, "close")),
    "a food": (("food", 1.0, "close"),),
    "a text": (("text", 1.0, "close"),),
    "close": (("adverb", 0.3, "stop"), ("end", 0.7, "start")),
    "stop": (("end", 1.0, "start"),),
}  # fmt: skip


def _choices(state: str) -> list[tuple[str, float, str]]:
    """What can be said in a state: word, probability, the state after it."""
    said = []
    for kind, share, after in _STEPS[state]:
        words = WORDS[kind]
        total = sum(1 / rank for rank in range(1, len(words) + 1))  # Zipf's law within a kind
        said += [(w, share / rank / total, after) for rank, w in enumerate(words, 1)]
    return said


def sentences(count: int, seed: int = 0) -> list[str]:
    """So many sentences, a line each with its newline; the same for the same seed.

    Example:
        >>> sentences(2)
        ['every teacher prints the letter\\n', 'a cat steals a bone\\n']
    """
    drawn = random.Random(seed)
    lines = []
    for _ in range(count):
        state, words = "start", []
        while not words or words[-1] != END:
            choices = _choices(state)
            word, _, state = drawn.choices(choices, [share for _, share, _ in choices])[0]
            words.append(word)
        lines.append(" ".join(words[:-1]) + END)
    return lines


def _walk(text: str) -> list[tuple[str, float, str]]:
    """Each word of a text, its probability, and the state after it; a newline is a word."""
    state, steps = "start", []
    for word in text.replace(END, f" {END} ").strip(" ").split(" "):
        if not word:
            continue
        choices = _choices(state)
        found = [step for step in choices if step[0] == word]
        if not found:
            allowed = ", ".join(repr(step[0]) for step in choices)
            raise ValueError(f"not in the toy language: {word!r} where it says {allowed}")
        steps += found
        state = found[0][2]
    return steps


def surprise(lines: Iterable[str]) -> float:
    r"""The true :math:`-\log p` of sentences together, in nats.

    Raises:
        ValueError: a sentence that the language cannot say.

    Example:
        >>> round(surprise(["the cat eats the fish\n"]), 2)
        6.06
    """
    return -sum(math.log(share) for line in lines for _, share, _ in _walk(line))


def next_words(beginning: str) -> dict[str, float]:
    """The true probability of each next word after a beginning, largest first.

    Example:
        >>> list(next_words("the cat finds the"))[:2]
        ['fish', 'bread']
    """
    steps = _walk(beginning) if beginning else []
    choices = _choices(steps[-1][2] if steps else "start")
    return {word: share for word, share, _ in sorted(choices, key=lambda step: -step[1])}


def states(line: str) -> list[str]:
    """The state after each word of a sentence: all that the future depends on.

    Example:
        >>> states("the cat finds the fish")
        ['subject', 'animal', 'eaten', 'food', 'close']
    """
    return [after for _, _, after in _walk(line)]


def write_toy_text(folder: str | os.PathLike[str], lines: int = 6000) -> Path:
    """``train.txt``, ``valid.txt`` and ``test.txt`` of the language, a benchmark of its own.

    Files that hold this text already are left as they are.

    Args:
        folder: made if missing.
        lines: of the training part; the two others have a tenth.
    """
    folder = expanded(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"train": lines, "valid": lines // 10, "test": lines // 10}
    for seed, (name, count) in enumerate(sizes.items()):
        text = "".join(sentences(count, seed)).encode()
        file = folder / f"{name}.txt"
        if not file.exists() or file.read_bytes() != text:
            file.write_bytes(text)
    return folder


def quick_settings(scale: str = "laptop") -> dict[str, float | None]:
    """Settings with which a GPT-2 of the scale ``smoke`` learns the language in seconds.

    Args:
        scale: ``smoke``: too short to learn much; else some 400 steps of the teacher.

    Example:
        >>> quick_settings()["sequence_length"]
        16
    """
    short = scale == "smoke"
    return {
        "vocabulary": 1000,  # more than the text needs: each word becomes one token
        "sequence_length": 16,
        "batch_size": 16,
        "epoch_size": 512 if short else 2048,
        "teacher_epochs": 2 if short else 3,
        "epochs": 1 if short else 2,
        "learning_rate": 4e-3,
        "teacher_learning_rate": 4e-3,
        **dict.fromkeys(("train_size", "validation_size", "test_size")),  # all there is
    }


# Reviews

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
