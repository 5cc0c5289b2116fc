"""Checks for the notebooks' exercises: give one your function, and it answers at once.

Each check runs your function on inputs that you do not see (several sizes, coincident rows, rows of
zeros; float64), compares it with the package's own, and says in words what is wrong. It never
raises for a mistake of yours; a function that returns nothing counts as not answered yet.

    >>> from qrkd_lab.teaching import exercises
    >>> exercises.check_pairwise_distances(lambda x: ((x[:, None] - x) ** 2).sum(-1))
    Not yet: these are squared distances: take the root.
"""

# ruff: noqa: F401
from qrkd_lab.teaching.exercises.checker import Answer
from qrkd_lab.teaching.exercises.distillation import (
    check_distance_loss,
    check_kd_loss,
    check_kernel_loss,
    check_own_kernel,
    check_own_relation,
    check_pairwise_distances,
    check_silent_terms,
    check_training_step,
    check_triplet_angles,
)
from qrkd_lab.teaching.exercises.kernels import (
    check_angle_states,
    check_angle_variance,
    check_bandwidth_rule,
    check_centred_kernel,
    check_class_blocks,
    check_effective_rank,
    check_exponential_base,
    check_fidelity_kernel,
    check_geometric_difference,
    check_near_but_unlike,
    check_other_basis,
    check_shift_map,
    check_shots_needed,
)
from qrkd_lab.teaching.exercises.studies import (
    check_bits_per_byte,
    check_circuits_needed,
    check_clip_spectrum,
    check_equivalence,
    check_holm,
    check_mean_tap,
    check_paired_difference,
    check_perplexity,
    check_power,
    check_variance_shares,
    check_word_perplexity,
)
