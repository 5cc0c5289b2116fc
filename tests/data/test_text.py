"""Text as tokens: encoding, the tokenizer, the cache."""

from __future__ import annotations

import itertools
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from qrkd_lab.data import DataError, Tokens, load_text, text
from qrkd_lab.data.corpora import read_corpus
from qrkd_lab.data.text import END, encode, load_tokenizer, tokenizer_digest, train_tokenizer

LINES = [f"the {a} {b} of the {c} , it 's\n" for a, b, c in itertools.permutations("abcde", 3)]
HARD = (
    " don't  \t\n\r\n\x00\x1f\x85\u2028 \u00a0naïve 日本語 \U0001f469\u200d\U0001f467\U0001f3fd "
    "e\u0301 <unk> @-@ , . ! \U0010ffff"
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


@pytest.fixture(scope="module")
def small():
    return train_tokenizer(LINES, 270)


def ids(tokenizer, content):
    return tokenizer(content, add_special_tokens=False)["input_ids"]


def decoded(data, part):
    return [data.tokenizer.decode(piece) for piece in np.split(part.ids, part.ends)[:-1]]


def test_every_part_decodes_to_its_file(mine):
    (mine / "test.txt").write_text("zzyzx zzyzx\n" * 300)
    data = load_text(mine, vocabulary=300)
    for part, file in ((data.train, "train"), (data.validation, "valid"), (data.test, "test")):
        content = (mine / f"{file}.txt").read_text(encoding="utf-8")
        assert decoded(data, part) == content.splitlines(keepends=True)
        assert part.word_count == len(content.split()) + part.documents
    assert (data.name, data.source, data.classes) == ("mine", "text folder", ())
    assert data.train.labels is None
    trained = train_tokenizer((mine / "train.txt").read_text().splitlines(True), 300)
    assert data.tokenizer.get_vocab() == trained.get_vocab(), "it sees the training part only"


def test_a_second_load_encodes_nothing_and_equal_text_has_an_equal_fingerprint(
    mine, tmp_path, monkeypatch
):
    first = load_text(mine, vocabulary=300)
    shutil.copytree(mine, tmp_path / "other place")
    assert load_text(tmp_path / "other place", vocabulary=300).sha256 == first.sha256
    monkeypatch.setattr(text, "encode", None)
    monkeypatch.setattr(text, "train_tokenizer", None)
    again = load_text(str(mine), vocabulary=300)
    assert again.sha256 == first.sha256 and np.array_equal(again.train.ids, first.train.ids)
    assert again.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    with pytest.raises(TypeError, match="not callable"):
        load_text(mine, vocabulary=299)


def test_line_ends_and_encodings_change_no_token_and_are_told(mine):
    before = load_text(mine, vocabulary=300)
    for part, encoding in (("train", "utf-8"), ("valid", "utf-8-sig")):
        content = (mine / f"{part}.txt").read_text(encoding="utf-8")
        (mine / f"{part}.txt").write_bytes(content.replace("\n", "\r\n").encode(encoding))
    for _ in range(2):  # read, and from the cache
        after = load_text(mine, vocabulary=300)
        assert after.sha256 == before.sha256
        assert after.source == (
            "text folder; normalised on reading: train (CRLF line ends); "
            "validation (CRLF line ends, byte-order mark)"
        )
    file = mine / "train.txt"  # changed, it is read anew
    file.write_bytes(file.read_bytes().replace(b"bell", b"BELL"))  # of the same size
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
    data = load_text(mine, vocabulary=300)
    assert "BELL" in "".join(decoded(data, data.train))


def test_a_damaged_cache_is_built_again(mine, cache):
    before = load_text(mine, vocabulary=300)
    (damaged,) = cache.iterdir()
    content = damaged.read_bytes()
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert load_text(mine, vocabulary=300).sha256 == before.sha256
    assert damaged.read_bytes()[-99:] == content[-99:]
    shutil.rmtree(cache.parent)
    cache.parent.touch()
    with pytest.warns(UserWarning, match="QRKD_CACHE_DIR"):
        assert load_text(mine, vocabulary=300).sha256 == before.sha256


def test_a_tokenizer_of_your_own(mine):
    own = train_tokenizer(["other text, other pairs"] * 5, 280)
    data = load_text(mine, tokenizer=own)
    assert data.tokenizer is own
    assert "".join(decoded(data, data.train)) == (mine / "train.txt").read_text()
    other = train_tokenizer(["the bell is singing"] * 5, 280)
    assert load_text(mine, tokenizer=other).sha256 != data.sha256
    with pytest.raises(TypeError, match="fast tokenizers"):
        load_text(mine, tokenizer=str)
    with pytest.raises(ValueError, match=r"one of wikitext2, ptb, imdb or a folder .*'wikitext'"):
        load_text("wikitext")


def test_reviews_end_with_the_end_of_text_and_keep_their_labels(reviews):
    data = load_text("imdb", data_dir=reviews, vocabulary=270, download=False)
    assert data.classes == ("neg", "pos") and "2 classes" in repr(data)
    assert [p.documents for p in (data.train, data.validation, data.test)] == [54, 6, 40]
    for part in (data.train, data.validation, data.test):
        found = decoded(data, part)
        assert all(t.endswith(END) and t.count("<|") == 1 for t in found)
        assert part.labels.tolist() == [" pos " in t for t in found]
        assert part.words.tolist() == [4] * part.documents
    endless = train_tokenizer(["a"], 257)
    endless.eos_token = None
    with pytest.raises(ValueError, match="imdb needs a tokenizer with an end-of-text token"):
        load_text("imdb", data_dir=reviews, tokenizer=endless, download=False)


def test_documents_are_cut_where_they_end(small):
    documents, labels = ["a b  c\n", "\n", "", "longer than that\n", "x"], np.arange(5)
    for end in (None, small.eos_token_id):
        found = encode(iter(documents), small, end, labels)
        rows = [small.decode(row) for row in np.split(found.ids, found.ends)[:-1]]
        assert rows == [document + END * (end is not None) for document in documents]
        assert (found.documents, len(found)) == (5, found.ends[-1])
        assert found.words.tolist() == [4, 1, 1, 4, 2] and found.word_count == 12
        types = [array.dtype for array in vars(found).values()]
        assert types == [np.uint16, np.int64, np.int32, np.int64]
    assert encode(documents, small).labels is None


def test_prefixes_of_whole_documents():
    ends, words = np.array([2, 5, 5, 9]), np.array([3, 3, 1, 4], dtype=np.int32)
    part = Tokens(np.arange(9, dtype=np.uint16), ends, words, np.array([0, 1, 1, 0]))
    assert repr(part) == "Tokens(9 in 4 documents, 11 words)"
    for tokens, documents in ((1, 1), (2, 1), (4, 1), (5, 3), (8, 3), (9, 4), (10**9, 4)):
        for taken in (part.take(tokens), part.first(documents)):
            assert taken.documents == documents and len(taken) == ends[documents - 1]
            assert np.shares_memory(taken.ids, part.ids)
            assert taken.labels.tolist() == part.labels[:documents].tolist()
            assert taken.word_count == words[:documents].sum()
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"1 to 4 documents, got {count}"):
            part.first(count)
    with pytest.raises(ValueError, match="at least one token, got 0"):
        part.take(0)


