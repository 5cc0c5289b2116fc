"""Find a data file in a folder or download it (with pooch), and check it by its hash.

A file with a wrong hash may be the user's own, so it is named and never deleted. A download lies
in a hidden folder until its hash is right, and is then renamed into place.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import io
import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TextIO

from qrkd_lab.files import expanded, why_no_file

__all__ = [
    "DATA_DIR_VARIABLE", "DataError", "RemoteFile", "check_file", "check_text", "data_dir",
    "fetch", "file_hash", "open_text", "read_text",
]  # fmt: skip

DATA_DIR_VARIABLE = "QRKD_DATA_DIR"
ENCODINGS = {  # by the byte-order mark that a file begins with; UTF-32's begins with UTF-16's
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


class DataError(RuntimeError):
    """Data are absent, damaged or not what they should be; the message says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file, where it can be had, and how to know that it is the right one.

    Args:
        name: File name, without a folder.
        urls: Places to download it from, tried in this order.
        hash: What the file must hash to, as ``"md5:<hex>"`` or ``"sha256:<hex>"``.
        members: For an archive (``.tar``, ``.tar.gz``, ``.tgz``, ``.zip``, ``.gz``): pairs of path
            and hash of the parts that are wanted. A hash of ``None`` accepts whatever is there,
            which is the only choice for a folder of many files.
    """

    name: str
    urls: tuple[str, ...]
    hash: str
    members: tuple[tuple[str, str | None], ...] = ()


def data_dir(explicit: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the data sets: the given one, else ``$QRKD_DATA_DIR``, else the user's cache.

    It need not exist yet.

    Raises:
        DataError: The path exists but is not a folder.
    """
    chosen = explicit if explicit is not None else os.environ.get(DATA_DIR_VARIABLE)
    if chosen is None or str(chosen) == "":
        import pooch

        return Path(pooch.os_cache("qrkd-lab"))
    folder = expanded(chosen).absolute()
    if folder.exists() and not folder.is_dir():
        raise DataError(
            f"Expected a folder of data, but {folder} is a file. "
            f"Give another data_dir or set the environment variable {DATA_DIR_VARIABLE}."
        )
    return folder


def check_file(path: str | os.PathLike[str], expected: str) -> os.stat_result:
    """The status of a file that can be read; a link is followed.

    Args:
        path: the file.
        expected: what belongs there, in words that end the message.

    Raises:
        DataError: The file is missing or cannot be read, or is a folder, a pipe or a device.
    """
    with suppress(OSError):
        seen = os.stat(path)
        if stat.S_ISREG(seen.st_mode) and os.access(path, os.R_OK):
            return seen
    raise DataError(f"{os.fspath(path)} {why_no_file(path)}: expected {expected}.")


@contextmanager
def open_text(path: str | os.PathLike[str]) -> Iterator[TextIO]:
    r"""An open text file: each line ends with ``"\n"``, and the byte-order mark is left out.

    A file with a byte-order mark is decoded as it says (UTF-8, UTF-16, UTF-32), any other as
    UTF-8; ``"\r\n"`` and ``"\r"`` are read as ``"\n"``. The attributes ``encoding`` and
    ``newlines`` say what the file had. Bytes that are not UTF-8 are left for :func:`check_text`.

    Raises:
        DataError: The file cannot be read, or is not what its byte-order mark says.
    """
    try:
        with open(path, "rb") as raw:
            start = raw.peek(4)
            names = (name for mark, name in ENCODINGS.items() if start.startswith(mark))
            name = next(names, "utf-8")
            errors = "surrogateescape" if name.startswith("utf-8") else "strict"
            yield io.TextIOWrapper(raw, name, errors)
    except OSError as error:
        raise DataError(
            f"{os.fspath(path)} cannot be read: {error.strerror or error}. Check the disk and the "
            "permissions of the file."
        ) from error
    except UnicodeError as error:
        raise DataError(
            f"{os.fspath(path)} begins as {name.upper()} but is damaged ({error.reason}). Save "
            "it again, as UTF-8."
        ) from error


def check_text(text: str, where: str) -> str:
    """The text that :func:`open_text` read, unchanged.

    Args:
        text: what was read.
        where: a file, or a line of it, for the message.

    Raises:
        DataError: Bytes that are not UTF-8, or NUL characters.
    """
    try:
        text.isascii() or text.encode()
        if "\0" not in text:
            return text
        found, at = "a NUL character", text.index("\0")
    except UnicodeEncodeError as error:
        found, at = "what encodes no character", error.start
    raise DataError(
        f"{where} is not UTF-8 text: {found} at byte {len(text[:at].encode())}. Save the file as "
        "UTF-8; unpack it first if it is an archive."
    )


def read_text(path: str | os.PathLike[str]) -> str:
    """The whole text of a small file; see :func:`open_text` and :func:`check_text`.

    Raises:
        DataError: There is no such file, or it holds no text.
    """
    check_file(path, "a text file")
    with open_text(path) as file:
        return check_text(file.read(), os.fspath(path))


def file_hash(path: str | os.PathLike[str], algorithm: str = "md5") -> str:
    """Hash of a file as ``"<algorithm>:<hex>"``, remembered until the file changes on disk.

    Raises:
        DataError: There is no such file, or it cannot be read.
    """
    seen = check_file(path, "a file")
    version = (seen.st_size, seen.st_mtime_ns, seen.st_ino)
    return _file_hash(Path(path).resolve(), version, algorithm)


