"""The hidden inputs: seeded, float64."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["coincident", "normal", "states"]


def normal(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers, the same for the same shape and seed."""
    source = torch.Generator().manual_seed(1000 * seed + sum(shape))
    return torch.randn(shape, generator=source, dtype=torch.float64)


def coincident(n: int, d: int) -> Tensor:
    """Features ``(n, d)``, n >= 5, with two equal rows and two rows of zeros."""
    x = normal(n, d, seed=2)
    x[1] = x[0]
    x[-2:] = 0
    return x


def states(n: int, q: int) -> Tensor:
    """Random normalised states ``(n, 2^q)``, complex."""
    raw = torch.complex(normal(n, 2**q), normal(n, 2**q, seed=1))
    return raw / torch.linalg.vector_norm(raw, dim=1, keepdim=True)