def test_one_special_token_and_the_vocabulary_asked_for(small):
    assert len(small) == 270 and small.all_special_tokens == [END]
    assert small.bos_token == small.eos_token == small.pad_token == END
    assert ids(small, f"a{END}b") == [*ids(small, "a"), small.eos_token_id, *ids(small, "b")]
    assert small.convert_ids_to_tokens(ids(small, "the of the")) == ["the", "Ġof", "Ġthe"]
    assert len(train_tokenizer(["ab"], 2048)) == 258  # all there is to merge
    with pytest.raises(ValueError, match="at least 257 .* got 256"):
        train_tokenizer(LINES, 256)


@settings(max_examples=25, deadline=None)
@given(st.one_of(st.just(HARD), st.text(), st.text(st.sampled_from(HARD))))
def test_tokens_decode_to_the_text(small, content):
    assert small.decode(ids(small, content)) == content


def test_both_kinds_of_files_give_the_tokenizer(small, tmp_path):
    whole, pair = tmp_path / "whole", tmp_path / "pair"
    for folder in (whole, pair):
        folder.mkdir()
    small.backend_tokenizer.save(str(whole / "tokenizer.json"))
    small.backend_tokenizer.model.save(str(pair))
    for found in (
        load_tokenizer(whole), load_tokenizer(str(pair)), load_tokenizer("pair", data_dir=tmp_path)
    ):  # fmt: skip
        assert ids(found, HARD + END) == ids(small, HARD + END)
        assert found.decode(ids(found, HARD)) == HARD
        assert found.eos_token_id == found.pad_token_id == small.eos_token_id


@pytest.mark.parametrize("files", [{}, {"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\n"}])
def test_a_folder_without_a_whole_tokenizer(tmp_path, files):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=r"tokenizer\.json, or vocab\.json and merges\.txt, of"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(DataError, match="cannot be read"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_of_the_hub(small, tmp_path, monkeypatch):
    file, asked = tmp_path / "tokenizer.json", []
    small.backend_tokenizer.save(str(file))
    monkeypatch.setattr("transformers.utils.cached_file", lambda *_, **__: str(file))
    assert ids(load_tokenizer("gpt2", data_dir=tmp_path), HARD) == ids(small, HARD)

    def refuse(name, file, **options):
        asked.append(options)
        raise OSError("We couldn't connect\nand more")

    monkeypatch.setattr("transformers.utils.cached_file", refuse)
    with pytest.raises(DataError) as error:
        load_tokenizer("someone/gpt2", data_dir=tmp_path)
    assert asked == [{"local_files_only": True}, {}]
    for part in ("couldn't connect", "vocab.json and merges.txt", str(tmp_path / "someone/gpt2")):
        assert part in str(error.value)


def test_the_digest_is_of_what_matters(small):
    before = tokenizer_digest(small)
    assert tokenizer_digest(train_tokenizer(LINES, 269)) != before
    assert tokenizer_digest(train_tokenizer(["zq " * 999, *LINES], 270)) != before
    other = train_tokenizer(LINES, 270)
    other(["a", "b c d"], padding=True, truncation=True, max_length=2)  # leaves traces in it
    assert tokenizer_digest(other) == before
    with pytest.raises(TypeError, match="got str"):
        tokenizer_digest("gpt2")


def test_real_gpt2_is_transformers_gpt2(real):
    folder = real("gpt2", "vocab.json") / "gpt2"
    ours, theirs = load_tokenizer(folder), GPT2Tokenizer.from_pretrained(folder)
    assert len(ours) == len(theirs) == 50_257
    validation = read_corpus("ptb", real("ptb"), download=False).documents["validation"]
    for content in (HARD, f"a{END} b", *itertools.islice(validation, 500)):
        assert ids(ours, content) == ids(theirs, content)
        assert ours.decode(ids(ours, content)) == content
