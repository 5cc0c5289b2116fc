"""Corpora as they are published: documents, order, absent and damaged files, official counts."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from qrkd_lab.data import DataError, corpora
from qrkd_lab.data.corpora import (
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


def test_lines_are_kept_byte_for_byte(tmp_path: Path) -> None:
    content = " \n a\rb \r\n\n\x85\u2028 c\x0b\x1c d \n no newline".encode()
    (tmp_path / "a.txt").write_bytes(content)
    documents = list(Lines(tmp_path / "a.txt"))
    assert "".join(documents).encode() == content
    assert documents[:3] == [" \n", " a\rb \r\n", "\n"] and len(documents) == 5


def test_text_that_is_not_utf8_is_named_by_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2 is not UTF-8.*at byte 3"):
        list(Lines(tmp_path / "a.txt"))
    write_reviews(tmp_path)
    (tmp_path / "aclImdb/test/pos/3_7.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"test/pos/3_7\.txt is not UTF-8"):
        list(read_imdb(tmp_path).documents["test"])


@pytest.mark.parametrize("spoil", ["is missing", "is empty"])
def test_a_folder_of_your_own_must_be_whole(tmp_path: Path, spoil: str) -> None:
    write_lines(tmp_path, ["train.txt", "valid.txt", "test.txt"])
    assert read_text_folder(tmp_path).source == "text folder"
    (tmp_path / "valid.txt").unlink()
    if spoil == "is empty":
        (tmp_path / "valid.txt").touch()
    with pytest.raises(DataError, match=rf"valid\.txt {spoil}: expected train\.txt, valid\.txt"):
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
