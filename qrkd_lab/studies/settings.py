"""Settings: everything that decides what a run computes, in one flat frozen record.

A run's identity is its settings (and its data). :meth:`Settings.effective` keeps only what the
run's arm uses: the ``kd`` run with another kernel is the same run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral, Real
from typing import Any

import torch
import yaml
from torch import Tensor

from qrkd_lab.checks import positive
from qrkd_lab.kernels import KERNELS
from qrkd_lab.kernels.classical import Kernel
from qrkd_lab.kernels.encoders import ENCODERS
from qrkd_lab.losses import check_batch
from qrkd_lab.models.gpt2 import HEAD
from qrkd_lab.relations import Relation
from qrkd_lab.seeds import generator
from qrkd_lab.studies.arms import TEACHER, Arm, get_arm

__all__ = ["Settings", "build_kernel", "parse_parameters", "typed"]


# How often a run is saved on the way changes no number; a weight is recorded as the one it was.
_NOT_IDENTITY = ("checkpoint_steps", "kernel_weights")
_OF_TERM = {  # what only an arm with this term uses
    "kd": ("kd_weight", "temperature"),
    "distance": ("distance_weight",),
    "angle": ("angle_weight",),
    "kernel": (
        "kernel_weight", "kernel_dose", "kernel_share", "kernel", "encoder", "bandwidth", "qubits",
        "feature_map", "layers",
    ),
}  # fmt: skip
_OF_STUDENT = (
    "epochs", "stop_after", "student_size", "unlabelled", "student_widths", "student_layers",
    "student_width", "student_sha256",
)  # fmt: skip
_SAID = ("name", "meaning", "kernel")  # of an arm of a user's own, beside what it does
_PULLS = ("kernel_weight", "kernel_dose", "kernel_share")  # how hard the kernel pulls
_WORDS = {
    "kernel": KERNELS,
    "encoder": ENCODERS,
    "schedule": ("constant", "cosine"),
    "precision": ("float32", "bfloat16"),
    "tap": ("mean", "last", "tokens"),
}
# What is expected in words, the check, and the settings that it is for.
_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("at least 1", lambda value: value >= 1,
     "epochs stop_after epoch_size batch_size accumulation checkpoint_steps qubits layers "
     "teacher_layers student_layers tap_tokens sequence_length test_size student_size "
     "validation_size"),
    ("at least 0", lambda value: value >= 0, "teacher_epochs unlabelled"),
    (f"a multiple of {HEAD}, the width of a head", lambda value: value >= 1 and value % HEAD == 0,
     "teacher_width student_width"),
    ("a number > 0", lambda value: 0 < value < math.inf,
     "learning_rate teacher_learning_rate temperature clip_norm kernel_dose"),
    ("a finite number >= 0", lambda value: 0 <= value < math.inf,
     "kd_weight distance_weight angle_weight kernel_weight"),
    ("a fraction from 0 to below 1", lambda value: 0 <= value < 1, "dropout"),
    ("a fraction above 0, at most 1", lambda value: 0 < value <= 1, "kernel_share"),
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What a run computes. Lengths are in epochs and samples; weights and angles have no unit.

    A sample is an image, a review (``imdb-sentiment``), or ``sequence_length`` tokens of a text;
    sizes of a text's parts are in tokens. ``arms.BENCHMARKS`` has what differs from these defaults
    by benchmark and scale. None: the benchmark has no use for it, or decides by itself.
    """

    benchmark: str
    scale: str
    arm: str = "qrkd"
    own_arm: Arm | None = None  # what an arm of a user's own is
    seed: int = 0
    # data
    train_size: int | None = None  # None: all that the validation part leaves
    student_size: int | None = None  # samples that students see, drawn anew per seed; None: all
    unlabelled: int = 0  # further ones that they see without their labels: the task ignores them
    validation_size: int | None = None  # None: 5,000 of MNIST and CIFAR-10, 297 of the digits
    test_size: int | None = None  # of a text or of reviews; None: all
    # models: a CNN's widths, a GPT-2's layers and width
    teacher_widths: tuple[int, ...] | None = None
    student_widths: tuple[int, ...] | None = None
    teacher_layers: int | None = None
    teacher_width: int | None = None
    student_layers: int | None = None
    student_width: int | None = None
    teacher_model: str | None = None  # a GPT-2 from the hub or a folder, fine-tuned as the teacher
    teacher_sha256: str | None = None  # of a user's own model: its layers, weights and answers
    student_sha256: str | None = None
    # text
    vocabulary: int | None = None  # of the byte-level BPE; None: the tokenizer of teacher_model
    sequence_length: int | None = None
    tap: str | None = None  # what of the hidden states the relations compare
    tap_tokens: int | None = None  # n, where tap is "tokens"
    # training
    teacher_epochs: int = 3  # 0: it is used as it was made
    epochs: int = 3
    stop_after: int | None = None  # epochs after which students were stopped, of all those planned
    epoch_size: int | None = None  # samples per epoch, drawn anew each time; None: all
    batch_size: int = 64
    accumulation: int = 1  # batches per optimiser step; relations are within a batch
    learning_rate: float = 3e-3  # three epochs of MNIST: 96.3 % validated, 95.8 % at 1e-3
    teacher_learning_rate: float | None = None  # None: the student's
    schedule: str = "constant"  # "cosine": a warm-up of 3 % of the steps, then down to 0
    clip_norm: float | None = None  # of the student's gradient, and of its adapter's
    dropout: float | None = None
    precision: str | None = None
    checkpoint_steps: int | None = None  # None: about once a minute
    # loss terms: a small search on MNIST's validation part (two seeds) found nothing that stood
    # out of the noise; these were among the best of each arm
    kd_weight: float = 0.3
    temperature: float = 4.0
    distance_weight: float = 1.0
    angle_weight: float = 2.0
    kernel_weight: float | None = None  # None: the arm's own, by kernel_weights
    kernel_weights: tuple[tuple[str, float], ...] = ()  # of arms, as they were tuned; else qrkd's
    kernel_dose: float | None = None  # in place of a weight: the pull, in that of distance + angle
    kernel_share: float | None = None  # in place of a dose: the pull that these then lack
    # the kernel term
    kernel: str = "fidelity"
    feature_map: str = "zz"
    qubits: int = 6
    layers: int | None = None  # None: the feature map's own default
    bandwidth: float | None = None  # None: by calibrated() on the teacher
    encoder: str = "adapter"

    @property
    def epochs_to_train(self) -> int:
        """Of the student: those planned, or those after which it is stopped."""
        return self.epochs if self.stop_after is None else self.stop_after

    @property
    def variant(self) -> Arm | None:
        """What the arm is; None: the teacher."""
        if self.arm == TEACHER:
            return None
        return self.own_arm or get_arm(self.arm)

    @property
    def by_pull(self) -> dict[str, float]:
        """The ``kernel_dose`` or ``kernel_share`` of this arm; empty where it has a weight."""
        arm = self.variant
        if arm is None or "kernel" not in arm.terms:
            return {}
        found = {"kernel_dose": self.kernel_dose, "kernel_share": self.kernel_share}
        if arm.share is not None:
            found = {"kernel_share": arm.share}
        return {name: value for name, value in found.items() if value is not None}

    def weight(self, term: str) -> float:
        """The weight of a loss term; the kernel's is the arm's own where none is set for all."""
        if term == "kernel" and self.by_pull:
            return 1.0  # the pull decides
        if term == "kernel" and self.kernel_weight is None:
            own = dict(self.kernel_weights)
            return own.get(self.arm, own.get("qrkd", 1.0))
        return getattr(self, f"{term}_weight")

    def replace(self, **changes: Any) -> Settings:  # noqa: ANN401
        """A copy with some fields changed, checked by name and type.

        ``kernel_weights`` of the arms, a ``kernel_dose`` and a ``kernel_share`` take the place of
        a ``kernel_weight`` for all, and the latter two of each other, unless both are given. An
        ``arm`` is a name, or an :class:`~qrkd_lab.studies.arms.Arm` that has one.

        Raises:
            ValueError: an unknown field (lists them) or a value out of range.
            TypeError: a value of another type than the field's.
        """
        known = {field.name for field in fields(self)}
        if unknown := changes.keys() - known:
            raise ValueError(
                f"unknown setting {min(unknown)!r}; choose from {', '.join(sorted(known))}"
            )
        if "arm" in changes:
            own = changes["arm"] if isinstance(changes["arm"], Arm) else None
            changes |= {"arm": changes["arm"] if own is None else own.name, "own_arm": own}
        given = {name for name in _PULLS if changes.get(name) is not None}
        if given or "kernel_weights" in changes:
            changes = dict.fromkeys(_PULLS if given else ("kernel_weight",)) | changes
        settings = dataclasses.replace(self, **{n: typed(n, v) for n, v in changes.items()})
        settings.check()
        return settings

    def check(self) -> None:
        """Raise ValueError for a value out of range, or what cannot be for this arm.

        What only other arms use is checked for its range alone: a student from scratch may have
        any weights, and batches too small for a relation.
        """
        for expected, fits, names in _RANGES:
            for name in names.split():
                if (value := getattr(self, name)) is not None and not fits(value):
                    raise ValueError(f"{name}: expected {expected}, got {value}")
        for name, choices in _WORDS.items():
            if (value := getattr(self, name)) not in (*choices, None):
                raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(choices)}")
        if self.stop_after is not None and self.stop_after > self.epochs:
            raise ValueError(
                f"stop_after: expected at most epochs = {self.epochs}, got {self.stop_after}"
            )
        if len(given := [name for name in _PULLS if getattr(self, name) is not None]) > 1:
            raise ValueError(f"{given[1]} takes the place of {given[0]}: give one of the two")
        if self.tap == "tokens" and self.tap_tokens is None:
            raise ValueError("tap_tokens is None, but the tap 'tokens' needs it: give a value")
        # Its own checks: the map's name and whether it has layers, the qubits, the bandwidth.
        bandwidth = 1.0 if self.bandwidth is None else self.bandwidth
        KERNELS["fidelity"](self.feature_map, self.qubits, self.layers, bandwidth)
        if (arm := self.variant) is None:
            return
        drawn = min(self.batch_size, self.epoch_size or self.batch_size)
        check_batch(arm.compared, self.tap_tokens if self.tap == "tokens" else drawn)
        for name, of, _ in arm.relations:
            relation_fingerprint(name, of)
        for term in arm.terms:
            weight = self.weight(term)
            if not 0 < weight < math.inf:
                raise ValueError(
                    f"{term}_weight is {weight}: arm {self.arm!r} needs it finite and > 0; with 0 "
                    "it would be the arm without that term: leave the arm out instead"
                )
        if "kernel" in arm.terms:
            kernel = build_kernel(self)
            for name in ("kernel", "feature_map") if self.own_arm is None else ():
                if (own := getattr(arm, name)) is not None and own == getattr(self, name):
                    raise ValueError(
                        f"arm {self.arm!r} would equal 'qrkd', as the study's {name} is {own!r}; "
                        f"leave the arm out, or choose another {name}"
                    )
            if (arm.feature_map or arm.stretched) and not kernel.features:
                raise ValueError(f"arm {self.arm!r} needs a quantum kernel, not {self.kernel!r}")
            wired = build_kernel(self, entangle=True)
            if not arm.entangle and not getattr(wired, "entangles", False):
                raise ValueError(
                    f"arm {self.arm!r} would equal 'qrkd': {kernel} has no entanglement to leave "
                    "out with these settings (its values are the same without gates between "
                    "qubits); leave the arm out, or use more layers or another map"
                )

    def effective(self) -> dict[str, Any]:
        """The settings that this run's arm uses, as plain JSON values: its identity.

        What is None is left out, so that a field which a later version adds makes no other run of
        one that does not use it.
        """
        values, unused = {name: getattr(self, name) for name in _TYPES}, set(_NOT_IDENTITY)
        arm = self.variant
        terms = () if arm is None else arm.terms
        for term in _OF_TERM.keys() - set(terms):
            unused |= set(_OF_TERM[term])
        if self.teacher_model is not None:
            unused |= {"teacher_layers", "teacher_width", "vocabulary"}
        if self.schedule == "constant" and self.stop_after is not None:
            values["epochs"] = self.stop_after  # a rate that knows no end: nothing was cut short
        if self.schedule == "constant" or self.stop_after == self.epochs:
            unused.add("stop_after")
        if arm is None:
            unused |= set(_OF_STUDENT)
            if self.teacher_learning_rate is not None:
                unused.add("learning_rate")
        if arm is None or not arm.compared:
            unused.add("tap")
        if not self.unlabelled:
            unused.add("unlabelled")
        if "tap" in unused or self.tap != "tokens":
            unused.add("tap_tokens")
        if "kernel" in terms:
            name = self.kernel if arm.kernel is None else arm.kernel
            name = name if isinstance(name, str) else fingerprint(name)
            values |= {"kernel": name, "kernel_weight": self.weight("kernel")}
            values["feature_map"] = arm.feature_map or self.feature_map
            if self.by_pull:
                values |= dict.fromkeys(_PULLS) | self.by_pull
            if values["kernel"] in ("fidelity", "projected"):
                values["layers"] = build_kernel(self).depth
            else:
                unused |= {"feature_map", "layers"}
            if values["kernel"] == "cosine":
                unused.add("bandwidth")  # a cosine sees no scale
        if self.own_arm is not None:
            own = {f.name: getattr(arm, f.name) for f in fields(arm) if f.name not in _SAID}
            own["relations"] = {n: [relation_fingerprint(n, f), w] for n, f, w in arm.relations}
            values["own_arm"] = {n: list(v) if n == "terms" else v for n, v in own.items() if v}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
            if name not in unused and value is not None
        }


