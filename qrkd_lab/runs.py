"""Records of finished runs: one folder a run, either whole or not there.

A run is one benchmark, scale, arm and seed. Its folder is

    <root>/<benchmark>/<scale>/<arm>-seed<seed>-<key>/
        record.json           settings, versions, data, history, metrics (strict JSON)
        weights.safetensors   the student's weights

``key`` is a hash of the settings and of the data's content: change either, and the run is another
run. That is what makes a study resumable: a run whose folder is there need not be run again.

A record is written into a hidden folder beside its final place, forced to the disk, and only then
renamed. So a killed process, a full disk or a second process that does the same run never leave
half a record; and whatever was damaged later is refused with a :class:`RecordError`, not counted.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import shutil
import sys
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMAT", "RecordError", "Run", "find_run", "load_run", "read_runs", "run_key", "save_run",
    "versions",
]  # fmt: skip

FORMAT = 1
RECORD, WEIGHTS = "record.json", "weights.safetensors"
STALE_SECONDS = 24 * 3600  # no save takes a day: an older temporary folder is a dead process's
LIBRARIES = ("torch", "torchvision", "pennylane", "numpy")


class RecordError(RuntimeError):
    """A run's record cannot be written, or cannot be trusted; the message says what to do."""


@dataclass(frozen=True, repr=False)
class Run:
    """One finished run; accuracies are fractions in 0..1, times are seconds.

    Args:
        settings: flat dictionary with at least ``benchmark``, ``scale``, ``arm``, ``seed``.
        key: ``run_key(settings, data["sha256"])``.
        versions, device, data: what it ran with, on, and from.
        metric: ``{"name": "test_accuracy", "higher_is_better": True}``.
        parameters: number of the model's parameters.
        history: one dictionary an epoch: ``epoch``, the loss terms, accuracies.
        metrics: final numbers by name.
        seconds: ``{"train": ..., "evaluate": ...}``.
        finished: time in ISO 8601.
        path: the folder, None as long as the run is not saved.
    """

    settings: Mapping[str, Any]
    key: str
    versions: Mapping[str, str | None]
    device: str
    data: Mapping[str, Any]
    metric: Mapping[str, Any]
    parameters: int
    history: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    seconds: Mapping[str, float]
    finished: str
    path: Path | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Arm and seed in words: ``"qrkd seed 0"``."""
        return f"{self.settings['arm']} seed {self.settings['seed']}"

    def weights(self) -> dict[str, Tensor]:
        """The saved weights by name, read now, on the CPU; ready for ``load_state_dict``."""
        if self.path is None:
            raise RecordError(f"{self.name} is not saved, so it has no weights: save_run it first.")
        with _weights(self.path, "pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
            aliases = file.metadata() or {}
        return found | {alias: found[name] for alias, name in aliases.items()}

    def __repr__(self) -> str:
        name = self.metric.get("name", "")
        value = self.metrics.get(name, math.nan)
        return (
            f"Run({self.name}, {self.settings['benchmark']} {self.settings['scale']}, "
            f"{name} {value:.4g}, {len(self.history)} epochs, key {self.key})"
        )


def run_key(settings: Mapping[str, Any], data_sha256: str) -> str:
    """16 hexadecimal digits that name a run: SHA-256 of settings and data in canonical JSON.

    Keys are sorted and floats written by ``repr``, so the order of the settings does not matter,
    but ``1`` and ``1.0`` are two values.

    Raises:
        RecordError: a setting is not plain JSON (a NaN, a tensor, a path, ...).

    Example:
        >>> run_key({"arm": "kd", "seed": 0}, "ab") == run_key({"seed": 0, "arm": "kd"}, "ab")
        True
    """
    plain = {"settings": _plain(settings, "settings"), "data": _plain(data_sha256, "data_sha256")}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str | None]:
    """Versions of the libraries a result depends on (None: not installed), without importing."""

    def version(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            module = sys.modules.get(name.replace("-", "_"))  # a checkout that is not installed
            return getattr(module, "__version__", None)

    libraries = {name: version(name) for name in LIBRARIES}
    system = {"python": platform.python_version(), "platform": platform.platform()}
    return {"qrkd_lab": version("qrkd-lab")} | libraries | system


def save_run(run: Run, weights: Mapping[str, Tensor], root: str | os.PathLike[str]) -> Path:
    """Write a run's record and weights under ``root``; returns its folder.

    If the same run is there already (another process finished it first), that one is kept.
    Tensors that share all their memory (tied weights) are stored once.

    Args:
        run: the finished run.
        weights: the student's ``state_dict()``; on any device.
        root: the folder of all records; made if missing.

    Raises:
        RecordError: the record is not strict JSON, its key does not belong to it, or the disk is
            full or read-only. Nothing is left behind then.
    """
    plain = _plain({"format": FORMAT} | {n: getattr(run, n) for n in FIELDS}, "run")
    target = Path(root, *_place(plain))
    if run.key != (expected := run_key(run.settings, run.data.get("sha256"))):
        raise RecordError(f"{run.name} has key {run.key}, its settings and data give {expected}.")
    text = json.dumps(plain, indent=1, allow_nan=False)
    hidden = target.with_name(f".{target.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        hidden.mkdir()
        (hidden / WEIGHTS).write_bytes(_pack(weights))
        (hidden / RECORD).write_text(text, encoding="utf-8")
        for path in (hidden / WEIGHTS, hidden / RECORD, hidden):
            _sync(path)
        _rename(hidden, target)
        _sync(target.parent)
    except OSError as error:
        raise RecordError(
            f"{run.name} could not be saved in {target}: {error.strerror or error}. "
            "Make room or give a folder that can be written, and run it again."
        ) from error
    finally:  # gone already when the rename succeeded
        shutil.rmtree(hidden, ignore_errors=True)
    return target


def load_run(path: str | os.PathLike[str]) -> Run:
    """Read the run in one folder, and check that it is whole.

    Raises:
        RecordError: the record is cut, of another format, not the run its folder's name says,
            or its weights are missing or cut.
    """
    path = Path(path)
    record = _read_record(path)
    if record.get("format") != FORMAT:
        writer = (record.get("versions") or {}).get("qrkd_lab") or "of an unknown version"
        raise RecordError(
            f"{path} was written by qrkd_lab {writer} in format {record.get('format')!r}; this "
            f"version reads format {FORMAT}. Read it with that version, or delete the folder and "
            "run again."
        )
    if missing := sorted(FIELDS - record.keys()):
        raise _damaged(path, f"{RECORD} lacks {', '.join(missing)}")
    try:
        key, name = run_key(record["settings"], record["data"]["sha256"]), _place(record)[-1]
    except (KeyError, TypeError, AttributeError, RecordError) as error:
        raise _damaged(path, f"{RECORD} has no usable settings or data ({error})") from error
    if record["key"] != key or path.resolve().name != name:
        raise _damaged(
            path, f"it says {name}, its settings and data give key {key}: edited or moved"
        )
    with _weights(path, "numpy"):
        pass
    return Run(**{name: record[name] for name in FIELDS}, path=path)


def find_run(
    root: str | os.PathLike[str], benchmark: str, scale: str, arm: str, seed: int, key: str
) -> Run | None:
    """The run with this key if it is there and whole, None if it is not there.

    Raises:
        RecordError: it is there but damaged (see :func:`load_run`).
    """
    settings = {"benchmark": benchmark, "scale": scale, "arm": arm, "seed": seed}
    path = Path(root, *_place({"settings": settings, "key": key}))
    return load_run(path) if os.path.lexists(path) else None


def read_runs(
    root: str | os.PathLike[str], benchmark: str | None = None, scale: str | None = None
) -> list[Run]:
    """All whole runs under ``root``, sorted; a damaged one is left out with a warning naming it.

    A ``root`` that does not exist holds no runs: the list is empty.
    """
    runs = []
    for path in sorted(Path(root).glob(f"{benchmark or '*'}/{scale or '*'}/*")):
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            runs.append(load_run(path))
        except RecordError as error:
            warnings.warn(f"left out of the results: {error}", stacklevel=2)
    order = ("benchmark", "scale", "arm", "seed")
    return sorted(runs, key=lambda run: (*(run.settings[name] for name in order), run.key))


FIELDS = {item.name for item in fields(Run)} - {"path"}


def _plain(value: Any, where: str) -> Any:  # noqa: ANN401
    """A copy made of plain JSON values only; anything else is refused by its place."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        raise RecordError(f"{where} is {value}: a record holds finite numbers. Did it diverge?")
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    raise RecordError(
        f"{where} is a {type(value).__name__} ({value!r:.60}): a record holds None, bool, int, "
        "float, str, lists and dictionaries with str keys. Convert it, e.g. with float()."
    )


