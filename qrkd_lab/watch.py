"""A watch over a training: told of every step and epoch, it may wait, or say that it is enough."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from qrkd_lab.learner import Learner

__all__ = ["Stopped", "Watch"]


class Stopped(Exception):
    """A watch has ended a training before its last epoch; what was recorded stays."""


class Watch:
    """Looks on and does nothing; override what you want to know.

    Whatever a watch does, the numbers of the runs stay the same: it must not draw from torch's
    global random stream, and it leaves models in training mode.
    """

    def begin(
        self,
        learners: Sequence[Learner],
        teacher: nn.Module | None,
        epochs: int,
        steps: int,
        done: int,
    ) -> None:
        """A lockstep begins, or goes on.

        Args:
            learners: the teacher alone, or all arms.
            teacher: trained; None while it is trained itself.
            epochs, steps: epochs to go through, and batches in each.
            done: batches that a checkpoint had of it.
        """

    def step(self, learners: Sequence[Learner], epoch: int, step: int) -> None:
        """A batch is done, and no gradient waits for another; may wait, may raise
        :class:`Stopped`."""

    def epoch(self, learners: Sequence[Learner], epoch: int) -> None:
        """An epoch is done and validated."""

    def note(self, text: str) -> None:
        """Something to know, which standard error says where nobody watches."""
        print(text, file=sys.stderr)