_TYPES = {field.name: str(field.type) for field in fields(Settings)}


def build_kernel(settings: Settings, entangle: bool | None = None) -> Kernel:
    """The kernel of a run's settings and arm; ``entangle`` overrides the arm's.

    Where the settings leave the bandwidth open it is 1, to be calibrated.
    """
    arm, name = settings.variant, settings.kernel
    options = {"bandwidth": 1.0 if settings.bandwidth is None else settings.bandwidth}
    if isinstance(arm.kernel, Kernel):
        known = {field.name for field in fields(arm.kernel)}
        return dataclasses.replace(arm.kernel, **(options if "bandwidth" in known else {}))
    name = arm.kernel or name
    if name not in KERNELS:
        raise ValueError(f"unknown kernel {name!r}; choose from {', '.join(KERNELS)}")
    if name in ("fidelity", "projected"):
        options |= {name: getattr(settings, name) for name in ("feature_map", "qubits", "layers")}
        options["feature_map"] = arm.feature_map or settings.feature_map
        options["entangle"] = arm.entangle if entangle is None else entangle
    return KERNELS[name]() if name == "cosine" else KERNELS[name](**options)


@cache
def fingerprint(kernel: Kernel) -> str:
    """A kernel of a user's own by content: its class, and its values for fixed angles."""
    if "bandwidth" in {field.name for field in fields(kernel)}:
        kernel = dataclasses.replace(kernel, bandwidth=1.0)
    shape, drawn = (6, kernel.features or 4), generator(0, "kernel")
    values = kernel(torch.randn(shape, generator=drawn, dtype=torch.float64))
    digits = " ".join(f"{value:.6f}" for value in values.flatten().tolist())
    return f"{type(kernel).__name__}-{hashlib.sha256(digits.encode()).hexdigest()[:8]}"


