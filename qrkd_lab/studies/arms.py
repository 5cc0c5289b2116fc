"""Arms, benchmarks and scales, as data.

Each arm differs from its neighbour in exactly one thing: ``qrkd`` adds one term to ``rkd``, and
every control changes one thing in ``qrkd``. The weight of a term and the scale of a kernel's angles
are chosen for every arm by one rule, so two arms may have other values of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from qrkd_lab.kernels.classical import Kernel

__all__ = [
    "ARMS",
    "ARRAYS",
    "Arm",
    "BENCHMARKS",
    "CANDIDATES",
    "DEFAULT_ARMS",
    "SCALES",
    "TEACHER",
    "TUNED",
    "check_scale",
    "get_arm",
]

TEACHER = "teacher"  # trained before the arms, on the task alone; a run like any other


@dataclass(frozen=True)
class Arm:
    """One variant: which distillation terms it has, and what it changes in the kernel term.

    One of your own has a ``name``, and goes among the arms of :func:`qrkd_lab.compare`.

    Attributes:
        terms: of ``kd``, ``distance``, ``angle``, ``kernel``; the task loss is always there.
        kernel: replaces the study's kernel, by its name in ``ql.kernels.KERNELS``, or any
            :class:`~qrkd_lab.kernels.Kernel`, e.g. one with a circuit of your own; None keeps it.
        feature_map: replaces the study's feature map; None keeps it.
        entangle: False takes the gates between qubits out.
        stretched: the kernel gives way to the Gaussian that follows it best, see
            :class:`~qrkd_lab.kernels.StretchedRBFKernel`.
        share: of the pull that distance and angle would have and the kernel has instead; None: as
            the study says. See ``kernel_share`` in :class:`~qrkd_lab.losses.DistillationLoss`.
        control: ``shuffled``, ``detached`` or ``random_teacher``; see
            :class:`~qrkd_lab.kernels.encoders.KernelRelation`.
        meaning: one line for humans.
        name: of an arm of your own: letters, digits and _ . + -
        relations: of your own, ``{name: (function, weight)}``: each is one more term, which is in
            the history by its name. The function takes features ``(n, d)`` of any width and gives
            ``(n, n)`` or ``(n, n, n)``; :func:`~qrkd_lab.losses.relation_loss` compares the
            student's with the teacher's. Kept as ``(name, function, weight)`` triples.

    Raises:
        TypeError, ValueError: an unknown term or control (lists the choices); a relation that is
            no function with a weight, or whose name is taken.

    Example:
        >>> Arm(("kd", "kernel"), kernel="laplacian", name="kd_laplacian").terms
        ('kd', 'kernel')
        >>> Arm(("kd",), relations={"gram": (lambda x: x @ x.T, 10.0)}, name="kd_gram").compared
        ('gram',)
    """

    terms: tuple[str, ...] = ()
    meaning: str = ""
    kernel: str | Kernel | None = None
    feature_map: str | None = None
    entangle: bool = True
    stretched: bool = False
    share: float | None = None
    control: str | None = None
    name: str = ""
    relations: Mapping[str, tuple[Callable[[Tensor], Tensor], float]] | tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "terms", tuple(self.terms))
        if not isinstance(self.relations, tuple):
            from qrkd_lab.relations import own_relations

            held = own_relations(self.relations).items()
            triples = tuple((name, relation.of, weight) for name, (relation, weight) in held)
            object.__setattr__(self, "relations", triples)
        for what, given, known in (
            ("term", self.terms, ("kd", "distance", "angle", "kernel")),
            ("control", (self.control,), (None, "shuffled", "detached", "random_teacher")),
        ):
            if odd := [one for one in given if one not in known]:
                choices = ", ".join(filter(None, known))
                raise ValueError(f"unknown {what} {odd[0]!r}; choose from {choices}")

    @property
    def compared(self) -> tuple[str, ...]:
        """The terms that compare samples, each by a relation."""
        own = tuple(name for name, _, _ in self.relations)
        return tuple(term for term in self.terms if term != "kd") + own


_RKD = ("kd", "distance", "angle")
_QRKD = (*_RKD, "kernel")

ARMS: dict[str, Arm] = {
    "scratch": Arm((), "the student alone, no teacher"),
    "kd": Arm(("kd",), "follows the teacher's outputs"),
    "rkd_only": Arm(("distance", "angle"), "follows distances and angles, not outputs"),
    "rkd": Arm(_RKD, "kd + distances + angles"),
    "qrkd": Arm(_QRKD, "rkd + quantum kernel"),
    "qrkd_iqp": Arm(_QRKD, "qrkd with the iqp feature map", feature_map="iqp"),
    "rbf": Arm(_QRKD, "qrkd with a Gaussian kernel instead", kernel="rbf"),
    "stretched_rbf": Arm(
        _QRKD, "qrkd with the Gaussian that fits its kernel best, in a metric of its own",
        stretched=True,
    ),
    "cosine": Arm(_QRKD, "qrkd with a squared cosine instead", kernel="cosine"),
    "projected": Arm(_QRKD, "qrkd with the projected quantum kernel", kernel="projected"),
    "no_entanglement": Arm(_QRKD, "qrkd without gates between qubits", entangle=False),
    "shuffled": Arm(_QRKD, "qrkd, the teacher's kernel permuted", control="shuffled"),
    "detached": Arm(_QRKD, "qrkd, the kernel term without gradient", control="detached"),
    "random_teacher": Arm(
        _QRKD, "qrkd, the kernel of an untrained teacher", control="random_teacher"
    ),
    "distance_only": Arm(("distance",), "follows distances alone, not outputs"),
    "angle_only": Arm(("angle",), "follows angles alone, not outputs"),
    "kernel_only": Arm(
        _QRKD[1:], "follows the quantum kernel alone, with the pull of both relations", share=1.0
    ),
    "rbf_only": Arm(
        _QRKD[1:], "kernel_only with a Gaussian kernel instead", kernel="rbf", share=1.0
    ),
}  # fmt: skip

DEFAULT_ARMS = ("scratch", "kd", "rkd", "qrkd")

# Whose kernel can teach, so that `tune` chooses its weight, and from what. ``detached`` is left
# out: its term has no gradient, no weight changes anything, and its student is that of ``rkd``.
TUNED = tuple(
    name
    for name, arm in ARMS.items()
    if "kernel" in arm.terms and arm.control != "detached" and arm.share is None
)
CANDIDATES = (0.01, 0.1, 1.0, 10.0, 100.0)  # decades: a short training's noise hides finer steps


def get_arm(name: str) -> Arm:
    """The arm of this name.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in ARMS:
        raise ValueError(f"unknown arm {name!r}; choose from {', '.join(ARMS)}")
    return ARMS[name]


