"""Byte-level BPE tokenizers: train a small one, or take GPT-2's own.

Byte-level BPE starts from the 256 bytes and merges the most frequent pair again and again. So every
text can be encoded, nothing is unknown, and decoding gives back the same bytes. One special
token, ``<|endoftext|>``, serves as beginning, end and padding.

Source: A. Radford et al., *Language models are unsupervised multitask learners*, 2019, section 2.2.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from qrkd_lab.data.fetch import DATA_DIR_VARIABLE, DataError, check_file, read_text
from qrkd_lab.data.fetch import data_dir as find_data_dir

if TYPE_CHECKING:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

__all__ = [
    "END", "check_vocabulary", "load_tokenizer", "pieces", "tokenizer_digest", "train_tokenizer",
]  # fmt: skip

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
