"""A folder of images as a data set.

    root/train/<class>/*.png|jpg|jpeg
    root/test/<class>/*.png|jpg|jpeg

All images have one size and are either all grey or all RGB: nothing is resized or converted behind
your back, and nothing is left out: what does not fit the layout is an error, apart from hidden
files and files that are no images. Classes, at least two, are numbered in the order of their names.

Pixels are decoded once and kept in the user's cache folder under a key made of every file's path,
size and time of change, so a second load takes a moment and a changed folder is read anew. A cache
file carries the fingerprint of what it holds; one that does not match is rebuilt.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tempfile
import unicodedata
import warnings
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from qrkd_lab.data.fetch import DataError, cache_folder, check_file
from qrkd_lab.data.images import Images, Parts, fingerprint

BENCHMARKS = ("digits", "mnist", "cifar10", "wikitext2", "ptb", "imdb", "imdb-sentiment")

__all__ = ["folder_name", "is_folder", "read_folder"]

READABLE = (".png", ".jpg", ".jpeg")
UNREADABLE = (".bmp", ".gif", ".tif", ".tiff", ".webp")  # images, but not of the accepted kinds
MODES = {"L": 1, "RGB": 3}  # Pillow's words for 8-bit grey and colour, and their channels
LARGEST = 1 << 24  # pixels of an image; a small file can claim any number
Entry = tuple[str, int, int]  # path relative to the root, bytes, time of change in ns


def is_folder(path: Path) -> bool:
    """Whether a path looks like a folder of images: it has ``train`` and ``test``."""
    return (path / "train").is_dir() and (path / "test").is_dir()


def folder_name(root: Path, taken: Collection[str] = BENCHMARKS) -> str:
    """The data set's name: the folder's, if it can name a folder of records.

    A name of other characters than letters, digits and ``_ . + -``, or one that starts with a dot
    or sign, is reduced to these, and a short hash of the whole path keeps it apart from others.

    Args:
        root: the folder; it need not exist.
        taken: names of other data sets; a folder of such a name is called ``folder-<name>``.

    Example:
        >>> folder_name(Path("/data/mine")), folder_name(Path("/data/mnist"), ["mnist"])
        ('mine', 'folder-mnist')
        >>> folder_name(Path("/my images"))
        'my-images-04dfe488'
    """
    root = root.resolve()
    if re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", root.name):
        return f"folder-{root.name}" if root.name.lower() in taken else root.name
    ascii_name = unicodedata.normalize("NFKD", root.name).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9_.+-]+", "-", ascii_name).strip(".+-")[:80]
    return f"{slug or 'folder'}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"


def read_folder(root: str | os.PathLike[str]) -> Parts:
    """Read a folder of images, from the cache if it has not changed since.

    Args:
        root: The folder that holds ``train`` and ``test``.

    Returns:
        Both parts, in the order of class and file name; ``source`` says which kind of files.

    Raises:
        DataError: The folder is not laid out as above, or an image is damaged or differs from the
            others in size or colour mode; the message names it.
    """
    root = Path(root).expanduser()
    if not is_folder(root):
        raise DataError(
            f"Expected {root} to hold train/<class>/*.png and test/<class>/*.png "
            f"(also .jpg, .jpeg); 'train' or 'test' is missing."
        )
    classes, listing = _list(root)
    key = hashlib.sha256(json.dumps([1, classes, listing]).encode()).hexdigest()[:32]
    cache = _cache_folder() / f"{key}.safetensors"
    parts = _load(cache)
    if parts is None:
        model = root / listing["train"][0][0]  # all others must have its size and colour mode
        parts = {part: _decode(root, listing[part], classes, model) for part in listing}
        _save(cache, parts)
    kinds = {Path(path).suffix.lower() for entries in listing.values() for path, *_ in entries}
    source = "PNG folder" if kinds == {".png"} else "JPEG folder"
    total = len(parts["train"])
    tenth = min(max(1, total // 10), total - 1)  # at least one, if one is left to train on
    return Parts(parts["train"], parts["test"], classes, source, validation_size=tenth)


def _list(root: Path) -> tuple[tuple[str, ...], dict[str, list[Entry]]]:
    """Class names, and for each part the files in the order of class and name."""
    names = {}
    for part in ("train", "test"):
        names[part], files = _visible(root / part)
        for name in files:  # an image of no class, or a link that should be a class
            if name.lower().endswith(READABLE + UNREADABLE) or not (root / part / name).exists():
                raise DataError(
                    f"Expected only class folders in {root / part}, got {name}: put each image "
                    "into the folder of its class; a link must lead to a folder."
                )
    only = sorted(set(names["train"]) ^ set(names["test"]))
    if only or len(names["train"]) < 2:
        found = ", ".join(only or names["train"]) or "none"
        raise DataError(
            f"Expected the same classes (folders) in {root}/train and {root}/test, at least two; "
            f"{'only in one of them' if only else 'got'}: {found}."
        )
    listing = {
        part: [entry for label in names[part] for entry in _entries(root, f"{part}/{label}")]
        for part in names
    }
    return tuple(names["train"]), listing


def _visible(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the folders and of the other entries in a folder, without hidden ones."""
    try:
        with os.scandir(folder) as found:
            seen = sorted((e.name, e.is_dir()) for e in found if not e.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read: {error.strerror}. Check its permissions."
        ) from error
    return [n for n, is_dir in seen if is_dir], [n for n, is_dir in seen if not is_dir]


