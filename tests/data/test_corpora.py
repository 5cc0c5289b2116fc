"""Corpora as they are published: documents, order, absent and damaged files, official counts."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from qrkd_lab.data import DataError
from qrkd_lab.data import text as corpora
from qrkd_lab.data import text as tokenizer
from qrkd_lab.data.text import (
    IMDB_ARCHIVE,
    PTB_FILES,
    WIKITEXT2_ARCHIVE,
    Lines,
    read_corpus,
    read_imdb,
    read_ptb,
    read_text_folder,
    read_wikitext2,
)


def real(folder: str) -> Path:
    """The user's data, or a skip."""
    data = os.environ.get("QRKD_DATA_DIR")
    if not data or not (Path(data) / folder).is_dir():
        pytest.skip(f"needs {folder} in $QRKD_DATA_DIR, which is not set or lacks it")
    return Path(data)


def write_reviews(root: Path, train: int = 30, test: int = 20) -> Path:
    """aclImdb with so many reviews a class; a review says where it is from."""
    for part, count in (("train", train), ("test", test)):
        for kind in ("neg", "pos"):
            folder = root / "aclImdb" / part / kind
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}_7.txt").write_text(f"{part} {kind} {i}")
    return root


def write_lines(root: Path, names: list[str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        (root / name).write_text(f"text of {name}\n")
    return root


TEXT = "é \n a\n\n\x85\u2028 c\x0b\x1c d \u3042\U0001f600\n last one \n"
CONVENTIONS = {  # of the same text: how it is saved, and what is said of it
    "as it should be": (TEXT.encode(), ""),
    "CRLF": (TEXT.replace("\n", "\r\n").encode(), "CRLF line ends"),
    "CR": (TEXT.replace("\n", "\r").encode(), "CR line ends"),
    "mixed": (TEXT.replace("\n", "\r\n", 1)[:-1].encode() + b"\r", "CR line ends, CRLF line ends"),
    "no last newline": (TEXT[:-1].encode(), "no newline at the end"),
    "UTF-8 with a mark": (TEXT.encode("utf-8-sig"), "byte-order mark"),
    "UTF-16": (TEXT.encode("utf-16"), "UTF-16"),
    "UTF-16, the other order": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-32, CRLF": (TEXT.replace("\n", "\r\n").encode("utf-32"), "CRLF line ends, UTF-32"),
}


@pytest.mark.parametrize("how", CONVENTIONS)
def test_however_a_text_is_saved_its_documents_are_the_same(tmp_path: Path, how: str) -> None:
    content, said = CONVENTIONS[how]
    (tmp_path / "a.txt").write_bytes(content)
    lines = Lines(tmp_path / "a.txt")
    documents = [f"{line}\n" for line in TEXT.split("\n")[:-1]]
    assert list(lines) == list(lines) == documents
    assert ", ".join(sorted(lines.changes)) == said


@pytest.mark.parametrize("how", CONVENTIONS)
def test_however_reviews_are_saved_they_are_the_same(tmp_path: Path, how: str) -> None:
    write_reviews(tmp_path)
    file = tmp_path / "aclImdb/test/pos/3_7.txt"
    file.write_text(TEXT[:-1])
    before = list(read_imdb(tmp_path).documents["test"])
    file.write_bytes(CONVENTIONS[how][0])
    reviews = read_imdb(tmp_path).documents["test"]
    assert list(reviews) == before and TEXT[:-1] in before
    assert bool(reviews.changes) == (how != "no last newline")  # as reviews should be


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b" \r\n\t\n", "\n ".encode("utf-16")])
def test_blank_texts_are_refused(tmp_path: Path, content: bytes) -> None:
    write_lines(tmp_path / "mine", ["train.txt", "valid.txt", "test.txt"])
    (tmp_path / "mine" / "valid.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"valid\.txt is blank: expected train\.txt"):
        read_text_folder(tmp_path / "mine")
    write_reviews(tmp_path)
    (tmp_path / "aclImdb/test/pos/3_7.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"pos/3_7\.txt is blank"):
        list(read_imdb(tmp_path).documents["test"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a\0b", r"is not UTF-8 text: a NUL character at byte 1"),
        ("no mark".encode("utf-16-le"), r"a NUL character at byte 1"),
        (gzip.compress(b"text", mtime=0), r"is not UTF-8 text: .* at byte 1.* unpack it"),
        (b"\xff\xfea", r"begins as UTF-16 but is damaged \(truncated data\)"),
        (b"x" * 3001, r"more than 2,000 characters follow each other without a single blank"),
        (b"x y " * 2500, r"has 9,000 characters or more: break it into lines"),
    ],
)
def test_what_is_no_text_or_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    monkeypatch.setattr(tokenizer, "PIECE", 1000)
    monkeypatch.setattr(tokenizer, "STRETCH", 2000)
    monkeypatch.setattr(corpora, "LONGEST", 9000)
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.txt.*{said}"):
        list(Lines(tmp_path / "a.txt"))
    write_reviews(tmp_path)
    (tmp_path / "aclImdb/test/pos/3_7.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"pos/3_7\.txt.*{said}"):
        list(read_imdb(tmp_path).documents["test"])


def spoil(path: Path, how: str) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    if how == "a folder":
        path.mkdir()
    elif how == "a pipe":
        os.mkfifo(path)
    elif how == "a link":
        path.symlink_to("nowhere")
    elif how == "a link to itself":
        path.symlink_to(path)


@pytest.mark.parametrize("how", ["a folder", "a pipe", "a link", "a link to itself"])
def test_what_stands_in_the_place_of_a_file_is_named(tmp_path: Path, how: str) -> None:
    write_lines(tmp_path / "mine", ["train.txt", "valid.txt", "test.txt"])
    write_reviews(tmp_path)
    for path, read in (
        (tmp_path / "mine/valid.txt", lambda: read_text_folder(tmp_path / "mine")),
        (tmp_path / "aclImdb/test/pos/3_7.txt", lambda: read_imdb(tmp_path)),
    ):
        spoil(path, how)
        with pytest.raises(DataError, match=rf"{path.name} is {how.removesuffix(' to itself')}"):
            read()


def test_text_that_is_not_utf8_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2 is not UTF-8.*at byte 3"):
        list(Lines(tmp_path / "a.txt"))
    write_reviews(tmp_path)
    (tmp_path / "aclImdb/test/pos/3_7.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"test/pos/3_7\.txt is not UTF-8"):
        list(read_imdb(tmp_path).documents["test"])


@pytest.mark.parametrize("said", ["is missing", "is blank"])
def test_a_folder_of_your_own_must_be_whole(tmp_path: Path, said: str) -> None:
    write_lines(tmp_path, ["train.txt", "valid.txt", "test.txt"])
    assert read_text_folder(tmp_path).source == "text folder"
    (tmp_path / "valid.txt").unlink()
    if said == "is blank":
        (tmp_path / "valid.txt").touch()
    with pytest.raises(DataError, match=rf"valid\.txt {said}: expected train\.txt, valid\.txt"):
        read_text_folder(tmp_path)


@pytest.mark.parametrize("name", ["wikitext2", "ptb", "imdb"])
def test_an_absent_corpus_says_which_files_and_where_to_get_them(tmp_path: Path, name: str) -> None:
    file = {"wikitext2": WIKITEXT2_ARCHIVE, "ptb": PTB_FILES[0], "imdb": IMDB_ARCHIVE}[name]
    with pytest.raises(DataError) as error:
        read_corpus(name, tmp_path, download=False)
    for part in (file.name, str(tmp_path), file.hash, *file.urls, *dict(file.members)):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


def test_every_file_has_a_hash_and_two_places() -> None:
    for file in (WIKITEXT2_ARCHIVE, IMDB_ARCHIVE, *PTB_FILES):
        assert len(set(file.urls)) >= 2 and all(url.startswith("https://") for url in file.urls)
        assert len(file.hash) == len("md5:") + 32


def test_files_of_your_own_are_taken_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [file.name for file in PTB_FILES]
    write_lines(tmp_path / "ptb", names)
    assert read_ptb(tmp_path).source == (
        "files of your own: ptb.train.txt and ptb.valid.txt and ptb.test.txt differ from the "
        "official ones"
    )
    digests = [hashlib.md5((tmp_path / "ptb" / name).read_bytes()).hexdigest() for name in names]
    official = [dataclasses.replace(file, hash=f"md5:{d}") for file, d in zip(PTB_FILES, digests)]
    monkeypatch.setattr(corpora, "PTB_FILES", tuple(official))
    assert read_ptb(tmp_path).source == "the official files"
    (tmp_path / "ptb" / names[1]).write_text("mine\n")
    assert read_ptb(tmp_path).source == (
        "files of your own: ptb.valid.txt differs from the official one"
    )


def test_only_absent_files_come_from_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {name: f"official {name}\n".encode() for name, _ in WIKITEXT2_ARCHIVE.members}
    with zipfile.ZipFile(tmp_path / WIKITEXT2_ARCHIVE.name, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    packed = hashlib.md5((tmp_path / WIKITEXT2_ARCHIVE.name).read_bytes()).hexdigest()
    members = tuple((n, f"sha1:{hashlib.sha1(c).hexdigest()}") for n, c in contents.items())
    fake = dataclasses.replace(WIKITEXT2_ARCHIVE, hash=f"md5:{packed}", members=members)
    monkeypatch.setattr(corpora, "WIKITEXT2_ARCHIVE", fake)
    own = tmp_path / "wikitext-2" / "wiki.train.tokens"
    own.parent.mkdir()
    own.write_text("mine\n")
    corpus = read_wikitext2(tmp_path, download=False)
    assert list(corpus.documents["train"]) == ["mine\n"]
    assert list(corpus.documents["test"]) == ["official wikitext-2/wiki.test.tokens\n"]
    assert corpus.source == "files of your own: wiki.train.tokens differs from the official one"


def test_reviews_come_in_one_fixed_stratified_order(tmp_path: Path) -> None:
    corpus = read_imdb(write_reviews(tmp_path))
    assert corpus.classes == ("neg", "pos") and corpus.marks_ends
    documents = {part: list(found) for part, found in corpus.documents.items()}
    assert {part: len(found) for part, found in documents.items()} == {
        "train": 54, "validation": 6, "test": 40,
    }  # fmt: skip
    seen = documents["validation"] + documents["train"]  # one order, cut in two
    assert len(set(seen)) == 60 and all(text.startswith("train") for text in seen)
    for part, texts in documents.items():
        assert corpus.labels[part].tolist() == ["pos" in text for text in texts]
    whole = np.concatenate([corpus.labels["validation"], corpus.labels["train"]])
    for labels in (whole, corpus.labels["test"]):
        balance = np.abs(np.cumsum(2 * labels - 1))
        assert balance.max() <= 1
        assert not np.array_equal(labels, np.arange(len(labels)) % 2)  # ties at random
    again = read_imdb(tmp_path)
    assert list(again.documents["test"]) == documents["test"]
    assert list(read_imdb(tmp_path, validation_size=10).documents["validation"]) == seen[:10]
    assert corpus.source == ("files of your own: 60 + 40 reviews of aclImdb instead of 25,000 each")


@pytest.mark.parametrize("size", [0, 60])
def test_a_validation_part_must_leave_something(tmp_path: Path, size: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 59, got"):
        read_imdb(write_reviews(tmp_path), validation_size=size)


def test_a_folder_without_reviews_is_named(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    for path in (tmp_path / "aclImdb/train/pos").iterdir():
        path.rename(path.with_suffix(".text"))
    with pytest.raises(DataError, match=r"aclImdb/train/pos, got 0"):
        read_imdb(tmp_path)


@pytest.mark.parametrize(
    ("name", "folder", "words"),
    [
        ("ptb", "ptb", (929_589, 73_760, 82_430)),
        ("wikitext2", "wikitext-2", (2_088_628, 217_646, 245_569)),
    ],
)
def test_published_word_counts(name: str, folder: str, words: tuple[int, ...]) -> None:
    corpus = read_corpus(name, real(folder), download=False)
    found = [sum(len(d.split()) + 1 for d in part) for part in corpus.documents.values()]
    assert tuple(found) == words
    if name == "ptb":
        assert corpus.source == "the official files"


def test_real_reviews() -> None:
    corpus = read_imdb(real("aclImdb"), download=False)
    assert corpus.source == "25,000 + 25,000 reviews of aclImdb"
    sizes = {part: len(labels) for part, labels in corpus.labels.items()}
    assert sizes == {"train": 22_500, "validation": 2_500, "test": 25_000}
    assert all(2 * labels.sum() == len(labels) for labels in corpus.labels.values())
