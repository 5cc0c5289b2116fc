"""Image data sets: splits, fingerprints, MNIST and CIFAR-10, folders, a cache that is checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import shutil
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from qrkd_lab.data import DataError, load_images
from qrkd_lab.data import images as module
from qrkd_lab.data.images import fingerprint, read_folder, stratified_order

MNIST_SHA256 = "f04fcaa53deb8f3b6d018bbaba649b5d9ccf505776988bf17ceff0e8419d2360"
DIGITS_SHA256 = "92af1e2f35be7734d8d6f48515d11074b2f4d625cca7f516b167a8c1ea6395e1"


@pytest.fixture(autouse=True)
def cache(request, tmp_path, monkeypatch):
    """A cache of decoded images for each test; the real data keep theirs."""
    if not request.node.name.startswith("test_real"):
        monkeypatch.setenv("QRKD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "folders"


def rows(images):
    """Each image as bytes, to compare sets of images."""
    return [row.numpy().tobytes() for row in images.pixels]


def test_the_stratified_order_is_a_shuffle_whose_stretches_have_the_classes_in_proportion():
    labels = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)
    order = stratified_order(labels)
    assert sorted(order.tolist()) == list(range(1000))
    for start, end in ((0, 10), (0, 37), (333, 933)):
        counts = torch.bincount(labels[order[start:end]], minlength=3)
        due = torch.tensor([0.6, 0.3, 0.1]) * (end - start)
        assert (counts - due).abs().max() <= 1.5, (start, end)
    assert torch.equal(order, stratified_order(labels))
    assert not torch.equal(order, stratified_order(labels, seed=1))
    ten = torch.arange(500) % 10
    assert ten[stratified_order(ten)[:10]].tolist() != list(range(10))  # ties at random


@pytest.fixture(scope="module")
def digits():
    return load_images("digits")


def test_digits_have_their_sizes_and_scikit_learns_pixels(digits):
    from sklearn.datasets import load_digits

    assert [len(p) for p in (digits.train, digits.validation, digits.test)] == [1100, 297, 400]
    assert digits.image_shape == (1, 8, 8)
    assert digits.classes == tuple("0123456789")
    expected = [(i * 255 / 16).round().astype("uint8").tobytes() for i in load_digits().images]
    got = rows(digits.train) + rows(digits.validation) + rows(digits.test)
    assert sorted(got) == sorted(expected)  # nothing lost, nothing twice
    assert digits.train.pixels.max() == 255
    assert digits.sha256 == DIGITS_SHA256


def test_sizes_take_nested_samples_and_leave_the_other_parts(digits):
    small, medium = (load_images("digits", train_size=n) for n in (50, 200))
    assert len(small.train) == 50 and torch.bincount(small.train.labels).tolist() == [5] * 10
    assert set(rows(small.train)) <= set(rows(medium.train)) <= set(rows(digits.train))
    for part in ("validation", "test"):
        assert torch.equal(getattr(small, part).pixels, getattr(digits, part).pixels)
    assert small.sha256 != digits.sha256 and small.mean != digits.mean
    none, many = (load_images("digits", validation_size=n) for n in (0, 1000))
    assert [len(none.validation), len(none.train)] == [0, 1397]
    assert [len(many.validation), len(many.train)] == [1000, 397]
    assert sorted(rows(many.train) + rows(many.validation)) == sorted(rows(none.train))
    for sizes, said in (
        ({"validation_size": 1397}, r"validation_size must be from 0 to 1,396.* got 1,397"),
        ({"train_size": 0}, r"train_size must be from 1 to 1,100"),
        ({"train_size": 1300, "validation_size": 100}, r"from 1 to 1,297.* 100 are for valid"),
    ):
        with pytest.raises(ValueError, match=said):
            load_images("digits", **sizes)


def test_normalise_is_the_printed_formula_with_mean_and_std_of_the_training_part(digits):
    pixels = digits.train.pixels
    before, unit = pixels.clone(), pixels.double() / 255
    mean, std = unit.mean(dim=(0, 2, 3)), unit.std(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(torch.tensor(digits.mean).double(), mean)
    torch.testing.assert_close(torch.tensor(digits.std).double(), std)
    torch.testing.assert_close(digits.normalise(pixels), ((unit - mean) / std).float())
    assert torch.equal(pixels, before)
    with pytest.raises(TypeError, match="uint8"):
        digits.normalise(digits.normalise(digits.test.pixels))


def test_absent_data_say_where_they_belong_and_where_to_get_them(tmp_path):
    with pytest.raises(ValueError, match=r"digits, mnist, cifar10 or a folder .* got 'minst'"):
        load_images("minst")
    for name, folder, url in (
        ("mnist", tmp_path / "MNIST" / "raw", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        ("cifar10", tmp_path, "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"),
    ):
        with pytest.raises(DataError) as caught:
            load_images(name, data_dir=tmp_path, download=False)
        for needed in (str(folder), url, "QRKD_DATA_DIR"):
            assert needed in str(caught.value), name


def test_real_mnist(real):
    real("MNIST")
    data = load_images("mnist", download=False)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [55000, 5000, 10000]
    assert data.image_shape == (1, 28, 28)
    assert data.source == "official IDX files"
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as published
    both = torch.cat([data.train.labels, data.validation.labels])
    assert torch.bincount(both).tolist() == counts
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]  # the published order
    assert data.sha256 == MNIST_SHA256
    assert abs(data.mean[0] - 0.1307) < 2e-4 and abs(data.std[0] - 0.3081) < 2e-4


def test_real_cifar10(real):
    folder = real()
    if not any((folder / name).is_dir() for name in ("cifar-10-batches-py", "cifar10")):
        real("cifar10_jpeg")
    data = load_images("cifar10", download=False)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [45000, 5000, 10000]
    assert data.image_shape == (3, 32, 32)
    for part in (data.train, data.validation, data.test):
        assert torch.bincount(part.labels).tolist() == [len(part) // 10] * 10
    assert data.classes[3] == "cat"
    official = (folder / "cifar-10-batches-py").is_dir()
    assert ("not the official pixels" in data.source) != official
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the official pixels
    torch.testing.assert_close(data.mean, mean, atol=0.005, rtol=0)
    torch.testing.assert_close(data.std, std, atol=0.005, rtol=0)


TRAIN, TEST = 60, 20  # tiny sets; the real sizes are tested where the real data are


def md5(content):
    return hashlib.md5(content).hexdigest()


def idx(values):
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def mnist(tmp_path, monkeypatch):
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
        files.append((f"{name}.gz", md5(packed)))
        monkeypatch.setitem(module.MNIST_UNPACKED, name, md5(plain))
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", files)
    return arrays


def test_mnist_is_read_from_idx_files(tmp_path, mnist):
    data = load_images("mnist", data_dir=tmp_path, validation_size=10)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [50, 10, 20]
    assert np.array_equal(data.test.pixels[:, 0].numpy(), mnist["t10k-images-idx3-ubyte"])
    assert data.test.labels.tolist() == mnist["t10k-labels-idx1-ubyte"].tolist()
    train = module.read_mnist(tmp_path).train
    assert np.array_equal(train.pixels[:, 0].numpy(), mnist["train-images-idx3-ubyte"])
    path = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    raw = bytearray(path.read_bytes())
    raw[500] ^= 1
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte is damaged .* Delete it"):
        load_images("mnist", data_dir=tmp_path)
    assert path.read_bytes() == raw


@pytest.fixture
def cifar(monkeypatch):
    """Member files of a tiny CIFAR-10, with their hashes in place of the published ones."""
    rng, theirs = np.random.default_rng(1), torchvision.datasets.CIFAR10
    batches = {}
    for name in [*(name for name, _ in theirs.train_list), "test_batch"]:
        data = rng.integers(0, 256, (20, 3072), dtype=np.uint8)
        batch = {"data": data, "labels": [i % 10 for i in range(20)]}
        batches[name] = pickle.dumps(batch, protocol=2)
    names = pickle.dumps({"label_names": list(module.CIFAR10_CLASSES)}, protocol=2)
    hashed = [[name, md5(content)] for name, content in batches.items()]
    monkeypatch.setattr(theirs, "train_list", hashed[:-1])
    monkeypatch.setattr(theirs, "test_list", hashed[-1:])
    monkeypatch.setattr(theirs, "meta", theirs.meta | {"md5": md5(names)})
    files = batches | {"batches.meta": names}
    return {f"cifar-10-batches-py/{name}": content for name, content in files.items()}


def lay_out(root, contents):
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def test_cifar10_is_read_from_its_batches_rather_than_from_a_copy(tmp_path, cifar):
    lay_out(tmp_path, cifar)
    copy_as_images(tmp_path / "cifar10_jpeg", module.CIFAR10_CLASSES)
    data = load_images("cifar10", data_dir=tmp_path, validation_size=10)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [90, 10, 20]
    assert data.source == "official Python batches" and data.classes == module.CIFAR10_CLASSES
    for part, name in (("test", "test_batch"), ("train", "data_batch_1")):
        raw = pickle.loads(cifar[f"cifar-10-batches-py/{name}"])
        images = getattr(module.read_cifar10(tmp_path), part)[:20]
        assert np.array_equal(images.pixels.numpy(), raw["data"].reshape(20, 3, 32, 32))
        assert images.labels.tolist() == raw["labels"]


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_another_hash_is_not_even_opened(tmp_path, cifar):
    evil = pickle.dumps({"data": Evil(tmp_path / "ran"), "labels": []}, protocol=2)
    for name in ("data_batch_2", "batches.meta"):
        lay_out(tmp_path, cifar | {f"cifar-10-batches-py/{name}": evil})
        with pytest.raises(DataError, match="batches-py is damaged .* Delete it"):
            load_images("cifar10", data_dir=tmp_path, download=False)
        assert not (tmp_path / "ran").exists()
    pickle.loads(evil)  # the same bytes do run where nothing checks them
    assert (tmp_path / "ran").exists()


def copy_as_images(root, classes):
    build(root, classes, size=(32, 32), suffix=".jpg", train=10, test=2)


@pytest.mark.parametrize("place", module.CIFAR10_COPIES)
def test_a_copy_serves_and_says_that_it_is_none(tmp_path, place):
    copy_as_images(tmp_path / place, module.CIFAR10_CLASSES)
    data = load_images("cifar10", data_dir=tmp_path, download=False)
    assert (data.name, data.source) == ("cifar10", "JPEG folder copy, not the official pixels")
    assert data.classes == module.CIFAR10_CLASSES
    assert [len(p) for p in (data.train, data.validation, data.test)] == [90, 10, 20]
    copy_as_images(tmp_path / "other" / place, ("a", "b"))
    with pytest.raises(DataError, match="is not a copy of CIFAR-10"):
        load_images("cifar10", data_dir=tmp_path / "other")


def build(root, classes=("ant", "bee"), size=(5, 7), channels=3, suffix=".png", train=20, test=3):
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


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_labels_and_classes_are_those_of_the_files(tmp_path, channels):
    root = build(tmp_path / "mine", channels=channels)
    parts = read_folder(root)
    assert (parts.classes, parts.source) == (("ant", "bee"), "PNG folder")
    assert parts.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(parts.train) == 40
    for index, path in ((0, "train/ant/000.png"), (39, "train/bee/019.png")):
        with Image.open(root / path) as image:
            expected = np.asarray(image).reshape(5, 7, channels).transpose(2, 0, 1)
        assert np.array_equal(parts.train.pixels[index].numpy(), expected)


def test_load_images_takes_a_path_and_suffixes_in_capitals_but_no_hidden_files(tmp_path):
    root = build(tmp_path / "insects", suffix=".jpeg")
    (root / "train" / "ant" / "000.jpeg").rename(root / "train" / "ant" / "000.JPEG")
    for extra in (".hidden.png", "notes.txt"):
        (root / "train" / "ant" / extra).write_text("x")
    (root / "train" / ".checkpoints").mkdir()
    (root / "train" / "bee" / "more").mkdir()  # as ImageFolder has it, of the class bee
    (root / "train" / "bee" / "001.jpeg").rename(root / "train" / "bee" / "more" / "001.jpeg")
    data = load_images(root)
    assert (data.name, data.source) == ("insects", "JPEG folder")
    assert [len(p) for p in (data.train, data.validation, data.test)] == [36, 4, 6]
    assert torch.bincount(data.validation.labels).tolist() == [2, 2]
    assert load_images(str(root), train_size=10).train.pixels.shape == (10, 3, 5, 7)


def test_the_second_reading_decodes_nothing_and_gives_the_same(tmp_path, cache, monkeypatch):
    root = build(tmp_path / "mine")
    first = read_folder(root)
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(module, "_decoded", lambda *_: pytest.fail("decoded again"))
    second = read_folder(root)
    assert fingerprint(second.train, second.test) == fingerprint(first.train, first.test)
    assert (second.classes, second.source) == (first.classes, first.source)


@pytest.mark.parametrize("change", ["time", "added"])
def test_a_changed_folder_is_read_anew(tmp_path, change):
    root = build(tmp_path / "mine")
    before = read_folder(root)
    path, black = root / "train" / "ant" / "000.png", Image.new("RGB", (7, 5))
    stat = path.stat()
    black.save(path.with_name("0.png") if change == "added" else path)
    path.write_bytes(path.read_bytes().ljust(stat.st_size, b"\0"))  # of the same size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + (change == "time")))
    after = read_folder(root)
    assert len(after.train) == 40 + (change == "added")
    assert not torch.equal(before.train.pixels, after.train.pixels[:40])


def test_a_cache_that_cannot_be_written_costs_a_warning_only(tmp_path, cache):
    root = build(tmp_path / "mine")
    for path in root.glob("train/*/*"):
        save(path, "RGB")
    cache.parent.write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match="cannot be written .*QRKD_CACHE_DIR"):
        assert len(read_folder(root).train) == 40
        with pytest.raises(DataError, match="All training pixels of a channel are equal"):
            load_images(root)


def save(path, mode, size=(7, 5)):
    Image.new(mode, size).save(path)


def instead(path):
    path.unlink()
    return path


def test_images_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    free = SimpleNamespace(available=3 * 46 * 3 * 5 * 7 - 1)
    monkeypatch.setattr("psutil.virtual_memory", lambda: free)
    with pytest.raises(DataError, match="The 46 images like .*000.png, 5 x 7 RGB, need .* GB"):
        read_folder(build(tmp_path / "mine"))


def in_both(root, act):
    for part in ("train", "test"):
        act(root / part)


BEE = "train/bee/004.png"
BREAKS = {  # what the error says: what was done to a folder
    r"bee/004.png is 5 x 6 RGB": lambda r: save(r / BEE, "RGB", (6, 5)),
    r"bee/004.png is 5 x 7 grey, .*000.png is 5 x 7 RGB": lambda r: save(r / BEE, "L"),
    "bee/004.png has Pillow's mode 'RGBA'": lambda r: save(r / BEE, "RGBA"),
    "bee/004.png has Pillow's mode 'I;16'": lambda r: save(r / BEE, "I;16"),
    "bee/004.png cannot .*Replace": lambda r: (r / BEE).write_bytes((r / BEE).read_bytes()[:-40]),
    "no valid file for the classes cat": lambda r: in_both(r, lambda part: (part / "cat").mkdir()),
    "train: ant; test: ant": lambda r: in_both(r, lambda part: shutil.rmtree(part / "bee")),
    "train: ant, bee; test: none": lambda r: (r / "test").rename(r / "tests"),
    "listed.*bee/004.png": lambda r: instead(r / BEE).symlink_to("nowhere"),
}


@pytest.mark.parametrize("message", BREAKS)
def test_errors_name_the_file_and_what_was_expected(tmp_path, cache, message):
    root = build(tmp_path / "mine")
    BREAKS[message](root)
    with pytest.raises(DataError, match=message):
        read_folder(root)
    assert not cache.exists()
