"""Tokens: encoding, prefixes, and a folder that is never trusted unverified."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from qrkd_lab.data import DataError, Tokens
from qrkd_lab.data import text as module
from qrkd_lab.data import text as tokenizers
from qrkd_lab.data.text import encode, open_tokens, train_tokenizer, write_tokens

DOCUMENTS = ["a b  c\n", "\n", "longer than that\n", "x"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(DOCUMENTS, 260)


@pytest.fixture
def part() -> Tokens:
    ends, words = np.array([2, 5, 5, 9]), np.array([3, 3, 1, 4], dtype=np.int32)
    return Tokens(np.arange(9, dtype=np.uint16), ends, words, np.array([0, 1, 1, 0]))


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_documents_are_cut_where_they_end(
    tokenizer: PreTrainedTokenizerFast, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    found = encode(iter(DOCUMENTS), tokenizer)
    pieces = np.split(found.ids, found.ends)[:-1]
    assert [tokenizer.decode(piece) for piece in pieces] == DOCUMENTS
    assert (found.documents, len(found)) == (4, found.ends[-1])
    assert found.words.tolist() == [4, 1, 4, 2] and found.word_count == 11
    types = [array.dtype for array in (found.ids, found.ends, found.words)]
    assert types == [np.uint16, np.int64, np.int32] and found.labels is None


@given(st.text(st.sampled_from("ab é\n\t\u3000'1,.")))
@settings(max_examples=200, deadline=None)
def test_long_documents_are_encoded_in_pieces_with_the_same_tokens(
    tokenizer: PreTrainedTokenizerFast, text: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = encode([text, "x", text], tokenizer, tokenizer.eos_token_id)
        patch.setattr(tokenizers, "PIECE", 5)
        patch.setattr(module, "CHARACTERS", 12)
        parts = encode([text, "x", text], tokenizer, tokenizer.eos_token_id)
        learnt = train_tokenizer([text], 262).get_vocab()
    assert train_tokenizer([text], 262).get_vocab() == learnt
    for name, array in vars(whole).items():
        assert np.array_equal(array, getattr(parts, name)), name


def test_pieces_are_short_and_make_up_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "PIECE", 5)
    monkeypatch.setattr(tokenizers, "STRETCH", 9)
    text = "a bc  def ghijklm\n"
    assert list(tokenizers.pieces(text)) == ["a", " bc  def", " ghijklm\n"]
    assert list(tokenizers.pieces("")) == [""]
    with pytest.raises(ValueError, match="more than 9 characters follow each other"):
        list(tokenizers.pieces("ab " + 12 * "c" + " d"))


def test_an_end_is_put_after_each_document(tokenizer: PreTrainedTokenizerFast) -> None:
    labels = np.array([1, 0, 1, 1])
    found = encode(DOCUMENTS, tokenizer, tokenizer.eos_token_id, labels)
    assert (found.ids[found.ends - 1] == tokenizer.eos_token_id).all()
    assert (found.ids == tokenizer.eos_token_id).sum() == 4
    assert found.words.tolist() == [4, 1, 4, 2]
    assert found.labels.tolist() == labels.tolist() and found.labels.dtype == np.int64


def test_a_large_vocabulary_gets_wider_numbers() -> None:
    tokenizer = train_tokenizer(DOCUMENTS, 260)
    tokenizer.add_tokens([f"<{i}>" for i in range(1 << 16)])
    found = encode([f"a<{(1 << 16) - 1}>"], tokenizer)
    assert found.ids.dtype == np.uint32 and found.ids[-1] == len(tokenizer) - 1 > (1 << 16)


@pytest.mark.parametrize(
    ("tokens", "documents"), [(1, 1), (2, 1), (4, 1), (5, 3), (8, 3), (9, 4), (10**9, 4)]
)
def test_take_gives_the_documents_that_fit(part: Tokens, tokens: int, documents: int) -> None:
    taken = part.take(tokens)
    assert taken.documents == documents
    assert len(taken) == part.ends[documents - 1]
    assert np.shares_memory(taken.ids, part.ids)
    assert taken.labels.tolist() == part.labels[:documents].tolist()
    assert taken.word_count == part.words[:documents].sum()


def test_first(part: Tokens) -> None:
    assert len(part.first(2)) == 5 and part.first(2).labels.tolist() == [0, 1]
    assert len(part.first(4)) == 9
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"1 to 4 documents, got {count}"):
            part.first(count)
    with pytest.raises(ValueError, match="at least one token, got 0"):
        part.take(0)
    assert repr(part) == "Tokens(9 in 4 documents, 11 words)"


def test_a_folder_gives_back_what_was_written(part: Tokens, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "kept"
    assert open_tokens(folder) is None
    bare = Tokens(part.ids[:2], part.ends[:1], part.words[:1])
    write_tokens(folder, {"train": part, "test": bare}, {"note.txt": b"hello"})
    found, sha256 = open_tokens(folder)
    for name, array in vars(part).items():
        read = getattr(found["train"], name)
        assert isinstance(read, np.memmap) and not read.flags.writeable
        assert read.dtype == array.dtype and np.array_equal(read, array)
    assert found["test"].labels is None and found["test"].ids.tolist() == [0, 1]
    assert (folder / "note.txt").read_bytes() == b"hello"
    write_tokens(tmp_path / "same", {"train": part, "test": bare}, {"note.txt": b"other"})
    assert open_tokens(tmp_path / "same")[1] == sha256  # of the arrays alone
    write_tokens(tmp_path / "other", {"train": part}, {})
    assert open_tokens(tmp_path / "other")[1] != sha256


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
@pytest.mark.parametrize("file", ["train.ids.npy", "train.words.npy", "tokens.json", "more.txt"])
def test_a_damaged_folder_is_removed(
    part: Tokens, tmp_path: Path, harm: Callable[[Path], None], file: str
) -> None:
    folder = tmp_path / "kept"
    write_tokens(folder, {"train": part}, {"more.txt": b"more"})
    harm(folder / file)
    with pytest.warns(UserWarning, match="kept is damaged; encoding the text again"):
        assert open_tokens(folder) is None
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_says_what_to_set(part: Tokens, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/text/key .*QRKD_CACHE_DIR to a folder"):
        write_tokens(tmp_path / "file" / "text" / "key", {"train": part}, {})