def _entries(root: Path, place: str) -> Iterator[Entry]:
    folders, files = _visible(root / place)
    if folders:
        raise DataError(
            f"Expected images in {root / place}, got the folder {folders[0]}: move its images up, "
            "or take it away."
        )
    odd = [name for name in files if name.lower().endswith(UNREADABLE)]
    images = [name for name in files if name.lower().endswith(READABLE)]
    if odd or not images:
        raise DataError(
            f"Expected images ({', '.join(READABLE)}) in {root / place}, "
            + (f"got {odd[0]}; convert it." if odd else "got none.")
        )
    base = os.fspath(root)  # plain strings: pathlib would take most of the time for 60,000 files
    for name in images:
        seen = check_file(f"{base}/{place}/{name}", "an image")
        yield f"{place}/{name}", seen.st_size, seen.st_mtime_ns


def _decode(root: Path, entries: list[Entry], classes: tuple[str, ...], model: Path) -> Images:
    """All images of a part as one tensor; each must be like the image ``model``."""
    import psutil
    from tqdm import tqdm

    paths = [root / path for path, *_ in entries]
    shape = _pixels(model).shape
    needed, free = 3 * len(paths) * math.prod(shape), psutil.virtual_memory().available
    if needed > free:  # decoded, split, and fingerprinted
        raise DataError(
            f"The {len(paths):,} images like {model}, {_shape(shape)}, need {needed / 1e9:.1f} GB "
            f"of memory, but {free / 1e9:.1f} GB are free. Make them smaller, or fewer."
        )
    out = np.empty((len(paths), *shape), dtype=np.uint8)  # (n, C, H, W)

    def work(index: int) -> None:
        out[index] = _pixels(paths[index], model, shape)

    with (
        ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
        tqdm(total=len(paths), desc=f"decoding {root.name}", disable=len(paths) < 2000) as bar,
    ):
        # spans, since a task for each tiny image would cost more than its decoding
        spans = [range(i, min(i + 256, len(paths))) for i in range(0, len(paths), 256)]
        for span in pool.map(lambda span: [work(i) for i in span], spans):
            bar.update(len(span))
    number = {name: label for label, name in enumerate(classes)}
    labels = torch.tensor([number[path.parent.name] for path in paths])
    return Images(torch.from_numpy(out), labels)


def _pixels(path: Path, model: Path | None = None, like: tuple[int, ...] = ()) -> np.ndarray:
    """One image as uint8 ``(C, H, W)``, of the shape ``like`` that the image ``model`` has.

    What its header says is checked first: only an image that fits is decoded.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG")) as image:
            mode, (width, height) = image.mode, image.size
            if width * height > LARGEST:
                raise DataError(
                    f"{path} has {width:,} x {height:,} pixels, expected at most {LARGEST:,} in "
                    "all. Make it smaller."
                )
            if "16" in mode or ";16" in str(image.tile):  # Pillow would drop 8 of the 16 bits
                raise DataError(
                    f"Expected 8-bit grey or RGB, but {path} has 16 bits a channel. Scale its "
                    "values to 0..255, save it as 8-bit, and do so for all images alike."
                )
            if mode not in MODES:
                raise DataError(
                    f"Expected 8-bit grey or RGB, but {path} has Pillow's mode {mode!r}. Convert "
                    'it, for example with Image.open(path).convert("RGB").save(path).'
                )
            if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
                raise DataError(
                    f"{path} is animated, with {image.n_frames} frames. Save one as an image."
                )
            shape = (MODES[mode], height, width)
            if like and shape != like:
                raise DataError(
                    f"Expected all images alike: {model} is {_shape(like)}, but {path} is "
                    f"{_shape(shape)}. Make them one size and one colour mode."
                )
            raw = image.tobytes()
    except DataError:
        raise
    except Exception as error:  # a damaged file can raise almost anything in a decoder
        raise DataError(f"{path} cannot be read as an image: {error}. Replace it.") from error
    return np.frombuffer(raw, np.uint8).reshape(height, width, -1).transpose(2, 0, 1)


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height} x {width} {'grey' if channels == 1 else 'RGB'}"


def _cache_folder() -> Path:
    return cache_folder() / "folders"


def _load(cache: Path) -> dict[str, Images] | None:
    """What a cache file holds, or nothing if it is absent or does not match its fingerprint."""
    from safetensors import SafetensorError, safe_open

    if not cache.exists():
        return None
    try:
        with safe_open(cache, "pt") as file:
            parts = {
                part: Images(file.get_tensor(f"{part}.pixels"), file.get_tensor(f"{part}.labels"))
                for part in ("train", "test")
            }
            if (file.metadata() or {}).get("sha256") == fingerprint(*parts.values()):
                return parts
        reason = "its fingerprint is wrong"
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        reason = str(error)
    warnings.warn(f"{cache} is damaged ({reason}); decoding the images again.", stacklevel=3)
    return None


def _save(cache: Path, parts: dict[str, Images]) -> None:
    """Write the cache beside its place and rename it, so that nobody ever reads half of it."""
    from safetensors.torch import save_file

    tensors = {f"{part}.pixels": images.pixels for part, images in parts.items()}
    tensors |= {f"{part}.labels": images.labels for part, images in parts.items()}
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=cache.parent) as scratch:
            fresh = Path(scratch) / cache.name
            save_file(tensors, fresh, {"sha256": fingerprint(*parts.values())})
            os.replace(fresh, cache)
    except OSError as error:  # the images are read: a full or read-only disk costs only time
        warnings.warn(f"The decoded images could not be kept in {cache}: {error}", stacklevel=3)
