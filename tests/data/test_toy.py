"""The toy language: its probabilities are those of its sentences, and a model can learn them."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from qrkd_lab.data import toy
from qrkd_lab.data.toy import OPINIONS, toy_review, write_toy_reviews
from qrkd_lab.studies.benchmarks import load_benchmark


@pytest.mark.parametrize("beginning", ["", "the", "every old", "a cat", "the cat finds the fish"])
def test_next_words_are_a_distribution_largest_first(beginning):
    found = list(toy.next_words(beginning).values())
    assert sum(found) == pytest.approx(1) and found == sorted(found, reverse=True)


def test_probabilities_are_the_frequencies():
    lines = toy.sentences(4000)
    assert lines == toy.sentences(4000) != toy.sentences(4000, seed=4)
    counts = Counter(line.split()[0] for line in lines)
    for word, share in toy.next_words("").items():
        assert counts[word] / len(lines) == pytest.approx(share, abs=0.03)
    after = Counter(" ".join(line.split()[2:4]) for line in lines if line.startswith("the cat "))
    assert not any(end in after for end in ("reads the", "writes a"))


def test_surprise_adds_up_next_words():
    words, total = "the cat finds the fish".split(), 0.0
    for i, word in enumerate([*words, toy.END]):
        total -= math.log(toy.next_words(" ".join(words[:i]))[word])
    assert toy.surprise(["the cat finds the fish\n"]) == pytest.approx(total)
    assert toy.surprise(["the cat finds the fish\n"] * 3) == pytest.approx(3 * total)


def test_what_follows_a_shared_verb_depends_on_the_subject():
    assert toy.states("the cat finds")[-1] == "eaten"
    assert toy.states("the judge finds")[-1] == "read"
    food, texts = (toy.next_words(f"the {who} finds the") for who in ("cat", "judge"))
    assert "fish" not in texts and "letter" not in food
    assert food["fish"] == pytest.approx(2 * food["bread"])  # Zipf's law
    assert toy.states("the cat finds the fish\n")[-1] == "start"
    with pytest.raises(ValueError, match=r"not in the toy language: '\w+' where it says '\w+'"):
        toy.states("the judge finds the fish\n")


def test_the_text_is_a_benchmark_and_written_once(tmp_path):
    folder = toy.write_toy_text(tmp_path / "toy", lines=400)
    stamps = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert stamps.keys() == {folder / f"{part}.txt" for part in ("train", "valid", "test")}
    assert toy.write_toy_text(folder, lines=400) == folder
    assert stamps == {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    quick = toy.quick_settings("smoke")
    bench = load_benchmark(str(folder), "smoke", **quick)
    text = (folder / "test.txt").read_text()
    assert len(bench.test) == bench.test.word_count == len(text.split()) + text.count("\n")
    assert toy.quick_settings()["epochs"] > quick["epochs"]


def test_reviews_are_of_their_sentiment_mostly():
    right = 0
    for sentiment, other in (("pos", "neg"), ("neg", "pos")):
        for seed in range(200):
            words = toy_review(sentiment, seed).replace("not ", "not_").split()
            own = sum(w in OPINIONS[sentiment] for w in words)
            own += sum(w.startswith("not_") and w[4:] in OPINIONS[other] for w in words)
            right += own > words.count(".") / 2
    assert 0.8 < right / 400 < 1
    assert toy_review("pos", 7) == toy_review("pos", 7) != toy_review("pos", 8)
    with pytest.raises(ValueError, match="unknown sentiment 'fine'; choose from pos, neg"):
        toy_review("fine", 0)


def test_reviews_are_read_as_those_of_imdb(tmp_path):
    place = write_toy_reviews(tmp_path, count=40)
    bench = load_benchmark("imdb-sentiment", "smoke", place, train_size=None, validation_size=8,
                           test_size=None)  # fmt: skip
    assert bench.test.documents == 20 and set(bench.train.labels.tolist()) == {0, 1}
    first = bench.data.tokenizer.decode(bench.test.ids[: bench.test.ends[0] - 1])
    assert first in {toy_review(kind, seed) for kind in OPINIONS for seed in range(40, 50)}
