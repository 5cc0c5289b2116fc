"""Find a data file in a folder, or download it (with pooch) and check it by its hash.

What lies in the folder may be the user's own: it is used, or named in an error, and never changed.
A download lies in a hidden folder until it is whole, and is then renamed into place.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from qrkd_lab.files import expanded

__all__ = [
    "DATA_DIR_VARIABLE", "DataError", "RemoteFile", "check_hash", "data_dir", "fetch", "file_hash",
]  # fmt: skip

DATA_DIR_VARIABLE = "QRKD_DATA_DIR"


class DataError(RuntimeError):
    """Data are absent, damaged or not what they should be; the message says what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file, where it can be had, and how to know that it is the right one.

    Args:
        name: File name, without a folder.
        urls: Places to download it from, tried in this order.
        hash: What the file must hash to, as ``"md5:<hex>"`` or ``"sha256:<hex>"``.
        members: For an archive (``.tar.gz``, ``.zip``, ``.gz``): the paths in it that are wanted,
            files or folders.
    """

    name: str
    urls: tuple[str, ...]
    hash: str
    members: tuple[str, ...] = ()


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


def file_hash(path: str | os.PathLike[str], algorithm: str = "md5") -> str:
    """Hash of a file as ``"<algorithm>:<hex>"``."""
    import pooch

    return f"{algorithm}:{pooch.file_hash(os.fspath(path), alg=algorithm)}"


def check_hash(path: Path, expected: str) -> None:
    """Raise a DataError unless a file is the right one, by its hash ``"<algorithm>:<hex>"``."""
    found = file_hash(path, expected.partition(":")[0]) if path.is_file() else "a folder"
    if found != expected:
        raise DataError(
            f"{path} is damaged or not the right file: expected {expected}, got {found}. "
            "Delete it (nothing else), then run the same call again: it will be fetched."
        )


def fetch(file: RemoteFile, folder: str | os.PathLike[str], *, download: bool = True) -> Path:
    """A file, or the wanted members of an archive, in a folder; downloaded if absent.

    What is there already is taken as it is. An archive is used if it lies in the folder; one that
    had to be downloaded is not kept.

    Args:
        file: What is wanted.
        folder: Where it belongs; made if need be.
        download: Whether the network may be used.

    Returns:
        The file, or, for an archive with members, the folder that holds the members.

    Raises:
        DataError: An archive is damaged, or no mirror gave the file (it says where the file belongs
            and where to get it), or the folder cannot be written.
    """
    folder = expanded(folder)
    given = folder / file.name
    missing = [name for name in file.members or (file.name,) if not (folder / name).exists()]
    if missing and given.exists():
        check_hash(given, file.hash)
    elif missing and not download:
        raise _absent(file, folder, missing, "  downloading was not allowed")
    if missing:
        try:  # beside the target, so that the last step is a rename on one disk
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{file.name}-", dir=folder) as name:
                place = Path(name)
                found = given if given.exists() else _downloaded(file, folder, place, missing)
                if file.members:
                    place = place / "unpacked"
                    _unpack(found, place, missing)
                for name in missing:
                    _move(place / name, folder / name)
        except OSError as error:
            raise DataError(
                f"Cannot write to {folder}, where {file.name} belongs ({error}). Choose another "
                f"data_dir or set the environment variable {DATA_DIR_VARIABLE} to a folder of "
                "yours."
            ) from error
    return folder if file.members else given


def _downloaded(file: RemoteFile, folder: Path, scratch: Path, missing: list[str]) -> Path:
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
            return got
    raise _absent(file, folder, missing, "\n".join(failures))


def _absent(file: RemoteFile, folder: Path, missing: list[str], tried: str) -> DataError:
    what = file.name if missing == [file.name] else f"{file.name} (for {', '.join(missing)})"
    return DataError(
        f"{what} is not in {folder} and could not be downloaded:\n{tried}\n"
        f"Either put {file.name} ({file.hash}) into {folder} yourself, from\n  "
        + "\n  ".join(file.urls)
        + f"\nor, if you have the data elsewhere, give that folder as data_dir or in the "
        f"environment variable {DATA_DIR_VARIABLE}."
    )


def _unpack(archive: Path, target: Path, wanted: list[str]) -> None:
    """Extract only what is wanted into a new folder, and nothing outside it."""
    target.mkdir()
    try:
        if archive.name.endswith(".tar.gz"):
            with tarfile.open(archive) as tar:
                members = [m for m in tar if m.name.startswith(tuple(wanted))]
                tar.extractall(target, members, filter="data")
        elif archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                zipped.extractall(target, wanted)
        else:  # .gz: one file
            with gzip.open(archive) as packed, (target / wanted[0]).open("wb") as out:
                shutil.copyfileobj(packed, out)
    except (tarfile.TarError, zipfile.BadZipFile, KeyError, EOFError, zlib.error) as error:
        raise DataError(f"{archive.name} could not be unpacked: {error}") from error


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, target)
    except OSError:  # a folder that is there cannot be replaced ...
        if not target.is_dir():
            raise
        # ... and need not be: another process was faster