SCALES = ("smoke", "laptop", "paper")  # of every benchmark; the study has two more


def check_scale(scale: str, among: Iterable[str] | None = None) -> None:
    """Raise ValueError if the scale is not ``among`` these, or is no benchmark's (lists them)."""
    if among is None:
        among = dict.fromkeys(name for scales in BENCHMARKS.values() for name in scales)
    if scale not in among:
        raise ValueError(f"unknown scale {scale!r}; choose from {', '.join(among)}")


# What differs from Settings' defaults, by benchmark and scale.
_GREY = {"teacher_widths": (8, 12, 20), "student_widths": (5, 2, 31)}  # 6,690 and 1,725 weights
_COLOUR = {"teacher_widths": (16, 32, 64), "student_widths": (5, 8, 32)}  # 65,962 and 8,150 weights
# What `tune` chose on the validation part at laptop scale, the same budget for every arm; the whole
# search is in results/<benchmark>/laptop/tuning.json. A kernel's candidates from 0.01 to 1 can
# hardly be told apart: it is largely chance that chooses. Where rounding differed (AVX-512 for
# AVX2), the same search on CIFAR-10 chose another weight for six of nine arms.
_MNIST = _GREY | {
    "kd_weight": 0.1, "distance_weight": 10.0, "angle_weight": 20.0,
    "kernel_weights": {
        "qrkd": 10.0, "rbf": 1.0, "cosine": 1.0, "projected": 1.0, "no_entanglement": 1.0,
        "shuffled": 10.0, "random_teacher": 1.0,
    },
}  # fmt: skip
_CIFAR10 = _COLOUR | {
    "kd_weight": 0.1, "distance_weight": 10.0, "angle_weight": 20.0,
    "kernel_weights": {
        "qrkd": 0.01, "rbf": 0.01, "cosine": 1.0, "projected": 1.0, "no_entanglement": 0.1,
        "shuffled": 0.1, "random_teacher": 0.1,
    },
}  # fmt: skip
# The study's scales, whose weights and doses its pilot chooses. With few labels the teacher learns
# from all images, students see few: there a teacher matters, and its relations.
_FEW = {"validation_size": 1000, "kernel_dose": 0.3}
_ALL = {"kernel_dose": 0.3, "kd_weight": 3.0, "distance_weight": 100.0, "angle_weight": 200.0}
_ALL_TEXT = {
    "kernel_dose": 0.3, "kd_weight": 10.0, "distance_weight": 3.0, "angle_weight": 6.0,
    "kernel_weights": (),
}  # fmt: skip
_SHORT = {"train_size": 512, "validation_size": 256, "teacher_epochs": 1, "epochs": 1}

