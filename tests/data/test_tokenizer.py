"""Byte-level BPE: lossless, deterministic, and the same as GPT-2's own."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast

from qrkd_lab.data import DataError
from qrkd_lab.data.text import END, Lines, load_tokenizer, tokenizer_digest, train_tokenizer

DOCUMENTS = [f"the {a} {b} of the {c} , it 's\n" for a, b, c in itertools.permutations("abcde", 3)]
HARD = (
    " don't  \t\n\r\n\x00\x1f\x85\u2028 \u00a0naïve 日本語 \U0001f469\u200d\U0001f467\U0001f3fd "
    "e\u0301 <unk> @-@ , . ! \U0010ffff"
)


@pytest.fixture(scope="module")
def small() -> PreTrainedTokenizerFast:
    return train_tokenizer(DOCUMENTS, 270)


def real(*path: str) -> Path:
    data = os.environ.get("QRKD_DATA_DIR")
    if not data or not Path(data, *path).exists():
        pytest.skip(f"needs {'/'.join(path)} in $QRKD_DATA_DIR, which is not set or lacks it")
    return Path(data, *path)


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_one_special_token_and_the_vocabulary_asked_for(small: PreTrainedTokenizerFast) -> None:
    assert len(small) == 270
    assert small.bos_token == small.eos_token == small.pad_token == END
    assert small.all_special_tokens == [END]
    assert ids(small, f"a{END}b") == [*ids(small, "a"), small.eos_token_id, *ids(small, "b")]
    assert len(train_tokenizer(["ab"], 2048)) == 258  # all there is to merge


def test_frequent_words_become_one_token_and_no_space_is_added(
    small: PreTrainedTokenizerFast,
) -> None:
    assert small.convert_ids_to_tokens(ids(small, "the of the")) == ["the", "Ġof", "Ġthe"]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), st.text(st.sampled_from(HARD))))
def test_trained_round_trip(small: PreTrainedTokenizerFast, text: str) -> None:
    assert small.decode(ids(small, text)) == text


def test_hard_text_round_trips(small: PreTrainedTokenizerFast) -> None:
    assert small.decode(ids(small, HARD)) == HARD


def test_the_same_documents_give_the_same_tokenizer(small: PreTrainedTokenizerFast) -> None:
    code = (
        "from qrkd_lab.data.text import *; "
        f"documents = {DOCUMENTS!r}; print(tokenizer_digest(train_tokenizer(documents, 270)))"
    )
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == tokenizer_digest(small)


@pytest.mark.parametrize("vocabulary", [0, 256])
def test_too_small_a_vocabulary(vocabulary: int) -> None:
    with pytest.raises(ValueError, match=f"at least 257 .* got {vocabulary}"):
        train_tokenizer(DOCUMENTS, vocabulary)


def test_both_kinds_of_files_give_the_same_tokenizer(
    small: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    whole, pair = tmp_path / "whole", tmp_path / "pair"
    for folder in (whole, pair):
        folder.mkdir()
    small.backend_tokenizer.save(str(whole / "tokenizer.json"))
    small.backend_tokenizer.model.save(str(pair))
    for folder in (whole, str(pair)):
        found = load_tokenizer(folder)
        assert ids(found, HARD + END) == ids(small, HARD + END)
        assert found.decode(ids(found, HARD)) == HARD
        assert found.eos_token_id == small.eos_token_id
    found = load_tokenizer("pair", data_dir=tmp_path)  # by name, in the folder of data
    assert ids(found, HARD) == ids(small, HARD)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_however_its_files_are_saved_the_tokenizer_is_the_same(
    small: PreTrainedTokenizerFast, tmp_path: Path, line_end: str, encoding: str
) -> None:
    whole, pair = tmp_path / "whole", tmp_path / "pair"
    for folder in (whole, pair):
        folder.mkdir()
    small.backend_tokenizer.save(str(whole / "tokenizer.json"))
    small.backend_tokenizer.model.save(str(pair))
    before = [tokenizer_digest(load_tokenizer(folder)) for folder in (whole, pair)]
    for file in tmp_path.glob("*/*"):
        text = file.read_text(encoding="utf-8")
        file.write_bytes(text.replace("\n", line_end).encode(encoding))
    assert [tokenizer_digest(load_tokenizer(folder)) for folder in (whole, pair)] == before


def test_a_folder_without_its_files(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(DataError, match="tokenizer.json, or vocab.json and merges.txt, in"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}'])
def test_damaged_files(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(DataError, match=f"{tmp_path.name} cannot be read"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_without_the_special_token(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(DataError, match=r"has no token <\|endoftext\|>"):
        load_tokenizer(tmp_path)


def test_an_unreachable_hub_says_which_files_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def refuse(name: str, file: str, **options: bool) -> str:
        asked.append((name, file, options))
        raise OSError("We couldn't connect\nand more")

    monkeypatch.setattr("transformers.utils.cached_file", refuse)
    with pytest.raises(DataError) as error:
        load_tokenizer("someone/gpt2", data_dir=tmp_path)
    assert [options for *_, options in asked] == [{"local_files_only": True}, {}]
    for part in ("couldn't connect", "vocab.json and merges.txt", str(tmp_path / "someone/gpt2")):
        assert part in str(error.value)


def test_a_tokenizer_of_the_hub(
    small: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tokenizer.json"
    small.backend_tokenizer.save(str(file))
    monkeypatch.setattr("transformers.utils.cached_file", lambda *_, **__: str(file))
    assert ids(load_tokenizer("gpt2", data_dir=tmp_path), HARD) == ids(small, HARD)


def test_the_digest_is_of_what_matters(small: PreTrainedTokenizerFast) -> None:
    before = tokenizer_digest(small)
    assert tokenizer_digest(train_tokenizer(DOCUMENTS, 269)) != before
    assert tokenizer_digest(train_tokenizer(["zq " * 999, *DOCUMENTS], 270)) != before
    other = train_tokenizer(DOCUMENTS, 270)
    other(["a", "b c d"], padding=True, truncation=True, max_length=2)  # leaves traces in it
    assert tokenizer_digest(other) == before
    with pytest.raises(TypeError, match="got str"):
        tokenizer_digest("gpt2")


def test_gpt2_is_transformers_gpt2() -> None:
    folder = real("gpt2", "vocab.json").parent
    ours, theirs = load_tokenizer(folder), GPT2Tokenizer.from_pretrained(folder)
    assert len(ours) == len(theirs) == 50_257
    lines = [HARD, f"a{END} b", *itertools.islice(Lines(real("ptb", "ptb.valid.txt")), 500)]
    for text in lines:
        assert ids(ours, text) == ids(theirs, text)
        assert ours.decode(ids(ours, text)) == text
