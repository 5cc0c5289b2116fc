"""Records of finished runs: one folder a run, either whole or not there.

A run is one benchmark, scale, arm and seed. Its folder is

    <root>/<benchmark>/<scale>/<arm>-seed<seed>-<key>/
        record.json           settings, versions, data, history, metrics, digests (strict JSON)
        weights.safetensors   the student's weights

``key`` is a hash of the settings and of the data's content: change either, and the run is another
run. That is what makes a study resumable: a run whose folder is there need not be run again.

:mod:`qrkd_lab.storage` writes it, so that no interruption leaves half a record; and whatever was
damaged later is refused with a :class:`RecordError`, not counted. For that, ``record.json`` holds
the SHA-256 of the weights file (``weights_sha256``) and of all its own other fields
(``record_sha256``). Records written before there were digests have neither, and are still read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.storage import (
    RecordError,
    canonical_sha256,
    check_digests,
    damaged,
    expanded,
    plain,
    read_json,
    write_folder,
    writing,
    wrong_types,
)
from qrkd_lab.weights import open_weights, pack_weights, read_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMAT", "RecordError", "Run", "find_run", "is_record", "load_run", "read_runs",
    "record_folder", "run_key", "save_run", "versions",
]  # fmt: skip

FORMAT = 1
RECORD, WEIGHTS = "record.json", "weights.safetensors"
_NAME = re.compile(r".+-seed\d+-[0-9a-f]{16}")  # a record's folder, even if its record is gone
LIBRARIES = ("torch", "torchvision", "transformers", "tokenizers", "pennylane", "numpy")


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
        if not (self.path / WEIGHTS).exists():
            raise RecordError(
                f"{self.name} was published without its weights: train it, "
                "e.g. compare(..., published=False)."
            )
        return read_weights(self.path / WEIGHTS)

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
    named = {"settings": plain(settings, "settings"), "data": plain(data_sha256, "data_sha256")}
    return canonical_sha256(named)[:16]


def versions() -> dict[str, str | None]:
    """Versions of the libraries a result depends on (None: not installed), without importing.

    ``cpu`` is the widest vector instructions that torch uses (``AVX2``, say; None before it is
    imported): sums in another order are rounded otherwise, and training makes much of little.
    """

    def version(name: str) -> str | None:
        try:
            return _installed(name)
        except metadata.PackageNotFoundError:
            module = sys.modules.get(name.replace("-", "_"))  # a checkout that is not installed
            return getattr(module, "__version__", None)

    libraries = {name: version(name) for name in LIBRARIES}
    torch = sys.modules.get("torch")
    system = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability() if torch else None,
    }
    return {"qrkd_lab": version("qrkd-lab")} | libraries | system


@cache
def _installed(name: str) -> str:
    """The version of a distribution, whose metadata are long to read."""
    return metadata.version(name)


def save_run(run: Run, weights: Mapping[str, Tensor], root: str | os.PathLike[str]) -> Path:
    """Write a run's record and weights under ``root``; returns its folder.

    If the same run is there already (another process finished it first), that one is kept.
    Tensors that share all their memory (tied weights) are stored once.

    Args:
        run: the finished run.
        weights: the student's ``state_dict()``; on any device.
        root: the folder of all records; made if missing.

    Raises:
        RecordError: the record is not strict JSON, lacks what a run has, its key does not belong
            to it, or the disk is full or read-only. Nothing is left behind then.
    """
    record = plain({"format": FORMAT} | {n: getattr(run, n) for n in FIELDS}, "run")
    if wrong := wrong_types(record):
        raise RecordError(f"this run cannot be recorded: {wrong}.")
    target = Path(expanded(root), *_place(record))
    if run.key != (expected := run_key(run.settings, run.data.get("sha256"))):
        raise RecordError(f"{run.name} has key {run.key}, its settings and data give {expected}.")
    packed = pack_weights(weights)
    record["weights_sha256"] = hashlib.sha256(packed).hexdigest()
    record["record_sha256"] = canonical_sha256(record)
    text = json.dumps(record, indent=1, allow_nan=False)
    with writing(f"{run.name} in {target}"):
        if not write_folder(target, {WEIGHTS: packed, RECORD: text.encode()}):
            load_run(target)  # another process was first: keep its record, if it is whole
    return target


def load_run(path: str | os.PathLike[str], weights: bool = True) -> Run:
    """Read the run in one folder, and check that it is whole.

    Args:
        path: the folder.
        weights: False: a record without its weights is whole too, see :mod:`qrkd_lab.published`.

    Raises:
        RecordError: there is no such folder; the record is cut, edited, of another format, not the
            run its folder's name says, or its weights are missing, cut or changed.
    """
    if not isinstance(weights, bool):
        raise TypeError(f"weights: expected True or False, got {weights!r}")
    path = expanded(path)
    if not path.is_dir():
        raise RecordError(
            f"there is no folder {path}: give that of one run, <arm>-seed<seed>-<key>"
        )
    record = read_json(path / RECORD)
    if record.get("format") != FORMAT:
        said = record.get("versions")
        writer = (said.get("qrkd_lab") if isinstance(said, dict) else None) or "of unknown version"
        raise RecordError(
            f"{path} was written by qrkd_lab {writer} in format {record.get('format')!r}; this "
            f"version reads format {FORMAT}. Read it with that version, or delete the folder and "
            "run again."
        )
    if missing := sorted(FIELDS - record.keys()):
        raise damaged(path, f"{RECORD} lacks {', '.join(missing)}")
    if wrong := wrong_types(record):
        raise damaged(path, f"{RECORD} has no usable {wrong}")
    try:
        key, name = run_key(record["settings"], record["data"]["sha256"]), _place(record)[-1]
    except (KeyError, TypeError, AttributeError, RecordError) as error:
        raise damaged(path, f"{RECORD} has no usable settings or data ({error})") from error
    if record["key"] != key or path.resolve().name != name:
        raise damaged(
            path, f"it says {name}, its settings and data give key {key}: edited or moved"
        )
    held = weights or (path / WEIGHTS).exists()
    if held:
        with open_weights(path / WEIGHTS, "numpy"):
            pass
    check_digests(path / RECORD, path / WEIGHTS if held else None, record)
    return Run(**{name: record[name] for name in FIELDS}, path=path)


def find_run(
    root: str | os.PathLike[str], benchmark: str, scale: str, arm: str, seed: int, key: str
) -> Run | None:
    """The run with this key if it is there and whole, None if it is not there.

    Raises:
        RecordError: it is there but damaged (see :func:`load_run`).
    """
    settings = {"benchmark": benchmark, "scale": scale, "arm": arm, "seed": seed}
    path = Path(expanded(root), *_place({"settings": settings, "key": key}))
    return load_run(path) if os.path.lexists(path) else None


def read_runs(
    root: str | os.PathLike[str],
    benchmark: str | None = None,
    scale: str | None = None,
    weights: bool = True,
    damaged: list[str] | None = None,
) -> list[Run]:
    """All whole runs under ``root``, sorted; a damaged one is left out with a warning naming it.

    Other folders that lie there (data, say) are passed over. A ``root`` that does not exist holds
    no runs: the list is empty. ``weights`` as in :func:`load_run`. What is wrong with those that
    were left out is added to ``damaged``.
    """
    runs = []
    for path in sorted(expanded(root).glob(f"{benchmark or '*'}/{scale or '*'}/*")):
        if path.name.startswith(".") or not is_record(path):
            continue
        try:
            runs.append(load_run(path, weights))
        except RecordError as error:
            warnings.warn(f"left out of the results: {error}", stacklevel=2)
            if damaged is not None:
                damaged.append(str(error))
    order = ("benchmark", "scale", "arm", "seed")
    return sorted(runs, key=lambda run: (*(run.settings[name] for name in order), run.key))


def record_folder(settings: Mapping[str, Any], data_sha256: str) -> str:
    """The name of the folder that holds the record of a run, once there is one."""
    return _place({"settings": settings, "key": run_key(settings, data_sha256)})[-1]


def is_record(path: Path) -> bool:
    """Whether a folder is one of a record, whole or damaged: by its name, or by what it holds."""
    return path.is_dir() and bool(_NAME.fullmatch(path.name) or (path / RECORD).exists())


FIELDS = {item.name for item in fields(Run)} - {"path"}


def _place(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """Benchmark, scale and folder name of a record; each must be a plain file name."""
    settings = record["settings"]
    if missing := [n for n in ("benchmark", "scale", "arm", "seed") if settings.get(n) is None]:
        raise RecordError(f"settings must hold benchmark, scale, arm and seed: no {missing}.")
    if type(settings["seed"]) is not int or not isinstance(settings["arm"], str):
        said = f"{settings['arm']!r:.60} and {settings['seed']!r:.60}"
        raise RecordError(f"settings: arm must be a str and seed an int, got {said}.")
    name = f"{settings['arm']}-seed{settings['seed']}-{record['key']}"
    for part in (parts := (settings["benchmark"], settings["scale"], name)):
        if not isinstance(part, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", part):
            raise RecordError(f"{part!r} cannot name a folder: use letters, digits and _ . + -")
    return parts
