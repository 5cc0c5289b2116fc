"""How good predictions are: accuracy, loss, and agreement with the teacher."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qrkd_lab.tasks import IGNORED

__all__ = ["Scores"]


class Scores:
    r"""Counts and sums over predictions, each a row of logits ``(m, c)``.

    ==============  =============================================================================
    accuracy        fraction whose largest logit is the target's
    nll             mean of :math:`-\log p(target)`, nats
    agreement       fraction whose largest logit is the teacher's largest
    kl              mean of :math:`\mathrm{KL}(teacher \| student)`, nats, at temperature 1
    ==============  =============================================================================

    Example:
        >>> scores = Scores()
        >>> scores.add(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
        >>> scores.accuracy
        0.5
    """

    def __init__(self) -> None:
        self.predictions = 0
        self._sums: Tensor | float = 0.0  # correct, nll, same, kl
        self._beside_teacher = False

    @torch.no_grad()
    def add(self, logits: Tensor, targets: Tensor, teacher: Tensor | None = None) -> None:
        """Count one batch: logits ``(m, c)``, targets ``(m,)``, the teacher's logits ``(m, c)``.

        Predictions with a target of -100 are left out.
        """
        counted = targets != IGNORED
        if not counted.all():
            logits, targets = logits[counted], targets[counted]
            teacher = None if teacher is None else teacher[counted]
        said, log_p = logits.argmax(1), logits.float().log_softmax(1)
        sums = [(said == targets).sum(), F.nll_loss(log_p, targets, reduction="sum")]
        if teacher is not None:
            log_t = teacher.float().log_softmax(1)
            sums.append((said == teacher.argmax(1)).sum())
            sums.append(F.kl_div(log_p, log_t, log_target=True, reduction="sum"))
        self._beside_teacher = teacher is not None
        # Float32 has not the digits for a sum over millions; MPS has no float64, so on the CPU.
        self._sums = self._sums + torch.stack([s.float() for s in sums]).cpu().double()
        self.predictions += len(targets)

    def _mean(self, index: int) -> float:
        if not self.predictions:
            raise ValueError("nothing was counted: the part holds no predictions")
        return self._sums[index].item() / self.predictions

    @property
    def accuracy(self) -> float:
        return self._mean(0)

    @property
    def nll(self) -> float:
        return self._mean(1)

    @property
    def beside_teacher(self) -> dict[str, float]:
        """``agreement`` and ``kl``; empty where no teacher was given."""
        if not self._beside_teacher:
            return {}
        return {"agreement": self._mean(2), "kl": self._mean(3)}