def relation_fingerprint(name: str, of: Callable[[Tensor], Tensor]) -> str:
    """A relation of a user's own by content: its name, and its values for fixed features.

    Four digits of them, as the last digits differ between processors. It is not kept: what the
    function reads from outside may have changed since. Raises ValueError if it is no relation.
    """
    drawn, digits = generator(0, "relation"), []
    relation, width = Relation(name, of), getattr(of, "features", None) or 4
    for n, size in ((6, 1.0), (5, 10.0)):
        features = size * torch.randn(n, width, generator=drawn)
        features[-1], features[-2] = 0.0, features[0]  # such rows happen, too
        try:
            found, _ = relation.compared(features.requires_grad_(), features)
        except Exception as error:
            raise ValueError(
                f"relation {name!r}, tried on features {tuple(features.shape)}: "
                f"{type(error).__name__}: {error}"
            ) from error
        (slope,) = torch.autograd.grad(found.sum(), features)
        if not (found.isfinite().all() and slope.isfinite().all()):
            raise ValueError(
                f"relation {name!r} or its gradient is NaN or infinity where two rows are equal or "
                "one is 0, as those of a ReLU student can be: guard its roots and divisions"
            )
        found = found.detach().double()
        largest = found.abs().max().clamp(min=1e-30)
        values = (found / largest).flatten().tolist()
        digits += [f"{largest:.3e}", *(f"{round(value, 3) + 0.0:.3f}" for value in values)]
    called = getattr(of, "__name__", type(of).__name__).strip("<>")
    return f"{called}-{hashlib.sha256(' '.join(digits).encode()).hexdigest()[:8]}"


