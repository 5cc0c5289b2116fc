"""MNIST and CIFAR-10 in torchvision's layouts, on tiny files; pickles that must not run."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qrkd_lab.data import DataError, RemoteFile, load_images
from qrkd_lab.data import images as folder
from qrkd_lab.data import images as standard

TRAIN, TEST = 60, 20  # tiny sets; the real sizes are tested where the real data are


def md5(content: bytes) -> str:
    return "md5:" + hashlib.md5(content).hexdigest()


def test_hashes_and_addresses_are_torchvisions() -> None:
    torchvision = pytest.importorskip("torchvision.datasets")
    mnist, cifar = torchvision.MNIST, torchvision.CIFAR10
    assert [(f.name, f.hash.removeprefix("md5:")) for f in standard.MNIST_FILES] == mnist.resources
    assert set(mnist.mirrors) <= set(standard.MNIST_MIRRORS)
    archive = standard.CIFAR10_ARCHIVE
    assert (archive.name, archive.hash) == (cifar.filename, f"md5:{cifar.tgz_md5}")
    assert cifar.url in archive.urls
    listed = [*cifar.train_list, *cifar.test_list, [cifar.meta["filename"], cifar.meta["md5"]]]
    expected = [(f"{cifar.base_folder}/{name}", f"md5:{value}") for name, value in listed]
    assert list(archive.members) == expected
    assert len(archive.urls) >= 2 and all(len(f.urls) >= 2 for f in standard.MNIST_FILES)


# ------------------------------------------------------------------ MNIST


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """A tiny MNIST in ``tmp_path``, with its hashes in place of the published ones."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (TRAIN, 28, 28), dtype=np.uint8),
        "train-labels-idx1-ubyte": np.arange(TRAIN, dtype=np.uint8) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (TEST, 28, 28), dtype=np.uint8),
        "t10k-labels-idx1-ubyte": np.arange(TEST, dtype=np.uint8) % 10,
    }
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    files = []
    for name, values in arrays.items():
        plain, packed = idx(values), gzip.compress(idx(values))
        (raw / name).write_bytes(plain)
        files.append(RemoteFile(f"{name}.gz", (), md5(packed), ((name, md5(plain)),)))
    monkeypatch.setattr(standard, "MNIST_FILES", tuple(files))
    return arrays


def test_mnist_is_read_from_idx_files(tmp_path: Path, mnist: dict[str, np.ndarray]) -> None:
    data = load_images("mnist", data_dir=tmp_path, validation_size=10)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [50, 10, 20]
    assert data.image_shape == (1, 28, 28)
    assert np.array_equal(data.test.pixels[:, 0].numpy(), mnist["t10k-images-idx3-ubyte"])
    assert data.test.labels.tolist() == mnist["t10k-labels-idx1-ubyte"].tolist()
    parts = standard.read_mnist(tmp_path)
    assert np.array_equal(parts.train.pixels[:, 0].numpy(), mnist["train-images-idx3-ubyte"])
    assert parts.train.labels.tolist() == mnist["train-labels-idx1-ubyte"].tolist()


def test_torchvision_reads_the_same_idx_files(tmp_path: Path, mnist: dict[str, np.ndarray]) -> None:
    torchvision = pytest.importorskip("torchvision.datasets")
    theirs, ours = torchvision.MNIST(tmp_path, train=True), standard.read_mnist(tmp_path).train
    assert torch.equal(theirs.data, ours.pixels[:, 0])
    assert torch.equal(theirs.targets, ours.labels)


def test_a_changed_mnist_file_is_refused_and_left(
    tmp_path: Path, mnist: dict[str, np.ndarray]
) -> None:
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    raw = bytearray(path.read_bytes())
    raw[500] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is damaged .* Delete it"):
        load_images("mnist", data_dir=tmp_path)
    assert path.read_bytes() == raw


