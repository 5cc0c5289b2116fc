r"""Readers of text as it is published: WikiText-2, Penn Treebank, IMDB, and a folder of your own.

They read the usual layouts, so a folder serves other programs too:

    <data_dir>/wikitext-2/wiki.train.tokens         ... and .valid, .test: a line a document
    <data_dir>/ptb/ptb.train.txt                    ... and .valid, .test: a line a document
    <data_dir>/aclImdb/train/pos/*.txt              ... and neg, test: a review a file
    <your folder>/train.txt                         ... and valid, test: a line a document

What is absent is downloaded and must match its published hash; what is there is yours, and
``source`` says in words whether it is official.

The same text gives the same documents however it was saved: byte-order marks are left out, UTF-16
is decoded, lines end with ``"\\n"`` (also those of CRLF and CR files, and the last one), a review
without it. What was changed so stands in ``changes``, and at last in the record. Everything else
is content and is kept: blanks, blank lines (a document as well), and the other characters that
Unicode counts as line ends (NEL, U+2028).

Sources: S. Merity et al., *Pointer sentinel mixture models*, arXiv 1609.07843, 2016; M. Marcus
et al., *Building a large annotated corpus of English*, 1993, in T. Mikolov's preparation of 2010;
A. Maas et al., *Learning word vectors for sentiment analysis*, ACL 2011.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from qrkd_lab.data.fetch import (
    DataError,
    RemoteFile,
    check_file,
    check_text,
    fetch,
    file_hash,
    open_text,
)
from qrkd_lab.data.images import stratified_order
from qrkd_lab.data.tokenizer import pieces

__all__ = [
    "IMDB_ARCHIVE", "PARTS", "PTB_FILES", "WIKITEXT2_ARCHIVE", "Corpus", "Lines", "Reviews",
    "read_corpus", "read_imdb", "read_ptb", "read_text_folder", "read_wikitext2",
]  # fmt: skip

PARTS = ("train", "validation", "test")
Entry = tuple[str, int, int]  # path, bytes, time of change in ns

WIKITEXT2_ARCHIVE = RemoteFile(
    "wikitext-2-v1.zip",
    (  # the original place, Salesforce's s3.amazonaws.com/research.metamind.io, is closed
        "https://wikitext.smerity.com/wikitext-2-v1.zip",  # the first author's own copy
        "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/wikitext-2/"
        "wikitext-2-v1.zip",
    ),
    "md5:542ccefacc6c27f945fb54453812b3cd",  # as in torchtext; those of the members: gluon-nlp
    (
        ("wikitext-2/wiki.train.tokens", "sha1:863f29c46ef9d167fff4940ec821195882fe29d1"),
        ("wikitext-2/wiki.valid.tokens", "sha1:0418625c8b4da6e4b5c7a0b9e78d4ae8f7ee5422"),
        ("wikitext-2/wiki.test.tokens", "sha1:c7b8ce0aa086fb34dab808c5c49224211eb2b172"),
    ),
)
PTB_FILES = tuple(
    RemoteFile(
        name,
        tuple(
            f"https://raw.githubusercontent.com/{owner}/lstm/master/data/{name}"
            for owner in ("wojzaremba", "tomsercu")
        ),
        digest,  # as in torchtext
    )
    for name, digest in (
        ("ptb.train.txt", "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420"),
        ("ptb.valid.txt", "md5:aa0affc06ff7c36e977d7cd49e3839bf"),
        ("ptb.test.txt", "md5:8b80168b89c18661a38ef683c0dc3721"),
    )
)
IMDB_ARCHIVE = RemoteFile(
    "aclImdb_v1.tar.gz",
    (
        "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        "https://bj.bcebos.com/dataset/imdb%2FaclImdb_v1.tar.gz",
    ),
    "md5:7c2ac02c03563afcf9b574c7e56c153a",  # as in torchtext and PaddleNLP, for these two places
    tuple(
        (f"aclImdb/{part}/{kind}", None) for part in ("train", "test") for kind in ("neg", "pos")
    ),
)
IMDB_SIZES = {"train": 25_000, "test": 25_000}
IMDB_VALIDATION = 2500  # a tenth of the training part
LONGEST = 1 << 27  # characters of a document: what is held in memory at a time


@dataclass(frozen=True)
class Lines:
    """The documents of a text file, one a line, each with its newline; can be read many times.

    ``changes`` says in words what was normalised, once the file was read.

    Raises:
        DataError: A line is not UTF-8, or too long (when it is reached).
    """

    path: Path
    changes: set[str] = field(default_factory=set, repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        with open_text(self.path) as file:
            for number in itertools.count(1):
                if not (line := file.readline(LONGEST)):
                    break
                yield _checked(line.removesuffix("\n"), f"{self.path}, line {number:,}") + "\n"
                if not line.endswith("\n"):
                    self.changes.add("no newline at the end")
            self.changes.update(_conventions(file))

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class Reviews:
    """Documents that are files, in a given order; can be read many times.

    ``changes`` says in words what was normalised, once the files were read.

    Raises:
        DataError: A file is not UTF-8, blank or too long (when it is reached).
    """

    folder: Path
    names: tuple[str, ...] = field(repr=False)  # relative to the folder
    changes: set[str] = field(default_factory=set, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        base = os.fspath(self.folder)  # plain strings: pathlib would take longer than the reading
        for name in self.names:
            with open_text(f"{base}/{name}") as file:
                text = file.read(LONGEST)
                self.changes.update(_conventions(file))
            if text.endswith("\n"):
                self.changes.add("newline at the end")
            if not text.strip():
                raise DataError(f"{base}/{name} is blank: expected a review. Remove the file.")
            yield _checked(text.removesuffix("\n"), f"{base}/{name}")

    def __str__(self) -> str:
        return str(self.folder)


@dataclass(frozen=True)
class Corpus:
    """Text as a reader found it, before any encoding.

    Args:
        source: Where the text comes from, in words.
        files: Path, size and time of change of every file: what the content is known by.
        documents: By part (``"train"``, ``"validation"``, ``"test"``), what gives the documents.
        labels: By part, int64 ``(documents,)``; empty if the corpus has none.
        classes: Names, in the order of the labels.
        marks_ends: Whether an end-of-text token must follow each document; a line needs none,
            since it ends with its newline.
    """

    source: str
    files: tuple[Entry, ...]
    documents: dict[str, Lines | Reviews]
    labels: dict[str, np.ndarray] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    marks_ends: bool = False


def read_corpus(name: str, data_dir: Path, *, download: bool = True) -> Corpus:
    """The reader's choice by name: ``"wikitext2"``, ``"ptb"`` or ``"imdb"``."""
    readers = {"wikitext2": read_wikitext2, "ptb": read_ptb, "imdb": read_imdb}
    return readers[name](data_dir, download=download)


