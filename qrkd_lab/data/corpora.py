"""Text corpora as they are found: documents of WikiText-2, Penn Treebank, IMDB or your own files.

Other line ends and encodings of the same text give the same documents, and ``source`` says so.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
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

__all__ = ["CHOICES", "Corpus", "PARTS", "pieces", "read_corpus", "read_text_folder"]

CHOICES = ("wikitext2", "ptb", "imdb")
PARTS = ("train", "validation", "test")
Entry = tuple[str, int, int]  # path, bytes, time of change in ns
WIKITEXT2 = RemoteFile(
    "wikitext-2-v1.zip",
    (  # Salesforce's own place is closed
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
PTB = tuple(
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
LINES = {"wikitext2": ("", [WIKITEXT2]), "ptb": ("ptb", PTB)}  # folder of the data folder, files
IMDB = RemoteFile(
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
PIECE, STRETCH = 1 << 16, 1 << 20  # characters; a tokenizer takes some 250 bytes for each


@dataclass(frozen=True)
class Documents:
    """Lines of files, each with its newline, or whole files; they can be read many times.

    ``changes`` says in words what was normalised, once they were read. A document that is no text,
    too long or (a whole file) blank is a DataError when it is reached.
    """

    files: tuple[str, ...] = field(repr=False)
    by_line: bool = True
    changes: set[str] = field(default_factory=set, repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        end = "\n" if self.by_line else ""
        for path in self.files:
            with open_text(path) as file:
                lines = iter(partial(file.readline, LONGEST), "")
                for number, text in enumerate(lines if self.by_line else [file.read(LONGEST)], 1):
                    if not self.by_line and not text.strip():
                        raise DataError(f"{path} is blank: expected a review. Remove the file.")
                    where = f"{path}, line {number:,}" if self.by_line else path
                    yield _checked(text.removesuffix("\n"), where) + end
                    if text.endswith("\n") != self.by_line:
                        self.changes.add(f"{'no ' * self.by_line}newline at the end")
                self.changes.update(_conventions(file))


@dataclass(frozen=True)
class Corpus:
    """Text as it was found, before any encoding."""

    source: str  # where the text comes from, in words
    files: tuple[Entry, ...]  # what the content is known by
    documents: dict[str, Documents]  # by part
    labels: dict[str, np.ndarray] = field(default_factory=dict)  # by part: int64 (documents,)
    classes: tuple[str, ...] = ()  # names, in the order of the labels
    marks_ends: bool = False  # whether an end-of-text token must follow each document


def read_corpus(name: str, data_dir: Path, *, download: bool = True) -> Corpus:
    """One of ``CHOICES``, from its files in ``data_dir``; absent ones are downloaded.

    Raises:
        DataError: A file is absent and could not be had, or is empty.
    """
    if name == "imdb":
        return read_imdb(data_dir, download=download)
    place, remotes = LINES[name]
    folder, official = data_dir / place, {}
    for remote in remotes:
        parts = remote.members or ((remote.name, remote.hash),)
        absent = tuple((part, digest) for part, digest in parts if not (folder / part).exists())
        if absent:
            members = absent if remote.members else ()
            fetch(replace(remote, members=members), folder, download=download)
        official |= {folder / part: digest for part, digest in parts}
    corpus = _of_lines([*official])
    other = [
        path.name for path, digest in official.items()
        if file_hash(path, digest.partition(":")[0]) != digest
    ]  # fmt: skip
    differ = "differs from the official one" if len(other) == 1 else "differ from the official ones"
    own = f"files of your own: {' and '.join(other)} {differ}"
    return replace(corpus, source=own if other else "the official files")


def read_text_folder(root: str | os.PathLike[str]) -> Corpus:
    """Your own text: ``train.txt``, ``valid.txt`` and ``test.txt`` in a folder."""
    return _of_lines([Path(root).absolute() / f"{part}.txt" for part in ("train", "valid", "test")])


def _of_lines(paths: list[Path]) -> Corpus:
    """A corpus of three files of lines, for training, validation and test."""
    names = ", ".join(path.name for path in paths)
    files = []
    for path in paths:
        expected = f"{names} in {path.parent}, UTF-8 text with one document a line"
        files.append(_entry(os.fspath(path), check_file(path, expected)))
        with open_text(path) as file:
            if not any(part.strip() for part in iter(partial(file.read, 1 << 16), "")):
                raise DataError(f"{path} is blank: expected {expected}.")
    documents = {part: Documents((os.fspath(p),)) for part, p in zip(PARTS, paths, strict=True)}
    return Corpus("text folder", tuple(files), documents)


def read_imdb(data_dir: Path, *, download: bool = True) -> Corpus:
    """IMDB's labelled reviews, from ``<data_dir>/aclImdb``, downloaded if absent; ``neg`` is 0.

    Both published parts are put into a fixed stratified order, so that each prefix has as many
    good as bad reviews; the first 2,500 of the training part (a tenth of a copy that has fewer) are
    for validation. No hashes of the reviews are published, so ``source`` tells their number only.
    """
    fetch(IMDB, data_dir, download=download)
    root = data_dir / "aclImdb"
    files: list[Entry] = []
    documents, labels = {}, {}
    for part in ("train", "test"):
        entries = {kind: _reviews(root, f"{part}/{kind}") for kind in ("neg", "pos")}
        both = entries["neg"] + entries["pos"]
        files += both
        label = torch.arange(2).repeat_interleave(torch.tensor([len(e) for e in entries.values()]))
        order = stratified_order(label).numpy()
        documents[part] = tuple(f"{os.fspath(root)}/{both[i][0]}" for i in order)
        labels[part] = label.numpy()[order]
    sizes = {part: len(names) for part, names in documents.items()}
    held_out = min(IMDB_VALIDATION, sizes["train"] // 10)
    cuts = {
        "validation": ("train", slice(held_out)),
        "train": ("train", slice(held_out, None)),
        "test": ("test", slice(None)),
    }
    counts = f"{sizes['train']:,} + {sizes['test']:,} reviews of aclImdb"
    return Corpus(
        counts if sizes == IMDB_SIZES else f"files of your own: {counts} instead of 25,000 each",
        tuple(files),
        {part: Documents(documents[of][cut], by_line=False) for part, (of, cut) in cuts.items()},
        {part: labels[of][cut] for part, (of, cut) in cuts.items()},
        classes=("neg", "pos"),
        marks_ends=True,
    )


def _reviews(root: Path, place: str) -> list[Entry]:
    """The reviews of a folder in the order of their names, which are relative to ``root``."""
    try:
        names = sorted(name for name in os.listdir(root / place) if name[0] != ".")
    except OSError as error:
        raise DataError(
            f"Expected a folder of reviews, but {root / place} cannot be read: {error.strerror}. "
            "Repair it."
        ) from error
    names = [f"{place}/{name}" for name in names if name.endswith(".txt")]
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
        deque(pieces(text), 0)  # goes through all of them
    except ValueError as error:
        raise DataError(f"{where} cannot be encoded: {error}.") from error
    return text


def pieces(text: str) -> Iterator[str]:
    """A long text in pieces, cut before a blank between two words, where GPT-2 cuts too.

    So the pieces have the same tokens as the whole, which would take gigabytes of memory at once.

    Raises:
        ValueError: A stretch without such a blank is too long.
    """
    start, piece = 0, re.compile(rf"(?s).{{{PIECE},{STRETCH}}}?((?<=\S)(?= \S)|\Z)")
    while len(text) - start > PIECE:
        cut = piece.match(text, start)
        if cut is None:
            raise ValueError(
                f"more than {STRETCH:,} characters follow each other without a single blank "
                "between two words; break them into lines"
            )
        yield cut[0]
        start = cut.end()
    if start < len(text) or not text:
        yield text[start:]
