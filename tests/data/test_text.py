"""Text corpora: encoded once, kept under what decides their content, and built again if damaged."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qrkd_lab.data import DataError, TextData, Tokens, load_text, text
from qrkd_lab.data.text import train_tokenizer


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A folder of seeded nonsense."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "mine"
    folder.mkdir()
    words = ["bell", "ring", "singing", "the", "a", "of", ",", "kingdom", "é", "\t"]
    for part, lines in (("train", 200), ("valid", 20), ("test", 30)):
        drawn = [" ".join(rng.choice(words, rng.integers(0, 12))) + "\n" for _ in range(lines)]
        (folder / f"{part}.txt").write_text("".join(drawn), encoding="utf-8")
    return folder


def decoded(data: TextData, part: Tokens) -> list[str]:
    return [data.tokenizer.decode(piece) for piece in np.split(part.ids, part.ends)[:-1]]


def test_every_part_decodes_to_its_file(mine: Path) -> None:
    data = load_text(mine, vocabulary=300)
    for part, file in ((data.train, "train"), (data.validation, "valid"), (data.test, "test")):
        content = (mine / f"{file}.txt").read_text(encoding="utf-8")
        assert decoded(data, part) == content.splitlines(keepends=True)
        assert part.word_count == len(content.split()) + part.documents
    assert (data.name, data.source, data.classes) == ("mine", "text folder", ())
    assert data.train.labels is None
    assert len(data.tokenizer) <= 300
    assert repr(data) == (
        f"TextData('mine': vocabulary {len(data.tokenizer)}; {len(data.train):,} train, "
        f"{len(data.validation):,} validation, {len(data.test):,} test tokens; text folder; "
        f"sha256 {data.sha256[:12]})"
    )


def test_the_tokenizer_sees_the_training_part_only(mine: Path) -> None:
    (mine / "test.txt").write_text("zzyzx " * 500)
    trained = train_tokenizer((mine / "train.txt").read_text().splitlines(True), 300)
    assert load_text(mine, vocabulary=300).tokenizer.get_vocab() == trained.get_vocab()


def test_a_second_load_encodes_nothing(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_text(mine, vocabulary=300)
    monkeypatch.setattr(text, "encode", None)
    monkeypatch.setattr(text, "train_tokenizer", None)
    again = load_text(str(mine), vocabulary=300)
    assert again.sha256 == first.sha256 and np.array_equal(again.train.ids, first.train.ids)
    assert isinstance(again.train.ids, np.memmap) and not again.train.ids.flags.writeable
    assert again.tokenizer.get_vocab() == first.tokenizer.get_vocab()
    with pytest.raises(TypeError, match="not callable"):
        load_text(mine, vocabulary=299)


def test_changed_files_are_read_anew(mine: Path) -> None:
    before = load_text(mine, vocabulary=300)
    file = mine / "valid.txt"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"bell", b"BELL"))  # of the same size
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 10**9))
    after = load_text(mine, vocabulary=300)
    assert after.sha256 != before.sha256
    assert "BELL" in "".join(decoded(after, after.validation))


def test_equal_text_has_an_equal_fingerprint_wherever_it_lies(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other place"
    shutil.copytree(mine, other)
    assert load_text(mine, vocabulary=300).sha256 == load_text(other, vocabulary=300).sha256


def test_line_ends_and_encodings_change_no_token_and_are_told(mine: Path) -> None:
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


@pytest.mark.parametrize("file", ["tokenizer.json", "train.ids.npy"])
def test_a_damaged_cache_is_built_again(mine: Path, cache: Path, file: str) -> None:
    before = load_text(mine, vocabulary=300)
    (damaged,) = cache.glob(f"text/*/{file}")
    damaged.write_bytes(damaged.read_bytes()[:-5])
    with pytest.warns(UserWarning, match="damaged; encoding the text again"):
        assert load_text(mine, vocabulary=300).sha256 == before.sha256
    assert load_text(mine, vocabulary=300).sha256 == before.sha256  # no warning: an error in tests


def test_a_tokenizer_of_your_own(mine: Path) -> None:
    own = train_tokenizer(["other text, other pairs"] * 5, 280)
    data = load_text(mine, tokenizer=own)
    assert data.tokenizer is own
    assert "".join(decoded(data, data.train)) == (mine / "train.txt").read_text()
    other = train_tokenizer(["the bell is singing"] * 5, 280)
    assert load_text(mine, tokenizer=other).sha256 != data.sha256
    with pytest.raises(TypeError, match="fast tokenizers"):
        load_text(mine, tokenizer=str)


def write_reviews(root: Path) -> None:
    for part in ("train", "test"):
        for kind in ("neg", "pos"):
            (root / "aclImdb" / part / kind).mkdir(parents=True)
            for i in range(10):
                place = root / "aclImdb" / part / kind / f"{i}_1.txt"
                place.write_text(f"a {kind} review, number {i}")


def test_reviews_end_with_the_end_of_text_and_keep_their_labels(tmp_path: Path) -> None:
    write_reviews(tmp_path)
    data = load_text("imdb", data_dir=tmp_path, vocabulary=270, download=False)
    assert data.classes == ("neg", "pos") and "2 classes" in repr(data)
    assert [p.documents for p in (data.train, data.validation, data.test)] == [18, 2, 20]
    for part in (data.train, data.validation, data.test):
        texts = decoded(data, part)
        assert all(t.endswith("<|endoftext|>") and t.count("<|") == 1 for t in texts)
        assert part.labels.tolist() == [t.startswith("a pos") for t in texts]
        assert part.words.tolist() == [6] * part.documents
    endless = train_tokenizer(["a"], 257)
    endless.eos_token = None
    with pytest.raises(ValueError, match="imdb needs a tokenizer with an end-of-text token"):
        load_text("imdb", data_dir=tmp_path, tokenizer=endless, download=False)


def test_mistakes_are_told(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one of wikitext2, ptb, imdb or a folder .*'wikitext'"):
        load_text("wikitext")
    with pytest.raises(ValueError, match="at least 257"):
        load_text(mine, vocabulary=100)
    with pytest.raises(DataError, match=r"ptb\.train\.txt is not in"):
        load_text("ptb", data_dir=tmp_path, download=False)


def test_a_cache_folder_that_cannot_be_written_is_named(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(DataError, match="QRKD_CACHE_DIR"):
        load_text(mine, vocabulary=300)


def test_two_processes_at_once(mine: Path, cache: Path) -> None:
    code = (
        f"from qrkd_lab.data import load_text; d = load_text({str(mine)!r}, vocabulary=300);"
        "print(d.sha256, int(d.train.ids.sum()))"
    )
    command = [sys.executable, "-c", code]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = {racer.communicate(timeout=100)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0, 0]
    data = load_text(mine, vocabulary=300)
    assert said == {f"{data.sha256} {int(data.train.ids.sum())}\n"}
    assert len(list((cache / "text").iterdir())) == 1


def test_real_treebank() -> None:
    folder = os.environ.get("QRKD_DATA_DIR")
    if not folder or not Path(folder, "ptb").is_dir():
        pytest.skip("needs ptb in $QRKD_DATA_DIR, which is not set or lacks it")
    data = load_text("ptb", download=False)
    parts = (data.train, data.validation, data.test)
    assert [part.word_count for part in parts] == [929_589, 73_760, 82_430]
    assert [part.documents for part in parts] == [42_068, 3_370, 3_761]
    assert len(data.tokenizer) == 2048 and data.source == "the official files"
    content = Path(folder, "ptb", "ptb.test.txt").read_text(encoding="utf-8")
    assert data.tokenizer.decode(data.test.ids) == content
