"""Files and folders that are whole or not there, and strict JSON.

A folder is written under a hidden name beside its final place and then renamed, so a killed
process, a full disk or a second process never leaves half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "PROJECT", "RecordError", "can_be_written", "canonical_sha256", "check_writable", "damaged",
    "expanded", "file_sha256", "parsed_json", "plain", "read_file", "replacing", "runs_folder",
    "sealed", "unsealed", "write_file", "write_folder", "writing",
]  # fmt: skip

PROJECT = Path(__file__).parents[1]  # of a checkout; an installed wheel lies in none
_FIRST = Path("notebooks", "00_quickstart.ipynb")  # every folder of the project has it
_OPTION = "runs_dir, or $QRKD_RUNS_DIR"
ROOM = 1 << 16  # bytes; a full disk often takes an empty file


class RecordError(RuntimeError):
    """A run's record cannot be written, or cannot be trusted; the message says what to do."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path as a user gives it: a leading ``~`` or ``~name`` is that user's home."""
    return Path(os.path.expanduser(path))


def runs_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder of the records: the given one, else ``$QRKD_RUNS_DIR``, else ``runs``.

    ``runs``, and a relative ``$QRKD_RUNS_DIR``, lie in the folder of the project, beside its
    notebooks, whatever the working directory; without a project (an installed wheel), in the
    working directory.

    Args:
        given: a folder; None or "": the default.

    Example:
        >>> runs_folder("/tmp/mine")
        PosixPath('/tmp/mine')
    """
    if given:
        return expanded(given)
    here = Path.cwd()
    places = (PROJECT, here, *here.parents)
    project = next((place for place in places if (place / _FIRST).is_file()), here)
    if chosen := os.environ.get("QRKD_RUNS_DIR"):
        return project / expanded(chosen)
    return Path(os.path.relpath(project / "runs"))


def damaged(folder: Path, what: str) -> RecordError:
    """The error that says what is wrong with a folder, and what to do."""
    return RecordError(f"{folder} is damaged: {what}. Delete this folder and run again.")


def read_file(path: Path) -> bytes:
    """The content of a file.

    Raises:
        ValueError: it is missing, in words that follow its name.
        RecordError: it is there, and is no file, or cannot be read.
    """
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no file")  # a pipe would be waited for
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError("is missing") from error
    except OSError as error:
        raise RecordError(
            f"{path} cannot be read: {error.strerror or error}. It may be whole, so keep it. Mend "
            "the cause (rights, disk, network), and try again."
        ) from error


@contextmanager
def writing(what: str, option: str = _OPTION) -> Iterator[None]:
    """Inside the block, a disk that fails is a RecordError: what, why, and what to do.

    Args:
        what: cannot be written, in words: a folder, or a thing and its folder.
        option: by which the folder was given.
    """
    try:
        yield
    except OSError as error:
        raise RecordError(
            f"{what} cannot be written: {error.strerror or error}. Make room, or give a folder "
            f"that can be written ({option})."
        ) from error


def can_be_written(folder: Path) -> bool:
    """Whether a folder, or the one in which it would be made, can be written; nothing is made."""
    places = (folder.absolute(), *folder.absolute().parents)
    there = next(place for place in places if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def check_writable(folder: Path, option: str = _OPTION) -> None:
    """Make the folder if it is missing, and write into it, before anything long is begun.

    Args:
        folder: the folder.
        option: by which it was given.

    Raises:
        RecordError: it cannot be made or written, or the disk is full.
    """
    with writing(str(folder), option):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(ROOM))
            stream.flush()
            os.fsync(stream.fileno())


def write_folder(folder: Path, files: Mapping[str, bytes]) -> bool:
    """Write a folder of files so that it is there whole or not at all.

    Args:
        folder: its final place; the folders above it are made if missing.
        files: content by file name.

    Returns:
        False if the folder was there already (another process was first) and was left alone.

    Raises:
        OSError: the disk is full or read-only. Nothing half is left behind then.
    """
    hidden = _hidden(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        hidden.mkdir()
        for name, content in files.items():
            (hidden / name).write_bytes(content)
            with (hidden / name).open("rb+") as stream:
                os.fsync(stream.fileno())
        try:
            os.rename(hidden, folder)
        except OSError:
            if not folder.exists():
                raise
            return False
        return True
    finally:  # gone already when the rename succeeded
        shutil.rmtree(hidden, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """An open file that takes the place of ``path`` at the end of the block, whole or not at all.

    Raises:
        OSError: the disk is full or read-only. What was there before is there still.
    """
    hidden = _hidden(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with hidden.open("w+b") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(hidden, path)
    finally:
        with suppress(OSError):
            hidden.unlink()


def write_file(path: Path, content: bytes) -> None:
    """Write a file, or replace it, whole or not at all; see :func:`replacing`."""
    with replacing(path) as stream:
        stream.write(content)


def _hidden(place: Path) -> Path:
    """A name beside a place that no other process has, on this machine or another."""
    return place.with_name(f".{place.name.lstrip('.')}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")


def plain(value: Any, where: str) -> Any:  # noqa: ANN401
    """A copy made of plain JSON values only; tuples become lists.

    Raises:
        RecordError: something in ``value``, which ``where`` names, is no JSON, or not finite.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise RecordError(
            f"{where} cannot be recorded: {error}. A record holds None, bool, int, finite float, "
            "str, lists and dictionaries; convert what is of NumPy or torch, e.g. with float()."
        ) from error


def parsed_json(content: bytes | str) -> dict[str, Any]:
    """The dictionary in the content of a file of strict JSON.

    Raises:
        ValueError: what is wrong with it, in words that follow the file's name.
    """
    try:
        held = json.loads(content, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot be read ({error})") from error
    if not isinstance(held, dict):
        raise ValueError("holds no dictionary")
    return held


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number")


def canonical_sha256(value: Any) -> str:  # noqa: ANN401
    """SHA-256 of plain JSON values in canonical form: keys sorted, floats by ``repr``, no spaces.

    Example:
        >>> canonical_sha256({"a": 1, "b": 0.5}) == canonical_sha256({"b": 0.5, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sealed(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Plain JSON values with their own digest under a name.

    Example:
        >>> unsealed(sealed({"a": 1}, "sha256"), "sha256")
        {'a': 1}
    """
    return {**content, name: canonical_sha256(content)}


def unsealed(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values without their digest.

    Raises:
        ValueError: there is no digest, or it is that of other values; in words that follow a
            file's name.
    """
    rest = {key: value for key, value in content.items() if key != name}
    if content.get(name) != canonical_sha256(rest):
        raise ValueError("was edited: its digest does not match")
    return rest


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content; RecordError: it is missing, or cannot be read."""
    try:
        return hashlib.sha256(read_file(path)).hexdigest()
    except ValueError as error:
        raise damaged(path.parent, f"{path.name} {error}") from error