_TEXT = {
    "vocabulary": 2048,
    "sequence_length": 64,
    "tap": "tokens",
    "tap_tokens": 64,
    "batch_size": 16,  # half of 32 gave 75 for 84 on PTB's validation part: more steps a token
    "learning_rate": 4e-3,
    "teacher_learning_rate": 1e-3,  # wider networks want smaller steps; 2e-3 was worse
    "schedule": "cosine",
    "clip_norm": 1.0,
    "dropout": 0.0,  # no token budget here comes round often enough to overfit
    "precision": "float32",
    # Weights: chosen by `tune` on Penn Treebank at laptop scale, as for images. The temperature: by
    # hand before, in a quarter of the budget; there kd alone had 95 with 1 and weight 10, 142 with
    # the 4 and weight 0.3 of images, the student without a teacher 151.
    "kd_weight": 100.0, "temperature": 1.0, "distance_weight": 10.0, "angle_weight": 20.0,
    "kernel_weights": {
        "qrkd": 1.0, "rbf": 10.0, "cosine": 1.0, "projected": 10.0, "no_entanglement": 10.0,
        "shuffled": 1.0, "random_teacher": 10.0,
    },
    "teacher_layers": 4, "teacher_width": 256, "student_layers": 2, "student_width": 64,
}  # fmt: skip
_TEXT_SMOKE = _TEXT | {
    "vocabulary": 512, "sequence_length": 16, "tap_tokens": 32, "batch_size": 8,
    "teacher_layers": 2, "teacher_width": 64, "student_layers": 1, "student_width": 64,
    "epoch_size": 64, "teacher_epochs": 1, "epochs": 1,
    "train_size": 20_000, "validation_size": 2_000, "test_size": 2_000,
}  # fmt: skip
# A fixed budget of tokens whatever the corpus: 4,096 x 64 an epoch, 1.3 million for the teacher and
# 1.0 million for each student.
_TEXT_LAPTOP = _TEXT | {
    "epoch_size": 4096, "teacher_epochs": 5, "epochs": 4, "validation_size": 20_000,
}  # fmt: skip
_TEXT_PAPER = _TEXT | {
    "teacher_model": "gpt2", "vocabulary": None, "teacher_layers": None, "teacher_width": None,
    "student_layers": 6, "student_width": 384,
    "sequence_length": 512, "tap_tokens": 256, "batch_size": 8, "accumulation": 4,
    "learning_rate": 5e-4, "teacher_learning_rate": 5e-5, "dropout": 0.1,
    "teacher_epochs": 3, "epochs": 10, "checkpoint_steps": 500,
    "precision": None,  # bfloat16 where the device has it
}  # fmt: skip
_TEXTS = {
    "smoke": _TEXT_SMOKE, "all-labels": _TEXT_LAPTOP | _ALL_TEXT, "laptop": _TEXT_LAPTOP,
    "paper": _TEXT_PAPER,
}  # fmt: skip
_REVIEWS = {
    "tap": "last",  # and a classifier's weights, as for images
    "kd_weight": 0.3, "temperature": 4.0,
    "distance_weight": 1.0, "angle_weight": 2.0, "kernel_weight": 1.0,
}  # fmt: skip

