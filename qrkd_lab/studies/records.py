"""Records of finished runs: one folder per run, either whole or not there.

A run is one benchmark, scale, arm and seed. Its folder is

    <root>/<benchmark>/<scale>/<arm>-seed<seed>-<key>/
        record.json           settings, versions, data, history, metrics, digests (strict JSON)
        weights.safetensors   the student's weights

``key`` is a hash of the settings and of the data's content. ``record.json`` holds the SHA-256 of
the weights file (``weights_sha256``) and of its own other fields (``record_sha256``): a record that
was damaged or edited is refused with a :class:`RecordError`.
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qrkd_lab.files import (
    PROJECT,
    RecordError,
    canonical_sha256,
    damaged,
    expanded,
    file_sha256,
    parsed_json,
    plain,
    read_file,
    sealed,
    unsealed,
    write_folder,
    writing,
)

if TYPE_CHECKING:
    from torch import Tensor

    from qrkd_lab.studies.settings import Settings

__all__ = [
    "FORMAT",
    "NAME",
    "PUBLISHED",
    "RecordError",
    "Run",
    "find_run",
    "has_weights",
    "load_run",
    "pack",
    "pack_weights",
    "publish",
    "published_runs",
    "published_seeds",
    "read_runs",
    "read_weights",
    "record_folder",
    "run_key",
    "save_run",
    "scan_runs",
    "unpack",
    "versions",
]


FORMAT = 2
RECORD, WEIGHTS = "record.json", "weights.safetensors"
SEEN = "[!.]*"  # folders that are not hidden, as what is being written is
NAME = re.compile("[A-Za-z0-9_][A-Za-z0-9_.+-]*")  # that a folder may have
KINDS: dict[str, type] = {
    "settings": dict, "given": dict, "key": str, "versions": dict, "device": str, "data": dict,
    "metric": dict, "parameters": int, "history": list, "metrics": dict, "seconds": dict,
    "finished": str, "weights_sha256": str,
}  # fmt: skip
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
        history: one dictionary per epoch: ``epoch``, the loss terms, accuracies.
        metrics: final numbers by name.
        seconds: ``{"train": ..., "evaluate": ...}``; the first is needed.
        finished: time in ISO 8601.
        given: those of the settings that were given, as they are not the benchmark's defaults.
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
    given: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Arm and seed in words: ``"qrkd seed 0"``."""
        return f"{self.settings['arm']} seed {self.settings['seed']}"

    def weights(self) -> dict[str, Tensor]:
        """The saved weights by name, on the CPU, ready for ``load_state_dict``; checked again."""
        if self.path is None:
            raise RecordError(f"{self.name} is not saved, so it has no weights: save_run it first.")
        if not os.path.lexists(self.path / WEIGHTS):
            raise RecordError(
                f"{self.name} was published without its weights: train it, "
                "e.g. compare(..., published=False)."
            )
        load_run(self.path)
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
    imported): they decide in which order sums are rounded.
    """
    torch = sys.modules.get("torch")
    return {
        "qrkd_lab": _version("qrkd-lab"),
        **{name: _version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": torch.backends.cpu.get_cpu_capability() if torch else None,
    }


@cache  # metadata are slow to read
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        module = sys.modules.get(name.replace("-", "_"))  # a checkout that is not installed
        return getattr(module, "__version__", None)


def save_run(run: Run, weights: Mapping[str, Tensor], root: str | os.PathLike[str]) -> Path:
    """Write a run's record and weights under ``root``; returns its folder.

    If the same run is there already (another process finished it first), that one is kept.
    ``weights`` is the student's ``state_dict()``, on any device.

    Raises:
        RecordError: the record is not strict JSON, lacks what a run has, its key does not belong
            to it, or the disk is full or read-only. Nothing is left behind then.
    """
    record = plain({"format": FORMAT} | {n: getattr(run, n) for n in FIELDS}, "run")
    packed = pack_weights(weights)
    record["weights_sha256"] = hashlib.sha256(packed).hexdigest()
    if wrong := _wrong(record):
        raise RecordError(f"this run cannot be recorded: {wrong}.")
    target = Path(expanded(root), *record_place(record))
    text = json.dumps(sealed(record, "record_sha256"), indent=1, allow_nan=False)
    with writing(f"{run.name} in {target}"):
        if not write_folder(target, {WEIGHTS: packed, RECORD: text.encode()}):
            load_run(target)  # another process was first: keep its record, if it is whole
    return target


def load_run(path: str | os.PathLike[str], weights: bool = True) -> Run:
    """Read the run in one folder, and check that it is whole.

    With ``weights=False`` a record without its weights, as some are published, is whole too.

    Raises:
        RecordError: there is no such folder; the record is cut, edited, of another format, not the
            run its folder's name says, or its weights are missing, cut or changed; or a file cannot
            be read.
    """
    if not isinstance(weights, bool):
        raise TypeError(f"weights: expected True or False, got {weights!r}")
    path = expanded(path)
    if not path.is_dir():
        raise RecordError(
            f"there is no folder {path}: give that of one run, <arm>-seed<seed>-<key>"
        )
    try:
        record = parsed_json(read_file(path / RECORD))
        if record.get("format", FORMAT) == FORMAT:
            unsealed(record, "record_sha256")
    except ValueError as error:
        raise damaged(path, f"{RECORD} {error}") from error
    if wrong := _wrong(record):
        raise RecordError(
            f"{path} cannot be used: it has {wrong}. It is as another program or version wrote it: "
            "read it with that, or move it elsewhere, and run again."
        )
    if path.resolve().name != (name := record_place(record)[-1]):
        raise RecordError(
            f"{path} was edited or moved: it holds {name}. Give the folder that name, or move it "
            "elsewhere."
        )
    held = weights or os.path.exists(path / WEIGHTS)
    if held and file_sha256(path / WEIGHTS) != record["weights_sha256"]:
        raise damaged(path, f"{WEIGHTS} was changed or cut: its digest does not match")
    return Run(**{name: record[name] for name in FIELDS}, path=path)


def _wrong(record: Mapping[str, Any]) -> str:
    """What in a record is not as :class:`Run` says, in words; empty if all is."""
    if record.get("format") != FORMAT:
        return f"format {record.get('format')!r:.60}, where this version has format {FORMAT}"
    for name, kind in KINDS.items():
        if not isinstance(record.get(name), kind):
            return f"{name}: expected {kind.__name__}, got {record.get(name)!r:.60}"
    metric, metrics = record["metric"], record["metrics"]
    if metric.get("name") not in metrics or not isinstance(metric.get("higher_is_better"), bool):
        return f"metric: expected the name of one of the metrics and higher_is_better, got {metric}"
    for name, value in metrics.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"metrics: {name} = {value!r:.60} is no number"
    if "train" not in record["seconds"] or not all("epoch" in e for e in record["history"]):
        return "no seconds of training, or a history without epochs"
    try:
        record_place(record)
        key = run_key(record["settings"], record["data"].get("sha256"))
    except RecordError as error:
        return f"settings: {error}"
    if record["key"] != key:
        return f"key {record['key']:.60}, where settings and data give {key}: edited or moved"
    return ""


def find_run(
    root: str | os.PathLike[str], settings: Mapping[str, Any], data_sha256: str
) -> Run | None:
    """The run of these settings and data; None if it is not there; see :func:`load_run`."""
    path = record_folder(root, settings, data_sha256)
    return load_run(path) if path.exists() else None


def record_folder(
    root: str | os.PathLike[str], settings: Mapping[str, Any], data_sha256: str
) -> Path:
    """Where the record of a run lies under a root, once there is one."""
    record = {"settings": settings, "key": run_key(settings, data_sha256)}
    return Path(expanded(root), *record_place(record))


def read_runs(
    root: str | os.PathLike[str],
    benchmark: str | None = None,
    scale: str | None = None,
    weights: bool = True,
    damaged: list[str] | None = None,
) -> list[Run]:
    """All whole runs under ``root``, sorted; any other is left out with a warning naming it.

    Other folders that lie there (data, say) are passed over. A ``root`` that does not exist holds
    no runs: the list is empty. ``weights`` as in :func:`load_run`. What is wrong with those that
    were left out is added to ``damaged``.
    """
    runs, problems = scan_runs([root], benchmark, scale, weights)
    for problem in problems:
        warnings.warn(f"left out of the results: {problem}", stacklevel=2)
    if damaged is not None:
        damaged += problems
    return runs


def scan_runs(
    roots: Iterable[str | os.PathLike[str]],
    benchmark: str | None = None,
    scale: str | None = None,
    weights: bool = False,
) -> tuple[list[Run], list[str]]:
    """The whole runs of folders, sorted within each, and in words what is wrong with others."""
    found: list[Run] = []
    problems: list[str] = []
    for root in map(expanded, roots):
        runs = []
        for path in sorted(root.glob(f"{benchmark or SEEN}/{scale or SEEN}/{SEEN}/{RECORD}")):
            try:
                runs.append(load_run(path.parent, weights))
            except RecordError as error:
                problems.append(str(error))
        order = ("benchmark", "scale", "arm", "seed")
        found += sorted(runs, key=lambda run: (*(run.settings[name] for name in order), run.key))
    return found, problems


FIELDS = {item.name for item in fields(Run)} - {"path"}


def record_place(record: Mapping[str, Any]) -> tuple[str, str, str]:
    """Benchmark, scale and folder name of a record; each must be a plain file name."""
    settings = record["settings"]
    if missing := [n for n in ("benchmark", "scale", "arm", "seed") if settings.get(n) is None]:
        raise RecordError(f"settings must hold benchmark, scale, arm and seed: no {missing}.")
    if type(settings["seed"]) is not int or not isinstance(settings["arm"], str):
        said = f"{settings['arm']!r:.60} and {settings['seed']!r:.60}"
        raise RecordError(f"settings: arm must be a str and seed an int, got {said}.")
    name = f"{settings['arm']}-seed{settings['seed']}-{record['key']}"
    for part in (parts := (settings["benchmark"], settings["scale"], name)):
        if not isinstance(part, str) or not NAME.fullmatch(part):
            raise RecordError(f"{part!r} cannot name a folder: use letters, digits and _ . + -")
    return parts


# ---- weights


def pack_weights(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as the content of a safetensors file; tied ones are stored once, with an alias."""
    from safetensors.torch import save

    first: dict[Any, str] = {}  # where a tensor lies -> its first name
    aliases: dict[str, str] = {}  # safetensors' own custom: a tied name -> the name that is stored
    for name, tensor in weights.items():
        memory = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and (owner := first.setdefault(memory, name)) != name:
            aliases[name] = owner
    kept = {name: weights[name].detach().cpu() for name in weights if name not in aliases}
    return save({n: t.clone().contiguous() for n, t in kept.items()}, metadata=aliases or None)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors by name that :func:`pack_weights` packed, on the CPU, tied ones again twice."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}
            aliases = file.metadata() or {}
    except (FileNotFoundError, SafetensorError) as error:
        raise damaged(path.parent, f"{path.name} is missing or cut ({error})") from error
    return found | {alias: found[name] for alias, name in aliases.items()}


