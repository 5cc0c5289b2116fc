"""Text corpora, encoded once and read from the disk.

``load_text`` takes a name or a folder and gives a ``TextData``:

======================  ================================================================
``"wikitext2"``         WikiText-2 at word level, found in ``wikitext-2`` or downloaded
``"ptb"``               Penn Treebank in Mikolov's preparation, found in ``ptb`` or downloaded
``"imdb"``              50,000 film reviews with labels, found in ``aclImdb`` or downloaded
a path                  your own: ``root/train.txt``, ``valid.txt``, ``test.txt``, UTF-8
======================  ================================================================

A *document* is a line of WikiText-2, of Penn Treebank or of your own text, with its newline, and a
review of IMDB, which is followed by the end-of-text token. Other line ends and encodings of the
same text give the same tokens (:mod:`~qrkd_lab.data.text`), and ``source`` says so. The tokens
of each part are one flat array, memory-mapped: a second load reads next to nothing, and all
processes share one copy.

Perplexities of language models are published per *word*, however the text was cut into tokens.
So each document carries its number of words: those between white space, and one for its end.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import re
import shutil
import uuid
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import torch

from qrkd_lab.data.fetch import (
    CACHE_DIR_VARIABLE,
    DATA_DIR_VARIABLE,
    DataError,
    RemoteFile,
    cache_folder,
    check_file,
    check_text,
    fetch,
    file_hash,
    open_text,
    read_text,
)
from qrkd_lab.data.fetch import data_dir as find_data_dir
from qrkd_lab.data.images import folder_name, stratified_order
from qrkd_lab.files import (
    RecordError,
    Unreadable,
    canonical_sha256,
    file_sha256,
    read_json,
    write_folder,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "Corpus",
    "END",
    "IMDB_ARCHIVE",
    "Lines",
    "PARTS",
    "PTB_FILES",
    "Reviews",
    "TextData",
    "Tokens",
    "WIKITEXT2_ARCHIVE",
    "check_vocabulary",
    "encode",
    "load_text",
    "load_tokenizer",
    "open_tokens",
    "pieces",
    "read_corpus",
    "read_imdb",
    "read_ptb",
    "read_text_folder",
    "read_wikitext2",
    "tokenizer_digest",
    "train_tokenizer",
    "write_tokens",
]


CHOICES = ("wikitext2", "ptb", "imdb")
FORMAT = 2  # to be raised when the encoding or the order of documents changes
NORMALISED = "normalised.txt"  # in the cache: what was changed on reading, in words


@dataclass(frozen=True, eq=False, repr=False)
class TextData:
    """A corpus as tokens.

    Args:
        name: ``"wikitext2"``, ``"ptb"``, ``"imdb"`` or the name of a folder, made fit to name
            a folder of records (:func:`~qrkd_lab.data.images.folder_name`).
        source: Where the text comes from, in words; says so if it is not the official one, and
            what was normalised on reading.
        sha256: Fingerprint of the tokens, ends, words and labels of all three parts.
        tokenizer: What encoded the text.
        train, validation, test: The parts.
        classes: Class names, in the order of the labels; empty without labels.
    """

    name: str
    source: str
    sha256: str
    tokenizer: PreTrainedTokenizerFast
    train: Tokens
    validation: Tokens
    test: Tokens
    classes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        parts = ", ".join(f"{len(getattr(self, part)):,} {part}" for part in PARTS)
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return (
            f"TextData({self.name!r}: vocabulary {len(self.tokenizer):,}{classes}; "
            f"{parts} tokens; {self.source}; sha256 {self.sha256[:12]})"
        )


def load_text(
    name: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    vocabulary: int = 2048,
    tokenizer: PreTrainedTokenizerFast | None = None,
    download: bool = True,
) -> TextData:
    """Load a corpus as tokens; the first time it is read and encoded, which takes a while.

    Args:
        name: ``"wikitext2"``, ``"ptb"``, ``"imdb"``, or a folder of text.
        data_dir: Where the data lie; else ``$QRKD_DATA_DIR``, else the user's cache folder.
        vocabulary: Size of the tokenizer that is trained on the training part
            (:func:`~qrkd_lab.data.text.train_tokenizer`); not used if one is given.
        tokenizer: A tokenizer to use instead, such as
            :func:`~qrkd_lab.data.text.load_tokenizer` gives.
        download: Whether absent files may be downloaded.

    Returns:
        The data. Documents come in the published order, those of IMDB in a fixed stratified order.

    Raises:
        ValueError: An unknown name, or a vocabulary that is too small.
        TypeError: A tokenizer that is not one of transformers' fast ones.
        DataError: Data that are absent or damaged, or a cache folder that cannot be written.

    Example:
        >>> load_text("ptb")                                              # doctest: +SKIP
        TextData('ptb': vocabulary 2,048; 1,456,770 train, ... tokens; the official files; ...)
    """
    check_vocabulary(vocabulary)
    name, corpus = _read(name, data_dir, download)
    encoder = (
        ["trained", vocabulary] if tokenizer is None else ["given", tokenizer_digest(tokenizer)]
    )
    key = canonical_sha256([FORMAT, encoder, corpus.files])[:32]
    folder = cache_folder() / "text" / key
    kept = open_tokens(folder)
    if kept is None:
        _encode(name, corpus, vocabulary, tokenizer, folder)
        kept = open_tokens(folder)
    if kept is None:
        raise DataError(f"{folder} was damaged as soon as it was written: is the disk at fault?")
    parts, sha256 = kept
    tokenizer = load_tokenizer(folder) if tokenizer is None else tokenizer
    changed = (folder / NORMALISED).read_text(encoding="utf-8")
    source = corpus.source + (f"; normalised on reading: {changed}" if changed else "")
    return TextData(name, source, sha256, tokenizer, **parts, classes=corpus.classes)


def _read(
    name: str | os.PathLike[str], data_dir: str | os.PathLike[str] | None, download: bool
) -> tuple[str, Corpus]:
    if name in CHOICES:
        return str(name), read_corpus(str(name), find_data_dir(data_dir), download=download)
    folder = Path(os.path.expanduser(name))
    if not folder.is_dir():
        raise ValueError(
            f"Expected one of {', '.join(CHOICES)} or a folder with train.txt, valid.txt and "
            f"test.txt, got {os.fspath(name)!r}."
        )
    return folder_name(folder), read_text_folder(folder)


def _encode(
    name: str,
    corpus: Corpus,
    vocabulary: int,
    tokenizer: PreTrainedTokenizerFast | None,
    folder: Path,
) -> None:
    """Encode a corpus into a new cache folder, with the tokenizer if it was trained here."""
    from tqdm import tqdm

    def shown(part: str, verb: str) -> Iterable[str]:  # a bar only where it takes seconds
        documents = corpus.documents[part]
        return tqdm(documents, f"{verb} {name}, {part}", unit=" documents", delay=2, leave=False)

    if corpus.marks_ends and tokenizer is not None and tokenizer.eos_token_id is None:
        raise ValueError(
            f"{name} needs a tokenizer with an end-of-text token (eos_token) to put after each "
            "document, but the given one has none."
        )
    files = {}
    if tokenizer is None:
        tokenizer = train_tokenizer(shown("train", "learning tokens of"), vocabulary)
        files["tokenizer.json"] = tokenizer.backend_tokenizer.to_str().encode()
    end = tokenizer.eos_token_id if corpus.marks_ends else None
    parts = {
        part: encode(shown(part, "encoding"), tokenizer, end, corpus.labels.get(part))
        for part in PARTS
    }
    changes = {part: ", ".join(sorted(found.changes)) for part, found in corpus.documents.items()}
    words = "; ".join(f"{part} ({found})" for part, found in changes.items() if found)
    write_tokens(folder, parts, files | {NORMALISED: words.encode()})


# ---- corpora


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


# ---- tokens


CHUNK, CHARACTERS = 1000, 1 << 19  # encoded at a time: never a whole corpus as Python lists
DIGESTS = "tokens.json"


@dataclass(frozen=True, eq=False, repr=False)
class Tokens:
    """One part of a corpus: a flat stream of tokens, cut into documents.

    Args:
        ids: ``(tokens,)``, uint16, or uint32 for a vocabulary above 65,536; read-only.
        ends: int64 ``(documents,)``; document ``i`` is ``ids[ends[i - 1] : ends[i]]``.
        words: int32 ``(documents,)``, words between white space plus one for the end.
        labels: int64 ``(documents,)``, only where the corpus has labels.
    """

    ids: np.ndarray
    ends: np.ndarray
    words: np.ndarray
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.ids)

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.ends)

    @property
    def word_count(self) -> int:
        """Number of words, with one for the end of each document."""
        return int(self.words.sum(dtype=np.int64))

    def first(self, documents: int) -> Tokens:
        """The first documents, as a view.

        Raises:
            ValueError: Fewer than one, or more than there are.
        """
        if not 1 <= documents <= self.documents:
            raise ValueError(f"Expected 1 to {self.documents:,} documents, got {documents:,}.")
        labels = None if self.labels is None else self.labels[:documents]
        end = int(self.ends[documents - 1])
        return Tokens(self.ids[:end], self.ends[:documents], self.words[:documents], labels)

    def take(self, tokens: int) -> Tokens:
        """The first documents that fit into so many tokens, at least one, as a view.

        Raises:
            ValueError: Fewer than one token.

        Example:
            >>> part = Tokens(np.arange(9), np.array([2, 5, 9]), np.array([3, 3, 4]))
            >>> len(part.take(8)), len(part.take(1)), len(part.take(100))
            (5, 2, 9)
        """
        if tokens < 1:
            raise ValueError(f"Expected at least one token, got {tokens:,}.")
        return self.first(max(1, int(np.searchsorted(self.ends, tokens, side="right"))))

    def __repr__(self) -> str:
        return f"Tokens({len(self):,} in {self.documents:,} documents, {self.word_count:,} words)"


def encode(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    end: int | None = None,
    labels: np.ndarray | None = None,
) -> Tokens:
    """Encode documents, some at a time, and long ones in pieces: memory stays small.

    Args:
        documents: The text; is gone through once.
        tokenizer: Its tokens are taken as they are: no special ones are added.
        end: A token to put after each document, if any.
        labels: int64 ``(documents,)``, if there are any.
    """
    dtype = np.dtype("<u2" if len(tokenizer) <= 1 << 16 else "<u4")
    ids, lengths, words = [], [0], [1]  # of the documents so far and the one that follows
    tail = [] if end is None else [end]
    for chunk in _chunks(documents):
        found = tokenizer(
            [piece for piece, _ in chunk],
            add_special_tokens=False, return_attention_mask=False, verbose=False,
        )  # fmt: skip
        rows = [
            row + tail if last else row
            for row, (_, last) in zip(found["input_ids"], chunk, strict=True)
        ]
        for row, (piece, last) in zip(rows, chunk, strict=True):
            lengths[-1] += len(row)
            words[-1] += len(piece.split())
            if last:
                lengths.append(0)
                words.append(1)
        ids.append(np.fromiter(itertools.chain.from_iterable(rows), dtype, sum(map(len, rows))))
    return Tokens(
        np.concatenate(ids),
        np.cumsum(lengths[:-1], dtype="<i8"),
        np.array(words[:-1], dtype="<i4"),
        None if labels is None else labels.astype("<i8"),
    )


def _chunks(documents: Iterable[str]) -> Iterator[list[tuple[str, bool]]]:
    """Some pieces of documents at a time, each with whether its document ends there."""
    chunk, held = [], 0
    for document in documents:
        *begun, last = pieces(document)
        for piece in [*((piece, False) for piece in begun), (last, True)]:
            chunk.append(piece)
            held += len(piece[0])
            if len(chunk) == CHUNK or held >= CHARACTERS:
                yield chunk
                chunk, held = [], 0
    if chunk:
        yield chunk


def write_tokens(folder: Path, parts: Mapping[str, Tokens], extra: Mapping[str, bytes]) -> None:
    """Write parts by name, and ``extra`` files, into a folder; one that is there is left alone.

    Raises:
        DataError: The folder cannot be written.
    """
    files = dict(extra)
    for part, tokens in parts.items():
        for name, array in vars(tokens).items():
            if array is not None:
                buffer = io.BytesIO()
                np.save(buffer, array)
                files[f"{part}.{name}.npy"] = buffer.getvalue()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files[DIGESTS] = json.dumps(digests, indent=1).encode()
    try:
        write_folder(folder, files)
    except OSError as error:
        raise DataError(
            f"The encoded text cannot be kept in {folder} ({error}). Make room there, or set the "
            f"environment variable {CACHE_DIR_VARIABLE} to a folder of yours."
        ) from error


def open_tokens(folder: Path) -> tuple[dict[str, Tokens], str] | None:
    """The parts in a folder, memory-mapped, and their fingerprint.

    Returns:
        Parts by name and the SHA-256 (hex) of all arrays together; None if the folder is absent
        or was damaged, in which case it is moved out of the way.

    Raises:
        DataError: A damaged folder cannot be moved, or the folder cannot be read just now.
    """
    if not folder.is_dir():
        return None
    try:
        digests = read_json(folder / DIGESTS)
        for name, digest in digests.items():
            if file_sha256(folder / name) != digest:
                raise ValueError(f"{name} was cut or changed")
        arrays = {name: d for name, d in digests.items() if name.endswith(".npy")}
        parts: dict[str, dict[str, np.ndarray]] = {}
        for file in arrays:
            part, name, _ = file.split(".")
            parts.setdefault(part, {})[name] = np.load(folder / file, mmap_mode="r")
        opened = {part: Tokens(**found) for part, found in parts.items()}
    except Unreadable as error:
        raise DataError(str(error)) from error
    except (RecordError, OSError, TypeError, ValueError):
        warnings.warn(f"{folder} is damaged; encoding the text again.", stacklevel=3)
        _remove(folder)
        return None
    return opened, canonical_sha256(arrays)


def _remove(folder: Path) -> None:
    """Remove a damaged folder; renamed first, so that nobody sees it half gone."""
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        with suppress(FileNotFoundError):  # another process was faster
            os.rename(folder, hidden)
    except OSError as error:
        raise DataError(
            f"{folder} is damaged and cannot be removed ({error}); delete it."
        ) from error
    shutil.rmtree(hidden, ignore_errors=True)


# ---- tokenizer


END = "<|endoftext|>"
SMALLEST = 257  # the bytes and the special token
PIECE, STRETCH = 1 << 16, 1 << 20  # characters; a tokenizer takes some 250 bytes for each


def train_tokenizer(documents: Iterable[str], vocabulary: int = 2048) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; the same documents always give the same one.

    Args:
        documents: Text to count pairs in; the training part only.
        vocabulary: Number of tokens, with the 256 bytes and ``<|endoftext|>``. Little text may
            have too few different pairs and give fewer.

    Raises:
        ValueError: A vocabulary of fewer than 257.

    Example:
        >>> tokenizer = train_tokenizer(["low lower lowest"] * 9, vocabulary=262)
        >>> tokenizer.convert_ids_to_tokens(tokenizer("lower")["input_ids"])
        ['low', 'e', 'r']
    """
    check_vocabulary(vocabulary)
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((p for text in documents for p in pieces(text)), trainer)
    return _wrapped(tokenizer)


