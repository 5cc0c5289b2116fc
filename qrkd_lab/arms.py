"""Arms: the variants of the method that a study compares, as data.

Each arm differs from its neighbour in exactly one thing, so that a difference between two arms says
what that thing does. ``qrkd`` adds one term to ``rkd``; every control below changes one thing in
``qrkd``. The weight of a term and the scale of a kernel's angles are chosen for every arm by one
rule, so two arms may have other values of these.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ARMS", "CANDIDATES", "DEFAULT_ARMS", "TEACHER", "TUNED", "Arm", "get_arm"]

TEACHER = "teacher"  # trained before the arms, on the task alone; a run like any other


@dataclass(frozen=True)
class Arm:
    """One variant: which distillation terms it has, and what it changes in the kernel term.

    Attributes:
        terms: of ``kd``, ``distance``, ``angle``, ``kernel``; the task loss is always there.
        kernel: replaces the study's kernel; None keeps it.
        entangle: False takes the gates between qubits out.
        control: ``shuffled``, ``detached`` or ``random_teacher``; see
            :class:`~qrkd_lab.kernels.relation.KernelRelation`.
        meaning: one line for humans.
    """

    terms: tuple[str, ...]
    meaning: str
    kernel: str | None = None
    entangle: bool = True
    control: str | None = None


_RKD = ("kd", "distance", "angle")
_QRKD = (*_RKD, "kernel")

ARMS: dict[str, Arm] = {
    "scratch": Arm((), "the student alone, no teacher"),
    "kd": Arm(("kd",), "follows the teacher's outputs"),
    "rkd_only": Arm(("distance", "angle"), "follows distances and angles, not outputs"),
    "rkd": Arm(_RKD, "kd + distances + angles"),
    "qrkd": Arm(_QRKD, "rkd + quantum kernel"),
    "rbf": Arm(_QRKD, "qrkd with a Gaussian kernel instead", kernel="rbf"),
    "cosine": Arm(_QRKD, "qrkd with a squared cosine instead", kernel="cosine"),
    "projected": Arm(_QRKD, "qrkd with the projected quantum kernel", kernel="projected"),
    "no_entanglement": Arm(_QRKD, "qrkd without gates between qubits", entangle=False),
    "shuffled": Arm(_QRKD, "qrkd, the teacher's kernel permuted", control="shuffled"),
    "detached": Arm(_QRKD, "qrkd, the kernel term without gradient", control="detached"),
    "random_teacher": Arm(
        _QRKD, "qrkd, the kernel of an untrained teacher", control="random_teacher"
    ),
}

DEFAULT_ARMS = ("scratch", "kd", "rkd", "qrkd")

# Whose kernel can teach, so that `tune` chooses its weight, and from what. ``detached`` is left
# out: its term has no gradient, no weight changes anything, and its student is that of ``rkd``.
TUNED = tuple(
    name for name, arm in ARMS.items() if "kernel" in arm.terms and arm.control != "detached"
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