def typed(name: str, value: Any) -> Any:  # noqa: ANN401
    """The value as the type of the field ``name``, whatever its range, or a TypeError.

    Numbers and arrays of NumPy and torch count as numbers and lists, lists become tuples; text is
    no number, and a truth value is none either.
    """
    if name == "kernel_weights":
        return _weights(value)
    if name == "own_arm" and isinstance(value, Arm | None):
        return value
    kinds = _TYPES[name].split(" | ")
    plain = value.tolist() if hasattr(value, "tolist") else value
    if plain is None and "None" in kinds:
        return None
    if "float" in kinds and isinstance(plain, Real) and not isinstance(plain, bool):
        return float(plain)
    if "int" in kinds and _is_whole(plain):
        return int(plain)
    if "str" in kinds and isinstance(plain, str):
        return str(plain)
    if kinds[0].startswith("tuple") and isinstance(plain, (list, tuple)):
        if all(_is_whole(one) and one > 0 for one in plain):
            return tuple(map(int, plain))
    names = {"int": "a whole number", "float": "a number", "str": "a word", "None": "None"}
    expected = " or ".join(names.get(kind, "a list of whole numbers > 0") for kind in kinds)
    raise TypeError(f"{name}: expected {expected}, got {value!r}")


def _is_whole(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, Integral) and not isinstance(value, bool)


