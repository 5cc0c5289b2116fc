r"""Encoders: features of any width ``(n, d)`` become angles ``(n, q)`` for a circuit of q qubits.

Teacher and student have features of different widths, and circuits want few numbers of a sane size.
So each side is mapped linearly to q columns, and each column is standardised over the batch:

.. math:: a_{ik} = \frac{z_{ik} - \mu_k}{\sqrt{\sigma_k^2 + 10^{-5}}}, \qquad z = f W

with mean and (biased) variance over the batch. A constant column gives 0 for every sample. The
kernel's ``bandwidth`` then scales the angles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qrkd_lab.checks import LARGE, at_least_float32, check_features, in_float32, whole, with_room
from qrkd_lab.kernels.classical import Kernel

__all__ = [
    "BANDWIDTHS", "ENCODERS", "Encoder", "KernelRelation", "calibrated", "spread", "standardise",
]  # fmt: skip


# What each kind does on the (teacher's, student's) side.
ENCODERS = {
    "adapter": ("projection", "trained"),
    "projection": ("projection", "projection"),
    "pca": ("pca", "trained"),
    "truncate": ("truncate", "truncate"),
}


@in_float32
def standardise(z: Tensor) -> Tensor:
    """Columns of ``(n, q)`` shifted to mean 0 and scaled to variance 1; constant ones give 0."""
    if len(z) == 1:
        return 0 * z  # one sample has no spread
    return F.batch_norm(z, None, None, training=True, eps=1e-5)


class Encoder(nn.Module):
    """Maps teacher features ``(n, d_t)`` and student features ``(n, d_s)`` to angles ``(n, q)``.

    ============  ==========================================  ====================================
    kind          teacher's side                              student's side
    ============  ==========================================  ====================================
    adapter       fixed orthonormal projection, from ``seed``  a linear map, trained along and
                                                              thrown away
    projection    fixed orthonormal projection, from ``seed``  the same kind (the same matrix
                                                              where d_s = d_t)
    pca           its leading principal components (``fit``)  as ``adapter``
    truncate      the first q features                        the first q features
    ============  ==========================================  ====================================

    Args:
        teacher_dim, student_dim: d_t and d_s.
        qubits: q, the number of angles that the kernel takes (``kernel.features``).
        kind: see the table.
        seed: of projections and of the adapter's start.

    Raises:
        ValueError: unknown kind (lists them), or more angles than a fixed side has features.

    Example:
        >>> encoder = Encoder(teacher_dim=20, student_dim=31, qubits=6)
        >>> encoder.student(torch.randn(64, 31)).shape
        torch.Size([64, 6])
    """

    def __init__(
        self,
        teacher_dim: int,
        student_dim: int,
        qubits: int,
        kind: str = "adapter",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if kind not in ENCODERS:
            raise ValueError(f"unknown encoder {kind!r}; choose one of {', '.join(ENCODERS)}")
        self.seed = whole("seed", seed, 0)
        teacher_dim = whole("teacher_dim", teacher_dim, 1)
        student_dim = whole("student_dim", student_dim, 1)
        self.kind, self.qubits = kind, whole("qubits", qubits, 1)
        self.teacher_side, self.student_side = ENCODERS[kind]
        teacher_map = self._map("teacher", teacher_dim, self.teacher_side)
        student_map = self._map("student", student_dim, self.student_side)
        self.register_buffer("teacher_map", teacher_map)
        if self.student_side == "trained":
            self.student_map = nn.Parameter(student_map)
        else:
            self.register_buffer("student_map", student_map)

    def fit(self, teacher_features: Tensor) -> Encoder:
        """Fit what is learnt from teacher features ``(n, d_t)``: the components of ``pca``."""
        if self.teacher_side == "pca":
            check_features(teacher_features, "teacher features")
            teacher_features = at_least_float32(teacher_features)
            if len(teacher_features) <= self.qubits:
                raise ValueError(
                    f"pca: {self.qubits} components need more than {self.qubits} samples, "
                    f"got {len(teacher_features)}"
                )
            centred = (teacher_features - teacher_features.mean(0)).detach()
            components = torch.linalg.svd(centred, full_matrices=False).Vh[: self.qubits].T
            # A component's sign is arbitrary: its largest entry is made positive.
            largest = components.gather(0, components.abs().argmax(0, keepdim=True))
            self.teacher_map.copy_(components * largest.sign())
        return self

    def teacher(self, features: Tensor) -> Tensor:
        """Angles ``(n, q)`` of teacher features ``(n, d_t)``, without gradient."""
        if self.teacher_map.isnan().any():
            raise ValueError("this pca encoder is not fitted yet: call fit(teacher_features) first")
        return self._encode(features.detach(), self.teacher_map, "teacher features")

    def student(self, features: Tensor) -> Tensor:
        """Angles ``(n, q)`` of student features ``(n, d_s)``, differentiable."""
        return self._encode(features, self.student_map, "student features")

    @property
    def teacher_key(self) -> Hashable:
        """Equal for encoders whose teacher's side is the same, so that it is computed once."""
        content = self.teacher_map.detach().cpu().double().numpy().tobytes()
        return (tuple(self.teacher_map.shape), content)

    @in_float32
    def _encode(self, features: Tensor, linear: Tensor, name: str) -> Tensor:
        largest = check_features(features, name)
        if features.shape[1] != len(linear):
            raise ValueError(
                f"{name}: this encoder was made for d = {len(linear)}, got {features.shape[1]}"
            )
        wide = features if largest < LARGE else with_room(features, largest)
        return standardise(wide @ linear.to(wide)).to(features)

    def _map(self, side: str, width: int, how: str) -> Tensor:
        """The matrix ``(width, q)`` of one side; of ``pca`` NaN until it is fitted."""
        if how != "trained" and width < self.qubits:
            raise ValueError(
                f"encoder {self.kind!r}: the {side} has {width} features, fewer than the "
                f"{self.qubits} angles asked for; use fewer qubits"
                + (", or kind='adapter'" if side == "student" else "")
            )
        if how == "pca":
            return torch.full((width, self.qubits), torch.nan)
        if how == "truncate":
            return torch.eye(width, self.qubits)
        generator = torch.Generator().manual_seed(self.seed)
        wide = torch.randn(max(width, self.qubits), self.qubits, generator=generator)
        return torch.linalg.qr(wide).Q[:width].contiguous()

    def extra_repr(self) -> str:
        sizes = f"{len(self.teacher_map)} and {len(self.student_map)} -> {self.qubits}"
        return f"{self.kind}, teacher {self.teacher_side}, student {self.student_side}, {sizes}"