def pieces(text: str) -> Iterator[str]:
    """A long text in pieces, cut before a blank between two words, where GPT-2 cuts too.

    So the pieces have the same tokens as the whole, which would take gigabytes of memory at once.

    Raises:
        ValueError: A stretch without such a blank is too long.
    """
    blank, start = r"(?<=\S)(?= \S)", 0
    near = re.compile(rf"(?s).{{1,{PIECE}}}{blank}")
    far = re.compile(rf"(?s).{{{PIECE},{STRETCH}}}?({blank}|\Z)")
    while len(text) - start > PIECE:
        cut = near.match(text, start) or far.match(text, start)
        if cut is None:
            raise ValueError(
                f"more than {STRETCH:,} characters follow each other without a single blank "
                "between two words; break them into lines"
            )
        yield cut[0]
        start = cut.end()
    if start < len(text) or not text:
        yield text[start:]


def check_vocabulary(vocabulary: int) -> None:
    """Raise ValueError unless a vocabulary has room for the bytes and the special token."""
    if vocabulary < SMALLEST:
        raise ValueError(
            f"vocabulary must be at least {SMALLEST} (256 bytes and {END}), got {vocabulary}."
        )


def load_tokenizer(
    folder_or_name: str | os.PathLike[str], *, data_dir: str | os.PathLike[str] | None = None
) -> PreTrainedTokenizerFast:
    """GPT-2's own tokenizer, or another byte-level BPE, from a folder or from the Hugging Face hub.

    Args:
        folder_or_name: A folder, or the name of one in ``data_dir``, that holds ``tokenizer.json``
            or both ``vocab.json`` and ``merges.txt``; else a model's name on the hub.
        data_dir: Where the data lie; else ``$QRKD_DATA_DIR``, else the user's cache folder.

    Raises:
        DataError: The files are absent or damaged, and the hub does not have them or cannot be
            reached.

    Example:
        >>> len(load_tokenizer("gpt2"))                                   # doctest: +SKIP
        50257
    """
    name = os.fspath(folder_or_name)
    places = [Path(os.path.expanduser(name)), find_data_dir(data_dir) / name]
    for folder in places:
        if folder.is_dir():
            return _from_folder(folder)
    return _from_hub(name, places[1])


