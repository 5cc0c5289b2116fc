"""Folders of images: layout, decoding, errors, and a cache that is never trusted blindly."""

from __future__ import annotations

import os
import shutil
import struct
import threading
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from qrkd_lab.data import DataError, load_images
from qrkd_lab.data import images as folder
from qrkd_lab.data.images import read_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(folder, "_cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def build(
    root: Path,
    classes: tuple[str, ...] = ("ant", "bee"),
    size: tuple[int, int] = (5, 7),
    channels: int = 3,
    suffix: str = ".png",
    train: int = 20,
    test: int = 3,
) -> Path:
    """A folder of seeded noise images; size is (H, W)."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for label in classes:
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (*size, channels), dtype=np.uint8)
                image = Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels)
                image.save(root / part / label / f"{i:03d}{suffix}")
    return root


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pixels_labels_and_classes_are_those_of_the_files(
    tmp_path: Path, channels: int, mode: str
) -> None:
    root = build(tmp_path / "mine", channels=channels)
    parts = read_folder(root)
    assert parts.classes == ("ant", "bee")
    assert parts.source == "PNG folder"
    assert parts.train.pixels.shape == (40, channels, 5, 7)
    assert parts.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    for index, path in ((0, "train/ant/000.png"), (39, "train/bee/019.png")):
        with Image.open(root / path) as image:
            assert image.mode == mode
            expected = np.asarray(image).reshape(5, 7, channels).transpose(2, 0, 1)
        assert np.array_equal(parts.train.pixels[index].numpy(), expected)


def test_load_images_takes_a_path(tmp_path: Path) -> None:
    root = build(tmp_path / "insects", suffix=".jpeg")
    data = load_images(root)
    assert data.name == "insects"
    assert data.source == "JPEG folder"
    assert [len(p) for p in (data.train, data.validation, data.test)] == [36, 4, 6]
    assert torch.bincount(data.validation.labels).tolist() == [2, 2]
    assert load_images(str(root), train_size=10).train.pixels.shape == (10, 3, 5, 7)


def test_suffixes_in_capitals_count_and_hidden_or_other_files_do_not(tmp_path: Path) -> None:
    root = build(tmp_path / "mine")
    (root / "train" / "ant" / "000.png").rename(root / "train" / "ant" / "000.PNG")
    for extra in (".hidden.png", "notes.txt"):
        (root / "train" / "ant" / extra).write_text("x")
    (root / "train" / ".checkpoints").mkdir()
    assert len(read_folder(root).train) == 40


def test_the_second_reading_decodes_nothing_and_gives_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(tmp_path / "mine")
    first = read_folder(root)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(folder, "_decode", lambda *_: pytest.fail("decoded again"))
    second = read_folder(root)
    for part in ("train", "test"):
        assert torch.equal(getattr(first, part).pixels, getattr(second, part).pixels)
        assert torch.equal(getattr(first, part).labels, getattr(second, part).labels)
    assert (second.classes, second.source) == (first.classes, first.source)


@pytest.mark.parametrize("change", ["size", "time", "added", "renamed"])
def test_a_changed_folder_is_read_anew(tmp_path: Path, change: str) -> None:
    root = build(tmp_path / "mine")
    before = read_folder(root)
    path = root / "train" / "ant" / "000.png"
    stat = path.stat()
    if change in ("time", "size"):  # the one changes and the other stays
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(path)
        if change == "time":
            path.write_bytes(path.read_bytes().ljust(stat.st_size, b"\0"))
            assert path.stat().st_size == stat.st_size
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + (change == "time")))
    elif change == "renamed":
        path.rename(path.with_name("zzz.png"))
    else:
        Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(path.with_name("new.png"))
    after = read_folder(root)
    assert len(after.train) == 40 + (change == "added")
    assert not torch.equal(before.train.pixels, after.train.pixels[:40])


@pytest.mark.parametrize("damage", ["truncated", "empty", "noise", "one byte"])
def test_a_damaged_cache_file_is_rebuilt_and_not_trusted(
    tmp_path: Path, cache: Path, damage: str
) -> None:
    root = build(tmp_path / "mine")
    good = read_folder(root)
    (file,) = cache.iterdir()
    raw = bytearray(file.read_bytes())
    if damage == "one byte":
        raw[-1000] ^= 1
    contents = {"truncated": raw[:-99], "empty": b"", "noise": b"\xff" * 500, "one byte": raw}
    file.write_bytes(contents[damage])
    with pytest.warns(UserWarning, match="is damaged .* decoding the images again"):
        again = read_folder(root)
    assert torch.equal(again.train.pixels, good.train.pixels)
    assert torch.equal(read_folder(root).test.pixels, good.test.pixels)  # now without a warning


def test_a_cache_that_cannot_be_written_costs_a_warning_only(tmp_path: Path, cache: Path) -> None:
    root = build(tmp_path / "mine")
    cache.write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert len(read_folder(root).train) == 40


def test_readers_at_once_all_get_the_data_and_leave_one_file(tmp_path: Path, cache: Path) -> None:
    root = build(tmp_path / "mine")
    results: list[object] = []

    def work() -> None:
        try:
            results.append(read_folder(root).train.pixels.sum().item())
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len(set(results)) == 1
    assert [p.suffix for p in cache.iterdir()] == [".safetensors"]


def save(path: Path, mode: str, size: tuple[int, int] = (7, 5)) -> None:
    Image.new(mode, size).save(path)


def instead(path: Path) -> Path:
    path.unlink()
    return path


def animate(path: Path) -> None:
    frames = [Image.new("RGB", (7, 5), colour) for colour in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def deep_png() -> bytes:
    """RGB with 16 bits a channel, 7 x 5, which Pillow reads but does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 7, 5, 16, 2, 0, 0, 0))
    rows = chunk(b"IDAT", zlib.compress(bytes(5 * (1 + 7 * 6))))
    return b"\x89PNG\r\n\x1a\n" + head + rows + chunk(b"IEND", b"")