def test_the_variable_leads_to_the_data(
    tmp_path: Path, mnist: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QRKD_DATA_DIR", str(tmp_path))
    assert len(load_images("mnist", validation_size=0).train) == TRAIN


# ------------------------------------------------------------------ CIFAR-10


def python2_batch(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as Python 2 pickled it: byte strings, and arrays through numpy.core.multiarray."""

    def text(content: bytes) -> bytes:
        return b"T" + struct.pack("<I", len(content)) + content  # BINSTRING

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)  # BININT

    dtype = (
        b"cnumpy\ndtype\n(" + text(b"u1") + number(0) + number(1) + b"tR"
        b"(" + number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    )
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n("
        + number(0) + b"t" + text(b"b") + b"tR("
        + number(1) + b"(" + number(data.shape[0]) + number(data.shape[1]) + b"t"
        + dtype + b"\x89" + text(data.tobytes()) + b"tb"
    )  # fmt: skip
    listed = b"](" + b"".join(number(label) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + listed + b"u."


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Member files of a tiny CIFAR-10, with their hashes in place of the published ones."""
    rng = np.random.default_rng(1)
    names = [name for name, _ in standard.CIFAR10_ARCHIVE.members]
    contents = {names[-1]: b"names of the classes"}
    for name in names[:-1]:
        data = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        batch = {"data": data, "labels": [i % 10 for i in range(20)]}
        newer = pickle.dumps(batch, protocol=3)
        contents[name] = newer if "test" in name else python2_batch(**batch)
    install(monkeypatch, contents)
    return contents


def install(monkeypatch: pytest.MonkeyPatch, contents: dict[str, bytes]) -> bytes:
    """Make these files the published ones; gives their archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    members = tuple((name, md5(contents[name])) for name, _ in standard.CIFAR10_ARCHIVE.members)
    archive = RemoteFile("cifar-10-python.tar.gz", (), md5(buffer.getvalue()), members)
    monkeypatch.setattr(standard, "CIFAR10_ARCHIVE", archive)
    return buffer.getvalue()


def lay_out(root: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_cifar10_is_read_from_its_batches(tmp_path: Path, cifar: dict[str, bytes]) -> None:
    lay_out(tmp_path, cifar)
    data = load_images("cifar10", data_dir=tmp_path, validation_size=10)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [90, 10, 20]
    assert data.source == "official Python batches"
    assert data.classes == standard.CIFAR10_CLASSES == tuple(sorted(data.classes))
    raw = pickle.loads(cifar["cifar-10-batches-py/test_batch"])
    assert np.array_equal(data.test.pixels.numpy(), raw["data"].reshape(20, 3, 32, 32))
    assert data.test.labels.tolist() == raw["labels"]
    first = pickle.loads(cifar["cifar-10-batches-py/data_batch_1"], encoding="latin1")
    train = standard.read_cifar10(tmp_path).train
    assert np.array_equal(train.pixels[:20].reshape(20, -1).numpy(), first["data"])


def test_cifar10_is_unpacked_from_an_archive_that_lies_there(
    tmp_path: Path, cifar: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(install(monkeypatch, cifar))
    data = load_images("cifar10", data_dir=tmp_path, validation_size=0, download=False)
    assert len(data.train) == 100
    assert data.source == "official Python batches"


def test_a_batch_with_a_wrong_hash_is_not_even_opened(
    tmp_path: Path, cifar: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path, cifar | {"cifar-10-batches-py/data_batch_2": b"something else"})
    monkeypatch.setattr(standard, "_read_batches", lambda *_: pytest.fail("opened"))
    with pytest.raises(DataError, match=r"data_batch_2 is damaged .* Delete it"):
        load_images("cifar10", data_dir=tmp_path)


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


def test_a_malicious_pickle_is_refused_even_with_the_right_hash(
    tmp_path: Path, cifar: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    evil = pickle.dumps({"data": Evil(mark), "labels": []}, protocol=2)
    contents = cifar | {"cifar-10-batches-py/test_batch": evil}
    install(monkeypatch, contents)
    lay_out(tmp_path, contents)
    with pytest.raises(DataError, match=r"test_batch is not a batch .*mkdir is not allowed"):
        load_images("cifar10", data_dir=tmp_path)
    assert not mark.exists()
    pickle.loads(evil)  # the same bytes do run where nobody guards
    assert mark.exists()


@pytest.mark.parametrize(
    "name", ["builtins\neval", "os\nsystem", "numpy\nload", "numpy\nndarray.tofile"]
)
def test_the_unpickler_knows_nothing_but_arrays(name: str) -> None:
    with pytest.raises(pickle.UnpicklingError, match="is not allowed"):
        standard._ArrayUnpickler(io.BytesIO(f"c{name}\n.".encode())).load()


@pytest.mark.parametrize(
    "batch",
    [
        {"data": np.zeros((2, 3072), np.uint8)},
        {"data": np.zeros((2, 3000), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.float32), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 1, 2]},
        ["data"],
    ],
)
def test_a_batch_of_another_kind_is_an_error(tmp_path: Path, batch: object) -> None:
    path = tmp_path / "batch"
    path.write_bytes(pickle.dumps(batch, protocol=3))
    with pytest.raises(DataError, match="not a batch of CIFAR-10"):
        standard._read_batches([path])


# ------------------------------------------------------------------ a copy as images


def copy_as_images(root: Path, classes: tuple[str, ...], size: int = 32) -> None:
    rng = np.random.default_rng(2)
    for part, count in (("train", 10), ("test", 2)):
        for label in classes:
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / label / f"{i}.jpg")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_cache_folder", lambda: tmp_path / "cache")


@pytest.mark.parametrize("place", standard.CIFAR10_COPIES)
def test_a_copy_serves_and_says_that_it_is_none(tmp_path: Path, cache: None, place: str) -> None:
    copy_as_images(tmp_path / place, standard.CIFAR10_CLASSES)
    data = load_images("cifar10", data_dir=tmp_path, download=False)
    assert data.name == "cifar10"
    assert data.source == "JPEG folder copy, not the official pixels"
    assert data.classes == standard.CIFAR10_CLASSES
    assert [len(p) for p in (data.train, data.validation, data.test)] == [90, 10, 20]


def test_the_official_files_win_over_a_copy(
    tmp_path: Path, cache: None, cifar: dict[str, bytes]
) -> None:
    copy_as_images(tmp_path / "cifar10_jpeg", standard.CIFAR10_CLASSES)
    lay_out(tmp_path, cifar)
    data = load_images("cifar10", data_dir=tmp_path, validation_size=0)
    assert data.source == "official Python batches"


@pytest.mark.parametrize(("classes", "size"), [(("a", "b"), 32), (standard.CIFAR10_CLASSES, 16)])
def test_a_folder_that_is_no_copy_of_cifar10_is_refused(
    tmp_path: Path, cache: None, classes: tuple[str, ...], size: int
) -> None:
    copy_as_images(tmp_path / "cifar10", classes, size)
    with pytest.raises(DataError, match="is not a copy of CIFAR-10"):
        load_images("cifar10", data_dir=tmp_path)
