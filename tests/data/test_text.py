"""Text corpora: documents however they are saved, tokens, the tokenizer, the cache, real data."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Tokenizer

from qrkd_lab.data import DataError, Tokens, load_text, text
from qrkd_lab.data.text import (
    END,
    IMDB,
    PTB,
    WIKITEXT2,
    Documents,
    encode,
    load_tokenizer,
    pieces,
    read_imdb,
    read_lines,
    read_text_folder,
    tokenizer_digest,
    train_tokenizer,
)

LINES = [f"the {a} {b} of the {c} , it 's\n" for a, b, c in itertools.permutations("abcde", 3)]
HARD = (
    " don't  \t\n\r\n\x00\x1f\x85\u2028 \u00a0naïve 日本語 \U0001f469\u200d\U0001f467\U0001f3fd "
    "e\u0301 <unk> @-@ , . ! \U0010ffff"
)


def real(*path: str) -> Path:
    """The user's data, or a skip."""
    data = os.environ.get("QRKD_DATA_DIR")
    if not data or not Path(data, *path).exists():
        pytest.skip(f"needs {'/'.join(path)} in $QRKD_DATA_DIR, which is not set or lacks it")
    return Path(data)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


@pytest.fixture(scope="module")
def small():
    return train_tokenizer(LINES, 270)


