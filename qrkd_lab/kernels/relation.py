"""A kernel as a relation between samples: features in, kernel matrix out, on both sides.

This is QRKD's one addition to RKD. The controls that change nothing but the flow of information
live here too: ``shuffled`` breaks the pairing with the teacher, ``detached`` the gradient, and
``random_teacher`` takes the features of a teacher that has learnt nothing.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor, nn

from qrkd_lab.kernels.base import Kernel, whole
from qrkd_lab.kernels.encoders import Encoder
from qrkd_lab.relations import in_float32

__all__ = ["KernelRelation"]

CONTROLS = (None, "shuffled", "detached", "random_teacher")


class KernelRelation(nn.Module):
    """Encoder and kernel together: ``student(features)`` and ``teacher(features)`` are ``(n, n)``.

    Args:
        kernel: quantum or classical.
        encoder: made for these features and ``kernel.features`` angles; its adapter, if it has
            one, is this module's only parameter.
        control: None; ``"shuffled"``: samples of the teacher's matrix are permuted anew in each
            batch; ``"detached"``: the student's features are detached, so the term has no gradient
            at the student (the mistake of a public implementation, kept as a control);
            ``"random_teacher"``: the teacher's matrix is that of an untrained teacher.
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
        self._generator = torch.Generator().manual_seed(whole("seed", seed, 0))

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
            order = torch.randperm(len(teacher), generator=self._generator).to(teacher.device)
            teacher = teacher[order][:, order]
        return self.student(features), teacher

    @property
    def random_state(self) -> Tensor:
        """Where the permutations' stream is, so that training can go on from a checkpoint."""
        return self._generator.get_state()

    @random_state.setter
    def random_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    @property
    def teacher_key(self) -> Hashable:
        """Equal for relations whose teacher's matrix is the same, so that it is computed once."""
        return (self.kernel, self.encoder.teacher_key)

    def __repr__(self) -> str:
        mark = "" if self.control is None else f", {self.control}"
        return f"kernel({self.kernel}, {self.encoder.kind}{mark})"
