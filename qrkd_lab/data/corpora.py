"""Text corpora as they are found: documents of WikiText-2, Penn Treebank, IMDB or your own files.

Other line ends and encodings of the same text give the same documents, and ``source`` says so.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from qrkd_lab.data.fetch import DataError, RemoteFile, fetch, file_hash
from qrkd_lab.data.images import stratified_order

__all__ = ["CHOICES", "Corpus", "PARTS", "read_corpus", "read_text_folder"]

CHOICES = ("wikitext2", "ptb", "imdb")
PARTS = ("train", "validation", "test")
Entry = tuple[str, int, int]  # path, bytes, time of change in ns
WIKITEXT2_SHA1 = {  # as in gluon-nlp
    "wikitext-2/wiki.train.tokens": "sha1:863f29c46ef9d167fff4940ec821195882fe29d1",
    "wikitext-2/wiki.valid.tokens": "sha1:0418625c8b4da6e4b5c7a0b9e78d4ae8f7ee5422",
    "wikitext-2/wiki.test.tokens": "sha1:c7b8ce0aa086fb34dab808c5c49224211eb2b172",
}
WIKITEXT2 = RemoteFile(
    "wikitext-2-v1.zip",
    (  # Salesforce's own place is closed
        "https://wikitext.smerity.com/wikitext-2-v1.zip",  # the first author's own copy
        "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/wikitext-2/"
        "wikitext-2-v1.zip",
    ),
    "md5:542ccefacc6c27f945fb54453812b3cd",  # as in torchtext
    tuple(WIKITEXT2_SHA1),
)
PTB_MD5 = {  # as in torchtext
    "ptb.train.txt": "md5:f26c4b92c5fdc7b3f8c7cdcb991d8420",
    "ptb.valid.txt": "md5:aa0affc06ff7c36e977d7cd49e3839bf",
    "ptb.test.txt": "md5:8b80168b89c18661a38ef683c0dc3721",
}
PTB = tuple(
    RemoteFile(
        name,
        tuple(
            f"https://raw.githubusercontent.com/{owner}/lstm/master/data/{name}"
            for owner in ("wojzaremba", "tomsercu")
        ),
        digest,
    )
    for name, digest in PTB_MD5.items()
)
LINES = {  # folder in the data folder, what to fetch into it, its three files with their hashes
    "wikitext2": ("", [WIKITEXT2], WIKITEXT2_SHA1),
    "ptb": ("ptb", PTB, PTB_MD5),
}
IMDB = RemoteFile(
    "aclImdb_v1.tar.gz",
    (
        "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz",
        "https://bj.bcebos.com/dataset/imdb%2FaclImdb_v1.tar.gz",
    ),
    "md5:7c2ac02c03563afcf9b574c7e56c153a",  # as in torchtext and PaddleNLP, for these two places
    tuple(f"aclImdb/{part}/{kind}" for part in ("train", "test") for kind in ("neg", "pos")),
)
IMDB_SIZES = {"train": 25_000, "test": 25_000}
IMDB_VALIDATION = 2500  # a tenth of the training part
ENDS = {"\r\n": "CRLF line ends", "\r": "CR line ends"}
LONGEST = 1 << 20  # characters of a document; a tokenizer takes some 250 bytes for each


@dataclass(frozen=True)
class Documents:
    """Lines of files, each with its newline, or whole files; they can be read many times.

    Files are UTF-8. ``changes`` says in words what was normalised, once they were read: line ends,
    a byte-order mark. What is no text, too long or blank is a DataError when it is reached.
    """

    files: tuple[str, ...] = field(repr=False)
    by_line: bool = True
    changes: set[str] = field(default_factory=set, repr=False, compare=False)

    def __iter__(self) -> Iterator[str]:
        end = "\n" if self.by_line else ""
        for path in self.files:
            number, blank = 0, True
            try:
                with open(path, encoding="utf-8-sig") as file:
                    if file.buffer.peek(3).startswith(codecs.BOM_UTF8):
                        self.changes.add("byte-order mark")
                    lines = iter(partial(file.readline, LONGEST), "")
                    texts = lines if self.by_line else [file.read(LONGEST)]
                    for number, text in enumerate(texts, 1):
                        if "\0" in text or len(text) >= LONGEST:
                            raise DataError(
                                f"{path}, document {number:,}: expected UTF-8 text of less than "
                                f"{LONGEST:,} characters without NUL. Save it as UTF-8, and break "
                                "it into lines."
                            )
                        blank = blank and not text.strip()
                        yield text.removesuffix("\n") + end
                    ends = (file.newlines,) if isinstance(file.newlines, str) else file.newlines
                    self.changes.update(ENDS[one] for one in ends or () if one in ENDS)
            except (OSError, UnicodeError) as error:
                raise DataError(
                    f"{path} is not UTF-8 text, or cannot be read, after document {number:,}: "
                    f"{error}. Save it as UTF-8; unpack it first if it is an archive."
                ) from error
            if blank:
                raise DataError(f"{path} is blank: expected text. Replace or remove the file.")


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
    place, remotes, official = LINES[name]
    folder = data_dir / place
    for remote in remotes:
        fetch(remote, folder, download=download)
    corpus = _of_lines([folder / path for path in official])
    other = [
        path.rpartition("/")[2]
        for path, digest in official.items()
        if file_hash(folder / path, digest.partition(":")[0]) != digest
    ]
    differ = "differs from the official one" if len(other) == 1 else "differ from the official ones"
    own = f"files of your own: {' and '.join(other)} {differ}"
    return replace(corpus, source=own if other else "the official files")


def read_text_folder(root: str | os.PathLike[str]) -> Corpus:
    """Your own text: ``train.txt``, ``valid.txt`` and ``test.txt`` in a folder."""
    return _of_lines([Path(root).absolute() / f"{part}.txt" for part in ("train", "valid", "test")])


def _of_lines(paths: list[Path]) -> Corpus:
    """A corpus of three files of lines, for training, validation and test."""
    names = [os.fspath(path) for path in paths]
    try:
        files = tuple(_entry(name, name) for name in names)
    except OSError as error:
        expected = f"{', '.join(path.name for path in paths)} in {paths[0].parent}"
        raise DataError(
            f"{error.filename} cannot be read ({error.strerror}): expected {expected}, UTF-8 text "
            "with one document a line."
        ) from error
    documents = {part: Documents((name,)) for part, name in zip(PARTS, names, strict=True)}
    return Corpus("text folder", files, documents)


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
    base = f"{root}/{place}"
    try:
        names = sorted(name for name in os.listdir(base) if name[0] != "." and name[-4:] == ".txt")
        entries = [_entry(f"{place}/{name}", f"{base}/{name}") for name in names]
    except OSError as error:
        raise DataError(
            f"Expected a folder of reviews, but {error.filename} cannot be read: {error.strerror}. "
            "Repair it."
        ) from error
    if len(entries) < 10:
        raise DataError(
            f"Expected reviews (*.txt, at least ten) in {base}, got {len(entries)}. Delete "
            f"{root} to have it fetched again, or repair it."
        )
    return entries


def _entry(name: str, path: str) -> Entry:
    seen = os.stat(path)
    return name, seen.st_size, seen.st_mtime_ns