@lru_cache(maxsize=256)
def _file_hash(path: Path, version: tuple[int, ...], algorithm: str) -> str:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False))
    return f"{algorithm}:{digest.hexdigest()}"


def fetch(file: RemoteFile, folder: str | os.PathLike[str], *, download: bool = True) -> Path:
    """A file, or the wanted members of an archive, verified in a folder; downloaded if absent.

    An archive is used if it lies in the folder; one that had to be downloaded is not kept.

    Args:
        file: What is wanted.
        folder: Where it belongs; made if need be.
        download: Whether the network may be used.

    Returns:
        The file, or, for an archive with members, the folder that holds the members.

    Raises:
        DataError: A file is damaged (it says which one to delete), or it is absent and no mirror
            gave it (it says where the file belongs and where to get it).

    Example:
        >>> readme = RemoteFile("a.txt", ("https://example.org/a.txt",), "md5:0cc175b9c0f1b6a8")
        >>> fetch(readme, "data")                                         # doctest: +SKIP
        PosixPath('data/a.txt')
    """
    folder = expanded(folder)
    wanted = dict(file.members) or {file.name: file.hash}
    missing = {n: h for n, h in wanted.items() if not _is_there(folder / n, h, file)}
    if missing:
        has_archive = bool(file.members) and _is_there(folder / file.name, file.hash, file)
        if not has_archive and not download:
            raise _absent(file, folder, [*missing], "  downloading was not allowed")
        try:  # beside the target, so that the last step is a rename on one disk
            folder.mkdir(parents=True, exist_ok=True)
            scratch = tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=folder)
        except OSError as error:
            raise DataError(
                f"Cannot write to {folder}, where {file.name} belongs ({error}). Choose another "
                f"data_dir or set the environment variable {DATA_DIR_VARIABLE} to a folder of "
                "yours."
            ) from error
        with scratch as name:
            place = Path(name)
            if not has_archive:
                _download(file, folder, place, [*missing])
            if file.members:
                place = _unpack((folder if has_archive else place) / file.name, place, missing)
            _move(place, folder, missing, file)
    return folder if file.members else folder / file.name


def _is_there(path: Path, expected: str | None, file: RemoteFile) -> bool:
    """Whether ``path`` exists; raises if it does but is not what is expected."""
    if not path.exists():
        return False
    if expected is None:
        return True
    found = file_hash(path, expected.partition(":")[0]) if path.is_file() else "a folder"
    if found != expected:
        raise DataError(
            f"{path} is damaged or not the right file: expected {expected}, got {found}. "
            f"Delete it (nothing else), then run the same call again: it will be fetched from "
            f"{' or '.join(file.urls) or 'nowhere, since no URL is known'}."
        )
    return True


def _download(file: RemoteFile, folder: Path, scratch: Path, missing: list[str]) -> None:
    """Try the mirrors in turn; pooch checks the hash and renames within ``scratch``."""
    import pooch

    # pooch's default of 1 KiB a chunk flushes the disk 170,000 times for CIFAR-10
    downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16)
    failures = []
    for url in file.urls:
        try:
            got = Path(pooch.retrieve(url, file.hash, file.name, scratch, downloader=downloader))
        except (OSError, ValueError) as error:  # of requests, and pooch's for a wrong hash
            failures.append(f"  {url}\n    {type(error).__name__}: {error}")
        else:
            got.chmod(0o644)  # pooch leaves the mode of a private temporary file
            return
    raise _absent(file, folder, missing, "\n".join(failures) or "  no URL is known")


def _absent(file: RemoteFile, folder: Path, missing: list[str], tried: str) -> DataError:
    what = file.name if missing == [file.name] else f"{file.name} (for {', '.join(missing)})"
    return DataError(
        f"{what} is not in {folder} and could not be downloaded:\n{tried}\n"
        f"Either put {file.name} ({file.hash}) into {folder} yourself, from\n  "
        + "\n  ".join(file.urls)
        + f"\nor, if you have the data elsewhere, give that folder as data_dir or in the "
        f"environment variable {DATA_DIR_VARIABLE}."
    )


def _unpack(archive: Path, scratch: Path, wanted: dict[str, str | None]) -> Path:
    """Extract only what is wanted into a new folder of ``scratch``, and nothing outside it."""
    target = scratch / "unpacked"
    target.mkdir()

    def is_wanted(name: str) -> bool:
        name = posixpath.normpath(name)
        return any(name == w or name.startswith(f"{w}/") for w in wanted)

    try:
        if archive.name.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(archive) as tar:
                tar.extractall(target, [m for m in tar if is_wanted(m.name)], filter="data")
        elif archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(target, [n for n in zipped.namelist() if is_wanted(n)])
        else:  # .gz: one file, which takes the archive's name without the suffix
            with gzip.open(archive) as packed, (target / archive.stem).open("wb") as out:
                shutil.copyfileobj(packed, out)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive.name} could not be unpacked: {error}") from error
    return target


def _move(source: Path, folder: Path, wanted: dict[str, str | None], file: RemoteFile) -> None:
    """Rename what was obtained into place, each part only after its own check."""
    for name, expected in wanted.items():
        if not _is_there(source / name, expected, file):
            raise DataError(f"{file.name} from {' or '.join(file.urls)} holds no {name}.")
    for name in wanted:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.replace(source / name, target)
        except OSError as error:  # a folder that is there cannot be replaced ...
            if not target.is_dir():
                raise DataError(f"{target} could not be written: {error}") from error
            # ... and need not be: another process was faster
