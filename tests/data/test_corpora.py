"""Corpora as they are found: documents however they are saved, absent and damaged files."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import zipfile

import numpy as np
import pytest

from qrkd_lab.data import DataError, corpora, load_text
from qrkd_lab.data.corpora import (
    IMDB,
    PTB,
    WIKITEXT2,
    Documents,
    read_corpus,
    read_imdb,
    read_text_folder,
)

REVIEW = "aclImdb/test/pos/3_7.txt"


TEXT = "é \n a\n\n\x85\u2028 c\x0b\x1c d \u3042\U0001f600\n last one \n"
CONVENTIONS = {  # of the same text: how it is saved, and what is said of it
    "as it should be": (TEXT.encode(), ""),
    "CRLF": (TEXT.replace("\n", "\r\n").encode(), "CRLF line ends"),
    "CR": (TEXT.replace("\n", "\r").encode(), "CR line ends"),
    "mixed": (TEXT.replace("\n", "\r\n", 1)[:-1].encode() + b"\r", "CR line ends, CRLF line ends"),
    "no last newline": (TEXT[:-1].encode(), ""),
    "UTF-8 with a mark": (TEXT.encode("utf-8-sig"), "byte-order mark"),
}


@pytest.mark.parametrize("how", CONVENTIONS)
def test_however_a_text_is_saved_its_documents_are_the_same(tmp_path, how):
    content, said = CONVENTIONS[how]
    (file := tmp_path / "a.txt").write_bytes(content)
    lines = Documents((str(file),))
    assert list(lines) == list(lines) == [f"{line}\n" for line in TEXT.split("\n")[:-1]]
    assert ", ".join(sorted(lines.changes)) == said
    whole = Documents((str(file),) * 2, by_line=False)
    assert list(whole) == [TEXT[:-1]] * 2 and whole.changes == lines.changes


WRONG = {
    b"": "is blank",
    b" \r\n\t\n": "is blank",
    b"good\ncaf\xe9\n": r"is not UTF-8 text, .*0xe9",
    "no mark".encode("utf-16-le"): "document 1: expected UTF-8 text",
    gzip.compress(b"text", mtime=0): "is not UTF-8 text, .* unpack it",
    b"x y " * 2500: r"less than 9,000 characters without NUL.* break it into lines",
}


@pytest.mark.parametrize("content", WRONG)
def test_what_is_no_text_or_too_long_is_named(mine, reviews, monkeypatch, content):
    monkeypatch.setattr(corpora, "LONGEST", 9000)
    (mine / "valid.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"valid\.txt.*{WRONG[content]}"):
        list(read_text_folder(mine).documents["validation"])
    (reviews / REVIEW).write_bytes(content)
    with pytest.raises(DataError, match=rf"pos/3_7\.txt.*{WRONG[content]}"):
        list(read_imdb(reviews).documents["test"])


def test_a_file_that_is_missing_is_named(mine, reviews):
    (mine / "valid.txt").unlink()
    with pytest.raises(DataError, match=r"valid\.txt .*No such file.*: expected train\.txt, valid"):
        read_text_folder(mine)
    (reviews / REVIEW).unlink()
    (reviews / REVIEW).symlink_to("nowhere")
    with pytest.raises(DataError, match=r"3_7\.txt cannot be read"):
        read_imdb(reviews)


@pytest.mark.parametrize("name, file", [("wikitext2", WIKITEXT2), ("ptb", PTB[0]), ("imdb", IMDB)])
def test_an_absent_corpus_says_which_files_and_where_to_get_them(tmp_path, name, file):
    with pytest.raises(DataError) as error:
        load_text(name, data_dir=tmp_path, download=False)
    assert len(file.urls) == 2
    for part in (file.name, str(tmp_path), file.hash, *file.urls, *file.members):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


def test_only_absent_files_come_from_the_archive(tmp_path, monkeypatch):
    contents = {name: f"official {name}\n".encode() for name in WIKITEXT2.members}
    with zipfile.ZipFile(tmp_path / WIKITEXT2.name, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    packed = hashlib.md5((tmp_path / WIKITEXT2.name).read_bytes()).hexdigest()
    hashes = {name: f"sha1:{hashlib.sha1(c).hexdigest()}" for name, c in contents.items()}
    fake = dataclasses.replace(WIKITEXT2, hash=f"md5:{packed}")
    monkeypatch.setitem(corpora.LINES, "wikitext2", ("", [fake], hashes))
    own = tmp_path / "wikitext-2" / "wiki.train.tokens"
    own.parent.mkdir()
    own.write_text("mine\n")
    corpus = read_corpus("wikitext2", tmp_path, download=False)
    assert list(corpus.documents["train"]) == ["mine\n"]
    assert list(corpus.documents["test"]) == ["official wikitext-2/wiki.test.tokens\n"]
    assert corpus.source == "files of your own: wiki.train.tokens differs from the official one"
    own.unlink()
    assert read_corpus("wikitext2", tmp_path, download=False).source == "the official files"


def test_reviews_come_in_one_fixed_stratified_order(reviews):
    corpus = read_imdb(reviews)
    assert corpus.classes == ("neg", "pos") and corpus.marks_ends
    assert corpus.source == "files of your own: 60 + 40 reviews of aclImdb instead of 25,000 each"
    documents = {part: list(found) for part, found in corpus.documents.items()}
    assert {part: len(found) for part, found in documents.items()} == {
        "train": 54, "validation": 6, "test": 40,
    }  # fmt: skip
    seen = documents["validation"] + documents["train"]  # one order, cut in two
    assert len(set(seen)) == 60 and all(review.startswith("train") for review in seen)
    for part, found in documents.items():
        assert corpus.labels[part].tolist() == ["pos" in review for review in found]
    whole = np.concatenate([corpus.labels["validation"], corpus.labels["train"]])
    for labels in (whole, corpus.labels["test"]):
        assert np.abs(np.cumsum(2 * labels - 1)).max() <= 1
        assert not np.array_equal(labels, np.arange(len(labels)) % 2)  # ties at random
    assert list(read_imdb(reviews).documents["test"]) == documents["test"]
    for path in (reviews / "aclImdb/train/pos").iterdir():
        path.rename(path.with_suffix(".text"))
    with pytest.raises(DataError, match=r"aclImdb/train/pos, got 0"):
        read_imdb(reviews)


def test_real_word_counts(real):
    for name, folder, words in (
        ("ptb", "ptb", [929_589, 73_760, 82_430]),
        ("wikitext2", "wikitext-2", [2_088_628, 217_646, 245_569]),
    ):
        corpus = read_corpus(name, real(folder), download=False)
        found = [sum(len(d.split()) + 1 for d in part) for part in corpus.documents.values()]
        assert found == words
        assert name != "ptb" or corpus.source == "the official files"


def test_real_reviews(real):
    corpus = read_imdb(real("aclImdb"), download=False)
    assert corpus.source == "25,000 + 25,000 reviews of aclImdb"
    sizes = {part: len(labels) for part, labels in corpus.labels.items()}
    assert sizes == {"train": 22_500, "validation": 2_500, "test": 25_000}
    assert all(2 * labels.sum() == len(labels) for labels in corpus.labels.values())
