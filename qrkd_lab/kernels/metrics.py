r"""Is it a stretched RBF? A Gaussian whose metric is learnt from a kernel matrix.

An RBF has one number, its width, and is round: all angles count alike. With a matrix :math:`M` of
:math:`q \times q` numbers it may stretch, turn and mix the angles first,

.. math:: k(x, y) = e^{-\lVert (x - y) M \rVert^2}.

That is many more numbers, so its fit counts only on samples that it was not fitted to.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qrkd_lab.kernels.base import whole
from qrkd_lab.kernels.diagnostics import off_diagonal_values
from qrkd_lab.relations import at_least_float32, check_features, in_float32

__all__ = ["learn_metric", "metric_rbf", "r_squared"]

START = 0.3  # the metric begins as a wide, round RBF
RATE = 0.03  # of Adam


@in_float32
def metric_rbf(x: Tensor, metric: Tensor) -> Tensor:
    r"""The RBF matrix in a metric: :math:`e^{-\lVert (x_i - x_j) M \rVert^2}`.

    Args:
        x: angles ``(n, q)``.
        metric: :math:`M`, ``(q, r)``.

    Returns:
        ``(n, n)``, ones on the diagonal.
    """
    y = x @ metric
    return torch.exp(-(y[:, None] - y[None]).square().sum(dim=-1))


def learn_metric(wanted: Tensor, x: Tensor, steps: int = 1000) -> Tensor:
    r"""The metric in which an RBF comes near a kernel matrix, by gradient descent from a round one.

    Minimises the mean over pairs of :math:`(k(x_i, x_j) - K_{ij})^2`. The minimum may be a local
    one: a low fit does not prove that no metric fits.

    Args:
        wanted: the kernel matrix :math:`K`, ``(n, n)``.
        x: the angles it was computed from, ``(n, q)``.
        steps: of Adam.

    Returns:
        :math:`M`, ``(q, q)``, detached.

    Raises:
        ValueError: matrix and angles do not belong together, or no step.

    Example:
        >>> x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
        >>> wanted = metric_rbf(x, torch.diag(torch.tensor([1.0, 0.2, 0.5])))
        >>> r_squared(wanted, metric_rbf(x, learn_metric(wanted, x))) > 0.99
        True
    """
    whole("steps", steps, 1)
    check_features(x)
    if wanted.shape != (len(x), len(x)):
        raise ValueError(
            f"wanted: expected a matrix {(len(x), len(x))} for {len(x)} samples, got "
            f"{tuple(wanted.shape)}"
        )
    x = at_least_float32(x.detach())
    pairs = torch.triu_indices(len(x), len(x), 1, device=x.device).unbind()
    target = wanted.detach().to(x.dtype)[pairs]
    with torch.enable_grad():
        metric = (START * torch.eye(x.shape[1], dtype=x.dtype)).to(x.device).requires_grad_()
        optimizer = torch.optim.Adam([metric], lr=RATE)
        for _ in range(steps):
            loss = (metric_rbf(x, metric)[pairs] - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return metric.detach()


def r_squared(wanted: Tensor, found: Tensor) -> float:
    """The share of a kernel matrix's variance over pairs that another matrix explains."""
    values = off_diagonal_values(wanted)
    left = (values - off_diagonal_values(found)).square().mean()
    return float(1 - left / values.var(correction=0))
