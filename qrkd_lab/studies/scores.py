"""How good trained models are: accuracy, loss, agreement with a teacher, secondary outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from qrkd_lab.data.images import Images
from qrkd_lab.seeds import generator
from qrkd_lab.tasks import IGNORED

if TYPE_CHECKING:
    from qrkd_lab.studies.benchmarks import ImageBenchmark

__all__ = ["Scores", "calibration_error", "noisy", "outcomes", "recall_at_1"]

BINS = 15  # of confidences


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


# ---- secondary outcomes


@torch.no_grad()
def outcomes(benchmark: ImageBenchmark, models: Sequence[nn.Module]) -> list[dict[str, float]]:
    """Secondary outcomes of trained classifiers on the test part; without unit.

    ==========================  =================================================================
    test_nll                    mean of -log p(label), nats
    test_calibration_error      see :func:`calibration_error`
    test_noise_accuracy         accuracy with Gaussian noise on the pixels, see :func:`noisy`
    test_recall_at_1            see :func:`recall_at_1`, of the tapped features
    test_linear_probe           accuracy of a logistic regression on the tapped features, fitted on
                                the validation part
    ==========================  =================================================================

    Args:
        benchmark: gives the validation and the test part; of less than two samples or classes
            there, no numbers.
        models: trained.
    """
    labels, known = benchmark.test.labels, benchmark.validation.labels
    if not models or len(labels) < 2 or len(known.unique()) < 2:
        return [{} for _ in models]
    disturbed, found = noisy(benchmark.test), []
    for model in models:
        logits, features = (part.cpu() for part in benchmark.predict(model, benchmark.test))
        under_noise = benchmark.predict(model, disturbed).logits.cpu()
        seen = benchmark.predict(model, benchmark.validation).features.cpu()
        probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        probe.fit(seen.numpy(), known.numpy())
        log_p = logits.log_softmax(1)
        found.append(
            {
                "test_nll": F.nll_loss(log_p, labels).item(),
                "test_calibration_error": calibration_error(log_p.exp(), labels),
                "test_noise_accuracy": (under_noise.argmax(1) == labels).double().mean().item(),
                "test_recall_at_1": recall_at_1(features, labels),
                "test_linear_probe": float(probe.score(features.numpy(), labels.numpy())),
            }
        )
    return found


def calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    r"""Expected calibration error, between 0 and 1.

    .. math:: \sum_b \frac{|b|}{n} \left|\mathrm{accuracy}(b) - \mathrm{confidence}(b)\right|

    over 15 bins of equal width of the largest probability.

    Args:
        probabilities: ``(n, c)``.
        labels: ``(n,)``.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.
    """
    confidence, said = probabilities.double().max(1)
    surplus = (said == labels).double() - confidence
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    return torch.zeros(BINS).double().index_add_(0, bins, surplus).abs().sum().item() / len(labels)


def noisy(images: Images) -> Images:
    """The same with Gaussian noise on every pixel, clipped to the range; the same at each call.

    Its standard deviation is 0.4 of the range for grey images and 0.15 for coloured ones, so that
    students lose part of their accuracy, not all.
    """
    level = 0.4 if images.pixels.shape[1] == 1 else 0.15
    noise = torch.randn(images.pixels.shape, generator=generator(0, "pixel noise"))
    # pixels are bytes, 0 to 255
    pixels = (images.pixels.float() + 255 * level * noise).round_().clamp_(0, 255)
    return Images(pixels.to(images.pixels.dtype), images.labels)


@torch.no_grad()
def recall_at_1(features: Tensor, labels: Tensor) -> float:
    """Fraction of samples whose nearest other sample has their label.

    Args:
        features: ``(n, d)``; Euclidean distances.
        labels: ``(n,)``.
    """
    features, right = features.cpu(), 0
    for low in range(0, len(features), 1000):
        distances = torch.cdist(features[low : low + 1000], features)  # (1000, n)
        distances[torch.arange(len(distances)), torch.arange(low, low + len(distances))] = torch.inf
        right += (labels[distances.argmin(1)] == labels[low : low + 1000]).sum().item()
    return right / len(features)