def read_wikitext2(data_dir: Path, *, download: bool = True) -> Corpus:
    """WikiText-2 at word level, from ``<data_dir>/wikitext-2``; absent files are downloaded.

    Raises:
        DataError: A file is absent and could not be had, or is empty.
    """
    absent = tuple((n, h) for n, h in WIKITEXT2_ARCHIVE.members if not (data_dir / n).exists())
    if absent:
        fetch(replace(WIKITEXT2_ARCHIVE, members=absent), data_dir, download=download)
    names, hashes = zip(*WIKITEXT2_ARCHIVE.members, strict=True)
    return _lines([data_dir / name for name in names], list(hashes))


def read_ptb(data_dir: Path, *, download: bool = True) -> Corpus:
    """Penn Treebank in Mikolov's preparation, from ``<data_dir>/ptb``; absent ones are downloaded.

    Raises:
        DataError: A file is absent and could not be had, or is empty.
    """
    for file in PTB_FILES:
        if not (data_dir / "ptb" / file.name).exists():
            fetch(file, data_dir / "ptb", download=download)
    paths = [data_dir / "ptb" / file.name for file in PTB_FILES]
    return _lines(paths, [file.hash for file in PTB_FILES])


def read_text_folder(root: str | os.PathLike[str]) -> Corpus:
    """Your own text: ``train.txt``, ``valid.txt`` and ``test.txt`` in a folder, a document a line.

    Raises:
        DataError: A file is absent or blank.
    """
    return _lines([Path(root) / f"{part}.txt" for part in ("train", "valid", "test")], None)


def _lines(paths: list[Path], official: list[str] | None) -> Corpus:
    """A corpus of three files of lines; ``official`` are the hashes of the published ones."""
    names = ", ".join(path.name for path in paths)
    for path in paths:
        expected = f"{names} in {path.parent}, UTF-8 text with one document a line"
        check_file(path, expected)
        with open_text(path) as file:
            if not any(part.strip() for part in iter(lambda: file.read(1 << 16), "")):
                raise DataError(f"{path} is blank: expected {expected}.")
    if official is None:
        source = "text folder"
    else:
        pairs = zip(paths, official, strict=True)
        other = [p.name for p, digest in pairs if file_hash(p, digest.partition(":")[0]) != digest]
        many = len(other) > 1
        differ = f"{' and '.join(other)} {'differ' if many else 'differs'} from the official one"
        source = f"files of your own: {differ}{'s' * many}" if other else "the official files"
    files = tuple(_entry(os.fspath(path.absolute()), path.stat()) for path in paths)
    return Corpus(source, files, dict(zip(PARTS, map(Lines, paths), strict=True)))


