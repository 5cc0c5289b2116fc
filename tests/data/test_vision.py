"""Image data sets: splits, fingerprints, normalisation, sizes, names."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
import torch

from qrkd_lab.data import DataError, Images, VisionData, load_images
from qrkd_lab.data.images import fingerprint, stratified_order

DATA = os.environ.get("QRKD_DATA_DIR")
MNIST_SHA256 = "f04fcaa53deb8f3b6d018bbaba649b5d9ccf505776988bf17ceff0e8419d2360"
DIGITS_SHA256 = "92af1e2f35be7734d8d6f48515d11074b2f4d625cca7f516b167a8c1ea6395e1"


def need(name: str) -> None:
    if not DATA or not (Path(DATA) / name).is_dir():
        pytest.skip(f"needs {name} in $QRKD_DATA_DIR, which is {DATA or 'not set'}")


def rows(images: Images) -> list[bytes]:
    """Each image as bytes, to compare sets of images."""
    return [row.numpy().tobytes() for row in images.pixels]


def share(labels: torch.Tensor, classes: int) -> torch.Tensor:
    return torch.bincount(labels, minlength=classes) / len(labels)


# ------------------------------------------------------------------ Images and splits


def test_images_refuse_wrong_types_and_shapes() -> None:
    pixels, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    assert len(Images(pixels, labels)) == 3
    assert repr(Images(pixels, labels)) == "Images(3 of 1 x 2 x 2)"
    with pytest.raises(TypeError, match=r"uint8 pixels .* got torch.float32"):
        Images(pixels.float(), labels)
    with pytest.raises(TypeError, match=r"int64 labels, .* torch.int32"):
        Images(pixels, labels.int())
    with pytest.raises(ValueError, match=r"\(n, C, H, W\)"):
        Images(pixels[:, 0], labels)
    with pytest.raises(ValueError, match=r"got \(3, 1, 2, 2\) and \(2,\)"):
        Images(pixels, labels[:2])


def test_images_take_an_index_or_a_slice() -> None:
    images = Images(torch.arange(3, dtype=torch.uint8).view(3, 1, 1, 1), torch.arange(3))
    for part, expected in ((images[torch.tensor([2, 1])], [2, 1]), (images[1:], [1, 2])):
        assert part.pixels.flatten().tolist() == part.labels.tolist() == expected


def test_every_stretch_of_the_stratified_order_has_the_classes_in_proportion() -> None:
    labels = torch.tensor([0] * 600 + [1] * 300 + [2] * 100)
    order = stratified_order(labels)
    assert sorted(order.tolist()) == list(range(1000))
    for start, length in ((0, 10), (0, 37), (100, 50), (333, 600)):
        counts = torch.bincount(labels[order[start : start + length]], minlength=3)
        due = torch.tensor([0.6, 0.3, 0.1]) * length
        assert (counts - due).abs().max() <= 1.5, (start, length)


def test_the_stratified_order_is_shuffled_and_depends_on_the_seed_only() -> None:
    labels = torch.arange(500) % 10
    order = stratified_order(labels)
    assert torch.equal(order, stratified_order(labels))
    assert not torch.equal(order, stratified_order(labels, seed=1))
    assert len(set(labels[order[:10]].tolist())) == 10
    assert order[:10].tolist() != sorted(order[:10].tolist())
    assert labels[order[:10]].tolist() != list(range(10))  # ties in the classes at random too


def test_the_fingerprint_sees_pixels_labels_shape_and_the_cut_between_parts() -> None:
    pixels = torch.arange(24, dtype=torch.uint8).view(6, 1, 2, 2)
    images = Images(pixels, torch.arange(6))
    changed = pixels.clone()
    changed[5, 0, 1, 1] += 1
    values = [
        fingerprint(images),
        fingerprint(Images(changed, images.labels)),
        fingerprint(Images(pixels, images.labels.flip(0))),
        fingerprint(Images(pixels.view(6, 1, 1, 4), images.labels)),
        fingerprint(images[:3], images[3:]),
        fingerprint(images[:2], images[2:]),
    ]
    assert len(set(values)) == len(values)
    transposed = Images(pixels.transpose(2, 3).contiguous().transpose(2, 3), images.labels)
    assert fingerprint(transposed) == values[0]  # memory layout does not matter
    plain = hashlib.sha256(b"(6, 1, 2, 2)" + bytes(range(24)))
    plain.update(b"".join(i.to_bytes(8, "little") for i in range(6)))
    assert values[0] == plain.hexdigest()


# ------------------------------------------------------------------ load_images on digits


@pytest.fixture(scope="module")
def digits() -> VisionData:
    return load_images("digits")


def test_digits_have_their_sizes_and_scikit_learns_pixels(digits: VisionData) -> None:
    from sklearn.datasets import load_digits

    assert [len(p) for p in (digits.train, digits.validation, digits.test)] == [1100, 297, 400]
    assert digits.image_shape == (1, 8, 8)
    assert digits.classes == tuple("0123456789")
    expected = [(i * 255 / 16).round().astype("uint8").tobytes() for i in load_digits().images]
    got = rows(digits.train) + rows(digits.validation) + rows(digits.test)
    assert sorted(got) == sorted(expected)  # nothing lost, nothing twice
    assert digits.train.pixels.max() == 255
    assert digits.sha256 == DIGITS_SHA256


def test_parts_are_stratified(digits: VisionData) -> None:
    everything = torch.cat([p.labels for p in (digits.train, digits.validation, digits.test)])
    for part in (digits.train, digits.validation, digits.test):
        error = (share(part.labels, 10) - share(everything, 10)).abs().max() * len(part)
        assert error <= 2


def test_train_size_takes_a_nested_sample_and_leaves_the_other_parts(digits: VisionData) -> None:
    small, medium = (load_images("digits", train_size=n) for n in (50, 200))
    assert len(small.train) == 50 and torch.bincount(small.train.labels).tolist() == [5] * 10
    assert set(rows(small.train)) <= set(rows(medium.train)) <= set(rows(digits.train))
    for part in ("validation", "test"):
        assert torch.equal(getattr(small, part).pixels, getattr(digits, part).pixels)
    assert small.sha256 != digits.sha256
    assert small.mean != digits.mean


def test_validation_size_moves_images_between_training_and_validation(digits: VisionData) -> None:
    none, many = (load_images("digits", validation_size=n) for n in (0, 1000))
    assert [len(none.validation), len(none.train)] == [0, 1397]
    assert [len(many.validation), len(many.train)] == [1000, 397]
    assert sorted(rows(many.train) + rows(many.validation)) == sorted(rows(none.train))
    assert torch.equal(none.test.pixels, digits.test.pixels)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"validation_size": 1397}, r"validation_size must be from 0 to 1,396.* got 1,397"),
        ({"validation_size": -1}, "validation_size must be"),
        ({"train_size": 0}, r"train_size must be from 1 to 1,100"),
        ({"train_size": 1101}, r"297 are for validation\); got 1,101"),
        ({"train_size": 1300, "validation_size": 100}, r"from 1 to 1,297"),
    ],
)
def test_impossible_sizes_say_what_is_possible(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_images("digits", **sizes)


def test_mean_and_std_are_those_of_the_training_part(digits: VisionData) -> None:
    unit = digits.train.pixels.double() / 255
    torch.testing.assert_close(torch.tensor(digits.mean).double(), unit.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(
        torch.tensor(digits.std).double(), unit.std(dim=(0, 2, 3), correction=0)
    )


def test_normalise_is_the_printed_formula_and_leaves_the_pixels(digits: VisionData) -> None:
    pixels = digits.train.pixels
    before = pixels.clone()
    x = digits.normalise(pixels)
    assert x.dtype == torch.float32 and x.shape == pixels.shape
    mean, std = digits.mean[0], digits.std[0]
    torch.testing.assert_close(x, ((pixels.double() / 255 - mean) / std).float())
    assert abs(x.mean()) < 1e-5 and abs(x.std() - 1) < 1e-3
    assert torch.equal(pixels, before)


def test_normalise_refuses_what_is_not_pixels(digits: VisionData) -> None:
    with pytest.raises(TypeError, match="uint8"):
        digits.normalise(digits.normalise(digits.test.pixels))
    with pytest.raises(ValueError, match=r"\(n, 1, H, W\), got \(1, 3, 8, 8\)"):
        digits.normalise(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_repr_tells_sizes_and_source(digits: VisionData) -> None:
    for words in ("1 x 8 x 8", "10 classes", "1,100 train", "scikit-learn", digits.sha256[:12]):
        assert words in repr(digits)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(ValueError, match=r"digits, mnist, cifar10 or a folder .* got 'minst'"):
        load_images("minst")


def test_absent_data_say_where_they_belong_and_where_to_get_them(tmp_path: Path) -> None:
    for name, folder, url in (
        ("mnist", tmp_path / "MNIST" / "raw", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        ("cifar10", tmp_path, "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"),
    ):
        with pytest.raises(DataError) as caught:
            load_images(name, data_dir=tmp_path, download=False)
        for needed in (str(folder), url, "QRKD_DATA_DIR"):
            assert needed in str(caught.value), name


# ------------------------------------------------------------------ the real data


def test_real_mnist() -> None:
    need("MNIST")
    load_images("mnist", download=False)
    start = time.perf_counter()
    data = load_images("mnist", download=False)
    assert time.perf_counter() - start < 3  # takes 0.3 s; more means work per image
    assert [len(p) for p in (data.train, data.validation, data.test)] == [55000, 5000, 10000]
    assert data.image_shape == (1, 28, 28)
    assert data.source == "official IDX files"
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as published
    both = torch.cat([data.train.labels, data.validation.labels])
    assert torch.bincount(both).tolist() == counts
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]  # the published order
    assert data.sha256 == MNIST_SHA256
    assert abs(data.mean[0] - 0.1307) < 2e-4 and abs(data.std[0] - 0.3081) < 2e-4


def test_real_cifar10() -> None:
    if not any((Path(DATA or "/nowhere") / n).is_dir() for n in ("cifar-10-batches-py", "cifar10")):
        need("cifar10_jpeg")
    data = load_images("cifar10", download=False)
    assert [len(p) for p in (data.train, data.validation, data.test)] == [45000, 5000, 10000]
    assert data.image_shape == (3, 32, 32)
    for part in (data.train, data.validation, data.test):
        assert torch.bincount(part.labels).tolist() == [len(part) // 10] * 10
    assert data.classes[3] == "cat"
    official = (Path(str(DATA)) / "cifar-10-batches-py").is_dir()
    assert ("not the official pixels" in data.source) != official
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the official pixels
    torch.testing.assert_close(data.mean, mean, atol=0.005, rtol=0)
    torch.testing.assert_close(data.std, std, atol=0.005, rtol=0)
    assert load_images("cifar10", download=False).sha256 == data.sha256
