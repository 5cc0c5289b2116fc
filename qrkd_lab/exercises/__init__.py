"""Checks for the notebooks' exercises: give one your function, and it answers at once.

Each check runs your function on inputs that you do not see (several sizes, coincident rows, rows of
zeros; float64), compares it with the package's own, and says in words what is wrong. It never
raises for a mistake of yours; a function that returns nothing counts as not answered yet.

    >>> from qrkd_lab import exercises
    >>> exercises.check_pairwise_distances(lambda x: ((x[:, None] - x) ** 2).sum(-1))
    Not yet: these are squared distances: take the root.
"""

from qrkd_lab.exercises.losses import (
    check_angle_loss,
    check_distance_loss,
    check_kd_loss,
    check_kernel_loss,
)
from qrkd_lab.exercises.marking import Answer
from qrkd_lab.exercises.quantum import (
    check_angle_states,
    check_bandwidth_rule,
    check_fidelity_kernel,
    check_shots_needed,
)
from qrkd_lab.exercises.relations import check_pairwise_distances, check_triplet_angles
from qrkd_lab.exercises.statistics import check_holm, check_paired_difference

__all__ = [
    "Answer", "check_angle_loss", "check_angle_states", "check_bandwidth_rule",
    "check_distance_loss", "check_fidelity_kernel", "check_holm", "check_kd_loss",
    "check_kernel_loss", "check_paired_difference", "check_pairwise_distances",
    "check_shots_needed", "check_triplet_angles",
]  # fmt: skip