def test_images_that_do_not_fit_into_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = SimpleNamespace(available=3 * 40 * 3 * 5 * 7 - 1)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    with pytest.raises(DataError, match="The 40 images like .*000.png, 5 x 7 RGB, need .* GB"):
        read_folder(build(tmp_path / "mine"))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda r: save(r / "train/bee/004.png", "RGB", (6, 5)), r"bee/004.png is 5 x 6 RGB"),
        (lambda r: save(r / "train/bee/004.png", "L"), r"000.png is 5 x 7 RGB, .* 5 x 7 grey"),
        (
            lambda r: save(r / "test/ant/000.png", "RGB", (9, 5)),
            "ant/000.png is 5 x 7 RGB, .* 5 x 9",
        ),
        (lambda r: save(r / "train/bee/004.png", "RGBA"), "bee/004.png has Pillow's mode 'RGBA'"),
        (lambda r: save(r / "train/bee/004.png", "P"), "convert"),
        (lambda r: (r / "train/bee/004.png").write_bytes(b"PNG?"), "bee/004.png cannot be read"),
        (lambda r: save(r / "train/bee/004.gif", "L"), r"\.png, \.jpg, \.jpeg.* got 004.gif"),
        (lambda r: (r / "train/cat").mkdir(), "only in one of them: cat"),
        (lambda r: [(r / p / "cat").mkdir() for p in ("train", "test")], "cat, got none"),
        (lambda r: [shutil.rmtree(r / p / "bee") for p in ("train", "test")], "two; got: ant"),
        (
            lambda r: [shutil.rmtree(r / p / k) for p in ("train", "test") for k in ("ant", "bee")],
            "at least two; got: none",
        ),
        (lambda r: (r / "test/bee/more").mkdir(), "test/bee, got the folder more"),
        (lambda r: save(r / "train/loose.png", "RGB"), "class folders in .*train, got loose.png"),
        (lambda r: [(r / p / "cat").symlink_to("nowhere") for p in ("train", "test")], "got cat"),
        (
            lambda r: instead(r / "train/bee/004.png").symlink_to("nowhere"),
            "bee/004.png is a link to nowhere, which is missing",
        ),
        (lambda r: os.mkfifo(instead(r / "test/bee/001.png")), "bee/001.png is a pipe"),
        (lambda r: save(r / "train/bee/004.png", "RGB", (5000, 5000)), "004.png has 5,000 x 5,000"),
        (lambda r: save(r / "train/ant/000.png", "L", (5000, 5000)), "000.png has 5,000 x 5,000"),
        (lambda r: save(r / "train/bee/004.png", "RGB", (4000, 4000)), "004.png is 4000 x 4000"),
        (lambda r: save(r / "train/bee/004.png", "I;16"), "004.png has 16 bits"),
        (lambda r: (r / "train/bee/004.png").write_bytes(deep_png()), "004.png has 16 bits"),
        (lambda r: save(r / "train/bee/004.jpg", "CMYK"), "004.jpg has Pillow's mode 'CMYK'"),
        (lambda r: animate(r / "train/bee/004.png"), "004.png is animated, with 2 frames"),
        (lambda r: (r / "test").rename(r / "tests"), "'train' or 'test' is missing"),
    ],
)
def test_errors_name_the_file_and_what_was_expected(
    tmp_path: Path, cache: Path, break_it: object, message: str
) -> None:
    root = build(tmp_path / "mine")
    break_it(root)
    with pytest.raises(DataError, match=message):
        read_folder(root)
    assert not cache.exists()


def test_a_truncated_image_is_an_error(tmp_path: Path) -> None:
    root = build(tmp_path / "mine", size=(40, 40), suffix=".jpg")
    path = root / "train" / "ant" / "001.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"001.jpg cannot be read"):
        read_folder(root)


def test_images_without_contrast_cannot_be_normalised(tmp_path: Path) -> None:
    root = build(tmp_path / "mine")
    for path in root.glob("train/*/*"):
        save(path, "RGB")
    with pytest.raises(DataError, match="All training pixels of a channel are equal"):
        load_images(root)