def read_imdb(
    data_dir: Path, *, validation_size: int | None = None, download: bool = True
) -> Corpus:
    """IMDB's labelled reviews, from ``<data_dir>/aclImdb``, downloaded if absent; ``neg`` is 0.

    Both published parts are put into a fixed stratified order, so that each prefix has as many
    good as bad reviews; the first ``validation_size`` of the training part are for validation,
    by default 2,500, or a tenth of a copy that has fewer. No hashes are published to check the
    reviews by, so ``source`` tells their number only.

    Raises:
        ValueError: A validation part that is empty or leaves nothing to train on.
        DataError: A folder is absent and could not be had, or holds no reviews.
    """
    fetch(IMDB_ARCHIVE, data_dir, download=download)
    root = data_dir / "aclImdb"
    files: list[Entry] = []
    documents, labels = {}, {}
    for part in ("train", "test"):
        entries = {kind: _reviews(root, f"{part}/{kind}") for kind in ("neg", "pos")}
        files += entries["neg"] + entries["pos"]
        names = [name for name, *_ in entries["neg"] + entries["pos"]]
        label = torch.arange(2).repeat_interleave(torch.tensor([len(e) for e in entries.values()]))
        order = stratified_order(label).numpy()
        documents[part], labels[part] = [names[i] for i in order], label.numpy()[order]
    total = len(documents["train"])
    held_out = min(IMDB_VALIDATION, total // 10) if validation_size is None else validation_size
    if not 1 <= held_out < total:
        raise ValueError(f"validation_size must be from 1 to {total - 1:,}, got {held_out:,}.")
    parts = {"validation": ("train", 0, held_out), "train": ("train", held_out, None)}
    parts["test"] = ("test", 0, None)
    sizes = {part: len(names) for part, names in documents.items()}
    counts = f"{sizes['train']:,} + {sizes['test']:,} reviews of aclImdb"
    return Corpus(
        counts if sizes == IMDB_SIZES else f"files of your own: {counts} instead of 25,000 each",
        tuple(files),
        {part: Reviews(root, tuple(documents[of][a:b])) for part, (of, a, b) in parts.items()},
        {part: labels[of][a:b] for part, (of, a, b) in parts.items()},
        classes=("neg", "pos"),
        marks_ends=True,
    )


def _reviews(root: Path, place: str) -> list[Entry]:
    """The reviews of a folder in the order of their names, which are relative to ``root``."""
    try:
        with os.scandir(root / place) as found:
            names = [file.name for file in found if file.name[0] != "."]
    except OSError as error:
        raise DataError(
            f"Expected a folder of reviews, but {root / place} cannot be read: {error.strerror}. "
            "Repair it."
        ) from error
    names = sorted(f"{place}/{name}" for name in names if name.endswith(".txt"))
    if len(names) < 10:
        raise DataError(
            f"Expected reviews (*.txt, at least ten) in {root / place}, got {len(names)}. Delete "
            f"{root} to have it fetched again, or repair it."
        )
    base = os.fspath(root)
    return [_entry(name, check_file(f"{base}/{name}", "a review")) for name in names]


def _entry(name: str, seen: os.stat_result) -> Entry:
    return name, seen.st_size, seen.st_mtime_ns


def _conventions(file: TextIO) -> set[str]:
    """How a file that was read differs from UTF-8 text with newlines, in words."""
    ends = {"\r\n": "CRLF line ends", "\r": "CR line ends"}
    found = (file.newlines,) if isinstance(file.newlines, str) else file.newlines or ()
    changes = {ends[end] for end in found if end != "\n"}
    name = {"utf-8": None, "utf-8-sig": "byte-order mark"}.get(file.encoding, file.encoding.upper())
    return changes | ({name} if name else set())


def _checked(text: str, where: str) -> str:
    """A document, unless it is no text or too long to be encoded in little memory."""
    check_text(text, where)
    if len(text) >= LONGEST - 1:
        raise DataError(f"{where} has {LONGEST:,} characters or more: break it into lines.")
    try:
        deque(pieces(text), 0)  # which is to say, to its end
    except ValueError as error:
        raise DataError(f"{where} cannot be encoded: {error}.") from error
    return text
