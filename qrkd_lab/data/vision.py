"""Image data sets, split and ready to train on.

``load_images`` takes a name or a folder and gives a ``VisionData``:

======================  ================================================================
``"digits"``            1,797 images of 8 x 8, shipped with scikit-learn: no download
``"mnist"``             70,000 of 28 x 28, found in ``MNIST/raw`` or downloaded
``"cifar10"``           60,000 of 3 x 32 x 32, found in ``cifar-10-batches-py`` or downloaded
a path                  your own: ``root/train/<class>/*.png`` and ``root/test/<class>/*.png``
======================  ================================================================

The test part is the published one. The training part is cut in two, stratified and with one fixed
seed: ``validation`` to choose settings on, ``train`` to train on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qrkd_lab.data.fetch import DataError
from qrkd_lab.data.fetch import data_dir as find_data_dir
from qrkd_lab.data.folder import folder_name, read_folder
from qrkd_lab.data.images import Images, Parts, fingerprint, stratified_order
from qrkd_lab.data.standard import read_cifar10, read_digits, read_mnist

__all__ = ["VisionData", "load_images"]

CHOICES = ("digits", "mnist", "cifar10")


@dataclass(frozen=True, eq=False, repr=False)
class VisionData:
    """An image data set in memory.

    Args:
        name: ``"digits"``, ``"mnist"``, ``"cifar10"`` or the name of a folder, made fit to name
            a folder of records (:func:`~qrkd_lab.data.folder.folder_name`).
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

        Args:
            pixels: uint8 ``(n, C, H, W)``, on any device.

        Returns:
            float32 ``(n, C, H, W)``, about zero mean and unit variance per channel.

        Raises:
            TypeError: Pixels that are not uint8, so perhaps normalised already.
            ValueError: Another number of channels.
        """
        if pixels.dtype != torch.uint8:
            raise TypeError(f"normalise expects uint8 pixels (0..255), got {pixels.dtype}.")
        if pixels.ndim != 4 or pixels.shape[1] != len(self.mean):
            raise ValueError(
                f"normalise expects pixels (n, {len(self.mean)}, H, W), got {tuple(pixels.shape)}."
            )
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
    name, parts = _read(name_or_path, data_dir, download)
    order = stratified_order(parts.train.labels)
    if at_most:
        sizes = _lowered(len(order), train_size, validation_size, parts, at_most)
        train_size, validation_size = sizes
    held_out, kept = _sizes(name, len(order), train_size, validation_size, parts)
    validation = parts.train[order[:held_out]]
    train = parts.train[order[held_out : held_out + kept]]
    mean, std = _channel_statistics(train.pixels)
    sha256 = fingerprint(train, validation, parts.test)
    held = {"train": train, "validation": validation, "test": parts.test}
    return VisionData(name, parts.source, sha256, parts.classes, **held, mean=mean, std=std)


def _read(
    name_or_path: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] | None,
    download: bool,
) -> tuple[str, Parts]:
    if name_or_path == "digits":
        return "digits", read_digits()
    if name_or_path == "mnist":
        return "mnist", read_mnist(find_data_dir(data_dir), download=download)
    if name_or_path == "cifar10":
        return "cifar10", read_cifar10(find_data_dir(data_dir), download=download)
    folder = Path(os.path.expanduser(name_or_path))  # unlike pathlib's, lets "~nobody" be
    if not folder.is_dir():
        raise ValueError(
            f"Expected one of {', '.join(CHOICES)} or a folder of images that exists, "
            f"got {os.fspath(name_or_path)!r}."
        )
    return folder_name(folder), read_folder(folder)


def _lowered(
    total: int,
    train_size: int | None,
    validation_size: int | None,
    parts: Parts,
    at_most: Collection[str],
) -> tuple[int | None, int | None]:
    """Sizes of training and validation; those in ``at_most`` lowered to what the data can give."""
    if "validation_size" in at_most and validation_size is not None:
        fixed = 0 if train_size is None or "train_size" in at_most else train_size
        validation_size = max(1, min(validation_size, total // 3, total - fixed))
    if "train_size" in at_most and train_size is not None:
        held_out = parts.validation_size if validation_size is None else validation_size
        train_size = max(1, min(train_size, total - held_out))
    return train_size, validation_size


def _sizes(
    name: str, total: int, train_size: int | None, validation_size: int | None, parts: Parts
) -> tuple[int, int]:
    """Checked numbers of validation and training images."""
    held_out = parts.validation_size if validation_size is None else validation_size
    if not 0 <= held_out < total:
        raise ValueError(
            f"validation_size must be from 0 to {total - 1:,}, since {name} has {total:,} images "
            f"to train on and at least one must stay; got {held_out:,}."
        )
    kept = total - held_out if train_size is None else train_size
    if not 1 <= kept <= total - held_out:
        raise ValueError(
            f"train_size must be from 1 to {total - held_out:,} ({name} has {total:,} images to "
            f"train on, of which {held_out:,} are for validation); got {kept:,}. "
            f"Give a smaller train_size or validation_size."
        )
    return held_out, kept


def _channel_statistics(pixels: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel in units of 0..1, exact until the last step."""
    counts = np.zeros((pixels.shape[1], 256), dtype=np.int64)  # ten times faster than summing bytes
    for chunk in pixels.split(1024):
        for channel, row in enumerate(chunk.transpose(0, 1).numpy()):  # (n, H, W)
            counts[channel] += np.bincount(row.ravel(), minlength=256)
    values = np.arange(256)
    mean, std = [], []
    for count in counts:
        n, total, squares = (int((count * weight).sum()) for weight in (1, values, values**2))
        mean.append(total / n / 255)
        std.append(math.sqrt((n * squares - total**2) / n**2) / 255)
    if min(std) == 0:
        raise DataError(
            "All training pixels of a channel are equal, so they cannot be scaled to unit "
            "variance. Expected images that differ: check the folder, or take a larger train_size."
        )
    return tuple(mean), tuple(std)