@pytest.fixture
def mine(tmp_path):
    """A folder of seeded nonsense."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mine"
    folder.mkdir()
    words = ["bell", "ring", "singing", "the", "a", "of", ",", "kingdom", "é", "\t"]
    for part, count in (("train", 200), ("valid", 20), ("test", 30)):
        drawn = [" ".join(rng.choice(words, rng.integers(0, 12))) + "\n" for _ in range(count)]
        (folder / f"{part}.txt").write_text("".join(drawn), encoding="utf-8")
    return folder


@pytest.fixture
def reviews(tmp_path):
    """aclImdb with 30 and 20 reviews a class; a review says where it is from."""
    for part, count in (("train", 30), ("test", 20)):
        for kind in ("neg", "pos"):
            folder = tmp_path / "aclImdb" / part / kind
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}_7.txt").write_text(f"{part} {kind} {i}")
    return tmp_path


REVIEW = "aclImdb/test/pos/3_7.txt"


def ids(tokenizer, content):
    return tokenizer(content, add_special_tokens=False)["input_ids"]


def decoded(data, part):
    return [data.tokenizer.decode(piece) for piece in np.split(part.ids, part.ends)[:-1]]


# Documents

TEXT = "é \n a\n\n\x85\u2028 c\x0b\x1c d \u3042\U0001f600\n last one \n"
CONVENTIONS = {  # of the same text: how it is saved, and what is said of it
    "as it should be": (TEXT.encode(), ""),
    "CRLF": (TEXT.replace("\n", "\r\n").encode(), "CRLF line ends"),
    "CR": (TEXT.replace("\n", "\r").encode(), "CR line ends"),
    "mixed": (TEXT.replace("\n", "\r\n", 1)[:-1].encode() + b"\r", "CR line ends, CRLF line ends"),
    "no last newline": (TEXT[:-1].encode(), "no newline at the end"),
    "UTF-8 with a mark": (TEXT.encode("utf-8-sig"), "byte-order mark"),
    "UTF-16": (TEXT.encode("utf-16"), "UTF-16"),
    "UTF-16, the other order": (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-32, CRLF": (TEXT.replace("\n", "\r\n").encode("utf-32"), "CRLF line ends, UTF-32"),
}


@pytest.mark.parametrize("how", CONVENTIONS)
def test_however_a_text_is_saved_its_documents_are_the_same(tmp_path, how):
    content, said = CONVENTIONS[how]
    (file := tmp_path / "a.txt").write_bytes(content)
    lines = Documents((str(file),))
    assert list(lines) == list(lines) == [f"{line}\n" for line in TEXT.split("\n")[:-1]]
    assert ", ".join(sorted(lines.changes)) == said
    whole = Documents((str(file),) * 2, by_line=False)
    assert list(whole) == [TEXT[:-1]] * 2
    assert bool(whole.changes) == (how != "no last newline")  # as reviews should be


WRONG = {
    b"": "is blank",
    b"\xef\xbb\xbf": "is blank",
    b" \r\n\t\n": "is blank",
    "\n ".encode("utf-16"): "is blank",
    b"a\0b": r"is not UTF-8 text: a NUL character at byte 1",
    b"good\ncaf\xe9\n": r"is not UTF-8 text: .* at byte",
    "no mark".encode("utf-16-le"): r"a NUL character at byte 1",
    gzip.compress(b"text", mtime=0): r"is not UTF-8 text: .* at byte 1.* unpack it",
    b"\xff\xfea": r"begins as UTF-16 but is damaged \(truncated data\)",
    b"x" * 3001: r"more than 2,000 characters follow each other without a single blank",
    b"x y " * 2500: r"has 9,000 characters or more: break it into lines",
}


@pytest.mark.parametrize("content", WRONG)
def test_what_is_no_text_or_too_long_is_named(mine, reviews, monkeypatch, content):
    monkeypatch.setattr(text, "PIECE", 1000)
    monkeypatch.setattr(text, "STRETCH", 2000)
    monkeypatch.setattr(text, "LONGEST", 9000)
    (mine / "valid.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"valid\.txt.*{WRONG[content]}"):
        list(read_text_folder(mine).documents["validation"])
    (reviews / REVIEW).write_bytes(content)
    with pytest.raises(DataError, match=rf"pos/3_7\.txt.*{WRONG[content]}"):
        list(read_imdb(reviews).documents["test"])


PLACES = {
    "is missing": lambda path: None,
    "is a folder": Path.mkdir,
    "is a pipe": os.mkfifo,
    "is a link": lambda path: path.symlink_to("nowhere"),
    "is a link to": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("said", PLACES)
def test_what_stands_in_the_place_of_a_file_is_named(mine, reviews, said):
    for path in (mine / "valid.txt", reviews / REVIEW):
        path.unlink()
        PLACES[said](path)
    with pytest.raises(DataError, match=rf"valid\.txt {said}.*: expected train\.txt, valid\.txt"):
        read_text_folder(mine)
    if said != "is missing":
        with pytest.raises(DataError, match=rf"3_7\.txt {said}"):
            read_imdb(reviews)


# Published corpora


@pytest.mark.parametrize("name, file", [("wikitext2", WIKITEXT2), ("ptb", PTB[0]), ("imdb", IMDB)])
def test_an_absent_corpus_says_which_files_and_where_to_get_them(tmp_path, name, file):
    with pytest.raises(DataError) as error:
        load_text(name, data_dir=tmp_path, download=False)
    assert len(file.urls) == 2
    for part in (file.name, str(tmp_path), file.hash, *file.urls, *dict(file.members)):
        assert part in str(error.value)
    assert not list(tmp_path.iterdir())


def test_only_absent_files_come_from_the_archive(tmp_path, monkeypatch):
    contents = {name: f"official {name}\n".encode() for name, _ in WIKITEXT2.members}
    with zipfile.ZipFile(tmp_path / WIKITEXT2.name, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    packed = hashlib.md5((tmp_path / WIKITEXT2.name).read_bytes()).hexdigest()
    members = tuple((n, f"sha1:{hashlib.sha1(c).hexdigest()}") for n, c in contents.items())
    fake = dataclasses.replace(WIKITEXT2, hash=f"md5:{packed}", members=members)
    monkeypatch.setitem(text.LINES, "wikitext2", ("", [fake]))
    own = tmp_path / "wikitext-2" / "wiki.train.tokens"
    own.parent.mkdir()
    own.write_text("mine\n")
    corpus = read_lines("wikitext2", tmp_path, download=False)
    assert list(corpus.documents["train"]) == ["mine\n"]
    assert list(corpus.documents["test"]) == ["official wikitext-2/wiki.test.tokens\n"]
    assert corpus.source == "files of your own: wiki.train.tokens differs from the official one"
    own.unlink()
    assert read_lines("wikitext2", tmp_path, download=False).source == "the official files"


def test_reviews_come_in_one_fixed_stratified_order(reviews):
    corpus = read_imdb(reviews)
    assert corpus.classes == ("neg", "pos") and corpus.marks_ends
    assert corpus.source == "files of your own: 60 + 40 reviews of aclImdb instead of 25,000 each"
    documents = {part: list(found) for part, found in corpus.documents.items()}
    assert {part: len(found) for part, found in documents.items()} == {
        "train": 54, "validation": 6, "test": 40,
    }  # fmt: skip
    seen = documents["validation"] + documents["train"]  # one order, cut in two
    assert len(set(seen)) == 60 and all(review.startswith("train") for review in seen)
    for part, found in documents.items():
        assert corpus.labels[part].tolist() == ["pos" in review for review in found]
    whole = np.concatenate([corpus.labels["validation"], corpus.labels["train"]])
    for labels in (whole, corpus.labels["test"]):
        assert np.abs(np.cumsum(2 * labels - 1)).max() <= 1
        assert not np.array_equal(labels, np.arange(len(labels)) % 2)  # ties at random
    assert list(read_imdb(reviews).documents["test"]) == documents["test"]
    for path in (reviews / "aclImdb/train/pos").iterdir():
        path.rename(path.with_suffix(".text"))
    with pytest.raises(DataError, match=r"aclImdb/train/pos, got 0"):
        read_imdb(reviews)


# load_text


def test_every_part_decodes_to_its_file(mine):
    data = load_text(mine, vocabulary=300)
    for part, file in ((data.train, "train"), (data.validation, "valid"), (data.test, "test")):
        content = (mine / f"{file}.txt").read_text(encoding="utf-8")
        assert decoded(data, part) == content.splitlines(keepends=True)
        assert part.word_count == len(content.split()) + part.documents
    assert (data.name, data.source, data.classes) == ("mine", "text folder", ())
    assert data.train.labels is None
    assert repr(data) == (
        f"TextData('mine': vocabulary {len(data.tokenizer)}; {len(data.train):,} train, "
        f"{len(data.validation):,} validation, {len(data.test):,} test tokens; text folder; "
        f"sha256 {data.sha256[:12]})"
    )


def test_the_tokenizer_sees_the_training_part_only(mine):
    (mine / "test.txt").write_text("zzyzx " * 500)
    trained = train_tokenizer((mine / "train.txt").read_text().splitlines(True), 300)
    assert load_text(mine, vocabulary=300).tokenizer.get_vocab() == trained.get_vocab()


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


def test_changed_files_are_read_anew(mine):
    before = load_text(mine, vocabulary=300)
    file = mine / "valid.txt"
    file.write_bytes(file.read_bytes().replace(b"bell", b"BELL"))  # of the same size
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
    after = load_text(mine, vocabulary=300)
    assert after.sha256 != before.sha256
    assert "BELL" in "".join(decoded(after, after.validation))


def test_line_ends_and_encodings_change_no_token_and_are_told(mine):
    before = load_text(mine, vocabulary=300)
    for part, encoding in (("train", "utf-8"), ("valid", "utf-16")):
        content = (mine / f"{part}.txt").read_text(encoding="utf-8")
        (mine / f"{part}.txt").write_bytes(content.replace("\n", "\r\n").encode(encoding))
    for _ in range(2):  # read, and from the cache
        after = load_text(mine, vocabulary=300)
        assert after.sha256 == before.sha256
        assert after.source == (
            "text folder; normalised on reading: train (CRLF line ends); "
            "validation (CRLF line ends, UTF-16)"
        )


def test_a_damaged_cache_is_built_again(mine, cache):
    before = load_text(mine, vocabulary=300)
    (damaged,) = cache.iterdir()
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="is damaged"):
        assert load_text(mine, vocabulary=300).sha256 == before.sha256
    assert load_text(mine, vocabulary=300).sha256 == before.sha256  # no warning: an error in tests


def test_a_cache_folder_that_cannot_be_written_is_named(mine, cache):
    cache.parent.touch()
    with pytest.raises(DataError, match="QRKD_CACHE_DIR"):
        load_text(mine, vocabulary=300)


def test_a_tokenizer_of_your_own(mine):
    own = train_tokenizer(["other text, other pairs"] * 5, 280)
    data = load_text(mine, tokenizer=own)
    assert data.tokenizer is own
    assert "".join(decoded(data, data.train)) == (mine / "train.txt").read_text()
    other = train_tokenizer(["the bell is singing"] * 5, 280)
    assert load_text(mine, tokenizer=other).sha256 != data.sha256
    with pytest.raises(TypeError, match="fast tokenizers"):
        load_text(mine, tokenizer=str)


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


def test_mistakes_are_told(mine):
    with pytest.raises(ValueError, match=r"one of wikitext2, ptb, imdb or a folder .*'wikitext'"):
        load_text("wikitext")
    with pytest.raises(ValueError, match="at least 257"):
        load_text(mine, vocabulary=100)


# Tokens


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


@given(st.text(st.sampled_from("ab é\n\t\u3000'1,.")))
@settings(max_examples=80, deadline=None)
def test_long_documents_are_encoded_in_pieces_with_the_same_tokens(small, content):
    with pytest.MonkeyPatch.context() as patch:
        whole = encode([content, "x", content], small, small.eos_token_id)
        learnt = train_tokenizer([content], 262).get_vocab()
        patch.setattr(text, "PIECE", 5)
        patch.setattr(text, "CHARACTERS", 12)
        parts = encode([content, "x", content], small, small.eos_token_id)
        assert train_tokenizer([content], 262).get_vocab() == learnt
    for name, array in vars(whole).items():
        assert np.array_equal(array, getattr(parts, name)), name


def test_pieces_are_short_and_make_up_the_text(monkeypatch):
    monkeypatch.setattr(text, "PIECE", 5)
    monkeypatch.setattr(text, "STRETCH", 9)
    assert list(pieces("a bc  def ghijklm\n")) == ["a bc  def", " ghijklm\n"]
    assert list(pieces("")) == [""]
    with pytest.raises(ValueError, match="more than 9 characters follow each other"):
        list(pieces("ab " + 12 * "c" + " d"))


def test_a_large_vocabulary_gets_wider_numbers():
    tokenizer = train_tokenizer(LINES, 260)
    tokenizer.add_tokens([f"<{i}>" for i in range(1 << 16)])
    found = encode([f"a<{(1 << 16) - 1}>"], tokenizer)
    assert found.ids.dtype == np.uint32 and found.ids[-1] == len(tokenizer) - 1 > (1 << 16)


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


# The tokenizer


def test_one_special_token_and_the_vocabulary_asked_for(small):
    assert len(small) == 270 and small.all_special_tokens == [END]
    assert small.bos_token == small.eos_token == small.pad_token == END
    assert ids(small, f"a{END}b") == [*ids(small, "a"), small.eos_token_id, *ids(small, "b")]
    assert small.convert_ids_to_tokens(ids(small, "the of the")) == ["the", "Ġof", "Ġthe"]
    assert len(train_tokenizer(["ab"], 2048)) == 258  # all there is to merge
    with pytest.raises(ValueError, match="at least 257 .* got 256"):
        train_tokenizer(LINES, 256)


@settings(max_examples=80, deadline=None)
@given(st.one_of(st.just(HARD), st.text(), st.text(st.sampled_from(HARD))))
def test_tokens_decode_to_the_text(small, content):
    assert small.decode(ids(small, content)) == content


def test_the_same_documents_give_the_same_tokenizer(small):
    code = (
        "from qrkd_lab.data.text import *; "
        f"print(tokenizer_digest(train_tokenizer({LINES!r}, 270)))"
    )
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-c", code]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == tokenizer_digest(small)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_both_kinds_of_files_give_the_tokenizer_however_saved(small, tmp_path, line_end, encoding):
    whole, pair = tmp_path / "whole", tmp_path / "pair"
    for folder in (whole, pair):
        folder.mkdir()
    small.backend_tokenizer.save(str(whole / "tokenizer.json"))
    small.backend_tokenizer.model.save(str(pair))
    for file in tmp_path.glob("*/*"):
        content = file.read_text(encoding="utf-8")
        file.write_bytes(content.replace("\n", line_end).encode(encoding))
    for found in (
        load_tokenizer(whole), load_tokenizer(str(pair)), load_tokenizer("pair", data_dir=tmp_path)
    ):  # fmt: skip
        assert ids(found, HARD + END) == ids(small, HARD + END)
        assert found.decode(ids(found, HARD)) == HARD
        assert found.eos_token_id == small.eos_token_id


@pytest.mark.parametrize(
    "files, said",
    [
        ({"vocab.json": "{}"}, "tokenizer.json, or vocab.json and merges.txt, in"),
        ({"tokenizer.json": "{"}, "cannot be read"),
        ({"tokenizer.json": '{"version": "1.0"}'}, "cannot be read"),
        (
            {"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\n"},
            r"has no token <\|endoftext\|>",
        ),
    ],
)
def test_a_folder_without_a_whole_tokenizer(tmp_path, files, said):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=said):
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


# Real data


def test_real_gpt2_is_transformers_gpt2():
    folder = real("gpt2", "vocab.json") / "gpt2"
    ours, theirs = load_tokenizer(folder), GPT2Tokenizer.from_pretrained(folder)
    assert len(ours) == len(theirs) == 50_257
    validation = read_lines("ptb", real("ptb"), download=False).documents["validation"]
    for content in (HARD, f"a{END} b", *itertools.islice(validation, 500)):
        assert ids(ours, content) == ids(theirs, content)
        assert ours.decode(ids(ours, content)) == content


def test_real_word_counts():
    for name, folder, words in (
        ("ptb", "ptb", [929_589, 73_760, 82_430]),
        ("wikitext2", "wikitext-2", [2_088_628, 217_646, 245_569]),
    ):
        corpus = read_lines(name, real(folder), download=False)
        found = [sum(len(d.split()) + 1 for d in part) for part in corpus.documents.values()]
        assert found == words
        assert name != "ptb" or corpus.source == "the official files"


def test_real_reviews():
    corpus = read_imdb(real("aclImdb"), download=False)
    assert corpus.source == "25,000 + 25,000 reviews of aclImdb"
    sizes = {part: len(labels) for part, labels in corpus.labels.items()}
    assert sizes == {"train": 22_500, "validation": 2_500, "test": 25_000}
    assert all(2 * labels.sum() == len(labels) for labels in corpus.labels.values())