def _from_folder(folder: Path) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models

    whole, vocab, merges = (folder / n for n in ("tokenizer.json", "vocab.json", "merges.txt"))
    expected = (
        f"tokenizer.json, or vocab.json and merges.txt, in {folder}; they are published with the "
        "model, e.g. https://huggingface.co/openai-community/gpt2"
    )
    files = [whole] if os.path.lexists(whole) else [vocab, merges]
    for file in files:
        check_file(file, expected)
    try:
        if files == [whole]:
            return _wrapped(Tokenizer.from_str(read_text(whole)))
        lines = read_text(merges).rstrip("\n").split("\n")
        pairs = [tuple(line.split(" ")) for line in lines if not line.startswith("#version")]
        return _wrapped(_byte_level(models.BPE(json.loads(read_text(vocab)), pairs)))
    except DataError:
        raise
    except Exception as error:  # the library raises plain Exceptions
        raise DataError(f"The tokenizer in {folder} cannot be read: {error}") from error


def _from_hub(name: str, place: Path) -> PreTrainedTokenizerFast:
    from transformers.utils import cached_file

    try:
        try:  # what was downloaded once needs no network
            file = cached_file(name, "tokenizer.json", local_files_only=True)
        except (OSError, ValueError):
            file = cached_file(name, "tokenizer.json")
    except (OSError, ValueError) as error:
        raise DataError(
            f"No tokenizer {name!r}: there is no such folder, and the Hugging Face hub did not "
            f"give it ({str(error).splitlines()[0]}). Put its vocab.json and merges.txt (or "
            f"tokenizer.json) into {place}, or set {DATA_DIR_VARIABLE} to the folder that holds "
            f"{place.name}/; the model's config.json and model.safetensors belong beside them, in "
            "a folder that you give as teacher_model=FOLDER. --scale laptop needs none of this: it "
            "trains a small tokenizer and a small model."
        ) from error
    return _from_folder(Path(file).parent)


def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 (hex) of what decides how a tokenizer encodes, apart from padding and truncation.

    Raises:
        TypeError: Not one of transformers' fast tokenizers.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not hasattr(backend, "to_str"):
        raise TypeError(
            "Expected one of transformers' fast tokenizers (PreTrainedTokenizerFast), got "
            f"{type(tokenizer).__name__}; load_tokenizer or train_tokenizer gives one."
        )
    content = json.loads(backend.to_str()) | {"padding": None, "truncation": None}
    ends = [tokenizer.eos_token_id, len(tokenizer)]
    return hashlib.sha256(json.dumps([content, ends], sort_keys=True).encode()).hexdigest()


def _byte_level(model: models.BPE) -> Tokenizer:
    """A BPE model between GPT-2's way of cutting text into words and of joining bytes again."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers

    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers wants it, with its one special token."""
    from transformers import PreTrainedTokenizerFast

    if tokenizer.token_to_id(END) is None:
        raise DataError(f"Expected a tokenizer of GPT-2's kind, but this one has no token {END}.")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
    )
