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
same text give the same tokens (:mod:`~qrkd_lab.data.corpora`), and ``source`` says so. The tokens
of each part are one flat array, memory-mapped: a second load reads next to nothing, and all
processes share one copy.

Perplexities of language models are published per *word*, however the text was cut into tokens.
So each document carries its number of words: those between white space, and one for its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qrkd_lab.data.corpora import PARTS, Corpus, read_corpus, read_text_folder
from qrkd_lab.data.fetch import DataError, cache_folder
from qrkd_lab.data.fetch import data_dir as find_data_dir
from qrkd_lab.data.folder import folder_name
from qrkd_lab.data.tokenizer import (
    check_vocabulary,
    load_tokenizer,
    tokenizer_digest,
    train_tokenizer,
)
from qrkd_lab.data.tokens import Tokens, encode, open_tokens, write_tokens
from qrkd_lab.storage import canonical_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["TextData", "Tokens", "load_text"]

CHOICES = ("wikitext2", "ptb", "imdb")
FORMAT = 2  # to be raised when the encoding or the order of documents changes
NORMALISED = "normalised.txt"  # in the cache: what was changed on reading, in words


@dataclass(frozen=True, eq=False, repr=False)
class TextData:
    """A corpus as tokens.

    Args:
        name: ``"wikitext2"``, ``"ptb"``, ``"imdb"`` or the name of a folder, made fit to name
            a folder of records (:func:`~qrkd_lab.data.folder.folder_name`).
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
            (:func:`~qrkd_lab.data.tokenizer.train_tokenizer`); not used if one is given.
        tokenizer: A tokenizer to use instead, such as
            :func:`~qrkd_lab.data.tokenizer.load_tokenizer` gives.
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