def _place(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """Benchmark, scale and folder name of a record; each must be a plain file name."""
    settings = record["settings"]
    if missing := [n for n in ("benchmark", "scale", "arm", "seed") if settings.get(n) is None]:
        raise RecordError(f"settings must hold benchmark, scale, arm and seed: no {missing}.")
    name = f"{settings['arm']}-seed{settings['seed']}-{record['key']}"
    for part in (parts := (settings["benchmark"], settings["scale"], name)):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", part):
            raise RecordError(f"{part!r} cannot name a folder: use letters, digits and _ . + -")
    return parts


def _pack(weights: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    first: dict[Any, str] = {}  # where a tensor lies -> its first name
    aliases: dict[str, str] = {}  # safetensors' own custom: a tied name -> the name that is stored
    for name, tensor in weights.items():
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and (owner := first.setdefault(memory, name)) != name:
            aliases[name] = owner
    kept = {name: weights[name].detach().cpu() for name in weights if name not in aliases}
    return save({n: t.clone().contiguous() for n, t in kept.items()}, metadata=aliases or None)


def _sync(path: Path) -> None:
    """Force a file or folder to the disk (on Windows neither can be opened for that)."""
    if os.name == "posix":
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _rename(hidden: Path, target: Path) -> None:
    try:
        os.rename(hidden, target)
    except OSError:
        if not target.exists():
            raise
        load_run(target)  # another process was first: keep its record, if it is whole


def _sweep(folder: Path) -> None:
    """Remove what killed processes left; an entry may vanish while we look."""
    for path in folder.glob(".*.tmp"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)


def _damaged(path: Path, what: str) -> RecordError:
    return RecordError(f"{path} is damaged: {what}. Delete this folder and run again.")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = _plain(json.loads((path / RECORD).read_bytes()), "record")
    except (OSError, ValueError, RecursionError, RecordError) as error:
        raise _damaged(path, f"{RECORD} cannot be read ({error})") from error
    if not isinstance(record, dict):
        raise _damaged(path, f"{RECORD} holds no dictionary")
    return record


@contextmanager
def _weights(path: Path, framework: str) -> Iterator[Any]:
    """The open weights; opening checks that the header is whole and covers the file's length."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path / WEIGHTS, framework=framework) as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise _damaged(path, f"{WEIGHTS} is missing or cut ({error})") from error