# ---- records that travel


def pack(run: Run) -> dict[str, bytes]:
    """The files of a record, for a machine that shares no disk."""
    return {name: read_file(run.path / name) for name in (RECORD, WEIGHTS)}


def unpack(files: Mapping[str, bytes], runs_dir: Path) -> Run:
    """Write a record where it belongs under a folder, unless it is there already, and read it."""
    place = runs_dir.joinpath(*record_place(parsed_json(files[RECORD])))
    with writing(f"a record that was trained elsewhere, in {place},"):
        write_folder(place, files)
    return load_run(place)


# ---- published


PUBLISHED = PROJECT / "results"  # of a checkout; an installed wheel has none
LARGEST_PUBLISHED = 300_000  # bytes of weights that are published: a CNN's are, a GPT-2's are not


def published_runs(
    benchmark: str | None = None, scale: str | None = None, folder: str | Path = PUBLISHED
) -> list[Run]:
    """All records that came with the kit, of one benchmark and scale or of all; may be none."""
    return read_runs(folder, benchmark, scale, weights=False)


def published_seeds(
    wanted: Sequence[Settings], seeds: Iterable[int], folder: str | Path = PUBLISHED
) -> dict[int, list[Run]]:
    """Seeds of which every wanted run is published, with these runs, in the order of ``wanted``.

    ``wanted`` are the settings of the arms on one benchmark and scale; the seed is set here.
    """
    there = published_runs(wanted[0].benchmark, wanted[0].scale, folder)
    found = {}
    for seed in seeds:
        asked = [settings.replace(seed=seed).effective() for settings in wanted]
        runs = [next((run for run in there if run.settings == one), None) for one in asked]
        if None not in runs and len({run.data["sha256"] for run in runs}) == 1:
            found[seed] = runs
    return found


def has_weights(run: Run) -> bool:
    """Whether ``run.weights()`` has something to read."""
    return run.path is not None and os.path.exists(run.path / WEIGHTS)


def publish(
    runs: Iterable[Run], folder: str | Path = PUBLISHED, largest: int = LARGEST_PUBLISHED
) -> int:
    """Copy saved records into a folder, as they are; weights only up to ``largest`` bytes.

    A record that is there already is kept. Returns how many were copied.
    """
    count = 0
    for run in runs:
        if run.path is None:
            raise RecordError(f"{run.name} is not saved: save_run it first, then publish it.")
        load_run(run.path, weights=has_weights(run))
        small = has_weights(run) and (run.path / WEIGHTS).stat().st_size <= largest
        target = Path(expanded(folder), *run.path.resolve().parts[-3:])
        files = {name: read_file(run.path / name) for name in (RECORD, WEIGHTS)[: 1 + small]}
        with writing(f"the record in {target}", "out"):
            count += write_folder(target, files)
    return count