# Of a user's own arrays, which are few as a rule: as for the digits below.
ARRAYS: dict[str, dict[str, Any]] = {
    "smoke": {"teacher_epochs": 1, "epochs": 1, "learning_rate": 1e-2},
    "laptop": {"teacher_epochs": 30, "epochs": 30, "learning_rate": 1e-2},
    "paper": {"teacher_epochs": 100, "epochs": 100, "learning_rate": 1e-2},
}

BENCHMARKS: dict[str, dict[str, dict[str, Any]]] = {
    "digits": {
        # 1,100 images to train on: few and small steps, so a high rate and many short epochs
        "smoke": _GREY
        | _SHORT
        | {"train_size": 256, "validation_size": 128, "learning_rate": 1e-2},
        "laptop": _GREY | {"teacher_epochs": 30, "epochs": 30, "learning_rate": 1e-2},
        "paper": _GREY | {"teacher_epochs": 100, "epochs": 100, "learning_rate": 1e-2},
    },
    "mnist": {
        "smoke": _MNIST | _SHORT,
        "few-labels": _GREY | _FEW | {
            "student_size": 300, "teacher_epochs": 5, "epochs": 60,
            "kd_weight": 3.0, "distance_weight": 100.0, "angle_weight": 200.0,
        },
        "all-labels": _GREY | _ALL | {"teacher_epochs": 5, "epochs": 5},
        "laptop": _MNIST | {"teacher_epochs": 5, "epochs": 5},
        "paper": _MNIST | {"teacher_epochs": 20, "epochs": 20},
    },
    "cifar10": {
        "smoke": _CIFAR10 | _SHORT,
        "few-labels": _COLOUR | _FEW | {
            "student_size": 5000, "teacher_epochs": 8, "epochs": 20,
            "kd_weight": 0.3, "distance_weight": 10.0, "angle_weight": 20.0, "kernel_dose": 0.1,
        },
        "all-labels": _COLOUR | _ALL | {"teacher_epochs": 8, "epochs": 8},
        "laptop": _CIFAR10 | {"teacher_epochs": 8, "epochs": 8},
        "paper": _CIFAR10 | {"teacher_epochs": 40, "epochs": 40},
    },
    "wikitext2": _TEXTS,
    "ptb": _TEXTS,
    "imdb": {  # of ten million tokens
        scale: settings | ({"test_size": 200_000} if scale in ("laptop", "all-labels") else {})
        for scale, settings in _TEXTS.items()
    },
    "imdb-sentiment": {
        "smoke": _TEXT_SMOKE
        | _REVIEWS
        | {"train_size": 128, "validation_size": 64, "test_size": 64, "sequence_length": 32},
        "laptop": _TEXT_LAPTOP
        | _REVIEWS
        | {"sequence_length": 128, "validation_size": 1000, "batch_size": 32,
           "teacher_layers": 2, "teacher_width": 128, "student_layers": 1, "student_width": 64},
        "paper": _TEXT_PAPER | _REVIEWS | {"sequence_length": 256, "batch_size": 32},
    },
}  # fmt: skip
