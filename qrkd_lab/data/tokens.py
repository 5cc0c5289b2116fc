"""Tokens: a part of a corpus as one flat array, and the folder of arrays that keeps the parts.

A folder holds ``<part>.<array>.npy`` and ``tokens.json``, which has the SHA-256 of every file. It
is written whole or not at all, and opened memory-mapped after the digests were compared; a folder
that is cut or was changed counts as absent.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qrkd_lab.data.fetch import CACHE_DIR_VARIABLE, DataError
from qrkd_lab.data.tokenizer import pieces
from qrkd_lab.storage import (
    RecordError,
    Unreadable,
    canonical_sha256,
    file_sha256,
    read_json,
    write_folder,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

__all__ = ["Tokens", "encode", "open_tokens", "write_tokens"]

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