def _weights(value: Any) -> tuple[tuple[str, float], ...]:  # noqa: ANN401
    """Weights by arm, from a mapping or from pairs."""
    try:
        pairs = {arm: typed("kd_weight", weight) for arm, weight in dict(value).items()}
    except (TypeError, ValueError) as error:
        raise TypeError(f"kernel_weights: expected weights by arm, got {value!r}") from error
    for arm, weight in pairs.items():
        get_arm(arm)
        positive(f"kernel_weights of {arm}", weight)
    return tuple(sorted(pairs.items()))


def parse_parameters(pairs: Iterable[str]) -> dict[str, object]:
    """Values from the command line, ``name=value`` each.

    A value is a JSON literal (or True, False, None), a list or dict of these and of bare words, or
    else text; quotes around it all make text of what would be a number. What only looks like a
    number (010, 0x10, 1_000, 1:30) is text wherever it stands.

    Example:
        >>> parse_parameters(["seed=3", "lr=1e-3", "arms=[kd, rkd]", "scale=smoke", "tag='7'"])
        {'seed': 3, 'lr': 0.001, 'arms': ['kd', 'rkd'], 'scale': 'smoke', 'tag': '7'}

    Raises:
        ValueError: no "=", a name given twice, or a list or dict that does not parse.
    """
    values: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        key = key.strip()
        if not equals or not key.isidentifier():
            raise ValueError(f"expected name=value, for example seed=3; got {pair:.60}")
        if key in values:
            raise ValueError(f"parameter {key!r} is given twice")
        values[key] = _parse_value(key, text.strip())
    return values


def _parse_value(key: str, text: str) -> object:
    if not text.startswith(("[", "{", "'", '"')):
        return _word(text)
    with suppress(ValueError, RecursionError):
        return json.loads(text, parse_constant=str)
    try:  # every word as it stands: YAML itself takes 010 for 8
        held = yaml.load(text, yaml.BaseLoader)
        return held if isinstance(held, str) else _words(held)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(
            f"parameter {key!r}: {text:.60} is not a list, dict or string: {error}"
        ) from error


def _words(held: object) -> object:
    """Lists and dicts of words as those of what the words stand for."""
    if isinstance(held, list):
        return [_words(item) for item in held]
    if isinstance(held, dict):
        return {name: _words(item) for name, item in held.items()}
    return _word(held)


def _word(text: str) -> object:
    """The number, boolean or None that a word stands for, or else the word itself."""
    words = {"True": True, "False": False, "None": None}
    try:
        return words[text] if text in words else json.loads(text, parse_constant=str)
    except ValueError:
        return text
