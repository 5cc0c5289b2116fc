"""Text corpora as tokens: WikiText-2, Penn Treebank, IMDB, or a folder of text.

A *document* is a line with its newline, or a review of IMDB with the end-of-text token. It carries
its number of words (between white space, and one for its end): perplexities are per *word*.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from qrkd_lab.data.cache import cache_folder, keep, kept
from qrkd_lab.data.corpora import CHOICES, PARTS, Corpus, read_corpus, read_text_folder
from qrkd_lab.data.fetch import DATA_DIR_VARIABLE, DataError
from qrkd_lab.data.fetch import data_dir as find_data_dir
from qrkd_lab.data.images import folder_name
from qrkd_lab.files import canonical_sha256

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "CHOICES", "END", "TextData", "Tokens", "check_vocabulary", "encode", "load_text",
    "load_tokenizer", "tokenizer_digest", "train_tokenizer",
]  # fmt: skip

FORMAT = 4  # to be raised when the encoding or the order of documents changes


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
        name: ``"wikitext2"`` (word level), ``"ptb"`` (Penn Treebank in Mikolov's preparation),
            ``"imdb"`` (50,000 film reviews with labels), or a folder of text: ``train.txt``,
            ``valid.txt`` and ``test.txt``.
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
        DataError: Data that are absent or damaged.

    Example:
        >>> load_text("ptb")                                              # doctest: +SKIP
        TextData('ptb': vocabulary 2,048; 1,456,770 train, ... tokens; the official files; ...)
    """
    check_vocabulary(vocabulary)
    if name in CHOICES:
        corpus = read_corpus(str(name), find_data_dir(data_dir), download=download)
    else:
        folder = Path(os.path.expanduser(name))
        if not folder.is_dir():
            raise ValueError(
                f"Expected one of {', '.join(CHOICES)} or a folder with train.txt, valid.txt and "
                f"test.txt, got {os.fspath(name)!r}."
            )
        name, corpus = folder_name(folder), read_text_folder(folder)
    given = None if tokenizer is None else tokenizer_digest(tokenizer)
    key = canonical_sha256([FORMAT, given or vocabulary, corpus.files])[:32]
    file = cache_folder() / "text" / f"{key}.safetensors"
    found = kept(file)
    if not found or _fingerprint(found[0]) != found[1]["sha256"]:  # absent or damaged
        found = _encoded(name, corpus, vocabulary, tokenizer)
        keep(file, *found)
    tensors, notes = found
    parts: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for place, tensor in tensors.items():
        part, kind = place.split(".")
        parts[part][kind] = tensor.numpy()
    if tokenizer is None:
        from tokenizers import Tokenizer

        tokenizer = _wrapped(Tokenizer.from_str(notes["tokenizer"]))
    changes = notes["changes"]
    return TextData(
        str(name),
        corpus.source + (f"; normalised on reading: {changes}" if changes else ""),
        notes["sha256"],
        tokenizer,
        *(Tokens(**arrays) for arrays in parts.values()),
        corpus.classes,
    )


def _encoded(
    name: str, corpus: Corpus, vocabulary: int, tokenizer: PreTrainedTokenizerFast | None
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A corpus as tensors and notes for the cache, with the tokenizer if it is trained here."""
    from tqdm import tqdm

    def shown(part: str, verb: str) -> Iterable[str]:  # a bar only where it takes seconds
        told = f"{verb} {name}, {part}"
        return tqdm(corpus.documents[part], told, unit=" documents", delay=2, leave=False)

    if corpus.marks_ends and tokenizer is not None and tokenizer.eos_token_id is None:
        raise ValueError(
            f"{name} needs a tokenizer with an end-of-text token (eos_token) to put after each "
            "document, but the given one has none."
        )
    notes = {}
    if tokenizer is None:
        tokenizer = train_tokenizer(shown("train", "learning tokens of"), vocabulary)
        notes["tokenizer"] = tokenizer.backend_tokenizer.to_str()
    end = tokenizer.eos_token_id if corpus.marks_ends else None
    arrays = {}
    for part in PARTS:
        tokens = encode(shown(part, "encoding"), tokenizer, end, corpus.labels.get(part))
        arrays |= {f"{part}.{kind}": a for kind, a in vars(tokens).items() if a is not None}
    changes = {part: ", ".join(sorted(found.changes)) for part, found in corpus.documents.items()}
    notes["changes"] = "; ".join(f"{part} ({words})" for part, words in changes.items() if words)
    tensors = {place: torch.from_numpy(array) for place, array in arrays.items()}
    notes["sha256"] = _fingerprint(tensors)
    return tensors, notes


def _fingerprint(tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 of the SHA-256 of each array as a ``.npy`` file, by name."""
    digests = {}
    for name, tensor in tensors.items():
        np.save(buffer := io.BytesIO(), tensor.numpy())
        digests[f"{name}.npy"] = hashlib.sha256(buffer.getbuffer()).hexdigest()
    return canonical_sha256(digests)


# Tokens

CHARACTERS = 1 << 18  # encoded at a time: never a whole corpus as Python lists


@dataclass(frozen=True, eq=False, repr=False)
class Tokens:
    """One part of a corpus: a flat stream of tokens, cut into documents.

    Args:
        ids: ``(tokens,)``, uint16, or uint32 for a vocabulary above 65,536.
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
    """Encode documents, some at a time: memory stays small.

    Args:
        documents: The text; is gone through once.
        tokenizer: Its tokens are taken as they are: no special ones are added.
        end: A token to put after each document, if any.
        labels: int64 ``(documents,)``, if there are any.
    """
    dtype = np.dtype("<u2" if len(tokenizer) <= 1 << 16 else "<u4")
    ids, lengths, words = [], [], []
    for texts in _chunks(documents):
        found = tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        rows = found["input_ids"]
        ids.append(np.fromiter(itertools.chain.from_iterable(rows), dtype))
        lengths += map(len, rows)
        words += (len(text.split()) + 1 for text in texts)
    tokens, ends = np.concatenate(ids), np.array(lengths, "<i8").cumsum()
    if end is not None:
        tokens, ends = np.insert(tokens, ends, end), ends + np.arange(1, len(ends) + 1)
    labels = None if labels is None else labels.astype("<i8")
    return Tokens(tokens, ends, np.array(words, "<i4"), labels)


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    """Some documents at a time."""
    chunk, held = [], 0
    for document in documents:
        chunk.append(document)
        held += len(document)
        if held >= CHARACTERS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


# The tokenizer

END = "<|endoftext|>"
SMALLEST = 257  # the bytes and the special token


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
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())  # between GPT-2's way of cutting text and of joining bytes
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return _wrapped(tokenizer)


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
    from transformers.utils import cached_file

    name = os.fspath(folder_or_name)
    place = find_data_dir(data_dir) / name
    for folder in (Path(os.path.expanduser(name)), place):
        if folder.is_dir():
            return _from_folder(folder)
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


def _from_folder(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import GPT2Tokenizer

    try:
        tokenizer = GPT2Tokenizer.from_pretrained(folder)
    except Exception as error:  # the library raises plain Exceptions
        raise DataError(f"The tokenizer in {folder} cannot be read: {error}") from error
    if len(tokenizer) < SMALLEST:  # of absent files transformers makes an empty one
        raise DataError(
            f"Expected tokenizer.json, or vocab.json and merges.txt, of a byte-level BPE in "
            f"{folder}; they are published with the model, e.g. "
            "https://huggingface.co/openai-community/gpt2"
        )
    tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


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


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers wants it, with its one special token."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=END
    )
