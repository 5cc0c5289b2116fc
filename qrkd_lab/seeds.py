"""Seeds: every random number of a run is drawn from its seed and the purpose it serves.

Two purposes never share a stream, so an arm's numbers do not depend on which arms it trains beside.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from qrkd_lab.checks import whole

__all__ = ["derived_seed", "generator", "seeded", "which_seeds"]


def which_seeds(seeds: int | Iterable[int], first: int = 0) -> list[int]:
    """The seeds of a study: as many as a count says, from ``first`` on, or those that are listed.

    Raises:
        ValueError: no seed, one given twice, or one that is no whole number >= 0.

    Example:
        >>> which_seeds(3), which_seeds([4, 7])
        ([0, 1, 2], [4, 7])
    """
    try:
        if isinstance(seeds, Iterable):
            chosen = [whole("seeds", seed, 0) for seed in seeds]
        else:
            chosen = list(range(first, first + whole("seeds", seeds, 1)))
    except (TypeError, ValueError):  # an array without axes cannot be gone through
        chosen = []
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"seeds: expected a count >= 1, or different whole numbers >= 0, got {seeds!r}"
        )
    return chosen


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derived_seed(0, "batches", epoch)``.

    Example:
        >>> derived_seed(0, "student") == derived_seed(0, "student")
        True
    """
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A torch generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """torch's global stream set for one purpose inside the block, and put back after it."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derived_seed(seed, *purpose))
        yield