# ---- relation


CONTROLS = (None, "shuffled", "detached", "random_teacher")


class KernelRelation(nn.Module):
    """Encoder and kernel together: ``student(features)`` and ``teacher(features)`` are ``(n, n)``.

    Args:
        kernel: quantum or classical.
        encoder: made for these features and ``kernel.features`` angles; its adapter, if it has
            one, is this module's only parameter.
        control: None; ``"shuffled"``: samples of the teacher's matrix are permuted anew in each
            batch; ``"detached"``: the student's features are detached, so the term has no gradient
            (the mistake of a public implementation); ``"random_teacher"``: the teacher is not
            trained.
        seed: of the permutations.
    """

    def __init__(
        self, kernel: Kernel, encoder: Encoder, control: str | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        if control not in CONTROLS:
            raise ValueError(f"unknown control {control!r}; choose one of {CONTROLS}")
        if not isinstance(kernel, Kernel) or not isinstance(encoder, Encoder):
            raise TypeError(
                f"expected KernelRelation(kernel, encoder), got {type(kernel).__name__} and "
                f"{type(encoder).__name__}"
            )
        if type(kernel).__hash__ is None:
            raise TypeError(
                f"{type(kernel).__name__} must be hashable, so that its matrix can be shared: "
                "make it a @dataclass(frozen=True)"
            )
        if kernel.features not in (None, encoder.qubits):
            raise ValueError(
                f"{kernel} takes {kernel.features} angles, the encoder gives {encoder.qubits}; "
                f"make it with qubits={kernel.features}"
            )
        self.kernel, self.encoder, self.control = kernel, encoder, control
        self.generator = torch.Generator().manual_seed(whole("seed", seed, 0))

    @in_float32
    def teacher(self, features: Tensor) -> Tensor:
        """The teacher's kernel matrix ``(n, n)``, without gradient."""
        with torch.no_grad():
            return self.kernel(self.encoder.teacher(features))

    @in_float32
    def student(self, features: Tensor) -> Tensor:
        """The student's kernel matrix ``(n, n)``, differentiable unless ``detached``."""
        if self.control == "detached":
            features = features.detach()
        return self.kernel(self.encoder.student(features))

    def compared(self, features: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The two matrices ``(n, n)`` that the loss compares; ``shuffled`` permutes the second."""
        if self.control == "shuffled":
            order = torch.randperm(len(teacher), generator=self.generator).to(teacher.device)
            teacher = teacher[order][:, order]
        return self.student(features), teacher

    @property
    def teacher_key(self) -> Hashable:
        """Equal for relations whose teacher's matrix is the same, so that it is computed once."""
        return (self.kernel, self.encoder.teacher_key)

    def __repr__(self) -> str:
        mark = "" if self.control is None else f", {self.control}"
        return f"kernel({self.kernel}, {self.encoder.kind}{mark})"


# ---- calibration


BANDWIDTHS = tuple(2.0 ** (half / 2) for half in range(-14, 5))  # 0.0078 ... 4, steps of sqrt(2)


def spread(kernel: Kernel, angles: Tensor) -> float:
    """Standard deviation of the kernel's values over pairs of different rows of ``(n, q)``."""
    with torch.no_grad():
        matrix = kernel(at_least_float32(angles))
    different = ~torch.eye(len(matrix), dtype=torch.bool, device=matrix.device)
    return matrix[different].std().item()


def calibrated(kernel: Kernel, angles: Tensor) -> Kernel:
    """The same kernel with the bandwidth of largest spread among :data:`BANDWIDTHS`.

    A kernel without bandwidth (the squared cosine) comes back as it is.

    Args:
        kernel: any kernel.
        angles: of the teacher ``(n, q)``, n >= 3.
    """
    if len(angles) < 3:
        raise ValueError(f"a bandwidth needs at least 3 samples to be chosen on, got {len(angles)}")
    if "bandwidth" not in {field.name for field in dataclasses.fields(kernel)}:
        return kernel
    choices = [dataclasses.replace(kernel, bandwidth=bandwidth) for bandwidth in BANDWIDTHS]
    return max(choices, key=lambda choice: spread(choice, angles))
